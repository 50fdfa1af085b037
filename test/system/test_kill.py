"""kill -9 of each process in the middle of each step of each pipeline, and other ways for everything to end (RULES P, R, S).

After every kill the record, the processes, the folders and the answers must agree (check_truth), the task must have come to its
end, and of the requests only those may have failed whose process it was.
"""

import os
import re
import signal
import socket
import threading

import httpx
import pytest

import models as tiny
from deployments import (Busy, Follower, amount, answered, begin_delete, begin_deploy, begin_update, check_truth, deploy, events, get,
                         httpx_client, infer, infer_body, packages, patch, request, runners, settle, task, update, wait_task)
from slipway import DEADLINE, eventually, in_own_mounts, lives

ROLES = ("controller", "gateway", "runner", "supervisor")
UPDATE = ("fetch", "verify", "package", "provision", "ready", "switch", "drain", "retire")
DELETE = ("route_away", "drain", "stop", "unpin")

# What a client may see of a connection whose other end was killed. A refused connection is not among it.
CUT_OFF = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


def model_for(models, step):
    """One that adds 10, and with which the step lasts."""
    if step in ("fetch", "verify", "package"):
        return tiny.padded(models, "two", 10, mebibytes=48)
    if step == "ready":
        return tiny.slow(models, "two", amount=10)
    return tiny.add_one(models, "two", 10)


class Killer:
    """Knows its victims before the moment comes, so that nothing is lost by looking for them then."""

    def __init__(self, service, role):
        self.service, self.role = service, role
        self.spared = set(runners(service, "other"))
        self.victims = None if role == "runner" else service.pids(role)

    def strike(self):
        victims = [pid for pid in self.service.pids("runner") if pid not in self.spared] if self.victims is None else self.victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if self.role == "supervisor":
            self.service.process.wait(DEADLINE)
            self.service.start()
        else:
            for pid in victims:
                eventually(lambda pid=pid: not lives(pid))


def kill_in_step(service, role, task_id, step):
    killer = Killer(service, role)
    with Follower(service.state) as record:
        record.wait_for_step(task_id, step)
        killer.strike()
    service.wait_until_ready()


def check_clients(busy, role, touched=()):
    """`touched`: clients of the deployment whose runners were killed."""
    for client in busy.clients:
        if role == "controller" or (role == "runner" and client not in touched):
            assert not client.failures, client.failures[:3]
        if role == "gateway":
            assert len(client.failures) <= 1 and all(isinstance(failure, CUT_OFF) for failure in client.failures), client.failures[:3]
        # Whoever it was: what was answered was right, and later requests are answered.
        assert not any(isinstance(failure, AssertionError) for failure in client.failures), client.failures[:3]
        client.failures.clear()
    busy.pass_on()
    busy.check()


def expect_done(service, task_id):
    finished = wait_task(service, task_id)
    assert finished["status"] == "done", finished
    return finished


# ---- each step, each process


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("step", UPDATE)
def test_a_kill_in_the_middle_of_an_update(slipway, models, role, step):
    first = tiny.slow(models, "one", rounds=30) if step == "drain" else tiny.add_one(models, "one")
    deploy(slipway, "sum", first)
    deploy(slipway, "other", tiny.add_one(models, "three", 100))
    model = model_for(models, step)
    touched = httpx_client(slipway, "sum")
    with Busy(touched, httpx_client(slipway, "other", (100,)), warm=3) as busy:
        running = begin_update(slipway, "sum", model)
        kill_in_step(slipway, role, running["task_id"], step)
        expect_done(slipway, running["task_id"])
        assert settle(slipway, "sum")["serving_revision"] == 2
        check_truth(slipway, {("sum", 2): 10, ("other", 1): 100})
        check_clients(busy, role, [touched])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("step", DELETE)
