"""The checker checked: a proof whose parts cannot fail proves nothing."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from chaos.asking import Answer
from chaos.client import ModelClient
from chaos.faults import CONTROL, INDEXED, SEARCH, WRITE, Faults
from chaos.ledger import Ledger
from chaos.pairs import Pairs
from chaos.world import Watched, World


# ---- what must be there


def written(ledger, document, version, low, high=None, owner=1):
    write = ledger.begin(owner, document, version, low)
    ledger.happened(write, low, high)
    return write


def test_an_acknowledged_write_is_seen_from_its_number_on_and_not_before():
    ledger = Ledger()
    written(ledger, "a", 0, 5, 5)
    written(ledger, "a", None, 9, 9)
    assert [ledger.at("a", seq) for seq in (4, 5, 8, 9, 100)] == [{None}, {0}, {0}, {None}, {None}]
    assert ledger.at("never", 7) == {None}


def test_a_write_in_flight_may_be_seen_or_not():
    ledger = Ledger()
    written(ledger, "a", 0, 5, 5)
    flying = ledger.begin(1, "a", 1, 8)
    assert [ledger.at("a", seq) for seq in (7, 8, 50)] == [{0}, {0, 1}, {0, 1}]
    ledger.did_not_happen(flying)
    assert ledger.at("a", 50) == {0}


def test_a_write_of_unknown_number_is_bounded_by_the_next_of_its_owner():
    ledger = Ledger()
    written(ledger, "a", 0, 5, 5)
    written(ledger, "a", None, 6)
    assert [ledger.at("a", seq) for seq in (5, 6, 50)] == [{0}, {0, None}, {0, None}]
    ledger.bound(2, 20)
    assert ledger.at("a", 50) == {0, None}
    ledger.bound(1, 10)
    assert [ledger.at("a", seq) for seq in (8, 9, 50)] == [{0, None}, {None}, {None}]


def test_a_read_may_show_what_was_there_when_it_began_or_came_since():
    ledger = Ledger()
    written(ledger, "a", 0, 5, 5)
    written(ledger, "a", 1, 6, 6)
    since = ledger.count("a")
    written(ledger, "a", None, 7, 7)
    assert ledger.now("a", since) == {1, None}
    assert ledger.now("a", 0) == {None, 0, 1}


def test_what_lives_is_not_told_while_anything_is_in_flight():
    ledger = Ledger()
    written(ledger, "a", 0, 5, 5)
    written(ledger, "b", None, 6, 6)
    assert ledger.living() == {"a": 0}
    ledger.begin(1, "b", 2, 7)
    with pytest.raises(AssertionError):
        ledger.living()


# ---- which encoder


def test_only_encoders_of_the_change_may_answer_and_the_old_one_never_after_the_new():
    pairs = Pairs("old", 0)
    assert pairs.take("old", 1, 2) is None and pairs.take("new", 1, 2)
    pairs.begin("new", 10)
    assert pairs.take("old", 11, 12) is None and pairs.take("third", 11, 12)
    assert pairs.take("new", 11.5, 13) is None
    assert pairs.take("old", 12.9, 14) is None  # began before the new one was seen
    assert "cannot have been blue" in pairs.take("old", 13.1, 14)
    pairs.done(20)
    assert pairs.blue == "new" and pairs.take("new", 21, 22) is None and pairs.take("old", 21, 22)
    assert pairs.between(21, 22) == {"new"}


def test_after_a_change_that_did_not_happen_only_the_old_one_may_answer():
    pairs = Pairs("old", 0)
    pairs.begin("new", 10)
    pairs.given_up(20)
    assert pairs.blue == "old" and pairs.take("old", 21, 22) is None and pairs.take("new", 21, 22)
    pairs.begin("new", 30)
    assert pairs.take("new", 31, 32) is None


# ---- what is excused


@pytest.mark.parametrize("role, excused", [
    ("gateway", {SEARCH, WRITE, INDEXED, CONTROL}), ("supervisor", {SEARCH, WRITE, INDEXED, CONTROL}),
    ("controller", {CONTROL}), ("indexer", {INDEXED}), ("runner", {SEARCH, INDEXED}),
])
def test_a_death_excuses_what_the_dead_did_until_it_is_done_again(role, excused):
    faults = Faults()
    fault = faults.begin(role, "model" if role == "runner" else None, 10)
    for kind in (SEARCH, WRITE, INDEXED, CONTROL):
        assert faults.excuse(kind, 11, 12, {"model"}) == (kind in excused)
        assert faults.excuse(kind, 9, 10.5, {"model"}) == (kind in excused)  # it was under way
        assert not faults.excuse(kind, 8, 9.9, {"model"})
        fault.over[kind] = 20
        assert not faults.excuse(kind, 20.1, 21, {"model"})
    assert not faults.excuse(SEARCH, 11, 12, {"other"}) or role != "runner"


# ---- answers to a search

DIGESTS = {"old": "d-old", "new": "d-new"}
SCORES = {"old": np.array([[0.9, 0.5, 0.1]]), "new": np.array([[0.2, 0.8, 0.4]])}


class Fixture:
    """A client of owner 1 of a collection with three documents, of which it owns a and b, and what it says of an answer."""

    def __init__(self):
        world = World.__new__(World)
        world.encoders = {name: SimpleNamespace(name=name, digest=digest, scores=SCORES[name], query_scores=np.array([[1.0]])) for name, digest in DIGESTS.items()}
        world.by_digest = {encoder.digest: encoder for encoder in world.encoders.values()}
        world.queries, world.texts, world.seed, world.collections = ["q"], ["t0", "t1", "t2"], 1, {}
        world.service = SimpleNamespace(host="", port=0)
        self.watched = Watched("main", "old", True)
        self.watched.pairs = Pairs("old", 0)
        self.client = ModelClient(world, 1)
        ledger = self.watched.ledger
        for name, text, seq, owner in (("a", 0, 1, 1), ("b", 1, 2, 1), ("c", 2, 3, 2)):
            written(ledger, name, ledger.new_version(text), seq, seq, owner)

    def hit(self, document, score=None, version=None, encoder="old"):
        version = "abc".index(document) if version is None else version
        text = self.watched.ledger.text_of(version)
        owner = 2 if document == "c" else 1
        return {"id": document, "score": float(SCORES[encoder][0, text]) if score is None else score, "payload": {"owner": owner, "version": version}}

    def query_wrongs(self, hits, seq=3, digest="d-old", floor=0):
        hits = [{"score": score, "payload": {"text": text}} for text, score in hits]
        body = json.dumps({"hits": hits, "encoder": {"digest": digest}, "applied_seq": seq}).encode()
        return " | ".join(self.client.check_queries(self.watched, 0, floor, Answer("POST", "/queries/search", 200, body, 1.0, 2.0)))

    def wrongs(self, hits, seq=3, digest="d-old", limit=10, floor=0, owner=None):
        body = json.dumps({"hits": hits, "encoder": {"digest": digest}, "applied_seq": seq}).encode()
        answer = Answer("POST", "/search", 200, body, 1.0, 2.0)
        return " | ".join(self.client.check_search(self.watched, 0, limit, owner, floor, answer))


@pytest.fixture
def seen():
    return Fixture()


def test_a_right_answer_is_right(seen):
    assert seen.wrongs([seen.hit("a"), seen.hit("b"), seen.hit("c")]) == ""
    assert seen.wrongs([seen.hit("a")], limit=1) == ""
    assert seen.wrongs([seen.hit("a"), seen.hit("b")], owner=1) == ""
    assert seen.wrongs([seen.hit("a"), seen.hit("b")], seq=2) == ""


def test_what_is_wrong_with_an_answer_is_found(seen):
    whole = [seen.hit("a"), seen.hit("b"), seen.hit("c")]
    assert "twice" in seen.wrongs([whole[0], whole[0], *whole[1:]])
    assert "order" in seen.wrongs([whole[1], whole[0], whole[2]])
    assert "less than" in seen.wrongs(whole, floor=4)
    assert "b is missing" in seen.wrongs([whole[0], whole[2]])
    assert "a is missing" in seen.wrongs([whole[1]], limit=1)
    assert "does not pass the filter" in seen.wrongs(whole, owner=1)
    assert "c has version 2, at 2 it has one of {None}" in seen.wrongs(whole, seq=2)
    assert "none that was deployed" in seen.wrongs(whole, digest="?")
    assert "cannot have been blue" in seen.wrongs(whole, digest="d-new")
    assert "b has the score 0.8, by old it is 0.5" in seen.wrongs([whole[0], seen.hit("b", 0.8), whole[2]])


def test_scores_of_two_encoders_in_one_answer_are_found(seen):
    mixed = [seen.hit("a"), seen.hit("b", encoder="new"), seen.hit("c")]
    assert "b has the score" in seen.wrongs(mixed)


def test_a_deleted_document_that_is_found_and_an_old_version_are_found(seen):
    ledger = seen.watched.ledger
    written(ledger, "a", None, 4, 4)
    newer = ledger.new_version(0)
    written(ledger, "b", newer, 5, 5)
    assert "a has version 0, at 5 it has one of {None}" in seen.wrongs([seen.hit("a"), seen.hit("b", version=newer)], seq=5)
    assert "b has version 1" in seen.wrongs([seen.hit("b"), seen.hit("c")], seq=5)
    assert seen.wrongs([seen.hit("b", 0.9, version=newer), seen.hit("c")], seq=5) == ""


def test_what_is_wrong_with_a_search_of_queries_is_found(seen):
    assert seen.query_wrongs([("q", 1.0)]) == ""
    assert "twice" in seen.query_wrongs([("q", 1.0), ("q", 1.0)])
    assert "has the score" in seen.query_wrongs([("q", 0.5)])
    assert "less than" in seen.query_wrongs([], floor=4)
    assert "cannot have been blue" in seen.query_wrongs([], digest="d-new")
