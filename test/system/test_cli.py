"""The command line as a person or a script meets it: results on stdout, progress and errors on stderr, exit statuses."""

import json
import os
import pty
import subprocess

import pytest

import models as model
from slipway import PROGRAM


def cli(service, *words, environment=None, **options):
    environment = {**os.environ, "SLIPWAY_URL": service.url if service else "http://127.0.0.1:1", **(environment or {})}
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=120, env=environment, **options)


@pytest.mark.sanitizer
def test_deploy_and_embed_in_one_line(slipway, models):
    deployed = cli(slipway, "deploy", "one", model.embedding(models), "--wait")
    assert deployed.returncode == 0, deployed.stderr
    assert "status             active" in deployed.stdout
    assert f"{slipway.url}/v2/models/one" in deployed.stdout
    embedded = cli(slipway, "embed", "one", "hello", "--output", "json")
    assert embedded.returncode == 0, embedded.stderr
    assert len(json.loads(embedded.stdout)[0]) == 8


def test_a_relative_path_becomes_an_absolute_uri(slipway, models):
    folder = model.embedding(models)
    done = cli(slipway, "deploy", "one", folder.name, "--wait", "--output", "json", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model_uri"] == f"file://{folder}"


def test_a_model_that_is_not_here_is_said_at_once(slipway, models):
    done = cli(slipway, "deploy", "one", models / "nothing")
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr
    assert slipway.client.get("/v1/deployments").json() == []


def test_every_command_speaks_json(slipway, models):
    assert cli(slipway, "deploy", "one", model.embedding(models), "--wait", "--output", "json").returncode == 0
    for words in (["status", "one"], ["list"], ["tasks"], ["events", "one"], ["processes"], ["wait", "one"], ["version"],
                  ["update", "one", "--tags", '{"a": 1}', "--wait"], ["restart", "one", "--wait"], ["delete", "one", "--wait"]):
        done = cli(slipway, *words, "--output", "json")
        assert done.returncode == 0, (words, done.stderr)
        json.loads(done.stdout)


def test_update_without_a_uri_changes_replicas_and_with_one_makes_a_revision(slipway, models):
    one, two = model.embedding(models, "one"), model.embedding(models, "two", seed=8)
    assert cli(slipway, "deploy", "m", one, "--wait").returncode == 0
    scaled = cli(slipway, "update", "m", "--replicas", "2", "--wait", "--output", "json")
    assert json.loads(scaled.stdout)["revision"] == 1 and json.loads(scaled.stdout)["replicas"] == 2
    replaced = cli(slipway, "update", "m", two, "--wait", "--output", "json")
    assert json.loads(replaced.stdout)["serving_revision"] == 2 and json.loads(replaced.stdout)["replicas"] == 2
    back = cli(slipway, "rollback", "m", "--wait", "--output", "json")
    assert json.loads(back.stdout)["serving_revision"] == 1


def test_infer_reads_json_from_an_argument_a_file_and_stdin(slipway, models, tmp_path):
    assert cli(slipway, "deploy", "add", model.add_one(models), "--wait").returncode == 0
    request = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})
    (tmp_path / "request.json").write_text(request)
    name = slipway.client.get("/v2/models/add").json()["inputs"][0]["name"]
    request = request.replace('"x"', f'"{name}"')
    (tmp_path / "request.json").write_text(request)
    for words, given in (([request], None), ([f"@{tmp_path}/request.json"], None), (["-"], request)):
        done = cli(slipway, "infer", "add", *words, input=given)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outputs"][0]["data"] == [2, 3, 4, 5]


@pytest.mark.parametrize("words, status", [
    (["status", "nobody"], 4),
    (["deploy", "one", "/etc"], 6),
    (["deploy", "../x", "/etc"], 6),
    (["list", "--limit", "0"], 6),
    (["list", "--limit", "many"], 2),
    (["list", "--offset"], 2),
    (["status"], 2),
    (["status", "a", "b"], 2),
    (["deploy", "one", "/etc", "--memory", "lots"], 2),
])
def test_exit_statuses_are_those_of_the_help(slipway, words, status):
    done = cli(slipway, *words)
    assert done.returncode == status, done.stderr
    assert done.stderr and not done.stdout


def test_exit_statuses_without_a_service_with_a_wrong_token_and_of_a_failed_deployment(make_slipway, models):
    assert cli(None, "list").returncode == 3
    service = make_slipway(token="secret").start()
    assert cli(service, "list").returncode == 7
    assert cli(service, "list", environment={"SLIPWAY_TOKEN": "secret"}).returncode == 0
    assert cli(service, "list", "--token", "secret").returncode == 0
    failed = cli(service, "deploy", "bad", model.truncated(models), "--wait", "--token", "secret")
    assert failed.returncode == 1
    assert "is failed:" in failed.stderr
    taken = cli(service, "deploy", "bad", model.embedding(models), "--token", "secret")
    assert taken.returncode == 5


@pytest.mark.parametrize("words, suggestion", [
    (["delpoy", "a", "b"], "did you mean deploy?"),
    (["stauts", "a"], "did you mean status?"),
    (["deploy", "a", "b", "--wiat"], "did you mean --wait?"),
    (["list", "--limt=3"], "did you mean --limit?"),
])
def test_what_is_mistyped_is_suggested(words, suggestion):
    done = cli(None, *words)
    assert done.returncode == 2
    assert suggestion in done.stderr


def test_help_names_every_command_and_its_flags():
    listing = cli(None, "help")
    assert listing.returncode == 0
    for name in "serve runner deploy update status list rollback restart delete wait infer embed tasks events processes version".split():
        assert f"  {name} " in listing.stdout
        shown = cli(None, name, "--help")
        assert shown.returncode == 0, shown.stderr
        assert "--" in shown.stdout


def test_errors_are_json_when_asked_for(slipway):
    done = cli(slipway, "status", "nobody", "--output", "json")
    assert json.loads(done.stderr)["error"] == "ResourceNotFoundError"


def test_wait_gives_up_after_its_timeout_with_its_own_status(slipway, models):
    cli(slipway, "deploy", "slow", model.slow(models, rounds=20000))
    done = cli(slipway, "wait", "slow", "--timeout", "300ms")
    assert done.returncode == 8, (done.stdout, done.stderr)


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(slipway, models):
    plain = cli(slipway, "deploy", "one", model.embedding(models), "--wait")
    assert "\x1b" not in plain.stderr
    environment = {**os.environ, "SLIPWAY_URL": slipway.url, "NO_COLOR": "1"}
    near, far = pty.openpty()
    with subprocess.Popen([PROGRAM, "deploy", "two", str(model.slow(models)), "--wait"], stdout=subprocess.PIPE, stderr=far,
                          env=environment) as process:
        os.close(far)
        shown = b""
        try:
            while piece := os.read(near, 4096):
                shown += piece
        except OSError:
            pass  # the terminal's other end is closed
        process.stdout.read()
    assert process.returncode == 0, shown
    assert b"\x1b[32m" not in shown
