"""BentoML, one worker, with its adaptive batching."""

import bentoml
import numpy as np
from embedder import Embedder


@bentoml.service(workers=1, traffic={"timeout": 30})
class Minilm:
    def __init__(self):
        self.embedder = Embedder()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=1000)
    def embed(self, input: list[str]) -> np.ndarray:
        return self.embedder.embed(input)[0]
