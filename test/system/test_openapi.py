"""/openapi.json says what the service does: it is valid and whole, it has the fields that the code knows, and what is asked
by it, well-formed or not, is answered as it says. That every other system test's answers are as it says is seen to by
conformance.py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

import conformance
import models as tiny
from slipway import ROOT

SRC = ROOT / "src"
# How much is asked: the same, and little, in each run; by hand other things, and more of them.
SEED = os.environ.get("SLIPWAY_OPENAPI_SEED")
EXAMPLES = os.environ.get("SLIPWAY_OPENAPI_EXAMPLES", "3")  # of each operation
TOKEN = "a-token-for-whoever-asks"


@pytest.fixture(scope="module")
def document():
    return conformance.description().document


def schema(document, name):
    return document["components"]["schemas"][name]


# ---- whole


def test_the_description_is_valid(document):
    assert document["openapi"] == "3.1.0"
    validate(document)


def routes():
    """(method, path, name) of http/routes.def."""
    text = (SRC / "http/routes.def").read_text()
    mounts = re.findall(r'^MODEL_TASK_ROUTES\("(.*)"\)', text, flags=re.M)
    for method, mount, path, name in re.findall(r'ROUTE\("(\w+)", (mount )?"([^"]+)", \w+, \w+, (\w+),', text):
        for prefix in mounts if mount else [""]:
            yield method, prefix + path, name


def test_every_route_is_described_and_nothing_else(document):
    described = {(m.upper(), p): o["operationId"] for p, operations in document["paths"].items() for m, o in operations.items()}
    assert {(method, path) for method, path, _ in routes()} == set(described)
    assert all(re.sub(r"_\d$", "", described[method, path]) == name for method, path, name in routes())
    rows = re.findall(r'^OPERATION\("(\w+)"\)', (SRC / "gateway/openapi_operations.def").read_text(), flags=re.M)
    assert sorted(rows) == sorted({name for *_, name in routes()})


def test_each_field_says_what_it_is(document):
    for name, fields in document["components"]["schemas"].items():
        assert fields.get("description"), name
        for field, words in fields.get("properties", {}).items():
            assert name == "Filter" or words.get("description"), f"{name}.{field}"


# ---- what the code knows

# The function that looks for unknown fields, and the schema whose fields it knows.
PARSERS = {
    "controller/request.c": {
        "parse_resources": "ResourceAllocation",
        "check_target": "DeploymentTargetConfig",
        "parse_fields": "DeploymentRequest",
        "request_parse_patch": "DeploymentPatch",
    },
    "controller/request_collection.c": {
        "request_parse_collection": "CollectionRequest",
        "get_overlap": "MinimumOverlap",
        "request_parse_reindex": "ReindexRequest",
        "request_parse_switch": "SwitchRequest",
        "get_model": "EmbeddingModel",
        "request_parse_reindex_run": "ReindexRunRequest",
    },
    "controller/request_token.c": {"token_request_parse": "TokenRequest"},
    "controller/api_models.c": {"parse_deploy": "ModelDeployRequest", "parse_delete": "ModelDeleteRequest"},
    "controller/api_upgrade.c": {"read_body": "UpgradeRequest"},
    "controller/api_packages.c": {"api_package_build": "PackageBuildRequest", "api_package_prune": "PackagePruneRequest"},
    "controller/api_push.c": {"api_package_push": "PackagePushRequest"},
    "controller/api_deployments.c": {"check_no_body": "NothingRequest"},
    "gateway/gateway_bulk.c": {"take_list": "DocumentList"},
    "gateway/gateway_search.c": {"read_body": "SearchRequest"},
    "collection/documents.c": {"collection_read_item": "DocumentItem", "collection_parse_document": "DocumentRequest"},
}


def functions(path):
    """(name, body) of each function of a file."""
    return re.findall(r"^(?:static )?[\w ]+?[ *](\w+)\([^;{]*?\) \{\n(.*?)^\}", (SRC / path).read_text(), flags=re.S | re.M)


def known_fields(body):
    found = re.search(r"static const char \*const (?:known|fields)\[\] = \{(.*?)\};", body, flags=re.S)
    return re.findall(r'"(\w+)"', found[1]) if found else []


def test_requests_know_the_fields_that_are_described_and_no_others(document):
    seen = {}
    for folder in ("controller", "gateway", "collection"):
        for path in sorted((SRC / folder).glob("*.c")):
            name = str(path.relative_to(SRC))
            for function, body in functions(name):
                if "json_check_fields(" in body:
                    seen.setdefault(name, {})[function] = known_fields(body)
    assert {name: set(of) for name, of in seen.items()} == {name: set(of) for name, of in PARSERS.items()}
    for name, of in PARSERS.items():
        for function, its_schema in of.items():
            assert sorted(seen[name][function]) == sorted(schema(document, its_schema)["properties"]), f"{name}: {function}"
    whole = seen["controller/request.c"]["parse_fields"]
    assert whole[-1] == "deployment_name" and sorted(whole[:-1]) == sorted(schema(document, "ModelConfig")["properties"])
    assert sorted(seen["controller/request_collection.c"]["request_parse_switch"][:3]) == sorted(schema(document, "RollbackRequest")["properties"])


def test_filters_know_the_comparisons_that_are_described(document):
    text = (SRC / "collection/filter.c").read_text()
    operations = re.findall(r'\[OP_\w+\] = "(\w+)"', text)
    groups = re.findall(r'\[NODE_\w+\] = "(\w+)"', text)
    assert sorted([*operations, *groups, "field"]) == sorted(schema(document, "Filter")["properties"])


def named(path, pattern):
    return re.findall(pattern, (SRC / path).read_text(), flags=re.M)


def test_what_may_stand_in_a_field_is_what_the_code_has_names_for(document):
    def values(name, field):
        return schema(document, name)["properties"][field]["enum"]

    task_statuses = named("controller/statuses.def", r'^TASK_STATUS\(\w+, "(\w+)"')
    assert values("DeploymentStatusResponse", "status") == named("controller/statuses.def", r'^DEPLOYMENT_STATUS\(\w+, "(\w+)"')
    for name in ("Task", "ModelTask", "ReindexTask"):
        assert values(name, "status") == task_statuses
    kinds = set(named("controller/steps.def", r"^KIND\((\w+)")) - {"retire_index"}  # of kind retire
    assert kinds <= set(values("Task", "kind"))
    assert values("Problem", "error") == named("base/errors.def", r'^ERROR_CLASS\(\w+, "(\w+)"')
    assert sorted(values("InferInput", "datatype")) == sorted(named("runner/tensor_types.def", r'^TENSOR_TYPE\(\w+, "(\w+)"'))
    assert sorted(values("TokenRequest", "role")) == sorted(named("http/token_roles.def", r'^TOKEN_ROLE\(\w+, "(\w+)"'))


def test_a_query_parameter_that_is_not_described_is_refused(document, slipway):
    """Of those that the controller knows at all, each route takes its own only."""
    names = re.findall(r'"(\w+)"', named("controller/api.c", r"parameter_names\[API_PARAMETER_COUNT\] = \{([^}]*)\}")[0])
    assert {"limit", "offset", "timeout"} <= set(names)
    taken = []
    for path, operations in document["paths"].items():
        if "get" not in operations or not path.startswith(("/v1/", "/api/", "/deploy", "/delete")) or path == "/v1/models":
            continue
        described = {parameter["name"] for parameter in operations["get"].get("parameters", [])}
        for name in sorted(set(names) - described):
            answer = slipway.client.get(re.sub(r"\{\w+\}", "any", path), params={name: "1"})
            taken += [f"{path}?{name}: {answer.status_code}"] if answer.status_code != 400 else []
    assert taken == []


# ---- how it is served


def test_the_description_has_a_tag_and_is_sent_once(slipway):
    first = slipway.client.get("/openapi.json")
    assert first.headers["Cache-Control"] == "no-cache" and first.headers["ETag"] == slipway.client.get("/openapi.json").headers["ETag"]
    for known in (first.headers["ETag"], f'"other", W/{first.headers["ETag"]}', "*"):
        again = slipway.client.get("/openapi.json", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert slipway.client.get("/openapi.json", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_model_is_asked_by_its_version(slipway, models):
    """Which other tests do by clients whose answers are not looked at."""
    assert slipway.deploy("sum", tiny.add_one(models, "sum"))["status"] == "active"
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    version = "/v2/models/sum/versions/1"
    assert slipway.client.get(version).json()["versions"] == ["1"]
    assert slipway.client.get(f"{version}/ready").json()["ready"]
    assert slipway.client.post(f"{version}/infer", json=body).json()["outputs"][0]["data"] == [2, 3, 4, 5]


def first_line(answer):
    return next(line for line in answer.iter_lines() if line.strip())


def test_what_is_followed_is_as_described(slipway, models):
    """Answers without an end, which conformance.py does not look at."""
    assert slipway.deploy("sum", tiny.add_one(models, "sum"))["status"] == "active"
    for path in ("/v1/events", "/v1/deployments/sum/events", "/v1/deployments/sum/logs"):
        with slipway.client.stream("GET", path, params={"follow": "true", "limit": 3}) as answer:
            line = first_line(answer)
        begun = httpx.Response(answer.status_code, headers=answer.headers, content=line.encode(), request=answer.request)
        assert begun.headers["Content-Type"] == "application/x-ndjson"
        assert conformance.description().judge("GET", path, begun) == []


# ---- looking on: an answer that is not as described is seen


@pytest.fixture(scope="module")
def judge():
    def ask(method, path, status, json=None, **headers):
        headers = {"X-Request-Id": "r", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = httpx.Request(method, f"http://service{path}")
        answer = httpx.Response(status, json=json, headers=headers, request=request)
        return conformance.description().judge(method, path, answer)

    return ask


PROBLEM = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no task", "error": "ResourceNotFoundError", "causes": ["no task"]}


def test_an_answer_as_described_passes(judge):
    assert judge("GET", "/v1/models", 200, {"object": "list", "data": []}) == []
    assert judge("GET", "/v1/tasks", 200, [], X_Total_Count="0") == []
    assert judge("GET", "/v1/tasks/t", 404, PROBLEM, Content_Type="application/problem+json") == []
    assert judge("GET", "/nowhere", 404, PROBLEM, Content_Type="application/problem+json") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "json", "headers"),
    [
        ("GET", "/v1/models", 200, {"object": "list", "data": [], "more": 1}, {}),  # a field too many
        ("GET", "/v1/models", 200, {"object": "list"}, {}),  # one that is missing
        ("GET", "/v1/models", 200, {"object": "list", "data": None}, {}),  # of another type
        ("GET", "/v1/models", 207, {"object": "list", "data": []}, {}),  # a status that is not described
        ("GET", "/v1/tasks", 200, [], {}),  # without its X-Total-Count
        ("GET", "/v1/tasks/t", 404, PROBLEM, {}),  # of another media type
        ("GET", "/v1/tasks/t", 404, {**PROBLEM, "error": "Oops"}, {"Content_Type": "application/problem+json"}),
        ("GET", "/v2/models/m", 404, PROBLEM, {}),  # an error in another family's shape
        ("GET", "/nowhere", 200, {}, {}),  # a route that there is not
    ],
)
def test_an_answer_that_is_not_as_described_is_seen(judge, method, path, status, json, headers):
    assert judge(method, path, status, json, **headers)


# ---- asking by it

CONFIGURATION = """
hooks = "openapi_hooks"
request-timeout = 60
continue-on-failure = true

