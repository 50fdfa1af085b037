"""The switch itself: how long it takes and what fails; and the usual recipe beside it, before the same clients."""

import http.client
import json
import tempfile

import articles
import driver
import machine
import recipe
import service
from report import spread, table

OLD, NEW = ("old", 1), ("new", 2)  # deployment, and the seed of its tiny model
GOAL_MS = 50


class Store:
    """Slipway, as a client of its own connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, method, path, body=None):
        self.connection.request(method, f"/v1/collections/articles{path}", json.dumps(body) if body is not None else None,
                                {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:150]!r}")
        return json.loads(text)

    def put(self, document, text):
        self.call("PUT", f"/documents/{document}", {"text": text, "payload": {"text": text}})

    def delete(self, document):
        self.call("DELETE", f"/documents/{document}")

    def search(self, text):
        said = self.call("POST", "/search", {"query": text, "limit": 10})
        seed = dict((OLD, NEW))[said["encoder"]["deployment"]]
        return seed, [(int(hit["id"]), hit["score"], hit["payload"]["text"]) for hit in said["hits"]]

    def contents(self):
        """Every document with its vector, by one search without an end."""
        said = self.call("POST", "/search", {"query": "hello", "limit": 10000, "with_vector": True})
        return {int(hit["id"]): (hit["payload"]["text"], hit["vector"]) for hit in said["hits"]}


def fence_to_last_gateway(slipway, task_id):
    """Milliseconds from the fence to the last gateway's word that it and all its requests use the new pair."""
    seen = articles.events(slipway, task_id)
    fence = [at for at, _, message in seen if message.startswith("switching ")]
    over = [at for at, kind, message in seen if kind == "task_step" and message == "finish"]
    return (over[-1] - fence[-1]) * 1e3


def there_and_back(slipway, times, switches):
    """The re-index, and then the pair goes back and forth."""
    task_id = articles.begin_reindex(slipway, "articles", "new", rollback_window=3600)
    articles.finish_task(slipway, task_id)
    switches.append(fence_to_last_gateway(slipway, task_id))
    for _ in range(times):
        task_id = slipway.call("POST", "/v1/collections/articles/rollback", {})["task_id"]
        articles.finish_task(slipway, task_id)
        switches.append(fence_to_last_gateway(slipway, task_id))


def with_slipway(slipway, count, times):
    slipway.call("POST", "/v1/collections", {"name": "articles", "deployment": "old"})
    switches = []
    clients = driver.run(lambda: Store(slipway.port), count, lambda: there_and_back(slipway, times, switches))
    articles.until_indexed(slipway, "articles")
    return driver.judge(clients, Store(slipway.port).contents(), NEW[1]), switches


def with_recipe(slipway, count):
    shared = recipe.Shared(slipway.port, OLD, NEW, articles.TINY_DIMENSION)
    clients = driver.run(lambda: recipe.Store(shared), count, shared.migrate)
    return driver.judge(clients, shared.contents(), NEW[1])


def measure(count, times):
    """`times` is even, so that the new model is blue in the end."""
    count, times = min(count, 9000), times + times % 2
    with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=service.BUILD) as folder:
        with service.Service(core=None) as slipway:
            for name, seed in (OLD, NEW):
                slipway.deploy(name, articles.tiny(folder, name, seed))
            print("bench: the switch under load", flush=True)
            own, switches = with_slipway(slipway, count, times)
            print("bench: the usual recipe under load", flush=True)
            theirs = with_recipe(slipway, count)
    return render(own, theirs, switches, count)


QUESTIONS = (
    ("missing", "acknowledged documents that are missing"),
    ("stale", "acknowledged documents with an older text"),
    ("returned", "deleted documents that are back"),
    ("foreign", "documents with the other model's vector"),
    ("mixed", "searches that compared two models' vectors"),
    ("ghosts", f"searches that showed a document deleted {driver.LATE:.0f} s before"),
    ("twice", "searches that showed a document twice"),
)


def render(own, theirs, switches, count):
    rows = [[text, f"**{own[name]}**", theirs[name]] for name, text in QUESTIONS]
    rows.append(["requests that failed", f"**{len(own['failed'])}**", len(theirs["failed"])])
    rows.append(["searches, writes meanwhile", *(f"{r['searches']}, {r['writes']}" for r in (own, theirs))])
    failed = "; ".join((own["failed"] + theirs["failed"])[:3])
    return f"""## The switch, and the usual recipe beside it

{driver.CLIENTS} clients write, delete and search at full speed in {count} documents, each knowing what must be there, while all of
them are embedded by another model (of the same dimension, so that mixed vectors raise no error) and the switch is made; Slipway's
then goes back and forth {len(switches) - 1} more times. From the fence to the last gateway's word that it uses the new pair, and none
of its requests the old one: {spread(switches, "ms")}, goal < {GOAL_MS} ms.

Beside it the usual recipe over a vector store from PyPI (Qdrant's client in local mode): a new collection, a script that
copies batch by batch, dual writes meanwhile, the swap of an alias. It is played kindly: one process, atomic calls, every client
learns of each step at once, and nothing crashes (`bench/recipe.py`).

{table(["", "Slipway", "the recipe"], rows)}
{chr(10) + "Failures: " + failed + chr(10) if failed else ""}"""
