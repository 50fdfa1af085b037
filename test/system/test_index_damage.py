"""What becomes of indexes and logs when the disk does its worst: a flipped bit, a missing file, another log, an older log,
a full disk, an encoder that never comes back (RULES L2, L6, L7)."""

import shutil
import sqlite3

import pytest

import models as folders
from deployments import deploy
from pauses import paused_service
from slipway import eventually, in_own_mounts
from test_switch import COUNT, assert_whole, ends, text_of


def fill(service, models):
    deploy(service, "source", folders.embedding(models, "source", dimension=8, seed=1))
    notes = service.create_collection("notes", "source")
    notes.bulk([{"id": f"d{number}", "text": text_of(number)} for number in range(COUNT)], wait=True)
    return notes


@pytest.fixture
def notes(make_slipway, models):
    return fill(make_slipway(step_backoff="50ms", index_ttl="3s").start(), models)


def folder_of(notes):
    return next(path for path in (notes.service.state / "collections").iterdir() if not path.name.startswith("."))


def blue_folder(notes):
    return folder_of(notes) / "indexes" / notes.blue()["index_id"]


def flip_bit(path, at=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 0x10
    path.write_bytes(content)


def events_of(notes):
    """What its outbox told, from the log of the service."""
    return [line for line in notes.service.whole_log().splitlines() if "set aside" in line]


def first_row(folder):
    """The first segment's rows: its first bytes are the first vector."""
    return sorted(folder.glob("*.rows"))[0]


DAMAGES = {
    "a bit of a vector": lambda folder: flip_bit(first_row(folder), 5),
    "a bit of the manifest": lambda folder: flip_bit(folder / "manifest"),
    "a file that is gone": lambda folder: first_row(folder).unlink(),
    "a manifest of rubbish": lambda folder: (folder / "manifest").write_bytes(b"\0" * 100),
    "the whole folder": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_L7_a_damaged_index_is_set_aside_and_built_again_from_the_log(notes, damage):
    folder = blue_folder(notes)
    before = notes.search("cat sun", limit=COUNT)
    notes.service.stop()
    DAMAGES[damage](folder)
    notes.service.start()
    after = eventually(lambda: notes.search("cat sun", limit=COUNT))
    assert after["applied_seq"] >= before["applied_seq"] and len(after["hits"]) == COUNT
    assert [hit["id"] for hit in after["hits"]] == [hit["id"] for hit in before["hits"]]
    assert events_of(notes)
    assert_whole(notes, "source")


def test_L7_an_index_that_is_damaged_while_the_gateway_searches_it_is_never_answered_from_half_built(notes):
    folder = blue_folder(notes)
    before = notes.search("cat sun", limit=COUNT)
    flip_bit(folder / "manifest")
    notes.service.kill_role("indexer")

    def rebuilt():
        answer = notes.client.post(f"{notes.path}/search", json={"query": "cat sun", "limit": COUNT})
        if answer.status_code == 200:  # the old one, or the new one when it is whole: never a part
            assert len(answer.json()["hits"]) == COUNT, answer.json()
        return answer.status_code == 200 and events_of(notes)

    eventually(rebuilt)
    assert [hit["id"] for hit in notes.search("cat sun", limit=COUNT)["hits"]] == [hit["id"] for hit in before["hits"]]
    notes.put("later", "red red", wait=True)  # and the gateway looks at the new one
    assert "later" in notes.hits("red red", limit=5)


def test_L7_another_log_beside_a_newer_index_makes_the_index_anew(notes):
    database = folder_of(notes) / "documents.db"
    notes.service.stop()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE meta SET log_id = 'ffffffff-0000-4000-8000-000000000000'")
    notes.service.start()
    eventually(lambda: len(notes.hits("cat sun", limit=COUNT)) == COUNT)
    assert events_of(notes)
    assert_whole(notes, "source")


def test_L7_a_restored_older_log_is_believed_and_the_newer_index_is_not(notes):
    database = folder_of(notes) / "documents.db"
    notes.service.stop()
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = database.read_bytes()
    notes.service.start()
    notes.put("d0", "blue blue blue")
    notes.put("newer", "rain rain", wait=True)
    notes.delete("d1", wait=True)
    notes.service.stop()
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(backup)
    notes.service.start()
    eventually(lambda: sorted(notes.hits("cat sun", limit=COUNT + 5)) == sorted(f"d{number}" for number in range(COUNT)))
    assert notes.get("d0")["text"] == text_of(0)
    notes.put("after", "sun sun", wait=True)  # goes on from there
    assert "after" in notes.hits("sun sun", limit=5)
    assert_whole(notes, "source", COUNT + 1)


def test_L2_an_index_whose_encoder_never_comes_back_is_let_go_and_blue_goes_on(notes, models):
    service = notes.service
    deploy(service, "gone", folders.embedding(models, "gone", dimension=12, seed=2))
    task = notes.begin_reindex("gone", blue_switch=False)
    ends(notes, task)
    ready = notes.indexes("ready")
    assert len(ready) == 1
    package = next(path for path in (service.state / "packages").rglob("model.onnx") if path.stat().st_size == (models / "gone" / "model.onnx").stat().st_size
                   and path.read_bytes() == (models / "gone" / "model.onnx").read_bytes())
    package.unlink()
    service.kill([p["pid"] for p in service.client.get("/v1/processes").json() if p.get("deployment") == "gone"][0])
    notes.put("while", "sun rain", wait=True)
    failed = eventually(lambda: notes.indexes("failed"), what="the index that stands still is let go")
    assert failed[0]["index_id"] == ready[0]["index_id"]
    answer = notes.client.post(f"{notes.path}/switch", json={"index_id": failed[0]["index_id"]})
    assert answer.status_code == 409 or ends(notes, answer.json(), ("refused", "failed")), answer.text
    assert_whole(notes, "source", COUNT + 1)


def test_a_disk_that_fills_up_in_a_reindex_loses_nothing_and_the_reindex_ends_when_there_is_room(make_slipway, models):
    service = make_slipway(access_log="false", step_backoff="50ms")
    inside = service.command()
    service.command = lambda: in_own_mounts(
        f'mkdir -p {service.state}; mount -t tmpfs -o size=48m none {service.state}; exec "$@"', inside)
    service.start()
    service.state = type(service.state)(f"/proc/{service.pid}/root{service.state}")
    notes = fill(service, models)
    deploy(service, "destination", folders.embedding(models, "destination", dimension=12, seed=2))
    filler = service.state / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    begun = notes.client.post(f"{notes.path}/reindex", json={"destination": "destination", "delete_source": False})
    refused = notes.client.put(f"{notes.path}/documents/full", json={"text": "red " * 20000})
    assert refused.status_code in (503, 507), refused.text
    assert len(notes.hits("cat sun", limit=COUNT + 5)) == COUNT  # the source answers
    filler.unlink()
    eventually(lambda: notes.client.put(f"{notes.path}/documents/later", json={"text": "red"}).status_code == 200)
    if begun.status_code != 202:  # not even the task could be recorded
        begun = eventually(lambda: answer if (answer := notes.client.post(
            f"{notes.path}/reindex", json={"destination": "destination", "delete_source": False})).status_code == 202 else None)
    task = ends(notes, begun.json(), ("done", "failed"))
    if task["status"] == "failed":  # out of attempts while it was full: the source stayed, and a second one works
        assert [index["deployment"] for index in notes.indexes("blue")] == ["source"]
        notes.reindex("destination", delete_source=False)
    assert_whole(notes, "destination", COUNT + 1)


def test_S1_an_index_whose_sync_failed_is_built_again_and_nothing_is_lost(make_slipway, tmp_path, models):
    service = paused_service(make_slipway, tmp_path)
    notes = fill(service, models)
    with service.pauses.failing_syncs(service.pids("indexer")[0]):
        notes.put("meanwhile", "red rain")  # the log is the gateway's: it is synced
        eventually(lambda: events_of(notes) or "ended process=indexer" in service.whole_log(), what="the failed sync shows")
    eventually(lambda: len(notes.hits("cat sun", limit=COUNT + 5)) == COUNT + 1)
    notes.put("after", "sun sun", wait=True)
    assert_whole(notes, "source", COUNT + 2)


def test_S1_a_log_whose_sync_failed_acknowledges_nothing_more_until_it_is_opened_anew(make_slipway, tmp_path, models):
    service = paused_service(make_slipway, tmp_path)
    notes = fill(service, models)
    with service.pauses.failing_syncs(service.pids("gateway")[0]):
        refused = notes.client.put(f"{notes.path}/documents/never", json={"text": "red"})
        assert refused.status_code == 503, refused.text
    assert notes.client.put(f"{notes.path}/documents/never", json={"text": "red"}).status_code == 503  # never tried again
    # What the disk holds of the file nobody knows: nothing is read from it either.
    search = notes.client.post(f"{notes.path}/search", json={"query": "cat"})
    assert search.status_code == 503 and "disk" in search.json()["detail"], search.text
    service.kill_role("gateway")
    service.wait_until_ready()
    eventually(lambda: notes.client.put(f"{notes.path}/documents/after", json={"text": "sun sun"}).status_code == 200)
    found = set(notes.export())
    assert found - {"never"} == {f"d{number}" for number in range(COUNT)} | {"after"}
    assert_whole(notes, "source", len(found))
