"""Replacing what serves: no request fails, and every answer is one of the two models' (DESIGN 4, RULES R)."""

import os
import signal

import pytest

import models as tiny
from deployments import (Busy, amount, answered, begin_update, check_truth, deploy, events, get, httpx_client, infer, openai_client,
                         patch, post, request, runners, settle, steps, triton_client, update)
from slipway import eventually, lives


@pytest.fixture
def one(models):
    return tiny.add_one(models, "one", 1)


@pytest.fixture
def two(models):
    return tiny.add_one(models, "two", 10)


@pytest.fixture
def busy(slipway, one, models):
    """Two deployments, `sum` and `words`, under eight clients of three kinds."""
    deploy(slipway, "sum", one)
    deploy(slipway, "words", tiny.embedding(models, "words-7", seed=7))
    with Busy(
        *(httpx_client(slipway, "sum") for _ in range(4)),
        *(triton_client(slipway, "sum") for _ in range(2)),
        *(openai_client(slipway, "words") for _ in range(2)),
    ) as clients:
        yield clients


def expect_only(busy, *answers):
    """From now on nobody sees anything else, and nobody has failed."""
    busy.pass_on(2)  # what is on its way began before
    busy.forget()
    busy.pass_on()
    assert set(busy.seen) == set(answers)
    busy.check()


# ---- under load


@pytest.mark.sanitizer
def test_an_update_and_its_rollback_under_eight_clients_fail_no_request(slipway, busy, two, models):
    expect_only(busy, 1, 7)
    assert update(slipway, "sum", two)["serving_revision"] == 2
    assert update(slipway, "words", tiny.embedding(models, "words-8", seed=8))["serving_revision"] == 2
    expect_only(busy, 10, 8)
    assert post(slipway, "sum", "rollback")["serving_revision"] == 1
    assert post(slipway, "words", "rollback")["serving_revision"] == 1
    expect_only(busy, 1, 7)


def test_updates_one_after_the_other_fail_no_request(slipway, busy, one, two):
    for model in (two, one, two, one, two):
        update(slipway, "sum", model)
        busy.pass_on()
    expect_only(busy, 10, 7)
    check_truth(slipway, {("sum", 6): 10})


def test_a_restart_under_eight_clients_fails_no_request_and_ends_every_old_process(slipway, busy):
    patch(slipway, "sum", replicas=3)
    before = set(runners(slipway))
    post(slipway, "sum", "restart")
    post(slipway, "words", "restart")
    assert not before & set(runners(slipway))
    expect_only(busy, 1, 7)
    check_truth(slipway, {("sum", 1): 1})


def test_scaling_up_and_down_under_eight_clients_fails_no_request(slipway, busy):
    for replicas in (3, 1, 4, 2):
        assert patch(slipway, "sum", replicas=replicas)["replicas"] == replicas
        assert len(runners(slipway, "sum")) == replicas
        busy.pass_on()
    expect_only(busy, 1, 7)
    check_truth(slipway, {("sum", 1): 1})


def test_a_patch_of_resources_under_eight_clients_fails_no_request(slipway, busy):
    before = set(runners(slipway, "sum"))
    deployment = patch(slipway, "sum", resource_allocation={"memory": "1Gi", "cpu": 2})
    assert deployment["revision"] == 1
    assert not before & set(runners(slipway, "sum"))
    expect_only(busy, 1, 7)


def test_a_delete_of_another_deployment_fails_no_request(slipway, busy, two):
    for _ in range(3):
        deploy(slipway, "other", two)
        answered(slipway.client.delete("/v1/deployments/other"))
        eventually(lambda: slipway.client.get("/v1/deployments/other").status_code == 404)
    expect_only(busy, 1, 7)


def test_a_request_that_began_before_the_update_is_answered_by_what_it_began_with(slipway, models, two):
    slow = tiny.slow(models, rounds=100)
    deploy(slipway, "sum", slow)
    with Busy(httpx_client(slipway, "sum"), warm=1) as clients:
        update(slipway, "sum", two)
        clients.pass_on()
        clients.check()
    assert clients.seen[1] >= 1 and clients.seen[10] >= 1


# ---- failed updates


