"""Deploying and deleting: what is promised of every deployment from its first request to its last (API.md, DESIGN 3 and 4)."""

import json
import os
import re
import time

import pytest

import models as tiny
from deployments import (amount, answered, begin_delete, begin_deploy, begin_update, check_truth, delete, deploy, events, get, infer,
                         infer_body, packages, patch, request, runners, settle, steps, task, update, wait_task)
from slipway import eventually, lives

MOUNTS = ["", "/api/v1/internal/inference-deployment"]


@pytest.fixture
def one(models):
    return tiny.add_one(models, "one", 1)


@pytest.fixture
def two(models):
    return tiny.add_one(models, "two", 10)


@pytest.fixture
def slow(models):
    """Takes some seconds to become ready."""
    return tiny.slow(models, rounds=120)


def cancel(service, task_id):
    return answered(service.client.post(f"/v1/tasks/{task_id}/cancel"))


def in_step(service, task_id, step):
    eventually(lambda: task(service, task_id).get("step") == step, what=f"the task is at {step}")


# ---- deploying


@pytest.mark.sanitizer
def test_a_deployment_becomes_active_and_its_endpoint_answers(slipway, one):
    created = begin_deploy(slipway, "sum", one, tags={"team": "a"})
    assert created["status"] == "creating" and created["revision"] == 1 and "serving_revision" not in created
    deployment = settle(slipway, "sum")
    assert deployment["deployment_id"] == created["deployment_id"] and deployment["task_id"] == created["task_id"]
    assert deployment["model_uri"] == str(one) and deployment["tags"] == {"team": "a"} and deployment["replicas"] == 1
    assert deployment["endpoint_url"] == f"{slipway.url}/v2/models/sum"
    answer = answered(slipway.client.post(deployment["endpoint_url"] + "/infer", json=infer_body((1, 2, 3, 4))), 200)
    assert answer["outputs"][0]["data"] == [2, 3, 4, 5] and answer["model_version"] == "1"
    done = task(slipway, created["task_id"])
    assert (done["kind"], done["status"], done["step"]) == ("deploy", "done", "switch")
    check_truth(slipway, {("sum", 1): 1})


def test_the_deployed_version_is_the_digest_of_what_serves(slipway, one):
    version = deploy(slipway, "sum", one)["deployed_model_version"]
    assert re.fullmatch("package:sha256:[0-9a-f]{64}", version)
    folder = slipway.state / "packages" / "sha256" / version.removeprefix("package:sha256:")
    assert (folder / "model.onnx").read_bytes() == (one / "model.onnx").read_bytes()
    again = deploy(slipway, "again", one)
    assert again["deployed_model_version"] == version and len(packages(slipway)) == 1


def test_a_model_that_changes_after_it_was_deployed_changes_nothing(slipway, one, models):
    before = deploy(slipway, "sum", one)
    tiny.add_one(models, "one", 10)
    slipway.kill("runner")
    eventually(lambda: amount(slipway, "sum") == 1)
    assert get(slipway, "sum")["deployed_model_version"] == before["deployed_model_version"]
    assert update(slipway, "sum", one)["deployed_model_version"] != before["deployed_model_version"]
    assert amount(slipway, "sum") == 10


def test_every_change_of_state_is_an_event(slipway, models):
    deploy(slipway, "words", tiny.embedding(models))
    assert steps(slipway, "words") == ["fetch", "verify", "package", "provision", "ready", "switch"]
    assert [event["message"] for event in events(slipway, "words", "deployment_status")] == ["creating", "active"]
    assert [event["message"] for event in events(slipway, "words", "task_status")] == ["pending", "processing", "done"]
    assert {event["kind"] for event in events(slipway, "words")} >= {"package", "replica", "route"}
    delete_task = begin_delete(slipway, "words")["task_id"]
    done = wait_task(slipway, delete_task)
    assert done["status"] == "done"
    assert steps(slipway, done["deployment_id"])[-4:] == ["route_away", "drain", "stop", "unpin"]
    assert [event["message"] for event in events(slipway, done["deployment_id"], "deployment_status")][-2:] == ["deleting", "inactive"]


