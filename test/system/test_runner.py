"""The runner alone is a complete inference server: `slipway runner --model DIR --listen ADDR`, asked by the clients that
people use and compared with numpy, onnxruntime and tokenizers."""

import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ml_dtypes
import numpy as np
import onnxruntime
import openai
import pytest
import tritonclient.http as triton
from tokenizers import Tokenizer

import models as tiny
from slipway import DEADLINE, PROGRAM, ROOT, eventually, lives

OK, USAGE, PERMANENT, TRANSIENT = 0, 2, 3, 4
MINILM = ROOT / "build/models/all-MiniLM-L6-v2"


class Runner:
    """A runner that a test talks to: `client` is on its address, `address` is what it listens on."""

    def __init__(self, folder, log, *flags, listen="127.0.0.1:0"):
        self.log_path = log
        command = [PROGRAM, "runner", "--model", str(folder), "--listen", listen, "--log-level", "debug", *map(str, flags)]
        with open(log, "w") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.pid = self.process.pid

    def log(self):
        return self.log_path.read_text()

    def ready(self):
        def says_so():
            assert self.process.poll() is None, self.log()
            return re.search(r" ready model=(\S+) listen=(\S+)", self.log())

        self.name, self.address = eventually(says_so).groups()
        if self.address.startswith("unix:"):
            transport = httpx.HTTPTransport(uds=self.address.removeprefix("unix:"))
            self.client = httpx.Client(transport=transport, base_url="http://runner", timeout=DEADLINE)
        else:
            self.client = httpx.Client(base_url=f"http://{self.address}", timeout=DEADLINE)
        return self

    def report(self):
        return json.loads(json.loads(re.search(r'report json=("(?:[^"\\]|\\.)*")', self.log())[1]))

    def infer(self, *inputs, **more):
        """inputs are (name, datatype, shape, data)."""
        body = {"inputs": [dict(zip(("name", "datatype", "shape", "data"), i)) for i in inputs], **more}
        return self.client.post(f"/v2/models/{self.name}/infer", json=body)

    def embed(self, texts, **more):
        return self.client.post("/v1/embeddings", json={"model": self.name, "input": texts, **more})

    def metric(self, name):
        found = re.search(rf"^slipway_runner_{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        return float(found[1])

    def wait(self):
        return self.process.wait(timeout=DEADLINE)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@pytest.fixture
def launch(tmp_path):
    runners = []

    def make(folder, *flags, **more):
        runners.append(Runner(folder, tmp_path / f"runner-{len(runners)}.log", *flags, **more))
        return runners[-1]

    yield make
    for runner in runners:
        if runner.process.poll() is None:
            runner.process.kill()
            runner.process.wait()


@pytest.fixture
def serve(launch):
    return lambda folder, *flags, **more: launch(folder, *flags, **more).ready()


# ---- tensors ----------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_tritonclient_gets_what_numpy_says(serve, models, binary):
    runner = serve(tiny.two_by_two(models))
    a, b = (np.random.default_rng(seed).standard_normal((5, 3)).astype(np.float32) for seed in (1, 2))
    with triton.InferenceServerClient(runner.address) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(runner.name)
        assert client.is_model_ready(runner.name, "1")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata(runner.name)
        assert metadata["inputs"] == [
            {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "b", "datatype": "FP32", "shape": [-1, 3]},
        ]
        inputs = [triton.InferInput(name, [5, 3], "FP32") for name in ("b", "a")]  # not in the model's order
        inputs[0].set_data_from_numpy(b, binary_data=binary)
        inputs[1].set_data_from_numpy(a, binary_data=binary)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("difference", "total")]
        answer = client.infer(runner.name, inputs, outputs=outputs, request_id="seven")
        assert answer.get_response()["id"] == "seven"
        np.testing.assert_array_equal(answer.as_numpy("total"), a + b)
        np.testing.assert_array_equal(answer.as_numpy("difference"), a - b)
        only = client.infer(runner.name, inputs, outputs=outputs[:1])
        assert [output["name"] for output in only.get_response()["outputs"]] == ["difference"]
        everything = client.infer(runner.name, inputs)  # asks for binary_data_output
        assert [output["name"] for output in everything.get_response()["outputs"]] == ["total", "difference"]
        np.testing.assert_array_equal(everything.as_numpy("total"), a + b)


