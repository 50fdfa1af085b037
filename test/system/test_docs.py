"""The pages say what the code does: tables, routes, tests that are named, links, the example, and the README's tour."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from slipway import PROGRAM, ROOT, eventually
from test_library import BUILD, pkg_config, prefix, run  # noqa: F401

PAGES = sorted(path for path in ROOT.rglob("*.md") if not {"build", "node_modules"} & set(path.relative_to(ROOT).parts))
MODELS = ROOT / "build" / "models"
MODEL_MOUNT = "/api/v1/internal/inference-deployment"


def page(name):
    return (ROOT / name).read_text()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.S | re.M)


# ---- what stands in the code's tables


def test_the_tables_are_those_of_the_code():
    run(ROOT / "tools" / "document", "--check")


def routes():
    text = (ROOT / "src/http/routes.def").read_text()
    rows = re.findall(r'ROUTE\("(\w+)", (mount )?"([^"]+)"', text)
    return {f"{method} {path}" for method, _, path in rows}


def test_every_route_is_told_and_every_route_told_is_there():
    told = set()
    for path in (ROOT / "docs").glob("*.md"):
        told |= set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?\s]*)", path.read_text()))
    assert told == routes()
    assert MODEL_MOUNT in page("docs/deploying.md")


def test_every_status_and_kind_of_task_is_told():
    text = page("docs/deploying.md")
    table = (ROOT / "src/controller/statuses.def").read_text() + (ROOT / "src/controller/steps.def").read_text()
    names = re.findall(r'^(?:DEPLOYMENT_STATUS|TASK_STATUS)\(\w+, "(\w+)"', table, flags=re.M)
    names += set(re.findall(r"^KIND\((\w+)", table, flags=re.M)) - {"retire_index"}  # kind retire, of a collection
    assert names and [name for name in names if f"`{name}`" not in text] == []


def test_every_call_of_the_library_in_the_page_is_in_the_header():
    header = page("include/slipway.h")
    used = set(re.findall(r"\b(slipway_[a-z_]+)\b|\b(SLIPWAY_[A-Z_]+)\b", page("docs/c-library.md")))
    names = {name for pair in used for name in pair if name}
    assert {name for name in names if not re.search(rf"\b{name}\b", header)} == set()


# ---- what the pages point to

TEST_NAME = re.compile(r"`((?:unit|contract|system|clients/[\w-]+/tests)/[\w.]+)::(\w+)`")


def defines(text, name):
    """Whether a test of this name is defined: a Python function, or a cmocka test that main() runs."""
    if re.search(rf"^(?:async )?def {name}\(", text, flags=re.M):
        return True
    return bool(re.search(rf"\b{name}\b", text)) and bool(re.search(rf"cmocka_unit_test\w*\(\s*{name}\b|[(\s]{name}[),]", text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(path):
    missing = []
    for file, name in TEST_NAME.findall(path.read_text()):
        source = (ROOT if file.startswith("clients/") else ROOT / "test") / file
        if not source.exists() or not defines(source.read_text(), name):
            missing.append(f"{file}::{name}")
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_rule_of_this_build_stands_among_the_promises():
    text = page("docs/internals/promises.md")
    rules = [f"{letter}{number}" for letter, last in (("P", 6), ("R", 4), ("S", 9), ("L", 12), ("X", 9), ("U", 3)) for number in range(1, last + 1)]
    assert [rule for rule in rules if f"| {rule}" not in text] == []


# ---- what the pages show


def test_the_example_of_the_library_works(prefix, tmp_path, make_slipway):  # noqa: F811
    (tmp_path / "example.c").write_text(blocks(page("docs/c-library.md"), "c")[0])
    flags = pkg_config(prefix, "--cflags", "--libs")
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", tmp_path / "example.c", "-o", tmp_path / "example", *flags)
    library = next(prefix.rglob("libslipway.so")).parent
    service = make_slipway(model_roots=MODELS).start()
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{library}:{library / 'slipway'}"}
    first, second = MODELS / "all-MiniLM-L6-v2", MODELS / "all-MiniLM-L6-v2-int8"
    output = run(tmp_path / "example", service.url, first, second, env=environment)
    assert "example is active, revision 2 answers" in output
    assert "2 vectors of 384 dimensions" in output
    assert output.endswith(" is inactive, revision 0 answers\n")


def tour():
    """The README's commands with what they print, in order."""
    for block in blocks(page("README.md"), "console"):
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.M):
            yield command, output.strip()


def facts(output):
    """What of an output does not change from run to run: statuses, revisions, dimensions, names of columns."""
    found = re.findall(r"^status .*|^revision .*|^ROLE .*|\d+ dimensions|^\d$|not enough memory", output, flags=re.M)
    return [" ".join(words.split()) for words in found]


def test_the_readmes_tour_goes_as_it_says(make_slipway):
    service = make_slipway(model_roots=MODELS).start()
    environment = {**os.environ, "SLIPWAY_URL": service.url, "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"}

    def shell(command):
        both = ["bash", "-c", f"{{ {command}; }} 2>&1"]  # in the order in which a terminal shows them
        return subprocess.run(both, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=120)

    for command in (  # as `make run` does
        "slipway deploy minilm build/models/all-MiniLM-L6-v2 --wait",
        "slipway collection create notes minilm",
        """sed -n '/^notes()/,/^}/p' tools/run | grep '^{' | slipway docs import notes - --wait""",
    ):
        done = shell(command)
        assert done.returncode == 0, done.stdout
    steps = list(tour())
    assert len(steps) >= 8
    for command, output in steps:
        command = command.replace("http://127.0.0.1:8400", service.url)
        if command.startswith("kill"):
            serving = eventually(lambda: [p for p in service.processes() if p.get("deployment") == "demo" and p["revision"] == 1])[0]
            command = re.sub(r"^kill -9 \d+", f"kill -9 {serving['pid']}", command)
        done = shell(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        assert facts(done.stdout) == facts(output), command


def test_make_knows_the_targets_that_the_pages_name():
    targets = set(re.findall(r"^([a-z]+):", page("Makefile"), flags=re.M))
    named = {target for path in PAGES for target in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(), flags=re.M)}
    assert named and named <= targets