def test_a_revision_tells_what_its_runner_found_out(slipway, models):
    deploy(slipway, "words", tiny.embedding(models))
    (revision,) = answered(slipway.client.get("/v1/deployments/words/revisions"), 200)
    facts = revision["facts"]
    assert revision["served"] is True and revision["encoder_digest"] == facts["encoder_digest"]
    assert (facts["kind"], facts["dimension"], facts["batching"]) == ("embedding", 8, True)
    assert facts["recipe"]["pooling"] == {"value": "mean", "from": "1_Pooling/config.json"}
    deploy(slipway, "variant", tiny.batch_variant_embedding(models))
    (revision,) = answered(slipway.client.get("/v1/deployments/variant/revisions"), 200)
    assert revision["facts"]["batching"] is False and "batching changes the result" in revision["facts"]["batching_reason"]


def test_what_has_no_meaning_here_is_told_and_not_refused(slipway, one):
    deployment = deploy(slipway, "sum", one, serving_image="registry/image:1", port=9000)
    assert "serving_image" in deployment["message"] and "port" in deployment["message"]


def test_the_same_model_twice_under_two_names_serves_twice(slipway, one):
    deploy(slipway, "a", one)
    deploy(slipway, "b", one)
    assert len(runners(slipway)) == 2
    check_truth(slipway, {("a", 1): 1, ("b", 1): 1})


def test_many_deployments_at_once_all_become_active(slipway, models):
    names = [f"model-{i}" for i in range(12)]
    for i, name in enumerate(names):
        begin_deploy(slipway, name, tiny.add_one(models, name, i + 1))
    for i, name in enumerate(names):
        settle(slipway, name)
        assert amount(slipway, name) == i + 1
    check_truth(slipway)


# ---- names, keys, lists


def test_a_name_that_is_taken_is_a_conflict(slipway, one):
    first = begin_deploy(slipway, "sum", one)
    answer = slipway.client.post("/v1/deployments", json=request("sum", one))
    assert answer.status_code == 409 and answer.json()["error"] == "ConflictError" and first["deployment_id"] in answer.json()["detail"]
    settle(slipway, "sum")


@pytest.mark.sanitizer
def test_an_idempotency_key_gives_the_same_answer_and_refuses_another_body(slipway, one, two):
    def send(body, key):
        return slipway.client.post("/v1/deployments", content=body, headers={"Idempotency-Key": key})

    body = json.dumps(request("sum", one))
    first = send(body, "key-1")
    assert first.status_code == 202
    settle(slipway, "sum")
    again = send(body, "key-1")
    assert (again.status_code, again.json()) == (202, first.json())
    other = send(json.dumps(request("sum", two)), "key-1")
    assert other.status_code == 409 and other.json()["error"] == "ConflictError" and "Idempotency-Key" in other.json()["detail"]
    assert send(body, "key-2").status_code == 409  # the name
    assert send(body, "k" * 256).status_code == 400
    slipway.kill("controller")
    slipway.wait_until_ready()
    assert send(body, "key-1").json() == first.json()
    assert len(slipway.client.get("/v1/deployments").json()) == 1


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_same_task_id_twice_is_the_same_task(slipway, one, mount):
    body = {"embedding_model_id": "sum", "task_id": "task-1", "config": {"model_uri": str(one)}}
    first = answered(slipway.client.post(f"{mount}/deploy", json=body), 200)
    again = answered(slipway.client.post(f"{mount}/deploy", json=body), 200)
    assert first["task_id"] == again["task_id"] == "task-1" and first["created_at"] == again["created_at"]
    settle(slipway, "sum")
    last = answered(slipway.client.post(f"{mount}/deploy", json=body), 200)
    assert (last["status"], last["deployed_model_id"], last["created_at"]) == ("done", "sum", first["created_at"])
    assert len(slipway.client.get("/v1/tasks").json()) == 1
    other = slipway.client.post(f"{mount}/deploy", json=body | {"embedding_model_id": "other"})
    assert other.status_code == 409
    assert slipway.client.post(f"{mount}/delete", json={"embedding_model_id": "sum", "task_id": "task-1"}).status_code == 409


