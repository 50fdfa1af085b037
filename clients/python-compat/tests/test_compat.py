"""Code that was written against the import paths of others runs unchanged, and nobody's own package is shadowed."""

import asyncio
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import models as make
import pytest
import slipway_program as program
from core_ai_layer.machine_learning_service import ml_service_exceptions
from embedding_studio.api.api_v1.internal_endpoints import inference_deployment_tasks as endpoints
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

import slipway

MODULES = (
    "core_ai_layer.machine_learning_service.ml_model_deployment_service",
    "core_ai_layer.machine_learning_service.ml_models_schemas",
    "core_ai_layer.machine_learning_service.ml_service_exceptions",
    "embedding_studio.workers.upsertion.utils.deployment",
    "embedding_studio.api.api_v1.internal_endpoints.inference_deployment_tasks",
)


@pytest.fixture
def environment(service, monkeypatch):
    monkeypatch.setenv("SLIPWAY_URL", service.url)


# ---- the objects


def test_they_are_the_same_objects():
    from core_ai_layer.machine_learning_service.ml_model_deployment_service import MLModelDeploymentService
    from core_ai_layer.machine_learning_service.ml_models_schemas import (
        DeploymentRequest,
        DeploymentStatusResponse,
        DeploymentTargetConfig,
        ResourceConfig,
    )
    from embedding_studio.workers.upsertion.utils import deployment

    from slipway import models, workers

    assert MLModelDeploymentService is slipway.MLModelDeploymentService
    for ours in (DeploymentRequest, DeploymentStatusResponse, DeploymentTargetConfig, ResourceConfig):
        assert ours is getattr(models, ours.__name__)
    for name in ml_service_exceptions.__all__:
        if name != "MachineLearningServiceError":
            assert getattr(ml_service_exceptions, name) is getattr(slipway, name)
            assert issubclass(getattr(slipway, name), ml_service_exceptions.MachineLearningServiceError)
    for name in deployment.__all__:
        assert getattr(deployment, name) is getattr(workers, name)


