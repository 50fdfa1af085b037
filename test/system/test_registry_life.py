"""What the service makes of its registries: models that come from real servers through deploys, updates, cancels and
deaths; the registries file and its reload; and that no credential is ever seen.

What the registries themselves promise is in test_registries.py. Between service and server stands a proxy that counts the
files it passes on, and can hold them.
"""

import base64
import hashlib
import signal
import socket
import subprocess
import threading
import time

import pytest

import models as made
import registry_beds
from deployments import (amount, answered, begin_delete, begin_deploy, deploy, get, packages, request,
                         settle, steps, task, update, wait_task)
from faulty_proxy import Fault, FaultyProxy, Status
from pauses import PROGRAM as PAUSED, Pauses
from registry_bed_http import tar_gz_of
from slipway import PROGRAM, eventually, in_own_mounts

SERVED = [name for name in registry_beds.NAMES if name != "file"]
ONE_OF_A_KIND = [name for name in SERVED if name != "mlflow2"]  # its server takes seconds to answer


class Hold(Fault):
    """Keeps each file back until it is released."""

    def __init__(self):
        self.arrived, self.released = threading.Event(), threading.Event()

    def change(self, answer):
        if answer.is_file:
            self.arrived.set()
            self.released.wait(60)
        return answer.head + answer.body


class HoldThenMiss(Hold):
    """The first file that is released is not there."""

    def change(self, answer):
        whole = super().change(answer)
        if not answer.is_file or answer.number > 1:
            return whole
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def tree(folder, amount=1.0):
    """A model of a megabyte that adds `amount`, as path to bytes."""
    name = f"tree-{amount:g}"
    made.padded(folder, name, amount, mebibytes=1)
    return {str(path.relative_to(folder / name)): path.read_bytes()
            for path in (folder / name).rglob("*") if path.is_file()}


@pytest.fixture
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    return lambda amount=1.0: tree(folder, amount)


@pytest.fixture(params=ONE_OF_A_KIND)
def bed(request):
    return request.getfixturevalue(f"{request.param}_bed")


@pytest.fixture
def proxy(bed):
    with FaultyProxy(bed.address) as proxy:
        yield proxy
        getattr(proxy.fault, "released", threading.Event()).set()


@pytest.fixture
def serve(make_slipway, tmp_path):
    """A service that knows the bed by the proxy's address."""

    def start(bed, proxy, environment=(), **settings):
        file = tmp_path / "registries"
        write(file, bed.conf(proxy.address))
        environment = {"MLFLOW_TRACKING_URI": "", "AWS_PROFILE": "", **bed.environment(), **dict(environment)}
        return make_slipway(registries=file, step_backoff="20ms", environment=environment, **settings).start()

    return start


def write(file, text):
    file.write_text(text)
    file.chmod(0o600)


def settled(bed):
    """Until what was published has its identity."""
    time.sleep(bed.settles_s)


# ---- deploying ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bed", SERVED, indirect=True)
@pytest.mark.sanitizer
def test_a_model_of_every_registry_answers_and_its_exact_version_is_shown(serve, bed, proxy, trees):
    files = trees(3.0)
    bed.publish("life", files)
    service = serve(bed, proxy)
    deployment = deploy(service, "life", bed.uri("life", proxy.address))
    assert amount(service, "life") == 3.0
    version = deployment["deployed_model_version"]
    assert packages(service) == {bed.tree_of(files)}
    if bed.name.startswith("mlflow"):
        assert version == bed.uri("life", proxy.address)  # a run is an exact thing
    elif bed.pins:
        assert "sha256" in version and version.startswith(bed.uri("life", proxy.address).split(":v1")[0]), version
    else:
        assert version == f"package:sha256:{bed.tree_of(files)}"
    progress = task(service, deployment["task_id"])["progress"]
    assert progress["done"] == progress["total"] > 1 << 20, progress