def test_lists_are_pages_with_a_total_newest_first(slipway, one):
    ids = [deploy(slipway, f"m{i}", one)["deployment_id"] for i in range(5)]
    delete(slipway, "m0")

    def page(**parameters):
        answer = slipway.client.get("/v1/deployments", params=parameters)
        return [entry["deployment_id"] for entry in answered(answer, 200)], int(answer.headers["X-Total-Count"])

    newest_first = ids[::-1]
    assert page() == (newest_first, 5)
    assert page(limit=2) == (newest_first[:2], 5)
    assert page(limit=2, offset=3) == (newest_first[3:], 5)
    assert page(offset=5) == ([], 5)
    assert page(status="active") == (newest_first[:4], 4)
    assert page(status="inactive") == ([ids[0]], 1)
    assert page(status="active", limit=1, offset=1) == (newest_first[1:2], 4)
    for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "ten"}, {"offset": -1}, {"status": "happy"}, {"sort": "name"}):
        answer = slipway.client.get("/v1/deployments", params=wrong)
        assert answer.status_code == 400 and answer.json()["error"] == "ConfigurationError", wrong
    tasks = slipway.client.get("/v1/tasks", params={"kind": "deploy", "limit": 2})
    assert len(tasks.json()) == 2 and tasks.headers["X-Total-Count"] == "5"
    assert slipway.client.get("/v1/tasks", params={"deployment_id": ids[0]}).headers["X-Total-Count"] == "2"


# ---- PATCH


def test_a_patch_of_tags_changes_nothing_else(slipway, one):
    before = deploy(slipway, "sum", one, tags={"a": 1})
    pids = set(runners(slipway))
    after = patch(slipway, "sum", tags={"b": [1, {"c": None}]})
    assert after["tags"] == {"b": [1, {"c": None}]}
    assert {key: after[key] for key in ("status", "revision", "serving_revision", "replicas")} == {
        key: before[key] for key in ("status", "revision", "serving_revision", "replicas")}
    assert set(runners(slipway)) == pids
    check_truth(slipway, {("sum", 1): 1})


@pytest.mark.sanitizer
def test_a_replica_that_is_scaled_away_gives_its_memory_back(slipway, one):
    deploy(slipway, "sum", one)
    (first,) = runners(slipway)
    patch(slipway, "sum", replicas=3)
    three = set(runners(slipway))
    assert len(three) == 3 and first in three
    assert patch(slipway, "sum", replicas=1)["revision"] == 1
    assert set(runners(slipway)) == {first}
    for pid in three - {first}:
        eventually(lambda pid=pid: not lives(pid))
    check_truth(slipway, {("sum", 1): 1})


def test_a_patch_that_does_not_fit_is_507_with_the_figures_and_changes_nothing(make_slipway, one):
    slipway = make_slipway(memory_budget="200Mi").start()
    before = deploy(slipway, "sum", one)
    for body in ({"replicas": 90}, {"resource_allocation": {"memory": "2Gi"}}):
        answer = slipway.client.patch("/v1/deployments/sum", json=body)
        assert answer.status_code == 507 and answer.json()["error"] == "RefusedError", answer.text
        assert "200 MiB" in answer.json()["detail"]
    assert get(slipway, "sum") == before
    check_truth(slipway, {("sum", 1): 1})


# ---- waiting


def test_wait_says_504_with_the_state_when_it_is_not_settled(slipway, slow):
    begin_deploy(slipway, "sum", slow)
    answer = slipway.client.get("/v1/deployments/sum/wait", params={"timeout": 0})
    assert answer.status_code == 504 and answer.json()["detail"].startswith("deployment sum is still creating")
    task_id = get(slipway, "sum")["task_id"]
    assert slipway.client.get(f"/v1/tasks/{task_id}/wait", params={"timeout": 0}).status_code == 504
    settle(slipway, "sum")
    assert slipway.client.get("/v1/deployments/sum/wait", params={"timeout": 0}).status_code == 200


# ---- canceling and starting again


@pytest.mark.sanitizer
def test_a_canceled_deploy_leaves_nothing_and_its_name_is_free(slipway, slow, one):
    created = begin_deploy(slipway, "sum", slow)
    in_step(slipway, created["task_id"], "ready")
    (pid,) = eventually(lambda: slipway.pids("runner"))
    cancel(slipway, created["task_id"])
    assert wait_task(slipway, created["task_id"])["status"] == "canceled"
    assert get(slipway, created["deployment_id"])["status"] == "inactive"
    assert slipway.client.get("/v1/deployments/sum").status_code == 404
    eventually(lambda: not lives(pid))
    eventually(lambda: packages(slipway) == set())
    deploy(slipway, "sum", one)
    check_truth(slipway, {("sum", 1): 1})


