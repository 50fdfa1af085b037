"""A client that knows what must be there: it writes documents of its own, reads and searches everything, and checks each
answer.

    (a) a search is answered by one encoder that may be blue then, and every score is that encoder's
    (b) no document stands twice in an answer
    (c) what an answer shows never goes back, also from one client to another; it has every write up to its applied_seq
        and none above it, its own with wait=indexed always among them
    (d) nothing fails but for what faults.py excuses
"""

import threading
import time
import traceback

from chaos.faults import INDEXED, SEARCH, WRITE
from chaos.world import TOLERANCE

OWNED = {"main": 40}  # documents of a client, by collection; other collections:
OWNED_ELSEWHERE = 5
BREATH = 0.02  # seconds; what is away is not flooded
PATIENCE = 90.0  # seconds until a read must have told what became of a write


class ModelClient:
    """One client, used by one thread. `owner` is an int that no other client has."""

    def __init__(self, world, owner):
        self.world, self.owner, self.dice = world, owner, world.dice("client", owner)
        self.connection = world.connect()
        self.known = dict.fromkeys(world.collections, 0)  # the highest number seen, by collection
        self.floor = dict.fromkeys(world.collections, 0)  # what every later search must show, by collection

    # ---- asking

    def ask(self, method, watched, path, body=None, headers=()):
        self.world.count("requests")
        return self.connection.ask(method, f"/v1/collections/{watched.name}{path}", body, headers)

    def excused(self, kind, watched, answer, needs_runner=True):
        """Whether the failure had to be; when not, it is a violation."""
        needed = self.world.needed_by(watched, answer) if needs_runner else ()
        if self.world.faults.excuse(kind, answer.began, answer.ended, needed):
            self.world.count("excused failures")
            time.sleep(BREATH)
            return True
        self.world.violate(f"client {self.owner}: a {kind} failed although nothing that it needs was down: {answer}")
        return False

    # ---- writing

    def document(self, watched, number=None):
        count = OWNED.get(watched.name, OWNED_ELSEWHERE)
        return f"{self.owner}-{self.dice.randrange(count) if number is None else number}"

    def content(self, watched):
        text = self.dice.randrange(len(self.world.texts))
        version = watched.ledger.new_version(text)
        return version, {"text": self.world.texts[text], "payload": {"owner": self.owner, "version": version}}

    def put(self, watched, document=None, wait=None):
        """Whether it was answered."""
        document = document or self.document(watched)
        version, body = self.content(watched)
        write = watched.ledger.begin(self.owner, document, version, self.known[watched.name] + 1)
        wait = self.dice.random() < 0.3 if wait is None else wait
        answer = self.ask("PUT", watched, f"/documents/{document}{'?wait=indexed' if wait else ''}", body)
        self.take_write(watched, [write], answer, wait)
        return answer.ok

    def delete(self, watched, document=None):
        document = document or self.document(watched)
        absent = watched.ledger.current(document) == {None}
        write = watched.ledger.begin(self.owner, document, None, self.known[watched.name] + 1)
        wait = self.dice.random() < 0.3
        answer = self.ask("DELETE", watched, f"/documents/{document}{'?wait=indexed' if wait else ''}")
        if answer.status == 404:
            watched.ledger.did_not_happen(write)
            if not absent:
                self.world.violate(f"client {self.owner}: {document} of {watched.name} is lost: {answer}")
        elif answer.ok and absent:
            watched.ledger.did_not_happen(write)
            self.world.violate(f"client {self.owner}: a document that is not there was deleted: {answer}")
        else:
            self.take_write(watched, [write], answer, wait)

    def bulk(self, watched, numbers=None):
        count = OWNED.get(watched.name, OWNED_ELSEWHERE)
        numbers = numbers or self.dice.sample(range(count), min(count, self.dice.randrange(2, 9)))
        writes, lines = [], []
        for number in numbers:
            document = self.document(watched, number)
            living = watched.ledger.current(document) != {None}
            if living and self.dice.random() < 0.2:
                version, line = None, {"delete": True}
            else:
                version, line = self.content(watched)
            writes.append(watched.ledger.begin(self.owner, document, version, self.known[watched.name] + 1))
            lines.append({"id": document, **line})
        wait = self.dice.random() < 0.3
        answer = self.ask("POST", watched, f"/documents{'?wait=indexed' if wait else ''}", {"documents": lines})
        if answer.ok and (answer.json["errors"] or answer.json["accepted"] != len(lines)):
            self.world.violate(f"client {self.owner}: lines of a good list were refused: {answer}")
        self.take_write(watched, writes, answer, wait)

    def take_write(self, watched, writes, answer, waited):
        """What became of writes that were sent together."""
        if not answer.ok:
            # That the index did not follow in time, which takes the whole deadline, is no failure to write.
            self.excused(INDEXED if waited and answer.status == 503 else WRITE, watched, answer)
            for write in writes:
                self.find_out(watched, write)
            return
        seq = answer.json["seq"]
        self.world.count("writes", len(writes))
        watched.ledger.bound(self.owner, seq - len(writes) + 1)  # the first of them has at most this
        for write in writes:
            watched.ledger.happened(write, low=seq if len(writes) == 1 else None, high=seq)
        if seq <= self.known[watched.name]:
            self.world.violate(f"client {self.owner}: a write was given a number that was given before, {seq}: {answer}")
        self.known[watched.name] = max(seq, self.known[watched.name])
        if waited and len(writes) == 1 and answer.json.get("indexed") is not True:
            self.world.violate(f"client {self.owner}: a good text was not indexed: {answer}")
        elif waited:
            self.floor[watched.name] = max(self.floor[watched.name], seq)

    def find_out(self, watched, write):
        """A write was not answered: reads until it is known whether it happened."""
        self.world.count("unanswered writes")
        before = watched.ledger.last(write.document)
        while True:
            answer = self.ask("GET", watched, f"/documents/{write.document}")
            if answer.status in (200, 404):
                break
            if not self.excused(WRITE, watched, answer):
                return  # it stays open: everything is allowed of this document from here on
        version = answer.json["payload"]["version"] if answer.ok else None
        old = before.version if before else None
        if version == write.version and not (version is None and old is None):
            seq = answer.json["seq"] if answer.ok else None
            watched.ledger.happened(write, low=seq, high=seq)
            self.known[watched.name] = max(self.known[watched.name], seq or 0)
        elif version == old:
            watched.ledger.did_not_happen(write)
        else:
            self.world.violate(f"client {self.owner}: {write.document} of {watched.name} has version {version}; {old} or {write.version} was written last")

    # ---- reading

    def read_own(self, watched):
        self.check_read(watched, self.document(watched), own=True)

    def read_other(self, watched):
        documents = watched.ledger.documents()
        if documents:
            self.check_read(watched, self.dice.choice(documents), own=False)

    def check_read(self, watched, document, own):
        since = watched.ledger.count(document)
        answer = self.ask("GET", watched, f"/documents/{document}")
        if answer.status not in (200, 404):
            self.excused(WRITE, watched, answer)
            return
        self.world.count("reads")
        version = answer.json["payload"]["version"] if answer.ok else None
        allowed = watched.ledger.now(document, since)
        if version not in allowed:
            self.world.violate(f"client {self.owner}: a read of {document} of {watched.name} has version {version}, not one of {allowed}: {answer}")
        last = watched.ledger.last(document)
        if own and answer.ok and last and last.version == version and last.low == last.high != answer.json["seq"]:
            self.world.violate(f"client {self.owner}: a read of {document} has another number than its write, {last.low}: {answer}")
        if answer.ok and version in allowed and answer.json["text"] != self.world.texts[watched.ledger.text_of(version)]:
            self.world.violate(f"client {self.owner}: a read of {document} has another text than was written: {answer}")

    # ---- searching

    def search_own(self, watched):
        """All that this client has, by a filter: it is known exactly."""
        self.search(watched, limit=1000, owner=self.owner, by_vector=self.dice.random() < 0.6)

    def search_all(self, watched):
        self.search(watched, limit=self.dice.choice((1, 5, 10, 50, 1000)), by_vector=self.dice.random() < 0.6)

    def search(self, watched, limit, owner=None, by_vector=False):
        """Whether it was answered. A search by vector needs no runner; it names the encoder that made the vector, and is
        told when that is not the blue one."""
        query, asked = self.dice.randrange(len(self.world.queries)), None
        if by_vector:
            asked = self.world.encoders[watched.pairs.blue]
            body = {"vector": asked.vectors[query], "encoder_digest": asked.digest, "limit": limit}
        else:
            body = {"query": self.world.queries[query], "limit": limit}
        if owner is not None:
            body["filter"] = {"and": [{"field": "owner", "eq": owner}]}
        floor = max(self.floor[watched.name], watched.shown())
        answer = self.ask("POST", watched, "/search", body)
        if answer.status == 409 and asked and watched.pairs.between(answer.began, answer.ended) - {asked.name}:
            self.world.count("vectors of another encoder")
            return False
        if not answer.ok:
            self.excused(SEARCH, watched, answer, needs_runner=not by_vector)
            return False
        self.world.count("searches")
        if asked and answer.json["encoder"]["digest"] != asked.digest:
            self.world.violate(f"client {self.owner}: a vector of {asked.name} was compared with another encoder's: {answer}")
        for wrong in self.check_search(watched, query, limit, owner, floor, answer):
            self.world.violate(f"client {self.owner}: search of {watched.name}: {wrong}: {answer}")
        seq = answer.json["applied_seq"]
        watched.show(seq)
        self.known[watched.name] = max(self.known[watched.name], seq)
        return True

    def check_search(self, watched, query, limit, owner, floor, answer):
        found = answer.json
        hits, seq = found["hits"], found["applied_seq"]
        encoder = self.world.by_digest.get(found["encoder"]["digest"])
        wrong = watched.pairs.take(encoder.name, answer.began, answer.ended) if encoder else "the encoder is none that was deployed"
        if wrong:
            yield wrong
        if seq < floor:
            yield f"it shows {seq}, less than what was shown or promised before, {floor}"
        if len({hit["id"] for hit in hits}) != len(hits):
            yield "a document stands in it twice"
        if any(first["score"] < second["score"] for first, second in zip(hits, hits[1:])):
            yield "it is not in the order of the scores"
        for hit in hits:
            yield from self.check_hit(watched, query, owner, seq, encoder, hit)
        if encoder:
            yield from self.check_whole(watched, query, limit, owner, seq, encoder, hits)

    def search_queries(self, watched):
        """Past queries, which are a second set: they are switched together with the documents, to the same encoder."""
        if not watched.keep_queries:
            return
        query, floor = self.dice.randrange(len(self.world.queries)), watched.shown("queries")
        answer = self.ask("POST", watched, "/queries/search", {"query": self.world.queries[query], "limit": 1000})
        if not answer.ok:
            self.excused(SEARCH, watched, answer)
            return
        self.world.count("searches of queries")
        for wrong in self.check_queries(watched, query, floor, answer):
            self.world.violate(f"client {self.owner}: search of queries of {watched.name}: {wrong}: {answer}")
        watched.show(answer.json["applied_seq"], "queries")

    def check_queries(self, watched, query, floor, answer):
        hits, seq = answer.json["hits"], answer.json["applied_seq"]
        encoder = self.world.by_digest.get(answer.json["encoder"]["digest"])
        wrong = watched.pairs.take(encoder.name, answer.began, answer.ended) if encoder else "the encoder is none that was deployed"
        if wrong:
            yield wrong
        if seq < floor:
            yield f"it shows {seq}, less than what was shown before, {floor}"
        if len({hit["payload"]["text"] for hit in hits}) != len(hits):
            yield "a query stands in it twice"
        for hit in hits:
            other = self.world.queries.index(hit["payload"]["text"])
            if encoder and abs(encoder.query_scores[query, other] - hit["score"]) > TOLERANCE:
                yield f"{hit['payload']['text']} has the score {hit['score']}, by {encoder.name} it is {encoder.query_scores[query, other]:.5f}"

    def check_hit(self, watched, query, owner, seq, encoder, hit):
        version = hit["payload"]["version"]
        allowed = watched.ledger.at(hit["id"], seq)
        if version not in allowed:
            yield f"{hit['id']} has version {version}, at {seq} it has one of {allowed}"
        if owner is not None and hit["payload"]["owner"] != owner:
            yield f"{hit['id']} does not pass the filter"
        text = watched.ledger.text_of(version)
        if encoder and text is not None and abs(encoder.scores[query, text] - hit["score"]) > TOLERANCE:
            yield f"{hit['id']} has the score {hit['score']}, by {encoder.name} it is {encoder.scores[query, text]:.5f}"

    def check_whole(self, watched, query, limit, owner, seq, encoder, hits):
        """What must be in the answer: own documents that are known to be there, unless `limit` others are better."""
        shown = {hit["id"] for hit in hits}
        worst = hits[-1]["score"] if len(hits) >= limit else -2
        for document in watched.ledger.documents(self.owner if owner is None else owner):
            versions = watched.ledger.at(document, seq)
            if document in shown or None in versions:
                continue
            if all(encoder.scores[query, watched.ledger.text_of(version)] > worst + TOLERANCE for version in versions):
                yield f"{document} is missing; at {seq} it has one of the versions {versions}"


