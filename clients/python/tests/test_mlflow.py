"""The program that MLflow's users write, against real tracking servers."""

import asyncio

import models as make
import pytest

from slipway import DeploymentRequest, DeploymentTargetConfig, MLModelDeploymentService


@pytest.mark.parametrize("server", ["mlflow3", "mlflow2"])
def test_the_program_of_the_users_runs(server, request, make_service, models, capsys, monkeypatch):
    mlflow = request.getfixturevalue(server)
    folders = make.add_one(models, "one"), make.add_one(models, "two", 2.0)
    steps = [{"do": "onnx", "file": str(folder / "model.onnx"), "name": "my_model", "registered": None} for folder in folders]
    run_id, new_run_id = (logged["run_id"] for logged in mlflow.do(steps))
    running = make_service(environment={"MLFLOW_TRACKING_URI": mlflow.url}).start()
    monkeypatch.setenv("SLIPWAY_URL", running.url)
    deployment_service = MLModelDeploymentService()

    async def poll(deployment_id, *ends):
        while True:
            status = await deployment_service.get_deployment_status(deployment_id)
            if status.status in ends:
                return status
            await asyncio.sleep(0.2)

    async def deploy():
        target = DeploymentTargetConfig(type="api_service", serving_image="custom/my-model-server:v1.0", replicas=2, port=8080)
        deployment_request = DeploymentRequest(
            model_uri=f"mlflow_runs:/{run_id}/my_model",
            deployment_name="MyModelAPIService_Prod",
            deployment_target_config=target,
            tags={"team": "search"},
        )
        status = await deployment_service.deploy_model(deployment_request)
        print(f"{status.deployment_id} {status.deployment_name} {status.status}")
        return status.deployment_id

    async def look(deployment_id):
        status = await poll(deployment_id, "active", "failed")
        print(f"{status.status} {status.endpoint_url} {status.deployed_model_version} {status.message}")
        return status

    async def list_them():
        for each in await deployment_service.list_deployments(limit=10):
            print(f"{each.deployment_id} {each.deployment_name} {each.status}")

    async def update(deployment_id):
        updated = DeploymentRequest(
            model_uri=f"mlflow_runs:/{new_run_id}/my_model",
            deployment_name="MyModelAPIService_Prod_V2",
            deployment_target_config=DeploymentTargetConfig(type="api_service", replicas=2),
        )
        return (await deployment_service.update_deployment(deployment_id, updated)).status

    async def delete(deployment_id):
        status = await deployment_service.delete_deployment(deployment_id)
        return status.status, (await poll(deployment_id, "inactive", "delete_failed")).status

    async def deploy_what_is_missing():
        bad = DeploymentRequest(
            model_uri="mlflow_runs:/0123456789abcdef0123456789abcdef/my_model",
            deployment_name="Missing",
            deployment_target_config=DeploymentTargetConfig(type="api_service"),
        )
        status = await deployment_service.deploy_model(bad)
        assert status.status == "creating"
        return await poll(status.deployment_id, "active", "failed")

    deployment_id = asyncio.run(deploy())
    assert capsys.readouterr().out == f"{deployment_id} MyModelAPIService_Prod creating\n"
    first = asyncio.run(look(deployment_id))
    assert first.status == "active", first.message
    assert first.endpoint_url == f"{running.url}/v2/models/MyModelAPIService_Prod"
    assert run_id in first.model_uri and first.deployed_model_version
    capsys.readouterr()
    asyncio.run(list_them())
    assert capsys.readouterr().out == f"{deployment_id} MyModelAPIService_Prod active\n"
    assert asyncio.run(update(deployment_id)) == "updating"
    second = asyncio.run(look(deployment_id))
    assert second.status == "active", second.message
    assert second.endpoint_url.endswith("/MyModelAPIService_Prod_V2")
    assert second.deployed_model_version != first.deployed_model_version and second.serving_revision == 2
    assert asyncio.run(delete(deployment_id)) == ("deleting", "inactive")

    failed = asyncio.run(deploy_what_is_missing())
    assert failed.status == "failed" and failed.error.error == "ModelRegistryError"
    assert "ModelRegistryError" in str(failed.error) and "0123456789abcdef" in failed.message
    assert failed.error.message in failed.message or failed.message in failed.error.message