def test_a_kill_in_the_middle_of_a_delete(slipway, models, role, step):
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    deploy(slipway, "other", tiny.add_one(models, "three", 100))
    with Busy(httpx_client(slipway, "other", (100,)), httpx_client(slipway, "other", (100,))) as busy:
        deleted = begin_delete(slipway, "sum")
        kill_in_step(slipway, role, deleted["task_id"], step)
        expect_done(slipway, deleted["task_id"])
        assert get(slipway, deleted["deployment_id"])["status"] == "inactive"
        assert len(packages(slipway)) == 1 and len(runners(slipway)) == 1
        check_truth(slipway, {("other", 1): 100})
        check_clients(busy, role)


@pytest.mark.parametrize("role", ROLES)
def test_a_kill_in_the_middle_of_a_restart(slipway, models, role):
    deploy(slipway, "sum", tiny.slow(models, rounds=15), replicas=2)
    deploy(slipway, "other", tiny.add_one(models, "three", 100))
    before = set(runners(slipway, "sum"))
    touched = httpx_client(slipway, "sum")
    with Busy(touched, httpx_client(slipway, "other", (100,)), warm=3) as busy:
        running = answered(slipway.client.post("/v1/deployments/sum/restart"))
        kill_in_step(slipway, role, running["task_id"], "roll")
        expect_done(slipway, running["task_id"])
        assert not before & set(runners(slipway, "sum"))
        check_truth(slipway, {("sum", 1): 1, ("other", 1): 100})
        check_clients(busy, role, [touched])


@pytest.mark.parametrize("role", ["controller", "supervisor"])
@pytest.mark.parametrize("step", UPDATE[:6])
def test_a_kill_in_the_middle_of_a_deploy(slipway, models, role, step):
    created = begin_deploy(slipway, "sum", model_for(models, step))
    kill_in_step(slipway, role, created["task_id"], step)
    expect_done(slipway, created["task_id"])
    assert settle(slipway, "sum")["serving_revision"] == 1
    check_truth(slipway, {("sum", 1): 10})


@pytest.mark.parametrize("step", ["provision", "ready", "drain"])
def test_a_kill_of_the_controller_while_scaling(slipway, models, step):
    deploy(slipway, "sum", tiny.add_one(models))
    with Busy(httpx_client(slipway, "sum", (1,)), httpx_client(slipway, "sum", (1,))) as busy:
        for replicas in (3, 1):
            running = answered(slipway.client.patch("/v1/deployments/sum", json={"replicas": replicas}))
            kill_in_step(slipway, "controller", running["task_id"], step)
            expect_done(slipway, running["task_id"])
            check_truth(slipway, {("sum", 1): 1})
        busy.check()


@pytest.mark.parametrize("role", ROLES)
def test_a_kill_in_the_middle_of_undoing(slipway, models, role):
    deploy(slipway, "sum", tiny.add_one(models, "one"))
    running = begin_update(slipway, "sum", tiny.slow(models, rounds=200, amount=10))
    with Follower(slipway.state) as record:
        record.wait_for_step(running["task_id"], "ready")
        killer = Killer(slipway, role)
        answered(slipway.client.post(f"/v1/tasks/{running['task_id']}/cancel"))
        killer.strike()
    slipway.wait_until_ready()
    assert wait_task(slipway, running["task_id"])["status"] == "canceled"
    assert settle(slipway, "sum")["revision"] == 1
    check_truth(slipway, {("sum", 1): 1})


def test_a_kill_of_the_controller_again_and_again_delays_an_update_and_no_more(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models, "one"))
    with Busy(httpx_client(slipway, "sum"), httpx_client(slipway, "sum")) as busy:
        running = begin_update(slipway, "sum", tiny.add_one(models, "two", 10))
        for _ in range(4):
            eventually(lambda: slipway.pids("controller"))
            slipway.kill("controller")
            busy.pass_on(3)
        slipway.wait_until_ready()
        expect_done(slipway, running["task_id"])
        check_truth(slipway, {("sum", 2): 10})
        busy.check()


# ---- what a death costs


