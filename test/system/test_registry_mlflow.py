"""MLflow: what only this registry promises (src/registry/registry_mlflow.c), against real tracking servers of 3.x and 2.x,
with models that MLflow's own client logged. What all registries promise is in test_registries.py."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import models as tiny
from deployments import amount, deploy, get, settle, update
from faulty_proxy import Fault, FaultyProxy
from registry_bed import digest_of
from servers_mlflow import API, PASSWORD, USER

BUILD = Path(os.environ.get("SLIPWAY_BUILD", Path(__file__).parents[2] / "build"))
HEX32 = "0123456789abcdef" * 2


def answer_of(status, body, kind="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


class Instead(Fault):
    """Answers a body of its own to requests whose target has this in it."""

    def __init__(self, part, body, status=200):
        self.part, self.answer = part, answer_of(status, body)

    def instead(self, method, target, request):
        return self.answer if self.part in target else None


class Tool:
    """fetch_model over a registries file or an environment."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def __call__(self, uri, conf=None, server=None, *flags, **environment):
        """(folder, resolution, last line)"""
        self.count += 1
        folder, file = self.folder / f"fetched-{self.count}", self.folder / f"registries-{self.count}"
        folder.mkdir()
        if conf is None:
            conf = f"[mlflow]\nurl = {server}\n" if isinstance(server, str) else f"[mlflow]\nurl = {server.url}\n" if server else ""
        file.write_text(conf)
        file.chmod(0o600)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment}
        done = subprocess.run([BUILD / "test" / "fetch_model", f"--registries={file}", "--attempts=2", *flags, uri, folder],
                              capture_output=True, text=True, timeout=120, env=environment)
        assert PASSWORD not in done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        return SimpleNamespace(folder=folder, resolution=next((line for line in lines if "files" in line), None), **{
            "tree": None, "error": None, "message": None, "transient": None, **lines[-1]})

    def fails(self, uri, *parts, error="ModelRegistryError", transient=False, **options):
        seen = self(uri, **options)
        assert (seen.error, seen.transient) == (error, transient), seen
        for part in parts:
            assert part in seen.message, seen.message
        return seen.message


@pytest.fixture
def tool(tmp_path):
    return Tool(tmp_path)


@pytest.fixture(scope="module")
def worlds(mlflow_servers, tmp_path_factory):
    """Of each version a server with what its client logged: a model that adds 1 as demo 1 (champion, Production), one that
    adds 10 as demo 2, one of another flavor, and a run with two models."""
    mlflow_servers.launch(("3", False), ("2", False), ("3", True), ("2", True))
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def get_world(version):
        if version not in made:
            server = mlflow_servers.get(version)
            one, ten = (str(tiny.add_one(folder, f"{name}-{version}", amount=much) / "model.onnx")
                        for name, much in (("one", 1), ("ten", 10)))
            done = server.do([
                {"do": "onnx", "file": one, "name": "model", "registered": "demo"},
                {"do": "onnx", "file": ten, "name": "model", "registered": "demo"},
                {"do": "python", "name": "echo"},
                {"do": "onnx", "file": one, "name": "a"},
                {"do": "onnx", "file": ten, "name": "b", "run": 3},
                {"do": "call", "method": "set_registered_model_alias", "arguments": ["demo", "champion", "1"]},
                {"do": "call", "method": "transition_model_version_stage", "arguments": ["demo", "1", "Production"]},
                # In 2.x a second model of one name in a run replaces the first.
                *([{"do": "onnx", "file": ten, "name": "a", "run": 3}] if version == "3" else [])])
            made[version] = SimpleNamespace(server=server, version=version, one=done[0], ten=done[1], echo=done[2], two=done[3],
                                            again=done[-1])
        return made[version]

    return get_world


@pytest.fixture(params=["3", "2"])
def world(request, worlds):
    return worlds(request.param)