@pytest.mark.parametrize("step", ["fetch", "verify", "ready"])
def test_a_canceled_update_puts_back_what_was(slipway, one, models, step):
    before = deploy(slipway, "sum", one, tags={"a": 1})
    model = tiny.slow(models, rounds=120) if step == "ready" else tiny.padded(models, amount=10, mebibytes=200)
    running = begin_update(slipway, "sum", model, replicas=2, tags={})
    in_step(slipway, running["task_id"], step)
    cancel(slipway, running["task_id"])
    after = settle(slipway, "sum")
    for field in ("model_uri", "revision", "serving_revision", "replicas", "tags"):
        assert after[field] == before[field], field
    assert "canceled" in after["message"]
    assert wait_task(slipway, running["task_id"])["status"] == "canceled"
    check_truth(slipway, {("sum", 1): 1})


def test_a_finished_task_cannot_be_canceled_nor_a_good_one_restarted(slipway, one):
    done = deploy(slipway, "sum", one)["task_id"]
    for operation in ("cancel", "restart"):
        answer = slipway.client.post(f"/v1/tasks/{done}/{operation}")
        assert answer.status_code == 409 and answer.json()["error"] == "ConflictError"
    assert slipway.client.post("/v1/tasks/nobody/cancel").status_code == 404


def test_a_failed_deploy_is_restarted_once_its_cause_is_gone(slipway, models):
    failed = deploy(slipway, "sum", tiny.truncated(models, "sum"), status="failed")
    assert failed["error"]["causes"] and "serving_revision" not in failed
    tiny.add_one(models, "sum")
    answered(slipway.client.post(f"/v1/tasks/{failed['task_id']}/restart"))
    assert settle(slipway, "sum")["serving_revision"] == 1
    assert task(slipway, failed["task_id"])["status"] == "done"
    check_truth(slipway, {("sum", 1): 1})


def test_a_canceled_update_is_restarted(slipway, one, slow):
    deploy(slipway, "sum", one)
    running = begin_update(slipway, "sum", slow, new_name="total", replicas=2)
    in_step(slipway, running["task_id"], "ready")
    cancel(slipway, running["task_id"])
    assert settle(slipway, "sum")["replicas"] == 1
    answered(slipway.client.post(f"/v1/tasks/{running['task_id']}/restart"))
    deployment = settle(slipway, "total")
    assert (deployment["serving_revision"], deployment["replicas"]) == (2, 2)
    assert infer(slipway, "total") == [2, 3, 4, 5]
    check_truth(slipway)


def test_a_refused_deploy_is_restarted_when_there_is_room(make_slipway, one, two):
    slipway = make_slipway(memory_budget="100Mi").start()
    deploy(slipway, "a", one)
    refused = deploy(slipway, "b", two, status="failed")
    assert task(slipway, refused["task_id"])["status"] == "refused"
    delete(slipway, "a")
    answered(slipway.client.post(f"/v1/tasks/{refused['task_id']}/restart"))
    settle(slipway, "b")
    check_truth(slipway, {("b", 1): 10})


def test_a_canceled_deploy_is_restarted_while_its_name_is_free(slipway, slow, one):
    canceled = []
    for _ in range(2):
        created = begin_deploy(slipway, "sum", slow)
        in_step(slipway, created["task_id"], "ready")
        cancel(slipway, created["task_id"])
        wait_task(slipway, created["task_id"])
        canceled.append(created)
    answered(slipway.client.post(f"/v1/tasks/{canceled[0]['task_id']}/restart"))
    deployment = settle(slipway, "sum")
    assert deployment["deployment_id"] == canceled[0]["deployment_id"]
    assert slipway.client.post(f"/v1/tasks/{canceled[1]['task_id']}/restart").status_code == 409  # the name is taken
    check_truth(slipway)


# ---- deleting


