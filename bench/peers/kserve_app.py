"""KServe's Python model server. It batches only behind its agent, a sidecar of Kubernetes."""

import sys

import kserve
from embedder import Embedder
from kserve import InferOutput, InferRequest, InferResponse


class Minilm(kserve.Model):
    def __init__(self, name):
        super().__init__(name)
        self.embedder = Embedder()
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        vectors, _ = self.embedder.embed([str(text) for text in payload.inputs[0].data])
        output = InferOutput("embedding", list(vectors.shape), "FP32")
        output.set_data_from_numpy(vectors, binary_data=False)
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    server = kserve.ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1, access_log_format=None)
    server.start([Minilm("minilm")])
