"""What was used is given back: memory and descriptors after many deployments, updates and requests have come and gone."""

import os

import httpx
import pytest

import models as tiny
from deployments import (Busy, answered, begin_delete, check_truth, delete, deploy, httpx_client, infer_body, packages, patch, runners,
                         update)
from slipway import eventually

ROLES = ("supervisor", "controller", "indexer", "gateway")
GROWTH = 3 << 20  # bytes of all four together; a leak of 40 KB a cycle would show


def memory(service):
    return sum(process["memory_bytes"] for process in service.processes() if process["role"] in ROLES)


def descriptors(service):
    return {role: len(os.listdir(f"/proc/{service.pids(role)[0]}/fd")) for role in ROLES}


def expect_flat(service, cycle, warm_up, cycles):
    """After the warm-up, `cycles` more leave memory and descriptors where they were."""
    for i in range(warm_up):
        cycle(i)
    before, open_before = memory(service), descriptors(service)
    for i in range(cycles):
        cycle(i)
    grown = memory(service) - before
    assert grown < GROWTH, f"{grown} bytes more than {before} after {cycles} cycles"
    eventually(lambda: all(count <= open_before[role] + 1 for role, count in descriptors(service).items()),
               what=f"no more descriptors than {open_before}")


def test_100_load_and_unload_cycles_leave_memory_and_descriptors_flat(make_slipway, models):
    slipway = make_slipway(access_log="false").start()
    model = tiny.add_one(models)

    def cycle(_):
        deploy(slipway, "sum", model)
        answered(slipway.client.post("/v2/models/sum/infer", json=infer_body((1, 2, 3, 4))), 200)
        delete(slipway, "sum")

    expect_flat(slipway, cycle, warm_up=20, cycles=80)
    assert runners(slipway) == {} and packages(slipway) == set()
    for folder in ("run", "logs"):
        left = [path.name for path in (slipway.state / folder).iterdir() if path.name != "controller.sock"]
        assert left == [], f"{len(left)} files are left in {folder}"
    check_truth(slipway)


def test_updates_and_kills_leave_memory_and_descriptors_flat(make_slipway, models):
    slipway = make_slipway(access_log="false", rollback_window="0s").start()
    variants = [tiny.add_one(models, "one"), tiny.add_one(models, "two", 10)]
    deploy(slipway, "sum", variants[1])
    with Busy(httpx_client(slipway, "sum"), httpx_client(slipway, "sum")) as busy:

        def cycle(i):
            update(slipway, "sum", variants[i % 2], replicas=1 + i % 2)
            patch(slipway, "sum", replicas=2)
            slipway.kill(sorted(runners(slipway))[0])
            busy.pass_on(3)
            eventually(lambda: len(runners(slipway)) == 2)

        expect_flat(slipway, cycle, warm_up=8, cycles=20)
        busy.check()
    check_truth(slipway)


def test_failed_deployments_leave_nothing_behind(make_slipway, models):
    slipway = make_slipway(access_log="false", replica_restarts=0).start()
    broken = [tiny.truncated(models), tiny.deadly(models), tiny.not_a_model(models)]

    def cycle(i):
        deploy(slipway, "bad", broken[i % 3], status="failed")
        begin_delete(slipway, "bad")
        eventually(lambda: slipway.client.get("/v1/deployments/bad").status_code == 404)

    expect_flat(slipway, cycle, warm_up=9, cycles=21)
    assert packages(slipway) == set()
    check_truth(slipway)


@pytest.mark.sanitizer
def test_connections_that_come_and_go_leave_no_descriptors(slipway, models):
    deploy(slipway, "sum", tiny.add_one(models))

    def cycle(_):
        with httpx.Client(base_url=slipway.url, timeout=60) as client:
            assert client.post("/v2/models/sum/infer", json=infer_body((1, 2, 3, 4))).status_code == 200
            assert client.get("/v1/deployments/sum").status_code == 200

    for i in range(10):
        cycle(i)
    before = descriptors(slipway)
    for i in range(100):
        cycle(i)
    eventually(lambda: all(count <= before[role] + 1 for role, count in descriptors(slipway).items()), what=f"no more than {before}")
