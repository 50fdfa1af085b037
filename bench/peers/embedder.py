"""What every peer computes: tokenizer in Rust, one ONNX Runtime session with one thread, mean pooling, length 1.

The model's folder is in $MODEL. A peer differs from the others in its server and in nothing else."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Embedder:
    def __init__(self):
        folder = Path(os.environ["MODEL"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"), options,
                                                    providers=["CPUExecutionProvider"])

    def embed(self, texts):
        """(unit vectors as float32 [texts, dimension], tokens)"""
        encodings = self.tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self.session.run(None, inputs)
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True), int(mask.sum())
