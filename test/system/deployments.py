"""What the tests of life and death share: asking for deployments, waiting for them, busy clients, and the truth.

    deploy(service, "a", models.add_one(folder))      POST, and wait until it is active; the deployment
    update(…), patch(…), post(…, "rollback"), delete(…)   the same for the others
    Busy(…)                                            clients that ask all the time and forget no failure
    Follower(service.state)                            reads tasks from control.db faster than anything can pass by
    check_truth(service)                               record, processes, folders and answers agree
"""

import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

import models
from slipway import DEADLINE, eventually, lives

UNFINISHED = ("pending", "processing")


# ---- asking

def request(name, model, *, replicas=None, memory=None, cpu=None, tags=None, **target):
    """A DeploymentRequest."""
    config = {"type": "api_service", **target} | ({"replicas": replicas} if replicas else {})
    body = {"model_uri": str(model), "deployment_name": name, "deployment_target_config": config}
    resources = {key: value for key, value in (("memory", memory), ("cpu", cpu)) if value is not None}
    if resources:
        body["resource_allocation"] = resources
    if tags is not None:
        body["tags"] = tags
    return body


def answered(answer, status=202):
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()


def get(service, name):
    return answered(service.client.get(f"/v1/deployments/{name}"), 200)


def settle(service, name, status="active", deadline=DEADLINE):
    """Waits until nothing works on it; the deployment."""
    answer = service.client.get(f"/v1/deployments/{name}/wait", params={"timeout": int(deadline)}, timeout=deadline + 10)
    deployment = answered(answer, 200)
    assert status is None or deployment["status"] == status, deployment
    return deployment


def begin_deploy(service, name, model, **fields):
    return answered(service.client.post("/v1/deployments", json=request(name, model, **fields)))


def deploy(service, name, model, status="active", **fields):
    return settle(service, begin_deploy(service, name, model, **fields)["deployment_id"], status)


def begin_update(service, name, model, new_name=None, **fields):
    return answered(service.client.put(f"/v1/deployments/{name}", json=request(new_name or name, model, **fields)))


def update(service, name, model, status="active", **fields):
    return settle(service, begin_update(service, name, model, **fields)["deployment_id"], status)


def patch(service, name, status="active", **fields):
    return settle(service, answered(service.client.patch(f"/v1/deployments/{name}", json=fields))["deployment_id"], status)


def post(service, name, operation, status="active"):
    """operation: rollback or restart."""
    return settle(service, answered(service.client.post(f"/v1/deployments/{name}/{operation}"))["deployment_id"], status)


def begin_delete(service, name):
    return answered(service.client.delete(f"/v1/deployments/{name}"))


def delete(service, name):
    deployment = begin_delete(service, name)
    task = wait_task(service, deployment["task_id"])
    assert task["status"] == "done", task
    return get(service, deployment["deployment_id"])


def task(service, task_id):
    return answered(service.client.get(f"/v1/tasks/{task_id}"), 200)


def wait_task(service, task_id, deadline=DEADLINE):
    answer = service.client.get(f"/v1/tasks/{task_id}/wait", params={"timeout": int(deadline)}, timeout=deadline + 10)
    return answered(answer, 200)


def events(service, name, kind=None):
    """Oldest first."""
    found = answered(service.client.get(f"/v1/deployments/{name}/events", params={"limit": 1000}), 200)
    return [event for event in reversed(found) if kind in (None, event["kind"])]


def steps(service, name):
    return [event["message"] for event in events(service, name, "task_step")]


def infer_body(values, datatype="FP32"):
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [1, len(values)], "data": list(values)}]}


def infer(service, name, values=(1, 2, 3, 4), datatype="FP32"):
    """The outputs of a model of models.py with the input x [-1,4]."""
    answer = answered(service.client.post(f"/v2/models/{name}/infer", json=infer_body(values, datatype), timeout=60), 200)
    return answer["outputs"][0]["data"]


def amount(service, name):
    """What an add_one model adds: which model it is that answers."""
    return infer(service, name)[0] - 1


def runners(service, name=None, revision=None):
    """Of GET /v1/processes; by pid."""
    return {
        process["pid"]: process
        for process in service.processes()
        if process["role"] == "runner"
        and name in (None, process["deployment"])
        and revision in (None, process["revision"])
    }


