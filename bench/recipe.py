"""The usual recipe for another embedding model, over Qdrant's client in local mode: a new collection, a script that copies,
dual writes meanwhile, and the swap of an alias.

It is written as its guides have it, and kindly: everything runs in one process, each call on the store is atomic, the clients
learn of each step of the script at once, and nothing crashes. Both contenders embed by the same service."""

import http.client
import json
import threading

from qdrant_client import QdrantClient, models

BATCH = 64
ALIAS = "articles"


class Embedder:
    """Texts to vectors by a deployment; one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, deployment, texts):
        self.connection.request("POST", "/v1/embeddings", json.dumps({"model": deployment, "input": texts}),
                                {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"embed: {answer.status} {said}")
        return [row["embedding"] for row in said["data"]]


class Shared:
    """What the application's configuration and the vector database are to its processes."""

    def __init__(self, port, old, new, dimension):
        self.port, self.old, self.new, self.dimension = port, old, new, dimension  # (deployment, seed) each
        self.lock = threading.RLock()
        self.qdrant = QdrantClient(":memory:")
        self.model, self.dual = old, False  # what queries are embedded by; whether writes go to both
        self.create("articles-1")
        self.point_alias(None, "articles-1")

    def create(self, name):
        with self.lock:
            self.qdrant.create_collection(
                name, vectors_config=models.VectorParams(size=self.dimension, distance=models.Distance.COSINE))

    def point_alias(self, before, name):
        with self.lock:
            operations = [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=ALIAS))]
            if before:
                operations.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=ALIAS)))
            self.qdrant.update_collection_aliases(change_aliases_operations=operations)

    def upsert(self, name, rows):
        points = [models.PointStruct(id=document, vector=vector, payload={"text": text}) for document, vector, text in rows]
        with self.lock:
            self.qdrant.upsert(name, points)

    def migrate(self):
        """The script."""
        embed = Embedder(self.port)
        self.create("articles-2")
        self.dual = True
        offset = None
        while True:
            with self.lock:
                points, offset = self.qdrant.scroll("articles-1", limit=BATCH, offset=offset, with_payload=True)
            texts = [point.payload["text"] for point in points]
            vectors = embed(self.new[0], texts) if texts else []
            self.upsert("articles-2", [(p.id, vector, text) for p, vector, text in zip(points, vectors, texts)])
            if offset is None:
                break
        self.point_alias("articles-1", "articles-2")
        self.model = self.new
        self.dual = False

    def contents(self):
        with self.lock:
            points, _ = self.qdrant.scroll("articles-2", limit=10_000_000, with_payload=True, with_vectors=True)
        return {point.id: (point.payload["text"], point.vector) for point in points}


class Store:
    """What each client of the application does."""

    def __init__(self, shared):
        self.shared, self.embed = shared, Embedder(shared.port)

    def put(self, document, text):
        shared = self.shared
        dual = shared.dual
        vector, = self.embed(shared.model[0], [text])
        shared.upsert(ALIAS, [(document, vector, text)])
        if dual:
            vector, = self.embed(shared.new[0], [text])
            shared.upsert("articles-2", [(document, vector, text)])

    def delete(self, document):
        shared = self.shared
        dual = shared.dual
        for name in (ALIAS, "articles-2") if dual else (ALIAS,):
            with shared.lock:
                shared.qdrant.delete(name, models.PointIdsList(points=[document]))

    def search(self, text):
        shared = self.shared
        deployment, seed = shared.model
        vector, = self.embed(deployment, [text])
        with shared.lock:
            points = shared.qdrant.query_points(ALIAS, query=vector, limit=10, with_payload=True).points
        return seed, [(point.id, point.score, point.payload["text"]) for point in points]
