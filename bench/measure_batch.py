"""Rows a second of a batch job against the bare loop over ONNX Runtime on the same texts."""

import json
import tempfile
from pathlib import Path

import articles
import machine
import service
from measure_throughput import token_ids
from report import ratio, table

FLOOR_BATCHES = (8, 32)  # the better one is the floor
GOAL = 0.95
LONGEST = 256  # tokens, of this model's recipe


def batch_once(folder, texts, number):
    """From the moment when the replica is ready until the list of parts is written: reading, tokenising, embedding, writing,
    syncing."""
    source, target = Path(folder) / "in.ndjson", Path(folder) / f"out-{number}"
    source.write_text("".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(texts)))
    with service.Service(batch_roots=folder) as slipway:
        job = slipway.call("POST", "/v1/deployments", {
            "deployment_name": "job", "model_uri": f"file://{service.MODEL.resolve()}",
            "deployment_target_config": {"type": "batch_inference_job", "input_uri": str(source), "output_uri": str(target),
                                         "id_field": "id"}})
        articles.finish_task(slipway, job["task_id"])
        steps = [(at, message) for at, kind, message in articles.events(slipway, job["task_id"]) if kind == "task_step"]
        begin = next(at for at, step in steps if step == "batch")
        seconds = next(at for at, step in steps if at >= begin and step == "stop") - begin
    rows = sum(part["rows"] for part in json.loads((target / "_SUCCESS").read_text())["parts"])
    if rows != len(texts):
        raise RuntimeError(f"{rows} of {len(texts)} rows are there")
    return service.Figures(requests=rows, seconds=seconds, cpu_seconds=seconds)


def floor_of(sentences):
    runs = [service.loop_once_each(batch, sentences, False) for batch in FLOOR_BATCHES]
    return max(runs, key=lambda figures: figures.per_second)


def measure(rounds, count):
    texts = articles.texts(count - count % max(FLOOR_BATCHES))
    sentences = [ids[:LONGEST] for ids in token_ids(texts)]
    given = []
    with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=service.BUILD) as folder:
        for number in range(rounds):
            print(f"bench: batch job, round {number + 1} of {rounds}", flush=True)
            given.append((batch_once(folder, texts, number), floor_of(sentences), floor_of(sorted(sentences, key=len))))
    own, floor, best = zip(*given)

    def row(name, under):
        return [name, f"{machine.median([figures.per_second for figures in under]):.0f}",
                ratio([(a.per_second, b.per_second) for a, b in zip(own, under)])]

    return f"""## Batch jobs

A file of {len(texts)} texts (3 to 128 words) through fp32 all-MiniLM-L6-v2 as a batch job, on the server's core: from the moment when the
replica is ready until the list of parts is written, which is reading, tokenising, embedding, writing as JSON and syncing.
**{machine.median([figures.per_second for figures in own]):.0f} rows** a second. The floor runs the tokens of the same texts once, 8 or 32 at
a time, whichever is better, on the same core: no reading, no tokenising, no writing. Goal: ≥ {GOAL} of the loop in the file's order.

{table(["loop", "texts a second", "ratio"], [row("in the order of the file", floor), row("sorted by length", best)])}
"""
