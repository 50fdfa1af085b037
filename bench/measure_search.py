"""(i) Exact search by itself: a vector index on one core, against the memory's bandwidth and what people use instead."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import sqlite_vec
from usearch.index import MetricKind
from usearch.index import search as usearch_search

import machine
import service
from report import ratio, spread, table

ROWS, DIMENSION, LIMIT, QUERIES = 100_000, 384, 10, 64
SCORES_WITHIN = 1e-5
KINDS = ("read", "float32", "int8")
PEERS = ("numpy", "sqlite-vec", "usearch")


class Loop:
    """bench/search_loop.c: its own indexes, and plain memory to read."""

    def __init__(self, folder):
        program = service.ROOT / "build/bench/search_loop"
        files = [folder / "rows", folder / "queries", DIMENSION, LIMIT, folder]
        self.process = subprocess.Popen(machine.command(machine.SERVER_CORE, [program, *files]), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = json.loads(self.process.stdout.readline())

    def search(self, kind, number):
        print(kind, number, file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer["cpu_seconds"], answer["hits"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peers:
    """In this process, on the same core; each has the same normalised rows in memory."""

    def __init__(self, rows, queries):
        self.rows, self.queries = rows, queries
        self.database = sqlite3.connect(":memory:")
        self.database.enable_load_extension(True)
        sqlite_vec.load(self.database)
        self.database.execute(f"CREATE VIRTUAL TABLE rows USING vec0(vector float[{DIMENSION}] distance_metric=cosine)")
        self.database.executemany("INSERT INTO rows (rowid, vector) VALUES (?, ?)",
                                  ((number, row.tobytes()) for number, row in enumerate(rows)))

    def numpy(self, query):
        scores = self.rows @ query
        best = numpy.argpartition(scores, -LIMIT)[-LIMIT:]
        best = best[numpy.argsort(-scores[best])]
        return zip(best, scores[best])

    def sqlite_vec(self, query):
        found = self.database.execute("SELECT rowid, distance FROM rows WHERE vector MATCH ? AND k = ? ORDER BY distance",
                                      (query.tobytes(), LIMIT))
        return [(number, 1 - distance) for number, distance in found]

    def usearch(self, query):
        found = usearch_search(self.rows, query, LIMIT, MetricKind.Cos, exact=True, threads=1)
        return zip(found.keys, 1 - found.distances)

    def search(self, name, number):
        begin = time.process_time()
        hits = list(getattr(self, name.replace("-", "_"))(self.queries[number % QUERIES]))
        return time.process_time() - begin, hits


def check(name, hits, expected):
    """The same rows, but for the order of those whose scores are as good as equal."""
    scores = {int(number): float(score) for number, score in expected}
    for (number, score), (_, wanted) in zip(hits, expected, strict=True):
        if int(number) not in scores or abs(float(score) - float(wanted)) > SCORES_WITHIN:
            raise RuntimeError(f"{name} found row {number} at {score}, where {wanted} is right")


def right_hits(rows, query):
    scores = rows.astype(numpy.float64) @ query.astype(numpy.float64)
    best = numpy.argsort(-scores)[:LIMIT]
    return list(zip(best, scores[best]))


def measure_rounds(loop, peers, rounds):
    times = {name: [] for name in KINDS + PEERS}
    for number in range(rounds):
        expected = right_hits(peers.rows, peers.queries[number % QUERIES])
        for name in KINDS + PEERS:
            took, hits = (loop if name in KINDS else peers).search(name, number)
            times[name].append(took)
            if name != "read":
                check(name, hits, expected)
    return times


def measure(rounds):
    print("bench: exact search", flush=True)
    random = numpy.random.default_rng(20261121)
    rows, queries = (random.standard_normal((count, DIMENSION), dtype=numpy.float32) for count in (ROWS, QUERIES))
    for vectors in (rows, queries):
        vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {machine.SERVER_CORE})
    try:
        rows.tofile(folder / "rows")
        queries.tofile(folder / "queries")
        loop = Loop(folder)
        peers = Peers(rows, queries)
        measure_rounds(loop, peers, 3)  # what is not in memory yet
        times = measure_rounds(loop, peers, rounds)
        loop.close()
        return render(times, loop.facts)
    finally:
        os.sched_setaffinity(0, cores)
        shutil.rmtree(folder)


def render(times, facts):
    def against(name, other):
        return ratio(list(zip(times[other], times[name])))

    def took(name):
        return spread([seconds * 1e3 for seconds in times[name]], "ms", 1)

    bandwidth = machine.median([ROWS * facts["float32"] / seconds / 1e9 for seconds in times["read"]])
    heads = ["", "CPU a search", "goal", "reading / it", "NumPy / it"]
    rows = [["reading the rows once", took("read"), "", "", ""],
            ["Slipway, float32", took("float32"), "≥ 0.95 of reading; faster than NumPy", against("float32", "read"),
             against("float32", "numpy")],
            ["Slipway, int8 and re-scoring", took("int8"), "≥ 2 × NumPy", against("int8", "read"), against("int8", "numpy")],
            ["NumPy, matrix @ vector and argpartition", took("numpy"), "", against("numpy", "read"), ""],
            ["sqlite-vec, vec0 table", took("sqlite-vec"), "", against("sqlite-vec", "read"), against("sqlite-vec", "numpy")],
            ["usearch, exact", took("usearch"), "", against("usearch", "read"), against("usearch", "numpy")]]
    return f"""## Exact search by itself

The best {LIMIT} of {ROWS:,} rows of {DIMENSION} float32, on one core, all contenders in turns, {len(times["read"])} searches
each; CPU time, for the machine's cores are shared. The floor reads as many bytes of plain memory on huge pages, and adds them
up: {bandwidth:.1f} GB/s here ({facts["kernels"]} kernels). The index lies in mapped files, as after a restart. All contenders
found the same rows, with scores within {SCORES_WITHIN:g} of float64's.

{table(heads, rows)}
"""


if __name__ == "__main__":
    print(measure(20))
