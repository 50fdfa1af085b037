"""MLModelDeploymentService: what its users' programs do with it, and how it finds, starts and stops a service."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from pathlib import Path

import httpx
import models as make
import pytest
import slipway_program as program

import slipway
from slipway import MLModelDeploymentService, _local


def request(name, model_uri, **config):
    return slipway.DeploymentRequest(
        model_uri=str(model_uri),
        deployment_name=name,
        deployment_target_config=slipway.DeploymentTargetConfig(
            type="api_service", serving_image="custom/my-model-server:v1.0", replicas=2, port=8080, **config
        ),
    )


async def settled(service, deployment_id, *statuses):
    for _ in range(600):
        status = await service.get_deployment_status(deployment_id)
        if status.status in statuses:
            return status
        await asyncio.sleep(0.1)
    raise AssertionError(f"{status.status}: {status.message}")


@pytest.mark.sanitizer
def test_a_model_is_deployed_updated_and_deleted_in_several_event_loops(service, models, caplog):
    """Each step in a loop of its own: nothing is bound to one."""
    caplog.set_level(logging.INFO, "ml_model_deployment_service")
    deployments = MLModelDeploymentService(base_url=service.url)
    status = asyncio.run(deployments.deploy_model(request("MyModelAPIService_Prod", make.add_one(models, "one"))))
    assert isinstance(status.deployment_id, uuid.UUID) and status.deployment_name == "MyModelAPIService_Prod"
    assert f"{status.status}" == "creating" and type(status.status) is str
    active = asyncio.run(settled(deployments, status.deployment_id, "active", "failed"))
    assert active.status == "active", active.message
    assert active.endpoint_url and active.deployed_model_version and active.replicas == 2
    assert "serving_image" in active.message or "container" in active.message

    listed = asyncio.run(deployments.list_deployments(limit=10))
    assert [each.deployment_id for each in listed] == [status.deployment_id]
    assert asyncio.run(deployments.get_deployment_status(str(status.deployment_id))).deployment_id == status.deployment_id

    new = request("MyModelAPIService_Prod_V2", make.add_one(models, "two", 2.0))
    assert asyncio.run(deployments.update_deployment(status.deployment_id, new)).status == "updating"
    active = asyncio.run(settled(deployments, status.deployment_id, "active", "failed"))
    assert active.status == "active" and active.endpoint_url.endswith("/MyModelAPIService_Prod_V2")

    assert asyncio.run(deployments.delete_deployment(status.deployment_id)).status == "deleting"
    assert asyncio.run(settled(deployments, status.deployment_id, "inactive", "delete_failed")).status == "inactive"
    assert any("MyModelAPIService_Prod" in record.message for record in caplog.records)
    assert {record.name for record in caplog.records} == {"ml_model_deployment_service"}


def test_what_is_wrong_is_raised_with_a_message(service, models):
    deployments = MLModelDeploymentService(base_url=service.url)
    with pytest.raises(slipway.ResourceNotFoundError) as missing:
        asyncio.run(deployments.get_deployment_status(uuid.uuid4()))
    assert missing.value.message
    with pytest.raises(slipway.ConfigurationError) as wrong:
        asyncio.run(deployments.deploy_model(request("one", "/nowhere/at/all")))
    assert "/nowhere/at/all" in wrong.value.message
    with pytest.raises(slipway.ConfigurationError) as unknown:
        bad = request("one", make.add_one(models))
        bad.deployment_target_config.type = "submarine"
        asyncio.run(deployments.deploy_model(bad))
    assert "submarine" in unknown.value.message
    down = MLModelDeploymentService(base_url="http://127.0.0.1:9")
    with pytest.raises(slipway.ExternalServiceError) as unreachable:
        asyncio.run(down.list_deployments())
    assert "127.0.0.1:9" in unreachable.value.message


def test_threads_each_have_their_own_loop(service, models):
    deployments = MLModelDeploymentService(base_url=service.url)
    make.add_one(models)
    results = []

    def work(number):
        async def go():
            status = await deployments.deploy_model(request(f"m-{number}", models / "add-one"))
            several = await asyncio.gather(*(deployments.get_deployment_status(status.deployment_id) for _ in range(5)))
            return {each.deployment_name for each in several}

        results.append(asyncio.run(go()))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(next(iter(names)) for names in results) == [f"m-{n}" for n in range(4)]


def test_a_canceled_call_leaves_nothing_behind(service):
    async def go():
        deployments = MLModelDeploymentService(base_url=service.url)
        task = asyncio.create_task(deployments.list_deployments())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await deployments.list_deployments()

    assert asyncio.run(go()) == []


def test_the_environment_says_where_the_service_is(make_service, monkeypatch):
    service = make_service(token="secret").start()
    monkeypatch.setenv("SLIPWAY_URL", service.url)
    with pytest.raises(slipway.UnauthorizedError):
        asyncio.run(MLModelDeploymentService().list_deployments())
    monkeypatch.setenv("SLIPWAY_TOKEN", "secret")
    assert asyncio.run(MLModelDeploymentService().list_deployments()) == []
    monkeypatch.delenv("SLIPWAY_TOKEN")
    assert asyncio.run(MLModelDeploymentService(token="secret").list_deployments()) == []


def test_a_service_with_tls_and_its_own_authority(make_service, tmp_path, monkeypatch):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", cert, *subject], check=True, capture_output=True)
    service = make_service(tls_certificate=cert, tls_key=key).launch()
    port = program.eventually(service._port_in_log)
    url = f"https://127.0.0.1:{port}"
    with pytest.raises(slipway.ExternalServiceError, match="certificate"):
        program.eventually(lambda: None if not refuses(url) else slipway.Client(url).list_deployments())
    monkeypatch.setenv("SLIPWAY_URL", url)
    monkeypatch.setenv("SLIPWAY_CA", str(cert))
    with slipway.Client() as client:
        program.eventually(client.is_ready)
        assert client.list_deployments() == []
    assert asyncio.run(MLModelDeploymentService().list_deployments()) == []


def refuses(url):
    try:
        httpx.get(url + "/readyz")
    except httpx.ConnectError as error:
        return "CERTIFICATE" in str(error).upper()
    return False


def test_the_other_clients_are_refused_clearly():
    for name in ("container_registry_client", "orchestrator_client"):
        with pytest.raises(slipway.ConfigurationError, match=name):
            MLModelDeploymentService(base_url="http://127.0.0.1:9", **{name: object()})
    with pytest.raises(slipway.ConfigurationError, match="download_model"):
        MLModelDeploymentService(object(), base_url="http://127.0.0.1:9")


# ---- a registry client of the user's


class Registry:
    def __init__(self, folder):
        self.folder, self.asked = folder, []

    async def download_model(self, model_uri, destination):
        self.asked.append(model_uri)
        await asyncio.sleep(0)
        if "missing" in model_uri:
            raise KeyError("no such run")
        return str(self.folder)


def test_a_path_is_never_sent_through_the_registry_client(service, models):
    registry = Registry(make.add_one(models))
    deployments = MLModelDeploymentService(registry, base_url=service.url)
    for name, uri in (("a", models / "add-one"), ("b", f"file://{models / 'add-one'}")):
        status = asyncio.run(deployments.deploy_model(request(name, uri)))
        assert asyncio.run(settled(deployments, status.deployment_id, "active", "failed")).status == "active"
    assert registry.asked == []


@pytest.mark.sanitizer
def test_a_registry_client_fetches_what_is_then_uploaded(service, models):
    registry = Registry(make.add_one(models))
    deployments = MLModelDeploymentService(registry, base_url=service.url)
    status = asyncio.run(deployments.deploy_model(request("a", "mlflow_runs:/0123/my_model")))
    assert status.status == "creating" and registry.asked == ["mlflow_runs:/0123/my_model"]
    active = asyncio.run(settled(deployments, status.deployment_id, "active", "failed"))
    assert active.status == "active" and active.model_uri == active.deployed_model_version
    assert active.model_uri.startswith("package:sha256:")
    registry.folder = make.add_one(models, "new", 2.0)
    updated = asyncio.run(deployments.update_deployment(status.deployment_id, request("a", "runs:/4567/my_model")))
    assert updated.status == "updating"
    assert asyncio.run(settled(deployments, status.deployment_id, "active", "failed")).revision == 2
    with pytest.raises(slipway.ResourceNotFoundError):
        asyncio.run(deployments.update_deployment(uuid.uuid4(), request("a", "runs:/89/my_model")))
    assert registry.asked == ["mlflow_runs:/0123/my_model", "runs:/4567/my_model"]


def test_interfaces_that_download_artifacts_are_known_too(service, models):
    class Artifacts:
        async def download_artifacts(self, run_id=None, model_uri=None, artifact_path=None, dst_path=None):
            make.add_one(dst_path, "model")
            return f"{dst_path}/model"

    deployments = MLModelDeploymentService(Artifacts(), base_url=service.url)
    status = asyncio.run(deployments.deploy_model(request("a", "models:/demo/1")))
    assert asyncio.run(settled(deployments, status.deployment_id, "active", "failed")).status == "active"


def test_a_registry_client_that_fails_is_a_model_registry_error(service, models):
    registry = Registry(models)
    deployments = MLModelDeploymentService(registry, base_url=service.url)
    with pytest.raises(slipway.ModelRegistryError, match=r"runs:/missing/model.*no such run"):
        asyncio.run(deployments.deploy_model(request("a", "runs:/missing/model")))
    assert asyncio.run(deployments.list_deployments()) == []


# ---- finding and starting one


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A machine of one's own: no service at the default address, state below tmp_path."""
    with open(tmp_path / "unused", "w"):
        pass
    port = free_port()
    monkeypatch.setattr(_local, "DEFAULT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIPWAY_BIN", program.PROGRAM)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "home" / "slipway"
    _local.stop()


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_a_service_one_is_started_and_says_so(home, models, caplog):
    deployments = MLModelDeploymentService()
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1 and said[0].name == "ml_model_deployment_service"
    assert deployments.base_url == _local.DEFAULT_URL and deployments.base_url in said[0].message and str(home) in said[0].message
    pid = _local._started.pid
    assert program.lives(pid)
    status = asyncio.run(deployments.deploy_model(request("one", make.add_one(models))))
    assert asyncio.run(settled(deployments, status.deployment_id, "active", "failed")).status == "active"
    assert MLModelDeploymentService().base_url == deployments.base_url
    assert _local._started.pid == pid
    _local.stop()
    assert not program.lives(pid)
    again = MLModelDeploymentService()  # the state is still there
    assert [each.deployment_name for each in asyncio.run(again.list_deployments())] == ["one"]


