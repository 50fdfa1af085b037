"""The three steps of a re-index task of one's own: their meaning and their messages."""

import asyncio
import threading
from types import SimpleNamespace

import models as make
import pytest
import slipway_program as program

import slipway
from slipway import workers


class Worker:
    def __init__(self):
        self.told = []

    def send(self, task_id):
        self.told.append(task_id)


class Plugin:
    """Ready at the third question."""

    def __init__(self):
        self.asked = []

    def is_model_ready(self, model_id):
        self.asked.append(model_id)
        return len(self.asked) > 2


def params(model_id, **more):
    return SimpleNamespace(embedding_model_id=model_id, **more)


def reindex_task(source="a", dest="b", **more):
    return SimpleNamespace(id="re-1", source=params(source), dest=params(dest), **more)


def config(model):
    return slipway.ModelConfig(model_uri=str(model))


@pytest.fixture
def environment(service, monkeypatch):
    monkeypatch.setenv("SLIPWAY_URL", service.url)


@pytest.mark.sanitizer
def test_a_whole_re_index_in_three_steps(environment, client, models):
    worker, plugin, deletions = Worker(), Plugin(), Worker()
    first = workers.initiate_model_deployment_and_wait(
        plugin, reindex_task(), params("a"), worker, config=config(make.embedding(models, "a"))
    )
    assert first.status == "active" and first.deployment_name == "a" and plugin.asked == ["a"] * 3
    child = client.get_deploy_task(worker.told[0])
    assert child.status == "done"
    client.create_collection("notes", "a")
    client.put_document("notes", "1", "the", wait_indexed=True)
    model = params("b", config=config(make.embedding(models, "b", seed=8)))
    assert workers.initiate_model_deployment_and_wait(None, reindex_task(), model, None).deployment_name == "b"

    with pytest.raises(slipway.RefusedError, match="notes"):
        workers.initiate_model_deletion(reindex_task(), "a", deletions)
    with pytest.raises(slipway.ResourceNotFoundError, match=r"Collection notes has no index of b\."):
        workers.blue_switch(reindex_task(), deletions)
    with pytest.raises(slipway.ConfigurationError, match=r"No collection is embedded by b\."):
        workers.blue_switch(reindex_task("b", "a"), deletions)
    assert deletions.told == []
    client.reindex("notes", "b", blue_switch=False)

    switched = workers.blue_switch(reindex_task(), deletions)
    assert switched.status == "done" and switched.parent_id in (None, "re-1")
    assert client.search("notes", "the").encoder.deployment == "b"
    deletion = client.wait_for_task(deletions.told[0], 60)
    assert deletion.kind == "delete" and deletion.status == "done"
    with pytest.raises(slipway.ResourceNotFoundError):
        client.get_deployment_status("a")


def test_the_collection_is_named_where_there_are_several(environment, client, models):
    for name, seed in (("a", 7), ("b", 8)):
        client.deploy(name, config=config(make.embedding(models, name, seed=seed)))
        assert client.wait_for_deployment(name, 60).status == "active"
    for collection in ("one", "two"):
        client.create_collection(collection, "a")
        client.put_document(collection, "1", "the", wait_indexed=True)
    client.reindex("two", "b", blue_switch=False)
    with pytest.raises(slipway.ConfigurationError, match=r"Several collections are embedded by a: .*; name one"):
        workers.blue_switch(reindex_task("a", "b"))
    assert workers.blue_switch(SimpleNamespace(id=None, source="a", dest="b", collection="two")).status == "done"
    assert client.get_collection("one").blue.deployment == "a"


def test_a_deletion_does_not_wait(environment, client, models):
    client.deploy("a", config=config(make.add_one(models, "a")))
    client.wait_for_deployment("a", 60)
    worker = Worker()
    task = workers.initiate_model_deletion(reindex_task(), SimpleNamespace(id="a", name="x"), worker)
    assert task.embedding_model_id == "a" and worker.told == [task.task_id]
    assert client.wait_for_task(task.task_id, 60).status == "done"
    assert client.get_delete_task(task.task_id).metadata["reason"] == "re-index task re-1"
    with pytest.raises(slipway.DeploymentError, match="Deletion task failed: "):
        workers.initiate_model_deletion(reindex_task(), "a", worker)