def packages(service):
    """The digests of the packages on the disk."""
    return {path.name for path in (service.state / "packages" / "sha256").iterdir()}


# ---- clients

class Client:
    """Asks one thing again and again, on a connection that it keeps; each answer must be one of those allowed."""

    def __init__(self, name, connect, ask, allowed):
        self.name, self.connect, self.ask, self.allowed = name, connect, ask, allowed
        self.count, self.seen, self.failures = 0, Counter(), []

    def run(self, is_over):
        with self.connect() as connection:
            while not is_over():
                try:
                    answer = self.ask(connection)
                    which = [key for key, right in self.allowed.items() if np.allclose(answer, right, rtol=1e-5, atol=1e-6)]
                    if which:
                        self.seen[which[0]] += 1
                    else:
                        self.failures.append(AssertionError(f"{self.name}: {answer} is none of {self.allowed}"))
                except Exception as failure:  # noqa: BLE001 - every kind of failure counts
                    self.failures.append(failure)
                    time.sleep(0.01)  # a service that is away is not flooded
                self.count += 1


class Busy:
    """Clients at work, each in a thread of its own, from `with` to its end."""

    def __init__(self, *clients, warm=10):
        """`warm`: how many answers each client has before the test goes on."""
        self.clients, self._warm = clients, warm
        self._over = threading.Event()
        self._threads = [threading.Thread(target=client.run, args=(self._over.is_set,), daemon=True) for client in clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        try:
            self.pass_on(self._warm)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a client hangs"

    def pass_on(self, count=10):
        """Returns when every client has had so many more answers or failures."""
        goal = [client.count + count for client in self.clients]
        eventually(lambda: all(client.count >= enough for client, enough in zip(self.clients, goal)), what="the clients are busy")

    def forget(self):
        """What the clients saw so far."""
        for client in self.clients:
            client.seen = Counter()

    @property
    def seen(self):
        return sum((client.seen for client in self.clients), Counter())

    @property
    def failures(self):
        return [failure for client in self.clients for failure in client.failures]

    def check(self):
        assert not self.failures, f"{len(self.failures)} requests failed, the first: {self.failures[:3]!r}"


def httpx_client(service, name, amounts=(1, 10)):
    """On a kept-alive connection, over the JSON of /v2; `amounts` are those of the add_one models that may answer."""
    def ask(connection):
        answer = connection.post(f"/v2/models/{name}/infer", json=infer_body((1, 2, 3, 4)))
        if answer.status_code != 200:
            raise httpx.HTTPStatusError(f"{answer.status_code} {answer.text}", request=answer.request, response=answer)
        return answer.json()["outputs"][0]["data"]

    return Client("httpx", lambda: httpx.Client(base_url=service.url, timeout=60), ask, sums(amounts))


def triton_client(service, name, amounts=(1, 10)):
    """tritonclient with binary tensors."""
    import tritonclient.http as triton

    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32))
    output = triton.InferRequestedOutput("y")

    def ask(connection):
        return connection.infer(name, [tensor], outputs=[output]).as_numpy("y")[0]

    def connect():
        return triton.InferenceServerClient(f"{service.host}:{service.port}", network_timeout=60, connection_timeout=60)

    return Client("tritonclient", connect, ask, sums(amounts))


def openai_client(service, name, seeds=(7, 8)):
    """openai; `seeds` are those of the embedding models that may answer."""
    import openai

    def ask(connection):
        return connection.embeddings.create(model=name, input="hello world").data[0].embedding

    def connect():
        return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=60)

    ids = [models.WORDS.index(word) for word in ("[CLS]", "hello", "world", "[SEP]")]
    return Client("openai", connect, ask, {seed: models.embed(ids, seed=seed) for seed in seeds})


def sums(amounts):
    return {amount: [value + amount for value in (1, 2, 3, 4)] for amount in amounts}


# ---- the record

