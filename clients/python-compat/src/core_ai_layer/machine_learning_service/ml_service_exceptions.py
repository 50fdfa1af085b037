"""slipway.errors under the import path that existing code knows."""

from slipway.errors import (
    ConfigurationError,
    ConflictError,
    DeploymentError,
    ExternalServiceError,
    ModelRegistryError,
    RefusedError,
    ResourceNotFoundError,
    UnauthorizedError,
)
from slipway.errors import SlipwayError as MachineLearningServiceError

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "DeploymentError",
    "ExternalServiceError",
    "MachineLearningServiceError",
    "ModelRegistryError",
    "RefusedError",
    "ResourceNotFoundError",
    "UnauthorizedError",
]