@pytest.mark.parametrize("broken", ["truncated", "not_a_model", "always_nan", "deadly"])
def test_a_failed_update_keeps_the_old_revision_serving(slipway, busy, models, broken):
    model = getattr(tiny, broken)(models)
    (pid,) = runners(slipway, "sum")
    failed = update(slipway, "sum", model, status="failed")
    assert (failed["revision"], failed["serving_revision"], failed["model_uri"]) == (2, 1, str(model))
    assert failed["deployed_model_version"] == slipway.client.get("/v1/deployments/sum/revisions").json()[-1]["deployed_model_version"]
    assert failed["error"]["causes"][-1] in failed["message"] and "revision 1 goes on serving" in failed["message"]
    task = slipway.client.get(f"/v1/tasks/{failed['task_id']}").json()
    assert (task["status"], task["step"]) == ("failed", "ready") and task["error"]["causes"]
    assert slipway.client.post(failed["endpoint_url"] + "/infer").status_code == 400  # it is there
    assert set(runners(slipway, "sum")) == {pid}
    expect_only(busy, 1, 7)
    check_truth(slipway, {("sum", 1): 1})


def test_a_failed_deployment_is_updated_and_rolled_back_like_any_other(slipway, models, one, two):
    deploy(slipway, "sum", one)
    update(slipway, "sum", two)
    update(slipway, "sum", tiny.truncated(models), status="failed")
    assert amount(slipway, "sum") == 10
    recovered = post(slipway, "sum", "rollback")
    assert (recovered["serving_revision"], recovered["revision"], recovered.get("error")) == (1, 1, None)
    assert amount(slipway, "sum") == 1
    assert update(slipway, "sum", two)["serving_revision"] == 4
    check_truth(slipway, {("sum", 4): 10})


def test_an_update_to_nothing_keeps_the_old_revision_serving(slipway, one, models):
    deploy(slipway, "sum", one)
    failed = update(slipway, "sum", models / "nowhere", status="failed")
    assert failed["error"]["error"] == "ModelRegistryError"
    assert str(models / "nowhere") in failed["message"]
    assert amount(slipway, "sum") == 1
    check_truth(slipway, {("sum", 1): 1})


def test_an_update_that_is_refused_puts_everything_back(make_slipway, one, models):
    slipway = make_slipway(memory_budget="100Mi").start()
    before = deploy(slipway, "sum", one, tags={"a": 1})
    refused = begin_update(slipway, "sum", tiny.add_one(models, "two", 10), "total", memory="1Gi", tags={"a": 2}, replicas=2)
    after = settle(slipway, "sum")
    for field in ("status", "deployment_name", "model_uri", "revision", "serving_revision", "replicas", "tags"):
        assert after[field] == before[field], field
    assert "not enough memory: 1.0 GiB for each of 2 replicas" in after["message"] and "100 MiB (memory_budget)" in after["message"]
    task = slipway.client.get(f"/v1/tasks/{refused['task_id']}").json()
    assert (task["status"], task["error"]["error"]) == ("refused", "RefusedError") and "not enough memory" in task["detail"]
    assert slipway.client.get("/v1/deployments/total").status_code == 404
    check_truth(slipway, {("sum", 1): 1})


# ---- the rollback window


def test_a_rollback_inside_the_window_takes_the_warm_processes_over(slipway, one, two):
    deploy(slipway, "sum", one, replicas=2)
    old = set(runners(slipway, "sum"))
    update(slipway, "sum", two, replicas=2)
    assert set(runners(slipway, "sum", 1)) == old
    new = set(runners(slipway, "sum", 2))
    post(slipway, "sum", "rollback")
    assert set(runners(slipway, "sum", 1)) == old and set(runners(slipway, "sum", 2)) == new
    assert amount(slipway, "sum") == 1
    check_truth(slipway, {("sum", 1): 1})


def test_an_update_over_a_warm_revision_keeps_only_the_newest_one_warm(slipway, one, two, models):
    deploy(slipway, "sum", one)
    update(slipway, "sum", two)
    (first,) = runners(slipway, "sum", 1)
    update(slipway, "sum", tiny.add_one(models, "three", 100))
    assert {process["revision"] for process in runners(slipway, "sum").values()} == {2, 3}
    assert not lives(first)
    check_truth(slipway, {("sum", 3): 100})


