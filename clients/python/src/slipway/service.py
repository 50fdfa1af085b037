"""MLModelDeploymentService: models deployed, looked at, replaced and deleted by a program that awaits."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import anyio
import anyio.to_thread

from . import _deployments, _local, errors
from ._steps import patiently
from .async_client import AsyncClient
from .models import DeploymentRequest, DeploymentStatusResponse

logger = logging.getLogger("ml_model_deployment_service")

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+._-]*):")
_OF_THE_SERVICE = frozenset({"file", "package"})  # what lies on its own disk


@runtime_checkable
class ModelRegistryClientInterface(Protocol):
    """What fetches models by itself. `destination` is an empty folder; the answer is the path of the model's folder, or of
    its one file, which may also lie elsewhere."""

    async def download_model(self, model_uri: str, destination: str) -> str: ...


class MLModelDeploymentService:
    """The service at `base_url` with `token`; without them SLIPWAY_URL and SLIPWAY_TOKEN; without those the one on this
    machine: at 127.0.0.1:8400, or the one of the user's state folder, or one that is started (the program that SLIPWAY_BIN
    names, or `slipway` on PATH; state in SLIPWAY_STATE, or $XDG_STATE_HOME/slipway, or ~/.local/state/slipway), which ends
    with this process.

    `model_registry_client`: fetches models of registry URIs (all but paths, file: and package:), which are then uploaded;
    without it the service fetches them itself. `container_registry_client` and `orchestrator_client` are refused: images
    are pushed and replicas are placed by the service, as its settings say.

    Has no state that belongs to an event loop or a thread. All methods raise the errors of slipway.errors; those that only
    look wait some seconds for a service that is restarting.
    """

    def __init__(
        self,
        model_registry_client: ModelRegistryClientInterface | Any | None = None,
        container_registry_client: Any | None = None,
        orchestrator_client: Any | None = None,
        *,
        base_url: str | None = None,
        token: str | None = None,
    ) -> None:
        _refuse(container_registry_client, "container_registry_client", "pushes images", "container_registry")
        _refuse(orchestrator_client, "orchestrator_client", "places replicas", "deployment_target_config.target")
        if model_registry_client is not None and _download_of(model_registry_client) is None:
            raise errors.ConfigurationError(
                f"model_registry_client: {type(model_registry_client).__name__} has no method "
                "download_model(model_uri, destination)"
            )
        self.model_registry_client = model_registry_client
        url = base_url or os.environ.get("SLIPWAY_URL") or _local.find_or_start(logger, token)
        self._client = AsyncClient(url, token)
        logger.info("deployments are made by the service at %s", url)

    @property
    def base_url(self) -> str:
        return self._client.url

    async def deploy_model(self, request: DeploymentRequest) -> DeploymentStatusResponse:
        """Returns when the request is recorded (`creating`); get_deployment_status() tells what becomes of it.
        ConfigurationError, ConflictError (the name is taken); ModelRegistryError when model_registry_client fails."""
        deployment = await self._client.deploy_model(await self._fetched(request))
        name, status = deployment.deployment_name, deployment.status
        logger.info("deployment %s (%s) of %s: %s", deployment.deployment_id, name, request.model_uri, status)
        return deployment

    async def get_deployment_status(self, deployment_id: UUID | str) -> DeploymentStatusResponse:
        """ResourceNotFoundError."""
        deployment = await self._client.run(patiently(_deployments.get_deployment_status(deployment_id)))
        logger.debug("deployment %s: %s", deployment_id, deployment.status)
        return deployment

    async def list_deployments(self, limit: int = 100, offset: int = 0) -> list[DeploymentStatusResponse]:
        """Newest first, inactive ones too."""
        return await self._client.run(patiently(_deployments.list_deployments(limit, offset)))

    async def update_deployment(self, deployment_id: UUID | str, request: DeploymentRequest) -> DeploymentStatusResponse:
        """A new revision (`updating`); what served goes on until the new one does. ResourceNotFoundError,
        ConfigurationError, ConflictError (another operation runs)."""
        if self._is_fetched_here(request.model_uri):
            await self._client.get_deployment_status(deployment_id)  # one that is not there is not worth a download
        deployment = await self._client.update_deployment(deployment_id, await self._fetched(request))
        logger.info("deployment %s to %s: %s", deployment.deployment_id, request.model_uri, deployment.status)
        return deployment

    async def delete_deployment(self, deployment_id: UUID | str) -> DeploymentStatusResponse:
        """Begins it (`deleting`, later `inactive`). ResourceNotFoundError, ConflictError (the encoder of a collection)."""
        deployment = await self._client.delete_deployment(deployment_id)
        logger.info("deployment %s: %s", deployment.deployment_id, deployment.status)
        return deployment

    # ---- models of a registry client

    def _is_fetched_here(self, model_uri: str) -> bool:
        scheme = _SCHEME.match(model_uri)
        return self.model_registry_client is not None and scheme is not None and scheme[1].lower() not in _OF_THE_SERVICE

    async def _fetched(self, request: DeploymentRequest) -> DeploymentRequest:
        """The request with the package of its model in place of the registry URI."""
        if not self._is_fetched_here(request.model_uri):
            return request
        uri = request.model_uri
        with tempfile.TemporaryDirectory(prefix="slipway-model-") as folder:
            logger.info("fetching %s by %s", uri, type(self.model_registry_client).__name__)
            path = await self._download(uri, folder)
            if not await anyio.to_thread.run_sync(os.path.exists, path):
                raise errors.ModelRegistryError(f"{uri}: the registry client gave {path}, which is not there")
            package = await self._client.upload_package(path)
        logger.info("%s is %s", uri, package.package_uri)
        return request.model_copy(update={"model_uri": package.package_uri})

    async def _download(self, uri: str, folder: str) -> str:
        download = _download_of(self.model_registry_client)
        assert download is not None
        try:
            path = download(uri, folder)
            if hasattr(path, "__await__"):
                path = await path
        except errors.SlipwayError:
            raise
        except Exception as error:
            raise errors.ModelRegistryError(f"{uri}: {type(error).__name__}: {error}") from error
        return os.fspath(path) if path is not None else folder


def _download_of(client: Any) -> Any:
    """Its download_model; or download_artifacts, as some interfaces of registry clients have it."""
    if callable(getattr(client, "download_model", None)):
        return client.download_model
    if callable(getattr(client, "download_artifacts", None)):
        return lambda uri, folder: client.download_artifacts(model_uri=uri, dst_path=folder)
    return None


def _refuse(client: Any, name: str, what: str, setting: str) -> None:
    if client is not None:
        raise errors.ConfigurationError(
            f"{name} is not used: the service itself {what}, as {setting} says; leave it out or give None"
        )
