"""A full disk keeps serving: what only reads goes on without a failure, what would write is turned down with a sentence that
names the disk, nothing is half done, and when there is room again everything goes on by itself."""

import socket

import httpx
import pytest

import models as model
from deployments import Busy, Client, deploy, events, httpx_client, infer, post, settle, update, wait_task
from slipway import eventually, in_own_mounts

COUNT = 50


@pytest.fixture
def service(make_slipway, models):
    """On a file system of its own of 48 MiB, its log too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = make_slipway(step_backoff="50ms")
    service.port = port  # there is no log to read it from
    inside = service.command()
    service.command = lambda: in_own_mounts(
        f'mkdir -p {service.state}; mount -t tmpfs -o size=48m none {service.state}; '
        f'chmod 700 {service.state}; exec "$@" >{service.state}/serve.log 2>&1', inside)
    service.start()
    service.state = type(service.state)(f"/proc/{service.pid}/root{service.state}")
    return service


class Filled:
    """Takes every byte that is left, from `with` to its end."""

    def __init__(self, service):
        self.path = service.state / "filler"

    def __enter__(self):
        with open(self.path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        return self

    def __exit__(self, *_):
        self.path.unlink()


def search_client(service):
    def ask(connection):
        answer = connection.post("/v1/collections/notes/search", json={"query": "cat sun", "limit": 3})
        if answer.status_code != 200:
            raise httpx.HTTPStatusError(f"{answer.status_code} {answer.text}", request=answer.request, response=answer)
        return [len(answer.json()["hits"])]

    return Client("search", lambda: httpx.Client(base_url=service.url, timeout=60), ask, {"three": [3]})


def says_full(answer):
    """A problem that names the disk."""
    assert answer.status_code in (500, 503, 507), f"{answer.status_code} {answer.text}"
    problem = answer.json()
    text = problem["detail"] + " ".join(problem.get("causes", []))
    assert "disk" in text or "space" in text.lower(), problem
    return True


def test_S1_a_full_disk_keeps_serving_and_goes_on_when_there_is_room(service, models):
    deploy(service, "one", model.add_one(models))
    deploy(service, "encoder", model.embedding(models))
    notes = service.create_collection("notes", "encoder")
    notes.bulk([{"id": f"d{i}", "text": "cat sun"} for i in range(COUNT)], wait=True)
    pids = {role: service.pids(role) for role in ("controller", "gateway", "indexer", "runner")}
    ten = model.add_one(models, "ten", amount=10.0)
    with Busy(httpx_client(service, "one", amounts=(1,)), search_client(service)) as busy:
        with Filled(service):
            busy.pass_on(5)
            says_full(notes.client.put(f"{notes.path}/documents/large", json={"text": "red " * 50000}))
            written = 0
            for number in range(200):  # what is left of the write-ahead log's pages may take some small ones
                answer = notes.client.put(f"{notes.path}/documents/small-{number}", json={"text": "red"})
                written += answer.status_code == 200 or not says_full(answer)
            begun = []
            for number in range(40):
                answer = service.client.post("/v1/deployments", json={
                    "deployment_name": f"new-{number}", "model_uri": str(ten), "deployment_target_config": {"type": "api_service"},
                    "tags": {"filler": "x" * 100000}})
                if answer.status_code == 202:
                    begun.append(answer.json()["task_id"])
                else:
                    says_full(answer)
            assert len(begun) < 40, "nothing was refused: the disk was not full"
            assert service.client.get("/v1/deployments/one").json()["status"] == "active"
            assert service.client.get("/v1/tasks").status_code == 200
            busy.pass_on(20)
        # Room again, and no restart.
        eventually(lambda: notes.client.put(f"{notes.path}/documents/later", json={"text": "red"}).status_code == 200)
        for task_id in begun:
            assert wait_task(service, task_id)["status"] in ("done", "failed")
        deploy(service, "after", ten)
        assert update(service, "one", model.add_one(models, "also-one", amount=1.0))["serving_revision"] == 2
        busy.pass_on(10)
    busy.check()
    assert {role: service.pids(role) for role in ("controller", "gateway", "indexer")} == {
        role: pids[role] for role in ("controller", "gateway", "indexer")}
    assert set(pids["runner"]) & set(service.pids("runner"))
    eventually(lambda: len(notes.hits("cat sun", limit=1000)) == COUNT + written + 1, what="what was acknowledged is there")
    assert sorted(notes.export()) == sorted(notes.hits("red cat", limit=1000))
    tasks = service.client.get("/v1/tasks", params={"limit": 1000}).json()
    assert [task for task in tasks if task["status"] in ("pending", "processing") and task["kind"] != "retire"] == []
    assert infer(service, "after")[0] == 11
    log = service.state / "serve.log"
    eventually(lambda: "/v2/models/after/infer" in log.read_text(errors="replace"), what="the access log goes on")


def test_a_model_that_does_not_fit_on_the_disk_fails_with_that_and_leaves_nothing(service, models):
    deploy(service, "one", model.add_one(models))
    large = model.padded(models, mebibytes=64)
    failed = deploy(service, "large", large, status="failed")
    assert "space" in failed["message"].lower() or "disk" in failed["message"], failed
    assert infer(service, "one")[0] == 2
    incoming = service.state / "packages" / "incoming"
    eventually(lambda: not list(incoming.iterdir()), what="what was fetched of it is gone")
    assert events(service, "large")
    settle(service, "one")
    assert post(service, "one", "restart")["status"] == "active"
