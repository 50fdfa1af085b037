"""Processes and deaths with the real program (RULES P1 to P4, P6), and how serve fails to start.

What the supervisor does with its children in detail is tested in test/unit/supervisor_*.c.
"""

import os
import signal
import socket
import subprocess
from pathlib import Path

import models as tiny
import pytest

from slipway import PROGRAM, children_of, eventually, in_own_mounts, lives

SETTINGS, IN_USE, ADDRESS, UNWRITABLE, DISK_FULL, PERMANENT, AT_ONCE = 2, 3, 4, 5, 6, 9, 130


def refused(service, status):
    """The service does not start, with this exit status; the one sentence it said."""
    service.launch()
    assert service.wait() == status, service.log()
    sentences = [line for line in service.log().splitlines() if line.startswith("slipway serve: ")]
    assert len(sentences) == 1, service.log()
    return sentences[0]


# ---- processes and deaths


@pytest.mark.sanitizer
def test_serve_starts_its_roles_and_lists_them(slipway):
    roles = {process["role"]: process for process in slipway.processes()}
    assert set(roles) == {"supervisor", "controller", "indexer", "gateway"}
    assert roles["supervisor"]["pid"] == slipway.pid
    assert {roles[role]["pid"] for role in ("controller", "indexer", "gateway")} == {pid for pid, _ in children_of(slipway.pid)}
    assert all(process["memory_bytes"] > 0 for process in roles.values())


@pytest.mark.sanitizer
def test_sigterm_ends_everything_with_status_0(slipway):
    children = children_of(slipway.pid)
    assert slipway.stop() == 0
    assert not any(lives(*child) for child in children)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((slipway.host, slipway.port), 5)


@pytest.mark.parametrize("role", ["controller", "indexer", "gateway"])
@pytest.mark.sanitizer
def test_a_killed_role_comes_back(slipway, role):
    (before,) = slipway.kill(role)
    slipway.wait_until_ready()
    (after,) = eventually(lambda: slipway.pids(role))
    assert after != before
    listed = {process["role"]: process for process in slipway.processes()}
    assert listed[role]["pid"] == after
    assert listed[role]["restarts"] == 1


def test_health_is_answered_while_the_controller_is_dead(slipway):
    (controller,) = slipway.pids("controller")
    os.kill(controller, signal.SIGSTOP)  # as good as dead, and not replaced for 10 s
    assert slipway.client.get("/livez").status_code == 200
    os.kill(controller, signal.SIGCONT)
    slipway.wait_until_ready()


def test_a_gateway_that_hangs_is_replaced(slipway):
    (gateway,) = slipway.kill("gateway", signal.SIGSTOP)
    eventually(lambda: not lives(gateway), what="the gateway that hangs is killed")
    slipway.wait_until_ready()
    assert "it did not answer for 10 s" in slipway.log()


@pytest.mark.sanitizer
def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_serve_starts(slipway):
    children = children_of(slipway.pid)
    assert len(children) == 3
    os.kill(children[0][0], signal.SIGSTOP)  # it could not notice by itself
    slipway.kill("supervisor")
    eventually(lambda: not any(lives(*child) for child in children), 10, "the children end with it")
    slipway.start()  # the same folder, the same port


def ask(service, name="one"):
    """What add_one makes of 1: 2. None when it does not answer."""
    request = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}
    answer = service.client.post(f"/v2/models/{name}/infer", json=request)
    return answer.json()["outputs"][0]["data"][0] if answer.status_code == 200 else None


@pytest.mark.sanitizer
def test_a_replica_comes_back_while_the_controller_is_dead(slipway, models):
    assert slipway.deploy("one", tiny.add_one(models))["status"] == "active"
    slipway.kill("controller", signal.SIGSTOP)
    (before,) = slipway.kill("runner")
    (after,) = eventually(lambda: slipway.pids("runner"))
    assert after != before
    assert eventually(lambda: ask(slipway)) == 2
    slipway.kill("controller", signal.SIGCONT)