[dictionaries]
deployment = { values = ["words", "sum"] }
collection = { values = ["notes"] }
document = { values = ["first", "second"] }
version = { values = ["1"] }

[parameters]
"path.deployment" = { dictionary = "deployment", probability = 0.7 }
"path.model" = { dictionary = "deployment", probability = 0.7 }
"path.collection" = { dictionary = "collection", probability = 0.7 }
"path.document" = { dictionary = "document", probability = 0.5 }
"path.version" = { dictionary = "version", probability = 0.7 }

# It would replace the program that is asked.
[[operations]]
include-operation-id = "upgrade_begin"
enabled = false
"""
CHECKS = (
    "not_a_server_error status_code_conformance content_type_conformance response_headers_conformance "
    "response_schema_conformance negative_data_rejection missing_required_header unsupported_method"
)


@pytest.fixture
def asked(make_slipway, models):
    """A service with something of everything in it."""
    service = make_slipway(token=TOKEN, maximum_deployments=4, memory_budget="1Gi", is_watched=False).start()
    for name, model in (("sum", tiny.add_one(models, "sum")), ("words", tiny.embedding(models, "words")), ("spare", models / "sum")):
        assert service.deploy(name, model)["status"] == "active"
    notes = service.create_collection("notes", "words", probe="hello", keep_queries=True)
    for name, text in (("first", "hello world"), ("second", "the ship slides down the way")):
        notes.put(name, text, {"lang": "en"}, wait=True)
    notes.search("hello")
    return service


@pytest.mark.sanitizer
@pytest.mark.timeout(900)
def test_what_is_asked_by_the_description_is_answered_by_it(asked, models, tmp_path):
    """Thousands of requests, half of them malformed on purpose: none is answered with a server's error, each with a status,
    a media type, headers and a body that are described, and what the description forbids is refused."""
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [Path(sys.executable).parent / "st", "--config-file", configuration, "run", f"{asked.url}/openapi.json"]
    command += ["--seed", SEED] if SEED else ["--generation-deterministic"]
    command += ["--max-examples", EXAMPLES, "--phases", "coverage,fuzzing"]
    command += ["--no-color", "--warnings", "off", "--header", f"Authorization: Bearer {TOKEN}", "--checks", ",".join(CHECKS.split())]
    environment = {**os.environ, "OPENAPI_MODEL": str(models / "sum"), "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-2000:]
    all_but = 2  # upgrade_begin, and the description itself
    assert re.search(r"^  Tested: (\d+)$", run.stdout, flags=re.M)[1] == str(len(list(routes())) - all_but), run.stdout[-2000:]
    assert asked.client.get("/readyz").status_code == 200