def test_a_second_deployment_of_what_is_known_fetches_no_file(serve, bed, proxy, trees):
    if not bed.knows_identity:
        pytest.skip("its server tells nothing that would be another if the bytes were")
    bed.publish("twice", trees())
    settled(bed)
    service = serve(bed, proxy)
    first = deploy(service, "one", bed.uri("twice", proxy.address))
    assert proxy.files() == 1
    second = deploy(service, "two", bed.uri("twice", proxy.address))
    assert proxy.files() == 1
    assert second["deployed_model_version"] == first["deployed_model_version"] and amount(service, "two") == 1.0


def begin_two(service, bed, proxy, fault=Hold):
    """Two deploys of one model: the first has its file held back, the second waits for the first."""
    uri = bed.uri("shared", proxy.address)
    proxy.fault = fault()
    first = begin_deploy(service, "first", uri)
    assert proxy.fault.arrived.wait(60)
    second = begin_deploy(service, "second", uri)
    words = f"fetch waits for task {first['task_id']}, which fetches the same model"
    eventually(lambda: words in steps(service, "second"), what="the second waits")
    return first, second


def shares(bed):
    """Whether two at once can be told to want the same: by what it is, or by a name that cannot change."""
    return bed.knows_identity or bed.pins


def test_two_deployments_of_one_model_at_once_are_one_download(serve, bed, proxy, trees):
    if not shares(bed):
        pytest.skip("nothing tells that they want the same")
    bed.publish("shared", trees())
    settled(bed)
    service = serve(bed, proxy)
    begin_two(service, bed, proxy)
    assert packages(service) == set()
    proxy.fault.released.set()
    first, second = settle(service, "first"), settle(service, "second")
    assert proxy.files() == 1 and len(packages(service)) == 1
    assert first["deployed_model_version"] == second["deployed_model_version"]
    assert amount(service, "first") == amount(service, "second") == 1.0


def test_who_waits_for_a_download_that_is_canceled_fetches_it(serve, http_bed, trees):
    http_bed.publish("shared", trees())
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy)
        first, _ = begin_two(service, http_bed, proxy)
        answered(service.client.post(f"/v1/tasks/{first['task_id']}/cancel"), 202)
        assert wait_task(service, first["task_id"])["status"] == "canceled"
        proxy.fault.released.set()
        settle(service, "second")
        assert amount(service, "second") == 1.0 and proxy.files() == 2
        assert not any((service.state / "packages" / "incoming").iterdir())


def test_who_waits_for_a_download_that_fails_fetches_it(serve, http_bed, trees):
    http_bed.publish("shared", trees())
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy)
        begin_two(service, http_bed, proxy, fault=HoldThenMiss)
        proxy.fault.released.set()
        assert "404" in settle(service, "first", "failed")["message"]
        settle(service, "second")
        assert amount(service, "second") == 1.0 and proxy.files() == 2


def test_who_waits_can_be_canceled_and_the_download_goes_on(serve, http_bed, trees):
    http_bed.publish("shared", trees())
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy)
        _, second = begin_two(service, http_bed, proxy)
        answered(service.client.post(f"/v1/tasks/{second['task_id']}/cancel"), 202)
        assert wait_task(service, second["task_id"])["status"] == "canceled"
        proxy.fault.released.set()
        settle(service, "first")
        assert amount(service, "first") == 1.0 and proxy.files() == 1


def test_a_stop_ends_who_fetches_and_who_waits_and_both_go_on_at_the_next_start(serve, http_bed, trees):
    http_bed.publish("shared", trees())
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy, drain="1s", upstream_timeout="1s")
        begin_two(service, http_bed, proxy)
        assert service.stop() == 0
        proxy.fault.released.set()
        service.start()
        settle(service, "first"), settle(service, "second")
        assert amount(service, "first") == amount(service, "second") == 1.0 and proxy.files() == 2


