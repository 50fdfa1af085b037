"""The three steps for programs that run re-index tasks of their own: deploy a model and wait, delete one, switch. Their
meaning and messages are those of the C library (include/slipway.h).

`task` is anything with `id`, `source` and `dest`: objects with `embedding_model_id`, or the ids themselves; `collection`
where the source is the encoder of several. `plugin` says when a model is ready, by `is_model_ready(embedding_model_id)` or
by `get_inference_client_factory().get_client(embedding_model_id).is_model_ready()`; None: the service's own readiness.
A worker is told of each task that was begun for it, by `send(task_id)`; the service does the work. With AsyncClient both
may be coroutine functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from . import _collections, _deployments, _service, errors
from ._deployments import Fields
from ._steps import Invoke, Pause, Step
from .models import DeploymentRequest, DeploymentStatusResponse, ModelConfig, ModelTask, Task

PENDING_SECONDS = 5 * 60.0
PROCESSING_SECONDS = 30 * 60.0
READY_SECONDS = 2 * 60.0
SWITCH_SECONDS = 15 * 60.0
LOOK_SECONDS = 0.5  # a task's end is answered at once; that it has left `pending` is seen this late at most
PAUSE_SECONDS = 0.1


def initiate_model_deployment_and_wait(
    plugin: Any,
    task: Any,
    embedding_model: Any = None,
    deployment_worker: Any = None,
    *,
    config: ModelConfig | DeploymentRequest | Fields | None = None,
    task_id: str | None = None,
    pending_timeout: float = PENDING_SECONDS,
    processing_timeout: float = PROCESSING_SECONDS,
    ready_timeout: float = READY_SECONDS,
) -> Generator[Step, Any, DeploymentStatusResponse]:
    """Deploys a model (None: the destination of `task`) as a child task of `task`, or finds it deployed, and waits until it
    answers ready. `config` (or the model's own `config`) as for deploy(). DeploymentError with "Deployment task is pending
    too long.", "Deployment task is processing too long.", "Model is not ready." (these three also a TimeoutError), or
    "Deployment task failed: …". The child task is not canceled."""
    model_id = _model_id(embedding_model if embedding_model is not None else task.dest)
    how = config if config is not None else getattr(embedding_model, "config", None)
    child = yield from _deployments.deploy(model_id, task_id=task_id, parent_id=_task_id(task), config=how)
    yield from _tell(deployment_worker, child.task_id, "deployment")
    ended = yield from _await_deployment(child.task_id, pending_timeout, processing_timeout)
    if ended.status != "done":
        causes = ended.error.causes if ended.error else []
        raise errors.DeploymentError(f"Deployment task failed: {ended.reason}", causes=causes)
    yield from _await_ready(plugin, model_id, ready_timeout)
    return (yield from _deployments.get_deployment_status(model_id))


def initiate_model_deletion(task: Any, embedding_model_id: Any, deletion_worker: Any = None) -> Generator[Step, Any, ModelTask]:
    """Begins the deletion of a model as a child task of `task`; does not wait. RefusedError when the service refuses it at
    once (the encoder of a collection), DeploymentError when it fails at once (no such model is deployed)."""
    parent = _task_id(task)
    reason = f"re-index task {parent}" if parent else None
    child = yield from _deployments.delete(_model_id(embedding_model_id), parent_id=parent, reason=reason)
    if child.status == "refused":
        raise errors.RefusedError(f"Deletion task is refused: {child.detail or child.status}")
    if child.status in ("failed", "canceled"):
        raise errors.DeploymentError(f"Deletion task failed: {child.detail or child.status}")
    yield from _tell(deletion_worker, child.task_id, "deletion")
    return child


def blue_switch(task: Any, deletion_worker: Any = None, *, timeout: float = SWITCH_SECONDS) -> Generator[Step, Any, Task]:
    """Makes the destination's ready index the blue one, with a rollback window of 0: the source's indexes go in the same
    task, whose child deletes the source model; `deletion_worker` is told of that child. Waits until it is done. Called
    again for the same task, it goes on with the switch that it began. ConfigurationError (no collection or several have
    that source), ResourceNotFoundError (no index of the destination), ConflictError (it is not ready), DeploymentError
    ("The switch failed: …"), UnavailableError (not within `timeout` seconds; it goes on)."""
    switch_id = yield from _begin_switch(task)
    ended = yield from _deployments.wait_for_task(switch_id, timeout)
    if ended.status != "done":
        causes = ended.error.causes if ended.error else []
        raise errors.DeploymentError(f"The switch failed: {ended.reason}", causes=causes)
    if deletion_worker is not None:
        deletion = yield from _deletion_of(switch_id)
        if deletion:
            yield from _tell(deletion_worker, deletion, "deletion")
    return ended


# ---- what callers bring


def _model_id(model: Any) -> str:
    for name in ("embedding_model_id", "id"):
        found = getattr(model, name, None)
        if found is not None:
            return str(found)
    return str(model)


def _task_id(task: Any) -> str | None:
    found = getattr(task, "id", None)
    return None if found is None else str(found)


def _tell(worker: Any, task_id: str, what: str) -> Generator[Step, Any, None]:
    send = getattr(worker, "send", None)
    if send is None:
        return
    try:
        yield from Invoke(partial(_guarded, send, task_id), may_block=True)
    except errors.ExternalServiceError as error:
        words = f"The {what} worker did not take task {task_id} ({error.message}); the task goes on."
        raise errors.ExternalServiceError(words) from error


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the user's function raises, as an error that a script can tell from its own bugs."""
    try:
        result = function(*arguments)
    except Exception as error:
        raise errors.ExternalServiceError(f"{type(error).__name__}: {error}") from error
    return _guarded_later(result) if hasattr(result, "__await__") else result


async def _guarded_later(result: Any) -> Any:
    try:
        return await result
    except Exception as error:
        raise errors.ExternalServiceError(f"{type(error).__name__}: {error}") from error


def _readiness(plugin: Any, model_id: str) -> Callable[[], Any] | None:
    if plugin is None:
        return None
    if callable(getattr(plugin, "is_model_ready", None)):
        return partial(plugin.is_model_ready, model_id)
    if callable(getattr(plugin, "get_inference_client_factory", None)):
        return lambda: plugin.get_inference_client_factory().get_client(model_id).is_model_ready()
    raise errors.ConfigurationError(
        f"the plugin {type(plugin).__name__} has neither is_model_ready nor get_inference_client_factory; "
        "None asks the service itself"
    )


# ---- waiting


def _await_deployment(task_id: str, pending_timeout: float, processing_timeout: float) -> Generator[Step, Any, Task]:
    """Until the task is finished, or was pending or processing too long. A service that does not answer is looked for
    again within the same deadlines."""
    end = time.monotonic() + pending_timeout
    is_pending = True
    while True:
        try:
            task = yield from _deployments.get_task(task_id)
            if task.is_finished:
                return task
            if is_pending and task.status == "processing":
                is_pending = False
                end = time.monotonic() + processing_timeout
            left = end - time.monotonic()
            if left > 0:
                yield from _deployments.wait_for_task(task_id, min(left, LOOK_SECONDS))
        except errors.UnavailableError as error:
            if error.status_code != 504:
                yield Pause(PAUSE_SECONDS)
        if time.monotonic() >= end:
            what = "pending" if is_pending else "processing"
            raise errors.DeploymentTimeoutError(f"Deployment task is {what} too long.")


def _await_ready(plugin: Any, model_id: str, timeout: float) -> Generator[Step, Any, None]:
    end = time.monotonic() + timeout
    own = _readiness(plugin, model_id)
    while True:
        if own is not None:
            ready = yield from Invoke(own, may_block=True)
        else:
            ready = yield from _service.is_model_ready(model_id)
        if ready:
            return
        if time.monotonic() >= end:
            raise errors.DeploymentTimeoutError("Model is not ready.")
        yield Pause(PAUSE_SECONDS)


# ---- the switch


def _begin_switch(task: Any) -> Generator[Step, Any, str]:
    """Begins it, or finds the one that an earlier call for this task began."""
    parent = _task_id(task)
    if parent is not None:
        begun = yield from _deployments.list_tasks(1, parent_id=parent, kind="switch")
        if begun and (not begun[0].is_finished or begun[0].status == "done"):
            return begun[0].task_id
    source, dest = _model_id(task.source), _model_id(task.dest)
    collection = getattr(task, "collection", None) or (yield from _collection_of(source))
    index_id = yield from _ready_index(collection, dest)
    switched = yield from _collections.switch(collection, index_id, rollback_window=0, parent_id=parent)
    return switched.task_id


def _collection_of(source: str) -> Generator[Step, Any, str]:
    """The only one whose blue encoder is the source."""
    names: list[str] = []
    offset = 0
    while True:
        page = yield from _collections.list_collections(1000, offset)
        names += [each.name for each in page if (each.blue.deployment if each.blue else each.deployment) == source]
        offset += len(page)
        if not page or offset >= (page.total_count or 0):
            break
    if not names:
        raise errors.ConfigurationError(f"No collection is embedded by {source}.")
    if len(names) > 1:
        raise errors.ConfigurationError(f"Several collections are embedded by {source}: {', '.join(names)}; name one.")
    return names[0]


def _ready_index(collection: str, dest: str) -> Generator[Step, Any, str]:
    indexes = yield from _collections.list_indexes(collection, 1000)
    of_dest = [index for index in indexes if index.set == "documents" and index.deployment == dest]
    for index in of_dest:
        if index.state == "ready":
            return index.index_id
    if of_dest:
        state = of_dest[0].state
        raise errors.ConflictError(f"The index of {dest} in collection {collection} is {state}, not ready.")
    raise errors.ResourceNotFoundError(f"Collection {collection} has no index of {dest}.")


def _deletion_of(switch_id: str) -> Generator[Step, Any, str | None]:
    """The task that deletes the source model: a child of the switch or of its retirement."""
    found = yield from _deployments.list_tasks(1, parent_id=switch_id, kind="delete")
    if not found:
        retirement = yield from _deployments.list_tasks(1, parent_id=switch_id, kind="retire")
        if retirement:
            found = yield from _deployments.list_tasks(1, parent_id=retirement[0].task_id, kind="delete")
    return found[0].task_id if found else None
