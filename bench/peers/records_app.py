"""GET /v1/deployments/{id} as a team would write it with FastAPI over SQLite: a row of a table, checked and written by
pydantic. One connection for each thread of the pool; WAL."""

import json
import os
import sqlite3
import threading

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()
local = threading.local()
path = os.path.join(os.environ["HOME"], "records.db")


class Deployment(BaseModel):
    deployment_id: str
    deployment_name: str
    model_uri: str
    status: str
    endpoint_url: str
    deployed_model_version: str
    revision: int
    serving_revision: int
    task_id: str
    tags: dict
    created_at: str
    updated_at: str


def connection():
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(path)
        local.connection.row_factory = sqlite3.Row
    return local.connection


def make():
    with sqlite3.connect(path) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE deployments (deployment_id TEXT PRIMARY KEY, deployment_name TEXT UNIQUE, model_uri TEXT, "
                     "status TEXT, endpoint_url TEXT, deployed_model_version TEXT, revision INTEGER, serving_revision INTEGER, "
                     "task_id TEXT, tags TEXT, created_at TEXT, updated_at TEXT)")
        for number in range(int(os.environ.get("RECORDS", "1"))):
            made.execute("INSERT INTO deployments VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                         (f"00000000-0000-4000-8000-{number:012}", f"d{number}", "file:///models/minilm", "active",
                          f"http://127.0.0.1/v2/models/d{number}", "package:sha256:" + "0" * 64, 1, 1,
                          f"00000000-0000-4000-9000-{number:012}", json.dumps({"team": "search"}),
                          "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"))


make()


@app.get("/v1/deployments/{deployment_id}")
def get(deployment_id: str) -> Deployment:
    row = connection().execute("SELECT * FROM deployments WHERE deployment_id = ?", (deployment_id,)).fetchone()
    if not row:
        raise HTTPException(404)
    return Deployment(**{**dict(row), "tags": json.loads(row["tags"])})


@app.get("/readyz")
def ready():
    return "ok"