NUMPY = {
    "BOOL": [[True, False], [False, True]],
    "UINT8": [[0, 255], [1, 2]],
    "UINT16": [[0, 65535], [1, 2]],
    "UINT32": [[0, 2**32 - 1], [1, 2]],
    "UINT64": [[0, 2**64 - 1], [1, 2]],
    "INT8": [[-128, 127], [1, 2]],
    "INT16": [[-(2**15), 2**15 - 1], [1, 2]],
    "INT32": [[-(2**31), 2**31 - 1], [1, 2]],
    "INT64": [[-(2**63), 2**63 - 1], [1, 2]],
    "FP16": [[0.5, -65504.0], [1.0, 2.0]],
    "BF16": [[0.5, -1.5], [1.0, 2.0]],
    "FP32": [[0.1, -3.4e38], [1e-30, 2.0]],
    "FP64": [[0.1, -1.7e308], [1e-300, 2.0]],
    "BYTES": [["", "a\u0000b"], ["Ünïcödé", "漢字 😀"]],
}
DTYPES = {
    "BOOL": np.bool_, "FP16": np.float16, "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}


@pytest.mark.parametrize("datatype", NUMPY)
def test_every_type_comes_back_as_it_went(serve, models, datatype):
    runner = serve(tiny.identity(models, datatype))
    data = NUMPY[datatype]
    answer = runner.infer(("x", datatype, [2, 2], data)).raise_for_status().json()["outputs"][0]
    assert answer["datatype"] == datatype and answer["shape"] == [2, 2]
    flat = [value for row in data for value in row]
    if datatype == "FP32":
        np.testing.assert_array_equal(np.float32(answer["data"]), np.float32(flat))
    else:
        assert answer["data"] == flat
    with triton.InferenceServerClient(runner.address) as client:
        kind = DTYPES.get(datatype, datatype.lower())
        array = np.array([[v.encode() if isinstance(v, str) else v for v in row] for row in data], dtype=kind)
        value = triton.InferInput("x", [2, 2], datatype)
        value.set_data_from_numpy(array, binary_data=True)
        np.testing.assert_array_equal(client.infer(runner.name, [value]).as_numpy("y"), array)


def test_scalars_empty_batches_and_nested_lists(serve, models):
    runner = serve(tiny.scalar(models))
    assert runner.infer(("x", "FP32", [], [2])).json()["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [], "data": [3]}
    runner = serve(tiny.add_one(models))
    assert runner.infer(("x", "FP32", [0, 4], [])).json()["outputs"][0]["shape"] == [0, 4]
    nested = runner.infer(("x", "FP32", [2, 4], [[1, 2, 3, 4], [5, 6, 7, 8]])).json()
    assert nested["outputs"][0]["data"] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert nested["model_name"] == "add-one" and nested["model_version"] == "1"


def test_large_bodies_and_answers_go_through(serve, models):
    runner = serve(tiny.add_one(models))
    values = np.arange(400_000, dtype=np.float32)
    for binary in (False, True):
        with triton.InferenceServerClient(runner.address, network_timeout=DEADLINE) as client:
            value = triton.InferInput("x", [100_000, 4], "FP32")
            value.set_data_from_numpy(values.reshape(-1, 4), binary_data=binary)
            output = triton.InferRequestedOutput("y", binary_data=binary)
            answer = client.infer(runner.name, [value], outputs=[output]).as_numpy("y")
            np.testing.assert_array_equal(answer.ravel(), values + 1)


@pytest.mark.sanitizer
def test_bad_requests_get_a_sentence_and_change_nothing(serve, models):
    runner = serve(tiny.add_one(models), "--body-maximum", 2_000_000)
    good = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    url = "/v2/models/add-one/infer"

    def body(**changes):
        return json.dumps({"inputs": [good | changes]})

    cases = [
        ("POST", url, "", 400, "malformed"),
        ("POST", url, "{", 400, "malformed"),
        ("POST", url, "[" * 100_000, 400, ""),
        ("POST", url, "[]", 400, "object"),
        ("POST", url, "{}", 400, "inputs"),
        ("POST", url, body(name="z"), 400, "no input z"),
        ("POST", url, json.dumps({"inputs": [good, good]}), 400, "twice"),
        ("POST", url, json.dumps({"inputs": []}), 400, "x is missing"),
        ("POST", url, body(datatype="INT32"), 400, "takes FP32"),
        ("POST", url, body(datatype="FP7"), 400, "FP7"),
        ("POST", url, body(shape=[4]), 400, "takes [-1,4]"),
        ("POST", url, body(shape=[1, 3], data=[1, 2, 3]), 400, "takes [-1,4]"),
        ("POST", url, body(data=[1, 2, 3]), 400, "needs 4"),
        ("POST", url, body(data=[1, 2, 3, "4"]), 400, "number"),
        ("POST", url, body(data=[1, 2, 3, 1e39]), 400, "number"),
        ("POST", url, body().replace("4]", "NaN]", 2), 400, "malformed"),
        ("POST", url, body(shape=[2**32, 2**32], data=[1]), 400, "larger than any tensor"),
        ("POST", url, body(shape=[2**40, 4], data=[1]), 400, "needs"),
        ("POST", url, json.dumps({"inputs": [good], "outputs": [{"name": "z"}]}), 400, "no output z"),
        ("POST", url, b'{"inputs":"\xff"}', 400, ""),
        ("POST", url, b"x" * 2_000_001, 413, ""),
        ("POST", "/v2/models/other/infer", body(), 404, "no model other"),
        ("POST", "/v2/models/add-one/versions/2/infer", body(), 404, "no version 2"),
        ("GET", "/v2/models/other", None, 404, "no model other"),
        ("GET", "/v2/nothing", None, 404, ""),
        ("GET", url, None, 405, ""),
        ("POST", "/v2/models/add-one", "{}", 405, ""),
    ]
    for method, target, content, status, sentence in cases:
        answer = runner.client.request(method, target, content=content)
        assert answer.status_code == status, (target, content and content[:80], answer.text)
        assert sentence in answer.text
        if status != 413:  # refused by the server before anybody knows what was asked
            assert list(answer.json()) == ["error"]
    assert runner.client.post(url, content=body(), headers={"Content-Encoding": "gzip"}).status_code == 415
    for length in ("-1", "x", "99999999999999999999", str(len(body()) + 1), "0"):
        answer = runner.client.post(url, content=body(), headers={"Inference-Header-Content-Length": length})
        assert answer.status_code == 400, length
    assert runner.infer(("x", "FP32", [1, 4], [1, 2, 3, 4])).json()["outputs"][0]["data"] == [2, 3, 4, 5]
    assert runner.stop() == OK


@pytest.mark.sanitizer
def test_binary_lengths_that_lie_are_refused(serve, models):
    runner = serve(tiny.add_one(models))

    def ask(size, content, head_change=0, shape=(1, 4)):
        value = {"name": "x", "datatype": "FP32", "shape": list(shape), "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [value]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head) + head_change)}
        return runner.client.post("/v2/models/add-one/infer", content=head + content, headers=headers)

    assert ask(16, bytes(16)).status_code == 200
    for size, content, change in ((16, bytes(12), 0), (16, bytes(20), 0), (12, bytes(12), 0), (2**62, bytes(16), 0),
                                  (-1, bytes(16), 0), (16, bytes(16), 1), (16, bytes(16), -1), (16, bytes(16), 16)):
        answer = ask(size, content, change)
        assert answer.status_code == 400 and "error" in answer.json(), (size, len(content), change)
    assert ask(0, b"", shape=(2**31, 2**33)).status_code == 400


@pytest.mark.sanitizer
def test_a_value_that_is_not_finite_never_stands_in_json(serve, models):
    runner = serve(tiny.reciprocal(models))
    answer = runner.infer(("x", "FP32", [2], [2, 0]))
    assert answer.status_code == 500
    assert "not finite" in answer.json()["error"]
    with triton.InferenceServerClient(runner.address) as client:
        value = triton.InferInput("x", [2], "FP32")
        value.set_data_from_numpy(np.float32([2, 0]))
        np.testing.assert_array_equal(client.infer(runner.name, [value]).as_numpy("y"), np.float32([0.5, np.inf]))


# ---- batching ---------------------------------------------------------------------------------------------------------


def together(count, call):
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call, i) for i in range(count)]]