def pinned(world, logged):
    """What the model of a run is pinned to: the logged model in 3.x, in 2.x its place in the ended run."""
    return logged["model_uri"] if world.version == "3" else f"runs:/{logged['run_id']}/model"


# ---- what URIs name


@pytest.mark.sanitizer
def test_every_way_of_naming_a_model_that_the_client_logged(world, tool):
    run, version = world.one["run_id"], "models:/demo/1"
    ways = {f"runs:/{run}/model": pinned(world, world.one), f"mlflow_runs:/{run}/model": pinned(world, world.one),
            f"runs:/{run}": pinned(world, world.one), "models:/demo/1": version, "models:/demo@champion": version,
            "models:/demo/Production": version, "models:/demo/production": version}
    if world.version == "3":
        ways[world.one["model_uri"]] = world.one["model_uri"]
    seen = {uri: tool(uri, server=world.server) for uri in ways}
    assert {uri: each.resolution and each.resolution["resolved_uri"] for uri, each in seen.items()} == ways, seen
    assert len({each.tree for each in seen.values()}) == 1
    first = seen["models:/demo/1"]
    assert sorted(path.name for path in first.folder.iterdir()) == ["MLmodel", "conda.yaml", "model.onnx", "python_env.yaml",
                                                                   "requirements.txt"]
    newest = tool("models:/demo/latest", server=world.server)
    assert newest.resolution["resolved_uri"] == "models:/demo/2" and newest.tree not in (None, first.tree)


def test_mlmodel_says_what_the_model_is(world, tool):
    facts = tool("models:/demo/1", server=world.server).resolution["facts"]
    assert facts["flavors"] == ["onnx", "python_function"] and facts["onnx_file"] == "model.onnx"
    assert facts["run_id"] == world.one["run_id"] and facts["mlflow_version"].startswith(world.version)
    assert facts["signature"]["inputs"] == [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]


def test_servers_are_told_apart_by_name(worlds, tool):
    three, two = worlds("3"), worlds("2")
    conf = f"[mlflow new]\nurl = {three.server.url}/\n[mlflow old]\nurl = {two.server.url}\n"
    seen = tool("models://old/demo@champion", conf)
    assert seen.resolution["resolved_uri"] == "models://old/demo/1"
    assert seen.tree == tool("models:/demo/1", server=two.server).tree
    run = f"runs://new/{three.one['run_id']}/model"
    assert tool(run, conf).resolution["resolved_uri"] == three.one["model_uri"].replace("models:/", "models://new/")
    tool.fails("models:/demo/1", "is not configured here", "[mlflow]", error="ConfigurationError", conf=conf)
    tool.fails("models://older/demo/1", "[mlflow older]", error="ConfigurationError", conf=conf)


def test_a_run_with_several_models_is_to_say_which(world, tool):
    run = world.two["run_id"]
    message = tool.fails(f"runs:/{run}", "several models", f"runs:/{run}/", error="ConfigurationError", server=world.server)
    assert "a, b" in message or "b, a" in message or "a and b" in message
    assert tool(f"runs:/{run}/b", server=world.server).tree


def test_the_newest_model_of_a_name_counts(worlds, tool):
    world = worlds("3")
    seen = tool(f"runs:/{world.two['run_id']}/a", server=world.server)
    assert seen.resolution["resolved_uri"] == world.again["model_uri"] != world.two["model_uri"]


def test_a_file_in_a_model_is_a_model(world, tool):
    seen = tool(f"runs:/{world.one['run_id']}/model/model.onnx", server=world.server)
    whole = tool("models:/demo/1", server=world.server)
    assert [path.name for path in seen.folder.iterdir()] == ["model.onnx"]
    assert (seen.folder / "model.onnx").read_bytes() == (whole.folder / "model.onnx").read_bytes()
    tool.fails(f"runs:/{world.one['run_id']}/model/conda.yaml", "neither a folder nor an .onnx file", error="ConfigurationError",
               server=world.server)


