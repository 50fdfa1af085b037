"""Rubbish, each with a clear 4xx (or a failed task with its cause), nothing changed, and the service alive afterwards."""

import json
import os
import socket

import numpy as np
import pytest

import models as model

TARGET = {"type": "api_service"}


def request_for(uri, name="m", **fields):
    return {"deployment_name": name, "model_uri": str(uri), "deployment_target_config": TARGET, **fields}


def assert_refused(slipway, content, words, status=400):
    body = content if isinstance(content, (bytes, str)) else json.dumps(content)
    answer = slipway.client.post("/v1/deployments", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status and problem["type"] and problem["title"]
    assert words in problem["detail"], problem["detail"]
    assert slipway.client.get("/v1/deployments").json() == []
    assert slipway.client.get("/v1/tasks").json() == []


# ---- control requests


@pytest.mark.sanitizer
@pytest.mark.parametrize("body, words", [
    (b"", "JSON"),
    (b"{", "malformed"),
    (b"[]", "object"),
    (b"null", "object"),
    (b'{"deployment_name": "\xff"}', "malformed"),
    (b"\x00" * 100, "malformed"),
    (b"[" * 100_000 + b"]" * 100_000, "deeper"),
    (b'{"a":' * 100_000, "malformed"),
    (b'{"tags": {"a": 1, "a": 2}}', "twice"),
])
def test_malformed_and_deeply_nested_json(slipway, body, words):
    assert_refused(slipway, body, words)


def test_wrong_types_unknown_fields_and_names(slipway, models):
    uri = model.embedding(models)
    for request, words in (
        (request_for(uri, name=7), "deployment_name"),
        (request_for(uri, name="../m"), "deployment_name"),
        (request_for(uri, name="a\x00b"), "deployment_name"),
        (request_for(uri, name="m" * 129), "128"),
        (request_for(uri, name="123e4567-e89b-12d3-a456-426614174000"), "UUID"),
        (request_for(uri, tags=[]), "tags"),
        (request_for(uri, recipe="mean"), "recipe"),
        (request_for(uri, replicas=2), "unknown field replicas"),
        (request_for(uri) | {"deployment_target_config": {"type": "api_service", "replicas": 1e9}}, "replicas"),
        (request_for(uri) | {"deployment_target_config": {"type": "lambda"}}, "type"),
        (request_for(uri) | {"deployment_target_config": {"type": "batch_inference_job"}}, "input_uri"),
        (request_for(uri) | {"deployment_target_config": {"type": "api_service", "target": "kubernetes"}}, "local"),
        (request_for(uri, resource_allocation={"memory": "2 elephants"}), "memory"),
    ):
        assert_refused(slipway, request, words)


def test_a_name_of_ten_megabytes(slipway, models):
    answer = slipway.client.post("/v1/deployments", json=request_for("/x", name="m" * 10_000_000))
    assert answer.status_code == 413 and answer.json()["error"] == "RequestError"


def test_ids_that_are_none_in_paths(slipway):
    for path in ("/v1/deployments/..%2f..%2fetc", "/v1/deployments/%00", "/v1/deployments/" + "m" * 4000, "/v1/tasks/%ff"):
        assert slipway.client.get(path).status_code in (400, 404), path
    assert slipway.client.get("/v1/deployments?limit=0").status_code == 400
    assert slipway.client.get("/v1/deployments?limit=1001").status_code == 400
    assert slipway.client.get("/v1/deployments?limit=-1").status_code == 400
    assert slipway.client.get("/v1/deployments?offset=x").status_code == 400
    assert slipway.client.get("/v1/deployments?limit=1&limit=2").status_code == 400
    assert slipway.client.get("/v1/deployments?colour=red").status_code == 400


def test_uris_outside_the_roots(slipway, models, tmp_path):
    (tmp_path / "outside").mkdir()
    for uri in ("/etc/passwd", "file:///etc/passwd", f"{models}/../outside", f"file://{models}/%2e%2e/outside",
                "file://elsewhere/models/m", "models/m", "s3://bucket/m", "http://169.254.169.254/m", "javascript:1", ""):
        assert_refused(slipway, request_for(uri), "model_uri")


def test_links_out_of_a_model_folder(slipway, models, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    symbolic, hard, folder = (model.embedding(models, name) for name in ("symbolic", "hard", "folder"))
    (symbolic / "notes.txt").symlink_to(secret)
    os.link(secret, hard / "notes.txt")
    (folder / "more").symlink_to(tmp_path)
    for path in (symbolic, hard, folder):
        assert_refused(slipway, request_for(path), "model_uri")
    os.mkfifo(model.embedding(models, "pipe") / "pipe")
    assert_refused(slipway, request_for(models / "pipe"), "model_uri")


# ---- models that are none: the request is well-formed, the task fails with the cause and leaves nothing


@pytest.mark.parametrize("make, words", [
    (model.truncated, "model.onnx"),
    (model.not_a_model, ""),
    (lambda parent: model.external(parent, "../../secret"), "external"),
    (lambda parent: model.external(parent, "/etc/passwd"), "external"),
    (model.wrong_inputs_embedding, "input"),
    (model.several_files, "model_file"),
    (model.always_nan, "finite"),
], ids=["truncated", "no-model", "external-up", "external-absolute", "wrong-inputs", "several", "nan"])
def test_a_bad_model_fails_its_deployment_with_the_cause(slipway, models, make, words):
    deployment = slipway.deploy("bad", make(models))
    assert deployment["status"] == "failed", deployment
    assert deployment["error"]["causes"] and words in deployment["error"]["message"], deployment["error"]
    assert "endpoint_url" not in deployment
    assert slipway.pids("runner") == []
    assert list((slipway.state / "packages" / "sha256").iterdir()) == []
    assert slipway.client.get("/v2/models/bad/ready").status_code == 503
    assert slipway.deploy("good", model.embedding(models))["status"] == "active"


# ---- data requests


@pytest.fixture
def served(slipway, models):
    assert slipway.deploy("add", model.add_one(models))["status"] == "active"
    assert slipway.deploy("embed", model.embedding(models))["status"] == "active"
    tensor = slipway.client.get("/v2/models/add").json()["inputs"][0]["name"]

    def infer(**fields):
        return slipway.client.post("/v2/models/add/infer", content=json.dumps(
            {"inputs": [{"name": tensor, "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], **fields}]}))

    slipway.infer, slipway.tensor = infer, tensor
    yield slipway
    assert infer().json()["outputs"][0]["data"] == [2, 3, 4, 5]  # it lives, and answers right


def assert_v2_error(answer, status=400):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and answer.json()["error"]


@pytest.mark.sanitizer
def test_tensors_that_lie(served):
    for fields in ({"shape": [1, 5]}, {"shape": [2, 4]}, {"shape": [-1, 4]}, {"shape": [1, 4.5]}, {"shape": "x"}, {"shape": []},
                   {"shape": [2**62, 4]}, {"shape": [2**32, 2**32]}, {"shape": [2**63, 2]}, {"shape": [1] * 100},
                   {"data": [1, 2, 3]}, {"data": [1, 2, 3, "4"]}, {"data": [[1, 2], [3]]}, {"data": {}}, {"data": None},
                   {"datatype": "FP31"}, {"datatype": 7}, {"datatype": "INT64"}, {"name": "nobody"}, {"name": None}):
        assert_v2_error(served.infer(**fields))


def test_nan_and_infinity_in_json(served):
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = f'{{"inputs":[{{"name":"{served.tensor}","datatype":"FP32","shape":[1,4],"data":[1,2,3,{word}]}}]}}'
        assert_v2_error(served.client.post("/v2/models/add/infer", content=body))


def test_binary_lengths_that_lie(served):
    head = {"inputs": [{"name": served.tensor, "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}
    values = np.arange(4, dtype=np.float32).tobytes()

    def post(head, tail, length=None):
        text = json.dumps(head).encode()
        return served.client.post("/v2/models/add/infer", content=text + tail, headers={
            "Inference-Header-Content-Length": str(len(text) if length is None else length),
            "Content-Type": "application/octet-stream"})

    assert post(head, values).status_code == 200
    assert_v2_error(post(head, values[:-1]))
    assert_v2_error(post(head, values + b"x"))
    for length in ("0", "-1", "99999999", "18446744073709551617", "abc", ""):
        assert_v2_error(post(head, values, length))
    for size in (15, 17, -1, 2**63, 2**64, "16", None):
        head["inputs"][0]["parameters"]["binary_data_size"] = size
        assert_v2_error(post(head, values))


def test_binary_strings_that_lie(served):
    def post(tail, shape=(1,)):
        text = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": list(shape),
                                       "parameters": {"binary_data_size": len(tail)}}]}).encode()
        return served.client.post("/v2/models/embed/infer", content=text + tail, headers={
            "Inference-Header-Content-Length": str(len(text))})

    assert post(b"\x05\0\0\0hello").status_code == 200
    for tail in (b"\x06\0\0\0hello", b"\x04\0\0\0hello", b"\xff\xff\xff\xffhello", b"\x05\0\0", b""):
        assert_v2_error(post(tail))
    assert_v2_error(post(b"\x05\0\0\0hello", (2,)))


def test_embedding_requests_that_are_none(served):
    for body in (b"", b"{", b"[]", b"{}", b'{"model": "embed"}', b'{"model": "embed", "input": 7}', b'{"model": "embed", "input": []}',
                 b'{"model": "embed", "input": [1.5]}', b'{"model": "embed", "input": [-1]}', b'{"model": "embed", "input": [99999999]}',
                 b'{"model": "embed", "input": "x", "encoding_format": "hex"}', b'{"model": "embed", "input": "x", "dimensions": 3}',
                 b'{"model": 7, "input": "x"}', b'{"input": "x"}', b'{"model": "embed", "input": "x", "model": "embed"}'):
        answer = served.client.post("/v1/embeddings", content=body)
        assert answer.status_code == 400, (body, answer.text)
        assert set(answer.json()["error"]) >= {"message", "type", "code", "param"}, answer.text
    answer = served.client.post("/v1/embeddings", json={"model": "embed", "input": "hello", "unheard_of": True})
    assert answer.status_code == 200  # its clients send more than we know


def test_a_flood_of_tiny_chunks(served):
    """A megabyte sent in pieces of one byte is either taken or refused, and never holds up others."""
    with socket.create_connection((served.host, served.port), 30) as flood:
        flood.sendall(b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b""
        try:
            for _ in range(1000):
                flood.sendall(b"1\r\n \r\n" * 1000)
            flood.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            answer = flood.recv(65536)
        except ConnectionResetError:
            pass
    assert not answer or b" 4" in answer.split(b"\r\n")[0], answer[:200]
    assert served.infer().status_code == 200