@pytest.mark.sanitizer
def test_a_delete_ends_the_processes_and_removes_the_package(slipway, one):
    created = deploy(slipway, "sum", one, replicas=2)
    pids = set(runners(slipway))
    deleted = delete(slipway, "sum")
    assert deleted["status"] == "inactive" and deleted["deployment_id"] == created["deployment_id"]
    assert not any(lives(pid) for pid in pids)
    assert packages(slipway) == set() and not list((slipway.state / "packages" / "trash").iterdir())
    for method, path in (("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/wait"), ("GET", "/events"), ("POST", "/restart")):
        body = {"PUT": request("sum", one), "PATCH": {"replicas": 1}}.get(method)
        answer = slipway.client.request(method, f"/v1/deployments/sum{path}", json=body)
        assert answer.status_code == 404 and answer.json()["error"] == "ResourceNotFoundError", (method, path)
    assert slipway.client.post("/v2/models/sum/infer", json=infer_body((1, 2, 3, 4))).status_code == 404
    check_truth(slipway)


def test_a_package_that_another_revision_uses_is_kept(slipway, one, two):
    deploy(slipway, "a", one)
    version = deploy(slipway, "b", one)["deployed_model_version"]
    update(slipway, "b", two)  # b may go back to it
    delete(slipway, "a")
    assert version.removeprefix("package:sha256:") in packages(slipway) and len(packages(slipway)) == 2
    check_truth(slipway, {("b", 2): 10})
    delete(slipway, "b")
    assert packages(slipway) == set()


def changed(folder):
    return max(path.stat().st_ctime for path in folder.rglob("*"))


def test_a_source_that_is_unchanged_is_not_fetched_again(slipway, one):
    first = deploy(slipway, "a", one)
    eventually(lambda: time.time() - changed(one) > 4, what="the model is at rest")  # one that has just changed is fetched
    for name in ("b", "c"):
        assert deploy(slipway, name, one)["deployed_model_version"] == first["deployed_model_version"]
    assert [event["message"].endswith("it was here") for event in events(slipway, "b") if event["kind"] == "package"] == [False]
    assert [event["message"].endswith("it was here") for event in events(slipway, "c") if event["kind"] == "package"] == [True]
    model = one / "model.onnx"
    times = model.stat()
    model.write_bytes(model.read_bytes() + b"\x32\x00")  # another byte string that says the same: a field that is empty
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    eventually(lambda: time.time() - changed(one) > 4, what="the model is at rest")
    assert deploy(slipway, "d", one)["deployed_model_version"] != first["deployed_model_version"]
    for name in ("a", "b", "c"):
        delete(slipway, name)
    again = deploy(slipway, "e", one)  # what its fingerprint names is known since d
    assert again["deployed_model_version"] == get(slipway, "d")["deployed_model_version"]
    check_truth(slipway, {("d", 1): 1, ("e", 1): 1})


def test_a_delete_takes_the_warm_replicas_and_their_task_along(slipway, one, two):
    deploy(slipway, "sum", one)
    update(slipway, "sum", two)
    assert len(runners(slipway)) == 2
    delete(slipway, "sum")
    assert runners(slipway) == {} and packages(slipway) == set()
    assert not slipway.client.get("/v1/tasks?status=pending").json()


def test_a_delete_while_creating_cancels_that_and_deletes(slipway, slow):
    created = begin_deploy(slipway, "sum", slow)
    in_step(slipway, created["task_id"], "ready")
    assert delete(slipway, "sum")["status"] == "inactive"
    assert task(slipway, created["task_id"])["status"] == "canceled"
    assert runners(slipway) == {} and packages(slipway) == set()
    check_truth(slipway)


def test_a_delete_while_updating_cancels_that_and_deletes(slipway, one, slow):
    deploy(slipway, "sum", one)
    running = begin_update(slipway, "sum", slow)
    in_step(slipway, running["task_id"], "ready")
    delete(slipway, "sum")
    assert task(slipway, running["task_id"])["status"] == "canceled"
    assert runners(slipway) == {} and packages(slipway) == set()
    check_truth(slipway)


def test_a_delete_of_what_failed_and_of_what_is_inactive(slipway, models):
    failed = deploy(slipway, "sum", tiny.truncated(models), status="failed")
    inactive = delete(slipway, "sum")
    again = answered(slipway.client.delete(f"/v1/deployments/{failed['deployment_id']}"))
    assert again == inactive
    for method, path in (("PUT", ""), ("POST", "/rollback"), ("POST", "/restart")):
        body = request("sum", "x") if method == "PUT" else None
        assert slipway.client.request(method, f"/v1/deployments/{failed['deployment_id']}{path}", json=body).status_code in (400, 409)
    assert get(slipway, failed["deployment_id"]) == inactive


