"""Tiny ONNX models for the system tests.

Each function lays one model folder out below `parent` and returns its path. The models are a few nodes each, so that they
load in milliseconds and their answers can be told by heart or with numpy. Nothing here needs real weights.

    add_one          FP32 x [-1,4] -> y = x + 1
    two_by_two       FP32 a, b [-1,3] -> total = a + b, difference = a - b
    identity         x -> y = x for one element type, any batch, 2 columns
    reciprocal       FP32 x [-1] -> y = 1 / x (infinite for 0)
    batch_variant    FP32 x [-1,2] -> y = x - mean over the whole batch: what a batch changes
    always_nan       FP32 x [-1,2] -> y = 0 / 0
    slow             FP32 x [-1,4] -> y = x + 1, after `seconds` or so of multiplying matrices
    poison           INT32 x [-1,4] -> y = 100 / (x - 7), a whole division: a 7 kills the runner with SIGFPE
    deadly           the same with x - x: the first inference, which warms up, kills
    padded           add_one beside a file of `mebibytes` MiB: what takes a while to fetch, verify and package
    repeat           INT64 n [1] -> y = n[0] ones: a small request with an answer of any size
    scalar           FP32 x [] -> y = x + 1
    embedding        a folder as sentence-transformers saves it, with a WordPiece tokenizer of a few words
    external         add_one whose weight lies in a file at `location`
    several_files    a folder with two ONNX files of which none is model.onnx
    truncated        add_one cut off in the middle
    not_a_model      text instead of ONNX
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 8

# Every element type that is served: the protocol's name, ONNX's number.
TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def build(nodes, inputs, outputs, initializers=()):
    """A checked model of (name, ONNX type, shape) inputs and outputs; None in a shape is a free dimension."""

    def values(descriptions):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in descriptions]

    graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def save(parent, name, model, file="model.onnx"):
    folder = Path(parent) / name
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / file))
    return folder


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


# ---- tensor models --------------------------------------------------------------------------------------------------


def add_one_model(amount=1.0):
    return build(
        [helper.make_node("Add", ["x", "amount"], ["y"])],
        [("x", TensorProto.FLOAT, [None, 4])],
        [("y", TensorProto.FLOAT, [None, 4])],
        [constant("amount", [amount])],
    )


def add_one(parent, name="add-one", amount=1.0):
    """`amount` tells one version's answers from another's."""
    return save(parent, name, add_one_model(amount))


def two_by_two(parent, name="two-by-two"):
    shape = [None, 3]
    return save(
        parent,
        name,
        build(
            [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
            [("a", TensorProto.FLOAT, shape), ("b", TensorProto.FLOAT, shape)],
            [("total", TensorProto.FLOAT, shape), ("difference", TensorProto.FLOAT, shape)],
        ),
    )


def identity(parent, datatype, name=None):
    kind = TYPES[datatype]
    return save(
        parent,
        name or f"identity-{datatype.lower()}",
        build(
            [helper.make_node("Identity", ["x"], ["y"])], [("x", kind, [None, 2])], [("y", kind, [None, 2])]
        ),
    )


def reciprocal(parent, name="reciprocal"):
    return save(
        parent,
        name,
        build(
            [helper.make_node("Reciprocal", ["x"], ["y"])],
            [("x", TensorProto.FLOAT, [None])],
            [("y", TensorProto.FLOAT, [None])],
        ),
    )


def batch_variant(parent, name="batch-variant"):
    return save(
        parent,
        name,
        build(
            [
                helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=1),
                helper.make_node("Sub", ["x", "mean"], ["y"]),
            ],
            [("x", TensorProto.FLOAT, [None, 2])],
            [("y", TensorProto.FLOAT, [None, 2])],
        ),
    )


def always_nan(parent, name="always-nan"):
    return save(
        parent,
        name,
        build(
            [
                helper.make_node("Mul", ["x", "zero"], ["nothing"]),
                helper.make_node("Div", ["nothing", "zero"], ["y"]),
            ],
            [("x", TensorProto.FLOAT, [None, 2])],
            [("y", TensorProto.FLOAT, [None, 2])],
            [constant("zero", [0.0])],
        ),
    )


def slow(parent, name="slow", rounds=60, size=512, amount=1.0):
    """y = x + `amount` after about `rounds` times 5 ms on one core. The products are kept from being folded away by depending on x."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("MatMul", ["matrix", "weight"], ["next_matrix"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_matrix", TensorProto.FLOAT, [size, size]),
        ],
    )
    return save(
        parent,
        name,
        build(
            [
                helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
                helper.make_node("Mul", ["sum", "zero"], ["none"]),
                helper.make_node("Add", ["weight", "none"], ["begin"]),
                helper.make_node("Loop", ["rounds", "", "begin"], ["end"], body=body),
                helper.make_node("ReduceSum", ["end"], ["rest"], keepdims=0),
                helper.make_node("Mul", ["rest", "zero"], ["nothing"]),
                helper.make_node("Add", ["x", "one"], ["more"]),
                helper.make_node("Add", ["more", "nothing"], ["y"]),
            ],
            [("x", TensorProto.FLOAT, [None, 4])],
            [("y", TensorProto.FLOAT, [None, 4])],
            [
                constant("weight", np.eye(size)),
                constant("zero", 0.0),
                constant("one", [amount]),
                constant("rounds", rounds, np.int64),
            ],
        ),
    )