def test_requests_that_waited_run_together_and_each_gets_its_own(serve, models):
    runner = serve(tiny.slow(models))

    def ask(i):
        rows = i % 3 + 1
        answer = runner.infer(("x", "FP32", [rows, 4], [float(i)] * (4 * rows))).raise_for_status()
        np.testing.assert_allclose(answer.json()["outputs"][0]["data"], np.full(4 * rows, i + 1.0), rtol=1e-6)
        return int(answer.headers["x-slipway-batch"])

    eventually(lambda: max(together(8, ask)) > 1)
    assert max(together(1, ask)) == 1
    assert runner.metric('batch_size_bucket{le="1"}') < runner.metric("batch_size_count")


@pytest.mark.sanitizer
def test_a_model_that_a_batch_changes_runs_requests_one_by_one(serve, models):
    runner = serve(tiny.batch_variant(models))
    assert runner.report()["batching"] is False
    assert "batching changes the result" in runner.report()["batching_reason"]

    def ask(i):
        answer = runner.infer(("x", "FP32", [1, 2], [i, i + 2.0])).raise_for_status()
        assert answer.json()["outputs"][0]["data"] == [-1, 1]
        return answer.headers["x-slipway-batch"]

    assert set(together(16, ask)) == {"1"}
    embedding = serve(tiny.batch_variant_embedding(models))
    assert embedding.report()["batching"] is False
    alone = embedding.embed("hello world").json()["data"][0]["embedding"]
    answer = embedding.embed(["hello world", "the ship slides down"])
    assert answer.headers["x-slipway-batch"] == "1"
    assert answer.json()["data"][0]["embedding"] == alone


