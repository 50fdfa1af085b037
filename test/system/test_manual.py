"""The manual pages: each row of each table stands in its page, and mandoc finds nothing wrong with them."""

import re
import runpy
import subprocess
from types import SimpleNamespace

import pytest

from slipway import ROOT
from test_library import BUILD, prefix, run  # noqa: F401

PAGES = ["slipway.1", "libslipway.3", "slipway.conf.5", "slipway-serve.8"]

tables = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "manual")))
flags = tables.flags


def commands():
    return list(tables.commands())


def rows(path, macro):
    return list(tables.document.rows_of(path, macro))


def roles():
    return [row[0] for row in rows("cli/roles.def", "ROLE")]


def settings():
    return [row[2] for row in rows("base/settings.def", "SETTING")]


def runner_flags():
    return [row[2] for row in rows("runner/runner_flags.def", "FLAG")]


def shown(page):
    """As a reader sees it, in one line."""
    text = run("mandoc", "-T", "utf8", "-O", "width=400", BUILD / "manual" / page)
    return re.sub(r"\s+", " ", re.sub(".\b", "", text).replace("‐", "-").replace("−", "-"))


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing_wrong(page):
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", BUILD / "manual" / page], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_page_that_is_built_is_what_the_tables_say(page):
    assert (BUILD / "manual" / page).read_text() == run(ROOT / "tools" / "manual", page)


def test_slipway_1_has_every_command_flag_and_exit_status():
    text, table = shown("slipway.1"), flags()
    for name, arguments, summary, taken in commands():
        assert f"{name} {arguments}".strip() in text, name
        assert summary in text, name
        for flag in taken:
            assert table[flag][0] in text and table[flag][2] in text, flag
    for name, _, summary in rows("cli/roles.def", "ROLE"):
        assert summary in text, name
    for flag in runner_flags():
        assert f"--{flag} " in text, flag
    for _, number, meaning in rows("cli/exits.def", "EXIT"):
        assert f"{number} {tables.c_text(meaning)}" in text


def test_slipway_1_has_every_variable_that_the_command_line_reads():
    sources = "".join(path.read_text() for path in (ROOT / "src/cli").glob("*.c"))
    names = set(re.findall(r'"(SLIPWAY_[A-Z_]+|NO_COLOR)"', sources))
    assert len(names) > 4 and not {name for name in names if name not in shown("slipway.1")}


def test_slipway_serve_8_has_every_setting_and_exit_status():
    text = shown("slipway-serve.8")
    for name in settings():
        assert f"--{name.replace('_', '-')} value" in text, name
    for _, number, meaning in rows("supervisor/exits.def", "SERVE_EXIT"):
        assert f"{number} {tables.c_text(meaning)}" in text


def test_slipway_conf_5_has_every_setting_with_default_bounds_and_when():
    text = shown("slipway.conf.5")
    for kind, when, name, initial, minimum, maximum, help_text in rows("base/settings.def", "SETTING"):
        row = rf"{name}( = {re.escape(tables.default_text(kind, initial))})? {re.escape(tables.c_text(help_text))}"
        found = re.search(row + r"(.*?)A change counts " + tables.WHEN[when], text)
        assert found and len(found[2]) < 80, name
        assert bool(found[1]) == bool(initial), name
        assert bool(tables.bounds_text(kind, minimum, maximum)) == (kind != "TEXT"), name
        assert (tables.bounds_text(kind, minimum, maximum) or "") in found[2], name


def test_libslipway_3_has_every_function():
    text = shown("libslipway.3")
    names = set(re.findall(r"\b(slipway_\w+)\(", (ROOT / "include/slipway.h").read_text()))
    assert len(names) > 40 and not {name for name in names if f"{name}(" not in text}


def test_make_install_puts_pages_and_completion_where_they_are_found(prefix):  # noqa: F811
    for page in PAGES:
        assert (prefix / "share/man" / f"man{page[-1]}" / f"{page}.gz").is_file()
    for file in ("bash-completion/completions/slipway", "zsh/site-functions/_slipway", "fish/vendor_completions.d/slipway.fish"):
        assert "__complete" in (prefix / "share" / file).read_text()