@pytest.mark.sanitizer
def test_a_replica_outlives_controller_and_gateway(slipway, models):
    slipway.deploy("one", tiny.add_one(models))
    before = slipway.pids("runner")
    slipway.kill("controller")
    slipway.kill("gateway")
    slipway.wait_until_ready()
    assert eventually(lambda: ask(slipway)) == 2
    assert slipway.pids("runner") == before


def test_a_runner_knows_nothing_of_the_service(make_slipway, models):
    slipway = make_slipway(token="secret-token").start()
    slipway.deploy("one", tiny.add_one(models))
    (runner,) = slipway.pids("runner")
    environment = open(f"/proc/{runner}/environ", "rb").read()
    assert sorted(line.split(b"=")[0] for line in environment.split(b"\0") if line) == [b"GLIBC_TUNABLES", b"HOME", b"LANG", b"PATH"]
    assert b"secret-token" not in open(f"/proc/{runner}/cmdline", "rb").read()


def test_a_serve_that_follows_at_once_waits_for_the_children_of_the_one_before(slipway):
    for _ in range(5):
        slipway.process.kill()  # not waited for what it leaves
        slipway.process.wait()
        slipway.start()


def test_a_client_that_connects_while_no_gateway_lives_is_answered(slipway):
    slipway.kill("gateway")
    with socket.create_connection((slipway.host, slipway.port), 10) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: slipway\r\nConnection: close\r\n\r\n")
        client.settimeout(30)
        assert client.recv(64).startswith(b"HTTP/1.1 200 ")


def test_a_second_ctrl_c_ends_at_once(slipway):
    children = children_of(slipway.pid)
    for pid, _ in children:
        os.kill(pid, signal.SIGSTOP)  # so that the first one is not enough
    slipway.process.send_signal(signal.SIGINT)
    eventually(lambda: "stopping" in slipway.log())
    slipway.process.send_signal(signal.SIGINT)
    assert slipway.wait() == AT_ONCE
    assert not any(lives(*child) for child in children)


def test_what_hangs_does_not_hold_up_the_end_beyond_the_drain_deadline(make_slipway):
    slipway = make_slipway(drain="2s", upstream_timeout="2s").start()
    for pid, _ in children_of(slipway.pid):
        os.kill(pid, signal.SIGSTOP)
    assert slipway.stop() == 0
    assert not slipway.survivors()


def test_a_state_folder_with_a_long_path_works(make_slipway, models, tmp_path):
    slipway = make_slipway(state=tmp_path / ("d" * 100) / "state").start()
    assert slipway.deploy("one", tiny.add_one(models))["status"] == "active"
    assert ask(slipway) == 2
    assert slipway.stop() == 0
    assert not (slipway.state / "alias").exists()


def test_children_of_others_are_collected(tmp_path):
    """`make run` leaves serve children that it did not make; they must not stay behind as zombies."""
    script = f"""
        true & echo $! >{tmp_path}/strangers
        sleep 1 & echo $! >>{tmp_path}/strangers
        exec {PROGRAM} serve --state {tmp_path}/state --listen 127.0.0.1:0 2>{tmp_path}/log"""
    with subprocess.Popen(["sh", "-c", script]) as process:
        try:
            strangers = eventually(lambda: "ready" in (tmp_path / "log").read_text() and (tmp_path / "strangers").read_text())
            for pid in strangers.split():
                eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), what="no zombie is left")
        finally:
            process.terminate()
            assert process.wait(60) == 0


# ---- failures to start


def test_a_second_serve_on_the_same_folder_names_the_first(slipway, make_slipway):
    second = make_slipway(state=slipway.state)
    sentence = refused(second, IN_USE)
    assert f"is in use by the slipway serve with pid {slipway.pid}" in sentence
    slipway.wait_until_ready()


def test_a_port_in_use_is_told_with_its_holder(make_slipway):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        sentence = refused(make_slipway(port=port), ADDRESS)
        assert f"cannot listen on 127.0.0.1:{port}: the port is in use by pid {os.getpid()} (" in sentence
        assert "--listen" in sentence