def test_what_nobody_waits_for_does_not_run(serve, models):
    runner = serve(tiny.slow(models, rounds=300))
    first = threading.Thread(target=lambda: runner.infer(("x", "FP32", [1, 4], [1, 1, 1, 1])))
    first.start()
    eventually(lambda: runner.metric("requests_in_flight") == 1 and runner.metric("queue_units") == 0)
    host, port = runner.address.split(":")
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]})
    with socket.create_connection((host, int(port))) as impatient:
        impatient.sendall(f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        eventually(lambda: runner.metric("queue_units") == 1)
    eventually(lambda: runner.metric("abandoned_total") == 1)
    first.join()
    assert runner.metric("batch_size_sum") == 1


# ---- embeddings -------------------------------------------------------------------------------------------------------

TEXTS = ["hello world", "the ship slides down the ways.", "", "HELLO, hello 漢字", "a b c"]


def tiny_oracle():
    tokenizer = Tokenizer.from_str(json.dumps(tiny.tokenizer_json()))
    return lambda text, **more: tiny.embed(tokenizer.encode(text).ids, **more)


@pytest.mark.sanitizer
def test_openai_client_gets_the_vectors_of_the_reference(serve, models):
    runner = serve(tiny.embedding(models))
    oracle = tiny_oracle()
    client = openai.OpenAI(base_url=f"http://{runner.address}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["embedding"]
    for form in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model="embedding", input=TEXTS, **form)
        assert [item.index for item in answer.data] == list(range(len(TEXTS)))
        for text, item in zip(TEXTS, answer.data):
            vector = item.embedding
            if isinstance(vector, str):  # the client leaves what was asked for by name as it is
                vector = np.frombuffer(base64.b64decode(vector), dtype="<f4")
            np.testing.assert_allclose(vector, oracle(text), atol=1e-6)
    one = client.embeddings.create(model="embedding", input="hello world")
    assert one.usage.prompt_tokens == 4  # [CLS] hello world [SEP]
    ids = client.embeddings.create(model="embedding", input=[2, 4, 5, 3])
    np.testing.assert_allclose(ids.data[0].embedding, oracle("hello world"), atol=1e-6)
    several = client.embeddings.create(model="embedding", input=[[2, 4, 5, 3], [4]])
    np.testing.assert_allclose(several.data[1].embedding, tiny.embed([4]), atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="1 to 16"):
        client.embeddings.create(model="embedding", input=[4] * 17)
    with pytest.raises(openai.BadRequestError, match="token id"):
        client.embeddings.create(model="embedding", input=[4, 99])
    with pytest.raises(openai.BadRequestError, match="8 dimensions"):
        client.embeddings.create(model="embedding", input="a", dimensions=4)
    with pytest.raises(openai.NotFoundError, match="no model other"):
        client.embeddings.create(model="other", input="a")
    assert client.embeddings.create(model="embedding", input="a", dimensions=8, user="me", extra_body={"more": 1}).data


@pytest.mark.sanitizer
def test_bad_embedding_requests_have_openais_error_shape(serve, models):
    runner = serve(tiny.embedding(models))
    for body in ("", "{", "{}", '{"model":"embedding"}', '{"input":"a"}', '{"model":1,"input":"a"}',
                 *(json.dumps({"model": "embedding", "input": value}) for value in
                   ([], [[]], {}, 1, None, True, [None], ["a", 1], [1, "a"], [[1], "a"], [1.5], [-1], [[1, "a"]], [["a"]])),
                 json.dumps({"model": "embedding", "input": "a", "encoding_format": "int8"}),
                 json.dumps({"model": "embedding", "input": "a", "dimensions": "8"}),
                 json.dumps({"model": "embedding", "input": ["a"] * 5000})):
        answer = runner.client.post("/v1/embeddings", content=body)
        assert answer.status_code == 400, (body[:100], answer.text)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "code", "param"} and error["type"] == "invalid_request_error", body
    assert serve(tiny.add_one(models)).embed("a").status_code == 400  # not an embedding model


