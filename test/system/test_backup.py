"""slipway backup, restore and check: on state folders of a service that runs, of one that was killed, and of none
(RULES S2, S6, S9)."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

import models as folders
from collection import Collection
from deployments import delete, deploy, get
from pauses import PROGRAM as PAUSED_PROGRAM, Pauses, paused_service
from slipway import DEADLINE, PROGRAM, eventually, in_own_mounts
from test_index_damage import first_row, flip_bit
from test_switch import COUNT, assert_whole, ends, text_of


# ---- the commands


def run(*words, program=PROGRAM, expected=0, prefix=(), environment=None, cwd=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")} | (environment or {})
    done = subprocess.run([*prefix, program, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE,
                          env=environment, cwd=cwd)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    assert expected is None or done.returncode == expected, (done.returncode, done.stdout, done.stderr)
    return done


def backup(service, destination, *flags, **how):
    return json.loads(run("backup", "--json", "--state", service.state, destination, *flags, **how).stdout)


def restore(make_slipway, source, folder, *flags, roots=None, **settings):
    """A service on the state that was restored; not started."""
    state = folder / "state"
    folder.mkdir()
    environment = {"SLIPWAY_MODEL_ROOTS": str(roots)} if roots else {"SLIPWAY_MODEL_ROOTS": "/nowhere"}
    answer = json.loads(run("restore", "--json", source, "--state", state, *flags, environment=environment).stdout)
    service = make_slipway(folder, **settings)
    service.restored = answer
    return service


def check(state, expected=0):
    answer = run("check", "--json", "--state", state, expected=expected)
    return json.loads(answer.stdout)


def faults(report):
    return [finding for finding in report["findings"] if finding["gravity"] == "fault"]


def notes_of(report):
    return [finding for finding in report["findings"] if finding["gravity"] == "note"]


def databases(folder):
    return sorted((folder / "collections").glob("*/documents.db"))


def ask(database, sql):
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def documents_in(folder):
    """The living documents of the one collection in a backup or a state folder."""
    [database] = databases(folder)
    rows = ask(database, "SELECT id, text FROM log l WHERE text IS NOT NULL AND NOT EXISTS "
                         "(SELECT 1 FROM log n WHERE n.id = l.id AND n.seq > l.seq)")
    assert len({key for key, _ in rows}) == len(rows)
    return dict(rows)


def log_ids(folder):
    return {path.name: ask(path, "SELECT log_id FROM meta")[0][0]
            for path in (folder / "collections").glob("*/*.db")}


def only(name, report):
    """The first finding; all are of one subject, which begins so."""
    assert report["findings"] and len({finding["subject"] for finding in report["findings"]}) == 1, report["findings"]
    found = report["findings"][0]
    assert found["subject"].startswith(name) and "\n" not in found["what"], found
    return found


# ---- a service to back up


def fill(service, models, **fields):
    deploy(service, "source", folders.embedding(models, "source", dimension=8, seed=1))
    notes = service.create_collection("notes", "source", **fields)
    notes.bulk([{"id": f"d{number}", "text": text_of(number)} for number in range(COUNT)], wait=True)
    return notes


@pytest.fixture
def notes(make_slipway, models):
    return fill(make_slipway(step_backoff="50ms", rollback_window="60s").start(), models)


def on(service, name="notes"):
    return Collection(service, name)


@pytest.mark.sanitizer
def test_a_restored_state_answers_as_the_service_did_that_was_backed_up(make_slipway, models, tmp_path):
    service = make_slipway().start()
    notes = fill(service, models, keep_queries=True)
    before = notes.hits("cat sun", limit=COUNT)
    answer = backup(service, tmp_path / "backup")
    assert answer["collections"] == 1 and answer["documents"] == COUNT and answer["packages"] == 1
    assert check(service.state)["findings"] == []
    service.stop()
    assert check(service.state)["faults"] == 0
    restored = restore(make_slipway, tmp_path / "backup", tmp_path / "restored")
    assert check(restored.state)["findings"] == []
    restored.start()
    assert get(restored, "source")["status"] == "active"
    again = on(restored)
    assert again.put("new", "dog dog")["seq"] > 0  # writes need no index
    again.wait_until_searchable("cat sun")
    again.delete("new", wait=True)
    assert again.hits("cat sun", limit=COUNT) == before
    assert {key: found["text"] for key, found in again.export().items()} == {f"d{number}": text_of(number) for number in range(COUNT)}
    assert_whole(again, "source")
    assert check(restored.state)["faults"] == 0


def test_S9_each_restored_log_has_a_new_id_and_an_index_of_the_older_log_is_not_used(notes, make_slipway, tmp_path):
    service = notes.service
    backup(service, tmp_path / "backup")
    notes.put("d0", "blue blue blue", wait=True)  # the index is ahead of the backup, and of another log
    before = log_ids(service.state)
    service.stop()
    restored = restore(make_slipway, tmp_path / "backup", tmp_path / "restored")
    assert log_ids(tmp_path / "backup") == before
    assert not set(log_ids(restored.state).values()) & set(before.values())
    [former] = (service.state / "collections").glob("*/indexes/*")
    [place] = (restored.state / "collections").glob("*/indexes")
    shutil.copytree(former, place / former.name)
    restored.start()
    again = on(restored)
    eventually(lambda: "set aside" in restored.whole_log())
    again.wait_until_searchable("cat sun")
    assert again.get("d0")["text"] == text_of(0)
    assert_whole(again, "source")


def test_a_backup_without_packages_is_whole_where_the_models_can_be_fetched_again(notes, make_slipway, models, tmp_path):
    service = notes.service
    deploy(service, "lost", folders.add_one(models, "lost", amount=2.0))
    answer = backup(service, tmp_path / "backup", "--without-packages")
    assert not answer["with_packages"] and not (tmp_path / "backup" / "packages").exists()
    service.stop()
    shutil.rmtree(models / "lost")
    restored = restore(make_slipway, tmp_path / "backup", tmp_path / "restored", roots=models)
    assert restored.restored["fetched"] == 1
    [missing] = restored.restored["missing"]
    assert "lost" in missing and "slipway update lost" in missing
    assert only("package", check(restored.state, expected=1))["advice"].endswith(": lost")
    restored.start()
    assert get(restored, "source")["status"] == "active"
    on(restored).wait_until_searchable("cat sun")
    assert eventually(lambda: get(restored, "lost")["status"] == "failed")
    folders.add_one(models, "lost", amount=2.0)
    answer = restored.client.put("/v1/deployments/lost", json={
        "deployment_name": "lost", "model_uri": str(models / "lost"), "deployment_target_config": {"type": "api_service"}})
    assert answer.status_code == 202, answer.text
    eventually(lambda: get(restored, "lost")["status"] == "active")
    assert check(restored.state)["faults"] == 0


# ---- one moment


class Writing:
    """Clients that write, delete and search all the time; what was acknowledged, and what was begun."""

    def __init__(self, notes):
        self.notes, self.stopping, self.threads = notes, threading.Event(), []
        self.mutex, self.acknowledged, self.deleted, self.begun = threading.Lock(), {}, set(), set()
        self.failures = []

    def run(self, owner):
        with httpx.Client(base_url=self.notes.service.url, timeout=30) as client:
            mine, number = Collection(self.notes.service, self.notes.name, client), 0
            while not self.stopping.is_set():
                key = f"w{owner}-{number}"
                try:
                    with self.mutex:
                        self.begun.add(key)
                    mine.put(key, text_of(number))
                    with self.mutex:
                        self.acknowledged[key] = text_of(number)
                    if number % 5 == 4:
                        gone = f"w{owner}-{number - 2}"
                        with self.mutex:
                            self.begun.add(gone)
                            del self.acknowledged[gone]
                        mine.delete(gone)
                        with self.mutex:
                            self.deleted.add(gone)
                    if number % 7 == 0:
                        mine.search("cat sun", limit=5)
                except AssertionError as failure:
                    if " 503 " not in str(failure):
                        self.failures.append(str(failure))
                number += 1

    def now(self):
        with self.mutex:
            return dict(self.acknowledged), set(self.deleted)

    def __enter__(self):
        self.threads = [threading.Thread(target=self.run, args=(owner,)) for owner in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def assert_fits(folder):
    """What the control database of a backup says of its collection is true of it: the parts of one moment."""
    [database] = databases(folder)
    control = folder / "control.db"
    pair = ask(database, "SELECT epoch, index_id, flipped_by, deployment_id FROM pair")[0]
    indexes = {row[0]: row[1:] for row in ask(database, "SELECT index_id, state, deployment_id FROM indexes")}
    assert indexes[pair[1]][0] == "blue" and indexes[pair[1]][1] == pair[3]
    alive = {row[0] for row in ask(control, "SELECT id FROM deployments WHERE status <> 'inactive'")}
    pins = {row[0].rpartition("/")[2] for row in ask(control, "SELECT holder FROM pins WHERE holder LIKE 'collection:%'")}
    for index_id, (state, deployment) in indexes.items():
        assert deployment in alive, f"the encoder of an index that is {state} is gone"
        assert index_id in pins, f"the index {index_id} has no pin on its encoder (S6)"
    [outbox_id] = ask(control, "SELECT outbox_id FROM collections")[0]
    assert outbox_id <= (ask(database, "SELECT max(id) FROM outbox")[0][0] or 0)  # S4: copied only what was there
    for task_id, status, state_json in ask(control, "SELECT id, status, state_json FROM tasks WHERE kind = 'reindex'"):
        work = json.loads(state_json or "{}").get("work", {})
        if work.get("flipped"):  # recorded here after the flip was made there
            assert pair[0] >= work["epoch"], (task_id, status, pair)
        if pair[2] == task_id:  # flipped there after it was asked for here
            assert work.get("flip_asked"), (task_id, status, work)
    packages = {path.name for path in (folder / "packages" / "sha256").iterdir()}
    for [digest] in ask(control, "SELECT digest FROM packages"):
        assert digest in packages


def test_backups_at_random_moments_of_a_switch_under_load_are_of_one_moment_each(notes, make_slipway, models, tmp_path):
    service, chance = notes.service, random.Random(os.environ.get("SLIPWAY_BACKUP_SEED", "5"))
    names = ["source", "destination"]
    deploy(service, "destination", folders.embedding(models, "destination", dimension=12, seed=2))
    taken, tasks = [], []
    with Writing(notes) as writing:
        for turn in range(5):
            task = notes.begin_reindex(names[(turn + 1) % 2], rollback_window=0, delete_source=False)
            tasks.append(task)
            time.sleep(chance.uniform(0, 0.6) if turn else 0)  # anywhere in it; no verdict rests on where
            acknowledged, deleted = writing.now()
            backup(service, tmp_path / f"backup{turn}")
            with writing.mutex:
                begun = set(writing.begun)
            taken.append((acknowledged, deleted, begun))
            ends(notes, task, ("done", "failed"))
            assert_fits(tmp_path / f"backup{turn}")
    assert not writing.failures
    assert ask(tmp_path / "backup0" / "control.db", "SELECT status FROM tasks WHERE kind = 'reindex'") != [("done",)]
    for turn, (acknowledged, deleted, begun) in enumerate(taken):
        found = documents_in(tmp_path / f"backup{turn}")
        for key, text in acknowledged.items():
            assert found.get(key, text if key in begun and key in writing.deleted else None) == text, key
        assert not set(found) & deleted
        assert set(found) <= begun | {f"d{number}" for number in range(COUNT)}
        assert {f"d{number}" for number in range(COUNT)} <= set(found)
    assert check(service.state)["faults"] == 0
    service.stop()
    # The last one, with its task under way as it was, comes to an end on the restored state.
    restored = restore(make_slipway, tmp_path / "backup4", tmp_path / "restored", rollback_window="60s").start()
    again = on(restored)
    ends(again, tasks[4], ("done", "failed"))
    again.wait_until_searchable("cat sun")
    blue = again.blue()["deployment"]
    assert_whole(again, blue, len(documents_in(tmp_path / "backup4")))
    assert check(restored.state)["faults"] == 0


POINTS = ["index_created", "gate_passed", "switch_recorded", "flip_recorded", "flip_answered"]


def test_a_backup_taken_between_the_steps_of_a_switch_goes_on_from_there_when_restored(make_slipway, tmp_path, models):
    service = paused_service(make_slipway, tmp_path, step_backoff="50ms")
    notes = fill(service, models)
    deploy(service, "destination", folders.embedding(models, "destination", dimension=12, seed=2))
    backups = {}
    for number, name in enumerate(POINTS):
        to = ["destination", "source"][number % 2]
        with service.pauses.at(name) as point:
            task = notes.begin_reindex(to, rollback_window=0, delete_source=False)
            point.reached()
            backup(service, tmp_path / name)
            backups[name] = (task, to)
        ends(notes, task)
        assert_fits(tmp_path / name)
    service.stop()
    for name, (task, to) in backups.items():
        with restore(make_slipway, tmp_path / name, tmp_path / f"restored-{name}", step_backoff="50ms") as restored:
            restored.start()
            again = on(restored)
            ends(again, task)
            again.wait_until_searchable("cat sun")
            assert_whole(again, to)
            restored.stop()


@pytest.fixture
def paused(tmp_path):
    """begin(point, command…): the command, which stands at that point; its point lets it go on."""
    pauses, processes = Pauses(tmp_path / "pauses"), []

    @contextmanager
    def begin(name, *words):
        with pauses.at(name) as point:
            process = subprocess.Popen([PAUSED_PROGRAM, *map(str, words)], stdout=subprocess.DEVNULL,
                                       env=os.environ | {"SLIPWAY_PAUSE_POINTS": str(pauses.folder)})
            processes.append(process)
            assert point.reached() == process.pid
            yield process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_service_that_records_all_the_time_makes_the_moment_be_taken_anew(make_slipway, tmp_path, models, paused):
    """The control database changes between the first read transaction and the last: what was read is thrown away."""
    service = make_slipway().start()
    notes = fill(service, models)
    # Without packages, for which it would take another moment anyway.
    with paused("backup_cutting", "backup", "--without-packages", "--state", service.state, tmp_path / "backup") as process:
        deploy(service, "between", folders.add_one(models, "between"))
        service.create_collection("later", "source")
    assert process.wait(DEADLINE) == 0
    names = {row[0] for row in ask(tmp_path / "backup" / "control.db", "SELECT name FROM collections")}
    assert names == {"notes", "later"} and len(databases(tmp_path / "backup")) == 2
    assert notes.facts()["documents"] == COUNT


@pytest.mark.parametrize("point", ["backup_packages_listed", "backup_databases_written"])
def test_models_that_come_and_go_while_the_backup_is_taken_are_in_it_or_not_as_its_records_say(
        make_slipway, tmp_path, models, paused, point):
    service = make_slipway().start()
    fill(service, models)
    deploy(service, "goes", folders.add_one(models, "goes", amount=3.0))
    before = {path.name for path in (service.state / "packages" / "sha256").iterdir()}
    with paused(point, "backup", "--state", service.state, tmp_path / "backup") as process:
        delete(service, "goes")
        eventually(lambda: before - {path.name for path in (service.state / "packages" / "sha256").iterdir()})
        deploy(service, "comes", folders.add_one(models, "comes", amount=4.0))
    assert process.wait(DEADLINE) == 0
    source = tmp_path / "backup"
    recorded = {row[0] for row in ask(source / "control.db", "SELECT digest FROM packages")}
    assert {path.name for path in (source / "packages" / "sha256").iterdir()} == recorded and len(recorded) == 2
    alive = {row[0] for row in ask(source / "control.db", "SELECT name FROM deployments WHERE status = 'active'")}
    assert alive == {"source", "comes" if point == "backup_packages_listed" else "goes"}
    run("restore", source, "--state", tmp_path / "restored")
    assert check(tmp_path / "restored")["findings"] == []


# ---- what a backup leaves when it does not come to its end


def test_a_killed_backup_leaves_none_and_the_next_one_clears_up_behind_it(notes, tmp_path):
    chance, service, destination = random.Random(3), notes.service, tmp_path / "backup"
    whole = 0
    for _ in range(12):
        process = subprocess.Popen([PROGRAM, "backup", "--state", service.state, destination], stdout=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.001, 0.12))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if destination.exists():  # then it is whole
            run("restore", destination, "--state", tmp_path / f"restored{whole}")
            shutil.rmtree(destination)
            whole += 1
    backup(service, destination)
    assert not (tmp_path / "backup.part").exists()
    run("restore", destination, "--state", tmp_path / "restored-last")
    assert notes.put("after", "sun")["seq"]


def test_a_full_disk_is_a_sentence_and_no_backup(notes, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    done = run("backup", "--state", notes.service.state, place / "backup", expected=3, prefix=in_own_mounts(
        f'mount -t tmpfs -o size=64k none {place}; "$@" && exit 0; status=$?; test -z "$(ls -A {place})" || exit 99; exit $status',
        []))
    assert "disk is full" in done.stderr, done.stderr


@pytest.mark.parametrize("point", ["backup_databases_written", "state_before_rename"])
def test_a_backup_that_is_killed_at_its_end_leaves_none(notes, tmp_path, paused, point):
    with paused(point, "backup", "--state", notes.service.state, tmp_path / "backup") as process:
        process.kill()
        process.wait()
    assert not (tmp_path / "backup").exists() and (tmp_path / "backup.part").exists()
    backup(notes.service, tmp_path / "backup")


@pytest.mark.parametrize("point", ["restore_databases_copied", "state_before_rename"])
def test_a_killed_restore_leaves_none_and_the_next_one_clears_up_behind_it(notes, tmp_path, paused, point):
    backup(notes.service, tmp_path / "backup")
    with paused(point, "restore", tmp_path / "backup", "--state", tmp_path / "restored") as process:
        process.kill()
        process.wait()
    assert not (tmp_path / "restored").exists()
    run("restore", tmp_path / "backup", "--state", tmp_path / "restored")
    assert not (tmp_path / "restored.part").exists() and check(tmp_path / "restored")["findings"] == []


def test_a_full_disk_is_a_sentence_and_no_restored_state(notes, tmp_path):
    backup(notes.service, tmp_path / "backup")
    place = tmp_path / "small"
    place.mkdir()
    done = run("restore", tmp_path / "backup", "--state", place / "state", expected=3, prefix=in_own_mounts(
        f'mount -t tmpfs -o size=64k none {place}; "$@" && exit 0; status=$?; test -z "$(ls -A {place})" || exit 99; exit $status',
        []))
    assert "disk is full" in done.stderr, done.stderr


def test_two_backups_to_one_place_do_not_meet(notes, tmp_path):
    (tmp_path / "backup.part").mkdir()
    descriptor = os.open(tmp_path / "backup.part", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    done = run("backup", "--state", notes.service.state, tmp_path / "backup", expected=5)
    assert "another process" in done.stderr and (tmp_path / "backup.part").exists()
    os.close(descriptor)
    backup(notes.service, tmp_path / "backup")


def test_what_cannot_be_backed_up_or_restored_is_refused_with_a_sentence(notes, tmp_path):
    state = notes.service.state
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "not empty" in run("backup", "--state", state, tmp_path / "full", expected=5).stderr
    assert "no control.db" in run("backup", "--state", tmp_path / "empty", tmp_path / "b", expected=2).stderr
    assert "inside the state folder" in run("backup", "--state", state, state / "b", expected=2).stderr
    assert "no-such" in run("backup", "--state", state, tmp_path / "no-such" / "b", expected=2).stderr
    backup(notes.service, tmp_path / "empty")  # an empty folder gives way
    assert "not empty" in run("restore", tmp_path / "empty", "--state", tmp_path / "full", expected=5).stderr
    assert "not empty" in run("restore", tmp_path / "empty", "--state", state, expected=5).stderr
    assert "no backup" in run("restore", tmp_path / "full", "--state", tmp_path / "r", expected=2).stderr
    assert run("restore", tmp_path / "empty", expected=2).stderr
    assert not (tmp_path / "r").exists() and not (tmp_path / "r.part").exists()


def test_a_flipped_bit_anywhere_in_a_backup_is_refused(notes, tmp_path):
    source = tmp_path / "backup"
    backup(notes.service, source)
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        kept = path.read_bytes()
        if not kept:
            continue
        flip_bit(path, 3 if path.name == "manifest.sha256" else None)
        done = run("restore", source, "--state", tmp_path / "restored", expected=None)
        assert done.returncode and "damaged" in done.stderr, (path, done.stderr)
        assert not (tmp_path / "restored").exists() and not (tmp_path / "restored.part").exists()
        path.unlink()
        assert run("restore", source, "--state", tmp_path / "restored", expected=None).returncode
        path.write_bytes(kept)
    run("restore", source, "--state", tmp_path / "restored")


def test_a_backup_of_a_newer_slipway_is_refused_with_both_versions(notes, tmp_path):
    source = tmp_path / "backup"
    backup(notes.service, source)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["control_schema"] = 99
    text = json.dumps(manifest)
    (source / "manifest.json").write_text(text)
    (source / "manifest.sha256").write_text(hashlib.sha256(text.encode()).hexdigest() + "  manifest.json\n")
    assert "newer Slipway" in run("restore", source, "--state", tmp_path / "restored", expected=2).stderr


# ---- check


def test_check_finds_nothing_on_a_service_that_works_and_says_nothing_wrong_of_a_killed_one(notes, models):
    service = notes.service
    deploy(service, "destination", folders.embedding(models, "destination", dimension=12, seed=2))
    with Writing(notes):
        task = notes.begin_reindex("destination", rollback_window=0, delete_source=False)
        for _ in range(3):
            report = check(service.state)
            assert report["is_running"] and not faults(report), report
        ends(notes, task)
    service.kill("supervisor")
    report = check(service.state)
    assert not report["is_running"] and report["indexes"] >= 1
    assert all(finding["subject"].startswith("socket") for finding in report["findings"]), report
    service.start()
    assert check(service.state)["faults"] == 0


def test_check_finds_what_is_damaged_and_says_what_to_do(notes, tmp_path):
    service = notes.service
    state = service.state
    service.stop()
    assert check(state)["findings"] == []
    pristine = tmp_path / "pristine"
    shutil.rmtree(state / "run")  # sockets cannot be copied
    shutil.copytree(state, pristine, symlinks=True)

    def damaged(damage, name, gravity, expected):
        for path in state.rglob("*"):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(state)
        shutil.copytree(pristine, state, symlinks=True)
        damage()
        report = check(state, expected=expected)
        found = only(name, report)
        assert found["gravity"] == gravity and found["advice"], found
        return found

    [package] = (state / "packages" / "sha256").iterdir()
    [collection] = (state / "collections").iterdir()
    [index] = (collection / "indexes").iterdir()

    def change(database, sql):
        def alter():
            with sqlite3.connect(database) as connection:
                connection.execute(sql)
            connection.close()
        return alter

    def bit_in_package():
        path = next(package.rglob("model.onnx"))
        path.chmod(0o600)
        flip_bit(path)

    found = damaged(bit_in_package, "package", "fault", 1)
    assert "damaged" in found["what"] and "source" in found["advice"]

    def without_package():
        for path in [package, *package.rglob("*")]:
            path.chmod(0o700)
        shutil.rmtree(package)

    found = damaged(without_package, "package", "fault", 1)
    assert "not there" in found["what"]

    def rubbed_page():  # the root of an index of the log
        database = collection / "documents.db"
        [[page]] = ask(database, "SELECT rootpage FROM sqlite_schema WHERE name = 'log_by_id'")
        with open(database, "r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(bytes(range(256)))

    damaged(rubbed_page, "collection notes", "fault", 1)
    damaged(lambda: (state / "control.db").write_bytes(b"rubbish" * 1000), "control.db", "fault", 1)
    found = damaged(lambda: flip_bit(first_row(index), 5), "index", "note", 0)
    assert "checksum" in found["what"] and "builds it again" in found["advice"]
    damaged(lambda: shutil.rmtree(index), "index", "note", 0)
    damaged(lambda: (collection.parent / "0a0a0a0a-0000-4000-8000-000000000000").mkdir(), "folder collections/", "note", 0)
    damaged(lambda: (collection / "indexes" / "0a0a0a0a-0000-4000-8000-000000000000").mkdir(), "folder 0a0a0a0a", "note", 0)
    damaged(lambda: (package.parent / ("0" * 64)).mkdir(), "folder packages/", "note", 0)
    damaged(lambda: (state / "packages" / "incoming" / "somebody").mkdir(), "folder packages/incoming", "note", 0)
    damaged(lambda: shutil.rmtree(collection), "collection notes", "fault", 1)
    damaged(change(state / "control.db", "DELETE FROM pins WHERE subject LIKE 'package:%'"), "deployment source", "fault", 1)
    damaged(change(state / "control.db", "DELETE FROM pins WHERE subject LIKE 'encoder:%'"), "index", "note", 0)
    damaged(change(state / "control.db", f"INSERT INTO pins VALUES ('package:{'0' * 64}', 'task:gone', 'gone', 0)"), "pin of", "note", 0)
    damaged(change(collection / "documents.db", "UPDATE meta SET live = live + 1"), "collection notes", "fault", 1)
    damaged(change(collection / "documents.db", "UPDATE meta SET log_id = 'another'"), "index", "note", 0)
