"""The models of slipway.models that deployments take, under the import path that existing code knows."""

from slipway.models import DeploymentRequest, DeploymentStatusResponse, DeploymentTargetConfig, ResourceConfig

__all__ = ["DeploymentRequest", "DeploymentStatusResponse", "DeploymentTargetConfig", "ResourceConfig"]
