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
from servers_s3 import s3_server  # noqa: F401
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


def test_a_model_of_tensors_takes_its_inputs_from_fields(batch, models, data):
    source = ndjson(data / "in.ndjson", [{"left": [n, 2 * n, 3], "b": [1, 1, 1.5]} for n in range(10)])
    job = run(batch, tiny.two_by_two(models), source, data / "out", inputs={"a": "left"}, outputs={"difference": "d"})
    assert job["message"] == "10 rows written in 1 part, 0 rejected"
    assert rows_of(data / "out") == [{"line": n + 1, "d": [n - 1, 2 * n - 1, 1.5]} for n in range(10)]


@pytest.mark.parametrize("datatype, values", [
    ("INT8", [-128, 127]), ("UINT8", [0, 255]), ("INT64", [-2**63, 2**63 - 1]), ("UINT64", [0, 2**64 - 1]),
    ("FP64", [0.1, -1e300]), ("FP32", [0.5, -3]), ("BOOL", [True, False]), ("BYTES", ["a\n\"b\"", "ü"])])
def test_every_type_comes_back_as_it_was(batch, models, data, datatype, values):
    rows = [{"x": values}, {"x": values[::-1]}]
    model = tiny.identity(models, datatype)
    run(batch, model, ndjson(data / "in.ndjson", rows), data / "out", name="json")
    assert [row["y"] for row in rows_of(data / "out")] == [row["x"] for row in rows]
    (data / "in.csv").write_text("x\n" + "".join('"' + json.dumps(row["x"]).replace('"', '""') + '"\r\n' for row in rows))
    run(batch, model, data / "in.csv", data / "out-csv", name="csv", format="csv")
    read = list(csv.DictReader(io.StringIO((data / "out-csv" / "part-00000.csv").read_text(), newline="")))
    assert [json.loads(row["y"]) for row in read] == [row["x"] for row in rows]


def test_csv_with_quotes_line_ends_and_a_byte_order_mark(batch, models, data):
    texts = ["the fox", 'the "quick" fox', "the,fox", "the\nfox", "the\r\nlazy\r\ndog", "", "brown"]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(["key", "text", "other"])
    for number, text in enumerate(texts):
        writer.writerow([f'k,"{number}"', text, "x"])
    (data / "in.csv").write_bytes(b"\xef\xbb\xbf" + stream.getvalue().encode())
    model = tiny.embedding(models)
    run(batch, model, data / "in.csv", data / "out", format="csv", id_field="key", output_field="vector")
    content = (data / "out" / "part-00000.csv").read_text()
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert rows[0] == ["key", "vector"]
    assert [row[0] for row in rows[1:]] == [f'k,"{number}"' for number in range(len(texts))]
    batch.deploy("oracle", model)
    answer = batch.client.post("/v1/embeddings", json={"model": "oracle", "input": texts})
    np.testing.assert_allclose([json.loads(row[1]) for row in rows[1:]], [item["embedding"] for item in answer.json()["data"]],
                               atol=1e-6)


RUBBISH = [
    b'{"text":"the fox"}\n',
    b"not JSON\n",
    b"\n",
    b'{"text":7}\n',
    b'{"other":"fox"}\r\n',
    b'[1]\n',
    b'{"text":"\xff"}\n',
    b'{"text":"the dog","text":"twice"}\n',
    b'{"text":"' + b"x" * (5 << 20) + b'"}\n',
    b'{"text":"the lazy dog"}',
]


def test_rows_that_cannot_be_read_are_skipped_and_listed(batch, models, data):
    (data / "in.ndjson").write_bytes(b"".join(RUBBISH))
    job = run(batch, tiny.embedding(models), data / "in.ndjson", data / "out", on_error="skip")
    assert job["message"] == "2 rows written in 1 part, 7 rejected"
    assert [row["line"] for row in rows_of(data / "out")] == [1, 10]
    check_manifest(data / "out", 2, 7)
    items = failed_items(batch, job)
    assert [item["line"] for item in items] == [2, 4, 5, 6, 7, 8, 9]
    assert [item["id"] for item in items] == ["2", "4", "5", "6", "7", "8", "9"]
    assert {item["stage"] for item in items} == {"other"}
    assert items[1]["detail"] == 'the field "text": it is not text'
    assert items[2]["detail"] == 'the field "text": it is not there'
    assert items[6]["detail"] == "it is longer than 4 MiB"
    progress = task_of(batch, job)["progress"]
    assert (progress["done"], progress["total"], progress["failed"]) == (9, 9, 7)


