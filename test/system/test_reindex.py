"""Re-index, switch, rollback and the ends of windows on the running service: what is refused, what is cleaned up, and
what stays. (Kills: test_switch.py, test_chaos.py.)"""

import numpy as np
import pytest
from onnx import numpy_helper

import models as folders
from deployments import answered, begin_update, delete, deploy, events, get, patch, request, settle, update, wait_task
from slipway import eventually

TEXTS = {"a": "hello world", "b": "the ship slides down the way", "c": "a b", "d": "hello ship"}


def picky(parent, name, word="hello", seed=9):
    """A model that gives no numbers for texts with that word (which is in none that a runner tries at its start)."""
    model = folders.embedding_model(seed=seed)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    values = numpy_helper.to_array(table).copy()
    values[folders.WORDS.index(word)] = np.inf
    table.CopyFrom(numpy_helper.from_array(values, "table"))
    return folders.embedding(parent, name, model=model)


@pytest.fixture
def service(make_slipway, models):
    service = make_slipway(rollback_window="60s").start()
    deploy(service, "one", folders.embedding(models, "one"))
    return service


@pytest.fixture
def notes(service):
    notes = service.create_collection("notes", "one")
    notes.bulk([{"id": key, "text": text} for key, text in TEXTS.items()], wait=True)
    return notes


@pytest.fixture
def two(models):
    return folders.embedding(models, "two", dimension=12, seed=9)


def destination(name, model, **fields):
    return request(name, model, **fields)


def children(service, task, kind):
    found = answered(service.client.get("/v1/tasks", params={"parent_id": task["task_id"], "kind": kind}), 200)
    return found[0] if found else None


def status_of(service, name):
    answer = service.client.get(f"/v1/deployments/{name}")
    return answer.json()["status"] if answer.status_code == 200 else None


def assert_on(notes, deployment, rollback=None):
    """Every document is found, by that encoder alone."""
    answer = notes.search("hello", limit=10)
    assert answer["encoder"]["deployment"] == deployment
    assert sorted(hit["id"] for hit in answer["hits"]) == sorted(TEXTS)
    facts = notes.facts()
    assert facts["blue"]["deployment"] == facts["deployment"] == deployment and facts["documents"] == len(TEXTS)
    assert facts.get("rollback", {}).get("deployment") == rollback


def task_of(answer, status):
    assert answer.status_code == 202, answer.text
    task = answer.json()
    assert task["status"] == status, task
    return task


# ---- the whole of it ------------------------------------------------------------------------------------------------


def test_a_reindex_brings_the_model_fills_switches_and_can_be_taken_back(service, notes, two):
    task = notes.begin_reindex(destination("two", two), rollback_window=30)
    assert task["kind"] == "reindex" and task["collection"] == "notes"
    done = notes.finish(task)
    assert done["progress"]["done"] == done["progress"]["total"] == len(TEXTS) and done["progress"]["failed"] == 0
    assert done["metadata"]["gate"]["live"] == done["metadata"]["gate"]["indexed"] == len(TEXTS)
    assert_on(notes, "two", rollback="one")
    deployed, restarted, window = (children(service, task, kind) for kind in ("deploy", "restart", "retire"))
    assert deployed["status"] == restarted["status"] == "done" and window["status"] == "pending"
    assert {deployed["task_id"], restarted["task_id"], window["task_id"]} == set(done["children"])
    notes.put("a", TEXTS["a"], wait=True)  # both indexes follow
    back = notes.rollback()
    assert_on(notes, "one", rollback="two")
    assert answered(service.client.get(f"/v1/tasks/{window['task_id']}"), 200)["detail"] == "rolled back"
    found = answered(service.client.get("/v1/tasks", params={"collection": "notes"}), 200)
    assert [task["kind"] for task in found] == ["retire", "switch", "retire", "reindex", "collection_create"]
    assert back["kind"] == "switch"


def test_a_window_of_0_takes_the_source_in_the_same_task(service, notes, two):
    done = notes.reindex(destination("two", two), rollback_window=0)
    assert_on(notes, "two")
    assert status_of(service, "one") is None
    window = children(service, done, "retire")
    deletion = children(service, window, "delete")
    assert window["status"] == deletion["status"] == "done"
    said = [event["message"] for event in events(service, deletion["deployment_id"], "collection")]
    assert [f"deletion of model one is initiated by the task {window['task_id']} of the collection notes: "
            "the collection notes was re-indexed"] == [text for text in said if "deletion" in text]


