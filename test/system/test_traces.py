"""Traces as a collector sees them: names, parentage and times; whose trace it is; and that no request and no memory waits
for a collector that does not take them."""

import re
import signal
import socket
import threading
import time

import httpx
import pytest

import models as folders
from collector import Collector
from slipway import eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def traceparent(trace=TRACE, flags="01"):
    return {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


@pytest.fixture
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture
def traced(make_slipway, models, collector):
    service = make_slipway(otlp_endpoint=collector.url).start()
    assert service.deploy("one", folders.add_one(models))["status"] == "active"
    return service


def infer(service, headers=None, model="one", status=200):
    answer = service.client.post(f"/v2/models/{model}/infer", json=INFER, headers=headers or {})
    assert answer.status_code == status, answer.text
    return answer


def metric(service, name):
    return int(re.search(rf"^{name} (\d+)$", service.client.get("/metrics").text, flags=re.M)[1])


def assert_nested(spans):
    """Every child within its parent, in time as well."""
    known = {span.id: span for span in spans}
    assert len(known) == len(spans)
    for span in spans:
        assert span.begin <= span.end
        parent = known.get(span.parent)
        if parent:
            assert parent.begin <= span.begin and span.end <= parent.end, (parent, span)


def is_now(span):
    return abs(span.begin / 1e9 - time.time()) < 600


# ---- what a trace looks like


@pytest.mark.sanitizer
def test_an_inference_is_a_trace_of_request_queue_replica_and_what_the_replica_did(traced, collector):
    answer = infer(traced, traceparent() | {"tracestate": "vendor=a%20b", "user-agent": "the test"})
    assert not {name for name in answer.headers if "timing" in name or "trace" in name}
    server, queue, replica, wait, run = collector.trace(TRACE, 5)
    assert [s.name for s in (server, queue, replica, wait, run)] == [
        "POST /v2/models/{model}/infer", "queue", "inference one", "batch wait", "inference"]
    assert [s.kind for s in (server, queue, replica, wait, run)] == ["SERVER", "INTERNAL", "CLIENT", "INTERNAL", "INTERNAL"]
    assert [s.parent for s in (server, queue, replica, wait, run)] == [PARENT, server.id, server.id, replica.id, replica.id]
    assert_nested([server, queue, replica, wait, run])
    assert is_now(server) and queue.end <= replica.begin and wait.end <= run.begin
    assert {s.state for s in (server, replica)} == {"vendor=a%20b"} and server.flags == 0x301 and queue.flags == 0x101
    request_id = server.attributes.pop("slipway.request_id")
    assert request_id == answer.headers["x-request-id"]
    assert server.attributes == {
        "http.request.method": "POST", "http.route": "/v2/models/{model}/infer", "http.response.status_code": 200,
        "url.path": "/v2/models/one/infer", "url.scheme": "http", "server.address": "127.0.0.1", "server.port": traced.port,
        "client.address": "127.0.0.1", "network.peer.address": "127.0.0.1", "network.protocol.version": "1.1",
        "user_agent.original": "the test", "slipway.deployment": "one", "slipway.revision": 1}
    started = re.search(r"replica is up replica=(\S+) deployment=one", traced.log())
    assert replica.attributes == {"slipway.deployment": "one", "slipway.revision": 1, "slipway.batch.size": 1,
                                  "slipway.replica": started[1], "http.response.status_code": 200}
    assert run.attributes == {"slipway.batch.size": 1}
    assert not any(s.is_error for s in (server, queue, replica, wait, run))
    assert server.resource["service.name"] == "slipway" and server.resource["process.pid"] in traced.pids("gateway")
    assert collector.paths == {"/v1/traces"}
    assert eventually(lambda: f"trace_id={TRACE}" in traced.log())


def test_a_search_is_a_trace_of_embedding_and_finding(make_slipway, models, collector):
    service = make_slipway(otlp_endpoint=collector.url, trace_percent=0).start()
    service.deploy("words", folders.embedding(models))
    notes = service.create_collection("notes", "words", probe="hello")
    notes.put("a", "hello world", wait=True)
    answer = service.client.post(f"{notes.path}/search", json={"query": "hello"}, headers=traceparent())
    assert answer.status_code == 200
    spans = collector.trace(TRACE, 7)
    assert_nested(spans)
    by_name = {span.name: span for span in spans}
    server, embed, find = (by_name[n] for n in ("POST /v1/collections/{collection}/search", "embed", "find"))
    replica = by_name["embeddings words"]
    assert server.parent == PARENT and embed.parent == find.parent == server.id
    assert by_name["queue"].parent == replica.parent == embed.id
    assert by_name["batch wait"].parent == by_name["inference"].parent == replica.id
    assert server.attributes["slipway.collection"] == "notes" and embed.end <= find.begin
    assert {key: value for key, value in replica.attributes.items() if key.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "slipway", "gen_ai.request.model": "words",
        "gen_ai.usage.input_tokens": replica.attributes["gen_ai.usage.input_tokens"]}
    usage = service.client.post("/v1/embeddings", json={"model": "words", "input": "hello"}).json()["usage"]
    assert replica.attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"] > 0


def test_control_requests_and_errors_are_traced_and_probes_are_not(traced, collector):
    for path in ("/livez", "/readyz", "/metrics", "/v1/deployments/nothing?secret=s3cret", "/nothing/here"):
        traced.client.get(path)
    with socket.create_connection((traced.host, traced.port)) as old:
        old.sendall(b"GET /v2 HTTP/1.0\r\nHost: models.example\r\n\r\n")
        assert old.recv(65536)
    infer(traced, model="nothing", status=404)
    spans = collector.wait_for(lambda spans: any(s.attributes.get("url.path") == "/v2/models/nothing/infer" for s in spans), "the 404")
    names = [span.name for span in spans]
    assert not {"GET /livez", "GET /readyz", "GET /metrics"} & set(names)
    control = next(s for s in spans if s.name == "GET /v1/deployments/{deployment}" and s.attributes["http.response.status_code"] == 400)
    assert control.attributes["url.path"] == "/v1/deployments/nothing" and not control.is_error  # the client's error
    assert not any("s3cret" in str(span.attributes) for span in spans)
    old = next(s.attributes for s in spans if s.name == "GET /v2")
    assert (old["network.protocol.version"], old["server.address"], old["server.port"]) == ("1.0", "models.example", 80)
    unknown = next(s for s in spans if s.name == "GET")
    assert "http.route" not in unknown.attributes


def test_a_replica_that_dies_shows_as_two_attempts_in_one_trace(traced, models, collector):
    traced.deploy("poison", folders.poison(models))
    deadly = {"inputs": [{"name": "x", "datatype": "INT32", "shape": [1, 4], "data": [7, 7, 7, 7]}]}
    answer = traced.client.post("/v2/models/poison/infer", json=deadly, headers=traceparent())
    assert answer.status_code == 503
    spans = collector.wait_for(lambda spans: any(s.trace == TRACE and s.kind == "SERVER" for s in spans), "the trace")
    spans = [s for s in spans if s.trace == TRACE]
    assert_nested(spans)
    attempts = [s for s in spans if s.name == "inference poison"]
    assert len(attempts) >= 2 and all(s.is_error and s.attributes["error.type"] == "connection" for s in attempts)
    server = next(s for s in spans if s.kind == "SERVER")
    assert server.is_error and server.attributes["error.type"] == "503"


# ---- whose trace it is


def test_what_a_client_says_about_its_trace_is_followed(traced, collector):
    def fresh(number):
        return f"{number:032x}"

    infer(traced, traceparent(fresh(1), "00"))  # not recorded there, not here
    infer(traced, {"traceparent": f"00-{fresh(2).upper()}-{PARENT}-01".replace("2-", "A-")})  # malformed: a trace of our own
    infer(traced, [("traceparent", traceparent(fresh(3))["traceparent"])] * 2)  # two
    infer(traced, {"traceparent": f"cc-{fresh(4)}-{PARENT}-01-what-the-future-will-be"})  # a later version
    infer(traced, traceparent(fresh(5)))
    spans = collector.wait_for(lambda spans: any(s.trace == fresh(5) for s in spans), "the last")
    traces = {span.trace for span in spans}
    assert fresh(1) not in traces and fresh(3) not in traces and {fresh(4), fresh(5)} <= traces
    own = [s for s in spans if s.name == "POST /v2/models/{model}/infer" and not s.parent]
    assert len(own) == 2 and len({s.trace for s in own}) == 2


def test_the_share_that_is_traced_is_chosen(make_slipway, models, collector):
    service = make_slipway(otlp_endpoint=collector.url + "/", trace_percent=0).start()
    service.deploy("one", folders.add_one(models))
    for _ in range(20):
        infer(service)
    infer(service, traceparent())
    collector.trace(TRACE, 5)
    assert {span.trace for span in collector.seen()} == {TRACE}
    assert metric(service, "slipway_trace_spans_sent_total") == 5


def test_sighup_begins_to_trace_and_ends_it(make_slipway, models, collector, tmp_path):
    settings = tmp_path / "slipway.conf"
    settings.write_text("")
    service = make_slipway(settings=settings).start()
    service.deploy("one", folders.add_one(models))
    infer(service, traceparent(f"{1:032x}"))
    for number, lines in ((2, f"otlp_endpoint = {collector.url}\n"), (3, ""), (4, f"otlp_endpoint = {collector.url}\n")):
        settings.write_text(lines)
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: service.log().count(" reloaded") == number - 1, what="it is reloaded")
        infer(service, traceparent(f"{number:032x}"))
    collector.trace(f"{4:032x}", 5)
    assert {s.trace for s in collector.seen() if s.parent == PARENT} == {f"{2:032x}", f"{4:032x}"}


