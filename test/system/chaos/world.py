"""What clients, faults and the scenario of one run share: the collections under check, the violations, the counters."""

import random
import threading
import time
from collections import Counter

from chaos.asking import Connection
from chaos.encoders import measure, sentences
from chaos.faults import Faults
from chaos.ledger import Ledger
from chaos.pairs import Pairs

VIOLATIONS_MAXIMUM = 100  # more say nothing new
TOLERANCE = 2e-3  # of a score: what texts in one batch change at most; two encoders differ by more somewhere in an answer


class Watched:
    """One collection under check. `encoder` is a name of world.encoders; so are those in its pairs."""

    def __init__(self, name, encoder, keep_queries):
        self.name, self.ledger, self.pairs = name, Ledger(), Pairs(encoder, time.monotonic())
        self.keep_queries = keep_queries
        self._lock, self._shown = threading.Lock(), {"documents": 0, "queries": 0}

    def shown(self, of="documents"):
        """The highest number that an answer which has ended has shown of a set."""
        with self._lock:
            return self._shown[of]

    def show(self, seq, of="documents"):
        with self._lock:
            self._shown[of] = max(self._shown[of], seq)


class World:
    """`encoders`: names of chaos.encoders.MODELS (or name to folder); their runners are asked here."""

    def __init__(self, service, seed, encoders, texts=300, queries=40):
        self.service, self.seed, self.faults = service, seed, Faults()
        self.texts, self.queries = sentences(texts, seed), sentences(queries, seed + 1)
        self.encoders = {name: measure(name, folder, self.queries, self.texts, service.folder / f"reference-{name}.log")
                         for name, folder in encoders.items()}
        self.by_digest = {encoder.digest: encoder for encoder in self.encoders.values()}
        self.deployments = {name: set() for name in encoders}  # names under which an encoder is or was deployed
        self.collections = {}
        self.began = time.monotonic()
        self._lock, self.counts, self.violations, self.violation_count = threading.Lock(), Counter(), [], 0

    def dice(self, *what):
        """Chance of its own for each part, so that one does not change another's."""
        return random.Random("/".join(map(str, (self.seed, *what))))

    def connect(self):
        return Connection(self.service.host, self.service.port)

    def watch(self, name, encoder, keep_queries=False):
        """A collection that is on that encoder, and empty."""
        self.collections[name] = Watched(name, encoder, keep_queries)
        return self.collections[name]

    def count(self, what, number=1):
        with self._lock:
            self.counts[what] += number

    def violate(self, what):
        with self._lock:
            self.violation_count += 1
            if len(self.violations) < VIOLATIONS_MAXIMUM:
                self.violations.append(f"{time.monotonic() - self.began:.2f} s: {what}")
                print(f"VIOLATION at {self.violations[-1]}", flush=True)

    def needed_by(self, watched, answer):
        """The deployments whose runners a search then may have needed."""
        names = watched.pairs.between(answer.began, answer.ended)
        return set().union(*(self.deployments[name] for name in names))
