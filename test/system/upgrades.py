"""Clients that must not notice an upgrade, and the upgrade itself.

    with Busy(service, notes) as busy:               # eight clients; fails at its end if one request has
        upgrade(service, NEXT)                        # the record, when it is over
    with Idle(service, 20) as idle: …; idle.ask()     # connections that are kept alive, and sent nothing meanwhile
"""

import http.client
import itertools
import threading

import httpx

import models as folders
from pauses import BUILD
from slipway import PROGRAM, eventually

NEXT, REFUSES, FAILS = (BUILD / "test" / f"slipway-{name}" for name in ("next", "refuses", "fails"))
ROLES = ("controller", "indexer", "gateway")
TENSOR = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}


def begin(service, program=None):
    return service.client.post("/v1/upgrade", json={"program": str(program)} if program else {})


def show(service):
    answer = service.client.get("/v1/upgrade")
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_over(service):
    record = show(service)
    return record if record["state"] in ("done", "failed") else None


def upgrade(service, program=PROGRAM):
    answer = begin(service, program)
    assert answer.status_code == 202, answer.text
    return eventually(lambda: is_over(service), what="the upgrade is over")


def pids(service):
    return {role: service.pids(role) for role in ROLES}


class Idle:
    def __init__(self, service, count):
        self.connections = [http.client.HTTPConnection(service.host, service.port, timeout=30) for _ in range(count)]
        for connection in self.connections:
            connection.connect()
            connection.auto_open = False  # a connection that was closed is not made anew in silence
        self.ask()

    def ask(self):
        for connection in self.connections:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            assert answer.status == 200 and answer.read() == b"ok\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()


class Busy:
    """Each client has a connection of its own, does one thing, and counts its answers; all of them must be 2xx."""

    def __init__(self, service, notes):
        self.service, self.notes = service, notes
        self.stopping = threading.Event()
        self.failures, self.counts = [], {}
        kinds = [self.infer, self.infer, self.embed, self.search, self.write, self.look, self.change, self.describe]
        self.threads = [threading.Thread(target=self.run, args=(number, kind)) for number, kind in enumerate(kinds)]

    def run(self, number, kind):
        # No second try: httpx would send a request again on a connection that was closed before the answer began.
        transport = httpx.HTTPTransport(retries=0, limits=httpx.Limits(max_connections=1))
        with httpx.Client(base_url=self.service.url, transport=transport, timeout=60) as client:
            for turn in itertools.count():
                if self.stopping.is_set():
                    return
                try:
                    answer = kind(client, turn)
                    if answer.status_code >= 300:
                        self.failures.append((kind.__name__, answer.status_code, answer.text))
                except httpx.HTTPError as error:
                    self.failures.append((kind.__name__, repr(error)))
                self.counts[number] = turn + 1

    def infer(self, client, _):
        return client.post("/v2/models/one/infer", json=TENSOR)

    def embed(self, client, turn):
        return client.post("/v1/embeddings", json={"model": "encoder", "input": ["hello world", "ship"][: turn % 2 + 1]})

    def search(self, client, _):
        return client.post(f"{self.notes.path}/search", json={"query": "hello ship"})

    def write(self, client, turn):
        path = f"{self.notes.path}/documents/w{turn % 50}"
        return client.put(path, json={"text": folders.WORDS[turn % 7 + 4]}, params={"wait": "indexed"} if turn % 4 == 0 else {})

    def look(self, client, turn):
        return client.get(["/v1/deployments", "/v1/deployments/one", "/v1/tasks", "/readyz", "/v1/deployments/one/wait"][turn % 5])

    def change(self, client, turn):
        return client.patch("/v1/deployments/one", json={"tags": {"turn": turn}})

    def describe(self, client, turn):
        return client.get(["/v1/models", "/v2", "/metrics", "/v2/models/one"][turn % 4])

    def settle(self, more=3):
        """Until each client has had so many answers more."""
        before = dict(self.counts)
        eventually(lambda: all(self.counts.get(i, 0) >= before.get(i, 0) + more for i in range(len(self.threads))),
                   what="every client is answered")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.settle()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.settle()
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        if kind is None:
            assert not self.failures, self.failures[:10]