def test_a_download_whose_task_is_canceled_leaves_nothing(serve, bed, proxy, trees):
    bed.publish("canceled", trees())
    service = serve(bed, proxy)
    proxy.fault = Hold()
    deployment = begin_deploy(service, "canceled", bed.uri("canceled", proxy.address))
    assert proxy.fault.arrived.wait(60)
    begin_delete(service, "canceled")
    assert wait_task(service, deployment["task_id"])["status"] == "canceled"
    eventually(lambda: get(service, deployment["deployment_id"])["status"] == "inactive")
    assert packages(service) == set() and not any((service.state / "packages" / "incoming").iterdir())


@pytest.mark.parametrize("bed, point", [("http", "fetch_begins"), *((name, "fetch_ends") for name in ONE_OF_A_KIND)],
                         indirect=["bed"])
def test_a_controller_killed_in_fetch_is_followed_by_one_that_fetches_right(serve, bed, proxy, tmp_path, trees, point):
    files = trees()
    bed.publish("killed", files)
    pauses = Pauses(tmp_path / "pauses")
    service = serve(bed, proxy, program=str(PAUSED), environment={"SLIPWAY_PAUSE_POINTS": str(pauses.folder)})
    with pauses.at(point) as stop:
        begin_deploy(service, "killed", bed.uri("killed", proxy.address))
        service.kill(stop.reached())
    eventually(lambda: settle(service, "killed"))
    assert amount(service, "killed") == 1.0 and packages(service) == {bed.tree_of(files)}
    assert not any((service.state / "packages" / "incoming").iterdir())


def test_an_update_of_what_has_changed_behind_the_same_uri_fetches_it_anew(serve, bed, proxy, trees):
    bed.publish("changing", trees(1.0))
    settled(bed)
    service = serve(bed, proxy)
    first = deploy(service, "changing", bed.uri("changing", proxy.address))
    bed.publish("changing", trees(2.0))
    second = update(service, "changing", bed.uri("changing", proxy.address))
    assert amount(service, "changing") == 2.0 and proxy.files() == 2
    assert len(packages(service)) == 2  # the one before is kept for a rollback
    if not bed.name.startswith("mlflow"):
        assert second["deployed_model_version"] != first["deployed_model_version"]


def test_a_server_that_tells_no_length_counts_bytes_without_a_total(make_slipway, nginx, trees, tmp_path):
    data = tar_gz_of(trees())
    nginx.put("lengthless.tar.gz", data)
    nginx.put("lengthless.tar.gz.sha256", hashlib.sha256(data).hexdigest().encode())
    file = tmp_path / "registries"
    write(file, f"[http here]\nhosts = 127.0.0.1:{nginx.port}\n")
    service = make_slipway(registries=file).start()
    deployment = deploy(service, "lengthless", nginx.url("chunked/lengthless.tar.gz"))
    progress = task(service, deployment["task_id"])["progress"]
    assert progress["done"] == len(data) and progress["total"] in (0, len(data)), progress


def test_what_an_mlflow_model_says_of_itself_stands_in_its_revision(serve, mlflow3_bed, trees):
    says = b"flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.16.0\nsignature:\n  inputs: '[{\"name\": \"x\"}]'\n"
    mlflow3_bed.publish("described", {**trees(), "MLmodel": says})
    with FaultyProxy(mlflow3_bed.address) as proxy:
        service = serve(mlflow3_bed, proxy)
        uri = mlflow3_bed.uri("described", proxy.address)
        deploy(service, "described", uri)
        revision = answered(service.client.get("/v1/deployments/described/revisions"), 200)[0]
        assert "onnx" in str(revision["facts"]["source"]) and "x" in str(revision["facts"]["source"]), revision
        assert revision["facts"]["inputs"]  # what the replica found out stands beside it
        package = answered(service.client.get("/v1/packages"), 200)[0]
        assert package["source_uri"] == uri, package


# ---- bad days -------------------------------------------------------------------------------------------------------


