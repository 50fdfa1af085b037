"""The models, the texts, and what each model says of them, asked of a runner that stands alone: what every score of every
answer is compared with."""

import random
import re
import subprocess

import httpx
import numpy as np

from slipway import DEADLINE, PROGRAM, ROOT, eventually

MODELS = {name: ROOT / "build/models" / folder for name, folder in {
    "fp32": "all-MiniLM-L6-v2",  # 384 dimensions
    "small": "all-MiniLM-L3-128",  # 128
    "int8": "all-MiniLM-L6-v2-int8",  # 384, other weights
}.items()}

WHO = "a sailor,the baker,my neighbour,an old dog,the pilot,a young doctor,the gardener,two children,the mayor,a tired nurse".split(",")
DOES = "repairs,paints,forgets,sells,remembers,carries,hides,borrows,describes,breaks".split(",")
WHAT = "a wooden boat,the blue door,seven red apples,an engine,the letter,a map of the coast,cold soup,the piano,his watch,a tall ladder".split(",")
WHERE = "at night,in the harbour,before breakfast,under the bridge,in Lisbon,during the storm,for a friend,on the train".split(",")


def sentences(count, seed):
    """`count` different ones."""
    dice, found = random.Random(seed), {}
    while len(found) < count:
        found[" ".join(dice.choice(words) for words in (WHO, DOES, WHAT, WHERE))] = True
    return list(found)


class Encoder:
    """`scores[query, text]` and `query_scores[query, query]` are the cosines; `digest` is what the runner calls the encoder."""

    def __init__(self, name, folder, digest, queries, texts):
        self.name, self.folder, self.digest, self.dimension = name, folder, digest, texts.shape[1]
        self.scores, self.query_scores = queries @ texts.T, queries @ queries.T
        self.vectors = [[round(float(value), 7) for value in vector] for vector in queries]  # as they are sent


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(name, folder, queries, texts, log):
    """The Encoder of a model's folder, by `slipway runner`."""
    with open(log, "wb") as output:
        runner = subprocess.Popen([PROGRAM, "runner", "--model", str(folder), "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=output)
    try:
        def is_ready():
            assert runner.poll() is None, log.read_text()
            return re.search(r" ready model=(\S+) listen=(\S+)", log.read_text())

        model, address = eventually(is_ready, what="the runner is ready").groups()
        with httpx.Client(base_url=f"http://{address}", timeout=DEADLINE) as client:
            def embed(some):
                tensor = {"name": "text", "datatype": "BYTES", "shape": [len(some)], "data": list(some)}
                answer = client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})
                assert answer.status_code == 200, answer.text
                output = next(output for output in answer.json()["outputs"] if output["name"] == "embedding")
                return unit(np.array(output["data"], np.float64).reshape(output["shape"])), answer.headers["X-Slipway-Encoder"]

            vectors, digest = zip(*(embed(some) for some in (queries, texts)))
            return Encoder(name, folder, digest[0], *vectors)
    finally:
        runner.terminate()
        runner.wait(DEADLINE)
