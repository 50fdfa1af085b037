"""Images that are pushed: packages as they are, and serving images with a model on top. Judged by other people's tools:
crane and regctl (tools/test-servers), skopeo, and podman, which runs one."""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

import httpx
import pytest

import models
import pauses
from servers_oci import (BIN, CONFIG, LAYER, PASSWORD, USER, Registry, digest_of, guarded_registry, oci_registry,  # noqa: F401
                         referrers_registry, tar_of, token_registry, token_server)
from slipway import eventually

DEADLINE = 60


def crane(*arguments, **options):
    result = subprocess.run([BIN / "crane", *arguments, "--insecure"], capture_output=True, text=True, timeout=60, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def regctl(host, *arguments):
    return subprocess.run([BIN / "regctl", "--host", f"reg={host},tls=disabled", *arguments], check=True, capture_output=True, text=True,
                          timeout=60).stdout


def section(name, host, more=""):
    return f"[oci {name}]\nhosts = {host}\nplain_http = true\n{more}\n"


@pytest.fixture
def serve(make_slipway, tmp_path):
    """A service that pushes to `registry`/models, and knows the other sections."""

    def start(registry, *sections, **settings):
        conf = tmp_path / "registries"
        conf.write_text("\n".join(sections) or section("own", registry.host))
        conf.chmod(0o600)
        if registry is not None:
            settings["container_registry"] = f"{registry.host}/models"
        return make_slipway(registries=conf, **settings).start()

    return start


@pytest.fixture
def package(tmp_path):
    """Deploys a tiny model; its package's digest."""

    def deploy(service, name="one", folder=None):
        deployment = service.deploy(name, folder or models.add_one(Path(service.settings["model_roots"]) / "m"))
        assert deployment["status"] == "active", deployment
        return service.client.get(f"/v1/deployments/{name}/revisions").json()[0]["package_digest"]

    return deploy


def push(service, digest, reference, status="done"):
    answer = service.client.post(f"/v1/packages/{digest}/push", json={"reference": reference})
    assert answer.status_code == 202, answer.text
    return wait(service, answer.json()["task_id"], status)


def wait(service, task_id, status="done"):
    task = service.client.get(f"/v1/tasks/{task_id}/wait", params={"timeout": DEADLINE}, timeout=DEADLINE + 10).json()
    assert task["status"] == status, task
    return task


# ---- packages


@pytest.mark.sanitizer
def test_a_package_is_pushed_as_an_image_that_others_take(serve, package, oci_registry, tmp_path):  # noqa: F811
    service = serve(oci_registry)
    digest = package(service)
    reference = f"{oci_registry.host}/pushed/one:v1"
    task = push(service, digest, reference)
    told = service.client.get(f"/v1/packages/{digest}").json()
    assert task["metadata"]["image_reference"] == reference and reference in task["detail"]
    assert task["metadata"]["image_digest"] == crane("digest", reference).strip()
    manifest = json.loads(crane("manifest", reference))
    assert manifest["annotations"] == told["manifest"]["annotations"] and manifest["config"] == told["manifest"]["config"]
    assert json.loads(crane("config", reference))["rootfs"]["diff_ids"] == [told["layer_digest"]]
    crane("validate", "--remote", reference)
    layer = manifest["layers"][0]["digest"]
    assert layer in regctl(oci_registry.host, "manifest", "get", reference, "--format", "raw-body")
    subprocess.run(["skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp_path / 'copy'}:v1"], check=True,
                   capture_output=True, timeout=60)
    inspected = json.loads(subprocess.run(["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"], check=True,
                                          capture_output=True, text=True, timeout=60).stdout)
    assert inspected["Digest"] == task["metadata"]["image_digest"] and inspected["Layers"] == [layer]


def test_what_was_pushed_is_deployed_again_as_the_same_package(serve, package, oci_registry):  # noqa: F811
    service = serve(oci_registry)
    digest = package(service)
    push(service, digest, "round-trip:v1")
    deployment = service.deploy("again", f"oci://{oci_registry.host}/models/round-trip:v1")
    assert deployment["status"] == "active", deployment
    again = service.client.get("/v1/deployments/again/revisions").json()[0]
    assert again["package_digest"] == digest
    assert len(service.client.get("/v1/packages").json()) == 1


def test_what_a_registry_has_is_not_sent_again(serve, package, oci_registry):  # noqa: F811
    service = serve(oci_registry)
    digest = package(service)
    push(service, digest, "twice:v1")
    sent = oci_registry.log().count("method=PATCH")
    assert sent > 0
    push(service, digest, "twice:v2")
    assert oci_registry.log().count("method=PATCH") == sent


@pytest.mark.parametrize("kind", ["guarded", "token"])
def test_pushing_takes_the_configured_credentials(serve, package, request, kind, tmp_path):
    registry = request.getfixturevalue(f"{kind}_registry")
    (tmp_path / "password").write_text(PASSWORD)
    more = f"username = {USER}\npassword_file = {tmp_path / 'password'}\n"
    if kind == "token":
        more += f"redirect_hosts = {request.getfixturevalue('token_server').host}\n"
    service = serve(registry, section("own", registry.host, more))
    task = push(service, package(service), "private:v1")
    assert task["metadata"]["image_digest"].startswith("sha256:")
    if kind == "token":
        assert "repository:models/private:pull,push" in request.getfixturevalue("token_server").grants
    assert PASSWORD not in service.whole_log()


def test_a_push_that_is_refused_says_why(serve, package, guarded_registry):  # noqa: F811
    service = serve(guarded_registry)
    task = push(service, package(service), "private:v1", "failed")
    assert task["error"]["error"] == "ExternalServiceError" and "asks for credentials" in task["detail"]
    for reference, part in (("elsewhere.example/a:v1", "is not configured here"), (f"{guarded_registry.host}/UPPER:v1", "lower-case"),
                            ("a@sha256:" + "0" * 64, "under a tag")):
        answer = service.client.post(f"/v1/packages/{'0' * 64}/push", json={"reference": reference})
        assert answer.status_code == 400 and part in answer.json()["detail"], answer.text
    answer = service.client.post(f"/v1/packages/{'0' * 64}/push", json={"reference": "a:v1"})
    assert answer.status_code == 404, answer.text


# ---- breaks


class Cutting:
    """Between the service and a registry: breaks the connection off inside the body of the first PATCH that is larger than
    `after`, or with `answer` once all of it has arrived, before its answer goes back."""

    def __init__(self, server, after, is_answer):
        self.server, self.after, self.is_answer, self.cuts = server, after, is_answer, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1:{}".format(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.create_connection(self.server, 30)
        ends = threading.Event()
        threading.Thread(target=self._answers, args=(server, client, ends), daemon=True).start()
        left = None
        try:
            while data := client.recv(65536):
                found = re.search(rb"PATCH .*?content-length: *(\d+).*?\r\n\r\n", data, re.S | re.I)
                if found and self.cuts < 1 and int(found[1]) > self.after:
                    left = self.after if not self.is_answer else int(found[1]) + found.end()
                if left is not None and len(data) >= left:
                    self.cuts += 1
                    if self.is_answer:
                        ends.set()  # nothing comes back any more
                    server.sendall(data[:left])
                    if self.is_answer:
                        eventually(lambda: self.arrived, 30)
                    break
                left = None if left is None else left - len(data)
                server.sendall(data)
        except OSError:
            pass
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    arrived = False

    def _answers(self, server, client, ends):
        try:
            while data := server.recv(65536):
                if ends.is_set():
                    self.arrived = b" 202 " in data
                    continue
                client.sendall(data)
        except OSError:
            pass
        finally:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.mark.parametrize("is_answer", [False, True], ids=["inside", "answer"])
def test_an_upload_that_was_cut_goes_on_where_the_registry_stands(serve, package, oci_registry, is_answer):  # noqa: F811
    with Cutting(oci_registry.address, 3_000_000, is_answer) as proxy:
        service = serve(oci_registry, section("cut", proxy.host), section("own", oci_registry.host))
        digest = package(service, folder=models.padded(Path(service.settings["model_roots"]) / "m", mebibytes=24))
        before = len(oci_registry.log())
        task = push(service, digest, f"{proxy.host}/models/cut-{'a' if is_answer else 'b'}:v1")
        assert proxy.cuts == 1
        log = oci_registry.log()[before:]
    name = f"{oci_registry.host}/models/cut-{'a' if is_answer else 'b'}:v1"
    assert crane("digest", name).strip() == task["metadata"]["image_digest"]
    crane("validate", "--remote", name)
    # One upload for the config and one for the layer: nothing was begun anew.
    assert len(set(re.findall(r"blobs/uploads/([0-9a-f-]{36})", log))) == 2


def test_a_registry_that_is_away_is_tried_again_and_then_said(serve, package, tmp_path):
    registry = Registry(tmp_path / "own")
    try:
        service = serve(registry, step_backoff="50ms")
        digest = package(service)
        registry.stop()
        task = push(service, digest, "away:v1", "failed")
        assert task["error"]["error"] == "ExternalServiceError" and task["attempts"] > 1, task
        registry.start()
        assert service.client.post(f"/v1/tasks/{task['task_id']}/restart").status_code == 202
        wait(service, task["task_id"])
        crane("validate", "--remote", f"{registry.host}/models/away:v1")
    finally:
        registry.close()


# ---- serving images


def push_base(registry, repository="custom/model-server"):
    """A serving image with a config that has something to keep."""
    tars = [tar_of([("bin/server", b"#!")]), tar_of([("etc/conf", b"x" * 100_000)])]
    layers = [gzip.compress(tar, mtime=0) for tar in tars]
    config = {"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z", "author": "somebody",
              "config": {"Env": ["A=b"], "WorkingDir": "/srv", "Entrypoint": ["/bin/server"], "Labels": {"kept": "yes"}, "User": "1000"},
              "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
              "history": [{"created_by": "ADD server"}, {"created_by": "ENV A=b", "empty_layer": True}, {"created_by": "ADD conf"}]}
    registry.push_layers(repository, "v1.0", [(LAYER + "+gzip", layer, None) for layer in layers],
                         config=(CONFIG, json.dumps(config).encode()))
    return [digest_of(layer) for layer in layers], config


def image_of(service, name, number=0):
    revision = service.client.get(f"/v1/deployments/{name}/revisions").json()[number]
    return revision.get("image_reference"), revision.get("image_digest"), revision


@pytest.mark.sanitizer
def test_a_serving_image_gets_the_model_on_top(serve, oci_registry):  # noqa: F811
    layers, base = push_base(oci_registry)
    service = serve(oci_registry)
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    deployment = service.deploy("MyModel_Prod", folder, config={"serving_image": f"{oci_registry.host}/custom/model-server:v1.0"})
    assert deployment["status"] == "active", deployment
    reference, digest, revision = image_of(service, "MyModel_Prod")
    assert reference == f"{oci_registry.host}/models/mymodel_prod:r1"
    assert reference in deployment["message"] and digest in deployment["message"] and "no meaning" not in deployment["message"]
    assert crane("digest", reference).strip() == digest
    crane("validate", "--remote", reference)
    told = service.client.get(f"/v1/packages/{revision['package_digest']}").json()
    manifest = json.loads(crane("manifest", reference))
    assert [layer["digest"] for layer in manifest["layers"]][:2] == layers and len(manifest["layers"]) == 3
    config = json.loads(crane("config", reference))
    assert config["rootfs"]["diff_ids"] == [*base["rootfs"]["diff_ids"], told["layer_digest"]]
    labels = config["config"].pop("Labels")
    assert labels["kept"] == "yes" and labels["io.slipway.model.path"] == "/model" and labels["io.slipway.revision"] == "1"
    assert labels["io.slipway.package.digest"] == f"sha256:{revision['package_digest']}"
    assert config["config"] == {key: value for key, value in base["config"].items() if key != "Labels"}
    assert config["author"] == "somebody" and config["history"][:3] == base["history"] and len(config["history"]) == 4
    for layer in layers:  # mounted, and neither read nor sent
        assert re.search(rf"POST /v2/models/mymodel_prod/blobs/uploads/\?mount={layer}&from=custom%2Fmodel-server[^\n]* 201 ", oci_registry.log())
        assert f"GET /v2/custom/model-server/blobs/{layer}" not in oci_registry.log()
    again = service.deploy("from-it", f"oci://{reference}")
    assert again["status"] == "active" and image_of(service, "from-it")[2]["package_digest"] == revision["package_digest"]


def test_a_base_in_another_registry_is_copied(serve, oci_registry, guarded_registry, tmp_path):  # noqa: F811
    layers, _ = push_base(guarded_registry)
    more = f"username = {USER}\npassword = {PASSWORD}\n"
    service = serve(oci_registry, section("base", guarded_registry.host, more), section("own", oci_registry.host))
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    deployment = service.deploy("copied", folder, config={"serving_image": f"{guarded_registry.host}/custom/model-server:v1.0"})
    assert deployment["status"] == "active", deployment
    reference, digest, _ = image_of(service, "copied")
    assert crane("digest", reference).strip() == digest
    crane("validate", "--remote", reference)
    assert [layer["digest"] for layer in json.loads(crane("manifest", reference))["layers"]][:2] == layers
    assert not list((service.state / "packages" / "incoming").iterdir())


def test_layers_that_a_registry_does_not_mount_are_copied(serve, referrers_registry):  # noqa: F811
    push_base(referrers_registry)
    service = serve(referrers_registry)
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    deployment = service.deploy("unmounted", folder, config={"serving_image": f"{referrers_registry.host}/custom/model-server:v1.0"})
    assert deployment["status"] == "active", deployment
    reference, digest, _ = image_of(service, "unmounted")
    assert crane("digest", reference).strip() == digest
    crane("validate", "--remote", reference)


def test_a_name_without_a_registry_lies_in_the_container_registry(serve, oci_registry):  # noqa: F811
    push_base(oci_registry, "models/custom/my-model-server")
    service = serve(oci_registry)
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    service.deploy("short", folder, config={"serving_image": "custom/my-model-server:v1.0"})
    assert image_of(service, "short")[0] == f"{oci_registry.host}/models/short:r1"


def test_without_a_container_registry_a_serving_image_is_only_recorded(serve):
    service = serve(None, "[oci none]\nhosts = registry.example\n")
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    deployment = service.deploy("plain", folder, config={"serving_image": "custom/my-model-server:v1.0"})
    assert deployment["status"] == "active" and "serving_image has no meaning" in deployment["message"]
    assert image_of(service, "plain")[:2] == (None, None)


def test_a_registry_that_is_away_touches_nothing_that_serves(serve, tmp_path):
    registry = Registry(tmp_path / "own")
    try:
        push_base(registry)
        service = serve(registry, step_backoff="50ms")
        folder = models.add_one(Path(service.settings["model_roots"]) / "m")
        config = {"serving_image": f"{registry.host}/custom/model-server:v1.0"}
        assert service.deploy("served", folder, config=config)["status"] == "active"
        pids = service.pids("runner")
        registry.stop()
        request = {"deployment_name": "served", "model_uri": str(folder), "deployment_target_config": {"type": "api_service", **config}}
        assert service.client.put("/v1/deployments/served", json=request).status_code == 202
        failed = service.client.get("/v1/deployments/served/wait", params={"timeout": DEADLINE}, timeout=DEADLINE + 10).json()
        assert failed["status"] == "failed" and failed["error"]["error"] == "ExternalServiceError", failed
        assert failed["serving_revision"] == 1 and service.pids("runner") == pids
        answer = service.client.post("/v2/models/served/infer", json={
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
        assert answer.status_code == 200, answer.text
        registry.start()
        assert service.client.put("/v1/deployments/served", json=request).status_code == 202
        settled = service.client.get("/v1/deployments/served/wait", params={"timeout": DEADLINE}, timeout=DEADLINE + 10).json()
        assert settled["status"] == "active" and image_of(service, "served")[0].endswith(":r3"), settled
    finally:
        registry.close()


def test_a_kill_after_the_push_comes_to_the_same_image(serve, oci_registry, tmp_path):  # noqa: F811
    push_base(oci_registry)
    points = pauses.Pauses(tmp_path / "pauses")
    service = serve(oci_registry, program=str(pauses.PROGRAM), environment={"SLIPWAY_PAUSE_POINTS": str(points.folder)})
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    config = {"type": "api_service", "serving_image": f"{oci_registry.host}/custom/model-server:v1.0"}
    with points.at("image-pushed") as point:
        answer = service.client.post("/v1/deployments", json={"deployment_name": "killed", "model_uri": str(folder),
                                                              "deployment_target_config": config})
        assert answer.status_code == 202, answer.text
        pid = point.reached()
        pushed = crane("digest", f"{oci_registry.host}/models/killed:r1").strip()
        assert image_of(service, "killed")[1] is None
        service.kill(pid)
    eventually(lambda: service.client.get("/v1/deployments/killed").json().get("status") == "active")
    assert image_of(service, "killed")[1] == pushed


# ---- run


def test_a_pushed_image_runs_with_the_model_in_it(serve, oci_registry, tmp_path):  # noqa: F811
    """A base of one static program, pushed by crane; podman pulls what came of it, runs it, and the files are the model's."""
    busybox = Path("/bin/busybox")
    base = tmp_path / "base.tar"
    with tarfile.open(base, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("cat", "find", "sh"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    crane("append", "--new_layer", base, "--new_tag", f"{oci_registry.host}/custom/busybox:v1", "--oci-empty-base")
    service = serve(oci_registry)
    folder = models.add_one(Path(service.settings["model_roots"]) / "m")
    deployment = service.deploy("runs", folder, config={"serving_image": f"{oci_registry.host}/custom/busybox:v1"})
    assert deployment["status"] == "active", deployment
    reference, digest, _ = image_of(service, "runs")
    image = f"{reference.rpartition(':')[0]}@{digest}"
    with Podman() as podman:
        for path in (path for path in folder.rglob("*") if path.is_file()):
            inside = podman.run(image, "/bin/cat", f"/model/{path.relative_to(folder)}")
            assert inside == path.read_bytes()
        assert len(podman.run(image, "/bin/find", "/model", "-type", "f").split()) == len([p for p in folder.rglob("*") if p.is_file()])


class Podman:
    """With storage and state of its own (in a short path, as it asks for), and limits that a container without
    CAP_SYS_RESOURCE may have."""

    def __init__(self):
        self.folder = folder = Path(tempfile.mkdtemp(prefix="podman-"))
        (folder / "run").mkdir(parents=True)
        conf = folder / "containers.conf"
        conf.write_text('[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\nnetns="host"\ncgroupns="host"\n'
                        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n')
        policy = folder / "policy.json"
        policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CONTAINERS_CONF": str(conf)}
        self.command = ["podman", f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]

    def run(self, image, *command):
        pull = [*self.command, "pull", "-q", "--tls-verify=false", f"--signature-policy={self.folder / 'policy.json'}", image]
        pulled = subprocess.run(pull, capture_output=True, env=self.environment, timeout=60)
        assert pulled.returncode == 0, pulled.stderr
        done = subprocess.run([*self.command, "run", "--rm", "--network=host", "--security-opt=seccomp=unconfined", image, *command],
                              capture_output=True, env=self.environment, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([*self.command, "system", "reset", "--force"], capture_output=True, env=self.environment, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)
