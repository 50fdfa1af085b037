"""RULES X at the points between their steps: a process is stopped exactly there and killed, or something else is done
meanwhile. (Kills at random moments: test_chaos.py.)"""

import threading

import httpx
import pytest

import models as folders
from deployments import deploy
from pauses import paused_service
from slipway import eventually

WORDS = ["cat", "dog", "sun", "rain", "red", "blue"]
COUNT = 60


def text_of(number):
    return f"{WORDS[number % 6]} {WORDS[number // 6 % 6]} {WORDS[number // 36 % 6]}"


@pytest.fixture
def service(make_slipway, tmp_path, models):
    service = paused_service(make_slipway, tmp_path, step_backoff="50ms")
    deploy(service, "source", folders.embedding(models, "source", dimension=8, seed=1))
    deploy(service, "destination", folders.embedding(models, "destination", dimension=12, seed=2))
    return service


@pytest.fixture
def notes(service):
    notes = service.create_collection("notes", "source")
    notes.bulk([{"id": f"d{number}", "text": text_of(number)} for number in range(COUNT)], wait=True)
    return notes


def ends(notes, task, expected="done"):
    """The task as it ended, through whatever dies meanwhile."""
    def ended():
        seen = notes.client.get(f"/v1/tasks/{task['task_id']}").json()
        return seen if seen.get("status") in ("done", "failed", "refused", "canceled") else None

    seen = eventually(ended, what="the task ends")
    assert seen["status"] in ((expected,) if isinstance(expected, str) else expected), seen
    notes.service.wait_until_ready()
    return seen


class Searching:
    """One client that searches all the time: what it is shown never goes back, and no answer is of two encoders."""

    def __init__(self, notes):
        self.notes, self.answers, self.failures = notes, 0, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        seen, digests = 0, []
        while not self.stopping.is_set():
            answer = self.notes.client.post(f"{self.notes.path}/search", json={"query": "cat sun", "limit": COUNT + 10})
            if answer.status_code != 200:
                self.failures.append((answer.status_code, answer.text))
                continue
            body = answer.json()
            ids = [hit["id"] for hit in body["hits"]]
            if len(set(ids)) != len(ids):
                self.failures.append(("twice", ids))
            if body["applied_seq"] < seen:
                self.failures.append(("went back", seen, body["applied_seq"]))
            seen = body["applied_seq"]
            if not digests or digests[-1] != body["encoder"]["digest"]:
                digests.append(body["encoder"]["digest"])
            self.answers += 1
        self.digests = digests

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


def assert_whole(notes, deployment, count=COUNT):
    """One blue index, the deployment's, with every document once, and counts that agree."""
    notes.wait_until_caught_up()
    blues = notes.indexes("blue")
    assert [index["deployment"] for index in blues] == [deployment], notes.indexes()
    assert blues[0]["rows"] + blues[0].get("failed", 0) == count == notes.facts()["documents"]
    hits = notes.hits("cat sun", limit=count + 10)
    assert sorted(hits) == sorted(notes.export()) and len(hits) == count


# Who stands at the point when a re-index comes by there.
POINTS = {
    "index_pinned": "controller",
    "index_created": "controller",
    "index_rows_written": "indexer",
    "index_published": "indexer",
    "gate_passed": "controller",
    "before_flip_asked": "controller",
    "switch_recorded": "indexer",
    "flip_recorded": "indexer",
    "flip_announced": "indexer",
    "pair_read": "gateway",
    "flip_acknowledged": "indexer",
    "flip_answered": "controller",
    "window_opened": "controller",
}


@pytest.mark.parametrize("name", POINTS)
def test_a_kill_between_the_steps_of_a_switch_changes_nothing_in_its_end(service, notes, name):
    with service.pauses.at(name) as point:
        task = notes.begin_reindex("destination", rollback_window=600, delete_source=False)
        pid = point.reached()
        assert pid in service.pids(POINTS[name])
        service.kill(pid)
    ends(notes, task)
    assert_whole(notes, "destination")
    assert [index["deployment"] for index in notes.indexes("rollback")] == ["source"]


@pytest.mark.parametrize("name", ["retire_due", "index_dropped"])
def test_a_kill_while_the_old_pair_is_retired_changes_nothing_in_its_end(service, notes, name):
    with service.pauses.at(name) as point:
        task = notes.begin_reindex("destination", rollback_window=0)
        service.kill(point.reached())
    ends(notes, task)
    assert_whole(notes, "destination")
    eventually(lambda: len(notes.indexes()) == 1, what="the old index is gone")
    eventually(lambda: service.client.get("/v1/deployments/source").status_code == 404, what="the source model is deleted")