def test_the_window_ends_by_itself(service, notes, two):
    task = notes.reindex(destination("two", two), rollback_window=1)
    assert wait_task(service, children(service, task, "retire")["task_id"])["status"] == "done"
    assert_on(notes, "two")
    assert status_of(service, "one") is None
    assert answered(service.client.post(f"{notes.path}/rollback"), 409)["error"] == "ConflictError"


def test_after_a_rollback_only_the_model_that_was_deployed_for_it_goes(service, notes, two):
    notes.reindex(destination("two", two))
    back = notes.finish(answered(service.client.post(f"{notes.path}/rollback", json={"rollback_window": 0}), 202))
    assert children(service, back, "retire")["status"] == "done"
    assert_on(notes, "one")
    assert status_of(service, "two") is None and status_of(service, "one") == "active"


def test_the_switch_can_be_made_later(service, notes, two):
    task = notes.reindex(destination("two", two), blue_switch=False, rollback_window=0, delete_source=False)
    assert "is ready" in task["detail"]
    assert_on(notes, "one")
    [ready] = notes.indexes("ready")
    assert ready["deployment"] == "two" and ready["dimension"] == 12 and ready["rows"] == len(TEXTS)
    assert answered(service.client.post(f"{notes.path}/switch", json={"index_id": "nothing"}), 404)
    notes.switch(ready["index_id"])
    assert_on(notes, "two")  # the window and what becomes of the source are those that the re-index was asked for
    assert status_of(service, "one") == "active"
    assert answered(service.client.post(f"{notes.path}/switch", json={"index_id": ready["index_id"]}), 409)


def test_a_switch_has_the_task_id_that_its_client_gives_it(service, notes, two):
    task = notes.reindex(destination("two", two), blue_switch=False)
    [ready] = notes.indexes("ready")
    body = {"index_id": ready["index_id"], "task_id": "my-switch", "parent_id": task["task_id"], "rollback_window": 0}
    first = answered(service.client.post(f"{notes.path}/switch", json=body), 202)
    assert first["task_id"] == "my-switch" and first["parent_id"] == task["task_id"]
    again = answered(service.client.post(f"{notes.path}/switch", json=body), 202)
    assert again["task_id"] == "my-switch"
    notes.finish(first)
    assert answered(service.client.post(f"{notes.path}/reindex", json={"destination": "one", "task_id": "my-switch"}), 409)


# ---- failed items ---------------------------------------------------------------------------------------------------


def test_more_failed_items_than_allowed_change_nothing_and_are_listed(service, notes, models):
    task = notes.reindex(destination("picky", picky(models, "picky")), "failed", max_failed=1)
    assert "2 of 4 documents could not be embedded" in task["detail"]
    items = notes.failed_items(task)
    assert sorted(item["id"] for item in items) == ["a", "d"]
    assert all(item["stage"] in ("inference", "upsert", "other") and item["detail"] for item in items)
    assert_on(notes, "one")
    assert [index["state"] for index in notes.indexes()] == ["blue"]
    assert status_of(service, "picky") is None


def test_as_many_failed_items_as_allowed_do_not_stop_it(service, notes, models):
    task = notes.reindex(destination("picky", picky(models, "picky")), max_failed=0.5)
    assert sorted(item["id"] for item in notes.failed_items(task)) == ["a", "d"]
    assert notes.blue()["deployment"] == "picky" and notes.blue()["failed"] == 2
    assert sorted(notes.hits("the ship", limit=10)) == ["b", "c"]


# ---- cancel ---------------------------------------------------------------------------------------------------------


def test_a_canceled_reindex_leaves_the_source_alone(service, notes, models):
    notes.bulk([{"id": str(number), "text": f"hello {'world ' * (number % 9)}"} for number in range(3000)])
    task = notes.begin_reindex(destination("two", folders.embedding(models, "two", seed=9)))
    eventually(lambda: len(notes.indexes()) == 2, what="the index is made")
    answered(service.client.put(f"{TASKS}/cancel", params={"task_id": task["task_id"]}), 200)
    ended = notes.finish(task, None)
    if ended["status"] == "done":  # it came too late
        assert notes.blue()["deployment"] == "two"
        return
    assert ended["status"] == "canceled"
    assert [index["state"] for index in notes.indexes()] == ["blue"]
    assert status_of(service, "two") is None and notes.blue()["deployment"] == "one"


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_what_cannot_be_reindexed_is_refused_or_not_found(service, notes, models):
    ask = lambda **body: service.client.post(f"{notes.path}/reindex", json=body)
    assert answered(ask(destination="nobody"), 404)["error"] == "ResourceNotFoundError"
    assert answered(service.client.post("/v1/collections/nothing/reindex", json={"destination": "one"}), 404)
    assert "already" in task_of(ask(destination="one"), "refused")["detail"]
    deploy(service, "twin", folders.embedding(models, "twin"))
    assert "encoder_digest" in task_of(ask(destination="twin"), "refused")["detail"]
    deploy(service, "sum", folders.add_one(models))
    assert answered(ask(destination="sum"), 400)["error"] == "ConfigurationError"
    assert answered(ask(destination="one", windows=3), 400)
    assert_on(notes, "one")


