"""Slipway: machine-learning models deployed to live endpoints, and replaced without a failed request.

Client, AsyncClient            everything that the service can do
MLModelDeploymentService       deployments, for programs that await
slipway.workers                the steps of a re-index task of one's own
slipway.models                 what is sent and what comes back
slipway.errors                 what can go wrong
"""

from .async_client import AsyncClient
from .client import Client
from .errors import (
    ConfigurationError,
    ConflictError,
    DeploymentError,
    DeploymentTimeoutError,
    ExternalServiceError,
    ModelRegistryError,
    ProtocolError,
    RefusedError,
    RequestError,
    ResourceNotFoundError,
    SlipwayError,
    UnauthorizedError,
    UnavailableError,
)
from .models import (
    DeploymentRequest,
    DeploymentStatusResponse,
    DeploymentTargetConfig,
    DocumentWrite,
    MinimumOverlap,
    ModelConfig,
    ReindexRequest,
    ResourceConfig,
)
from .service import MLModelDeploymentService, ModelRegistryClientInterface

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "DeploymentError",
    "DeploymentRequest",
    "DeploymentStatusResponse",
    "DeploymentTargetConfig",
    "DeploymentTimeoutError",
    "DocumentWrite",
    "ExternalServiceError",
    "MLModelDeploymentService",
    "MinimumOverlap",
    "ModelConfig",
    "ModelRegistryClientInterface",
    "ModelRegistryError",
    "ProtocolError",
    "RefusedError",
    "ReindexRequest",
    "RequestError",
    "ResourceConfig",
    "ResourceNotFoundError",
    "SlipwayError",
    "UnauthorizedError",
    "UnavailableError",
    "__version__",
]
