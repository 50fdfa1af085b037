"""The control socket in the state folder: the API without a token, for the service's own user and root alone."""

import os
import signal
import socket
import stat
import subprocess

import httpx
import pytest

import models as folders
from slipway import PROGRAM, eventually

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def control(service):
    return service.state / "control.sock"


def by_socket(path, **options):
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=30, **options)


def run(words, cwd, before=(), **environment):
    command = [*before, PROGRAM, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env={"PATH": os.environ["PATH"]} | environment, capture_output=True, text=True, timeout=60)


@pytest.mark.sanitizer
def test_no_token_is_asked_for_there(make_slipway, models):
    service = make_slipway(token="secret").start()
    assert httpx.get(f"{service.url}/v1/deployments").status_code == 401
    with by_socket(control(service)) as client:
        assert client.get("/v1/deployments").json() == []
        assert client.get("/v1/deployments", headers={"Authorization": "Bearer wrong"}).status_code == 200
        assert service.deploy("one", folders.add_one(models))["status"] == "active"
        request = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
        answer = client.post("/v2/models/one/infer", json=request)
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2, 3, 4, 5]
        made = client.post("/v1/tokens", json={"name": "t", "role": "read"})
        assert made.status_code == 201, made.text  # only who may everything makes tokens


def test_the_file_is_for_its_owner_alone(slipway):
    status = control(slipway).stat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()


@pytest.mark.sanitizer
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_another_user_is_refused(make_slipway, tmp_path):
    service = make_slipway(token="secret").start()
    ask = ["curl", "-sS", "--max-time", "30", "-i", "--unix-socket", str(control(service)), "http://localhost/v1/deployments"]
    folder = service.state
    while folder != folder.parent:  # the way there is open to all: it is the file's mode that keeps them out
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | 0o011)
        folder = folder.parent
    shut_out = subprocess.run([*NOBODY, *ask], capture_output=True, text=True, timeout=60)
    assert shut_out.returncode == 7, shut_out
    control(service).chmod(0o666)  # and were it not for that, the kernel says who they are
    for token in ([], ["-H", "Authorization: Bearer secret"]):
        refused = subprocess.run([*NOBODY, *ask, *token], capture_output=True, text=True, timeout=60)
        head, _, body = refused.stdout.partition("\n\n") if "\r" not in refused.stdout else refused.stdout.partition("\r\n\r\n")
        assert " 403 " in head and "connection: close" in head.lower(), refused
        assert '"UnauthorizedError"' in body
    assert subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout.startswith("HTTP/1.1 200")


def test_strangers_do_not_hold_the_door(make_slipway):
    service = make_slipway(header_timeout="300ms").start()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(control(service)))
        silent.sendall(b"GET /livez HTT")
        answer = b""
        while piece := silent.recv(4096):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 408")


# ---- the command line beside it


@pytest.mark.sanitizer
def test_the_command_line_takes_it_where_it_lies(make_slipway, tmp_path, models):
    service = make_slipway(token="secret", state=tmp_path / "slipway-state").start()
    uri = folders.add_one(models)
    assert run(["deploy", "one", uri, "--wait"], tmp_path).returncode == 0
    for words, cwd, environment in ((["list"], tmp_path, {}), (["list"], "/", {"SLIPWAY_STATE": str(service.state)}),
                                    (["list", "--url", f"unix:{control(service)}"], "/", {})):
        listed = run(words, cwd, **environment)
        assert listed.returncode == 0 and "one" in listed.stdout, listed
    over_the_port = run(["list", "--url", service.url], tmp_path)
    assert over_the_port.returncode != 0 and "UnauthorizedError" in over_the_port.stderr
    named = run(["list"], tmp_path, SLIPWAY_URL=service.url)
    assert named.returncode != 0 and "UnauthorizedError" in named.stderr


def test_a_long_path_is_reached_too(make_slipway, tmp_path):
    service = make_slipway(state=tmp_path / ("long" * 30) / "state").start()
    assert len(str(control(service))) > 108
    listed = run(["list", "--url", f"unix:{control(service)}"], "/")
    assert listed.returncode == 0, listed


def test_a_socket_that_nobody_answers_is_said_to_be_that(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    answer = run(["list", "--url", f"unix:{tmp_path}/control.sock"], "/")
    assert answer.returncode == 3 and "nobody answers" in answer.stderr, answer


# ---- its life


def test_it_goes_with_the_service_and_comes_back(slipway):
    path = control(slipway)
    with by_socket(path) as client:
        assert client.get("/livez").status_code == 200
    slipway.kill("supervisor")
    assert path.exists()  # a kill leaves it lying
    slipway.start()
    with by_socket(path) as client:
        assert client.get("/livez").status_code == 200
    assert slipway.stop() == 0
    assert not path.exists()


def test_it_outlives_the_gateway(slipway):
    slipway.kill_role("gateway")
    with by_socket(control(slipway)) as client:
        assert client.get("/livez").status_code == 200


def test_its_connections_move_to_the_next_gateway(make_slipway, tmp_path):
    settings = tmp_path / "slipway.conf"
    settings.write_text("token = first\n")
    service = make_slipway(settings=settings, token="first")
    del service.settings["token"]
    service.start()
    with socket.socket(socket.AF_UNIX) as kept:
        kept.connect(str(control(service)))

        def ask():
            kept.sendall(b"GET /v1/deployments HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"[]"):
                piece = kept.recv(4096)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200")

        ask()
        gateways = service.pids("gateway")
        settings.write_text("token = second\n")
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in service.log(), what="the settings are reloaded")
        assert not set(gateways) & set(service.pids("gateway"))
        ask()  # still without a token: the next gateway asks the kernel again
    assert httpx.get(f"{service.url}/v1/deployments", headers={"Authorization": "Bearer second"}).status_code == 200
