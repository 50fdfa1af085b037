"""Models deployed and deleted by their ids: a FastAPI router whose six endpoints ask the Slipway service, at SLIPWAY_URL
with SLIPWAY_TOKEN (http://127.0.0.1:8400). Its functions can also be called; what the service does not know is an
HTTPException of status 404, what it refuses to take one of its own status.
"""

from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from starlette.types import Receive, Scope, Send

from slipway.errors import SlipwayError
from slipway.models import ModelTask
from slipway.workers import default_client


class ModelTaskRequest(BaseModel):
    """`embedding_model_id` or `model_id`. What else comes goes to the service, which judges it."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    embedding_model_id: str | None = None
    model_id: str | None = None
    task_id: str | None = None
    id: str | None = None
    parent_id: str | None = None


class ModelDeploymentRequest(ModelTaskRequest):
    config: dict[str, Any] | None = None


class ModelDeletionRequest(ModelTaskRequest):
    reason: str | None = None


class ModelDeploymentResponse(ModelTask):
    pass


class ModelDeletionResponse(ModelTask):
    pass


class _Router(APIRouter):
    """Also an application of its own, as FastAPI's test client takes one: what a router leaves to its application
    (answers for exceptions) is then done, too."""

    _application: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "app" in scope:
            await super().__call__(scope, receive, send)
            return
        if self._application is None:
            self._application = FastAPI()
            self._application.include_router(self)
        await self._application(scope, receive, send)


router = _Router()


@router.post("/deploy", response_model=ModelDeploymentResponse, response_model_exclude_none=True)
def deploy(body: ModelDeploymentRequest) -> Any:
    """Deploys a model; the task that does it."""
    return _ask("POST", "/deploy", ModelDeploymentResponse, body)


@router.get("/deploy/{task_id}", response_model=ModelDeploymentResponse, response_model_exclude_none=True)
def get_deploy_task(task_id: str) -> Any:
    """A deployment task."""
    return _ask("GET", "/deploy/{}", ModelDeploymentResponse, None, task_id)


@router.get("/deploy-status/{embedding_model_id}", response_model=ModelDeploymentResponse, response_model_exclude_none=True)
def get_model_deploy_status(embedding_model_id: str) -> Any:
    """The newest deployment task of a model."""
    return _ask("GET", "/deploy-status/{}", ModelDeploymentResponse, None, embedding_model_id)


@router.post("/delete", response_model=ModelDeletionResponse, response_model_exclude_none=True)
def delete(body: ModelDeletionRequest) -> Any:
    """Deletes a model; the task that does it."""
    return _ask("POST", "/delete", ModelDeletionResponse, body)


@router.get("/delete/{task_id}", response_model=ModelDeletionResponse, response_model_exclude_none=True)
def get_delete_task(task_id: str) -> Any:
    """A deletion task."""
    return _ask("GET", "/delete/{}", ModelDeletionResponse, None, task_id)


@router.get("/delete-status/{embedding_model_id}", response_model=ModelDeletionResponse, response_model_exclude_none=True)
def get_model_delete_status(embedding_model_id: str) -> Any:
    """The newest deletion task of a model."""
    return _ask("GET", "/delete-status/{}", ModelDeletionResponse, None, embedding_model_id)


def _ask(method: str, template: str, kind: type[ModelTask], body: Any, *words: object) -> Any:
    try:
        return default_client().ask_model_task(method, template, kind, body, *words)
    except SlipwayError as error:
        status = error.status_code or 503
        headers = {"Retry-After": f"{error.retry_after:g}"} if error.retry_after else None
        raise HTTPException(status_code=status, detail=error.message, headers=headers) from error