def test_after_the_window_the_old_processes_end_and_a_rollback_starts_new_ones(make_slipway, one, two):
    slipway = make_slipway(rollback_window="1s").start()
    deploy(slipway, "sum", one)
    (old,) = runners(slipway, "sum")
    update(slipway, "sum", two)
    eventually(lambda: not lives(old), what="the window ends")
    retire = eventually(lambda: [task for task in slipway.client.get("/v1/tasks?kind=retire").json() if task["status"] == "done"])
    assert len(retire) == 1
    post(slipway, "sum", "rollback")
    assert amount(slipway, "sum") == 1
    check_truth(slipway, {("sum", 1): 1})


def test_without_a_window_the_old_processes_end_at_once(make_slipway, one, two):
    slipway = make_slipway(rollback_window="0s").start()
    deploy(slipway, "sum", one)
    update(slipway, "sum", two)
    assert len(runners(slipway, "sum")) == 1
    assert not slipway.client.get("/v1/tasks?kind=retire").json()
    check_truth(slipway, {("sum", 2): 10})


def test_what_memory_cannot_keep_warm_is_stopped_and_that_is_said(make_slipway, one, two, models):
    slipway = make_slipway(memory_budget="150Mi").start()
    deploy(slipway, "sum", one)
    (old,) = runners(slipway, "sum")
    update(slipway, "sum", two)
    assert lives(old)
    deploy(slipway, "other", tiny.add_one(models, "three", 100), memory="80Mi")
    eventually(lambda: not lives(old), what="the warm process makes room")
    assert "revision 1 is kept warm no longer: its memory was needed" in get(slipway, "sum")["message"]
    check_truth(slipway, {("sum", 2): 10, ("other", 1): 100})


# ---- names and strategies


@pytest.mark.sanitizer
def test_a_renamed_deployment_answers_to_both_names_until_another_takes_the_old_one(slipway, one, two):
    first = deploy(slipway, "old", one)
    renamed = update(slipway, "old", two, new_name="new")
    assert renamed["deployment_id"] == first["deployment_id"]
    assert renamed["deployment_name"] == "new" and renamed["endpoint_url"].endswith("/v2/models/new")
    assert amount(slipway, "old") == amount(slipway, "new") == 10
    assert get(slipway, "old") == get(slipway, "new") == renamed
    second = deploy(slipway, "old", one)
    assert second["deployment_id"] != first["deployment_id"]
    eventually(lambda: amount(slipway, "old") == 1)
    assert amount(slipway, "new") == 10
    assert get(slipway, "old")["deployment_id"] == second["deployment_id"]
    answered(slipway.client.delete("/v1/deployments/new"))
    eventually(lambda: slipway.client.get("/v1/deployments/new").status_code == 404)
    assert amount(slipway, "old") == 1
    check_truth(slipway, {("old", 1): 1})


def test_a_deleted_deployment_takes_its_former_names_along(slipway, one, two):
    deploy(slipway, "old", one)
    update(slipway, "old", two, new_name="new")
    answered(slipway.client.delete("/v1/deployments/old"))
    for name in ("old", "new"):
        eventually(lambda name=name: slipway.client.get(f"/v1/deployments/{name}").status_code == 404)
        assert slipway.client.get(f"/v2/models/{name}").status_code == 404


def test_a_rename_to_a_name_that_is_taken_is_a_conflict_that_says_so(slipway, one):
    deploy(slipway, "a", one)
    deploy(slipway, "b", one)
    answer = slipway.client.put("/v1/deployments/a", json=request("b", one))
    assert answer.status_code == 409 and answer.json()["error"] == "ConflictError"
    assert "the name b is taken" in answer.json()["detail"]
    assert get(slipway, "a")["status"] == "active"


def test_an_undone_rename_keeps_the_new_name_when_another_deployment_took_the_old_one(slipway, one, models):
    deploy(slipway, "old", one)
    running = begin_update(slipway, "old", tiny.slow(models, rounds=100), new_name="new")
    deploy(slipway, "old", tiny.add_one(models, "three", 100))
    answered(slipway.client.post(f"/v1/tasks/{running['task_id']}/cancel"))
    undone = settle(slipway, running["deployment_id"])
    assert (undone["deployment_name"], undone["revision"]) == ("new", 1)
    check_truth(slipway, {("new", 1): 1, ("old", 1): 100})