def test_a_port_that_something_else_holds_is_left_to_it(home):
    import socketserver

    class Other(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port = int(_local.DEFAULT_URL.rpartition(":")[2])
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        deployments = MLModelDeploymentService()
        assert deployments.base_url != _local.DEFAULT_URL
        assert asyncio.run(deployments.list_deployments()) == []
        other.shutdown()


def test_the_one_of_the_state_folder_is_found_where_it_listens_elsewhere(home, make_service):
    service = make_service(state=home).start()
    deployments = MLModelDeploymentService()
    assert _local._started is None and deployments.base_url.startswith("unix:")
    assert asyncio.run(deployments.list_deployments()) == []
    assert service.pid


def test_no_program_is_a_configuration_error(home, monkeypatch, tmp_path):
    monkeypatch.setenv("SLIPWAY_BIN", str(tmp_path / "nothing"))
    with pytest.raises(slipway.ConfigurationError, match="SLIPWAY_BIN"):
        MLModelDeploymentService()
    monkeypatch.delenv("SLIPWAY_BIN")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slipway.ConfigurationError, match="PATH"):
        MLModelDeploymentService()


def test_a_program_that_ends_at_once_is_quoted(home, monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'the disk is on fire' >&2\nexit 9\n")
    broken.chmod(0o755)
    monkeypatch.setenv("SLIPWAY_BIN", str(broken))
    with pytest.raises(slipway.ExternalServiceError, match=r"status 9.*on fire"):
        MLModelDeploymentService()


def child(home, body, show_pid=True):
    """A Python program with the constructor without arguments; its process."""
    source = f"""
        import asyncio, os, signal, sys, time
        from slipway import MLModelDeploymentService, _local
        _local.DEFAULT_URL = {_local.DEFAULT_URL!r}
        service = MLModelDeploymentService()
        asyncio.run(service.list_deployments())
        _local._started and {show_pid} and print(_local._started.pid, flush=True)
        {body}
    """
    paths = os.pathsep.join([str(Path(slipway.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


@pytest.mark.parametrize("end", ["returns", "raises", "exits", "is terminated", "is killed"])
def test_the_service_that_was_started_ends_with_the_process(home, end):
    body = {"raises": "raise RuntimeError('enough')", "exits": "sys.exit(3)"}.get(end, "")
    if end.startswith("is "):
        body = "time.sleep(60)"
    process = child(home, body)
    pid = int(process.stdout.readline())
    if end.startswith("is "):
        assert program.lives(pid)
        process.send_signal(signal.SIGTERM if end == "is terminated" else signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert "no Slipway service was running: started one" in said
    program.eventually(lambda: not program.lives(pid), 30, f"the service ends when the process {end}")


def test_two_processes_that_begin_at_once_share_one_service(home):
    lines = ["print('none' if _local._started is None else 'mine', flush=True)", "sys.stdin.readline()"]
    body = "\n        ".join(lines)
    first, second = child(home, body, show_pid=False), child(home, body, show_pid=False)
    try:
        said = sorted(process.stdout.readline().strip() for process in (first, second))
        assert said == ["mine", "none"], first.stderr.read() + second.stderr.read()
    finally:
        for process in (first, second):
            process.communicate("\n", timeout=60)


def test_looking_waits_for_a_controller_that_restarts(service, models):
    deployments = MLModelDeploymentService(base_url=service.url)
    status = asyncio.run(deployments.deploy_model(request("one", make.add_one(models))))
    asyncio.run(settled(deployments, status.deployment_id, "active", "failed"))
    for _ in range(3):
        service.kill("controller")
        assert asyncio.run(deployments.get_deployment_status(status.deployment_id)).deployment_name == "one"
        assert len(asyncio.run(deployments.list_deployments())) == 1


def test_a_forked_child_that_ends_leaves_the_service_to_its_parent(home):
    lines = [
        "pid = os.fork()",
        "if not pid: sys.exit(0)",
        "os.waitpid(pid, 0)",
        "asyncio.run(service.list_deployments())",
        "print('still there')",
    ]
    output, errors = child(home, "\n        ".join(lines)).communicate(timeout=60)
    assert "still there" in output, errors