def test_X3_between_flip_and_acknowledgement_writes_go_on_and_nothing_new_is_shown(service, notes):
    with service.pauses.at("flip_recorded") as point:
        task = notes.begin_reindex("destination", delete_source=False)
        point.reached()
        shown = notes.search("cat", limit=1)
        assert shown["encoder"]["deployment"] == "source"  # nobody has been told
        written = notes.put("late", "red rain")  # not held up
        assert written["seq"] > shown["applied_seq"] and notes.get("late")["text"] == "red rain"
        for _ in range(20):
            assert notes.search("red rain", limit=1)["applied_seq"] == shown["applied_seq"]
    ends(notes, task)
    eventually(lambda: notes.search("red rain", limit=1)["applied_seq"] >= written["seq"])
    assert_whole(notes, "destination", COUNT + 1)


def test_X5_the_pair_changes_while_the_controller_is_dead(service, notes):
    with Searching(notes) as searching:
        with service.pauses.at("flip_recorded") as point:
            task = notes.begin_reindex("destination", delete_source=False)
            point.reached()
            with service.pauses.at("controller_starts") as start:  # before the kill: the next one comes at once
                service.kill("controller")
                start.reached()
                point.release()
                eventually(lambda: notes.search("cat", limit=1)["encoder"]["deployment"] == "destination")
                assert service.client.get("/v1/tasks").status_code == 503  # indeed dead
        ends(notes, task)
    assert not searching.failures and searching.answers and len(searching.digests) == 2
    assert_whole(notes, "destination")


def test_X5_a_gateway_that_dies_before_it_acknowledges_comes_back_with_the_new_pair(service, notes):
    with service.pauses.at("pair_read") as point:
        task = notes.begin_reindex("destination", delete_source=False)
        service.kill(point.reached())
    service.wait_until_ready()
    assert notes.search("cat", limit=1)["encoder"]["deployment"] == "destination"
    ends(notes, task)


def test_X6_a_rollback_that_comes_before_the_end_of_the_window_wins(service, notes):
    with Searching(notes) as searching:
        with service.pauses.at("retire_due") as point:
            task = notes.reindex("destination", rollback_window=1)
            point.reached()  # the window is over, and nothing is dropped yet
            notes.rollback()
        retire = eventually(lambda: [child for child in notes.client.get("/v1/tasks", params={"parent_id": task["task_id"], "kind": "retire"}).json()
                                     if child["status"] == "done"])[0]
        assert "rolled back" in retire["detail"]
    assert not searching.failures, searching.failures[:3]
    assert_whole(notes, "source")
    assert service.client.get("/v1/deployments/source").status_code == 200


def test_X6_a_rollback_that_comes_after_the_drop_is_refused_and_changes_nothing(service, notes):
    with service.pauses.at("index_dropped") as point:
        notes.begin_reindex("destination", rollback_window=1)
        point.reached()
        answer = notes.client.post(f"{notes.path}/rollback")
        outcome = answer.status_code if answer.status_code == 409 else notes.finish(answer.json(), None)["status"]
        assert outcome in (409, "refused", "failed"), answer.text
    assert_whole(notes, "destination")


def test_X8_a_collection_deleted_in_the_middle_of_a_switch_is_gone_with_everything(service, notes):
    with service.pauses.at("switch_recorded") as point:
        task = notes.begin_reindex("destination", delete_source=False)
        point.reached()
        deletion = notes.client.delete(notes.path)
        assert deletion.status_code == 202
    ends(notes, deletion.json())
    ends(notes, task, ("canceled", "refused", "failed", "done"))  # the deletion may come before the flip, or after it
    assert notes.client.get(notes.path).status_code == 404
    assert not list((service.state / "collections").iterdir())
    again = service.create_collection("notes", "source")  # the name is free
    assert again.facts()["documents"] == 0


def put_unanswered(notes, document, text):
    with pytest.raises(httpx.HTTPError):
        notes.client.put(f"{notes.path}/documents/{document}", json={"text": text})


def test_L1_a_write_that_was_committed_but_not_answered_is_there_or_not_but_never_by_halves(service, notes):
    with service.pauses.at("append_committed") as point:
        client = threading.Thread(target=put_unanswered, args=(notes, "half", "red red"))
        client.start()
        service.kill(point.reached())
    client.join()
    service.wait_until_ready()
    assert notes.get("half")["text"] == "red red"
    assert_whole(notes, "source", COUNT + 1)