def test_a_model_that_fails_to_load_ends_the_reindex(service, notes, models):
    task = notes.reindex(destination("bad", folders.truncated(models)), "failed")
    assert "Deployment task failed: failed" in task["detail"]
    assert status_of(service, "bad") is None
    assert_on(notes, "one")


def test_a_destination_that_does_not_fit_is_refused_with_figures(make_slipway, models):
    service = make_slipway(memory_budget="700Mi").start()
    deploy(service, "one", folders.embedding(models, "one"))
    notes = service.create_collection("notes", "one")
    task = notes.reindex(destination("big", folders.embedding(models, "two", seed=9), memory="900Mi"), "refused")
    assert "MiB" in task["detail"]
    assert status_of(service, "big") is None


def test_a_second_reindex_is_refused_or_waits(service, notes, models, two):
    three = folders.embedding(models, "three", dimension=4, seed=5)
    notes.bulk([{"id": str(number), "text": f"hello {number % 7 * 'way '}"} for number in range(2000)])
    first = notes.begin_reindex(destination("two", two))
    task_of(service.client.post(f"{notes.path}/reindex", json={"destination": destination("three", three)}), "refused")
    waiting = notes.begin_reindex(destination("three", three), wait_on_conflict=True)
    notes.finish(first)
    notes.finish(waiting)
    assert notes.blue()["deployment"] == "three"


# ---- encoders in use ------------------------------------------------------------------------------------------------


def test_an_encoder_in_use_is_neither_deleted_nor_changed(service, notes, models):
    assert "notes" in answered(service.client.delete("/v1/deployments/one"), 409)["detail"]
    refused = answered(service.client.post("/delete", json={"embedding_model_id": "one"}), 200)
    assert refused["status"] == "refused" and "notes" in refused["detail"]
    other = folders.embedding(models, "other", seed=3)
    begin_update(service, "one", other)
    after = settle(service, "one")
    assert after["revision"] == after["serving_revision"] == 1 and "re-index" in after["message"]
    [task] = answered(service.client.get("/v1/tasks", params={"kind": "update"}), 200)
    assert task["status"] == "refused" and task["error"]["error"] == "ConflictError"
    begin_update(service, "one", folders.add_one(models, "no-encoder"))
    after = settle(service, "one")
    assert after["serving_revision"] == 1 and "re-index" in after["message"]
    assert notes.search("hello")["encoder"]["revision"] == 1
    patch(service, "one", replicas=2)
    update(service, "one", folders.embedding(models, "same"), replicas=1)  # the same files: the same digest
    assert get(service, "one")["serving_revision"] == 4
    assert_on(notes, "one")


def test_a_model_that_another_collection_uses_is_not_deleted_with_its_first(service, notes, two):
    films = service.create_collection("films", "one")
    task = notes.reindex(destination("two", two), rollback_window=0)
    assert "films" in task["detail"]
    assert children(service, children(service, task, "retire"), "delete")["status"] == "refused"
    assert status_of(service, "one") == "active" and films.blue()["deployment"] == "one"
    films.reindex("two", rollback_window=0)
    assert status_of(service, "one") is None


# ---- deleting -------------------------------------------------------------------------------------------------------


def test_a_deleted_collection_frees_its_name_and_its_encoder(service, notes):
    assert notes.delete_collection()["kind"] == "collection_delete"
    assert service.client.get(notes.path).status_code == 404
    assert not [path for path in (service.state / "collections").iterdir()]
    again = service.create_collection("notes", "one")
    assert again.facts()["documents"] == 0
    again.delete_collection()
    delete(service, "one")


def test_a_collection_that_is_deleted_ends_its_reindex(service, notes, models):
    notes.bulk([{"id": str(number), "text": f"hello {'world ' * (number % 9)}"} for number in range(3000)])
    task = notes.begin_reindex(destination("two", folders.embedding(models, "two", seed=9)))
    eventually(lambda: len(notes.indexes()) == 2, what="the index is made")
    notes.delete_collection()
    assert notes.finish(task, None)["status"] in ("canceled", "done")
    assert service.client.get(notes.path).status_code == 404


