"""slipway.MLModelDeploymentService under the import path that existing code knows."""

from slipway.models import DeploymentRequest, DeploymentStatusResponse, DeploymentTargetConfig, ResourceConfig
from slipway.service import MLModelDeploymentService, ModelRegistryClientInterface, logger

__all__ = [
    "DeploymentRequest",
    "DeploymentStatusResponse",
    "DeploymentTargetConfig",
    "MLModelDeploymentService",
    "ModelRegistryClientInterface",
    "ResourceConfig",
    "logger",
]
