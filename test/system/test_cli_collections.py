"""Collections on the command line: what a search team types, what it sees, and the exit statuses that scripts go by."""

import json

import pytest

import models as model
from test_cli import cli

TEXTS = {"a": "hello world", "b": "the ship slides down the way", "c": "a b", "d": "hello ship"}


def lines(documents):
    return "".join(json.dumps({"id": key, "text": text, "payload": {"n": i, "key": key}}) + "\n"
                   for i, (key, text) in enumerate(documents.items()))


def good(service, *words, **options):
    done = cli(service, *words, **options)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def filled(make_slipway, models, tmp_path):
    """A service with the deployment `one` and the collection `docs` of four documents, all indexed."""
    service = make_slipway(rollback_window="60s").start()
    good(service, "deploy", "one", model.embedding(models, "one"), "--wait")
    assert "encoder            one" in good(service, "collection", "create", "docs", "one", "--keep-queries")
    (tmp_path / "documents.ndjson").write_text(lines(TEXTS))
    assert "4 written, up to seq 4" in good(service, "docs", "import", "docs", tmp_path / "documents.ndjson", "--wait")
    return service


@pytest.mark.sanitizer
def test_a_document_is_written_found_shown_and_deleted(filled):
    found = good(filled, "search", "docs", "hello world", "--limit", "1")
    assert found.splitlines()[0].split() == ["SCORE", "ID", "PAYLOAD"]
    assert found.splitlines()[1].split()[:2] == ["1.0000", "a"]
    assert "seq 5, indexed" in good(filled, "docs", "put", "docs", "e", "down the way", "--payload", '{"n": 9}', "--wait")
    assert json.loads(good(filled, "docs", "get", "docs", "e", "--json"))["payload"] == {"n": 9}
    assert good(filled, "docs", "get", "docs", "e").endswith("\n\ndown the way\n")
    assert json.loads(good(filled, "search", "docs", "down the way", "--json"))["hits"][0]["id"] == "e"
    assert "e  seq 6" in good(filled, "docs", "delete", "docs", "e", "--wait")
    assert "e" not in [hit["id"] for hit in json.loads(good(filled, "search", "docs", "down the way", "--json"))["hits"]]
    assert cli(filled, "docs", "get", "docs", "e").returncode == 4


def test_a_filter_comes_from_an_argument_or_a_file(filled, tmp_path):
    wanted = '{"field": "n", "gte": 1, "lt": 3}'
    (tmp_path / "filter.json").write_text(wanted)
    for given in (wanted, f"@{tmp_path}/filter.json"):
        hits = json.loads(good(filled, "search", "docs", "hello", "--filter", given, "--json"))["hits"]
        assert sorted(hit["id"] for hit in hits) == ["b", "c"]
    wrong = cli(filled, "search", "docs", "hello", "--filter", '{"field": "n", "near": 1}')
    assert wrong.returncode == 6 and "near" in wrong.stderr
    assert cli(filled, "search", "docs", "hello", "--filter", "{").returncode == 6


def test_an_import_tells_the_fate_of_each_line(filled, tmp_path):
    (tmp_path / "mixed.ndjson").write_text('{"id": "x", "text": "hello"}\nnonsense\n\n{"id": "y"}\n{"id": "a", "delete": true}\n')
    done = cli(filled, "docs", "import", "docs", tmp_path / "mixed.ndjson")
    assert done.returncode == 1, done.stderr
    assert "2 written" in done.stdout
    assert "line 2: " in done.stderr and "line 4, y: " in done.stderr
    assert "2 lines were not written; the others were" in done.stderr
    as_json = cli(filled, "docs", "import", "docs", "-", "--json", input='{"id": "z"}\n')
    assert json.loads(as_json.stdout) | {"seq": 0} == {"seq": 0, "accepted": 0, "failed": 1, "errors": json.loads(as_json.stdout)["errors"]}
    assert cli(filled, "docs", "import", "docs", tmp_path / "nothing").returncode == 2


def test_what_is_exported_can_be_imported(filled, tmp_path):
    good(filled, "docs", "export", "docs", tmp_path / "out.ndjson")
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "out.ndjson").read_text().splitlines())}
    assert {key: row["text"] for key, row in rows.items()} == TEXTS
    good(filled, "collection", "create", "copy", "one")
    good(filled, "docs", "import", "copy", tmp_path / "out.ndjson", "--wait")
    again = {row["id"]: row for row in map(json.loads, good(filled, "docs", "export", "copy").splitlines())}
    assert {key: (row["text"], row["payload"]) for key, row in again.items()} == \
           {key: (row["text"], row["payload"]) for key, row in rows.items()}


def test_a_reindex_switches_and_a_rollback_comes_back(filled, models):
    two = model.embedding(models, "two", dimension=12, seed=9)
    done = cli(filled, "reindex", "docs", "--to", "two", "--model", two, "--wait")
    assert done.returncode == 0, done.stderr
    assert "encoder            two, revision 1, 12 dimensions" in done.stdout
    assert "can go back to     one, revision 1, 8 dimensions" in done.stdout
    assert "slipway rollback --collection docs" in done.stderr
    answer = json.loads(good(filled, "search", "docs", "hello world", "--json"))
    assert answer["encoder"]["deployment"] == "two" and answer["hits"][0]["id"] == "a"
    states = {row["state"] for row in json.loads(good(filled, "indexes", "docs", "--json")) if row["set"] == "documents"}
    assert states == {"blue", "rollback"}
    assert "rollback" in good(filled, "indexes", "docs")
    assert "encoder            one" in good(filled, "rollback", "--collection", "docs", "--wait")
    assert json.loads(good(filled, "search", "docs", "hello world", "--json"))["encoder"]["deployment"] == "one"