def test_a_run_that_goes_on_pins_nothing(world, tool):
    run = world.server.create_run()
    world.server.put_files(world.server.artifact_path(run) + "/raw", {"model.onnx": b"x", "deep/er/file": b"y"})
    seen = tool(f"runs:/{run}/raw", server=world.server)
    assert seen.tree == digest_of({"model.onnx": b"x", "deep/er/file": b"y"})
    assert seen.resolution["resolved_uri"] is None
    world.server.end_run(run)
    assert tool(f"runs:/{run}/raw", server=world.server).resolution["resolved_uri"] == f"runs:/{run}/raw"


def test_what_is_not_there_is_said_in_mlflows_words(world, tool):
    run = world.one["run_id"]
    for uri, words in {
        f"runs:/{HEX32}/model": f"404 from the server: RESOURCE_DOES_NOT_EXIST: Run with id={HEX32} not found",
        f"runs:/{run}/no/such": "no/such of MLflow at http://127.0.0.1:",
        "models:/demo/9": "Model Version (name=demo, version=9) not found",
        "models:/none/1": "Model Version (name=none, version=1) not found",
        "models:/demo@nobody": "Registered model alias nobody not found",
        "models:/demo/Staging": "has no version in the stage Staging",
        "models:/demo/Stage": "Invalid Model Version stage",
        f"models:/m-{HEX32}": f"m-{HEX32}",
    }.items():
        tool.fails(uri, words, server=world.server)


def test_another_flavor_is_refused_by_name_before_a_byte_is_fetched(world, tool):
    seen = tool(f"runs:/{world.echo['run_id']}/echo", server=world.server)
    assert (seen.error, seen.transient) == ("ConfigurationError", False)
    assert "no flavor onnx" in seen.message and "it has python_function" in seen.message
    assert not list(seen.folder.iterdir())


def test_a_model_that_is_still_uploaded_is_waited_for(worlds, tool):
    server = worlds("3").server
    model = server.ask("POST", API + "logged-models", json={"experiment_id": "0", "name": "half"})["model"]["info"]
    tool.fails(f"models:/{model['model_id']}", "still being uploaded", transient=True, server=server)
    server.ask("PATCH", API + f"logged-models/{model['model_id']}",
               json={"model_id": model["model_id"], "status": "LOGGED_MODEL_UPLOAD_FAILED"})
    tool.fails(f"models:/{model['model_id']}", "has failed", server=server)


def test_bytes_that_changed_are_known_in_3_and_never_assumed_in_2(world, tool):
    server, run = world.server, world.server.create_run()
    folder = server.artifact_path(run) + "/raw"

    def fingerprint(data, at_rest=True):
        server.put_files(folder, {"model.onnx": data}, at_rest)
        return tool(f"runs:/{run}/raw", None, server, "--resolve-only").resolution["fingerprint"]

    assert fingerprint(b"fresh", at_rest=False) is None, "it may change again within the clock's tick"
    first, other = fingerprint(b"first"), fingerprint(b"other")
    if world.version == "3":
        assert first and other and first != other
    else:
        assert first is None and other is None


# ---- what a server may not say


