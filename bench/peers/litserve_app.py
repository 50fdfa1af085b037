"""LitServe, batching up to 8 requests for 2 ms."""

import sys

import litserve
from embedder import Embedder


class Minilm(litserve.LitAPI):
    def setup(self, device):
        self.embedder = Embedder()

    def decode_request(self, request):
        return request["input"]

    def predict(self, texts):
        return self.embedder.embed(texts)[0]

    def encode_response(self, vector):
        return {"embedding": vector.tolist()}


if __name__ == "__main__":
    api = Minilm(max_batch_size=8, batch_timeout=0.002, api_path="/embed")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning", access_log=False)
