"""What the measurements of collections share: models and texts, filling a collection, re-indexing it, its events."""

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import machine
import service

sys.path.insert(0, str(service.ROOT / "test" / "system"))
import models  # noqa: E402  (the models of the system tests: a table that tokens are looked up in)

TINY_WORDS = [word for word in models.WORDS if word.isalpha()]
TINY_DIMENSION = 32
WORDS = ("the replica that answers now goes on until the next one is ready and then it ends while writes are kept in a log "
         "which every index follows so that a search sees one moment of it a ship slides down the way to the water when "
         "morning comes people read what others wrote about bread rain bicycles and the long road to the sea").split()
LENGTHS = (6, 9, 12, 16, 20, 24, 28, 36, 48, 64, 96, 126)  # words a text: most short, some as long as a model's window


def tiny(folder, name, seed):
    """A model folder whose embedding costs next to nothing."""
    return models.embedding(Path(folder), name, dimension=TINY_DIMENSION, seed=seed)


def tiny_text(random_of):
    return " ".join(random_of.choices(TINY_WORDS, k=8))


def tiny_embed(text, seed):
    """What the tiny model of that seed makes of a text of TINY_WORDS, by numpy."""
    ids = [models.WORDS.index("[CLS]"), *(models.WORDS.index(word) for word in text.split()), models.WORDS.index("[SEP]")]
    return models.embed(ids, dimension=TINY_DIMENSION, seed=seed)


def texts(count, seed=1):
    """Texts of many lengths, the same at each run."""
    random_of = random.Random(seed)
    return [" ".join(random_of.choices(WORDS, k=random_of.choice(LENGTHS))) for _ in range(count)]


def documents(all_texts):
    return [{"id": f"d{number:07}", "text": text, "payload": {"number": number}} for number, text in enumerate(all_texts)]


def ndjson(rows):
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def command_line(slipway, *words, **options):
    """The command line, with the load's niceness; its output."""
    environment = {"SLIPWAY_URL": f"http://127.0.0.1:{slipway.port}"}
    arguments = machine.command(None, [service.PROGRAM, *words])
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"slipway {' '.join(map(str, words))}: {done.stdout} {done.stderr}")
    return done.stdout


def blue(slipway, name):
    return slipway.call("GET", f"/v1/collections/{name}")["blue"]


def until_indexed(slipway, name, deadline=3600):
    def is_there():
        index = blue(slipway, name)
        return index["applied_seq"] >= index["head_seq"] > 0 and index

    return machine.until(is_there, f"{name} is indexed", deadline, pause=0.2)


def fill(slipway, name, rows):
    """Imports documents, and waits until all are indexed."""
    command_line(slipway, "docs", "import", name, "-", input=rows if isinstance(rows, str) else ndjson(rows))
    until_indexed(slipway, name)


def begin_reindex(slipway, name, destination, **fields):
    return slipway.call("POST", f"/v1/collections/{name}/reindex", {"destination": destination, **fields})["task_id"]


def finish_task(slipway, task_id, deadline=3600):
    def ended():
        task = slipway.call("GET", f"/v1/tasks/{task_id}")
        return task["status"] not in ("pending", "processing") and task

    task = machine.until(ended, f"task {task_id} ends", deadline, pause=0.1)
    if task["status"] != "done":
        raise RuntimeError(f"{task['kind']} {task_id} is {task['status']}: {task.get('error') or task.get('detail')}")
    return task


def events(slipway, task_id):
    """(seconds, kind, message) of all events of a task, oldest first: those that the controller made, and those in the
    collections' own databases, which are copied there later. They are kept to the millisecond."""
    databases = [(Path(slipway.state, "control.db"), "events")]
    databases += [(path, "outbox") for path in Path(slipway.state, "collections").glob("*/documents.db")]
    found = []
    for path, name in databases:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            rows = database.execute(f"SELECT at, kind, message FROM {name} WHERE task_id = ?", (task_id,)).fetchall()
        found += [(at / 1e3, kind, message) for at, kind, message in rows]
    return sorted(set(found))


class Peak(threading.Thread):
    """The largest memory of each role while it runs: {role: (own bytes, bytes of mapped files)}."""

    def __init__(self, slipway, pause=0.25):
        super().__init__(daemon=True)
        self.slipway, self.pause, self.ends, self.of = slipway, pause, threading.Event(), {}

    def look(self):
        for pid, role in self.slipway.processes().items():
            try:
                own, mapped = machine.pss_parts(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
            before = self.of.get(role, (0, 0))
            self.of[role] = max(before[0], own), max(before[1], mapped)

    def run(self):
        while not self.ends.wait(self.pause):
            self.look()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.join()
        self.look()