def test_recreate_stops_the_old_revision_first_and_says_that_there_was_a_gap(make_slipway, one, two):
    slipway = make_slipway(memory_budget="100Mi").start()  # two do not fit
    deploy(slipway, "sum", one)
    (old,) = runners(slipway, "sum")
    refused = update(slipway, "sum", two, memory="70Mi")
    assert "not enough memory" in refused["message"] and amount(slipway, "sum") == 1
    deployment = update(slipway, "sum", two, memory="70Mi", strategy="recreate")
    assert "gap" in deployment["message"]
    assert amount(slipway, "sum") == 10 and not lives(old)
    check_truth(slipway, {("sum", 3): 10})


def test_a_recreate_that_fails_brings_the_old_revision_back(slipway, one, models):
    deploy(slipway, "sum", one)
    failed = update(slipway, "sum", tiny.truncated(models), status="failed", strategy="recreate")
    assert failed["serving_revision"] == 1 and "revision 1 was started again, after a gap" in failed["message"]
    assert amount(slipway, "sum") == 1
    check_truth(slipway, {("sum", 1): 1})


def test_a_second_operation_while_one_runs_is_a_conflict_that_names_it(slipway, one, models):
    deploy(slipway, "sum", one)
    running = begin_update(slipway, "sum", tiny.slow(models, rounds=100))
    for method, path, body in (("PUT", "", request("sum", one)), ("PATCH", "", {"replicas": 2}), ("POST", "/rollback", None),
                               ("POST", "/restart", None)):
        answer = slipway.client.request(method, f"/v1/deployments/sum{path}", json=body)
        assert answer.status_code == 409 and running["task_id"] in answer.json()["detail"], answer.text
    settle(slipway, "sum")
    assert steps(slipway, "sum")[-8:] == ["fetch", "verify", "package", "provision", "ready", "switch", "drain", "retire"]


# ---- one replica's death


@pytest.mark.sanitizer
def test_the_death_of_one_of_two_replicas_under_eight_clients_costs_no_request(slipway, busy):
    patch(slipway, "sum", replicas=2)
    patch(slipway, "words", replicas=2)
    for _ in range(3):
        for name in ("sum", "words"):
            # Not before the gateway has both: the death is to find another one that lives.
            eventually(lambda name=name: "message" not in get(slipway, name) and len(runners(slipway, name)) == 2)
            busy.pass_on(3)
            pid = sorted(runners(slipway, name))[0]
            slipway.kill(pid)
            busy.pass_on(3)
            busy.check()
    for name in ("sum", "words"):
        eventually(lambda name=name: "message" not in get(slipway, name), what="both replicas are up again")
    expect_only(busy, 1, 7)
    check_truth(slipway, {("sum", 1): 1})


def test_a_single_replica_that_is_killed_comes_back_and_the_message_tells(slipway, models):
    deploy(slipway, "sum", tiny.slow(models))  # slow to load, too
    (old,) = runners(slipway, "sum")
    slipway.kill(old)
    eventually(lambda: get(slipway, "sum").get("message", "").startswith("0 of 1 replicas up: killed by signal 9"))
    eventually(lambda: amount(slipway, "sum") == 1)
    (new,) = runners(slipway, "sum")
    assert new != old

    def death_and_return():
        told = [event["message"] for event in events(slipway, "sum", "replica")]
        died = next((n for n, message in enumerate(told) if "killed by signal 9" in message), None)
        assert died is not None and any(message.endswith("is up") for message in told[died + 1:]), told
        return True

    eventually(death_and_return)
    eventually(lambda: "message" not in get(slipway, "sum"))
    check_truth(slipway, {("sum", 1): 1})


def test_a_replica_that_hangs_for_a_while_costs_no_answer_that_is_wrong(slipway, two):
    deploy(slipway, "sum", two)
    (pid,) = runners(slipway, "sum")
    with Busy(httpx_client(slipway, "sum", (10,))) as clients:
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        clients.pass_on()
        clients.check()
    assert infer(slipway, "sum") == [11, 12, 13, 14]