def test_a_deployment_that_fails_says_why(environment, models):
    with pytest.raises(slipway.DeploymentError, match="Deployment task failed: ") as failed:
        workers.initiate_model_deployment_and_wait(None, reindex_task(), config=config(make.always_nan(models)))
    assert not isinstance(failed.value, TimeoutError) and failed.value.causes


def test_the_deadlines_have_their_messages(environment, client, models, make_service, monkeypatch):
    slow = config(make.slow(models, rounds=4000))
    with pytest.raises(TimeoutError, match=r"^Deployment task is processing too long\.$") as late:
        workers.initiate_model_deployment_and_wait(None, reindex_task(dest="slow"), config=slow, processing_timeout=0.3)
    assert isinstance(late.value, slipway.DeploymentError)
    client.delete("slow")
    with pytest.raises(TimeoutError, match=r"^Model is not ready\.$"):
        workers.initiate_model_deployment_and_wait(
            SimpleNamespace(is_model_ready=lambda model_id: False),
            reindex_task(dest="one"),
            config=config(make.add_one(models)),
            ready_timeout=0.3,
        )
    busy = make_service(task_workers="1").start()
    monkeypatch.setenv("SLIPWAY_URL", busy.url)
    with slipway.Client() as other:
        other.deploy("first", config=slow)
        program.eventually(lambda: other.get_model_deploy_status("first").status == "processing")
        with pytest.raises(TimeoutError, match=r"^Deployment task is pending too long\.$"):
            workers.initiate_model_deployment_and_wait(
                None, reindex_task(dest="second"), config=config(models / "add-one"), pending_timeout=0.3
            )


def test_a_worker_that_fails_is_told_and_the_task_goes_on(environment, client, models):
    class Broken:
        def send(self, task_id):
            raise ConnectionError("the broker is gone")

    with pytest.raises(
        slipway.ExternalServiceError, match=r"The deployment worker did not take task .*the broker is gone.*the task goes on"
    ):
        workers.initiate_model_deployment_and_wait(
            None, reindex_task(dest="one"), None, Broken(), config=config(make.add_one(models))
        )
    assert client.wait_for_deployment("one", 60).status == "active"


def test_readiness_may_come_from_a_factory_of_clients(environment, models):
    asked = []

    def get_client(model_id):
        asked.append(model_id)
        return SimpleNamespace(is_model_ready=lambda: True)

    plugin = SimpleNamespace(get_inference_client_factory=lambda: SimpleNamespace(get_client=get_client))
    workers.initiate_model_deployment_and_wait(plugin, reindex_task(dest="one"), config=config(make.add_one(models)))
    assert asked == ["one"]
    with pytest.raises(slipway.ConfigurationError, match="is_model_ready"):
        workers.initiate_model_deployment_and_wait(object(), reindex_task(dest="one"), config=config(models / "add-one"))


def test_a_controller_that_restarts_is_waited_for(service, environment, models):
    done = []
    model = config(make.slow(models, rounds=100))

    def deploy():
        done.append(workers.initiate_model_deployment_and_wait(None, reindex_task(dest="slow"), config=model))

    worker = Worker()
    thread = threading.Thread(target=deploy)
    thread.start()
    with slipway.Client(service.url) as client:
        program.eventually(lambda: client.list_tasks(kind="deploy"))
    service.kill_role("controller")
    thread.join(60)
    assert done and done[0].status == "active" and worker.told == []


def test_the_same_steps_can_be_awaited(service, models):
    class Awaited(Worker):
        async def send(self, task_id):
            await asyncio.sleep(0)
            self.told.append(task_id)

    class AwaitedPlugin:
        async def is_model_ready(self, model_id):
            await asyncio.sleep(0)
            return True

    async def go():
        worker = Awaited()
        async with slipway.AsyncClient(service.url) as client:
            deployment = await client.initiate_model_deployment_and_wait(
                AwaitedPlugin(), reindex_task(dest="one"), None, worker, config=config(make.add_one(models))
            )
            assert deployment.status == "active" and len(worker.told) == 1
            await client.initiate_model_deletion(reindex_task(), "one", worker)
        assert len(worker.told) == 2

    asyncio.run(go())
    with slipway.Client(service.url) as client, pytest.raises(slipway.ConfigurationError, match="AsyncClient"):
        client.initiate_model_deployment_and_wait(AwaitedPlugin(), reindex_task(dest="two"), config=config(models / "add-one"))