def test_a_deleted_name_is_free(slipway, one, two):
    first = deploy(slipway, "sum", one)
    delete(slipway, "sum")
    second = deploy(slipway, "sum", two)
    assert second["deployment_id"] != first["deployment_id"] and amount(slipway, "sum") == 10
    assert get(slipway, first["deployment_id"])["status"] == "inactive"
    check_truth(slipway, {("sum", 1): 10})


# ---- limits


@pytest.mark.sanitizer
def test_what_memory_does_not_hold_is_refused_with_the_figures(make_slipway, one, two):
    slipway = make_slipway(memory_budget="100Mi").start()
    deploy(slipway, "a", one)
    failed = deploy(slipway, "b", two, status="failed")
    refused = task(slipway, failed["task_id"])
    assert refused["status"] == "refused" and refused["error"]["error"] == "RefusedError"
    assert "not enough memory: 64.0 MiB for 1 replica" in refused["detail"] or "64.0 MiB for each of 1 replica" in refused["detail"]
    assert "36.0 MiB of 100 MiB (memory_budget) are free" in refused["detail"] and refused["detail"] in failed["message"]
    assert slipway.client.post("/v2/models/b/infer", json=infer_body((1, 2, 3, 4))).status_code in (404, 503)
    assert len(packages(slipway)) == 1
    check_truth(slipway, {("a", 1): 1})


def test_no_more_models_than_maximum_deployments(make_slipway, one):
    slipway = make_slipway(maximum_deployments=2).start()
    deploy(slipway, "a", one)
    deploy(slipway, "b", one)
    failed = deploy(slipway, "c", one, status="failed")
    refused = task(slipway, failed["task_id"])
    assert refused["status"] == "refused" and "maximum_deployments is 2" in refused["detail"]
    delete(slipway, "a")
    answered(slipway.client.post(f"/v1/tasks/{failed['task_id']}/restart"))
    settle(slipway, "c")
    check_truth(slipway, {("b", 1): 1, ("c", 1): 1})


# ---- models that kill


def test_a_model_that_keeps_dying_fails_its_deployment_with_its_last_words(make_slipway, models, one):
    slipway = make_slipway(replica_restarts=2).start()
    deploy(slipway, "good", one)
    failed = deploy(slipway, "bad", tiny.deadly(models), status="failed")
    assert "killed by signal 8" in failed["message"], failed["message"]
    assert failed["error"]["error"] == "DeploymentError"
    assert amount(slipway, "good") == 1
    check_truth(slipway, {("good", 1): 1})


def test_a_request_that_kills_its_replica_harms_no_other_deployment(make_slipway, models, one):
    slipway = make_slipway(replica_restarts=3).start()
    deploy(slipway, "good", one)
    deploy(slipway, "poisoned", tiny.poison(models), replicas=2)
    assert infer(slipway, "poisoned", (8, 8, 8, 8), "INT32") == [100] * 4
    poison = infer_body((7, 7, 7, 7), "INT32")
    answer = slipway.client.post("/v2/models/poisoned/infer", json=poison)
    assert answer.status_code in (502, 503) and answer.json()["error"], answer.text
    assert amount(slipway, "good") == 1
    eventually(lambda: infer(slipway, "poisoned", (8, 8, 8, 8), "INT32") == [100] * 4, what="it comes back")
    def given_up():
        slipway.client.post("/v2/models/poisoned/infer", json=poison)
        return get(slipway, "poisoned")["status"] == "failed"

    eventually(given_up, what="it is given up")
    failed = get(slipway, "poisoned")
    assert "killed by signal 8" in failed["message"]
    assert amount(slipway, "good") == 1
    delete(slipway, "poisoned")
    check_truth(slipway, {("good", 1): 1})


@pytest.mark.sanitizer
@pytest.mark.parametrize("broken", ["truncated", "not_a_model", "always_nan"])
def test_a_broken_model_fails_with_its_cause_and_leaves_nothing(slipway, models, broken):
    failed = deploy(slipway, "bad", getattr(tiny, broken)(models), status="failed")
    assert failed["error"]["causes"] and failed["error"]["causes"][-1] in failed["message"]
    assert runners(slipway) == {}
    assert packages(slipway) == set()
    check_truth(slipway)
