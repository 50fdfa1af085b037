"""The three steps of a re-index task, over HTTP, for code that blocks (Dramatiq actors, threads, scripts).

    from slipway.workers import initiate_model_deployment_and_wait, initiate_model_deletion, blue_switch

What they take, give and raise stands in slipway._reindex. `client` is the slipway.Client to use; without it, one for
SLIPWAY_URL (http://127.0.0.1:8400) is made and kept for the process. From code that awaits, AsyncClient has the same three
as methods; these here would block its event loop.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from . import _reindex
from ._deployments import Fields
from .client import Client
from .models import DeploymentRequest, DeploymentStatusResponse, ModelConfig, ModelTask, Task

__all__ = ["blue_switch", "default_client", "initiate_model_deletion", "initiate_model_deployment_and_wait"]

_clients: dict[tuple[str | None, ...], Client] = {}
_lock = threading.Lock()


def default_client() -> Client:
    """The one for what the environment says now; a forked process gets its own."""
    names = ("SLIPWAY_URL", "SLIPWAY_TOKEN", "SLIPWAY_CA", "SLIPWAY_CERT", "SLIPWAY_KEY")
    key = (str(os.getpid()), *(os.environ.get(name) for name in names))
    with _lock:
        if key not in _clients:
            _clients.clear()
            _clients[key] = Client()
        return _clients[key]


def initiate_model_deployment_and_wait(
    plugin: Any,
    task: Any,
    embedding_model: Any = None,
    deployment_worker: Any = None,
    *,
    client: Client | None = None,
    config: ModelConfig | DeploymentRequest | Fields | None = None,
    task_id: str | None = None,
    pending_timeout: float = _reindex.PENDING_SECONDS,
    processing_timeout: float = _reindex.PROCESSING_SECONDS,
    ready_timeout: float = _reindex.READY_SECONDS,
) -> DeploymentStatusResponse:
    return (client or default_client()).initiate_model_deployment_and_wait(
        plugin,
        task,
        embedding_model,
        deployment_worker,
        config=config,
        task_id=task_id,
        pending_timeout=pending_timeout,
        processing_timeout=processing_timeout,
        ready_timeout=ready_timeout,
    )


def initiate_model_deletion(
    task: Any, embedding_model_id: Any, deletion_worker: Any = None, *, client: Client | None = None
) -> ModelTask:
    return (client or default_client()).initiate_model_deletion(task, embedding_model_id, deletion_worker)


def blue_switch(
    task: Any, deletion_worker: Any = None, *, client: Client | None = None, timeout: float = _reindex.SWITCH_SECONDS
) -> Task:
    return (client or default_client()).blue_switch(task, deletion_worker, timeout=timeout)


for _function, _described in (
    (initiate_model_deployment_and_wait, _reindex.initiate_model_deployment_and_wait),
    (initiate_model_deletion, _reindex.initiate_model_deletion),
    (blue_switch, _reindex.blue_switch),
):
    _function.__doc__ = _described.__doc__