def test_a_registry_that_is_down_is_tried_again_and_then_the_task_fails_with_its_words(serve, bed, proxy, trees):
    bed.publish("down", trees())
    service = serve(bed, proxy, task_attempts="2")
    deploy(service, "stays", bed.uri("down", proxy.address))
    proxy.fault = Status(503)
    uri = bed.uri("down", proxy.address)
    failed = deploy(service, "down", uri, status="failed")
    assert failed["error"]["error"] == "ModelRegistryError", failed
    assert f"fetch {uri}: " in failed["message"] and "503" in failed["message"], failed
    assert any(step.startswith("fetch failed and is tried again in ") for step in steps(service, "down"))
    proxy.fault = Fault()
    assert amount(service, "stays") == 1.0
    assert settle(service, answered(service.client.post(f"/v1/tasks/{failed['task_id']}/restart"))["deployment_id"])
    assert amount(service, "down") == 1.0


def test_what_is_not_there_fails_at_once(serve, bed, proxy, trees):
    bed.publish("there", trees())
    service = serve(bed, proxy)
    uri = bed.uri("there", proxy.address).replace("there", "not-there")
    if "runs:" in uri:
        uri = "runs:/" + "0" * 32 + "/model"
    failed = deploy(service, "missing", uri, status="failed")
    assert failed["error"]["error"] == "ModelRegistryError", failed
    assert not any("tried again" in step for step in steps(service, "missing"))


def test_a_server_that_never_comes_to_an_end_meets_the_deadline_of_the_task(serve, http_bed, trees):
    http_bed.publish("slow", trees())
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy, deploy_processing_deadline="2s", fetch_stall_timeout="1h")
        proxy.fault = Hold()
        failed = deploy(service, "slow", http_bed.uri("slow", proxy.address), status="failed")
        assert "Deployment task is processing too long." in failed["message"], failed
        proxy.fault.released.set()


def test_ceilings_of_files_and_bytes_are_settings(serve, http_bed, trees):
    http_bed.publish("large", {**trees(), **{f"f{i}": b"x" for i in range(5)}})
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy, model_size_maximum="1Mi")
        failed = deploy(service, "bytes", http_bed.uri("large", proxy.address), status="failed")
        assert "1.0 MiB" in failed["message"], failed
        service.close()
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy, model_files_maximum="4")
        failed = deploy(service, "files", http_bed.uri("large", proxy.address), status="failed")
        assert "4 files" in failed["message"], failed


def test_a_disk_without_room_for_the_model_fetches_none_of_it_and_the_rest_goes_on(make_slipway, s3_bed, trees, models,
                                                                                    tmp_path):
    s3_bed.publish("huge", {**trees(), "more.bin": bytes(40 << 20)})
    s3_bed.publish("small", trees(2.0))
    file = tmp_path / "registries"
    with FaultyProxy(s3_bed.address) as proxy:
        write(file, s3_bed.conf(proxy.address))
        service = make_slipway(registries=file, step_backoff="20ms", task_attempts="2")
        with socket.create_server(("127.0.0.1", 0)) as free:
            service.port = free.getsockname()[1]  # there is no log to read it from
        inside = service.command()
        service.command = lambda: in_own_mounts(
            f'mkdir -p {service.state}; mount -t tmpfs -o size=32m none {service.state}; chmod 700 {service.state}; exec "$@"',
            inside)
        service.start()
        deploy(service, "small", s3_bed.uri("small", proxy.address))
        seen = proxy.files()
        failed = deploy(service, "huge", s3_bed.uri("huge", proxy.address), status="failed")
        assert "the model has 41.0 MiB, and the disk of the state folder has " in failed["message"], failed
        assert proxy.files() == seen and amount(service, "small") == 2.0
        assert any("tried again" in step for step in steps(service, "huge"))


# ---- the registries file --------------------------------------------------------------------------------------------


def refuse(service, uri, status=400):
    return answered(service.client.post("/v1/deployments", json=request("refused", uri)), status)["detail"]