def test_a_reindex_can_stop_before_the_switch(filled, models):
    good(filled, "deploy", "two", model.embedding(models, "two", seed=9), "--wait")
    said = good(filled, "reindex", "docs", "--to", "two", "--no-switch", "--wait")
    index_id = said.split()[1]
    assert f"slipway switch docs {index_id}" in said
    assert json.loads(good(filled, "search", "docs", "hello", "--json"))["encoder"]["deployment"] == "one"
    good(filled, "switch", "docs", index_id, "--window", "0s", "--keep-source", "--wait")
    shown = json.loads(good(filled, "collection", "show", "docs", "--json"))
    assert shown["blue"]["deployment"] == "two" and "rollback" not in shown
    assert cli(filled, "rollback", "--collection", "docs").returncode == 5
    assert "status             active" in good(filled, "status", "one")


def test_a_reindex_that_fails_says_why_and_lists_what_failed(filled, models):
    bad = cli(filled, "reindex", "docs", "--to", "bad", "--model", model.truncated(models), "--wait")
    assert bad.returncode == 1
    assert "is failed: " in bad.stderr
    task = json.loads(good(filled, "tasks", "--collection", "docs", "--kind", "reindex", "--json"))[0]
    assert task["status"] == "failed"
    assert json.loads(good(filled, "tasks", task["task_id"], "--failed-items", "--json")) == []
    assert json.loads(good(filled, "collection", "show", "docs", "--json"))["blue"]["deployment"] == "one"


def test_past_queries_can_be_searched(filled):
    good(filled, "search", "docs", "hello world")
    from slipway import eventually

    def is_kept():
        hits = json.loads(good(filled, "search", "docs", "hello", "--queries", "--json"))["hits"]
        return [hit for hit in hits if hit["payload"]["text"] == "hello world"]

    eventually(is_kept)


def test_every_command_speaks_json(filled, tmp_path):
    for words in (["collection", "list"], ["collection", "show", "docs"], ["indexes", "docs"], ["docs", "get", "docs", "a"],
                  ["docs", "put", "docs", "f", "hello"], ["docs", "delete", "docs", "f"], ["search", "docs", "hello"],
                  ["reindex", "docs", "--to", "one"], ["tasks", "--collection", "docs"],
                  ["collection", "create", "more", "one"], ["collection", "delete", "more", "--wait"]):
        done = cli(filled, *words, "--json")
        assert done.returncode in (0, 1), (words, done.stderr)  # a re-index to what it has is refused
        json.loads(done.stdout)


@pytest.mark.parametrize("words, status", [
    (["collection"], 2),
    (["collection", "creaet", "a", "b"], 2),
    (["collection", "create", "docs"], 2),
    (["collection", "create", "docs", "nobody"], 4),
    (["collection", "create", "../x", "nobody"], 6),
    (["collection", "show", "nobody"], 4),
    (["collection", "delete", "nobody"], 4),
    (["docs", "get", "nobody", "a"], 4),
    (["docs", "put", "nobody", "a", "text"], 4),
    (["docs", "put", "nobody", "a", "text", "--payload", "{"], 6),
    (["docs", "export", "nobody"], 4),
    (["search", "nobody", "text"], 4),
    (["search", "nobody", "text", "--limit", "many"], 2),
    (["reindex", "nobody"], 2),
    (["reindex", "nobody", "--to", "x"], 4),
    (["reindex", "nobody", "--to", "x", "--window", "soon"], 2),
    (["reindex", "nobody", "--to", "x", "--max-failed", "1.5"], 2),
    (["reindex", "nobody", "--to", "x", "--min-overlap", "10"], 2),
    (["reindex", "nobody", "--to", "x", "--model", "/nowhere"], 2),
    (["switch", "nobody", "x"], 4),
    (["rollback"], 2),
    (["rollback", "a", "--collection", "b"], 2),
    (["rollback", "--collection", "nobody"], 4),
    (["tasks", "nobody", "--failed-items"], 4),
])
def test_exit_statuses_are_those_of_the_help(slipway, words, status):
    done = cli(slipway, *words)
    assert done.returncode == status, done.stderr
    assert done.stderr or words == ["collection"]


def test_help_names_every_command_of_a_group():
    for group, names in (("collection", "create list show delete"), ("docs", "put import export get delete")):
        listing = cli(None, group, "--help")
        assert listing.returncode == 0
        for name in names.split():
            assert f"  {group} {name} " in listing.stdout
            assert f"  {group} {name} " in cli(None, "help").stdout
            assert "usage: slipway " in cli(None, group, name, "--help").stdout
    done = cli(None, "docs", "exprot", "a")
    assert done.returncode == 2 and "did you mean export?" in done.stderr
