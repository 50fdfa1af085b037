"""The MLflow registry's beds: a server of 3.x and one of 2.x; a model is a folder in an ended run."""

import pytest

from registry_bed import Bed
from servers_mlflow import mlflow2, mlflow2_auth, mlflow3, mlflow3_auth, mlflow_servers  # noqa: F401

TOKEN = "mlflow-token-that-is-nowhere-else"  # sent, and not looked at by a server without auth


class MlflowBed(Bed):
    def __init__(self, server):
        self.server, self.address = server, server.address
        self.name = f"mlflow{server.version}"
        self.knows_identity = server.version == "3"  # 2.x says nothing of a file but its size
        self.runs = {}

    def publish(self, model, files):
        if model not in self.runs:
            self.runs[model] = self.server.create_run()
            self.server.end_run(self.runs[model])
        folder = self.server.artifact_path(self.runs[model]) + "/model"
        self.server.remove_files(folder)
        self.server.put_files(folder, files)

    def uri(self, model, address):
        return f"runs:/{self.runs.get(model, model)}/model"

    def conf(self, address):
        return f"[mlflow]\nurl = http://{address[0]}:{address[1]}\ntoken = {TOKEN}\n"

    def secrets(self):
        return [TOKEN]


@pytest.fixture
def mlflow3_bed(mlflow3):  # noqa: F811
    return MlflowBed(mlflow3)


@pytest.fixture
def mlflow2_bed(mlflow2):  # noqa: F811
    return MlflowBed(mlflow2)