@pytest.mark.parametrize("listed, error, words", [
    ([{"path": "../model.onnx", "file_size": 1}], "ConfigurationError", ".."),
    ([{"path": "/etc/passwd", "file_size": 1}], "ConfigurationError", "/etc/passwd"),
    ([{"path": "..", "is_dir": True}], "ConfigurationError", "a folder by a name"),
    ([{"path": "%2e%2e", "is_dir": True}], "ConfigurationError", "a folder by a name"),
    ([{"path": "a/b", "is_dir": True}], "ConfigurationError", "a folder by a name"),
    ([{"path": "model.onnx", "file_size": 1}, {"path": "Model.onnx", "file_size": 1}], "ConfigurationError", "case"),
    ([{"path": "model.onnx", "file_size": 10**12}], "ConfigurationError", "larger than"),
    ([{"path": "again", "is_dir": True}], "ConfigurationError", "deeper than"),
    ([{"path": f"{number}", "file_size": 1} for number in range(100_001)], "ConfigurationError", "100000"),
    ([{"is_dir": False}], "ModelRegistryError", "without a name"),
    (7, "ModelRegistryError", "no files"),
])
def test_a_listing_leads_nowhere_else(worlds, tool, listed, error, words):
    server = worlds("2").server
    with FaultyProxy(server.address) as proxy:
        proxy.fault = Instead("/mlflow-artifacts/artifacts?path=", {"files": listed})
        seen = tool(f"runs:/{worlds('2').one['run_id']}/model", None, "http://{}:{}".format(*proxy.address),
                    "--size-maximum=1000000000")
    assert (seen.error, seen.transient) == (error, False) and words in seen.message, seen
    assert not list(seen.folder.iterdir())


@pytest.mark.parametrize("uri, error, words", [
    ("mlflow-artifacts:/1/../../etc", "ConfigurationError", "not taken"),
    ("mlflow-artifacts:/1/%2e%2e/%2e%2e/etc", "ConfigurationError", "not taken"),
    ("mlflow-artifacts://169.254.169.254/x", "ConfigurationError", "another server"),
    ("http://127.0.0.1:1/api/2.0/mlflow-artifacts/artifacts/x", "ConfigurationError", "another server"),
    ("file:///etc", "ConfigurationError", "outside the folders"),
    ("/etc", "ConfigurationError", "outside the folders"),
    ("gs://bucket/x", "ConfigurationError", "--serve-artifacts"),
    ("s3://bucket/x", "ConfigurationError", "s3"),
    ("models:/demo/1", "ModelRegistryError", "lead to each other"),
    ("runs://other/x/y", "ConfigurationError", "another server"),
])
def test_a_version_leads_nowhere_else(worlds, tool, uri, error, words):
    server = worlds("3").server
    with FaultyProxy(server.address) as proxy:
        proxy.fault = Instead("/model-versions/get-download-uri", {"artifact_uri": uri})
        seen = tool("models:/demo/1", server="http://{}:{}".format(*proxy.address))
    assert (seen.error, seen.transient) == (error, False) and words in seen.message, seen


def test_dots_in_escapes_are_refused_before_anybody_is_asked(tool):
    for uri in (f"runs:/{HEX32}/%2e%2e/%2e%2e/model", f"runs:/{HEX32}/../model", "models:/%2e%2e/1"):
        tool.fails(uri, error="ConfigurationError", server="http://127.0.0.1:9")


def test_what_is_no_tracking_server_is_said(tool, s3_server):
    with FaultyProxy(s3_server.address) as proxy:
        proxy.fault = Instead("/", b"<html>hello</html>")
        tool.fails("models:/demo/1", "is it the address of a tracking server", server="http://{}:{}".format(*proxy.address))


def test_a_path_before_the_api_is_kept(worlds, tool):
    with FaultyProxy(worlds("3").server.address) as proxy:
        url = "http://{}:{}/behind/a/gate".format(*proxy.address)
        tool.fails("models:/demo/1", "404 from the server", server=url + "/")
        tool.fails("models:/demo/1", "404 from the server", MLFLOW_TRACKING_URI=url)
        assert {target.partition("?")[0] for _, target, _ in proxy.requests} == {
            "/behind/a/gate/api/2.0/mlflow/model-versions/get-download-uri"}


# ---- as whom


@pytest.fixture(params=["3", "2"])
def guarded(request, worlds, mlflow_servers):
    """A server with basic auth, and a model in it."""
    server = mlflow_servers.get(request.param, auth=True)
    if not hasattr(server, "model_uri"):
        run = server.create_run()
        server.put_files(server.artifact_path(run) + "/raw", {"model.onnx": b"guarded"})
        server.ask("POST", "/api/2.0/mlflow/users/create", json={"username": "guest", "password": "guest-password-1"})
        server.model_uri = f"runs:/{run}/raw"
    return server