def test_no_package_of_another_distribution_is_shadowed(tmp_path):
    """Neither one that is a namespace package, too, nor a regular one that stands first on the path."""
    namespace, regular = tmp_path / "namespace", tmp_path / "regular"
    for folder in (namespace, regular):
        own = folder / "core_ai_layer" / "machine_learning_service"
        own.mkdir(parents=True)
        (own / "their_own.py").write_text("WORD = 'theirs'\n")
    (regular / "core_ai_layer" / "__init__.py").write_text("REGULAR = True\n")
    (regular / "core_ai_layer" / "machine_learning_service" / "__init__.py").write_text("")
    source = """
        import core_ai_layer.machine_learning_service.their_own as own
        from core_ai_layer.machine_learning_service.ml_service_exceptions import ConfigurationError
        print(own.WORD, ConfigurationError.__module__)
    """

    def run(folder, source):
        paths = [str(folder), str(Path(slipway.__file__).parents[1]), str(compat_root())]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(paths)}
        command = [sys.executable, "-c", textwrap.dedent(source)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert run(namespace, source).stdout.split() == ["theirs", "slipway.errors"]
    theirs = "import core_ai_layer; from core_ai_layer.machine_learning_service import their_own; print(core_ai_layer.REGULAR)"
    assert run(regular, theirs).stdout.strip() == "True"


def compat_root():
    return Path(endpoints.__file__).parents[4]


def test_no_level_of_the_packages_has_an_init():
    for module in MODULES:
        importlib.import_module(module)
        while "." in module:
            module = module.rpartition(".")[0]
            assert getattr(sys.modules[module], "__file__", None) is None, module


# ---- the router


@pytest.mark.sanitizer
def test_the_examples_of_the_endpoints_run_literally(environment, models):
    from embedding_studio.api.api_v1.internal_endpoints.inference_deployment_tasks import router

    make.add_one(models, "your_model_id")
    client = TestClient(router)
    data = {"model_id": "your_model_id", "config": {"model_uri": str(models / "your_model_id")}}
    response = client.post("/deploy", json=data)
    assert response.status_code == 200
    task = response.json()
    assert task["embedding_model_id"] == "your_model_id" and task["status"] in ("pending", "processing", "done")
    assert "detail" not in task

    def is_done():
        found = client.get(f"/deploy/{task['task_id']}").json()
        return found["status"] == "done" and found

    assert program.eventually(is_done)["deployed_model_id"] == "your_model_id"
    assert client.get("/deploy-status/your_model_id").json()["task_id"] == task["task_id"]

    data = {"model_id": "your_model_id", "reason": "No longer needed"}
    response = client.post("/delete", json=data)
    assert response.status_code == 200 and response.json()["metadata"]["reason"] == "No longer needed"
    deletion = response.json()["task_id"]
    program.eventually(lambda: client.get(f"/delete/{deletion}").json()["status"] == "done")
    assert client.get("/delete-status/your_model_id").json()["task_id"] == deletion


NOT_FOUND = [
    ("get_deploy_task", "/deploy/123", "Deployment task with ID `123` is not found"),
    ("get_model_deploy_status", "/deploy-status/123", "Deployment task with embedding model ID `123` is not found"),
    ("get_delete_task", "/delete/123", "Deletion task with ID `123` is not found"),
    ("get_model_delete_status", "/delete-status/123", "Deletion task with embedding model ID `123` is not found"),
]


def test_what_is_not_there_is_404_with_its_sentence(environment):
    client = TestClient(endpoints.router)
    for function, path, detail in NOT_FOUND:
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": detail})
        with pytest.raises(HTTPException) as raised:
            getattr(endpoints, function)("123")
        assert (raised.value.status_code, raised.value.detail) == (404, detail)


def test_the_functions_can_be_called(environment, models):
    make.add_one(models, "one")
    body = endpoints.ModelDeploymentRequest(embedding_model_id="one", config={"model_uri": str(models / "one")})
    task = endpoints.deploy(body)
    program.eventually(lambda: endpoints.get_deploy_task(task.task_id).status == "done")
    assert endpoints.get_model_deploy_status("one").task_id == task.task_id
    gone = endpoints.delete(SimpleNamespaceBody(model_id="one", reason="test"))
    program.eventually(lambda: endpoints.get_delete_task(gone.task_id).status == "done")
    assert endpoints.get_model_delete_status("one").task_id == gone.task_id


class SimpleNamespaceBody(endpoints.BaseModel):
    """Another's model of the same fields."""

    model_id: str
    reason: str


def test_what_the_service_refuses_keeps_its_status(environment, monkeypatch):
    client = TestClient(endpoints.router)
    answer = client.post("/deploy", json={"model_id": "123", "config": {"param": "value"}})
    assert answer.status_code == 400 and "param" in answer.json()["detail"]
    assert client.post("/deploy", json={"config": 7}).status_code == 422
    monkeypatch.setenv("SLIPWAY_URL", "http://127.0.0.1:9")
    assert client.get("/deploy/123").status_code == 503


def test_the_router_can_be_included(environment):
    application = FastAPI()
    application.include_router(endpoints.router, prefix="/api/v1/internal/inference-deployment")
    with TestClient(application) as client:
        assert client.get("/api/v1/internal/inference-deployment/deploy/123").status_code == 404
        assert client.get("/deploy/123").json() == {"detail": "Not Found"}
        assert "/api/v1/internal/inference-deployment/deploy" in client.get("/openapi.json").json()["paths"]


# ---- the workers


def test_the_documented_calls_run_literally(environment, client, models):
    from embedding_studio.workers.upsertion.utils.deployment import (
        blue_switch,
        initiate_model_deletion,
        initiate_model_deployment_and_wait,
    )

    for name, seed in (("a", 7), ("model123", 9)):
        config = {"model_uri": str(make.embedding(models, name, seed=seed))}
        plugin, deployment_worker = None, None
        task = SimpleNamespace(
            id="re-1", source=SimpleNamespace(embedding_model_id="a"), dest=SimpleNamespace(embedding_model_id="b")
        )
        embedding_model = SimpleNamespace(embedding_model_id=name, fine_tuning_method="none", config=config)
        deployment = initiate_model_deployment_and_wait(plugin, task, embedding_model, deployment_worker)
        assert deployment.status == "active"
    told = []
    deletion_worker = SimpleNamespace(send=told.append)
    initiate_model_deletion(task, "model123", deletion_worker)
    assert len(told) == 1
    with pytest.raises(ml_service_exceptions.ConfigurationError):
        blue_switch(task, deletion_worker)


def test_a_guide_runs_with_the_known_imports(environment, models, capsys):
    from core_ai_layer.machine_learning_service.ml_model_deployment_service import MLModelDeploymentService
    from core_ai_layer.machine_learning_service.ml_models_schemas import DeploymentRequest, DeploymentTargetConfig
    from core_ai_layer.machine_learning_service.ml_service_exceptions import ConfigurationError, ResourceNotFoundError

    deployment_service = MLModelDeploymentService()
    deployment_request = DeploymentRequest(
        model_uri=str(make.add_one(models)),
        deployment_name="MyModelAPIService_Prod",
        deployment_target_config=DeploymentTargetConfig(
            type="api_service", serving_image="custom/my-model-server:v1.0", replicas=2, port=8080
        ),
    )

    async def submit():
        try:
            job = await deployment_service.deploy_model(deployment_request)
            print(f"Name: {job.deployment_name}, Status: {job.status}")
        except ConfigurationError as e:
            print(f"Configuration Error: {e.message}")

    async def look(deployment_id):
        try:
            await deployment_service.get_deployment_status(deployment_id)
        except ResourceNotFoundError as e:
            print(e.message)

    asyncio.run(submit())
    asyncio.run(submit())
    asyncio.run(look("7d8a9c3e-0000-4000-8000-000000000000"))
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "Name: MyModelAPIService_Prod, Status: creating"
    assert second.startswith("Configuration Error: the name MyModelAPIService_Prod is taken")
    assert "7d8a9c3e-0000-4000-8000-000000000000" in third