def test_an_address_of_another_machine_is_refused(make_slipway):
    assert "this machine has no such address" in refused(make_slipway(listen="192.0.2.1:8400", token="t"), ADDRESS)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"drain": "soon"}, "flag --drain: setting drain: \"soon\" is not a duration"),
        ({"drian": "3s"}, "there is no setting drian; did you mean drain?"),
        ({"drain": "1s"}, "setting drain: 1000ms is less than upstream_timeout"),
        ({"listen": "0.0.0.0:8400"}, "no token is set; set a token"),
        ({"listen": "8400"}, "is not an address and a port"),
    ],
)
@pytest.mark.sanitizer
def test_settings_that_do_not_work_are_told(make_slipway, settings, expected):
    service = make_slipway(**settings)
    assert expected in refused(service, SETTINGS)
    assert not service.state.exists()


def test_a_broken_settings_file_is_told_with_its_line(make_slipway, tmp_path):
    path = tmp_path / "slipway.conf"
    path.write_text("drain = 31s\nupstream_timeout = never\n")
    assert f"{path}, line 2: setting upstream_timeout: " in refused(make_slipway(settings=path), SETTINGS)
    assert "No such file or directory" in refused(make_slipway(settings=tmp_path / "none.conf"), SETTINGS)


def test_a_settings_file_that_breaks_later_does_not_keep_a_role_from_coming_back(make_slipway, tmp_path):
    path = tmp_path / "slipway.conf"
    path.write_text("drain = 31s\n")
    slipway = make_slipway(settings=path).start()
    path.write_text("rubbish\n")
    slipway.kill("gateway")
    slipway.wait_until_ready()


def test_a_state_folder_that_cannot_be_made_is_told(make_slipway, tmp_path):
    (tmp_path / "file").write_text("")
    sentence = refused(make_slipway(state=tmp_path / "file" / "state"), UNWRITABLE)
    assert "cannot be used" in sentence and "--state" in sentence


def in_new_mounts(script, service):
    """Runs serve by a shell in mounts of its own; the script sees $state and execs "$@"."""
    service.command = lambda command=service.command: in_own_mounts(
        f"state={service.state}; mkdir -p $state; {script}", command())
    return service


def test_a_read_only_state_folder_is_told(make_slipway):
    service = in_new_mounts('mount -t tmpfs -o ro none $state; exec "$@"', make_slipway())
    assert "Read-only file system" in refused(service, UNWRITABLE)


def test_a_full_disk_is_told(make_slipway):
    service = in_new_mounts('mount -t tmpfs -o size=64k none $state; head -c 60k /dev/zero >$state/full; exec "$@"',
                            make_slipway())
    assert "is full" in refused(service, DISK_FULL)


def test_a_database_from_a_newer_version_is_told_and_left_alone(slipway):
    assert slipway.stop() == 0
    database = slipway.state / "control.db"
    subprocess.run(["python3", "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version = 9999')",
                    database], check=True)
    before = database.read_bytes()
    sentence = refused(slipway, PERMANENT)
    assert "the controller cannot start: " in sentence or "the gateway cannot start: " in sentence
    assert "newer" in sentence
    assert database.read_bytes() == before


def test_help_names_every_setting_and_exit_status():
    text = subprocess.run([PROGRAM, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    assert "--upstream-timeout" in text and "SLIPWAY_MEMORY_BUDGET" in text
    for status in (SETTINGS, IN_USE, ADDRESS, UNWRITABLE, DISK_FULL, PERMANENT, AT_ONCE):
        assert f"\n  {status:3}  " in text


def test_a_relative_library_is_found_by_the_runners(make_slipway, models):
    library = os.path.relpath(Path(PROGRAM).resolve().parent / "deps/onnxruntime/lib/libonnxruntime.so", models)
    service = make_slipway(folder=models / "service", onnxruntime=os.path.join("..", library)).start()
    assert service.deploy("one", tiny.add_one(models))["status"] == "active"


def test_a_library_that_is_not_there_is_told_at_the_start(make_slipway):
    assert "onnxruntime" in refused(make_slipway(onnxruntime="nowhere.so"), SETTINGS)
