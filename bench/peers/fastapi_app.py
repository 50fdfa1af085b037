"""FastAPI, as a team that knows its tools writes it: one process, `def` endpoints (so the event loop is free while the
threads of the pool compute), base64 as OpenAI's clients ask for. No batching over requests: FastAPI has none."""

import base64

from embedder import Embedder
from fastapi import FastAPI
from pydantic import BaseModel

embedder = Embedder()
app = FastAPI()


class EmbeddingsRequest(BaseModel):
    model: str
    input: str | list[str]
    encoding_format: str = "float"


@app.post("/v1/embeddings")
def embeddings(request: EmbeddingsRequest):
    texts = [request.input] if isinstance(request.input, str) else request.input
    vectors, tokens = embedder.embed(texts)
    if request.encoding_format == "base64":
        given = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    else:
        given = vectors.tolist()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(given)],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


@app.get("/readyz")
def ready():
    return "ok"
