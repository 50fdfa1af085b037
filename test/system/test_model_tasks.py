"""The model-level task routes: all six, at both mounts, with the bodies and texts that clients rely on."""

import pytest

import models as model
from slipway import eventually

MOUNTS = ["", "/api/v1/internal/inference-deployment"]
SHAPE = {"task_id", "status", "created_at", "updated_at", "embedding_model_id"}


@pytest.fixture(params=MOUNTS, ids=["root", "internal"])
def mount(request):
    return request.param


def post(slipway, path, **body):
    answer = slipway.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def finished(slipway, path):
    def is_finished():
        task = slipway.client.get(path).json()
        return task if task["status"] not in ("pending", "processing") else None

    return eventually(is_finished, what=f"{path} is finished")


@pytest.mark.sanitizer
def test_deploy_and_delete_by_model_id(slipway, models, mount):
    task = post(slipway, f"{mount}/deploy", embedding_model_id="m-1", task_id="t-1",
                config={"model_uri": str(model.embedding(models))})
    assert set(task) == SHAPE and task["task_id"] == "t-1" and task["embedding_model_id"] == "m-1"
    done = finished(slipway, f"{mount}/deploy/t-1")
    assert done["status"] == "done" and done["deployed_model_id"] == "m-1" and set(done) == SHAPE | {"deployed_model_id"}
    assert slipway.client.get(f"{mount}/deploy-status/m-1").json() == done
    assert slipway.client.get("/v2/models/m-1/ready").status_code == 200
    assert slipway.client.get("/v1/tasks/t-1").json()["kind"] == "deploy"

    deletion = post(slipway, f"{mount}/delete", model_id="m-1", id="t-2", reason="replaced by m-2")
    assert deletion["metadata"] == {"reason": "replaced by m-2"}
    gone = finished(slipway, f"{mount}/delete/t-2")
    assert gone["status"] == "done"
    assert slipway.client.get(f"{mount}/delete-status/m-1").json() == gone
    assert slipway.client.get("/v1/deployments/m-1").status_code == 404


