"""What MLflow's own client does, for servers_mlflow.py: run by the Python of the environment that the client lies in.

Reads a JSON list from standard input, does one thing after another, and writes the list of what came of each:

    {"do": "onnx", "file": PATH, "name": "model", "registered": "demo"}    logs the ONNX model, in a run of its own or in that
                                                                           of the step "run"; {"run_id", "model_uri", "version"}
    {"do": "python", "name": "model"}                                      the same with a model of the flavor python_function
    {"do": "call", "method": "set_registered_model_alias", "arguments": [...]}    a method of MlflowClient
"""

import json
import sys

import mlflow
import numpy as np
from mlflow.types import Schema, TensorSpec

IS_3 = mlflow.__version__.startswith("3.")


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input


done = []


def log(step, logger, **arguments):
    where = {"name": step["name"]} if IS_3 else {"artifact_path": step["name"]}
    with mlflow.start_run(run_id=done[step["run"]]["run_id"] if "run" in step else None) as run:
        mlflow.log_metric("loss", float("nan"))
        model = logger(**where, pip_requirements=["onnxruntime"], registered_model_name=step.get("registered"), **arguments)
    return {"run_id": run.info.run_id, "model_uri": model.model_uri, "version": getattr(model, "registered_model_version", None)}


def onnx(step):
    import onnx

    either = Schema([TensorSpec(np.dtype(np.float32), (-1, 4))])
    signature = mlflow.models.ModelSignature(inputs=either, outputs=either)
    return log(step, mlflow.onnx.log_model, onnx_model=onnx.load(step["file"]), signature=signature)


def python(step):
    return log(step, mlflow.pyfunc.log_model, python_model=Echo())


def call(step):
    getattr(mlflow.MlflowClient(), step["method"])(*step["arguments"], **step.get("named", {}))


if __name__ == "__main__":
    output, sys.stdout = sys.stdout, sys.stderr  # the client speaks, too
    for step in json.load(sys.stdin):
        done.append({"onnx": onnx, "python": python, "call": call}[step["do"]](step))
    json.dump(done, output)
