"""The same clients before every contender: they write, delete and search at full speed, each knows what must be there, and
afterwards it is counted what is not so.

A store has put(id, text), delete(id), search(text) -> (seed, [(id, score, text)]), where seed is the tiny model that embedded
the query, and contents() -> {id: (text, vector)}. Ids are whole numbers; each client writes its own."""

import random
import threading
import time

import numpy as np

import articles

CLIENTS = 6
LATE = 2.0  # seconds after which no search may show what was deleted


class Client(threading.Thread):
    def __init__(self, make_store, number, ids):
        super().__init__(daemon=True)
        self.make_store, self.random, self.ids = make_store, random.Random(number), ids
        self.truth = {}  # id: text; what was acknowledged
        self.deleted = {}  # id: when; those that are not there any more
        self.searches = self.writes = self.mixed = self.twice = self.ghosts = 0
        self.failed, self.ends = [], False

    def run(self):
        store = self.make_store()
        while not self.ends:
            try:
                self.act(store)
            except Exception as error:  # noqa: BLE001  (whatever it is, it is counted)
                self.failed.append(f"{type(error).__name__}: {error}"[:200])
                time.sleep(0.01)

    def act(self, store):
        choice = self.random.random()
        if choice < 0.4:
            self.search(store)
            return
        document = self.random.choice(self.ids)
        self.writes += 1
        if choice < 0.85 or document not in self.truth:
            text = articles.tiny_text(self.random)
            store.put(document, text)
            self.truth[document] = text
            self.deleted.pop(document, None)
        else:
            store.delete(document)
            del self.truth[document]
            self.deleted[document] = time.monotonic()

    def search(self, store):
        self.searches += 1
        begin = time.monotonic()
        query = articles.tiny_text(self.random)
        seed, hits = store.search(query)
        found = [document for document, _, _ in hits]
        self.twice += len(found) != len(set(found))
        self.ghosts += any(begin - self.deleted.get(document, begin) > LATE for document in found)
        vector = articles.tiny_embed(query, seed)
        wrong = [1 for _, score, text in hits if abs(float(vector @ articles.tiny_embed(text, seed)) - score) > 1e-3]
        self.mixed += bool(wrong)


def fill(make_store, clients):
    """Every client's documents are there before it begins."""
    store = make_store()
    random_of = random.Random(0)
    for client in clients:
        for document in client.ids:
            text = articles.tiny_text(random_of)
            store.put(document, text)
            client.truth[document] = text


def run(make_store, count, change):
    """Fills, lets the clients run around change(), which changes the model; the clients."""
    share = count // CLIENTS
    clients = [Client(make_store, number, range(number * share, (number + 1) * share)) for number in range(CLIENTS)]
    fill(make_store, clients)
    for client in clients:
        client.start()
    time.sleep(1)
    change()
    time.sleep(1)
    for client in clients:
        client.ends = True
    for client in clients:
        client.join()
    return clients


def judge(clients, contents, seed):
    """What is there against what must be there; the model of `seed` must have made every vector."""
    counts = dict.fromkeys(("missing", "stale", "returned", "foreign"), 0)
    truth = {document: text for client in clients for document, text in client.truth.items()}
    for document, text in truth.items():
        if document not in contents:
            counts["missing"] += 1
            continue
        there, vector = contents[document]
        unit = np.asarray(vector) / np.linalg.norm(vector)
        if there != text:
            counts["stale"] += 1
        elif float(unit @ articles.tiny_embed(text, seed)) < 0.999:
            counts["foreign"] += 1
    counts["returned"] = sum(document not in truth for document in contents)
    for name in ("searches", "writes", "mixed", "twice", "ghosts"):
        counts[name] = sum(getattr(client, name) for client in clients)
    counts["failed"] = [text for client in clients for text in client.failed]
    return counts