# What clients do, and how often. As many writes as two processors can embed in two indexes beside the rest: a destination
# that never catches up proves nothing.
WORK = (
    (12, ModelClient.put),
    (4, ModelClient.delete),
    (1, ModelClient.bulk),
    (22, ModelClient.read_own),
    (22, ModelClient.read_other),
    (50, ModelClient.search_own),
    (90, ModelClient.search_all),
    (10, ModelClient.search_queries),
)


class Clients:
    """`count` of them at full speed, each in a thread, from `with` to its end. What ends a thread is a violation."""

    def __init__(self, world, count, aside=0.2):
        """`aside`: how much of the work goes to collections other than the first."""
        self.world, self._aside, self._over = world, aside, threading.Event()
        self.clients = [ModelClient(world, owner) for owner in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in self.clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                self.world.violate("a client hangs")

    def _run(self, client):
        try:
            first, *others = self.world.collections.values()
            for watched in (first, *others):
                count = OWNED.get(watched.name, OWNED_ELSEWHERE)
                client.bulk(watched, list(range(count)))
            weights, work = zip(*WORK)
            while not self._over.is_set():
                watched = client.dice.choice(others) if others and client.dice.random() < self._aside else first
                client.dice.choices(work, weights)[0](client, watched)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the client is no more
            self.world.violate(f"client {client.owner} ended: {failure!r}\n{traceback.format_exc()}")