def test_the_right_credentials_open_the_door(guarded, tool, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    seen = tool(guarded.model_uri, f"[mlflow]\nurl = {guarded.url}\nusername = {USER}\npassword_file = {secret}\n")
    assert seen.tree == digest_of({"model.onnx": b"guarded"})
    if guarded.version == "2":
        return  # whose key is taken does not depend on the server, which takes half a second to look at each
    inside = guarded.url.replace("://", f"://{USER}:{PASSWORD}@")
    assert tool(guarded.model_uri, "", None, "--resolve-only", MLFLOW_TRACKING_URI=inside).resolution
    named = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD, "MLFLOW_TRACKING_TOKEN": "not looked at"}
    assert tool(guarded.model_uri, "", None, "--resolve-only", MLFLOW_TRACKING_URI=guarded.url, **named).resolution
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = {USER}\nmlflow_tracking_password = {PASSWORD}\n")
    assert tool(guarded.model_uri, "", None, "--resolve-only", MLFLOW_TRACKING_URI=guarded.url).resolution


def test_a_closed_door_is_final_and_says_whose_key_is_missing(guarded, tool):
    tool.fails(guarded.model_uri, "401 from the server", "no credentials are configured", server=guarded)
    section = f"[mlflow]\nurl = {guarded.url}\n"
    tool.fails(guarded.model_uri, "401 from the server", "does not take the configured credentials",
               conf=f"{section}username = {USER}\npassword = wrong\n")
    tool.fails(guarded.model_uri, "401 from the server", conf=f"{section}token = wrong\n")
    tool.fails(guarded.model_uri, "403 from the server", "Permission denied",
               conf=f"{section}username = guest\npassword = guest-password-1\n")


# ---- artifacts that the server does not hand through


def outside_run(server, location, name):
    """An ended run in an experiment whose artifacts are at `location`; where its own are."""
    experiment = server.ask("POST", API + "experiments/create", json={"name": name, "artifact_location": location})
    run = server.create_run(experiment["experiment_id"])
    server.end_run(run)
    return run, server.ask("GET", API + "runs/get", params={"run_id": run})["run"]["info"]["artifact_uri"]


ONNX = b"flavors:\n  onnx: {data: model.onnx}\n"
SKLEARN = b"flavors:\n  sklearn: {pickled_model: model.pkl}\n"


def test_artifacts_in_a_folder_are_read_within_the_roots(world, tool, tmp_path):
    roots = tmp_path / "roots"
    run, place = outside_run(world.server, f"file://{roots}/mlruns", f"files of {tmp_path}")
    files = {"MLmodel": ONNX, "model.onnx": b"in a folder", "deep/x": b"y"}
    for path, data in files.items():
        file = Path(place.removeprefix("file://")) / "model" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    seen = tool(f"runs:/{run}/model", None, world.server, f"--root={roots}")
    assert seen.tree == digest_of(files) and seen.resolution["facts"]["onnx_file"] == "model.onnx"
    assert seen.resolution["resolved_uri"] == f"runs:/{run}/model"
    other = tmp_path / "other"
    other.mkdir()
    seen = tool(f"runs:/{run}/model", None, world.server, f"--root={other}")
    assert seen.error == "ConfigurationError" and "outside the folders that models may come from" in seen.message
    (Path(place.removeprefix("file://")) / "model" / "MLmodel").write_bytes(SKLEARN)
    seen = tool(f"runs:/{run}/model", None, world.server, f"--root={roots}")
    assert seen.error == "ConfigurationError" and "it has sklearn" in seen.message


