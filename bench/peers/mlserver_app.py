"""MLServer, batching up to 8 requests for 2 ms, without worker processes of its own.

    python mlserver_app.py PORT: writes the settings that it wants into a folder and starts it there."""

import json
import os
import sys
import tempfile
from pathlib import Path

from embedder import Embedder
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Minilm(MLModel):
    async def load(self):
        self.embedder = Embedder()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        vectors, _ = self.embedder.embed(texts)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("embedding", vectors)])


if __name__ == "__main__":
    port = int(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-mlserver-"))
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2,
                "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "minilm", "implementation": "mlserver_app.Minilm", "max_batch_size": 8, "max_batch_time": 0.002}
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(Path(sys.executable).with_name("mlserver"), ["mlserver", "start", str(folder)])
