"""Documents and searches of the running service: what is written is there, what is found is right, whatever dies."""

import json
import random
import threading

import httpx
import numpy as np
import pytest

import models as folders
from slipway import DEADLINE, eventually

WORDS = ["hello", "world", "the", "ship", "slides", "down", "way", "a", "b", "."]
DIMENSION = 8


def ids_of(text):
    return [folders.WORDS.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]


def vector_of(text, seed=7):
    return folders.embed(ids_of(text), DIMENSION, seed)


def texts(count, seed=1):
    """Different ones, so that no two score alike by being the same."""
    chance, found = random.Random(seed), {}
    while len(found) < count:
        found.setdefault(" ".join(chance.choices(WORDS, k=chance.randint(1, 8))))
    return list(found)


@pytest.fixture
def service(make_slipway, models):
    service = make_slipway(indexed_timeout="30s").start()
    assert service.deploy("encoder", folders.embedding(models, dimension=DIMENSION))["status"] == "active"
    return service


@pytest.fixture
def notes(service):
    return service.create_collection("notes", "encoder")


# ---- what is found --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantized", [False, True], ids=["float32", "int8"])
def test_hits_and_scores_are_those_of_numpy(service, quantized):
    notes = service.create_collection("numbers", "encoder", quantized=quantized)
    documents = texts(800)
    written = notes.bulk([{"id": str(i), "text": text, "payload": {"n": i}} for i, text in enumerate(documents)], wait=True)
    assert written["accepted"] == 800 and written["indexed"] is True
    rows = np.stack([vector_of(text) for text in documents]).astype(np.float64)
    for query in texts(25, seed=2):
        scores = rows @ vector_of(query).astype(np.float64)
        for limit, offset, lowest in ((10, 0, 0), (50, 30, 0), (10, 0, 700)):
            passes = np.arange(len(scores)) >= lowest
            expected = np.sort(scores[passes])[::-1][offset : offset + limit]
            fields = {"filter": {"field": "n", "gte": lowest}} if lowest else {}
            found = notes.search(query, limit=limit, offset=offset, **fields)["hits"]
            got = np.array([hit["score"] for hit in found])
            assert np.abs(got - expected).max() < 1e-5
            assert all(abs(scores[int(hit["id"])] - hit["score"]) < 1e-5 for hit in found)
            assert len({hit["id"] for hit in found}) == limit
            assert all(hit["payload"] == {"n": int(hit["id"])} and int(hit["id"]) >= lowest for hit in found)