def controllers(service):
    return service.pids("controller")


def test_a_uri_without_its_server_is_refused_and_the_answer_says_how_to_configure_it(make_slipway):
    service = make_slipway(environment={"MLFLOW_TRACKING_URI": "", "AWS_PROFILE": "", "AWS_ACCESS_KEY_ID": ""}).start()
    for uri in ("https://models.example.com/m.onnx", "runs:/" + "0" * 32 + "/model", "models:/m/1", "s3://bucket/m",
                "oci://registry.example.com/m:v1"):
        detail = refuse(service, uri)
        assert "is not configured here" in detail and "registries" in detail, detail
    detail = refuse(service, "gopher://models/m")
    for scheme in ("file:", "https:", "runs:", "models:", "s3:", "oci:"):
        assert scheme in detail, detail


def test_a_uri_that_is_itself_a_credential_is_refused_and_never_seen_again(make_slipway):
    service = make_slipway().start()
    secret = "secret-in-a-uri"
    for uri in (f"https://user:{secret}@models.example.com/m.onnx", f"https://{secret}@models.example.com/m.onnx",
                f"oci://user:{secret}@registry.example.com/m:v1", f"s3://{secret}@bucket/m",
                f"https://models.example.com/m.onnx?X-Amz-Signature={secret}",
                f"https://models.example.com/m.onnx?a=b&sig={secret}#sha256=00",
                f"https://models.example.com/m.onnx?%74oken={secret}"):
        for body in (request("refused", uri), None):
            if body:
                answer = service.client.post("/v1/deployments", json=body)
            else:
                answer = service.client.post("/deploy",
                                             json={"embedding_model_id": "refused", "config": {"model_uri": uri}})
            assert answer.status_code == 400 and secret not in answer.text, answer.text
            assert "credentials in the registries file" in answer.json()["detail"]
    target = {"type": "batch_inference_job", "input_uri": f"s3://key:{secret}@bucket/x.ndjson", "output_uri": "s3://bucket/y"}
    answer = service.client.post("/v1/deployments", json={**request("refused", "/models/m"), "deployment_target_config": target})
    assert answer.status_code == 400 and secret not in answer.text, answer.text
    assert_unseen(service, [secret])


def test_a_reload_adds_a_registry_and_a_broken_file_changes_nothing(make_slipway, http_bed, trees, tmp_path):
    http_bed.publish("reload", trees())
    uri = http_bed.uri("reload", http_bed.address)
    file = tmp_path / "registries"
    write(file, "[http other]\nhosts = models.example.com\n")
    service = make_slipway(registries=file).start()
    assert "is not configured here" in refuse(service, uri)
    before = controllers(service)
    write(file, http_bed.conf(http_bed.address))
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the registries file was read again" in service.log())
    deploy(service, "reload", uri)
    write(file, "[http other]\nhots = models.example.com\n")
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: f'{file}, line 2: an [http] section has no key hots; did you mean hosts?' in service.log())
    assert "registries stay as they are" in service.log() and controllers(service) == before
    deploy(service, "again", uri)


def test_a_file_that_is_broken_keeps_the_service_from_starting_but_no_controller_from_coming_back(make_slipway, http_bed,
                                                                                                  trees, tmp_path):
    http_bed.publish("broken", trees())
    uri = http_bed.uri("broken", http_bed.address)
    file = tmp_path / "registries"
    write(file, "[http other]\npassword = secret-in-a-file\n")
    service = make_slipway(registries=file)
    assert service.launch().wait() == 9
    assert f"{file}, line 1: section [http other]: hosts is missing" in service.log()
    write(file, http_bed.conf(http_bed.address))
    service.start()
    deploy(service, "stays", uri)
    write(file, "nothing")
    service.kill_role("controller")
    service.wait_until_ready()
    detail = eventually(lambda: refuse(service, uri))
    assert f"the registries file is not in force ({file}, line 1: " in detail and "is not configured" in detail, detail
    assert amount(service, "stays") == 1.0
    write(file, http_bed.conf(http_bed.address))
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the registries file was read again" in service.log())
    deploy(service, "mended", uri)


