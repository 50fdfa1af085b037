"""How fast a collection is embedded anew, and what memory that takes.

The rate: a re-index without live traffic, against the bare loop over ONNX Runtime on the same texts, sorted by length. The
memory: imports and re-indexes of growing collections with a model that costs next to nothing."""

import random
import tempfile
import time

import articles
import machine
import service
from measure_throughput import token_ids
from report import ratio, spread, table

FLOOR_BATCHES = (8, 32)  # the better one is the floor
GOAL = 0.95
TIERS = (10_000, 100_000, 1_000_000)


# ---- the rate


def fill_of(slipway, task_id):
    """Seconds from the moment when the index begins to follow the log until it has caught up."""
    steps = [(at, message) for at, kind, message in articles.events(slipway, task_id) if kind == "task_step"]
    begin = next(at for at, step in steps if step == "index")
    return next(at for at, step in steps if at >= begin and step not in ("destination", "index", "fill")) - begin


def cpu_of(slipway):
    return sum(machine.cpu_seconds(pid) for pid in slipway.processes())


def reindex_once(texts, tiny_folder):
    with service.Service(rollback_window="0s") as slipway:
        slipway.deploy("tiny", tiny_folder)
        slipway.deploy("minilm")
        slipway.call("POST", "/v1/collections", {"name": "articles", "deployment": "tiny"})
        articles.fill(slipway, "articles", articles.documents(texts))
        before, busy, begin = cpu_of(slipway), machine.core_busy_seconds(machine.SERVER_CORE), time.monotonic()
        task_id = articles.begin_reindex(slipway, "articles", "minilm", blue_switch=False)
        articles.finish_task(slipway, task_id)
        spent = cpu_of(slipway) - before
        busy = machine.core_busy_seconds(machine.SERVER_CORE) - busy
        figures = service.Figures(requests=len(texts), seconds=fill_of(slipway, task_id), cpu_seconds=spent)
        figures["others"] = max(0.0, busy - spent) / (time.monotonic() - begin)
        return figures


def floor_of(sentences, huge_pages):
    runs = [service.loop_once_each(batch, sentences, huge_pages) for batch in FLOOR_BATCHES]
    return max(runs, key=lambda figures: figures.per_cpu_second)


def measure_rate(rounds, count):
    texts = articles.texts(count - count % max(FLOOR_BATCHES))
    sentences = sorted(token_ids(texts), key=len)
    longest = 256  # of this model's recipe
    sentences = [ids[:longest] for ids in sentences]
    given = []
    with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=service.BUILD) as folder:
        model = articles.tiny(folder, "tiny", 1)
        for number in range(rounds):
            print(f"bench: re-index, round {number + 1} of {rounds}", flush=True)
            given.append((reindex_once(texts, model), floor_of(sentences, False), floor_of(sentences, True)))
    return given, sum(map(len, sentences)) / len(sentences)


# ---- the memory


def tiny_documents(count):
    random_of = random.Random(1)
    for number in range(count):
        yield f'{{"id":"d{number:07}","text":"{articles.tiny_text(random_of)}","payload":{{"number":{number}}}}}\n'


def memory_at(count, folder):
    """The peaks of each role while `count` documents are imported and then re-indexed."""
    first, second = articles.tiny(folder, "first", 1), articles.tiny(folder, "second", 2)
    with service.Service(core=None, rollback_window="0s") as slipway:
        slipway.deploy("first", first)
        slipway.deploy("second", second)
        slipway.call("POST", "/v1/collections", {"name": "articles", "deployment": "first"})
        with articles.Peak(slipway) as peak:
            begin = time.monotonic()
            articles.fill(slipway, "articles", "".join(tiny_documents(count)))
            imported = time.monotonic() - begin
            task_id = articles.begin_reindex(slipway, "articles", "second")
            articles.finish_task(slipway, task_id)
            took = time.monotonic() - begin - imported
        live = articles.blue(slipway, "articles")["rows"]
        if live != count:
            raise RuntimeError(f"{live} of {count} documents are there")
        return {"count": count, "imported": imported, "reindexed": took, **peak.of}


def measure_memory(largest):
    given = []
    for count in (tier for tier in TIERS if tier <= largest):
        print(f"bench: memory with {count} documents", flush=True)
        with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=service.BUILD) as folder:
            given.append(memory_at(count, folder))
    return given


# ---- what is written


def rate_text(given, tokens):
    own, floor, huge = zip(*given)
    by = [[ratio([(getattr(a, way), getattr(b, way)) for a, b in zip(own, under)]) for way in ("per_second", "per_cpu_second")]
          for under in (floor, huge)]
    others = [figures["others"] for figures in own]
    return f"""A collection of {own[0]["requests"]} texts of {tokens:.0f} tokens on average (3 to 128 words) goes from a model that costs next to
nothing to fp32 all-MiniLM-L6-v2, without other traffic, on the server's core. By clock from the moment when the new index begins to follow
the log until it has caught up: reading the log, tokenising, embedding, writing and syncing; by CPU all that the service's
processes spend on the whole task, its checks too. The floor runs the same texts once, sorted by length, 8 or 32 at a
time, whichever is better, on the same core: **{machine.median([figures.per_second for figures in floor]):.0f} texts** a second, goal ≥ {GOAL}.
{len(given)} rounds; other processes had {max(others):.0%} of the core at most.

{table(["Slipway's re-index against", "by clock", "by CPU"],
       [["the floor", *by[0]], ["the floor on huge pages", *by[1]]])}

{table(["", "texts"], [["re-index", spread([f.per_second for f in own], "/s")],
                                ["floor", spread([f.per_second for f in floor], "/s")],
                                ["floor on huge pages", spread([f.per_second for f in huge], "/s")]])}
"""


def memory_text(given):
    def mib(size):
        return f"{size / 2**20:.1f}"

    rows = [[f"{figures['count']:,}".replace(",", " "), *(mib(figures[role][0]) for role in ("indexer", "gateway", "controller")),
             mib(figures["indexer"][1]), f"{figures['count'] / figures['imported']:.0f}",
             f"{figures['count'] / figures['reindexed']:.0f}"] for figures in given]
    return f"""Memory while a collection is imported and then re-indexed, with a model of {articles.TINY_DIMENSION} dimensions that
costs next to nothing: the peak of each process's own memory (PSS, anonymous), and what it has mapped of files, which the
kernel takes back when it needs it. The goal is that the first three do not grow with the documents. The last two columns are
not about a model: they are what everything but the model takes.

{table(["documents", "indexer MiB", "gateway MiB", "controller MiB", "indexer, mapped MiB", "imported and indexed a second",
        "re-indexed a second"], rows)}
"""


def measure(rounds, count, largest):
    given, tokens = measure_rate(rounds, count)
    return f"## Re-indexing\n\n{rate_text(given, tokens)}\n{memory_text(measure_memory(largest))}"
