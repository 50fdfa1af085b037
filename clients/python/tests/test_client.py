"""Client and AsyncClient against the real service."""

import asyncio
import inspect
import re
import threading
import uuid
from types import SimpleNamespace

import httpx
import models as make
import pytest
import slipway_program as program

import slipway
from slipway import _deployments, errors
from slipway._api import Api
from slipway._steps import Call, Download, Stream
from slipway.models import DocumentWrite


def request(name, model, **config):
    return slipway.DeploymentRequest(
        model_uri=str(model),
        deployment_name=name,
        deployment_target_config=slipway.DeploymentTargetConfig(type="api_service", **config),
    )


def deployed(client, name, model):
    client.deploy_model(request(name, model))
    deployment = client.wait_for_deployment(name, 60)
    assert deployment.status == "active", deployment.message
    return deployment


@pytest.mark.sanitizer
def test_a_deployment_lives_through_all_its_calls(client, models):
    begun = client.deploy_model(request("one", make.add_one(models, "one"), replicas=1), idempotency_key="k")
    assert begun.status == "creating" and isinstance(begun.deployment_id, uuid.UUID)
    assert client.deploy_model(request("one", models / "one", replicas=1), idempotency_key="k").deployment_id == begun.deployment_id
    seen = []
    active = client.wait_for_deployment(begun.deployment_id, 60, progress=seen.append)
    assert active.status == "active" and seen[-1].status == "active"
    assert active.endpoint_url.endswith("/v2/models/one") and active.deployed_model_version.startswith("package:sha256:")

    answer = client.infer("one", {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
    assert answer["outputs"][0]["data"] == [2, 3, 4, 5]
    assert client.is_model_ready("one") and not client.is_model_ready("two")
    assert client.get_model_metadata("one")["inputs"][0]["name"] == "x"

    assert client.update_deployment(str(begun.deployment_id), request("one", make.add_one(models, "new", 5.0))).status == "updating"
    assert client.wait_for_deployment("one", 60).serving_revision == 2
    assert [revision.revision for revision in client.list_revisions("one")] == [2, 1]
    client.patch_deployment("one", tags={"team": "search"})
    assert client.wait_for_deployment("one", 60).tags == {"team": "search"}
    client.rollback_deployment("one")
    assert client.wait_for_deployment("one", 60).serving_revision == 1
    client.restart_deployment("one")
    assert client.wait_for_deployment("one", 60).status == "active"

    listed = client.list_deployments(limit=10)
    assert [each.deployment_name for each in listed] == ["one"] and listed.total_count == 1
    assert client.list_deployments(status="failed") == []
    assert {process.role for process in client.list_processes()} >= {"supervisor", "gateway", "controller", "runner"}
    assert client.get_upgrade().version and client.is_ready()
    tasks = client.list_tasks(kind="deploy", deployment_id=begun.deployment_id)
    assert [task.status for task in tasks] == ["done"] and client.get_task(tasks[0].task_id).deployment_id == begun.deployment_id
    assert any(event.deployment == "one" for event in client.list_events()) and client.list_events("one")
    assert isinstance(client.list_logs("one"), list)

    assert client.delete_deployment(begun.deployment_id).status == "deleting"
    assert client.wait_for_deployment(begun.deployment_id, 60).status == "inactive"


def test_errors_are_those_that_the_service_names(client, models):
    with pytest.raises(slipway.ResourceNotFoundError) as missing:
        client.get_deployment_status(uuid.uuid4())
    assert missing.value.status_code == 404 and missing.value.message and missing.value.causes
    with pytest.raises(slipway.ConfigurationError, match="colour"):
        client.deploy_model(
            {"model_uri": "x", "deployment_name": "a", "deployment_target_config": {"type": "api_service"}, "colour": 1}
        )
    deployed(client, "one", make.add_one(models))
    with pytest.raises(slipway.ConflictError) as taken:
        client.deploy_model(request("one", models / "add-one"))
    assert isinstance(taken.value, slipway.ConfigurationError) and "one" in taken.value.message
    with pytest.raises(slipway.RefusedError) as refused:
        client.patch_deployment("one", resource_allocation=slipway.ResourceConfig(memory="900Gi"))
    assert isinstance(refused.value, slipway.DeploymentError) and "memory" in refused.value.message
    with pytest.raises(slipway.ConfigurationError):
        client.list_deployments(limit=0)
    with pytest.raises(slipway.ConfigurationError, match="x"):
        client.infer("one", {"inputs": []})
    with pytest.raises(slipway.UnavailableError) as late:
        client.deploy_model(request("slow", make.slow(models, rounds=400)))
        client.wait_for_deployment("slow", 0.0)
    assert late.value.status_code == 504


def test_a_service_that_is_down_is_an_external_service_error(make_service):
    service = make_service().start()
    with slipway.Client(service.url) as client:
        assert client.is_ready()
        service.stop()
        with pytest.raises(slipway.ExternalServiceError, match=r"cannot be reached") as down:
            client.list_deployments()
        assert down.value.status_code is None and isinstance(down.value, slipway.UnavailableError)
        assert not client.is_ready()
        service.start()
        assert client.list_deployments() == []


def test_a_missing_token_is_unauthorized(make_service, monkeypatch):
    service = make_service(token="secret").start()
    with pytest.raises(slipway.UnauthorizedError) as refused:
        slipway.Client(service.url).list_deployments()
    assert isinstance(refused.value, slipway.ExternalServiceError) and refused.value.status_code == 401
    assert slipway.Client(service.url, "secret").list_deployments() == []
    monkeypatch.setenv("SLIPWAY_URL", service.url)
    monkeypatch.setenv("SLIPWAY_TOKEN", "secret")
    with slipway.Client() as client:
        made = client.create_token("reader", "read", rate=50)
        assert [token.name for token in client.list_tokens()] == ["reader"]
        reader = slipway.Client(token=made.token)
        assert reader.list_deployments() == []
        with pytest.raises(slipway.UnauthorizedError) as role:
            reader.delete_deployment("x")
        assert role.value.status_code == 403
        assert client.revoke_token("reader").revoked_at
        with pytest.raises(slipway.UnauthorizedError):
            reader.list_deployments()


def test_the_control_socket_needs_no_token(make_service):
    service = make_service(token="secret").start()
    url = f"unix:{service.state / 'control.sock'}"
    with slipway.Client(url) as client:
        assert client.list_deployments() == []

    async def look():
        async with slipway.AsyncClient(url) as client:
            return await client.list_deployments()

    assert asyncio.run(look()) == []


def test_a_url_that_is_none_is_a_configuration_error():
    for url in ("ftp://x", "nonsense", "http://"):
        with pytest.raises(slipway.ConfigurationError):
            slipway.Client(url)


def test_what_is_not_slipways_is_told(httpserver_text):
    with slipway.Client(httpserver_text) as client, pytest.raises(slipway.ExternalServiceError) as other:
        client.list_deployments()
    assert isinstance(other.value, errors.ProtocolError)


@pytest.fixture
def httpserver_text():
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.sanitizer
def test_documents_are_written_searched_and_embedded_anew(client, models, tmp_path):
    deployed(client, "a", make.embedding(models, "a"))
    deployed(client, "b", make.embedding(models, "b", seed=8))
    collection = client.create_collection("notes", "a", keep_queries=True)
    assert collection.blue.state == "blue" and isinstance(collection.collection_id, uuid.UUID)
    words = make.WORDS[5:25]
    assert client.put_document("notes", "ä/1", words[0], {"n": 0}, wait_indexed=True).indexed
    assert client.get_document("notes", "ä/1").payload == {"n": 0}
    parts = []
    done = client.import_documents(
        "notes",
        (DocumentWrite(id=str(n), text=word, payload={"n": n}) for n, word in enumerate(words)),
        wait_indexed=True,
        progress=lambda bulk: parts.append(bulk.accepted),
    )
    assert done.accepted == len(words) == parts[-1] and done.indexed and not done.errors
    bad = client.write_documents("notes", [{"id": "x", "text": words[1]}, {"id": "y"}, {"id": "x", "delete": True}])
    assert (bad.accepted, bad.rejected, bad.errors[0].line, bad.errors[0].id) == (2, 1, 2, "y")
    assert client.delete_document("notes", "ä/1", wait_indexed=True).seq
    with pytest.raises(slipway.ResourceNotFoundError):
        client.delete_document("notes", "ä/1")

    hits = client.search("notes", words[3], limit=2, filter={"field": "n", "gte": 3})
    assert hits.hits[0].id == "3" and hits.hits[0].score == pytest.approx(1.0, abs=1e-4) and hits.encoder.deployment == "a"
    vector = client.embed("a", words[3]).vectors[0]
    assert client.search("notes", vector=vector, encoder_digest=hits.encoder.digest, limit=1).hits[0].id == "3"
    assert client.search_queries("notes", words[3]) is not None
    assert {document.id for document in client.export_documents("notes")} == {str(n) for n in range(len(words))}

    seen = []
    task = client.reindex("notes", "b", rollback_window=600, progress=seen.append)
    assert task.status == "done" and seen[-1].progress.done == len(words) == seen[-1].progress.total
    assert client.search("notes", words[3], limit=1).encoder.deployment == "b"
    assert client.list_failed_items(task.task_id) == []
    with pytest.raises(slipway.RefusedError, match="notes"):
        client.reindex("notes", "b")
    back = client.rollback_collection("notes")
    assert client.wait_for_task(back.task_id, 60).status == "done"
    assert client.get_collection("notes").blue.deployment == "a"
    assert {index.deployment for index in client.list_indexes("notes")} == {"a", "b"}
    assert [each.name for each in client.list_collections()] == ["notes"]
    gone = client.delete_collection("notes")
    assert client.wait_for_task(gone.task_id, 60).status == "done"


def test_a_large_import_goes_in_parts(client, models, monkeypatch):
    from slipway import _collections

    monkeypatch.setattr(_collections, "PART_BYTES", 1000)
    deployed(client, "a", make.embedding(models, "a"))
    client.create_collection("notes", "a")
    parts = []
    writes = [{"id": str(n), "text": "the"} if n % 10 else {"id": str(n)} for n in range(200)]
    done = client.import_documents("notes", writes, progress=lambda bulk: parts.append(bulk.accepted + bulk.rejected))
    assert len(parts) > 3 and parts[-1] == 200 and (done.accepted, done.rejected) == (180, 20)
    assert [error.line for error in done.errors] == [n + 1 for n in range(0, 200, 10)]


@pytest.mark.sanitizer
def test_packages_go_up_and_come_down(client, models, make_service, tmp_path):
    package = client.upload_package(make.embedding(models, "a"))
    assert package.package_uri.startswith("package:sha256:") and package.files > 3
    deployment = deployed(client, "a", package.package_uri)
    assert deployment.deployed_model_version == package.package_uri
    assert client.upload_package(models / "a").digest == package.digest
    assert [each.digest for each in client.list_packages()] == [package.digest]
    assert "tokenizer.json" in {file.path for file in client.get_package(package.package_uri).contents}
    with pytest.raises(slipway.ConflictError, match="a"):
        client.delete_package(package.package_uri)

    file = tmp_path / "package.tar"
    assert client.export_package(package.package_uri, file) == file.stat().st_size > 0
    other = make_service().start()
    with slipway.Client(other.url) as second:
        assert second.upload_package(file).digest == package.digest
        assert second.prune_packages(dry_run=True).removed == []
        assert [each.digest for each in second.prune_packages(all=True).removed] == [package.digest]
        built = second.build_package(str(models / "a"))
        task = second.wait_for_task(built.task_id, 60)
        assert task.status == "done" and task.metadata["package_uri"] == package.package_uri
    with pytest.raises(slipway.ConfigurationError, match="nowhere"):
        client.upload_package(tmp_path / "nowhere")
    with pytest.raises(slipway.ResourceNotFoundError):
        client.export_package("package:sha256:" + "0" * 64, tmp_path / "none.tar")
    assert not (tmp_path / "none.tar").exists() and not (tmp_path / "none.tar.part").exists()

    async def again():
        async with slipway.AsyncClient(client.url) as awaited:
            assert (await awaited.upload_package(models / "a" / "model.onnx")).files == 1
            await awaited.export_package(package.package_uri, tmp_path / "again.tar")

    asyncio.run(again())
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()


def test_models_are_deployed_and_deleted_by_their_ids(client, models):
    make.add_one(models, "by-id")
    task = client.deploy("by-id", task_id="t-1", config={"model_uri": str(models / "by-id")})
    assert task.task_id == "t-1"
    assert client.wait_for_task("t-1", 60).status == "done"
    assert client.get_deploy_task("t-1").deployed_model_id == "by-id"
    assert client.get_model_deploy_status("by-id").status == "done"
    gone = client.delete("by-id", reason="no longer needed")
    assert client.wait_for_task(gone.task_id, 60).status == "done"
    assert client.get_delete_task(gone.task_id).metadata["reason"] == "no longer needed"
    assert client.get_model_delete_status("by-id").task_id == gone.task_id
    with pytest.raises(slipway.ResourceNotFoundError, match="Deployment task with ID `nope` is not found"):
        client.get_deploy_task("nope")


def test_a_task_is_canceled_and_begun_again(client, models):
    client.deploy_model(request("slow", make.slow(models, rounds=2000)))
    task_id = client.list_tasks(kind="deploy")[0].task_id
    assert client.cancel_task(task_id).task_id == task_id
    assert client.wait_for_task(task_id, 60).status == "canceled"
    assert client.restart_task(task_id).status in ("pending", "processing")
    client.cancel_task(task_id)


def test_events_are_followed_across_a_restart_of_the_controller(service, client, models):
    """None is missing, none comes twice."""
    deployment = deployed(client, "one", make.add_one(models))
    seen = []

    def follow():
        with slipway.Client(service.url) as following:
            for event in following.follow_events(deployment.deployment_id, limit=1000):
                seen.append(event.event_id)
                if is_over.is_set():
                    return

    is_over = threading.Event()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    program.eventually(lambda: seen, what="the first event")
    service.kill_role("controller")
    service.wait_until_ready()
    client.patch_deployment("one", tags={"a": 1})
    client.wait_for_deployment("one", 60)

    def has_all():
        return seen == sorted(event.event_id for event in client.list_events("one", limit=1000))

    program.eventually(has_all, what="all events, once each")
    is_over.set()
    client.delete_deployment("one")
    thread.join(60)
    assert not thread.is_alive()


def test_logs_are_followed_until_the_deployment_is_gone(client, models):
    deployed(client, "one", make.add_one(models))
    lines = client.follow_logs("one")
    threading.Timer(0.5, client.delete_deployment, ["one"]).start()
    assert all(line.revision == 1 for line in lines)


@pytest.mark.sanitizer
def test_the_same_calls_can_be_awaited(service, models):
    async def go():
        async with slipway.AsyncClient(service.url) as client:
            await client.deploy_model(request("a", make.embedding(models, "a")))
            seen = []

            async def note(state):
                await asyncio.sleep(0)
                seen.append(state.status)

            deployment = await client.wait_for_deployment("a", 60, progress=note)
            assert deployment.status == "active" and seen[-1] == "active"
            await client.create_collection("notes", "a")
            await client.import_documents("notes", [{"id": str(n), "text": "the"} for n in range(20)], wait_indexed=True)
            assert len([document async for document in client.export_documents("notes")]) == 20
            several = await asyncio.gather(*(client.search("notes", "the", limit=3) for _ in range(8)))
            assert all(len(hits.hits) == 3 for hits in several)
            async for event in client.follow_events(limit=1):
                assert event.event_id
                break
            with pytest.raises(slipway.ResourceNotFoundError):
                await client.get_task("nope")

    asyncio.run(go())


def test_one_client_serves_many_threads(client, models):
    deployed(client, "one", make.add_one(models))
    failures = []

    def ask():
        try:
            for _ in range(20):
                assert client.get_deployment_status("one").status == "active"
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == []


# Of others' protocols and for others' programs.
NOT_CALLED = {
    *(
        ("get", path)
        for path in ("/livez", "/metrics", "/openapi.json", "/v1/models", "/v2", "/v2/health/live", "/v2/health/ready")
    ),
    *(("get", f"/v2/models/x/versions/x{more}") for more in ("", "/ready")),
    ("post", "/v2/models/x/versions/x/infer"),
}


def test_every_operation_of_the_service_has_a_call(client, models):
    """What each method sends first, held against what /openapi.json describes."""
    described = set()
    for path, operations in httpx.get(client.url + "/openapi.json").json()["paths"].items():
        described |= {(method, re.sub(r"\{[^}]*\}", "x", path)) for method in operations}
    root = "/api/v1/internal/inference-deployment"
    described = {(method, path) for method, path in described if ("post", root + path) not in described}
    described = {(method, path) for method, path in described if ("get", root + path) not in described}
    sent = {first_of(method, make.add_one(models)) for method in vars(Api).values() if hasattr(method, "__wrapped__")}
    sent.add(("get", _deployments.list_events("x").path))  # without an argument: those of the whole service
    assert described - sent - NOT_CALLED == set()


REQUESTS = ("DeploymentRequest", "DeploymentTargetConfig", "ModelConfig", "ReindexRequest", "MinimumOverlap")
ANSWERS = ("DeploymentStatusResponse", "Revision", "Event", "LogLine", "Task", "Progress", "ErrorRecord", "FailedItem", "Process")
ANSWERS += ("Collection", "Index", "Document", "Hit", "ReindexTask", "ModelTask", "Token", "Package")


def test_the_models_have_the_fields_of_the_description(client):
    from slipway import models as ours

    schemas = httpx.get(client.url + "/openapi.json").json()["components"]["schemas"]
    for name in REQUESTS:
        assert set(getattr(ours, name).model_fields) == set(schemas[name]["properties"]), name
    assert set(ours.ResourceConfig.model_fields) == set(schemas["ResourceAllocation"]["properties"])
    unknown = {name: set(schemas[name]["properties"]) - set(getattr(ours, name).model_fields) for name in ANSWERS}
    assert {name: fields for name, fields in unknown.items() if fields} == {}


def first_of(method, model):
    """(method, path) of the first request of an operation, with x for whatever it needs."""
    parameters = inspect.signature(method.__wrapped__).parameters.values()
    task = SimpleNamespace(id=None, source="x", dest="x")
    values = {"task": task, "source": str(model), "writes": [{"id": "x"}], "request": {}}
    values |= {"method": "get", "template": "/x", "kind": None, "plugin": None}
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    positional = [parameter for parameter in required if parameter.kind is not parameter.VAR_POSITIONAL]
    described = method.__wrapped__(*(values.get(parameter.name, "x") for parameter in positional))
    if isinstance(described, Stream):
        return described.call.method.lower(), described.call.path
    steps = iter(described)
    step = next(steps)
    while not isinstance(step, Call | Download):
        step = steps.send(step.function())
    call = step.call if isinstance(step, Download) else step
    return call.method.lower(), call.path