@pytest.mark.sanitizer
def test_the_death_of_the_controller_costs_no_data_request(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    with Busy(*(httpx_client(slipway, "sum", (1,)) for _ in range(4))) as busy:
        for _ in range(3):
            slipway.kill("controller")
            busy.pass_on()
            # Control requests are told when to come back; none hangs.
            answer = slipway.client.get("/v1/deployments/sum")
            assert answer.status_code == 200 or (answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 0)
            slipway.wait_until_ready()
        busy.check()


@pytest.mark.sanitizer
def test_the_death_of_the_gateway_costs_the_connections_of_that_moment_and_no_more(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    with Busy(*(httpx_client(slipway, "sum", (1,)) for _ in range(4))) as busy:
        for _ in range(3):
            slipway.kill("gateway")
            busy.pass_on()
            check_clients(busy, "gateway")
    check_truth(slipway, {("sum", 1): 1})


def test_a_runner_that_dies_while_no_controller_lives_comes_back(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models))
    (controller,) = slipway.pids("controller")
    os.kill(controller, signal.SIGSTOP)
    slipway.kill("runner")
    eventually(lambda: amount(slipway, "sum") == 1)
    os.kill(controller, signal.SIGCONT)
    slipway.wait_until_ready()
    check_truth(slipway, {("sum", 1): 1})


def test_a_runner_that_dies_while_the_controller_is_replaced_is_known_to_the_next(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    slipway.kill("controller")
    slipway.kill("runner")
    slipway.wait_until_ready()
    check_truth(slipway, {("sum", 1): 1})
    eventually(lambda: "message" not in get(slipway, "sum"))


# ---- the end of everything


@pytest.mark.sanitizer
def test_after_kill_9_of_the_supervisor_everything_ends_and_the_next_serve_serves_the_same(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    deploy(slipway, "words", tiny.embedding(models))
    update(slipway, "sum", tiny.add_one(models, "two", 10), replicas=2)

    def seen():
        return [{key: value for key, value in get(slipway, name).items() if key != "updated_at"} for name in ("sum", "words")]

    before = seen()
    pids = set(runners(slipway)) | {pid for role in ("controller", "indexer", "gateway") for pid in slipway.pids(role)}
    assert len(pids) == 8
    slipway.kill("supervisor")
    for pid in pids:
        eventually(lambda pid=pid: not lives(pid), 10)
    slipway.start()
    eventually(lambda: amount(slipway, "sum") == 10)
    check_truth(slipway, {("sum", 2): 10})
    eventually(lambda: seen() == before, what="it tells the same as before")
    post_rollback = answered(slipway.client.post("/v1/deployments/sum/rollback"))
    expect_done(slipway, post_rollback["task_id"])
    check_truth(slipway, {("sum", 1): 1})


def test_what_was_deployed_serves_again_after_an_ordinary_end(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    update(slipway, "sum", tiny.add_one(models, "two", 10), replicas=2)
    running = begin_deploy(slipway, "late", tiny.slow(models, rounds=60))
    with Follower(slipway.state) as record:
        record.wait_for_step(running["task_id"], "ready")
    assert slipway.stop() == 0
    assert not slipway.survivors()
    slipway.start()
    expect_done(slipway, running["task_id"])
    check_truth(slipway, {("sum", 2): 10})


@pytest.mark.sanitizer
def test_sigterm_lets_what_is_in_flight_finish_and_exits_with_0(slipway, models):
    deploy(slipway, "sum", tiny.slow(models, rounds=100), replicas=2)
    answers = []

    def ask():
        answers.append(httpx.post(f"{slipway.url}/v2/models/sum/infer", json=infer_body((1, 2, 3, 4)), timeout=60))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()

    def in_flight():
        found = re.search(r'^slipway_requests_in_flight\{[^}]*deployment="sum"[^}]*\} (\d+)', slipway.client.get("/metrics").text, re.M)
        return found and int(found[1]) == len(clients)

    eventually(in_flight, what="all are in flight")
    assert slipway.stop() == 0
    for client in clients:
        client.join(DEADLINE)
    assert [answer.status_code for answer in answers] == [200] * len(clients)
    assert all(answer.json()["outputs"][0]["data"] == [2, 3, 4, 5] for answer in answers)
    assert not slipway.survivors()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((slipway.host, slipway.port), 5)


def test_sigterm_waits_no_longer_than_the_drain_deadline(make_slipway, models):
    slipway = make_slipway(drain="1s", upstream_timeout="1s").start()
    deploy(slipway, "sum", tiny.slow(models, rounds=60))
    (pid,) = runners(slipway)
    os.kill(pid, signal.SIGSTOP)
    with httpx.Client(base_url=slipway.url, timeout=60) as client:
        client.get("/livez")
        assert slipway.stop() == 0
    assert not slipway.survivors()


@pytest.mark.sanitizer
def test_a_request_that_is_broken_off_at_the_drain_deadline_is_in_the_log(make_slipway, models):
    slipway = make_slipway(drain="2s", upstream_timeout="2s").start()
    deploy(slipway, "sum", tiny.add_one(models))
    with socket.create_connection((slipway.host, slipway.port), 10) as client:
        client.sendall(b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: slipway\r\nContent-Length: 100\r\n\r\nhalf of it")
        eventually(lambda: re.search(r"^slipway_http_requests_open 2$", slipway.client.get("/metrics").text, re.M), what="it is open")
        assert slipway.stop() == 0
    assert "breaking off what is left requests=1" in slipway.log()
    assert re.search(r"access POST /v2/models/sum/infer status=", slipway.log())


# ---- a full disk


@pytest.fixture
def on_small_disk(make_slipway):
    """A service whose state lies on a disk of 24 MiB."""
    service = make_slipway(access_log="false")
    inside = service.command()
    service.command = lambda: in_own_mounts(
        f'mkdir -p {service.state}; mount -t tmpfs -o size=24m none {service.state}; exec "$@"', inside)
    service.start()
    service.state = type(service.state)(f"/proc/{service.pid}/root{service.state}")
    return service


def test_what_the_disk_does_not_hold_fails_with_the_cause_and_what_serves_goes_on(on_small_disk, models):
    slipway = on_small_disk
    deploy(slipway, "sum", tiny.add_one(models))
    with Busy(httpx_client(slipway, "sum", (1,)), httpx_client(slipway, "sum", (1,))) as busy:
        failed = deploy(slipway, "large", tiny.padded(models, mebibytes=40), status="failed")
        assert "the model has 40.0 MiB, and the disk of the state folder has" in failed["message"], failed
        failed = update(slipway, "sum", tiny.padded(models, mebibytes=40), status="failed")
        assert failed["serving_revision"] == 1
        check_truth(slipway, {("sum", 1): 1})
        deploy(slipway, "small", tiny.add_one(models, "two", 10))
        check_truth(slipway, {("small", 1): 10})
        busy.check()


def test_while_the_disk_is_full_data_is_served_and_changes_are_refused_and_then_all_is_well(on_small_disk, models):
    slipway = on_small_disk
    deploy(slipway, "sum", tiny.add_one(models), replicas=2)
    two = tiny.add_one(models, "two", 10)
    with Busy(httpx_client(slipway, "sum", (1,)), httpx_client(slipway, "sum", (1,))) as busy:
        filler = slipway.state / "filler"
        with open(filler, "wb", buffering=0) as file:
            with pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))
        answers = [slipway.client.post("/v1/deployments", json=request(f"new-{i}", two)) for i in range(3)]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert refused and all(answer.status_code in (503, 507) and "full" in answer.json()["detail"] for answer in refused), answers
        busy.pass_on()
        slipway.kill(sorted(runners(slipway))[0])
        busy.pass_on()
        busy.check()
        assert get(slipway, "sum")["status"] == "active"
        filler.unlink()
        deploy(slipway, "later", two)
        for i, answer in enumerate(answers):
            if answer.status_code == 202:
                settle(slipway, f"new-{i}", status=None)
        eventually(lambda: len(runners(slipway, "sum")) == 2)
        check_truth(slipway, {("sum", 1): 1, ("later", 1): 10})
        busy.check()