def test_the_404_texts(slipway, mount):
    for path, detail in (
        ("deploy/X", "Deployment task with ID `X` is not found"),
        ("deploy-status/X", "Deployment task with embedding model ID `X` is not found"),
        ("delete/X", "Deletion task with ID `X` is not found"),
        ("delete-status/X", "Deletion task with embedding model ID `X` is not found"),
    ):
        answer = slipway.client.get(f"{mount}/{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == detail
        assert answer.json()["error"] == "ResourceNotFoundError"


def test_a_deploy_id_is_unknown_under_delete_and_the_other_way_round(slipway, models, mount):
    post(slipway, f"{mount}/deploy", model_id="m", task_id="up", config={"model_uri": str(model.embedding(models))})
    post(slipway, f"{mount}/delete", model_id="nobody", task_id="down")
    assert slipway.client.get(f"{mount}/delete/up").status_code == 404
    assert slipway.client.get(f"{mount}/deploy/down").status_code == 404


def test_the_same_task_id_twice_is_the_same_task(slipway, models, mount):
    config = {"model_uri": str(model.embedding(models))}
    first = post(slipway, f"{mount}/deploy", model_id="m", task_id="same", config=config)
    again = post(slipway, f"{mount}/deploy", model_id="m", id="same", config=config)
    assert again["task_id"] == first["task_id"] and again["created_at"] == first["created_at"]
    finished(slipway, f"{mount}/deploy/same")
    assert len([t for t in slipway.client.get("/v1/tasks", params={"kind": "deploy"}).json()]) == 1


def test_a_task_id_of_another_kind_or_model_is_a_conflict(slipway, models, mount):
    config = {"model_uri": str(model.embedding(models))}
    post(slipway, f"{mount}/deploy", model_id="m", task_id="taken", config=config)
    for path, body in (("deploy", {"model_id": "other", "task_id": "taken", "config": config}),
                       ("delete", {"model_id": "m", "task_id": "taken"})):
        answer = slipway.client.post(f"{mount}/{path}", json=body)
        assert answer.status_code == 409 and answer.json()["error"] == "ConflictError"


def test_a_deployed_model_is_done_at_once_and_with_another_uri_a_conflict_that_names_put(slipway, models, mount):
    one, two = model.embedding(models, "one"), model.embedding(models, "two", seed=8)
    assert slipway.deploy("m", one)["status"] == "active"
    assert slipway.client.get(f"{mount}/deploy-status/m").json()["status"] == "done"  # its own deploy task is found
    assert post(slipway, f"{mount}/deploy", model_id="m", config={"model_uri": str(one)})["status"] == "done"
    assert post(slipway, f"{mount}/deploy", model_id="m")["status"] == "done"
    answer = slipway.client.post(f"{mount}/deploy", json={"model_id": "m", "config": {"model_uri": str(two)}})
    assert answer.status_code == 409 and "PUT" in answer.json()["detail"]


def test_a_second_task_of_a_model_that_is_being_deployed_ends_as_the_first_does(slipway, models, mount):
    config = {"model_uri": str(model.slow(models, rounds=300))}
    post(slipway, f"{mount}/deploy", model_id="m", task_id="first", config=config)
    second = post(slipway, f"{mount}/deploy", model_id="m", task_id="second", config=config)
    assert second["status"] in ("pending", "processing")
    assert finished(slipway, f"{mount}/deploy/second")["status"] == finished(slipway, f"{mount}/deploy/first")["status"] == "done"

    broken = {"model_uri": str(model.truncated(models))}
    post(slipway, f"{mount}/deploy", model_id="b", task_id="third", config=broken)
    post(slipway, f"{mount}/deploy", model_id="b", task_id="fourth", config=broken)
    third, fourth = finished(slipway, f"{mount}/deploy/third"), finished(slipway, f"{mount}/deploy/fourth")
    assert third["status"] == "failed" and third["detail"]
    assert fourth["status"] == "failed"


def test_a_failed_model_can_be_deployed_again(slipway, models, mount):
    post(slipway, f"{mount}/deploy", model_id="m", task_id="bad", config={"model_uri": str(model.truncated(models))})
    assert finished(slipway, f"{mount}/deploy/bad")["status"] == "failed"
    post(slipway, f"{mount}/deploy", model_id="m", task_id="good", config={"model_uri": str(model.embedding(models))})
    assert finished(slipway, f"{mount}/deploy/good")["status"] == "done"
    assert slipway.client.get("/v2/models/m/ready").status_code == 200


def test_without_a_uri_the_id_is_looked_up_in_the_roots(slipway, models, mount):
    model.embedding(models, "by-name")
    post(slipway, f"{mount}/deploy", model_id="by-name", task_id="t")
    assert finished(slipway, f"{mount}/deploy/t")["status"] == "done"
    post(slipway, f"{mount}/deploy", model_id="not-there", task_id="u")
    lost = finished(slipway, f"{mount}/deploy/u")
    assert lost["status"] == "failed" and "not-there" in lost["detail"]


def test_deleting_a_model_that_is_not_deployed_fails_with_a_detail(slipway, mount):
    task = post(slipway, f"{mount}/delete", model_id="nobody", task_id="t")
    assert task["status"] == "failed" and task["detail"] == "model nobody is not deployed"
    assert slipway.client.get(f"{mount}/delete-status/nobody").json() == task


def test_a_parent_that_is_unknown_here_is_kept_as_a_label(slipway, models, mount):
    post(slipway, f"{mount}/deploy", model_id="m", task_id="t", parent_id="reindex-42",
         config={"model_uri": str(model.embedding(models))})
    assert slipway.client.get("/v1/tasks/t").json()["parent_id"] == "reindex-42"


def test_over_the_limit_of_deployed_models_a_task_is_refused(make_slipway, models, mount):
    slipway = make_slipway(maximum_deployments=1).start()
    assert slipway.deploy("m", model.embedding(models))["status"] == "active"
    post(slipway, f"{mount}/deploy", model_id="n", task_id="t", config={"model_uri": str(model.embedding(models, "n", seed=8))})
    refused = finished(slipway, f"{mount}/deploy/t")
    assert refused["status"] == "refused" and refused["detail"]


@pytest.mark.parametrize("path, body, words", [
    ("deploy", {}, "embedding_model_id"),
    ("deploy", {"embedding_model_id": "a", "model_id": "b"}, "differ"),
    ("deploy", {"model_id": "m", "task_id": "a", "id": "b"}, "differ"),
    ("deploy", {"model_id": "../m"}, "embedding_model_id"),
    ("deploy", {"model_id": "m", "task_id": "a/b"}, "task_id"),
    ("deploy", {"model_id": "m", "conf": {}}, "conf"),
    ("deploy", {"model_id": "m", "config": {"deployment_name": "x"}}, "deployment_name"),
    ("deploy", {"model_id": "m", "config": {"model_uri": "/etc"}}, "model_uri"),
    ("deploy", {"model_id": "m", "config": {"deployment_target_config": {"type": "batch_inference_job"}}}, "batch"),
    ("deploy", {"model_id": "123e4567-e89b-12d3-a456-426614174000"}, "UUID"),
    ("delete", {"reason": "x"}, "embedding_model_id"),
    ("delete", {"model_id": "m", "config": {}}, "config"),
])
def test_malformed_calls_are_400_and_change_nothing(slipway, mount, path, body, words):
    answer = slipway.client.post(f"{mount}/{path}", json=body)
    assert answer.status_code == 400 and answer.json()["error"] == "ConfigurationError"
    assert words in answer.json()["detail"]
    assert slipway.client.get("/v1/tasks").json() == []
    assert slipway.client.get("/v1/deployments").json() == []