class Follower:
    """Reads control.db beside the service, so fast that hardly a step passes unseen."""

    def __init__(self, state):
        if str(state).startswith("/proc/"):  # in mounts of its own, where SQLite cannot follow: what is at rest is copied
            self._copy = tempfile.TemporaryDirectory()
            for file in Path(state).glob("control.db*"):
                shutil.copy(file, self._copy.name)
            state = self._copy.name
        self._database = sqlite3.connect(f"file:{Path(state) / 'control.db'}?mode=ro", uri=True, timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._database.close()

    def rows(self, query, *parameters):
        return self._database.execute(query, parameters).fetchall()

    def wait_for_step(self, task_id, step, deadline=DEADLINE):
        """Returns as soon as the task has begun the step, or has gone past it."""
        end = time.monotonic() + deadline
        query = "SELECT 1 FROM events WHERE task_id = ? AND kind = 'task_step' AND (message = ? OR message LIKE ?)"
        while not self.rows(query, task_id, step, f"{step}, attempt%"):
            assert time.monotonic() < end, f"{step} of task {task_id} did not begin: {self.rows('SELECT * FROM tasks WHERE id = ?', task_id)}"


def check_truth(service, amounts=None):
    """Waits until nothing is being worked on; then what is recorded, what runs, what lies on the disk and what answers must
    agree. `amounts`: what the add_one model of a revision adds, by (name, revision)."""
    def unfinished():
        tasks = answered(service.client.get("/v1/tasks", params={"limit": 1000}), 200)
        return [task for task in tasks if task["status"] in UNFINISHED and task["kind"] != "retire"]

    eventually(lambda: not unfinished(), what="every task has ended")
    eventually(lambda: not disagreements(service), what="record and processes agree")
    for deployment in answered(service.client.get("/v1/deployments", params={"limit": 1000}), 200):
        check_deployment(service, deployment, amounts or {})


def disagreements(service):
    """What does not agree, in words."""
    found = []

    def compare(what, one, other):
        if one != other:
            found.append(f"{what}: {one} != {other}")

    with Follower(service.state) as record:
        rows = record.rows("SELECT r.id, r.state, r.revision, d.name, d.status, r.reserved_bytes FROM replicas r "
                           "LEFT JOIN deployments d ON d.id = r.deployment_id")
        live = [row for row in rows if row[1] != "failed"]
        compare("states of replicas", {row[1] for row in live} - {"serving", "warm"}, set())
        compare("deployments of replicas", [row for row in rows if row[4] in (None, "inactive")], [])
        compare("reservations of those given up", [row for row in rows if row[1] == "failed" and row[5]], [])
        listed = runners(service)
        compare("runners by record and by list", sorted((row[3], row[2]) for row in live),
                sorted((process["deployment"], process["revision"]) for process in listed.values()))
        compare("runners by list and by kernel", set(listed), set(service.pids("runner")))
        compare("routed replicas", sorted(record.rows("SELECT replica_id FROM route_replicas")),
                sorted((row[0],) for row in live if row[1] == "serving"))
        folder = service.state / "packages"
        compare("packages on disk and in the record", packages(service), {row[0] for row in record.rows("SELECT digest FROM packages")})
        pinned = record.rows(
            "SELECT DISTINCT p.subject FROM pins p JOIN revisions r ON p.holder = 'revision:' || r.deployment_id || '/' || r.number "
            "JOIN deployments d ON d.id = r.deployment_id AND d.status <> 'inactive'")
        compare("packages on disk and those that revisions pin", packages(service), {row[0].removeprefix("package:") for row in pinned})
        logged = {path.name.partition(".")[0] for path in (service.state / "logs").iterdir()}
        compare("logs without a replica", logged - {row[0] for row in rows}, set())
        for place in ("incoming", "trash"):
            compare(place, [path.name for path in (folder / place).iterdir()] if (folder / place).exists() else [], [])
    return found


def check_deployment(service, deployment, amounts):
    name, serving = deployment["deployment_name"], deployment.get("serving_revision")
    if deployment["status"] == "inactive":
        return
    assert deployment["status"] in ("active", "failed"), deployment
    if deployment["status"] == "failed":
        assert deployment["message"] and deployment["error"]["causes"], deployment
    if serving is None:
        assert service.client.post(f"/v2/models/{name}/infer", json=infer_body((1, 2, 3, 4))).status_code in (404, 503)
        return
    if (name, serving) in amounts:
        assert amount(service, name) == amounts[name, serving], deployment
    assert len(runners(service, name, serving)) == deployment["replicas"], deployment