def test_a_file_with_secrets_that_all_may_read_is_warned_of(make_slipway, tmp_path):
    file = tmp_path / "registries"
    write(file, "[mlflow]\nurl = http://127.0.0.1:1\nusername = a\npassword = b\n")
    file.chmod(0o644)
    service = make_slipway(registries=file).start()
    assert f"a file with secrets in it can be read by every user; take that right away path={file}" in service.log()
    file.chmod(0o640)
    write(file, file.read_text() + "\n")
    start = len(service.log())
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the registries file was read again" in service.log()[start:])
    assert "can be read by every user" not in service.log()[start:]


def test_the_default_registry_deploys_a_bare_model_id(serve, http_bed, trees):
    http_bed.publish("by-its-id", trees(5.0))
    with FaultyProxy(http_bed.address) as proxy:
        service = serve(http_bed, proxy, default_registry=http_bed.uri("{id}", proxy.address))
        answer = service.client.post("/deploy", json={"embedding_model_id": "by-its-id"})
        assert wait_task(service, answered(answer, 200)["task_id"])["status"] == "done", answer.text
        assert amount(service, "by-its-id") == 5.0
        assert get(service, "by-its-id")["model_uri"] == http_bed.uri("by-its-id", proxy.address)


@pytest.mark.parametrize("pattern, words", [
    ("runs:/model", "has no {id} in it"),
    ("gopher://{id}", "scheme"),
    ("models:/{id}/1", "is not configured here"),
    ("https://user:secret@models.example.com/{id}.onnx", "a user or a password before the host"),
])
def test_a_default_registry_that_cannot_work_is_refused_at_the_start(make_slipway, pattern, words):
    service = make_slipway(default_registry=pattern, environment={"MLFLOW_TRACKING_URI": ""})
    assert service.launch().wait() == 9
    assert "setting default_registry" in service.log() and words in service.log(), service.log()
    assert "secret" not in service.log()


def test_a_default_registry_that_cannot_work_is_taken_back_at_a_reload(make_slipway, tmp_path):
    settings = tmp_path / "settings"
    settings.write_text("")
    service = make_slipway(settings=settings).start()
    settings.write_text("default_registry = models:/{id}/1\n")
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the new settings do not work; going back" in service.log())
    eventually(lambda: "went back" in service.log())
    service.wait_until_ready()
    assert "setting default_registry" in service.log()


# ---- credentials ----------------------------------------------------------------------------------------------------


def environment_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read().decode()


def test_the_environment_names_servers_to_the_controller_alone(make_slipway, trees, models):
    made.add_one(models)
    secrets = {"MLFLOW_TRACKING_URI": "https://anna:env-mlflow-secret@models.example.com", "AWS_PROFILE": "",
               "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "env-aws-secret", "MLFLOW_TRACKING_TOKEN": "env-token-secret",
               "DOCKER_CONFIG": "/env-docker-secret"}
    service = make_slipway(environment=secrets).start()
    deploy(service, "one", models / "add-one")
    for role in ("gateway", "indexer", "runner"):
        for pid in service.pids(role):
            assert "-secret" not in environment_of(pid), role
    assert all("env-aws-secret" in environment_of(pid) for pid in service.pids("controller"))
    assert_unseen(service, ["env-mlflow-secret", "env-aws-secret", "env-token-secret"])