def test_collections_are_listed_newest_first(service, notes):
    service.create_collection("films", "one", keep_queries=True)
    answer = service.client.get("/v1/collections", params={"limit": 1})
    assert answer.headers["X-Total-Count"] == "2"
    assert [row["name"] for row in answer.json()] == ["films"] and answer.json()[0]["keep_queries"] is True
    assert [row["name"] for row in service.client.get("/v1/collections", params={"offset": 1}).json()] == ["notes"]
    for body, status in (({"name": "films", "deployment": "one"}, 409), ({"name": "x", "deployment": "nobody"}, 404),
                         ({"name": "x"}, 400), ({"name": "x", "deployment": "one", "metric": "dot"}, 400)):
        assert service.client.post("/v1/collections", json=body).status_code == status


# ---- by model ids ---------------------------------------------------------------------------------------------------

TASKS = "/api/v1/internal/reindex-tasks"


def test_a_reindex_by_model_ids_finds_its_collection(service, notes, two):
    body = {"id": "night-run", "source": {"embedding_model_id": "one"}, "dest": {"embedding_model_id": "two"}, "deploy_as_blue": True}
    first = answered(service.client.post(f"{TASKS}/run", json=body), 200)
    again = answered(service.client.post(f"{TASKS}/run", json=body), 200)
    assert first["task_id"] == again["task_id"] == "night-run" and first["embedding_model_id"] == "two"
    wait_task(service, "night-run")
    info = answered(service.client.get(f"{TASKS}/info", params={"task_id": "night-run"}), 200)
    assert info["status"] == "done" and info["progress"] == 1.0 and info["failed_items"] == [], info
    assert info["count"] == info["total"] == len(TEXTS) and len(info["children"]) == 3 and info["collection"] == "notes"
    assert_on(notes, "two", rollback="one")
    listed = service.client.get(f"{TASKS}/list", params={"status": "done", "limit": 5})
    assert [task["task_id"] for task in listed.json()] == ["night-run"] and listed.headers["X-Total-Count"] == "1"
    assert answered(service.client.put(f"{TASKS}/cancel", params={"task_id": "night-run"}), 409)
    assert answered(service.client.put(f"{TASKS}/restart", params={"task_id": "night-run"}), 409)
    assert "night" in answered(service.client.get(f"{TASKS}/info", params={"task_id": "nightly"}), 404)["detail"]


def test_by_model_ids_it_must_be_clear_which_collection(service, notes, two):
    ask = lambda **more: service.client.post(f"{TASKS}/run", json={
        "source": {"embedding_model_id": "one"}, "dest": {"embedding_model_id": "two"}, **more})
    films = service.create_collection("films", "one")
    several = answered(ask(), 400)["detail"]
    assert "films" in several and "notes" in several
    deploy(service, "two", two)
    none = {"source": {"embedding_model_id": "two"}, "dest": {"embedding_model_id": "one"}}
    assert answered(service.client.post(f"{TASKS}/run", json=none), 400)
    unknown = {"source": {"embedding_model_id": "nobody"}, "dest": {"embedding_model_id": "one"}}
    assert answered(service.client.post(f"{TASKS}/run", json=unknown), 404)
    task = answered(ask(collection="films"), 200)
    assert wait_task(service, task["task_id"])["status"] == "done"
    assert films.indexes("ready") and films.blue()["deployment"] == "one"  # deploy_as_blue is false unless said
    assert_on(notes, "one")


def test_a_failed_reindex_is_restarted_by_its_id(service, notes, models):
    folder = folders.truncated(models)
    folder.rename(models / "late")
    body = {"id": "again", "source": {"embedding_model_id": "one"}, "dest": {"embedding_model_id": "late"}, "deploy_as_blue": True}
    answered(service.client.post(f"{TASKS}/run", json=body), 200)
    assert wait_task(service, "again")["status"] == "failed"
    (models / "late").rename(models / "bad")
    folders.embedding(models, "late", seed=9)
    answered(service.client.put(f"{TASKS}/restart", params={"task_id": "again"}), 200)
    assert wait_task(service, "again")["status"] == "done"
    assert notes.blue()["deployment"] == "late"


def test_a_collection_can_be_written_as_soon_as_it_is_made(service):
    for number in range(10):
        answered(service.client.post("/v1/collections", json={"name": f"n{number}", "deployment": "one"}), 201)
        answered(service.client.put(f"/v1/collections/n{number}/documents/a", json={"text": "hello"}), 200)