def poison(parent, name="poison", deadly=7):
    """`deadly` None: whatever comes."""
    return save(
        parent,
        name,
        build(
            [
                helper.make_node("Sub", ["x", "x" if deadly is None else "deadly"], ["divisor"]),
                helper.make_node("Div", ["hundred", "divisor"], ["y"]),
            ],
            [("x", TensorProto.INT32, [None, 4])],
            [("y", TensorProto.INT32, [None, 4])],
            [constant("hundred", [100], np.int32), constant("deadly", [deadly or 0], np.int32)],
        ),
    )


def deadly(parent, name="deadly"):
    return poison(parent, name, deadly=None)


def padded(parent, name="padded", amount=1.0, mebibytes=64):
    folder = add_one(parent, name, amount)
    block = np.random.default_rng(int(amount)).bytes(1 << 20)
    with open(folder / "padding.bin", "wb") as file:
        for _ in range(mebibytes):
            file.write(block)
    return folder


def repeat(parent, name="repeat"):
    return save(
        parent,
        name,
        build(
            [helper.make_node("ConstantOfShape", ["n"], ["y"], value=constant("value", [1.0]))],
            [("n", TensorProto.INT64, [1])],
            [("y", TensorProto.FLOAT, [None])],
        ),
    )


def scalar(parent, name="scalar"):
    return save(
        parent,
        name,
        build(
            [helper.make_node("Add", ["x", "one"], ["y"])],
            [("x", TensorProto.FLOAT, [])],
            [("y", TensorProto.FLOAT, [])],
            [constant("one", 1.0)],
        ),
    )


# ---- embedding models -----------------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "the", "ship", "slides", "down", "way", "##s", "a", "b", "##c", "."]


def tokenizer_json(words=WORDS):
    """A WordPiece tokenizer as the `tokenizers` library writes it, lower-casing, with [CLS] … [SEP]."""
    special = [
        {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, word in enumerate(words)
        if word.startswith("[")
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [words.index("[CLS]")], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [words.index("[SEP]")], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(words)},
        },
    }


def embedding_weights(dimension=8, seed=7):
    """The table that the embedding model looks its tokens up in: what a test computes the right answer from."""
    return np.random.default_rng(seed).standard_normal((len(WORDS), dimension)).astype(np.float32)


