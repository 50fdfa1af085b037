"""The peer: the same model behind FastAPI, as a team that knows its tools writes it.

One process, one session with one thread, `def` endpoints (so the event loop is free while the threads of the pool
compute), the tokenizer in Rust, base64 as OpenAI's clients ask for. No batching over requests: FastAPI has none.

    MODEL=build/models/all-MiniLM-L6-v2 uvicorn --app-dir bench peer_fastapi:app --no-access-log
"""

import base64
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

folder = Path(os.environ["MODEL"])

tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.enable_truncation(256)
tokenizer.enable_padding()

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"), options, providers=["CPUExecutionProvider"])

app = FastAPI()


class EmbeddingsRequest(BaseModel):
    model: str
    input: str | list[str]
    encoding_format: str = "float"


def embed(texts):
    encodings = tokenizer.encode_batch(texts)
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(None, inputs)
    weights = mask[:, :, None].astype(np.float32)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True), int(mask.sum())


@app.post("/v1/embeddings")
def embeddings(request: EmbeddingsRequest):
    texts = [request.input] if isinstance(request.input, str) else request.input
    vectors, tokens = embed(texts)
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
