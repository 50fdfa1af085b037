"""`slipway completion`: the scripts in the shells that they are for."""

import os
import pty
import re
import select
import subprocess
import time

import pytest

import models as model
from slipway import PROGRAM, ROOT
from test_manual import commands, flags, roles, runner_flags, settings

SHELLS = ["bash", "zsh", "fish"]

# Each prints what there is for every line of words (separated by tabs) on stdin, after a line "> WORDS".
ASKERS = {
    "bash": """
source <("$SLIPWAY" completion bash)
while IFS= read -r line; do
  IFS=$'\\t' read -r -a COMP_WORDS <<<"$line."
  COMP_WORDS[-1]=${COMP_WORDS[-1]%.}
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  echo "> $line"
  _slipway
  printf '%s\\n' "${COMPREPLY[@]}"
done
""",
    # Outside of a completion its own functions cannot be called; what they would be given is printed.
    "zsh": """
compdef() { : }
_files() { print -l -- *(N) }
_describe() { for entry in "${(@P)@[-1]}"; do entry=${entry//\\\\:/$'\\1'}; print -r -- ${${entry%%:*}//$'\\1'/:}; done }
source <("$SLIPWAY" completion zsh)
while IFS= read -r line; do
  words=("${(@ps:\\t:)line}")
  CURRENT=$#words
  print -r -- "> $line"
  _slipway
done
""",
    "fish": """
$SLIPWAY completion fish | source
while read -l line
  echo "> $line"
  complete -C (string join -- ' ' (string escape -n -- (string split \\t -- $line))) | string replace -r '\\t.*' ''
end
""",
}


def ask(shell, lines, environment=None, folder=None):
    """For each line (words, the last of them incomplete) the set of what the shell offers."""
    path = f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLIPWAY": PROGRAM, "SLIPWAY_URL": "http://127.0.0.1:1", **(environment or {})}
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run([shell, *options, "-c", ASKERS[shell]], input="".join("\t".join(words) + "\n" for words in lines),
                          capture_output=True, text=True, timeout=120, env=environment, cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    answers = re.split(r"^> .*\n", done.stdout, flags=re.M)[1:]
    assert len(answers) == len(lines), (done.stdout[-1000:], done.stderr[-1000:])
    return [set(answer.split("\n")) - {""} for answer in answers]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_offered(shell):
    groups = sorted({name.split()[0] for name, *_ in commands() if " " in name})
    first, *inner = ask(shell, [["slipway", ""], *(["slipway", group, ""] for group in groups)])
    assert first == {name.split()[0] for name, *_ in commands()} | set(roles()) | {"help"}
    for group, offered in zip(groups, inner):
        assert offered == {name.split()[1] for name, *_ in commands() if name.startswith(f"{group} ")}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_flag_of_every_command_is_offered(shell):
    table = flags()
    lines = [["slipway", *name.split(), "--"] for name, *_ in commands()]
    for (name, _, _, taken), offered in zip(commands(), ask(shell, lines)):
        assert offered == {table[flag][0] for flag in taken}, name
    serve, runner = ask(shell, [["slipway", "serve", "--"], ["slipway", "runner", "--"]])
    assert serve == {"--" + name.replace("_", "-") for name in settings()} | {"--settings"}
    assert runner == {f"--{flag}" for flag in runner_flags()}


@pytest.mark.parametrize("shell", SHELLS)
def test_values_and_files_are_offered(shell, tmp_path):
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "models").mkdir()
    output, strategy, tasks, deployments, kinds, sandbox, which, files, boolean = ask(shell, [
        ["slipway", "list", "--output", ""],
        ["slipway", "deploy", "--wait", "--strategy", "re"],
        ["slipway", "tasks", "--status", ""],
        ["slipway", "list", "--status", "a"],
        ["slipway", "tasks", "--kind", "re"],
        ["slipway", "runner", "--sandbox", ""],
        ["slipway", "completion", ""],
        ["slipway", "deploy", "one", "mod"],
        ["slipway", "serve", "--access-log", ""],
    ], folder=tmp_path)
    assert output == {"text", "json"}
    assert strategy == {"recreate"}
    assert {"pending", "done", "refused"} <= tasks and "active" not in tasks
    assert deployments == {"active"}
    assert kinds == {"restart", "retire", "reindex"}
    assert sandbox == {"on", "off"}
    assert which == set(SHELLS)
    assert {name.rstrip("/") for name in files} == {"model.onnx", "models"}
    assert boolean == {"true", "false"}


@pytest.mark.parametrize("shell", SHELLS)
def test_names_come_from_the_service(shell, slipway, models):
    slipway.deploy("encoder", model.embedding(models))
    slipway.create_collection("notes", "encoder")
    environment = {"SLIPWAY_URL": slipway.url}
    status, flag, search, show = ask(shell, [["slipway", "status", ""], ["slipway", "reindex", "notes", "--to", "enc"],
                                             ["slipway", "search", ""], ["slipway", "collection", "show", "n"]], environment)
    assert (status, flag, search, show) == ({"encoder"}, {"encoder"}, {"notes"}, {"notes"})


def test_a_service_that_is_not_there_is_passed_over_in_silence():
    done = subprocess.run([PROGRAM, "__complete", "status", ""], capture_output=True, text=True, timeout=20,
                          env={**os.environ, "SLIPWAY_URL": "http://127.0.0.1:1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bash_takes_values_behind_an_equals_sign():
    """It gives the sign as a word of its own."""
    assert ask("bash", [["slipway", "list", "--output", "=", "js"], ["slipway", "list", "--output", "="]]) == [
        {"json"}, {"text", "json"}]


def test_zsh_completes_on_a_terminal():
    """With its real functions: a word is completed by a tab."""
    environment = {**os.environ, "PATH": f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
    near, far = pty.openpty()
    zsh = subprocess.Popen(["zsh", "-f", "-i"], stdin=far, stdout=far, stderr=far, env=environment, start_new_session=True)
    os.close(far)
    try:
        os.write(near, b"unsetopt zle_bracketed_paste; autoload -Uz compinit && compinit -D -u; "
                       b"source <(slipway completion zsh); echo rea''dy\n")
        read_until(near, b"ready\r\n")
        os.write(near, b"slipway collection cre\tA B --keep\t--help\n")
        shown = read_until(near, b"usage: slipway collection create")
        assert b"slipway collection create A B --keep-queries --help" in re.sub(rb"\x1b\[[0-9;?]*\w| \x08", b"", shown), shown
    finally:
        zsh.kill()
        zsh.wait()
        os.close(near)


def read_until(descriptor, wanted, deadline=30):
    seen, end = b"", time.monotonic() + deadline
    while wanted not in seen:
        left = end - time.monotonic()
        assert left > 0 and select.select([descriptor], [], [], left)[0], seen
        seen += os.read(descriptor, 4096)
    return seen


def test_a_shell_that_is_not_known_is_refused():
    done = subprocess.run([PROGRAM, "completion", "tcsh"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "bash|zsh|fish" in done.stderr and not done.stdout