def test_a_vector_is_compared_when_its_encoder_is_the_collections(notes):
    notes.put("x", "the ship", wait=True)
    by_text = notes.search("the ship", with_vector=True)
    vector, digest = by_text["hits"][0]["vector"], by_text["encoder"]["digest"]
    assert np.abs(np.array(vector) - vector_of("the ship")).max() < 1e-5
    assert notes.search(vector=vector, encoder_digest=digest)["hits"][0]["id"] == "x"
    for body, status in (
        ({"vector": vector, "encoder_digest": "0" * 64}, 409),
        ({"vector": vector[1:], "encoder_digest": digest}, 400),
        ({"vector": vector}, 400),
        ({"vector": [0.0] * DIMENSION, "encoder_digest": digest}, 400),
    ):
        answer = notes.client.post(f"{notes.path}/search", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    nan = json.dumps({"vector": [float("nan")] * DIMENSION, "encoder_digest": digest})
    assert notes.client.post(f"{notes.path}/search", content=nan).status_code == 400


def test_past_queries_are_found(service):
    notes = service.create_collection("asked", "encoder", keep_queries=True)
    notes.put("x", "hello", wait=True)
    for _ in range(3):
        notes.search("the ship slides down")

    def is_kept():
        hits = notes.search_queries("the ship slides", limit=1)["hits"]
        return hits and hits[0]["payload"]["text"] == "the ship slides down" and hits[0]["payload"]["count"] == 3

    eventually(is_kept, what="the query is kept and found")


# ---- what is written ---------------------------------------------------------------------------------------------------


def test_an_import_is_exported_as_it_was(notes):
    payload = {"list": [1, 2.5, None, True], "text": "ü\n\"", "deep": {"a": {"b": []}}}
    documents = [{"id": f"document {i}/ü", "text": "the ship", "payload": payload | {"i": i}} for i in range(3000)]
    assert notes.bulk(documents) | {"seq": 0} == {"seq": 0, "accepted": 3000, "rejected": 0, "errors": []}
    notes.delete("document 7/ü")
    exported = notes.export()
    assert len(exported) == 2999 and "document 7/ü" not in exported
    assert all(exported[d["id"]]["payload"] == d["payload"] for d in documents if d["id"] in exported)
    last = max(document["seq"] for document in exported.values())
    rest = notes.client.get(f"{notes.path}/documents", params={"after": last - 5}).text.splitlines()
    assert [json.loads(line)["seq"] for line in rest] == list(range(last - 4, last + 1))


def test_every_line_has_a_fate(notes):
    body = '{"id":"a","text":"hello"}\nnot json\n{"id":"b","text":" "}\n\n{"id":"a","text":"world"}\n{"id":"gone","delete":true}'
    answer = notes.client.post(f"{notes.path}/documents", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 200
    told = answer.json()
    assert told["accepted"] == 2 and [error["line"] for error in told["errors"]] == [2, 3, 6]
    assert [error.get("id") for error in told["errors"]] == [None, "b", "gone"]
    assert notes.get("a")["text"] == "world"


def test_what_cannot_be_taken_is_refused_and_harms_nothing(service, notes):
    notes.put("x", "hello", wait=True)
    client, path = notes.client, notes.path
    deep = {"field": "a", "eq": 1}
    for _ in range(20):
        deep = {"not": deep}
    cases = [
        (413, "PUT", f"{path}/documents/big", json.dumps({"text": "a " * (25 << 20)})),
        (400, "PUT", f"{path}/documents/x", '{"text": ""}'),
        (400, "PUT", f"{path}/documents/x", '{"text": "a", "payload": 7}'),
        (400, "PUT", f"{path}/documents/x", '{"text": "a", "unknown": 7}'),
        (400, "PUT", f"{path}/documents/{'a' * 513}", '{"text": "a"}'),
        (404, "DELETE", f"{path}/documents/nobody", None),
        (404, "GET", f"{path}/documents/nobody", None),
        (404, "PUT", "/v1/collections/nobody/documents/x", '{"text": "a"}'),
        (404, "POST", "/v1/collections/nobody/search", '{"query": "a"}'),
        (400, "POST", f"{path}/search", json.dumps({"query": "a", "filter": deep})),
        (400, "POST", f"{path}/search", '{"query": ""}'),
        (400, "POST", f"{path}/search", '{"query": "a", "limit": 100000}'),
        (413, "POST", f"{path}/search", json.dumps({"query": "a " * (25 << 20)})),
        (409, "POST", f"{path}/queries/search", '{"query": "a"}'),
    ]
    for status, method, target, body in cases:
        answer = client.request(method, target, content=body, headers={"Content-Type": "application/json"}, timeout=DEADLINE)
        assert answer.status_code == status, (method, target, answer.status_code, answer.text[:300])
        assert answer.json()["detail"]
    assert notes.hits("hello") == ["x"]
    assert notes.get("x")["seq"] == 1


# ---- whatever dies --------------------------------------------------------------------------------------------------------


def in_background(work):
    done = {}
    thread = threading.Thread(target=lambda: done.setdefault("answer", work()))
    thread.start()
    return thread, done


def test_L11_a_wait_for_the_index_outlives_the_indexer_and_the_controller(service, notes):
    for role in ("indexer", "controller"):
        for round in range(3):
            thread, done = in_background(lambda: notes.put(f"{role}-{round}", "the ship", wait=True))
            service.kill_role(role)
            thread.join(DEADLINE)
            assert done["answer"]["indexed"] is True
            assert f"{role}-{round}" in notes.hits("the ship", limit=100)
    service.wait_until_ready()


def test_writes_are_taken_while_controller_and_indexer_are_dead(service, notes):
    for _ in range(5):
        for role in ("controller", "indexer"):
            eventually(lambda: service.pids(role), what=f"a {role} runs")
            service.kill(role)
        for i in range(20):
            notes.put(f"d{i}", "the ship")
    service.wait_until_ready()
    assert notes.put("last", "the ship", wait=True)["indexed"] is True
    assert len(notes.hits("the ship", limit=100)) == 21


def test_what_was_acknowledged_is_there_after_the_gateway_was_killed(service, notes):
    acknowledged, ending = {}, threading.Event()

    def write(number):
        count = 0
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not ending.is_set():
                try:
                    count += 1
                    answer = client.put(f"{notes.path}/documents/w{number}", json={"text": "the ship", "payload": {"count": count}})
                    if answer.status_code == 200:
                        acknowledged[number] = count
                except httpx.HTTPError:
                    pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        before = sum(acknowledged.values())
        eventually(lambda: sum(acknowledged.values()) > before + 200, what="writes go on")
        service.kill_role("gateway")
    ending.set()
    for thread in threads:
        thread.join(DEADLINE)
    service.wait_until_ready()
    kept = notes.export()
    for number, count in acknowledged.items():
        assert kept[f"w{number}"]["payload"]["count"] >= count
    notes.put("last", "hello", wait=True)
    assert sorted(notes.hits("the ship", limit=100)) == sorted([*kept, "last"])


def test_X8_a_collection_can_be_deleted_while_it_is_written_and_searched(service, notes):
    notes.put("first", "the ship", wait=True)
    statuses, ending = set(), threading.Event()

    def use(number):
        calls = [
            lambda client, i: client.put(f"{notes.path}/documents/{number}-{i}", json={"text": "the ship"}),
            lambda client, i: client.post(f"{notes.path}/search", json={"query": "the ship"}),
            lambda client, i: client.put(f"{notes.path}/documents/{number}-{i}?wait=indexed", json={"text": "a ship"}),
            lambda client, i: client.get(f"{notes.path}/documents/first"),
        ]
        with httpx.Client(base_url=service.url, timeout=DEADLINE) as client:
            i = 0
            while not ending.is_set():
                i += 1
                statuses.add((number % 4, calls[number % 4](client, i).status_code))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len([s for s in statuses if s[1] == 200]) == 4, what="all kinds of requests succeed")
    notes.delete_collection()
    eventually(lambda: len([s for s in statuses if s[1] == 404]) == 4, what="all kinds of requests are told")
    ending.set()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a request hangs"
    assert {status for _, status in statuses} <= {200, 404, 409}, statuses
    assert not any((service.state / "collections").iterdir())
    again = service.create_collection("notes", "encoder")
    assert again.put("second", "the ship", wait=True)["seq"] == 1
    assert again.hits("the ship") == ["second"]
