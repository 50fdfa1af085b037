"""Ray Serve, one replica, batching up to 8 requests for 2 ms."""

import sys
import time

import ray
from embedder import Embedder
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Minilm:
    def __init__(self):
        self.embedder = Embedder()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002)
    async def embed(self, texts):
        return [vector.tolist() for vector in self.embedder.embed(texts)[0]]

    async def __call__(self, request: Request):
        return {"embedding": await self.embed((await request.json())["input"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Minilm.bind(), route_prefix="/embed")
    while True:
        time.sleep(3600)
