"""RULES U: the running program is replaced by another while clients work, and they do not notice; one that does not work
leaves the old one running, which says why. X9: a switch meanwhile."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

import models as folders
from pauses import paused_service
from slipway import PROGRAM, ROOT, eventually
from upgrades import FAILS, NEXT, REFUSES, ROLES, TENSOR, Busy, Idle, begin, is_over, pids, show, upgrade


def prepare(service, models):
    assert service.deploy("one", folders.add_one(models))["status"] == "active"
    assert service.deploy("encoder", folders.embedding(models))["status"] == "active"
    notes = service.create_collection("notes", "encoder", probe="hello")
    notes.bulk([{"id": f"d{i}", "text": folders.WORDS[i % 7 + 4]} for i in range(100)], wait=True)
    return notes


def assert_replaced(service, before):
    after = pids(service)
    assert all(len(after[role]) == 1 and set(after[role]).isdisjoint(before[role]) for role in ROLES), (before, after)


@pytest.mark.sanitizer
def test_an_upgrade_loses_no_request_and_no_connection(make_slipway, models):
    service = make_slipway(access_log="false").start()
    notes = prepare(service, models)
    runners, supervisor = service.pids("runner"), service.pid
    with Idle(service, 20) as idle, Busy(service, notes) as busy:
        for program, version in ((NEXT, "0.9.0-next"), (PROGRAM, None), (NEXT, "0.9.0-next")):
            before = pids(service)
            record = upgrade(service, program)
            assert record["state"] == "done", record
            assert version is None or record["version"] == record["to"] == version
            assert os.path.samefile(record["running"], program)
            assert_replaced(service, before)
            idle.ask()
            busy.settle()
    assert service.process.poll() is None and os.path.samefile(f"/proc/{supervisor}/exe", NEXT)
    assert service.pids("runner") == runners
    assert {process["restarts"] for process in service.processes()} == {0}
    assert service.stop() == 0


def test_without_a_name_it_is_the_file_that_serve_was_started_from(make_slipway, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in (tmp_path, folder):  # where each of the two programs looks for the libraries that it was built with
        (place / "deps").symlink_to(ROOT / "build" / "deps")
    installed, fresh = folder / "slipway", folder / "slipway.new"
    shutil.copy(PROGRAM, installed)
    service = make_slipway(program=str(installed)).start()
    shutil.copy(NEXT, fresh)
    fresh.rename(installed)  # as a package does it
    record = upgrade(service, None)
    assert record["state"] == "done" and record["version"] == "0.9.0-next" and record["running"] == str(installed)
    assert all(os.path.samefile(f"/proc/{pid}/exe", installed) for found in pids(service).values() for pid in found)


# ---- what cannot follow ----------------------------------------------------------------------------------------------


def copy_of_program(folder, name, size=None, mode=0o755):
    path = folder / name
    with open(PROGRAM, "rb") as program:
        path.write_bytes(program.read(size if size else -1))
    path.chmod(mode)
    return path


def script(folder, _):
    path = folder / "script"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


UNSUITABLE = {
    "nothing": (lambda folder, _: folder / "nothing", 400, "No such file"),
    "a folder": (lambda folder, _: folder, 400, "is not a file"),
    "a script": (script, 400, "not a program"),
    "half a program": (lambda folder, _: copy_of_program(folder, "half", 5000), 409, "cannot take over"),
    "everybody's to write": (lambda folder, _: copy_of_program(folder, "open", mode=0o757), 400, "everybody may write it"),
    "not from the root on": (lambda folder, _: "slipway", 400, "from the root on"),
    "one that refuses": (lambda folder, _: REFUSES, 409, "it keeps its state in another way"),
    "another program": (lambda folder, _: shutil.which("false"), 409, "cannot take over"),
}


def test_what_cannot_follow_is_refused_with_the_reason(slipway, tmp_path):
    before = pids(slipway)
    for name, (make, status, why) in UNSUITABLE.items():
        answer = begin(slipway, make(tmp_path, None))
        assert answer.status_code == status and why in answer.json()["detail"], (name, answer.text)
        if name != "not from the root on":  # that one the controller refuses itself
            assert show(slipway)["state"] == "failed" and why in show(slipway)["reason"], name
    assert pids(slipway) == before
    slipway.wait_until_ready()


FAILURES = {role: role for role in ROLES} | {"serve": "could not take the state over"}


@pytest.mark.parametrize("role", FAILURES)
def test_a_program_whose_roles_do_not_work_gives_its_place_back(make_slipway, models, role):
    service = make_slipway(environment={"FAILING_ROLE": role}).start()
    notes = prepare(service, models)
    version = show(service)["version"]
    with Idle(service, 5) as idle, Busy(service, notes):
        record = upgrade(service, FAILS)
        assert record["state"] == "failed" and FAILURES[role] in record["reason"], record
        assert record["version"] == version and record["to"] == "0.9.0-fails"
        eventually(lambda: "went back" in service.log(), what="the roles stand again")
        idle.ask()
    assert os.path.samefile(f"/proc/{service.pid}/exe", PROGRAM)
    assert upgrade(service, NEXT)["state"] == "done"  # and it can be tried again


def test_a_database_that_cannot_be_read_is_found_before_anything_changes(slipway):
    before = pids(slipway)
    for mark, status in ((0, 409), (99 * 32768 + 90, 409), (99 * 32768 + 2, 202)):
        with sqlite3.connect(slipway.state / "control.db") as database:
            database.execute("PRAGMA user_version = 99")
            database.execute(f"PRAGMA application_id = {mark}")
        answer = begin(slipway, NEXT)
        assert answer.status_code == status, answer.text
        if status == 409:
            assert "newer Slipway" in answer.json()["detail"] and pids(slipway) == before
    assert eventually(lambda: is_over(slipway))["state"] == "done"
    slipway.wait_until_ready()


def test_one_upgrade_at_a_time(slipway):
    assert begin(slipway, NEXT).status_code == 202
    answer = begin(slipway, NEXT)
    assert answer.status_code == 409 and "under way" in answer.json()["detail"]
    assert eventually(lambda: is_over(slipway))["state"] == "done"


# ---- deaths meanwhile, and switches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_killed_in_the_middle_of_an_upgrade_is_started_again(slipway, role):
    (before,) = slipway.pids(role)
    assert begin(slipway, NEXT).status_code == 202

    def fresh():
        return [pid for pid in slipway.pids(role) if pid != before]

    os.kill(eventually(fresh, what=f"a new {role} is there")[0], signal.SIGKILL)
    assert eventually(lambda: is_over(slipway))["state"] == "done"
    slipway.wait_until_ready()
    assert all(len(found) == 1 for found in pids(slipway).values())


def test_X9_a_gateway_is_not_replaced_while_a_switch_is_under_way(make_slipway, tmp_path, models):
    service = paused_service(make_slipway, tmp_path)
    assert service.deploy("source", folders.embedding(models, "source", seed=1))["status"] == "active"
    assert service.deploy("destination", folders.embedding(models, "destination", seed=2))["status"] == "active"
    notes = service.create_collection("notes", "source", probe="hello")
    notes.bulk([{"id": f"d{i}", "text": folders.WORDS[i % 7 + 4]} for i in range(20)], wait=True)
    before = pids(service)
    with service.pauses.at("pair_read") as point:  # so that the gateway does not say that it has left the former pair
        task = notes.begin_reindex("destination", rollback_window=600, delete_source=False)
        assert [point.reached()] == before["gateway"]
        assert begin(service, service.program).status_code == 202
        eventually(lambda: "took over" in service.log())
        for role in ("controller", "indexer"):
            eventually(lambda role=role: service.pids(role) and service.pids(role) != before[role], what=f"another {role}")
        eventually(lambda: show(service)["state"] == "running")
        eventually(lambda: notes.client.get(f"/v1/tasks/{task['task_id']}").status_code == 200)
        assert service.pids("gateway") == before["gateway"]
    assert eventually(lambda: is_over(service))["state"] == "done"
    assert_replaced(service, before)
    answer = notes.client.get(f"/v1/tasks/{task['task_id']}/wait", params={"timeout": 60}, timeout=70)
    assert answer.json()["status"] == "done", answer.text
    assert len(notes.hits("hello", limit=50)) == 20


# ---- the command --------------------------------------------------------------------------------------------------------


def test_the_command_waits_and_restarts_the_runners(make_slipway, models):
    service = make_slipway(access_log="false").start()
    prepare(service, models)
    runners = service.pids("runner")
    done = subprocess.run([PROGRAM, "upgrade", "--url", service.url, "--program", str(NEXT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[0].startswith("upgraded ") and done.stdout.splitlines()[0].endswith(" → 0.9.0-next")
    assert sorted(done.stdout.splitlines()[1:]) == ["restarted encoder", "restarted one"]
    assert set(service.pids("runner")).isdisjoint(runners) and len(service.pids("runner")) == 2
    failed = subprocess.run([PROGRAM, "upgrade", "--url", service.url, "--program", str(REFUSES)], capture_output=True, text=True, timeout=120)
    assert failed.returncode == 5 and "it keeps its state in another way" in failed.stderr


def test_replicas_that_do_not_fit_twice_go_on_with_the_program_before(make_slipway, models):
    service = make_slipway(access_log="false", memory_budget="100Mi").start()
    assert service.deploy("one", folders.add_one(models), resource_allocation={"memory": "90Mi"})["status"] == "active"
    runners = service.pids("runner")
    done = subprocess.run([PROGRAM, "upgrade", "--url", service.url, "--program", str(NEXT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done
    assert "the replicas of one go on with the program before: " in done.stderr and "memory" in done.stderr
    assert service.pids("runner") == runners
    assert service.client.post("/v2/models/one/infer", json=TENSOR).status_code == 200


# ---- SIGHUP --------------------------------------------------------------------------------------------------------------


def reload(service, word="reloaded"):
    seen = service.log().count(word)
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: service.log().count(word) > seen, what=f"the log says {word}")


def test_sighup_takes_what_can_change_and_names_what_cannot(make_slipway, models, tmp_path):
    settings = tmp_path / "slipway.conf"
    settings.write_text("access_log = false\n")
    service = make_slipway(settings=settings).start()
    notes = prepare(service, models)
    before, supervisor = pids(service), service.pid
    with Idle(service, 5) as idle, Busy(service, notes):
        assert " access " not in service.log()
        settings.write_text("access_log = true\nlog_level = debug\ndrain = 33s\npublic_url = http://elsewhere\n")
        reload(service)
        idle.ask()
    assert_replaced(service, before)
    assert service.pid == supervisor and service.process.poll() is None
    changed = [line for line in service.log().splitlines() if "a setting has changed" in line]
    assert {line.split("setting=")[1] for line in changed} == {"access_log", "log_level", "drain"}
    (kept,) = [line for line in service.log().splitlines() if "keeps its value" in line]
    assert kept.endswith("setting=public_url")
    (gateway,) = service.pids("gateway")
    environment = open(f"/proc/{gateway}/environ", "rb").read().split(b"\0")
    assert b"SLIPWAY_DRAIN=33s" in environment or b"SLIPWAY_DRAIN=33000ms" in environment
    assert not any(line.startswith(b"SLIPWAY_PUBLIC_URL=http://elsewhere") for line in environment)
    eventually(lambda: " access " in service.log(), what="the access log is written")
    eventually(lambda: " debug " in service.log(), what="details are logged")


def test_a_service_manager_is_told_of_a_reload(make_slipway, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        settings = tmp_path / "slipway.conf"
        settings.write_text("")
        service = make_slipway(settings=settings, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}).start()
        assert manager.recv(4096) == b"READY=1\n"
        settings.write_text("log_level = debug\n")
        begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        service.process.send_signal(signal.SIGHUP)
        told = dict(line.split("=") for line in manager.recv(4096).decode().splitlines())
        assert told["RELOADING"] == "1" and int(told["MONOTONIC_USEC"]) >= begun
        assert manager.recv(4096) == b"READY=1\n"


def test_sighup_with_a_broken_file_changes_nothing(make_slipway, tmp_path):
    settings = tmp_path / "slipway.conf"
    settings.write_text("drain = 40s\n")
    service = make_slipway(settings=settings).start()
    before = pids(service)
    for broken, why in (("drain = soon\n", "drain"), ("no such setting\n", "slipway.conf"), ("upstream_timeout = 50s\n", "drain")):
        settings.write_text(broken)
        reload(service, "settings stay as they are")
        assert why in [line for line in service.log().splitlines() if "settings stay as they are" in line][-1]
    settings.write_text("drain = 40s\n")
    reload(service, "no setting has changed")
    assert pids(service) == before


def test_settings_with_which_a_role_does_not_start_are_taken_back(make_slipway, tmp_path):
    settings = tmp_path / "slipway.conf"
    settings.write_text("access_log = true\n")
    service = make_slipway(settings=settings).start()
    settings.write_text(f"tls_certificate = {tmp_path}/nowhere.pem\ntls_key = {tmp_path}/nowhere.key\n")
    before = service.pids("gateway")
    reload(service, "went back")
    assert service.pids("gateway") == before
    service.wait_until_ready()