def test_without_an_endpoint_nothing_is_traced(make_slipway, models):
    service = make_slipway().start()
    service.deploy("one", folders.add_one(models))
    infer(service, traceparent())
    assert metric(service, "slipway_trace_spans_sent_total") == metric(service, "slipway_trace_spans_dropped_total") == 0
    assert eventually(lambda: "status=200" in service.log()) and "trace_id=" not in service.log()


# ---- collectors that are not well


def flood(service, requests, threads=4):
    """So many requests, each of which must be answered."""
    statuses = []

    def work():
        with httpx.Client(base_url=service.url, timeout=30) as client:
            statuses.extend(client.post("/v2/models/one/infer", json=INFER).status_code for _ in range(requests // threads))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert statuses == [200] * requests


def test_what_a_busy_collector_puts_off_is_sent_again(traced, collector):
    answers = iter([503, 429])
    collector.answer, collector.headers = lambda: next(answers, 200), {"Retry-After": "0"}
    infer(traced, traceparent())
    collector.trace(TRACE, 5)
    assert collector.requests >= 3


def test_what_a_collector_refuses_is_counted_and_not_sent_again(traced, collector):
    before = metric(traced, "slipway_trace_spans_dropped_total")
    collector.answer = 400
    infer(traced, traceparent())
    eventually(lambda: metric(traced, "slipway_trace_spans_dropped_total") >= before + 5, what="they are counted")
    assert TRACE not in {span.trace for span in collector.seen()}
    assert "the collector does not take the traces" in traced.log()


def test_what_a_collector_takes_in_part_is_counted(make_slipway, models, collector):
    collector.says = b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}'
    service = make_slipway(otlp_endpoint=collector.url, trace_percent=0).start()
    service.deploy("one", folders.add_one(models))
    infer(service, traceparent())
    eventually(lambda: metric(service, "slipway_trace_spans_dropped_total") == 2, what="they are counted")
    assert metric(service, "slipway_trace_spans_sent_total") == 3


@pytest.mark.parametrize("how", ["away", pytest.param("silent", marks=pytest.mark.sanitizer)])
def test_a_collector_that_does_not_answer_costs_no_request_and_no_memory(make_slipway, models, collector, how):
    """More requests than there are slots: the rest are not traced, and counted."""
    release = threading.Event()
    collector.answer = lambda: release.wait(120) and 200
    endpoint = "http://127.0.0.1:9" if how == "away" else collector.url
    service = make_slipway(otlp_endpoint=endpoint, access_log="false").start()
    service.deploy("one", folders.add_one(models))
    flood(service, 2100)
    resident = metric(service, "slipway_gateway_resident_memory_bytes")
    flood(service, 1200)
    assert metric(service, "slipway_trace_spans_dropped_total") > 500
    assert metric(service, "slipway_gateway_resident_memory_bytes") < resident + 16 * 2**20
    began = time.monotonic()
    assert service.stop() == 0  # with what is left unsent
    assert time.monotonic() - began < 30
    release.set()


def test_what_is_there_at_the_end_is_still_sent(traced, collector):
    infer(traced, traceparent())
    assert traced.stop() == 0
    assert len([span for span in collector.seen() if span.trace == TRACE]) == 5


def test_batches_have_a_ceiling(traced, collector):
    flood(traced, 600)
    collector.wait_for(lambda spans: sum(s.kind == "SERVER" for s in spans) >= 600, "all of them")
    assert max(collector.batches) <= 512
    assert sum(collector.batches) == len(collector.seen())
