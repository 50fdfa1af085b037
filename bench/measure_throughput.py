"""(a) Sentences a second through the whole HTTP path, against the bare loop and FastAPI."""

from tokenizers import Tokenizer

import machine
import service
from peer import Peer
from report import ratio, spread, table

SENTENCE = "The quick brown fox jumps over the lazy dog."  # 12 tokens with the two special ones
WORDS = "the replica that answers now goes on until the next one is ready and then it ends ".split()
MIXED_TOKENS = (4, 12, 8, 64, 16, 6, 24, 12, 128, 10, 32, 12, 8, 48, 20, 12)
MIXED = [" ".join(WORDS[i % len(WORDS)] for i in range(tokens - 2)) for tokens in MIXED_TOKENS]

# clients, the floor's batch, the least share of it that is the goal
STAGES = ((1, 1, 0.95), (8, 8, 0.95), (32, 8, 0.95))
FORMS = (("base64", "/v1/embeddings, base64"), ("float", "/v1/embeddings, floats in JSON"),
         ("v2", "/v2 infer, JSON both ways"), ("v2binary", "/v2 infer, JSON in, binary tensor out"))


def token_ids(texts):
    tokenizer = Tokenizer.from_file(str(service.MODEL / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [tokenizer.encode(text).ids for text in texts]


def stage_rows(rounds):
    rows = []
    for clients, batch, goal in STAGES:
        own, peer, floor = ([r[key, clients] for r in rounds] for key in ("slipway", "fastapi", "floor"))
        wall = [(a.per_second, b.per_second) for a, b in zip(own, floor)]
        cpu = [(a.per_cpu_second, b.per_cpu_second) for a, b in zip(own, floor)]
        theirs = [(a.per_second, b.per_second) for a, b in zip(peer, floor)]
        against = [(a.per_second, b.per_second) for a, b in zip(own, peer)]
        latency = [f"{machine.median([f['p50_ms'] for f in figures]):.0f} / "
                   f"{machine.median([f['p99_ms'] for f in figures]):.0f}" for figures in (own, peer)]
        rows.append([clients, f"batch {batch}", f"≥ {goal}", ratio(wall), ratio(cpu), ratio(theirs), ratio(against), *latency])
    return rows


def huge_rows(rounds):
    rows = []
    for clients, batch, _goal in STAGES:
        own, huge, floor = ([r[key, clients] for r in rounds] for key in ("slipway", "huge", "floor"))
        rows.append([clients, f"batch {batch}", *(ratio([(getattr(a, by), getattr(b, by)) for a, b in zip(over, under)])
                     for over, under, by in ((own, huge, "per_second"), (own, huge, "per_cpu_second"),
                                             (huge, floor, "per_cpu_second")))])
    return rows


def cost_rows(rounds):
    """CPU a request, by process, in microseconds."""
    rows = []
    for clients, *_ in STAGES:
        figures = [r["slipway", clients] for r in rounds]
        costs = [machine.median([f["cpu_of"][role] / f["requests"] * 1e6 for f in figures]) for role in ("gateway", "runner")]
        floor = machine.median([1e6 / r["floor", clients].per_cpu_second for r in rounds])
        rows.append([clients, *(f"{cost:.0f}" for cost in (*costs, floor))])
    return rows


def measure_round(slipway, peer, seconds):
    ids, mixed_ids = token_ids([SENTENCE]), token_ids(MIXED)
    given = {}
    for clients, batch, _goal in STAGES:
        given["floor", clients] = service.loop(batch, seconds, ids)
        given["huge", clients] = service.loop(batch, seconds, ids, huge_pages=True)
        given["slipway", clients] = service.load(slipway, clients, seconds, "base64", [SENTENCE])
        given["fastapi", clients] = service.load(peer, clients, seconds, "base64", [SENTENCE])
    given["floor", "mixed 1"] = service.loop(1, seconds, mixed_ids)
    given["floor", "mixed 8"] = service.loop(8, seconds, mixed_ids)
    given["slipway", "mixed"] = service.load(slipway, 32, seconds, "base64", MIXED)
    given["fastapi", "mixed"] = service.load(peer, 32, seconds, "base64", MIXED)
    for form, _ in FORMS:
        given["form", form] = service.load(slipway, 8, seconds, form, [SENTENCE])
    return given


def measure(rounds, seconds):
    taken = []
    with service.Service() as slipway, Peer("fastapi") as peer:
        slipway.deploy()
        service.load(peer, 1, 1, "base64", [SENTENCE])
        for number in range(rounds):
            print(f"bench: throughput, round {number + 1} of {rounds}", flush=True)
            taken.append(measure_round(slipway, peer, seconds))
        idle = idle_memory(slipway)
    return render(taken), idle


def idle_memory(slipway):
    """PSS of what is not a runner, by role, after all that load."""
    return {role: machine.pss_bytes(pid) for pid, role in slipway.processes().items() if role != "runner"}


def noisy(others):
    if machine.median(others) < 0.1:
        return ""
    return """ That is too much for the columns by clock: a contender that never sleeps, like the floor, and one that does
get unlike parts of a core that is fought over. Go by the columns by CPU."""


def render(rounds):
    loads = [figures for r in rounds for figures in r.values() if "others" in figures]
    failed, others = sum(figures["failed"] for figures in loads), [figures["others"] for figures in loads]
    floors = ", ".join(f"{spread([r['floor', clients].per_cpu_second for r in rounds], 'sentences')} at batch {batch}"
                       for clients, batch, _ in STAGES[:2])
    mixed = [(r["slipway", "mixed"], r["fastapi", "mixed"], r["floor", "mixed 1"], r["floor", "mixed 8"]) for r in rounds]
    first = FORMS[0][0]
    return f"""## Sentences a second

One sentence of 12 tokens a request, `POST /v1/embeddings` with base64, fp32 all-MiniLM-L6-v2, keep-alive, closed loop.
The server (gateway, runner and all) is pinned to one core, wrk to another. The floor is `bench/ort_loop.c` on the server's
core: the same library and session options, one thread, given the token ids, pooling and normalising, no tokeniser and no
HTTP. FastAPI is `bench/peers/fastapi_app.py` on the server's core. Median of {len(rounds)} rounds (smallest to largest); within
a round the contenders take turns. *By clock* divides sentences a second; *by CPU* sentences a CPU second, which other
work on the machine disturbs less. In a CPU second the floor did {floors}. Failed requests: {failed}.

In these rounds processes of others, and the kernel's own, had {spread([100 * share for share in others], "%")} of the
server's core.{noisy(others)}

{table(["clients", "floor", "goal", "Slipway / floor, by clock", "by CPU", "FastAPI / floor, by clock",
        "Slipway / FastAPI", "Slipway p50 / p99 ms", "FastAPI p50 / p99 ms"], stage_rows(rounds))}

A runner keeps its weights on huge pages, which the loop, like any program, does not unless it is told to. Against the same
loop told so, which is what HTTP and all the rest cost alone:

{table(["clients", "floor", "Slipway / floor on huge pages, by clock", "by CPU", "floor on huge pages / floor, by CPU"],
       huge_rows(rounds))}

CPU a sentence in µs, as the kernel accounts it:

{table(["clients", "gateway", "runner", "floor"], cost_rows(rounds))}

Texts of 4 to 128 tokens that take turns, 32 clients: a batch is sorted by length and cut where padding would cost more
than another run.

{table(["against", "by clock", "by CPU"],
       [[name, ratio([(m[0].per_second, m[i].per_second) for m in mixed]),
         ratio([(m[0].per_cpu_second, m[i].per_cpu_second) for m in mixed])]
        for name, i in (("the bare loop, one at a time", 2), ("the bare loop, 8 as they come, padded to the longest", 3),
                        ("FastAPI", 1))])}

Forms of the same request at 8 clients, relative to the first:

{table(["form", "sentences a second", "sentences a CPU second"],
       [[name, ratio([(r["form", form].per_second, r["form", first].per_second) for r in rounds]),
         ratio([(r["form", form].per_cpu_second, r["form", first].per_cpu_second) for r in rounds])]
        for form, name in FORMS])}
"""
