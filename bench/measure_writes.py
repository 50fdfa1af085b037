"""Durable upserts a second, against SQLite itself with the same batches and the same durability."""

import http.client
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import articles
import machine
import service
from report import ratio, spread, table

DOCUMENTS = 100_000  # ids to choose from
TEXT_BYTES = 200
BATCHES = (1, 32, 1000)
CLIENTS = 32
GOAL = 0.70
BODIES = 20  # made before, sent in turns


def sqlite(folder, batch, seconds):
    """In the folder where the service has its state: the same disk."""
    path = Path(folder, f"floor-{batch}.db")
    arguments = [service.BUILD / "bench/sqlite_loop", path, batch, seconds, DOCUMENTS, TEXT_BYTES]
    given = json.loads(machine.output_of(machine.SERVER_CORE, arguments))
    for left in Path(folder).glob(f"{path.name}*"):
        left.unlink()
    return given["upserts"] / given["seconds"]


def bodies_of(batch):
    random_of = random.Random(batch)
    text = "hello " + "x" * (TEXT_BYTES - 6)
    return [articles.ndjson({"id": f"d{random_of.randrange(DOCUMENTS):07}", "text": text} for _ in range(batch)).encode()
            for _ in range(BODIES)]


def post_bulks(slipway, batch, seconds):
    """One client that sends one list after the other; upserts a second."""
    connection = http.client.HTTPConnection("127.0.0.1", slipway.port, timeout=60)
    bodies, done, turn = bodies_of(batch), 0, 0
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        connection.request("POST", "/v1/collections/articles/documents", bodies[turn % BODIES],
                           {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200 or said["accepted"] != batch:
            raise RuntimeError(f"bulk: {answer.status} {said}")
        done += batch
        turn += 1
    connection.close()
    return done / (time.monotonic() - begin)


def put_singles(slipway, seconds):
    """`CLIENTS` clients that write one document a request; (upserts a second, failed)."""
    arguments = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "30s", "-s", service.ROOT / "bench/writes.lua",
                 f"http://127.0.0.1:{slipway.port}", "--", "articles", DOCUMENTS, TEXT_BYTES]
    given = json.loads(machine.output_of(machine.LOAD_CORE, arguments).splitlines()[-1])
    return given["requests"] / given["seconds"], given["failed"]


class Stopped:
    """The runner stands still, so that nothing is embedded; not longer than the supervisor waits for an answer (10 s)."""

    def __init__(self, slipway):
        self.pids = [pid for pid, role in slipway.processes().items() if role == "runner"]

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


def measure_round(slipway, seconds):
    given = {}
    for batch in BATCHES:
        given["sqlite", batch] = sqlite(slipway.folder, batch, seconds)
        with Stopped(slipway):
            given["alone", batch] = post_bulks(slipway, batch, seconds)
        given["followed", batch] = post_bulks(slipway, batch, seconds)
        articles.until_indexed(slipway, "articles")
    with Stopped(slipway):
        given["singles"], failed = put_singles(slipway, seconds)
    articles.until_indexed(slipway, "articles")
    given["failed"] = failed
    return given


def measure(rounds, seconds):
    seconds = min(seconds, 6)
    given = []
    with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=service.BUILD) as folder:
        model = articles.tiny(folder, "tiny", 1)
        with service.Service() as slipway:
            os.sched_setaffinity(0, {machine.LOAD_CORE})
            slipway.deploy("tiny", model)
            slipway.call("POST", "/v1/collections", {"name": "articles", "deployment": "tiny"})
            for number in range(rounds):
                print(f"bench: writes, round {number + 1} of {rounds}", flush=True)
                given.append(measure_round(slipway, seconds))
            os.sched_setaffinity(0, set(machine.CORES))
    return render(given)


def render(given):
    rows = []
    for batch in BATCHES:
        rows.append([batch, spread([r["sqlite", batch] for r in given], "/s"), spread([r["alone", batch] for r in given], "/s"),
                     ratio([(r["alone", batch], r["sqlite", batch]) for r in given]),
                     ratio([(r["followed", batch], r["sqlite", batch]) for r in given])])
    singles = [r["singles"] for r in given]
    against = ratio([(r["singles"], r["sqlite", 1]) for r in given])
    failed = sum(r["failed"] for r in given)
    return f"""## Durable writes

Upserts of {TEXT_BYTES} bytes, each of a random one of {DOCUMENTS} ids, answered when they are on the disk. `bench/sqlite_loop.c` is
SQLite itself: the same library, WAL, `synchronous=FULL`, one table, one transaction a batch. Slipway takes the same batches
as NDJSON over HTTP from one client; both on the server's core. *Alone*: the runner stands still, so that nothing
is embedded, goal ≥ {GOAL:.2f}. *Followed*: everything is embedded and indexed on the same core meanwhile. {len(given)} rounds.

{table(["batch", "SQLite", "Slipway alone", "alone / SQLite", "followed / SQLite"], rows)}

{CLIENTS} clients with one document a request: {spread(singles, "a second")}, which is {against} of SQLite with one a
transaction: writes that wait together share a sync. Failed requests: {failed}.
"""
