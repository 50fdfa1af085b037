"""slipway.workers under the import path that existing code knows."""

from slipway.workers import blue_switch, initiate_model_deletion, initiate_model_deployment_and_wait

__all__ = ["blue_switch", "initiate_model_deletion", "initiate_model_deployment_and_wait"]