def test_one_row_that_cannot_be_read_ends_the_job(batch, models, data):
    (data / "in.ndjson").write_bytes(b"".join(RUBBISH))
    job = ended(batch, begun(batch, tiny.embedding(models), data / "in.ndjson", data / "out"), "failed")
    assert job["status"] == "failed"
    assert "line 2 of the input was rejected" in job["message"], job
    assert not (data / "out" / "_SUCCESS").exists()
    assert not parts_of(data / "out")


def test_csv_records_that_are_no_csv_are_listed(batch, models, data):
    (data / "in.csv").write_text('text,n\nthe fox,1\nthe "fox",2\n"fox"x,3\nfox\nfox,1,2\n\n"the\ndog",7\n"open,1\n')
    job = run(batch, tiny.embedding(models), data / "in.csv", data / "out", format="csv", on_error="skip")
    assert [item["line"] for item in failed_items(batch, job)] == [3, 4, 5, 6, 10]
    rows = list(csv.DictReader(io.StringIO((data / "out" / "part-00000.csv").read_text(), newline="")))
    assert [row["line"] for row in rows] == ["2", "8"]


def test_a_row_that_the_model_refuses_is_the_only_one_that_is_lost(batch, models, data):
    source = ndjson(data / "in.ndjson", [{"x": 0 if n == 7 else n + 1} for n in range(20)])
    job = run(batch, tiny.reciprocal(models), source, data / "out", on_error="skip")
    assert [item["line"] for item in failed_items(batch, job)] == [8]
    assert failed_items(batch, job)[0]["stage"] == "inference"
    assert [row["line"] for row in rows_of(data / "out")] == [n + 1 for n in range(20) if n != 7]
    check_manifest(data / "out", 19, 1)


def test_an_empty_input_gives_an_empty_list_of_parts(batch, models, data):
    model = tiny.embedding(models)
    for name, content in (("nothing.ndjson", ""), ("blank.ndjson", "\n\r\n \n"), ("nothing.csv", ""), ("header.csv", "text\r\n")):
        (data / name).write_text(content)
        job = run(batch, model, data / name, data / f"out-{name}", name=name, format=name.rpartition(".")[2])
        assert job["message"] == "0 rows written in 0 parts, 0 rejected"
        assert check_manifest(data / f"out-{name}", 0)["parts"] == []


# ---- what is refused


def refused(service, model, source, target, words, **config):
    answer = begin(service, model, source, target, **config)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["detail"], answer.text


def test_nothing_outside_of_the_roots_is_read_or_written(batch, models, data, tmp_path):
    model = tiny.embedding(models)
    inside = ndjson(data / "in.ndjson", [{"text": "fox"}])
    outside = ndjson(tmp_path / "outside.ndjson", [{"text": "fox"}])
    (data / "link.ndjson").symlink_to(outside)
    (data / "linked").symlink_to(tmp_path)
    (data / "good").mkdir()
    (data / "good-link").symlink_to(data / "good")
    for source in (outside, data / ".." / "outside.ndjson", data / "link.ndjson", data / "linked" / "outside.ndjson",
                   f"file://{data}/%2e%2e/outside.ndjson", batch.state / "control.db", data / ".." / "not-there"):
        refused(batch, model, source, data / "out", "outside the folders that batch jobs may read and write")
    for target in (tmp_path / "out", data / ".." / "out", data / "linked" / "out", data / "new" / ".." / ".." / ".." / "out",
                   batch.state / "out"):
        refused(batch, model, inside, target, "outside the folders that batch jobs may read and write")
    assert not (tmp_path / "out").exists() and not (data / "new").exists()
    run(batch, model, inside, f"file://{data}/good-link/a/b", name="linked")
    check_manifest(data / "good" / "a" / "b", 1)