def embedding_model(dimension=8, seed=7, integers=TensorProto.INT64, variant=False):
    """last_hidden_state [batch,sequence,dimension] = table[input_ids] + a little of the mean over the tokens that count, so
    that the mask matters; `variant` subtracts the mean of the whole batch, which a batch therefore changes."""
    free = ["batch", "sequence"]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask_3"]),
        helper.make_node("Mul", ["words", "mask_3"], ["counting"]),
        helper.make_node("ReduceSum", ["counting", "middle"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["mask_3", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Mul", ["mean", "share"], ["little"]),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["types", "last"], ["types_3"]),
        helper.make_node("Add", ["words", "little"], ["both"]),
        helper.make_node("Add", ["both", "types_3"], ["hidden" if variant else "last_hidden_state"]),
    ]
    if variant:
        nodes += [
            helper.make_node("ReduceMean", ["hidden"], ["all"], keepdims=1),
            helper.make_node("Sub", ["hidden", "all"], ["last_hidden_state"]),
        ]
    return build(
        nodes,
        [(name, integers, free) for name in ("input_ids", "attention_mask", "token_type_ids")],
        [("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", dimension])],
        [
            constant("table", embedding_weights(dimension, seed)),
            constant("share", [0.5]),
            constant("last", [2], np.int64),
            constant("middle", [1], np.int64),
        ],
    )


def embed(ids, dimension=8, seed=7, normalize=True, pooling="mean"):
    """What embedding_model() and the folder's recipe make of one text's ids."""
    words = embedding_weights(dimension, seed)[np.asarray(ids)]
    hidden = words + 0.5 * words.mean(axis=0, keepdims=True)
    vector = {"mean": hidden.mean(axis=0), "cls": hidden[0], "max": hidden.max(axis=0)}[pooling]
    return vector / np.linalg.norm(vector) if normalize else vector


def embedding(parent, name="embedding", dimension=8, seed=7, pooling="mean", normalize=True, maximum_length=16, model=None):
    """A folder as sentence-transformers saves it. `seed` tells one version's vectors from another's."""
    folder = save(parent, name, model or embedding_model(dimension, seed))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    if normalize:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"})
    files = {
        "tokenizer.json": tokenizer_json(),
        "config.json": {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 64},
        "sentence_bert_config.json": {"max_seq_length": maximum_length, "do_lower_case": False},
        "modules.json": modules,
        "1_Pooling/config.json": {
            "word_embedding_dimension": dimension,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": pooling == "max",
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    return folder


def batch_variant_embedding(parent, name="batch-variant-embedding"):
    return embedding(parent, name, model=embedding_model(variant=True))


def wrong_inputs_embedding(parent, name="wrong-inputs"):
    """The files of an embedding model around a graph that takes pictures."""
    return embedding(
        parent,
        name,
        model=build(
            [helper.make_node("Identity", ["pixels"], ["last_hidden_state"])],
            [("pixels", TensorProto.FLOAT, ["batch", "sequence", 8])],
            [("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 8])],
        ),
    )


# ---- broken ones ------------------------------------------------------------------------------------------------------


def external(parent, location, name="external", write=None):
    """add_one whose weight is said to lie at `location`; `write` is the file to put it in, if any."""
    model = add_one_model()
    tensor = model.graph.initializer[0]
    raw = numpy_helper.to_array(tensor).tobytes()
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", str(location)), ("offset", "0"), ("length", str(len(raw)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    folder = Path(parent) / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if write:
        Path(write).write_bytes(raw)
    return folder


def several_files(parent, name="several"):
    save(parent, name, add_one_model(), "first.onnx")
    return save(parent, name, add_one_model(2.0), "second.onnx")


def truncated(parent, name="truncated"):
    folder = Path(parent) / name
    folder.mkdir(parents=True, exist_ok=True)
    whole = add_one_model().SerializeToString()
    (folder / "model.onnx").write_bytes(whole[: len(whole) * 2 // 3])
    return folder


def not_a_model(parent, name="not-a-model"):
    folder = Path(parent) / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_text("This is a letter, not a model.\n")
    return folder