def test_truncated_texts_are_counted(serve, models):
    runner = serve(tiny.embedding(models, maximum_length=8))
    answer = runner.embed(["hello", "hello " * 100])
    assert answer.headers["x-slipway-truncated"] == "1"
    assert answer.json()["usage"] == {"prompt_tokens": 3 + 8, "total_tokens": 3 + 8, "truncated_inputs": 1}
    np.testing.assert_allclose(answer.json()["data"][1]["embedding"], tiny.embed([2] + [4] * 6 + [3]), atol=1e-6)
    assert "x-slipway-truncated" not in runner.embed("hello").headers


@pytest.mark.sanitizer
def test_an_embedding_model_takes_texts_over_v2(serve, models):
    runner = serve(tiny.embedding(models))
    oracle = tiny_oracle()
    with triton.InferenceServerClient(runner.address) as client:
        metadata = client.get_model_metadata(runner.name)
        assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 8]}]
        for shape in ([5], [5, 1]):
            value = triton.InferInput("text", shape, "BYTES")
            value.set_data_from_numpy(np.array([text.encode() for text in TEXTS], dtype=np.object_).reshape(shape))
            vectors = client.infer(runner.name, [value]).as_numpy("embedding")
            np.testing.assert_allclose(vectors, [oracle(text) for text in TEXTS], atol=1e-6)
    answer = runner.infer(("text", "BYTES", [1], ["hello world"]))
    assert answer.headers["x-slipway-encoder"] == runner.report()["encoder_digest"]
    np.testing.assert_allclose(answer.json()["outputs"][0]["data"], oracle("hello world"), atol=1e-6)
    assert runner.infer(("text", "BYTES", [1, 2], ["a", "b"])).status_code == 400
    assert runner.infer(("text", "FP32", [1], [1])).status_code == 400
    assert runner.infer(("input_ids", "INT64", [1, 1], [1])).status_code == 400
    assert runner.infer(("text", "BYTES", [0], [])).status_code == 400


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_and_normalisation_follow_the_files_or_the_recipe(serve, models, pooling, normalize):
    oracle = tiny_oracle()
    from_files = serve(tiny.embedding(models, "files", pooling=pooling, normalize=normalize))
    other = tiny.embedding(models, "other", pooling="mean" if pooling != "mean" else "cls", normalize=not normalize)
    from_recipe = serve(other, "--recipe", json.dumps({"pooling": pooling, "normalize": normalize}))
    for runner, source in ((from_files, "1_Pooling/config.json"), (from_recipe, "recipe")):
        assert runner.report()["recipe"]["pooling"] == {"value": pooling, "from": source}
        for text, item in zip(TEXTS, runner.embed(TEXTS).json()["data"]):
            np.testing.assert_allclose(item["embedding"], oracle(text, pooling=pooling, normalize=normalize), atol=1e-6)


