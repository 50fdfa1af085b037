"""Batch inference jobs: rows of a file or object through a model into parts of an output, every row once and in order, whatever
is killed (docs/batch-jobs.md)."""

import csv
import hashlib
import io
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import models as tiny
from pauses import paused_service
from slipway import DEADLINE, eventually, lives

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def batch(make_slipway, data):
    return make_slipway(batch_roots=data).start()


def text_of(number):
    return f"{WORDS[number % 8]} {WORDS[number // 8 % 8]} {WORDS[number // 64 % 8]}"


def ndjson(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def begin(service, model, source, target, name="job", replicas=None, **config):
    """POSTs a job; the answer."""
    config = {"type": "batch_inference_job", "input_uri": str(source), "output_uri": str(target), "priority": "normal", **config}
    if replicas:
        config["replicas"] = replicas
    body = {"deployment_name": name, "model_uri": str(model), "deployment_target_config": config}
    return service.client.post("/v1/deployments", json=body)


def begun(*arguments, **config):
    answer = begin(*arguments, **config)
    assert answer.status_code == 202, answer.text
    return answer.json()


def task_of(service, deployment):
    answer = service.client.get(f"/v1/tasks/{deployment['task_id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(service, deployment, status="done"):
    """Waits for the job's end; the deployment then."""
    task = eventually(lambda: (seen := task_of(service, deployment))["status"] not in ("pending", "processing") and seen,
                      what="the job ends")
    assert task["status"] == status, task
    return service.client.get(f"/v1/deployments/{deployment['deployment_id']}").json()


def run(*arguments, **config):
    return ended(arguments[0], begun(*arguments, **config))


def parts_of(folder):
    return sorted(folder.glob("part-*"))


def rows_of(folder):
    return [json.loads(line) for part in parts_of(folder) for line in part.read_text().splitlines()]


def check_manifest(folder, rows, rejected=0):
    """_SUCCESS lists exactly what is there, and nothing else is."""
    manifest = json.loads((folder / "_SUCCESS").read_text())
    assert (manifest["rows"], manifest["rejected"]) == (rows, rejected)
    assert sum(part["rows"] for part in manifest["parts"]) == rows
    assert [part["name"] for part in manifest["parts"]] == [part.name for part in parts_of(folder)]
    for part in manifest["parts"]:
        content = (folder / part["name"]).read_bytes()
        assert (part["size_bytes"], part["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert {path.name for path in folder.iterdir()} == {"_SUCCESS"} | {part["name"] for part in manifest["parts"]}
    return manifest


def failed_items(service, deployment):
    answer = service.client.get(f"/v1/tasks/{deployment['task_id']}/failed-items")
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- what it gives


@pytest.mark.sanitizer
def test_rows_are_embedded_as_the_service_embeds_them(batch, models, data):
    model = tiny.embedding(models)
    source = ndjson(data / "in.ndjson", [{"id": f"row-{n}", "text": text_of(n), "more": [n]} for n in range(1000)])
    job = run(batch, model, source, data / "out", id_field="id", batch_size=64, part_rows=300)
    assert job["status"] == "inactive"
    assert job["message"] == "1000 rows written in 4 parts, 0 rejected"
    rows = rows_of(data / "out")
    assert [row["id"] for row in rows] == [f"row-{n}" for n in range(1000)]
    assert all(set(row) == {"id", "embedding"} for row in rows)
    manifest = check_manifest(data / "out", 1000)
    assert manifest["job_id"] == job["task_id"] and manifest["input_uri"] == str(source)
    batch.deploy("oracle", model)
    answer = batch.client.post("/v1/embeddings", json={"model": "oracle", "input": [text_of(n) for n in range(1000)]})
    wanted = [item["embedding"] for item in answer.json()["data"]]
    np.testing.assert_allclose([row["embedding"] for row in rows], wanted, atol=1e-6)
    task = task_of(batch, job)
    assert task["kind"] == "batch" and task["detail"] == job["message"]
    assert (task["progress"]["done"], task["progress"]["total"], task["progress"]["failed"]) == (1000, 1000, 0)
