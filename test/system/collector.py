"""An OTLP collector in the test: takes POST /v1/traces and decodes what comes with OpenTelemetry's own protocol files.

    with Collector() as collector:
        service = make_slipway(otlp_endpoint=collector.url)
        ...
        spans = collector.wait_for(lambda spans: ..., what="…")

`answer` is what each request gets: a status, or a function that returns one (and may take its time); with `headers` and
the body `says`. What is malformed fails the test at the end of the `with`.
"""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from slipway import eventually

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}
ID_SIZES = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def with_base64_ids(value):
    """OTLP writes ids as hexadecimal digits, which protobuf's own JSON does not know."""
    if isinstance(value, list):
        return [with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    for key in ID_SIZES.keys() & value.keys():
        assert re.fullmatch(r"[0-9a-f]{%d}" % ID_SIZES[key], value[key]) and set(value[key]) != {"0"}, (key, value[key])
    return {key: base64.b64encode(bytes.fromhex(item)).decode() if key in ID_SIZES else with_base64_ids(item) for key, item in value.items()}


def refuse_double_keys(pairs):
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


class Span:
    def __init__(self, span, resource):
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.name, self.kind, self.state, self.flags = span.name, KINDS[span.kind], span.trace_state, span.flags
        self.begin, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
        assert len(self.attributes) == len(span.attributes)
        self.is_error = span.status.code == 2
        self.resource = resource

    def __repr__(self):
        return f"{self.kind} {self.name!r} {self.attributes}"


def spans_of(body):
    document = json.loads(body, object_pairs_hook=refuse_double_keys)
    request = json_format.Parse(json.dumps(with_base64_ids(document)), ExportTraceServiceRequest())  # refuses unknown fields
    for resource_spans in request.resource_spans:
        resource = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            assert scope_spans.scope.name
            yield from (Span(span, resource) for span in scope_spans.spans)


class Collector:
    def __init__(self, answer=200):
        self.answer, self.headers, self.says = answer, {}, b"{}"
        self.spans, self.batches, self.faults, self.requests, self.paths = [], [], [], 0, set()
        self._lock = threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                collector._take(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)

    def _take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        status = self.answer() if callable(self.answer) else self.answer
        with self._lock:
            self.requests += 1
            self.paths.add(handler.path)
            try:
                assert handler.headers["Content-Type"] == "application/json"
                spans = list(spans_of(body))
                if status == 200:
                    self.spans += spans
                    self.batches.append(len(spans))
            except Exception as fault:  # noqa: BLE001: shown when the test ends
                self.faults.append(f"{fault!r}: {body[:2000]!r}")
        try:
            handler.send_response(status)
            for name, value in self.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(self.says)))
            handler.end_headers()
            handler.wfile.write(self.says)
        except OSError:
            pass  # it did not wait

    def seen(self):
        with self._lock:
            return list(self.spans)

    def wait_for(self, predicate, what):
        """The spans, when predicate(spans) is true."""
        return eventually(lambda: (spans := self.seen()) and predicate(spans) and spans, what=what)

    def trace(self, trace_id, count):
        """The spans of one trace, when there are so many: in the order of their beginnings."""
        found = self.wait_for(lambda spans: sum(s.trace == trace_id for s in spans) >= count, f"{count} spans of {trace_id}")
        found = sorted((s for s in found if s.trace == trace_id), key=lambda span: (span.begin, -span.end))
        assert len(found) == count, found
        return found

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        assert not self.faults, self.faults
