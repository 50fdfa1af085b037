"""A collection of the service under test, as its clients see it.

    notes = service.create_collection("notes", deployment="minilm")      # waits until it can be written and searched
    notes.put("a", "a text", {"lang": "en"}, wait=True)                  # {"id", "seq", "indexed": True}
    notes.bulk([{"id": "b", "text": "another"}, {"id": "a", "delete": True}])
    notes.search("text", limit=3, filter={"field": "lang", "eq": "en"})  # {"hits", "encoder", "applied_seq"}
    notes.reindex("other-model", rollback_window=5)                      # waits for the task; notes.begin_reindex() does not
    notes.rollback(); notes.switch(index_id); notes.blue(); notes.indexes(); notes.export(); notes.delete_collection()

Every call asserts the status that it should have; what a test wants to see refused it asks of notes.client itself, at
notes.path. wait=True is ?wait=indexed.
"""

import json
from urllib.parse import quote

from slipway import DEADLINE, eventually


def answered(answer, status):
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()


def document_path(collection, document):
    return f"/v1/collections/{quote(collection, safe='')}/documents/{quote(document, safe='')}"


class Collection:
    def __init__(self, service, name, client=None):
        """`client`: another httpx.Client than the service's own, for threads."""
        self.service, self.name, self.client = service, name, client or service.client

    @property
    def path(self):
        return f"/v1/collections/{self.name}"

    # ---- documents

    def put(self, document, text, payload=None, wait=False, status=200):
        body = {"text": text} | ({} if payload is None else {"payload": payload})
        return answered(self.client.put(document_path(self.name, document), json=body, params=waiting(wait), timeout=DEADLINE), status)

    def get(self, document, status=200):
        return answered(self.client.get(document_path(self.name, document)), status)

    def delete(self, document, wait=False, status=200):
        return answered(self.client.delete(document_path(self.name, document), params=waiting(wait), timeout=DEADLINE), status)

    def bulk(self, documents, wait=False, ndjson=True):
        """{"seq", "accepted", "errors"}"""
        if ndjson:
            body = {"content": "".join(json.dumps(document) + "\n" for document in documents),
                    "headers": {"Content-Type": "application/x-ndjson"}}
        else:
            body = {"json": {"documents": list(documents)}}
        return answered(self.client.post(f"{self.path}/documents", params=waiting(wait), timeout=DEADLINE, **body), 200)

    def export(self):
        """Every document, by id."""
        answer = self.client.get(f"{self.path}/documents", timeout=DEADLINE)
        assert answer.status_code == 200, answer.text
        documents = [json.loads(line) for line in answer.text.splitlines() if line]
        by_id = {document["id"]: document for document in documents}
        assert len(by_id) == len(documents), "the export has a document twice"
        return by_id

    # ---- searching

    def search(self, query=None, **fields):
        """By text, or by vector=… with digest=…; limit, offset, filter, with_payload, with_vector."""
        body = fields if query is None else {"query": query, **fields}
        return answered(self.client.post(f"{self.path}/search", json=body, timeout=DEADLINE), 200)

    def hits(self, query=None, **fields):
        """The ids, best first."""
        return [hit["id"] for hit in self.search(query, **fields)["hits"]]

    def search_queries(self, query, **fields):
        return answered(self.client.post(f"{self.path}/queries/search", json={"query": query, **fields}), 200)

    # ---- the pair and its indexes

    def facts(self):
        return answered(self.client.get(self.path), 200)

    def blue(self):
        return self.facts()["blue"]

    def indexes(self, state=None, set="documents"):
        found = answered(self.client.get(f"{self.path}/indexes", params={"limit": 1000}), 200)
        return [index for index in found if index.get("set") == set and state in (None, index["state"])]

    def begin_reindex(self, destination, status=202, **fields):
        """The task, as it is at its beginning."""
        return answered(self.client.post(f"{self.path}/reindex", json={"destination": destination, **fields}), status)

    def begin_rollback(self, status=202):
        return answered(self.client.post(f"{self.path}/rollback"), status)

    def begin_switch(self, index_id, status=202, **fields):
        return answered(self.client.post(f"{self.path}/switch", json={"index_id": index_id, **fields}), status)

    def reindex(self, destination, expected="done", **fields):
        return self.finish(self.begin_reindex(destination, **fields), expected)

    def rollback(self, expected="done"):
        return self.finish(self.begin_rollback(), expected)

    def switch(self, index_id, expected="done", **fields):
        return self.finish(self.begin_switch(index_id, **fields), expected)

    def finish(self, task, expected="done", deadline=DEADLINE):
        """Waits for the task's end; the task."""
        answer = self.client.get(f"/v1/tasks/{task['task_id']}/wait", params={"timeout": int(deadline)}, timeout=deadline + 10)
        finished = answered(answer, 200)
        assert expected in (None, finished["status"]), finished
        return finished

    def failed_items(self, task):
        return answered(self.client.get(f"/v1/tasks/{task['task_id']}/failed-items", params={"limit": 1000}), 200)

    # ---- the whole

    def wait_until_searchable(self, probe="anything", deadline=DEADLINE):
        eventually(lambda: self.search(probe, limit=1), deadline, f"the collection {self.name} can be searched")
        return self

    def wait_until_caught_up(self, deadline=DEADLINE):
        """Until every index that follows the log has applied all of it; the indexes."""
        def is_caught_up():
            indexes = [index for index in self.indexes() if index["state"] not in ("failed", "deleting")]
            return indexes if all(index["applied_seq"] == index["head_seq"] for index in indexes) else None

        return eventually(is_caught_up, deadline, f"the indexes of {self.name} have caught up")

    def delete_collection(self):
        return self.finish(answered(self.client.delete(self.path), 202))


def waiting(wait):
    return {"wait": "indexed"} if wait else {}
