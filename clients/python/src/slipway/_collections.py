"""Collections, their documents, searches, and the change of their embedding model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from . import errors
from ._deployments import Fields, Id, wait_for_task
from ._steps import Call, Invoke, Step, Stream, encode, line_of, many, nothing, one, path, plain, without_nones
from .models import (
    Bulk,
    Collection,
    DeploymentRequest,
    Document,
    DocumentWrite,
    Hits,
    Index,
    MinimumOverlap,
    Page,
    ReindexRequest,
    ReindexTask,
    Task,
    Write,
)

COLLECTIONS = "/v1/collections"
REINDEX_TASKS = "/api/v1/internal/reindex-tasks"
PART_BYTES = 4 << 20  # of an import, unless one document is larger
ERRORS_KEPT = 10000

_one_collection = one(Collection)
_one_reindex_task = one(ReindexTask)
_one_task = one(Task)


def create_collection(
    name: str, deployment: Id, *, metric: str | None = None, keep_queries: bool | None = None, quantized: bool | None = None
) -> Call[Collection]:
    """It takes documents and searches when this returns. ConflictError (the name is taken), ResourceNotFoundError (the
    deployment), ConfigurationError (it is no embedding model that serves)."""
    body = without_nones(name=name, deployment=deployment, metric=metric, keep_queries=keep_queries, quantized=quantized)
    return Call("POST", COLLECTIONS, _one_collection, json=body)


def list_collections(limit: int = 100, offset: int = 0) -> Call[Page[Collection]]:
    return Call("GET", COLLECTIONS, many(Collection), query={"limit": limit, "offset": offset})


def get_collection(collection: str) -> Call[Collection]:
    return Call("GET", path(COLLECTIONS + "/{}", collection), _one_collection)


def delete_collection(collection: str) -> Call[Task]:
    """Begins the deletion of the collection with all its documents."""
    return Call("DELETE", path(COLLECTIONS + "/{}", collection), _one_task)


def list_indexes(collection: str, limit: int = 100, offset: int = 0) -> Call[Page[Index]]:
    query = {"limit": limit, "offset": offset}
    return Call("GET", path(COLLECTIONS + "/{}/indexes", collection), many(Index), query=query)


# ---- documents


def put_document(
    collection: str, id: str, text: str, payload: Mapping[str, Any] | None = None, *, wait_indexed: bool = False
) -> Call[Write]:
    """New, or in place of the one with that id. With `wait_indexed` it returns when searches see it."""
    body = without_nones(text=text, payload=payload)
    return Call("PUT", _document(collection, id), one(Write), query=_wait(wait_indexed), json=body)


def get_document(collection: str, id: str) -> Call[Document]:
    return Call("GET", _document(collection, id), one(Document))


def delete_document(collection: str, id: str, *, wait_indexed: bool = False) -> Call[Write]:
    """ResourceNotFoundError when there is none."""
    return Call("DELETE", _document(collection, id), one(Write), query=_wait(wait_indexed))


def write_documents(collection: str, writes: Sequence[DocumentWrite | Fields], *, wait_indexed: bool = False) -> Call[Bulk]:
    """All in one request, in their order; each stands for itself: `errors` tells of those that were not written.
    RequestError when they are too large together: then import_documents()."""
    lines = [plain(write) for write in writes]
    return Call("POST", _documents(collection), one(Bulk), query=_wait(wait_indexed), lines=lines)


def import_documents(
    collection: str,
    writes: Iterable[DocumentWrite | Fields],
    *,
    wait_indexed: bool = False,
    progress: Callable[[Bulk], Any] | None = None,
) -> Generator[Step, Any, Bulk]:
    """Any number, sent in parts, so that memory does not grow with them. `progress` is told after each part what has come
    of all so far. To do all of it again, when it failed in the middle, is harmless."""
    so_far = Bulk(indexed=True if wait_indexed else None)
    lines = 0
    for part in _parts(writes):
        bulk = yield from Call("POST", _documents(collection), one(Bulk), query=_wait(wait_indexed), lines=part)
        for error in bulk.errors[: ERRORS_KEPT - len(so_far.errors)]:
            so_far.errors.append(error.model_copy(update={"line": error.line + lines}))
        lines += len(part)
        so_far.seq = bulk.seq or so_far.seq
        so_far.accepted += bulk.accepted
        so_far.rejected += bulk.rejected
        if bulk.indexed is False:
            so_far.indexed, so_far.detail = False, so_far.detail or bulk.detail
        if progress:
            yield from Invoke(partial(progress, so_far))
    return so_far


def export_documents(collection: str, *, after: int = 0) -> Stream[Document]:
    """All of them, by their seq; with `after`, those with a greater one. UnavailableError when it breaks off."""
    return Stream(Call("GET", _documents(collection), nothing, query={"after": after}), line_of(Document))


def _documents(collection: str) -> str:
    return path(COLLECTIONS + "/{}/documents", collection)


def _document(collection: str, id: str) -> str:
    return path(COLLECTIONS + "/{}/documents/{}", collection, id)


def _wait(wait_indexed: bool) -> dict[str, Any]:
    return {"wait": "indexed" if wait_indexed else None}


def _parts(writes: Iterable[DocumentWrite | Fields]) -> Iterator[list[Any]]:
    part: list[Any] = []
    size = 0
    for write in writes:
        line = plain(write)
        line_size = len(encode(line))
        if part and size + line_size > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(line)
        size += line_size
    if part:
        yield part


# ---- search


def search(
    collection: str,
    query: str | None = None,
    *,
    vector: Sequence[float] | None = None,
    encoder_digest: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    filter: Fields | None = None,
    with_payload: bool | None = None,
    with_vector: bool | None = None,
) -> Call[Hits]:
    """Documents like a text, or like a vector of the encoder that `encoder_digest` names (ConflictError for another)."""
    return _search(COLLECTIONS + "/{}/search", collection, **_given(locals()))


def search_queries(
    collection: str,
    query: str | None = None,
    *,
    vector: Sequence[float] | None = None,
    encoder_digest: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    filter: Fields | None = None,
    with_payload: bool | None = None,
    with_vector: bool | None = None,
) -> Call[Hits]:
    """Past queries like this one, of a collection that keeps them."""
    return _search(COLLECTIONS + "/{}/queries/search", collection, **_given(locals()))


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "collection"}


def _search(where: str, collection: str, **fields: Any) -> Call[Hits]:
    return Call("POST", path(where, collection), one(Hits), json=without_nones(**fields))


# ---- changing the embedding model


def begin_reindex(collection: str, request: ReindexRequest | Fields) -> Call[Task]:
    """Returns when it is recorded. A task that is refused at once is no error: look at its status."""
    return Call("POST", path(COLLECTIONS + "/{}/reindex", collection), _one_task, json=plain(request))


def reindex(
    collection: str,
    destination: str | UUID | DeploymentRequest | ReindexRequest | Fields,
    *,
    blue_switch: bool | None = None,
    rollback_window: float | None = None,
    wait_on_conflict: bool | None = None,
    max_failed: float | None = None,
    delete_source: bool | None = None,
    min_overlap: MinimumOverlap | Fields | None = None,
    task_id: Id | None = None,
    timeout: float = 86400.0,
    progress: Callable[[Task], Any] | None = None,
) -> Generator[Step, Any, Task]:
    """Embeds everything anew with another model (its name or id, or a DeploymentRequest for one that is to be made),
    switches to it, and returns when that is done; docs/changing-your-embedding-model.md. `progress` is told the task about
    once a second: `task.progress`, `task.step`. RefusedError, DeploymentError when it fails, and UnavailableError when it
    is not done within `timeout` seconds; it then goes on in the service."""
    if isinstance(destination, ReindexRequest):
        body = destination.body()
    else:
        body = without_nones(
            destination=destination,
            blue_switch=blue_switch,
            rollback_window=rollback_window,
            wait_on_conflict=wait_on_conflict,
            max_failed=max_failed,
            delete_source=delete_source,
            min_overlap=min_overlap,
            task_id=task_id,
        )
    task = yield from begin_reindex(collection, body)
    if not task.is_finished:
        task = yield from wait_for_task(task.task_id, timeout, progress=progress)
    if task.status == "refused":
        raise errors.RefusedError(f"The re-index of {collection} is refused: {task.reason}", causes=_causes(task))
    if task.status != "done":
        raise errors.DeploymentError(f"The re-index of {collection} {_ended(task)}: {task.reason}", causes=_causes(task))
    return task


def _ended(task: Task) -> str:
    return "was canceled" if task.status == "canceled" else "failed"


def _causes(task: Task) -> list[str]:
    return task.error.causes if task.error else []


def switch(
    collection: str,
    index_id: Id,
    *,
    rollback_window: float | None = None,
    delete_source: bool | None = None,
    task_id: Id | None = None,
    parent_id: Id | None = None,
) -> Call[Task]:
    """Makes a ready index the blue one; returns when that is recorded."""
    body = without_nones(
        index_id=index_id,
        rollback_window=rollback_window,
        delete_source=delete_source,
        task_id=task_id,
        parent_id=parent_id,
    )
    return Call("POST", path(COLLECTIONS + "/{}/switch", collection), _one_task, json=body)


def rollback_collection(
    collection: str, *, rollback_window: float | None = None, task_id: Id | None = None, parent_id: Id | None = None
) -> Call[Task]:
    """Back to the pair before. ConflictError when its window is over."""
    body = without_nones(rollback_window=rollback_window, task_id=task_id, parent_id=parent_id)
    return Call("POST", path(COLLECTIONS + "/{}/rollback", collection), _one_task, json=body)


# ---- re-index tasks by model ids


def run_reindex_task(
    source_model_id: Id,
    dest_model_id: Id,
    *,
    task_id: Id | None = None,
    deploy_as_blue: bool | None = None,
    wait_on_conflict: bool | None = None,
    collection: str | None = None,
) -> Call[ReindexTask]:
    """Re-indexes the collection whose blue encoder is the source. The same task id twice is the same task."""
    body = without_nones(
        id=task_id,
        source={"embedding_model_id": source_model_id},
        dest={"embedding_model_id": dest_model_id},
        deploy_as_blue=deploy_as_blue,
        wait_on_conflict=wait_on_conflict,
        collection=collection,
    )
    return Call("POST", REINDEX_TASKS + "/run", _one_reindex_task, json=body)


def get_reindex_task(task_id: Id) -> Call[ReindexTask]:
    return Call("GET", REINDEX_TASKS + "/info", _one_reindex_task, query={"task_id": task_id})


def list_reindex_tasks(limit: int = 100, offset: int = 0, *, status: str | None = None) -> Call[Page[ReindexTask]]:
    query = {"limit": limit, "offset": offset, "status": status}
    return Call("GET", REINDEX_TASKS + "/list", many(ReindexTask), query=query)


def restart_reindex_task(task_id: Id) -> Call[ReindexTask]:
    return Call("PUT", REINDEX_TASKS + "/restart", _one_reindex_task, query={"task_id": task_id})


def cancel_reindex_task(task_id: Id) -> Call[ReindexTask]:
    return Call("PUT", REINDEX_TASKS + "/cancel", _one_reindex_task, query={"task_id": task_id})