def test_narrow_integers_and_prompts(serve, models):
    folder = tiny.embedding(models, model=tiny.embedding_model(integers=tiny.TYPES["INT32"]))
    runner = serve(folder, "--recipe", '{"prompts":{"default":"hello "}}')
    np.testing.assert_allclose(runner.embed("world").json()["data"][0]["embedding"], tiny_oracle()("hello world"), atol=1e-6)


# ---- real weights -------------------------------------------------------------------------------------------------------

SENTENCES = [
    "That is a happy person", "That is a very happy person", "Today is a sunny day", "", " ", "a", "42",
    "Der Hafen liegt still; das Schiff gleitet die Helling hinab.", "日本語の文章です。", "Съешь ещё этих мягких французских булок",
    "العربية من اليمين إلى اليسار", "emoji 😀👩‍👩‍👧‍👦🏴‍☠️", "tabs\tand\nlines\u0000and\u0007controls", "e\u0301 é ﬁ ½ Ⅷ",
    "word " * 600, "x" * 5000,
]


def reference(folder):
    """What onnxruntime and tokenizers make of one text alone."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(next(folder.glob("**/model.onnx"))), options)

    def embed(text):
        ids = np.array([tokenizer.encode(text).ids])
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {i.name: values[i.name] for i in session.get_inputs()})[0][0]
        return hidden.mean(axis=0) / np.linalg.norm(hidden.mean(axis=0))

    return embed


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_minilm_embeds_as_the_reference_alone_and_in_a_batch(serve):
    runner = serve(MINILM)
    assert runner.report()["batching"] is True
    embed = reference(MINILM)
    alone = [runner.embed(text).json()["data"][0]["embedding"] for text in SENTENCES]
    batch = [item["embedding"] for item in runner.embed(SENTENCES).json()["data"]]
    for text, one, other in zip(SENTENCES, alone, batch):
        assert cosine(one, embed(text)) >= 0.99999, text[:40]
        assert cosine(other, embed(text)) >= 0.99999, text[:40]


def test_dynamically_quantised_minilm_is_not_batched(serve):
    folder = MINILM.with_name(MINILM.name + "-int8")
    runner = serve(folder)
    assert runner.report()["batching"] is False
    assert "batching changes the result: cosine 0.9" in runner.report()["batching_reason"]
    embed = reference(folder)
    answer = runner.embed(SENTENCES[:6])
    assert answer.headers["x-slipway-batch"] == "1"
    for text, item in zip(SENTENCES, answer.json()["data"]):
        assert cosine(item["embedding"], embed(text)) >= 0.99999, text[:40]


# ---- models that cannot be served ---------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "make, sentence",
    [
        (tiny.truncated, "not a whole ONNX model"),
        (tiny.not_a_model, "not a whole ONNX model"),
        (tiny.several_files, "first.onnx"),
        (tiny.always_nan, "not finite"),
        (tiny.wrong_inputs_embedding, "pixels [-1,-1,8] FP32"),
        (lambda models: tiny.external(models, "/etc/hostname"), "absolute path"),
        (lambda models: tiny.external(models, "../weights", write=models / "weights"), "refused"),
        (lambda models: tiny.external(models, "*/_ORT_MEM_ADDR_/*"), "memory"),
        (lambda models: models / "nowhere", "No such file"),
        (lambda models: models, "no ONNX file"),
    ],
)
def test_a_model_that_cannot_be_served_is_a_permanent_failure_that_says_why(launch, models, make, sentence):
    runner = launch(make(models))
    assert runner.wait() == PERMANENT
    assert sentence in runner.log() and "permanent=yes" in runner.log()


def test_external_data_inside_the_folder_is_served(serve, models):
    folder = tiny.external(models, "weights.bin")
    (folder / "weights.bin").write_bytes(np.float32([1]).tobytes())
    runner = serve(folder)
    assert runner.infer(("x", "FP32", [1, 4], [0, 1, 2, 3])).json()["outputs"][0]["data"] == [1, 2, 3, 4]


def test_external_data_behind_a_link_is_refused(launch, models):
    folder = tiny.external(models, "weights.bin")
    (models / "outside.bin").write_bytes(np.float32([1]).tobytes())
    (folder / "weights.bin").symlink_to(models / "outside.bin")
    runner = launch(folder)
    assert runner.wait() == PERMANENT
    assert "refused" in runner.log()


def test_wrong_recipes_and_flags_are_refused(launch, models):
    folder = tiny.embedding(models)
    for recipe, sentence in (('{"poling":"cls"}', "poling"), ('{"pooling":"none"}', "outputs"), ("{", "malformed")):
        runner = launch(folder, "--recipe", recipe)
        assert runner.wait() == PERMANENT and sentence in runner.log()
    for flags, sentence in ((("--thread", "1"), "did you mean --threads"), (("--threads", "x"), "--threads must be")):
        runner = launch(folder, *flags)
        assert runner.wait() == USAGE and sentence in runner.log()
    runner = launch(folder, listen="0.0.0.0:0")
    assert runner.wait() == PERMANENT and "beyond loopback" in runner.log()


# ---- the process --------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_sigterm_answers_what_is_in_flight_and_ends_with_0(serve, models):
    runner = serve(tiny.slow(models))
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(runner.infer(("x", "FP32", [1, 4], [1, 1, 1, 1])))) for _ in range(3)]
    for client in clients:
        client.start()
    eventually(lambda: runner.metric("requests_in_flight") == 3)
    assert runner.stop() == OK
    for client in clients:
        client.join()
    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_a_unix_socket_serves_as_well(serve, models, tmp_path):
    path = tmp_path / "socket"
    runner = serve(tiny.add_one(models), listen=f"unix:{path}")
    assert runner.infer(("x", "FP32", [1, 4], [1, 2, 3, 4])).json()["outputs"][0]["data"] == [2, 3, 4, 5]
    assert path.stat().st_mode & 0o777 == 0o600
    assert runner.stop() == OK
    again = serve(tiny.add_one(models), listen=f"unix:{path}")  # what was left behind is no hindrance
    assert again.client.get("/readyz").status_code == 200


@pytest.mark.sanitizer
def test_a_runner_that_nobody_told_asks_for_huge_pages_itself(serve, models, monkeypatch):
    """glibc reads it before main(), so it has to stand in what the process was started with, not only in what it set."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    runner = serve(tiny.add_one(models))
    assert b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in Path(f"/proc/{runner.pid}/environ").read_bytes().split(b"\0")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    other = serve(tiny.add_one(models))
    assert b"GLIBC_TUNABLES=glibc.malloc.hugetlb=0" in Path(f"/proc/{other.pid}/environ").read_bytes().split(b"\0")


