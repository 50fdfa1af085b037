"""The front door: strict HTTP, slow and greedy clients, the token, what is passed on, what is counted."""

import json
import re
import signal
import socket
import threading

import httpx
import numpy as np
import pytest
import tritonclient.http
from openai import NotFoundError, OpenAI

import models as model
from slipway import eventually


def exchange(service, raw, read=True):
    """Sends raw bytes on a connection of their own; everything that comes back until the service closes it."""
    with socket.create_connection((service.host, service.port), 30) as connection:
        try:
            connection.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def status_of(answer):
    found = re.match(rb"HTTP/1\.1 (\d+) ", answer)
    return int(found[1]) if found else None


HOST = b"Host: x\r\n"


@pytest.mark.sanitizer
@pytest.mark.parametrize("raw, status", [
    (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\n" + HOST + b"Bad Name: a\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
    (b"GET  /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    (b"GET /livez HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    (b"GET http://x/livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    (b"G\x00T /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Content-Length: -3\r\n\r\n", 400),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Content-Length: 999999999999\r\n\r\n", 413),
    (b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
    (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
], ids=lambda value: str(value)[:50] if isinstance(value, bytes) else str(value))
def test_what_is_not_strict_http_is_refused(slipway, raw, status):
    answer = exchange(slipway, raw)
    assert status_of(answer) == status, answer[:300]
    assert b"application/problem+json" in answer
    assert slipway.client.get("/livez").status_code == 200


def test_slow_clients_are_sent_away(make_slipway):
    slipway = make_slipway(header_timeout="300ms", body_timeout="300ms", idle_timeout="300ms").start()
    assert status_of(exchange(slipway, b"GET /livez HTT")) == 408
    assert status_of(exchange(slipway, b"POST /v1/deployments HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc")) == 408
    assert exchange(slipway, b"") == b""  # an idle connection is closed without a word


def test_a_pipelined_request_is_answered_in_its_turn(slipway):
    answer = exchange(slipway, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\nGET /nowhere HTTP/1.1\r\n" + HOST
                      + b"Connection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"200", b"404"]


def test_a_large_body_streams_through_and_a_larger_one_is_refused(make_slipway, models):
    slipway = make_slipway(body_maximum="8Mi", retry_body_maximum="64Ki").start()
    deployment = slipway.deploy("repeat", model.identity(models, "FP32"))
    assert deployment["status"] == "active", deployment
    name = slipway.client.get("/v2/models/repeat").json()["inputs"][0]["name"]
    values = list(range(200_000))
    request = {"inputs": [{"name": name, "datatype": "FP32", "shape": [100_000, 2], "data": values}]}
    answer = slipway.client.post("/v2/models/repeat/infer", json=request)
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["outputs"][0]["data"] == values
    too_large = slipway.client.post("/v2/models/repeat/infer", content=b" " * (9 << 20))
    assert too_large.status_code == 413 and set(too_large.json()) == {"error"}


# ---- the token


def test_a_token_is_asked_for_on_every_route_but_health(make_slipway):
    slipway = make_slipway(token="secret").start()
    stranger = httpx.Client(base_url=slipway.url)
    for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert stranger.get(path).status_code == 200, path
    for method, path in (("GET", "/metrics"), ("GET", "/v2"), ("GET", "/v1/models"), ("GET", "/v1/deployments"),
                         ("POST", "/v1/deployments"), ("GET", "/v1/tasks"), ("GET", "/v1/processes"), ("POST", "/deploy"),
                         ("GET", "/deploy-status/m"), ("POST", "/delete"), ("POST", "/v2/models/m/infer"), ("POST", "/v1/embeddings"),
                         ("GET", "/api/v1/internal/inference-deployment/deploy/t"), ("GET", "/openapi.json")):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic c2VjcmV0"}, {"Authorization": "Bearer secretx"},
                        {"Authorization": "secret"}):
            answer = stranger.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers, answer.text)
            assert "www-authenticate" in answer.headers
        allowed = stranger.request(method, path, headers={"Authorization": "Bearer secret"})
        assert allowed.status_code not in (401, 403), (method, path)
    assert "secret" not in slipway.whole_log()


# ---- what is passed on


def test_a_request_id_is_taken_or_made_and_stands_in_the_log(slipway):
    given = slipway.client.get("/v1/deployments", headers={"X-Request-Id": "trace-me.1"})
    assert given.headers["x-request-id"] == "trace-me.1"
    made = slipway.client.get("/livez").headers["x-request-id"]
    other = slipway.client.get("/livez", headers={"X-Request-Id": "no good\tid"}).headers["x-request-id"]
    assert made and made != other and "good" not in other
    eventually(lambda: "request_id=trace-me.1" in slipway.log() and f"request_id={made}" in slipway.log())


def test_the_access_log_can_be_turned_off(make_slipway):
    slipway = make_slipway(access_log="false").start()
    slipway.client.get("/v1/deployments", headers={"X-Request-Id": "quiet"})
    slipway.stop()
    assert "quiet" not in slipway.whole_log()


def test_hop_by_hop_headers_and_inner_ones_do_not_pass(slipway, models):
    slipway.deploy("m", model.embedding(models))
    answer = slipway.client.post("/v1/embeddings", json={"model": "m", "input": "hello"},
                                 headers={"Connection": "keep-alive, X-Mine", "X-Mine": "1", "TE": "trailers"})
    assert answer.status_code == 200
    assert not {"x-slipway-batch", "connection", "keep-alive"} & set(answer.headers)
    assert len(answer.headers["x-slipway-encoder"]) == 64


def test_head_and_allow(slipway):
    head = slipway.client.head("/v1/deployments")
    assert head.status_code == 200 and head.content == b""
    answer = slipway.client.delete("/v1/deployments")
    assert answer.status_code == 405 and {"GET", "POST"} <= set(re.split(r", *", answer.headers["allow"]))
    assert answer.json()["error"] == "RequestError"


# ---- queues


def test_more_than_the_queue_holds_is_answered_429_with_retry_after(make_slipway, models):
    slipway = make_slipway(queue_maximum=2, in_flight_maximum=1).start()
    assert slipway.deploy("slow", model.slow(models, rounds=400))["status"] == "active"
    metadata = slipway.client.get("/v2/models/slow").json()["inputs"][0]
    shape = [1 if size < 0 else size for size in metadata["shape"]]
    count = 1
    for size in shape:
        count *= size
    body = json.dumps({"inputs": [{"name": metadata["name"], "datatype": metadata["datatype"], "shape": shape, "data": [0] * count}]})
    answers = []

    def ask():
        answers.append(httpx.post(f"{slipway.url}/v2/models/slow/infer", content=body, timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}, [answer.text for answer in answers]
    full = next(answer for answer in answers if answer.status_code == 429)
    assert int(full.headers["retry-after"]) >= 1 and set(full.json()) == {"error"}


# ---- the clients that people use


def test_tritonclient_openai_and_plain_http_agree(slipway, models):
    assert slipway.deploy("m", model.embedding(models))["status"] == "active"
    triton = tritonclient.http.InferenceServerClient(f"{slipway.host}:{slipway.port}")
    assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready("m")
    assert triton.is_model_ready("m", "1")
    assert triton.get_server_metadata()["name"] == "slipway"
    text = tritonclient.http.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([b"hello world"], dtype=object))
    by_triton = triton.infer("m", [text]).as_numpy("embedding")[0]
    client = OpenAI(base_url=f"{slipway.url}/v1", api_key="none")
    by_openai = np.array(client.embeddings.create(model="m", input="hello world").data[0].embedding)
    by_http = np.array(slipway.client.post("/v1/embeddings", json={"model": "m", "input": ["hello world"]}).json()["data"][0]["embedding"])
    assert np.allclose(by_triton, by_openai, atol=1e-6) and np.allclose(by_triton, by_http, atol=1e-6)
    assert [listed.id for listed in client.models.list()] == ["m"]
    with pytest.raises(NotFoundError):
        client.embeddings.create(model="nobody", input="x")
    with pytest.raises(tritonclient.http.InferenceServerException, match="nobody"):
        triton.infer("nobody", [text])


# ---- what is counted

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$')


def read_metrics(slipway):
    """Every sample by its name and labels; the text is checked against the exposition format as it is read."""
    answer = slipway.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    types, samples, ended, current = {}, {}, set(), None
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} stands twice"
            types[name] = kind
            if current:
                ended.add(current)
            current = name
        elif not line.startswith("#"):
            found = SAMPLE.match(line)
            assert found, line
            family = re.sub(r"_(bucket|sum|count)$", "", found[1]) if found[1] not in types else found[1]
            assert family in types, line
            assert types[family] != "counter" or family.endswith("_total"), line
            samples[found[1], found[2] or ""] = float(found[3])
    return types, samples


def test_metrics_count_what_happened(slipway, models):
    slipway.deploy("m", model.embedding(models))
    for _ in range(5):
        slipway.client.post("/v1/embeddings", json={"model": "m", "input": "hello"})
    slipway.client.post("/v1/embeddings", json={"model": "m", "input": 7})
    types, samples = read_metrics(slipway)
    requests = {labels: value for (name, labels), value in samples.items() if name == "slipway_requests_total"}
    assert sum(value for labels, value in requests.items() if 'deployment="m"' in labels and 'code="200"' in labels) == 5
    assert sum(value for labels, value in requests.items() if 'code="400"' in labels) == 1
    for family in ("slipway_request_duration_seconds", "slipway_batch_size", "slipway_queue_length", "slipway_requests_in_flight",
                   "slipway_replica_memory_bytes", "slipway_replica_restarts_total", "slipway_task_duration_seconds",
                   "slipway_build_info", "slipway_route_generation", "slipway_deployments"):
        assert family in types, family
    memory = [value for (name, labels), value in samples.items() if name == "slipway_replica_memory_bytes"]
    assert memory and memory[0] > 1 << 20
    batches = [value for (name, labels), value in samples.items() if name == "slipway_batch_size_count"]
    assert sum(batches) == 5


def test_metrics_answer_while_the_controller_is_down(slipway):
    slipway.kill("controller", signal.SIGSTOP)
    try:
        _, samples = read_metrics(slipway)
        assert samples["slipway_controller_up", ""] == 0
        assert ("slipway_build_info" in {name for name, _ in samples})
    finally:
        for pid in slipway.pids("controller"):
            slipway.kill(pid, signal.SIGCONT)


def test_the_api_describes_itself(slipway):
    document = slipway.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert "/v1/deployments/{deployment}" in document["paths"] and "/deploy-status/{model}" in document["paths"]
