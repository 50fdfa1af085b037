"""Deployments, tasks, and models by their ids: what is sent and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import httpx

from . import errors
from ._steps import Call, Invoke, Pause, Step, Stream, line_of, many, nothing, one, path, plain, without_nones
from .models import (
    DeploymentRequest,
    DeploymentStatusResponse,
    Event,
    FailedItem,
    LogLine,
    ModelConfig,
    ModelTask,
    Page,
    ResourceConfig,
    Revision,
    Task,
)

T = TypeVar("T")
M = TypeVar("M", bound=ModelTask)
Id = str | UUID  # the id of a deployment, or its name
Fields = Mapping[str, Any]  # a request's fields, where no model of it is at hand

DEPLOYMENTS = "/v1/deployments"
TASKS = "/v1/tasks"
MODEL_TASKS = "/api/v1/internal/inference-deployment"
WAIT_SLICE = 20.0  # seconds that one request of a longer wait asks for
PAUSE = 0.2

_one_deployment = one(DeploymentStatusResponse)
_one_task = one(Task)
_one_model_task = one(ModelTask)


# ---- deployments


def deploy_model(request: DeploymentRequest | Fields, *, idempotency_key: str | None = None) -> Call[DeploymentStatusResponse]:
    """Returns when the request is recorded (`creating`), not when it serves: see wait_for_deployment(). The same
    idempotency key and request again give the same answer. ConfigurationError, ConflictError (the name is taken)."""
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    return Call("POST", DEPLOYMENTS, _one_deployment, json=plain(request), headers=headers)


def get_deployment_status(deployment_id: Id) -> Call[DeploymentStatusResponse]:
    """By id or name. ResourceNotFoundError."""
    return Call("GET", path(DEPLOYMENTS + "/{}", deployment_id), _one_deployment)


def list_deployments(limit: int = 100, offset: int = 0, *, status: str | None = None) -> Call[Page[DeploymentStatusResponse]]:
    """Newest first, inactive ones too."""
    query = {"limit": limit, "offset": offset, "status": status}
    return Call("GET", DEPLOYMENTS, many(DeploymentStatusResponse), query=query)


def update_deployment(deployment_id: Id, request: DeploymentRequest | Fields) -> Call[DeploymentStatusResponse]:
    """A new revision. ConfigurationError, ResourceNotFoundError, ConflictError (another operation runs)."""
    return Call("PUT", path(DEPLOYMENTS + "/{}", deployment_id), _one_deployment, json=plain(request))


def patch_deployment(
    deployment_id: Id,
    *,
    replicas: int | None = None,
    resource_allocation: ResourceConfig | Fields | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Call[DeploymentStatusResponse]:
    """What changes without a new revision. RefusedError when it does not fit."""
    body = without_nones(replicas=replicas, resource_allocation=resource_allocation, tags=tags)
    return Call("PATCH", path(DEPLOYMENTS + "/{}", deployment_id), _one_deployment, json=body)


def delete_deployment(deployment_id: Id) -> Call[DeploymentStatusResponse]:
    """Begins the deletion; of an inactive one: unchanged. ResourceNotFoundError, ConflictError (an encoder in use)."""
    return Call("DELETE", path(DEPLOYMENTS + "/{}", deployment_id), _one_deployment)


def rollback_deployment(deployment_id: Id) -> Call[DeploymentStatusResponse]:
    """Back to the revision that served before. ConflictError when there is none."""
    return Call("POST", path(DEPLOYMENTS + "/{}/rollback", deployment_id), _one_deployment)


def restart_deployment(deployment_id: Id) -> Call[DeploymentStatusResponse]:
    """Fresh replicas, one after the other."""
    return Call("POST", path(DEPLOYMENTS + "/{}/restart", deployment_id), _one_deployment)


def wait_for_deployment(
    deployment_id: Id,
    timeout: float = 600.0,
    *,
    progress: Callable[[DeploymentStatusResponse], Any] | None = None,
) -> Generator[Step, Any, DeploymentStatusResponse]:
    """Until no operation runs any more; settled, not active: look at its status. Outlives a restart of the service.
    `progress` is told the state about once a second. UnavailableError when not within `timeout` seconds."""
    where = path(DEPLOYMENTS + "/{}", deployment_id)
    return _wait(where, one(DeploymentStatusResponse), timeout, progress)


def list_revisions(deployment_id: Id, limit: int = 100, offset: int = 0) -> Call[Page[Revision]]:
    query = {"limit": limit, "offset": offset}
    return Call("GET", path(DEPLOYMENTS + "/{}/revisions", deployment_id), many(Revision), query=query)


# ---- events and logs


def list_events(deployment_id: Id | None = None, limit: int = 100, offset: int = 0) -> Call[Page[Event]]:
    """What happened to a deployment, or in the whole service; newest first."""
    return Call("GET", _events(deployment_id), many(Event), query={"limit": limit, "offset": offset})


def list_logs(deployment_id: Id, limit: int = 100, offset: int = 0) -> Call[Page[LogLine]]:
    """What its replicas wrote, newest first."""
    query = {"limit": limit, "offset": offset}
    return Call("GET", path(DEPLOYMENTS + "/{}/logs", deployment_id), many(LogLine), query=query)


def follow_events(deployment_id: Id | None = None, limit: int = 100, *, after: int | None = None) -> Stream[Event]:
    """The last `limit`, oldest first, then what follows, without an end; or what comes behind the event `after`. A service
    that restarts is asked again: none is missing, none comes twice."""
    where = _events(deployment_id)
    read = line_of(Event)
    last = after

    def ask() -> Call[Any]:
        begin = {"limit": limit} if last is None else {"after": last}
        return Call("GET", where, nothing, query={"follow": True, **begin})

    def take(line: bytes) -> Event:
        nonlocal last
        event = read(line)
        last = event.event_id
        return event

    return Stream(ask(), take, resume=ask)


def follow_logs(deployment_id: Id, limit: int = 100) -> Stream[LogLine]:
    """The same for what its replicas write. Ends when the deployment is deleted."""
    where = path(DEPLOYMENTS + "/{}/logs", deployment_id)
    read = line_of(LogLine)
    positions: dict[str, str] = {}  # where each replica's log stands

    def keep(position: str) -> None:
        positions[position.partition(":")[0]] = position

    def ask() -> Call[Any]:
        begin = {"after": ",".join(positions.values())} if positions else {"limit": limit}
        return Call("GET", where, nothing, query={"follow": True, **begin})

    def begin(headers: httpx.Headers) -> None:
        for position in headers.get("X-Slipway-Position", "").split(","):
            if position:
                keep(position)

    def take(line: bytes) -> LogLine:
        found = read(line)
        if found.position:
            keep(found.position)
        return found

    return Stream(ask(), take, begin=begin, resume=ask)


def _events(deployment_id: Id | None) -> str:
    return "/v1/events" if deployment_id is None else path(DEPLOYMENTS + "/{}/events", deployment_id)


# ---- tasks


def get_task(task_id: Id) -> Call[Task]:
    return Call("GET", path(TASKS + "/{}", task_id), _one_task)


def list_tasks(
    limit: int = 100,
    offset: int = 0,
    *,
    kind: str | None = None,
    status: str | None = None,
    parent_id: Id | None = None,
    deployment_id: Id | None = None,
    collection: str | None = None,
) -> Call[Page[Task]]:
    query = {
        "limit": limit,
        "offset": offset,
        "kind": kind,
        "status": status,
        "parent_id": parent_id,
        "deployment_id": deployment_id,
        "collection": collection,
    }
    return Call("GET", TASKS, many(Task), query=query)


def cancel_task(task_id: Id) -> Call[Task]:
    """ConflictError when it is finished."""
    return Call("POST", path(TASKS + "/{}/cancel", task_id), _one_task)


def restart_task(task_id: Id) -> Call[Task]:
    """ConflictError unless it failed, was refused or canceled."""
    return Call("POST", path(TASKS + "/{}/restart", task_id), _one_task)


def wait_for_task(
    task_id: Id, timeout: float = 600.0, *, progress: Callable[[Task], Any] | None = None
) -> Generator[Step, Any, Task]:
    """Until it is finished, however it ended: look at its status. Otherwise as wait_for_deployment()."""
    return _wait(path(TASKS + "/{}", task_id), one(Task), timeout, progress)


def list_failed_items(task_id: Id, limit: int = 100, offset: int = 0) -> Call[Page[FailedItem]]:
    """What a re-index could not embed."""
    query = {"limit": limit, "offset": offset}
    return Call("GET", path(TASKS + "/{}/failed-items", task_id), many(FailedItem), query=query)


def _wait(
    where: str, read: Callable[[httpx.Response], T], timeout: float, progress: Callable[[T], Any] | None
) -> Generator[Step, Any, T]:
    left = timeout
    slice_seconds = 1.0 if progress else WAIT_SLICE
    while True:
        asked = max(0.0, min(left, slice_seconds))
        query = {"timeout": f"{asked:.3f}"}
        try:
            answer = yield from Call("GET", where + "/wait", read, query=query, timeout=asked + 30.0)
            if progress:
                yield from Invoke(partial(progress, answer))
            return answer
        except errors.UnavailableError as error:
            if left <= 0:
                raise
            if error.status_code == 504:
                left -= asked
            else:  # it restarts
                yield Pause(PAUSE)
                left -= PAUSE
        if progress:
            try:
                state = yield from Call("GET", where, read)
                yield from Invoke(partial(progress, state))
            except errors.UnavailableError:
                pass


# ---- models by id


def deploy(
    embedding_model_id: Id,
    *,
    task_id: Id | None = None,
    parent_id: Id | None = None,
    config: ModelConfig | DeploymentRequest | Fields | None = None,
) -> Call[ModelTask]:
    """Deploys a model by its id, which becomes the deployment's name. The same task id twice is the same task. Without a
    model_uri in `config`, the id is looked up in the default registry. The task as it is recorded, also when it is refused
    or failed."""
    settings = plain(config)
    if settings is not None:
        settings.pop("deployment_name", None)
    return _model_task("/deploy", embedding_model_id=embedding_model_id, task_id=task_id, parent_id=parent_id, config=settings)


def get_deploy_task(task_id: Id) -> Call[ModelTask]:
    return Call("GET", path(MODEL_TASKS + "/deploy/{}", task_id), _one_model_task)


def get_model_deploy_status(embedding_model_id: Id) -> Call[ModelTask]:
    """The newest deployment task of the model."""
    return Call("GET", path(MODEL_TASKS + "/deploy-status/{}", embedding_model_id), _one_model_task)


def delete(
    embedding_model_id: Id, *, task_id: Id | None = None, parent_id: Id | None = None, reason: str | None = None
) -> Call[ModelTask]:
    """Begins the deletion of a model by its id."""
    return _model_task("/delete", embedding_model_id=embedding_model_id, task_id=task_id, parent_id=parent_id, reason=reason)


def get_delete_task(task_id: Id) -> Call[ModelTask]:
    return Call("GET", path(MODEL_TASKS + "/delete/{}", task_id), _one_model_task)


def get_model_delete_status(embedding_model_id: Id) -> Call[ModelTask]:
    """The newest deletion task of the model."""
    return Call("GET", path(MODEL_TASKS + "/delete-status/{}", embedding_model_id), _one_model_task)


def _model_task(where: str, **fields: Any) -> Call[ModelTask]:
    return Call("POST", MODEL_TASKS + where, _one_model_task, json=without_nones(**fields))


def ask_model_task(method: str, template: str, kind: type[M], body: Any = None, *words: object) -> Call[M]:
    """One of the six routes above as it stands, for those who stand between a client and the service."""
    return Call(method, path(MODEL_TASKS + template, *words), one(kind), json=plain(body))