def test_the_process_is_confined(serve, models):
    runner = serve(tiny.add_one(models), "--memory-limit", "1Gi")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{runner.pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    sandbox = runner.report()["sandbox"]
    assert sandbox["seccomp"] is True and sandbox["landlock_abi"] > 0 and "missing" not in sandbox
    assert sandbox["memory_limit"] == "rlimit_data"
    limits = Path(f"/proc/{runner.pid}/limits").read_text()
    assert re.search(rf"Max data size +{2**30} +{2**30}", limits) and re.search(r"Max core file size +0 +0", limits)


def test_a_request_that_needs_more_memory_than_there_is_fails_alone(serve, models):
    runner = serve(tiny.repeat(models), "--memory-limit", "512Mi")
    answer = runner.infer(("n", "INT64", [1], [2**30]))
    assert answer.status_code >= 500 and "error" in answer.json()
    assert runner.infer(("n", "INT64", [1], [3])).json()["outputs"][0]["data"] == [1, 1, 1]
    assert lives(runner.pid)


def test_memory_stays_flat_over_requests_of_every_length(serve):
    runner = serve(MINILM)
    rng = np.random.default_rng(3)

    def ask():
        texts = ["word " * int(length) for length in rng.integers(1, 250, size=6)]
        runner.embed(texts, encoding_format="base64").raise_for_status()

    for _ in range(8):
        runner.embed(["word " * 250] * 16).raise_for_status()  # what the arena will ever need
    before = runner.metric("resident_memory_bytes")
    for _ in range(40):
        ask()
    assert runner.metric("resident_memory_bytes") - before < 32 * 2**20


def test_a_hub_snapshot_of_links_is_served(serve, models, tmp_path):
    folder = tiny.embedding(models)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = blobs / str(number)
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
    runner = serve(folder)
    np.testing.assert_allclose(runner.embed("hello").json()["data"][0]["embedding"], tiny_oracle()("hello"), atol=1e-6)


# ---- under a supervisor ---------------------------------------------------------------------------------------------------

READY, FAILED, PING, PONG = 20, 21, 3, 4


def send(channel, number, *fields):
    packet = struct.pack("<II", number, len(fields))
    for value in fields:
        raw = struct.pack("<Q", value) if isinstance(value, int) else value.encode()
        packet += struct.pack("<BI", 1 if isinstance(value, int) else 2, len(raw)) + raw
    channel.send(packet)


def receive(channel):
    packet = channel.recv(1 << 20)
    number, count = struct.unpack_from("<II", packet)
    position, fields = 8, []
    for _ in range(count):
        _, size = struct.unpack_from("<BI", packet, position)
        fields.append(packet[position + 5 : position + 5 + size])
        position += 5 + size
    return number, fields


@pytest.fixture
def supervise(tmp_path):
    processes, channels = [], []

    def start(folder, *flags):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(DEADLINE)
        path = tmp_path / f"replica.{len(processes)}"
        command = [PROGRAM, "runner", "--model", str(folder), "--socket", str(path), "--supervisor-fd", str(theirs.fileno()), *flags]
        processes.append(subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL))
        channels.append(ours)
        theirs.close()
        return processes[-1], ours, path

    yield start
    for process, channel in zip(processes, channels):
        channel.close()
        process.kill()
        process.wait()


