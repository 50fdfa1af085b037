"""What searches notice of a re-index: their latency with and without one, at a steady rate."""

import http.client
import json
import shutil
import tempfile
import threading
import time

import articles
import service
from measure_update import copy_of_model
from report import percentile, table

CLIENTS = 4
PER_SECOND = 20  # all clients together
GOAL = 1.5


class Searcher(threading.Thread):
    """Asks at its own fixed times, whatever the answers take: what waits because the one before was late counts."""

    def __init__(self, port, number, queries):
        super().__init__(daemon=True)
        self.port, self.number, self.queries = port, number, queries
        self.asked, self.failed, self.ends = [], [], False  # asked: (due, answered) on the wall clock

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        period = CLIENTS / PER_SECOND
        due = time.time() + period * self.number / CLIENTS
        turn = self.number
        while not self.ends:
            time.sleep(max(0, due - time.time()))
            body = json.dumps({"query": self.queries[turn % len(self.queries)], "limit": 10})
            turn += CLIENTS
            try:
                connection.request("POST", "/v1/collections/articles/search", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    self.failed.append(f"{answer.status} {text[:200]}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
            self.asked.append((due, time.time()))
            due += period


def measure(count, seconds):
    """The quiet time lasts `seconds`; the re-index as long as it takes."""
    print("bench: searches while a re-index runs", flush=True)
    texts = articles.texts(count, seed=2)
    queries = [text[:60] for text in articles.texts(200, seed=3)]
    other = copy_of_model()
    with service.Service(core=None, rollback_window="0s") as slipway:
        slipway.deploy()
        slipway.call("POST", "/v1/collections", {"name": "articles", "deployment": "minilm"})
        articles.fill(slipway, "articles", articles.documents(texts))
        searchers = [Searcher(slipway.port, number, queries) for number in range(CLIENTS)]
        for searcher in searchers:
            searcher.start()
        time.sleep(seconds)
        begin = time.time()
        task_id = articles.begin_reindex(slipway, "articles", slipway.request("other", other))
        articles.finish_task(slipway, task_id)
        end = time.time()
        time.sleep(min(5, seconds))
        for searcher in searchers:
            searcher.ends = True
        for searcher in searchers:
            searcher.join()
    shutil.rmtree(other, ignore_errors=True)
    return render(searchers, begin, end, count)


def render(searchers, begin, end, count):
    asked = [pair for searcher in searchers for pair in searcher.asked]
    failed = [text for searcher in searchers for text in searcher.failed]
    before = [(last - due) * 1e3 for due, last in asked if last < begin]
    during = [(last - due) * 1e3 for due, last in asked if last > begin and due < end]
    rows = [[name, len(values), f"{percentile(values, .5):.1f}", f"{percentile(values, .99):.1f}", f"{max(values):.1f}"]
            for name, values in (("no re-index", before), ("a re-index, from its beginning to the end of its task", during))]
    return f"""## Searching during a re-index

{count} documents embedded by fp32 all-MiniLM-L6-v2; {CLIENTS} clients send {PER_SECOND} searches a second together, as texts, at fixed
times (a late answer does not slow the next question down, it counts against it). Then everything is embedded again by another
package of the same model, which the re-index deploys for it, and switched to. Not pinned: service and clients share the machine's cores.

Failed searches: **{len(failed)}** of {len(asked)}{": " + "; ".join(failed[:3]) if failed else ""}.
p99 during the re-index: **{percentile(during, .99) / percentile(before, .99):.2f}** of that without, goal < {GOAL}.

{table(["while", "searches", "p50 ms", "p99 ms", "longest ms"], rows)}
"""
