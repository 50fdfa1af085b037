"""What is left of the service: inference, packages, tokens, processes, upgrades."""

from __future__ import annotations

import base64
import os
import struct
import tarfile
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Any

import httpx

from . import errors
from ._deployments import Id
from ._steps import Body, Call, Download, Invoke, Step, anything, many, nothing, one, path, without_nones
from .models import Embeddings, Package, PackageDetails, PackagesPruned, Page, Process, Task, Token, Upgrade

PACKAGES = "/v1/packages"
TOKENS = "/v1/tokens"

READY: Call[None] = Call("GET", "/readyz", nothing, timeout=5.0)


def is_ready() -> Generator[Step, Any, bool]:
    """Whether the service can be asked."""
    try:
        yield from READY
    except errors.UnavailableError:
        return False
    return True


# ---- inference


def embed(model: Id, texts: str | Sequence[str]) -> Call[Embeddings]:
    """A vector for each text."""
    body = {"model": str(model), "input": [texts] if isinstance(texts, str) else list(texts), "encoding_format": "base64"}
    return Call("POST", "/v1/embeddings", partial(_read_embeddings, str(model)), json=body)


def _read_embeddings(model: str, response: httpx.Response) -> Embeddings:
    try:
        answer = response.json()
        rows = sorted(answer["data"], key=lambda row: int(row["index"]))
        raw = [base64.b64decode(row["embedding"], validate=True) for row in rows]
        vectors = [list(struct.unpack(f"<{len(row) // 4}f", row)) for row in raw]
        usage = answer.get("usage", {})
        return Embeddings(
            model=model,
            vectors=vectors,
            prompt_tokens=usage.get("prompt_tokens", 0),
            truncated_inputs=usage.get("truncated_inputs", 0),
        )
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise errors.ProtocolError(f"embed with {model}: the answer is no list of embeddings: {error}") from error


def infer(model: Id, request: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """A request of the Open Inference Protocol (V2) as it stands in JSON, and its answer."""
    return Call("POST", path("/v2/models/{}/infer", model), anything, json=dict(request))


def get_model_metadata(model: Id) -> Call[dict[str, Any]]:
    """Its inputs and outputs."""
    return Call("GET", path("/v2/models/{}", model), anything)


def is_model_ready(model: Id) -> Generator[Step, Any, bool]:
    """Whether a replica of it is up."""
    try:
        yield from Call("GET", path("/v2/models/{}/ready", model), nothing)
    except (errors.ResourceNotFoundError, errors.UnavailableError, errors.ConfigurationError, errors.RequestError):
        return False
    return True


# ---- packages


def upload_package(source: str | os.PathLike[str]) -> Generator[Step, Any, Package]:
    """A model folder, an ONNX file, or a tar of either goes to the service; what comes back deploys it: `package_uri`."""
    packed: IO[bytes] = yield from Invoke(partial(_pack, os.fspath(source)), may_block=True)
    with packed:
        body = Body(partial(_read, packed), os.fstat(packed.fileno()).st_size, "application/x-tar")
        return (yield from Call("POST", PACKAGES, one(Package), body=body, timeout=3600.0))


def list_packages(limit: int = 100, offset: int = 0) -> Call[Page[Package]]:
    return Call("GET", PACKAGES, many(Package), query={"limit": limit, "offset": offset})


def get_package(package: str) -> Call[PackageDetails]:
    """One package, by its URI or digest, with its files and its image."""
    return Call("GET", _package(package), one(PackageDetails))


def build_package(model_uri: str, recipe: Mapping[str, Any] | None = None) -> Call[Task]:
    """Fetches a model and keeps it, without deploying it. The task's metadata has the package_uri when it is done."""
    return Call("POST", PACKAGES + "/build", one(Task), json=without_nones(model_uri=model_uri, recipe=recipe))


def export_package(package: str, file: str | os.PathLike[str]) -> Generator[Step, Any, int]:
    """The package as an OCI image layout in a tar, into `file`, which is there when it is whole; its size in bytes."""
    size: int = yield Download(Call("GET", _package(package) + "/export", nothing, timeout=3600.0), os.fspath(file))
    return size


def push_package(package: str, reference: str) -> Call[Task]:
    """To a container registry as an image: `reference` is registry/repository:tag, or repository:tag in the one that the
    service is set to. The task's metadata has image_reference and image_digest when it is done."""
    return Call("POST", _package(package) + "/push", one(Task), json={"reference": reference})


def delete_package(package: str) -> Call[None]:
    """ConflictError when something needs it."""
    return Call("DELETE", _package(package), nothing)


def prune_packages(*, dry_run: bool | None = None, all: bool | None = None) -> Call[PackagesPruned]:
    """Removes every package that nothing needs; with `all`, also those that were uploaded or built within the last hour."""
    return Call("POST", PACKAGES + "/prune", one(PackagesPruned), json=without_nones(dry_run=dry_run, all=all))


def _package(package: str) -> str:
    return path(PACKAGES + "/{}", package.removeprefix("package:"))


def _pack(source: str) -> IO[bytes]:
    """A tar of it, open for reading: of a folder its content, links followed; of a tar itself."""
    try:
        if os.path.isfile(source) and tarfile.is_tarfile(source):
            return open(source, "rb")
        packed = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asked closes it)
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
            names = sorted(os.listdir(source)) if os.path.isdir(source) else [""]
            for name in names:
                tar.add(os.path.join(source, name) if name else source, arcname=name or os.path.basename(source))
        packed.flush()
        return packed
    except (OSError, tarfile.TarError) as error:
        raise errors.ConfigurationError(f"upload of {source}: {error}") from error


def _read(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(1 << 20):
        yield piece


# ---- tokens


def create_token(
    name: str,
    role: str,
    *,
    deployments: Sequence[str] | None = None,
    collections: Sequence[str] | None = None,
    rate: float | None = None,
    burst: int | None = None,
) -> Call[Token]:
    """`token` of the answer is the only place where it is told. The first one closes the service to those without."""
    body = without_nones(name=name, role=role, deployments=deployments, collections=collections, rate=rate, burst=burst)
    return Call("POST", TOKENS, one(Token), json=body)


def list_tokens(limit: int = 100, offset: int = 0) -> Call[Page[Token]]:
    return Call("GET", TOKENS, many(Token), query={"limit": limit, "offset": offset})


def revoke_token(name_or_id: Id) -> Call[Token]:
    return Call("DELETE", path(TOKENS + "/{}", name_or_id), one(Token))


# ---- the service itself


def list_processes(limit: int = 100, offset: int = 0) -> Call[Page[Process]]:
    return Call("GET", "/v1/processes", many(Process), query={"limit": limit, "offset": offset})


def begin_upgrade(program: str | os.PathLike[str] | None = None) -> Call[Upgrade]:
    """Replaces the running program without losing a request; without `program`, by what lies at its place now."""
    return Call("POST", "/v1/upgrade", one(Upgrade), json=without_nones(program=program and os.fspath(program)))


def get_upgrade() -> Call[Upgrade]:
    return Call("GET", "/v1/upgrade", one(Upgrade))
