"""Every answer that a system test gets is held against /openapi.json.

conftest.py calls install(): from then on whatever httpx (and httpx2, which OpenAI's client uses) brings from a service
that is watched is checked: its status, its media type, the headers that must be there, and its body, in which nothing
may stand that is not described. What is wrong is kept in `violations`, so that no thread and no retry hides it; the test
in whose course it came fails. What is streamed is not looked at, nor what is sent past these clients: raw sockets.

The description is that of the program under test, from a service of its own that is started once, when the first answer
is to be checked. Answers of other versions of the program cannot be held against it: ignored(service) leaves them out.
"""

import json
import re
import tempfile
import threading
from contextlib import contextmanager

import httpx
import jsonschema_rs

LOOKED_AT_MAXIMUM = 8 << 20  # bytes of a body

violations = []
visited = set()  # operationIds
_watched = set()  # host and port of the services under test
_lock = threading.Lock()
_description = None


def watch(url):
    _watched.add(_place(httpx.URL(url)))


def unwatch(url):
    _watched.discard(_place(httpx.URL(url)))


def _place(url):
    return str(url.host), url.port


@contextmanager
def ignored(service):
    """For what is another version's, or wrong on purpose."""
    unwatch(service.url)
    try:
        yield
    finally:
        watch(service.url)


def fetch():
    """The document, from a service of its own."""
    from slipway import Slipway

    with tempfile.TemporaryDirectory() as folder, Slipway(folder, is_watched=False) as service:
        return service.start().client.get("/openapi.json").raise_for_status().json()


def description():
    global _description
    with _lock:
        if _description is None:
            _description = Description(fetch())
        return _description


def strictly(schemas):
    """The same schemas, but nothing may stand in an answer that they do not have: what is new in the code shows."""
    for schema in schemas.values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return schemas


class Description:
    def __init__(self, document):
        self.document = document
        self.components = document["components"] | {"schemas": strictly(json.loads(json.dumps(document["components"]["schemas"])))}
        self.validators = {}
        routes = []
        for path, operations in document["paths"].items():
            pattern = re.compile("/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/")) + "/?")
            routes += [(path.count("{"), pattern, method, operation) for method, operation in operations.items()]
        self.routes = sorted(routes, key=lambda route: route[0])

    def operation(self, method, path):
        method = {"HEAD": "get"}.get(method, method.lower())
        return next((o for _, pattern, m, o in self.routes if m == method and pattern.fullmatch(path)), None)

    def operations(self):
        return {operation["operationId"] for *_, operation in self.routes}

    def resolve(self, value):
        while "$ref" in value:
            _, _, part, name = value["$ref"].split("/")
            value = self.components[part][name]
        return value

    def validator(self, schema):
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            whole = {"components": {"schemas": self.components["schemas"]}, "allOf": [schema]}
            self.validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        return self.validators[key]

    # ---- one answer

    def judge(self, method, path, answer):
        """What is wrong with the answer; each a sentence."""
        operation = self.operation(method, path)
        if operation is None:
            return self._judge_refusal(path, answer)
        if answer.status_code < 400:
            visited.add(operation["operationId"])
        described = operation["responses"].get(str(answer.status_code))
        if described is None:
            return [f"the status {answer.status_code} is not described"]
        described = self.resolve(described)
        missing = [name for name, header in described.get("headers", {}).items() if self.resolve(header).get("required") and name not in answer.headers]
        found = [f"the header {name} is missing" for name in missing]
        return found if method == "HEAD" else found + self._judge_content(described.get("content", {}), answer)

    def _judge_refusal(self, path, answer):
        """Of a route that there is not."""
        if answer.status_code not in (400, 401, 403, 404, 405, 408, 413, 429, 431, 503):
            return [f"the status {answer.status_code} is not one for a route that there is not"]
        if answer.request.method == "HEAD":
            return []
        is_v2, is_openai = re.match(r"/v2(/|$)", path), re.match(r"/v1/(embeddings|models)(/|$)", path)
        name = "InferenceError" if is_v2 else "OpenAIError" if is_openai else "Problem"
        return self._judge_content(self.components["responses"][f"{name}400"]["content"], answer)

    def _judge_content(self, content, answer):
        body = answer.content
        media = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if not content:
            return [f"there is a body of {len(body)} bytes, and none is described"] if body else []
        if media not in content:
            return [f"the media type {media!r} is not described; {', '.join(content)} is"]
        if len(body) > LOOKED_AT_MAXIMUM:
            return []
        if media == "application/x-ndjson":
            validator = self.validator(content[media]["x-line-schema"])
            return [words for line in body.splitlines() if line.strip() for words in self._judge_json(validator, line)]
        return self._judge_json(self.validator(content[media]["schema"]), body) if media.endswith("json") else []

    @staticmethod
    def _judge_json(validator, body):
        try:
            value = json.loads(body)
        except ValueError as error:
            return [f"the body is not JSON: {error}"]
        return [f"at /{'/'.join(map(str, e.instance_path))}: {e.message}" for e in validator.iter_errors(value)]


# ---- looking on

def observe(answer):
    """Of httpx or httpx2; read."""
    url = answer.request.url
    if _place(url) not in _watched:
        return
    found = description().judge(answer.request.method, url.raw_path.decode().partition("?")[0], answer)
    words = f"{answer.request.method} {url} was answered {answer.status_code}"
    violations.extend(f"{words}: {sentence}\n    {answer.text[:2000]}" for sentence in found)


def install():
    clients = [httpx]
    try:
        import httpx2

        clients.append(httpx2)
    except ImportError:
        pass
    for module in clients:
        _watch_client(module.Client)
        _watch_async_client(module.AsyncClient)


def _watch_client(client):
    original = client.send

    def send(self, request, *, stream=False, **more):
        answer = original(self, request, stream=stream, **more)
        if not stream:
            observe(answer)
        return answer

    client.send = send


def _watch_async_client(client):
    original = client.send

    async def send(self, request, *, stream=False, **more):
        answer = await original(self, request, stream=stream, **more)
        if not stream:
            observe(answer)
        return answer

    client.send = send