def forms_of(secret):
    """As it is, and as basic authentication carries it, whatever stands before it."""
    found = {secret.encode()}
    for before in range(3):
        text = base64.b64encode(b"x" * before + secret.encode())
        found.add(text[4 if before else 0:len(text) // 4 * 4 - 4])
    return found


def test_the_tracking_server_of_the_environment_is_the_default_one(make_slipway, mlflow3_bed, trees):
    mlflow3_bed.publish("by-environment", trees(4.0))
    with FaultyProxy(mlflow3_bed.address) as proxy:
        url = "http://anna:env-url-secret@{}:{}/".format(*proxy.address)
        service = make_slipway(environment={"MLFLOW_TRACKING_URI": url}, default_registry="runs:/{id}/model").start()
        run = mlflow3_bed.runs["by-environment"]
        task = answered(service.client.post("/deploy", json={"embedding_model_id": run}), 200)
        assert wait_task(service, task["task_id"])["status"] == "done"
        assert amount(service, run) == 4.0
        credentials = base64.b64encode(b"anna:env-url-secret")
        assert proxy.heads and all(b"Authorization: Basic " + credentials in head for head in proxy.heads)
        assert_unseen(service, ["env-url-secret"])


def assert_unseen(service, secrets):
    """In no file of the state folder (databases with their WAL, logs, packages), no log, no answer, no output."""
    seen = {str(path): path.read_bytes() for path in service.state.rglob("*") if path.is_file()}
    seen["log"] = service.whole_log().encode()
    for path in ("/v1/deployments", "/v1/tasks?limit=1000", "/v1/events?limit=1000", "/v1/packages", "/metrics",
                 "/v1/processes", "/v1/upgrade", "/openapi.json"):
        seen[path] = service.client.get(path).content
    for deployment in service.client.get("/v1/deployments").json():
        for part in ("", "/revisions", "/events?limit=1000"):
            path = f"/v1/deployments/{deployment['deployment_id']}{part}"
            seen[path] = service.client.get(path).content
    for command in (["list"], ["list", "--json"], ["tasks"], ["events"]):
        process = subprocess.run([PROGRAM, *command, "--url", service.url], capture_output=True, timeout=60)
        seen[" ".join(command)] = process.stdout + process.stderr
    assert len(seen) > 15
    for secret in secrets:
        for form in forms_of(secret):
            found = [place for place, content in seen.items() if form in content]
            assert not found, (secret, form, found)


@pytest.mark.parametrize("bed", SERVED, indirect=True)
def test_credentials_are_seen_nowhere_after_good_and_bad_days(serve, bed, proxy, trees):
    bed.publish("secrets", trees())
    service = serve(bed, proxy, log_level="debug", task_attempts="1")
    uri = bed.uri("secrets", proxy.address)
    deploy(service, "good", uri)
    for name, fault in (("unauthorized", Status(401)), ("forbidden", Status(403)), ("broken", Status(500)),
                        ("elsewhere", Status(302, extra=b"Location: http://models.example.com/?X-Amz-Signature=redirect-secret\r\n"))):
        proxy.fault = fault
        deploy(service, name, uri, status="failed")
    assert_unseen(service, [*bed.secrets(), "redirect-secret"])
    with pytest.raises(AssertionError):
        assert_unseen(service, [uri])  # what is shown is found


def test_a_web_server_that_asks_for_a_password_gets_it_and_nobody_else_sees_it(make_slipway, nginx, trees, tmp_path):
    nginx.put("locked.tar.gz", tar_gz_of(trees()))
    file, secret = tmp_path / "registries", tmp_path / "password"
    write(secret, "not-the-password-but-a-secret\n")
    write(file, f"[http locked]\nhosts = 127.0.0.1:{nginx.port}\nusername = {nginx.user}\npassword_file = {secret}\n")
    service = make_slipway(registries=file).start()
    uri = nginx.url("private/locked.tar.gz")
    failed = deploy(service, "locked", uri, status="failed")
    assert "401" in failed["message"], failed
    write(secret, nginx.password + "\n")  # read when it is needed: no reload
    answered(service.client.post(f"/v1/tasks/{failed['task_id']}/restart"))
    settle(service, "locked")
    assert_unseen(service, [nginx.password, "not-the-password-but-a-secret"])