def test_an_output_that_is_there_is_left_as_it_is(batch, models, data):
    model = tiny.embedding(models)
    source = ndjson(data / "in.ndjson", [{"text": "fox"}])
    (data / "out").mkdir()
    run(batch, model, source, data / "out", name="first")  # an empty folder is fine
    before = {path.name: path.read_bytes() for path in (data / "out").iterdir()}
    refused(batch, model, source, data / "out", "is there and not empty", name="second")
    (data / "file").write_text("mine")
    refused(batch, model, source, data / "file", "which is a folder", name="second")
    assert {path.name: path.read_bytes() for path in (data / "out").iterdir()} == before
    assert (data / "file").read_text() == "mine"


def test_two_jobs_for_one_output_are_one_job_and_a_refusal(make_slipway, tmp_path, models, data):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    model = tiny.embedding(models)
    source = ndjson(data / "in.ndjson", [{"text": "fox"}])
    with service.pauses.at("batch_part_sealed") as point:
        first = begun(service, model, source, data / "out", name="first")
        point.reached()
        refused(service, model, source, data / "out", "is there and not empty", name="second")
    ended(service, first)
    check_manifest(data / "out", 1)


@pytest.mark.parametrize("change, words", [
    ({"format": "arrow"}, "must be ndjson or csv"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": 5000}, "batch_size"),
    ({"on_error": "retry"}, "must be fail or skip"),
    ({"priority": "high"}, "must be idle or normal"),
    ({"output_field": "line"}, "twice"),
    ({"id_field": "embedding"}, "twice"),
    ({"inputs": {}}, "must name 1 to"),
    ({"inputs": {"x": 1}}, "must be the name of a field"),
    ({"outputs": {"x": "a", "y": "a"}}, "twice"),
    ({"surprise": 1}, "surprise"),
    ({"input_uri": "ftp://host/in"}, "a batch job reads and writes"),
    ({"input_uri": "relative"}, "a batch job reads and writes"),
    ({"output_uri": "file://host/out"}, "file:///path"),
    ({"output_uri": "s3://bucket"}, "s3://bucket/key"),
    ({"output_uri": "s3://bucket/out"}, "[s3]"),
])
def test_requests_that_cannot_be_meant_are_refused(batch, models, data, change, words):
    config = {"type": "batch_inference_job", "input_uri": str(data / "in"), "output_uri": str(data / "out"), **change}
    answer = batch.client.post("/v1/deployments", json={
        "deployment_name": "job", "model_uri": str(tiny.embedding(models)), "deployment_target_config": config})
    assert answer.status_code == 400 and words in answer.json()["detail"], answer.text


def test_a_job_is_no_service(batch, models, data):
    model = tiny.embedding(models)
    source = ndjson(data / "in.ndjson", [{"text": "fox"}])
    job = ended(batch, begun(batch, model, data / "not-there", data / "out"), "failed")
    assert "open the input" in job["message"] and job["error"]["error"] == "ModelRegistryError"
    service = batch.deploy("service", model)
    body = {"deployment_name": "service", "model_uri": str(model), "deployment_target_config": {"type": "api_service"}}
    as_job = {**body, "deployment_target_config": {"type": "batch_inference_job", "input_uri": str(source),
                                                   "output_uri": str(data / "out2")}}
    assert batch.client.put(f"/v1/deployments/{service['deployment_id']}", json=as_job).status_code == 409
    assert batch.client.put("/v1/deployments/job", json={**body, "deployment_name": "job"}).status_code == 409
    assert batch.client.patch("/v1/deployments/job", json={"replicas": 2}).status_code == 409
    answer = batch.client.post("/deploy", json={"embedding_model_id": "other", "config": {
        "model_uri": str(model), "deployment_target_config": as_job["deployment_target_config"]}})
    assert answer.status_code == 400 and "begun by POST /v1/deployments" in answer.text
    answer = batch.client.post("/deploy", json={"embedding_model_id": "job", "config": {"model_uri": str(model)}})
    assert answer.status_code == 409 and "taken by the batch job" in answer.text
    models_answer = batch.client.get("/v1/models").json()
    assert [model["id"] for model in models_answer["data"]] == ["service"]


def test_fields_that_the_model_does_not_have_end_the_job(batch, models, data):
    source = ndjson(data / "in.ndjson", [{"x": 1}])
    (data / "in.csv").write_text("a,b\n1,2\n")
    job = ended(batch, begun(batch, tiny.two_by_two(models), source, data / "out1", name="one", inputs={"nothing": "x"}), "failed")
    assert 'the model has no input "nothing"' in job["message"]
    job = ended(batch, begun(batch, tiny.embedding(models), data / "in.csv", data / "out2", name="two", format="csv"), "failed")
    assert 'has no field "text" (it has a, b)' in job["message"]
    job = ended(batch, begun(batch, tiny.scalar(models), source, data / "out3", name="three"), "failed")
    assert "dimensions" in job["message"]


# ---- every row once, in order


def check_whole(folder, count, id_field="id"):
    """Every row once and in order, and the list tells the truth."""
    assert [row[id_field] for row in rows_of(folder)] == list(range(count))
    check_manifest(folder, count)


POINTS = ("batch_part_sealed", "batch_part_recorded", "batch_part_published", "batch_finished")


@pytest.mark.parametrize("role", ["controller", "supervisor", "runner"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_between_the_steps_of_a_part_loses_no_row_and_writes_none_twice(make_slipway, tmp_path, models, data, point, role):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    source = ndjson(data / "in.ndjson", [{"id": n, "x": [n, 0, 0, 0]} for n in range(1000)])
    with service.pauses.at(point) as stop:
        job = begun(service, tiny.add_one(models), source, data / "out", id_field="id", batch_size=10, part_rows=100)
        stop.reached()
        names = {path.name for path in parts_of(data / "out")}
        pids = service.kill(role)
    if role == "supervisor":
        service.start()
    job = ended(service, job)
    assert job["message"] == "1000 rows written in 10 parts, 0 rejected"
    assert names <= {path.name for path in parts_of(data / "out")}
    check_whole(data / "out", 1000)
    assert not any(lives(pid) for pid in pids)


def test_kills_at_any_moment_lose_no_row_and_write_none_twice(make_slipway, models, data):
    service = make_slipway(batch_roots=data).start()
    count = 30000
    source = ndjson(data / "in.ndjson", [{"id": n, "x": [n, 0, 0, 0]} for n in range(count)])
    job = begun(service, tiny.add_one(models), source, data / "out", id_field="id", batch_size=8, part_rows=500)
    for role, after in (("controller", 3), ("runner", 8), ("supervisor", 13), ("controller", 18), ("runner", 23)):
        eventually(lambda after=after: len(parts_of(data / "out")) >= after, what=f"{after} parts are there")
        service.kill_role(role)
    ended(service, job)
    check_whole(data / "out", count)
    assert all(row["y"][0] == row["id"] + 1 for row in rows_of(data / "out"))


def test_an_input_that_changes_ends_the_job_with_words(make_slipway, tmp_path, models, data):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    rows = [{"id": n, "x": [n, 0, 0, 0]} for n in range(200)]
    source = ndjson(data / "in.ndjson", rows)
    with service.pauses.at("batch_part_published") as point:
        job = begun(service, tiny.add_one(models), source, data / "out", batch_size=10, part_rows=100)
        point.reached()
        ndjson(source, rows + [{"id": 0, "x": [0, 0, 0, 0]}])
        service.kill("controller")
    job = ended(service, job, "failed")
    assert "has changed since the job began" in job["message"]
    assert job["error"]["error"] == "ModelRegistryError"
    assert not (data / "out" / "_SUCCESS").exists()


def test_a_failed_job_that_is_restarted_goes_on_where_it_stood(batch, models, data):
    rows = [json.dumps({"id": n, "x": [n, 0, 0, 0]}) + "\n" for n in range(300)]
    source = data / "in.ndjson"
    source.write_text("".join(rows[:250]) + "rubbish".ljust(len(rows[250]) - 1) + "\n" + "".join(rows[251:]))
    status = source.stat()
    job = ended(batch, begun(batch, tiny.add_one(models), source, data / "out", id_field="id", batch_size=10, part_rows=100),
                "failed")
    first = {path.name: path.stat().st_ino for path in parts_of(data / "out")}
    assert list(first) == ["part-00000.ndjson", "part-00001.ndjson"]
    source.write_text("".join(rows))  # mended, and to the job what it was
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert batch.client.post(f"/v1/tasks/{job['task_id']}/restart").status_code == 202
    job = ended(batch, job)
    assert job["status"] == "inactive" and job["message"] == "300 rows written in 3 parts, 0 rejected"
    check_whole(data / "out", 300)
    assert {name: (data / "out" / name).stat().st_ino for name in first} == first


def test_a_part_that_somebody_took_away_is_missed(make_slipway, tmp_path, models, data):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    source = ndjson(data / "in.ndjson", [{"x": [n, 0, 0, 0]} for n in range(200)])
    with service.pauses.at("batch_part_published") as point:
        job = begun(service, tiny.add_one(models), source, data / "out", batch_size=10, part_rows=100)
        point.reached()
        (data / "out" / "part-00000.ndjson").unlink()
        service.kill("controller")
    assert "is gone from the output" in ended(service, job, "failed")["message"]


def test_a_file_in_the_way_of_a_part_is_left_as_it_is(make_slipway, tmp_path, models, data):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    source = ndjson(data / "in.ndjson", [{"x": [n, 0, 0, 0]} for n in range(200)])
    with service.pauses.at("batch_part_sealed") as point:
        job = begun(service, tiny.add_one(models), source, data / "out", batch_size=10, part_rows=100)
        point.reached()
        (data / "out" / "part-00000.ndjson").write_text("mine")
    assert "this job has not written it" in ended(service, job, "failed")["message"]
    assert (data / "out" / "part-00000.ndjson").read_text() == "mine"


@pytest.mark.parametrize("way", ["cancel", "delete"])
def test_a_job_that_is_canceled_ends_soon_and_leaves_its_whole_parts(make_slipway, tmp_path, models, data, way):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    source = ndjson(data / "in.ndjson", [{"id": n, "x": [n, 0, 0, 0]} for n in range(1000)])
    with service.pauses.at("batch_part_published") as point:
        job = begun(service, tiny.add_one(models), source, data / "out", id_field="id", batch_size=10, part_rows=100)
        point.reached()
        assert service.client.get("/v1/deployments/job").json()["status"] == "active"
        if way == "cancel":
            assert service.client.post(f"/v1/tasks/{job['task_id']}/cancel").status_code == 202
        else:
            assert service.client.delete("/v1/deployments/job").status_code == 202
    eventually(lambda: service.client.get(f"/v1/deployments/{job['deployment_id']}").json()["status"] == "inactive")
    assert task_of(service, job)["status"] == "canceled"
    assert not (data / "out" / "_SUCCESS").exists()
    assert [row["id"] for row in rows_of(data / "out")] == list(range(100))
    assert not service.pids("runner")
    eventually(lambda: not list((service.state / "packages" / "sha256").iterdir()) if (service.state / "packages" / "sha256").exists() else True)


# ---- much


def test_a_hundred_thousand_small_rows_take_seconds(batch, models, data):
    count = 100000
    source = ndjson(data / "in.ndjson", [{"id": n, "x": [n % 7, 0, 0, 0]} for n in range(count)])
    job = run(batch, tiny.add_one(models), source, data / "out", id_field="id")
    assert job["message"] == f"{count} rows written in 1 part, 0 rejected"
    check_whole(data / "out", count)


def resident(pid):
    return int(next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])


def test_memory_does_not_grow_with_the_input(make_slipway, models, data):
    """The controller's peak after an input of 30 MB is that after 3 MB, but for what allocators keep."""
    service = make_slipway(batch_roots=data).start()
    model = tiny.add_one(models)
    peaks = {}
    for name, count in (("small", 30000), ("large", 300000)):
        line = json.dumps({"x": [1, 2, 3, 4], "pad": "p" * 70}) + "\n"
        with open(data / f"{name}.ndjson", "w") as file:
            for _ in range(0, count, 1000):
                file.write(line * 1000)
        run(service, model, data / f"{name}.ndjson", data / name, name=name)
        peaks[name] = resident(service.pids("controller")[0])
    assert peaks["large"] - peaks["small"] < 24 * 1024, peaks


def test_two_replicas_share_the_rows(batch, models, data):
    source = ndjson(data / "in.ndjson", [{"id": n, "x": [n, 0, 0, 0]} for n in range(5000)])
    run(batch, tiny.add_one(models), source, data / "out", id_field="id", batch_size=10, replicas=2)
    check_whole(data / "out", 5000)


def test_an_idle_job_gives_way(make_slipway, tmp_path, models, data):
    service = paused_service(make_slipway, tmp_path, batch_roots=data)
    source = ndjson(data / "in.ndjson", [{"text": "fox"}])
    for priority, policy in (("idle", os.SCHED_IDLE), ("normal", os.SCHED_OTHER)):
        with service.pauses.at("batch_part_sealed") as point:
            job = begun(service, tiny.embedding(models), source, data / priority, name=priority, priority=priority)
            point.reached()
            assert os.sched_getscheduler(service.pids("runner")[0]) == policy
        ended(service, job)


def test_a_model_that_kills_its_runner_ends_the_job_with_its_last_words(make_slipway, models, data):
    service = make_slipway(batch_roots=data, replica_restarts=1).start()
    source = ndjson(data / "in.ndjson", [{"x": [7 if n == 50 else 1, 0, 0, 0]} for n in range(100)])
    job = ended(service, begun(service, tiny.poison(models), source, data / "out", batch_size=10), "failed")
    assert "SIGFPE" in job["message"] or "signal 8" in job["message"], job["message"]


# ---- S3


BUCKET = "batch"


@pytest.fixture
def s3(s3_server):  # noqa: F811
    s3_server.make_bucket(BUCKET)
    for key in s3_server.keys(BUCKET):
        s3_server.remove(BUCKET, key)
    return s3_server


def with_s3(s3, tmp_path):
    path = tmp_path / "registries.ini"
    path.write_text(f"[s3]\nendpoint = {s3.url}\npath_style = true\nbuckets = {BUCKET}\naccess_key_id = {s3.key}\n"
                    f"secret_access_key = {s3.secret}\n")
    path.chmod(0o600)
    return path


def object_rows(s3, prefix):
    keys = sorted(key for key in s3.keys(BUCKET, prefix) if "part-" in key)
    return [json.loads(line) for key in keys for line in s3.get(BUCKET, key).decode().splitlines()]


@pytest.mark.parametrize("point, role", [(None, None), ("batch_part_sealed", "controller"), ("batch_part_recorded", "controller"),
                                         ("batch_part_published", "supervisor"), ("batch_finished", "controller")])
def test_from_a_bucket_to_a_bucket(make_slipway, tmp_path, models, data, s3, point, role):
    service = paused_service(make_slipway, tmp_path, batch_roots=data, registries=with_s3(s3, tmp_path))
    rows = [{"id": n, "x": [n, 0, 0, 0]} for n in range(500)]
    s3.put(BUCKET, "in/rows.ndjson", "".join(json.dumps(row) + "\n" for row in rows).encode())
    source, target = f"s3://{BUCKET}/in/rows.ndjson", f"s3://{BUCKET}/out/one/"
    config = {"id_field": "id", "batch_size": 10, "part_rows": 100}
    if point:
        with service.pauses.at(point) as stop:
            job = begun(service, tiny.add_one(models), source, target, **config)
            stop.reached()
            service.kill(role)
        if role == "supervisor":
            service.start()
        job = ended(service, job)
    else:
        job = run(service, tiny.add_one(models), source, target, **config)
    assert job["message"] == "500 rows written in 5 parts, 0 rejected"
    assert [row["id"] for row in object_rows(s3, "out/one/")] == list(range(500))
    assert sorted(s3.keys(BUCKET, "out/one/")) == sorted([f"out/one/part-{n:05}.ndjson" for n in range(5)] + ["out/one/_SUCCESS"])
    manifest = json.loads(s3.get(BUCKET, "out/one/_SUCCESS"))
    for part in manifest["parts"]:
        assert hashlib.sha256(s3.get(BUCKET, "out/one/" + part["name"])).hexdigest() == part["sha256"]
    assert not s3.uploads(BUCKET)
    assert not list((service.state / "spool").iterdir())
    assert s3.secret not in service.whole_log()


def test_a_prefix_that_is_there_is_left_as_it_is(make_slipway, tmp_path, models, data, s3):
    service = make_slipway(batch_roots=data, registries=with_s3(s3, tmp_path)).start()
    source = ndjson(data / "in.ndjson", [{"x": [1, 0, 0, 0]}])
    s3.put(BUCKET, "mine/file", b"mine")
    job = ended(service, begun(service, tiny.add_one(models), source, f"s3://{BUCKET}/mine"), "failed")
    assert "is there and not empty" in job["message"]
    assert s3.keys(BUCKET, "mine/") == ["mine/file"]
    job = ended(service, begun(service, tiny.add_one(models), f"s3://{BUCKET}/nothing", data / "out", name="two"), "failed")
    assert "there is no such object" in job["message"]
    refused(service, tiny.add_one(models), "s3://another/in", data / "out", "is not configured", name="three")


def test_an_object_that_changes_ends_the_job_with_words(make_slipway, tmp_path, models, data, s3):
    service = paused_service(make_slipway, tmp_path, batch_roots=data, registries=with_s3(s3, tmp_path))
    content = "".join(json.dumps({"x": [n, 0, 0, 0]}) + "\n" for n in range(200)).encode()
    s3.put(BUCKET, "in", content)
    with service.pauses.at("batch_part_published") as point:
        job = begun(service, tiny.add_one(models), f"s3://{BUCKET}/in", data / "out", batch_size=10, part_rows=100)
        point.reached()
        s3.put(BUCKET, "in", content.replace(b"1", b"2"))
        service.kill("controller")
    assert "has changed since the job began" in ended(service, job, "failed")["message"]


# ---- the command line


def test_the_command_line_begins_a_job_and_shows_its_end(batch, models, data):
    from test_cli import cli

    ndjson(data / "in.ndjson", [{"id": n, "x": [n, 0, 0, 0]} for n in range(100)])
    model = tiny.add_one(models)
    done = cli(batch, "batch", "job", model, "in.ndjson", "out", "--wait", "--id-field", "id", "--batch-size", 10, "--part-rows", 50,
               "--outputs", '{"y": "z"}', "--priority", "normal", "--on-error", "skip", "--format", "ndjson", cwd=data)
    assert done.returncode == 0, done.stderr
    assert "inactive" in done.stdout and "100 rows written in 2 parts, 0 rejected" in done.stdout
    assert rows_of(data / "out")[1] == {"id": 1, "z": [2, 1, 1, 1]}
    failed = cli(batch, "batch", "again", model, "in.ndjson", "out", "--wait", cwd=data)
    assert failed.returncode != 0 and "is there and not empty" in failed.stderr
    failed = cli(batch, "batch", "again", model, "nothing", "out2", "--wait", cwd=data)
    assert failed.returncode != 0 and "open the input" in failed.stderr
    shown = json.loads(cli(batch, "batch", "third", model, "in.ndjson", "out3", "--json", cwd=data).stdout)
    assert shown["status"] == "creating"
    ended(batch, shown)