def test_artifacts_in_s3_are_read_from_the_configured_server(world, tool, s3_server):
    s3_server.make_bucket("models")
    run, place = outside_run(world.server, "s3://models/mlruns", f"objects of {world.version}")
    prefix = place.removeprefix("s3://models/") + "/model/"
    files = {"MLmodel": ONNX, "model.onnx": b"in a bucket", "deep/x": b"y"}
    s3_server.publish("models", prefix, files)
    mlflow = f"[mlflow]\nurl = {world.server.url}\n"
    s3 = (f"[s3]\nendpoint = {s3_server.url}\naccess_key_id = {s3_server.key}\n"
          f"secret_access_key = {s3_server.secret}\n")
    seen = tool(f"runs:/{run}/model", mlflow + s3)
    assert seen.tree == digest_of(files), seen
    assert seen.resolution["facts"]["flavors"] == ["onnx"] and seen.resolution["fingerprint"]
    tool.fails(f"runs:/{run}/model", "s3", "is not configured here", error="ConfigurationError", conf=mlflow)
    s3_server.publish("models", prefix, {**files, "MLmodel": SKLEARN})
    tool.fails(f"runs:/{run}/model", "it has sklearn", error="ConfigurationError", conf=mlflow + s3)


# ---- by the running service


@pytest.fixture
def service(make_slipway, tmp_path):
    def make(server, **settings):
        file = tmp_path / "registries"
        file.write_text(f"[mlflow]\nurl = {server.url}\n")
        file.chmod(0o600)
        return make_slipway(registries=file, **settings).start()

    return make


@pytest.mark.sanitizer
def test_a_champion_is_deployed_and_pinned(world, service):
    slipway, server = service(world.server), world.server
    deployment = deploy(slipway, "demo", "models:/demo@champion")
    assert deployment["deployed_model_version"] == "models:/demo/1"
    assert deployment["model_uri"] == "models:/demo@champion" and amount(slipway, "demo") == 1
    try:
        server.ask("POST", API + "registered-models/alias", json={"name": "demo", "alias": "champion", "version": "2"})
        assert get(slipway, "demo")["deployed_model_version"] == "models:/demo/1"
        deployment = update(slipway, "demo", "models:/demo@champion")
        assert deployment["deployed_model_version"] == "models:/demo/2" and amount(slipway, "demo") == 10
    finally:
        server.ask("POST", API + "registered-models/alias", json={"name": "demo", "alias": "champion", "version": "1"})
    deployment = deploy(slipway, "run", f"mlflow_runs:/{world.one['run_id']}/model")
    assert deployment["deployed_model_version"] == pinned(world, world.one) and amount(slipway, "run") == 1


def test_a_missing_run_fails_the_deployment_in_mlflows_words(world, service):
    slipway = service(world.server)
    deployment = deploy(slipway, "gone", f"mlflow_runs:/{HEX32}/my_model", status="failed")
    assert deployment["error"]["error"] == "ModelRegistryError", deployment
    assert f"mlflow_runs:/{HEX32}/my_model" in deployment["message"]
    assert f"Run with id={HEX32} not found" in deployment["message"]


def test_a_bare_id_is_a_run_of_the_default_registry(world, service):
    slipway = service(world.server, default_registry="runs:/{id}/model")
    run = world.ten["run_id"]
    answer = slipway.client.post("/deploy", json={"embedding_model_id": run})
    assert answer.status_code == 200, answer.text
    deployment = settle(slipway, run)
    assert deployment["deployed_model_version"] == pinned(world, world.ten) and amount(slipway, run) == 10


def test_a_uri_that_nobody_is_configured_for_is_refused_at_once(slipway):
    answer = slipway.client.post("/v1/deployments", json={
        "deployment_name": "x", "model_uri": "models:/demo/1", "deployment_target_config": {"type": "api_service"}})
    assert answer.status_code == 400 and "MLFLOW_TRACKING_URI" in answer.json()["detail"], answer.text