def test_a_supervised_runner_reports_answers_pings_and_ends_with_its_supervisor(supervise, models):
    process, channel, path = supervise(tiny.embedding(models), "--revision", "7", "--package-digest", "ab" * 32)
    number, (report,) = receive(channel)
    assert number == READY
    report = json.loads(report)
    assert report["kind"] == "embedding" and report["dimension"] == 8 and report["threads"] == 1
    assert re.fullmatch("[0-9a-f]{64}", report["encoder_digest"]) and report["memory_bytes"] > 0
    send(channel, PING, 41)
    number, (sequence,) = receive(channel)
    assert (number, struct.unpack("<Q", sequence)[0]) == (PONG, 41)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://runner") as client:
        named = client.get("/v2/models/any-name-at-all/versions/7")  # the gateway has chosen already
        assert named.json()["name"] == "any-name-at-all" and named.json()["versions"] == ["7"]
        assert client.post("/v1/embeddings", json={"model": "alias", "input": "hello"}).json()["model"] == "alias"
    channel.close()
    process.wait(timeout=DEADLINE)


def test_a_supervised_runner_answers_pings_while_it_loads(supervise, models):
    process, channel, _ = supervise(tiny.slow(models, rounds=2000))
    send(channel, PING, 1)
    assert receive(channel)[0] == PONG  # long before it is ready
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=DEADLINE) == OK


def test_a_supervised_runner_says_why_it_fails(supervise, models):
    process, channel, _ = supervise(tiny.truncated(models))
    number, (error, permanent) = receive(channel)
    assert number == FAILED and struct.unpack("<Q", permanent)[0] == 1
    assert json.loads(error)["error"] == "ConfigurationError" and "not a whole ONNX model" in json.loads(error)["message"]
    assert process.wait(timeout=DEADLINE) == PERMANENT
