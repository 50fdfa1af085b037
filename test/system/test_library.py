"""The C library as others get it: installed under a prefix, found by pkg-config, linked shared and static."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import models as model
from slipway import PROGRAM

BUILD = Path(os.environ.get("SLIPWAY_BUILD", Path(PROGRAM).parent))
PROGRAMS = Path(__file__).parent / "library"


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What `make install prefix=…` leaves."""
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", folder)
    return folder


def pkg_config(prefix, *words):
    found = next(prefix.rglob("slipway.pc"))
    return run("pkg-config", *words, "slipway", env={**os.environ, "PKG_CONFIG_PATH": str(found.parent)}).split()


def test_install_brings_program_library_header_and_pkg_config_file(prefix):
    installed = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if not path.is_dir()}
    assert "bin/slipway" in installed
    assert "include/slipway.h" in installed
    names = {Path(path).name for path in installed}
    assert {"libslipway.so", "libslipway.a", "slipway.pc", "libonnxruntime.so"} <= names
    assert "0.1.0" in run(prefix / "bin" / "slipway", "version")


def test_destdir_puts_the_same_files_elsewhere(tmp_path):
    run("cmake", "--install", BUILD, "--prefix", "/usr", env={**os.environ, "DESTDIR": str(tmp_path)})
    assert (tmp_path / "usr/bin/slipway").exists()
    assert (tmp_path / "usr/include/slipway.h").exists()


def test_the_library_shows_only_slipway_symbols(prefix):
    for library, flag in ((next(prefix.rglob("libslipway.so")), "-D"), (next(prefix.rglob("libslipway.a")), "-g")):
        lines = run("nm", flag, "--defined-only", library).splitlines()
        shown = {line.split()[-1] for line in lines if re.match(r"^[0-9a-f]+ [A-Z] ", line)}
        assert shown, library
        assert {name for name in shown if not name.startswith("slipway_")} == set(), library


def compiled(prefix, linking, name, folder):
    """One of the programs as a user builds it; how to run it, and its environment."""
    program = folder / name
    flags = pkg_config(prefix, "--cflags", "--libs", *(["--static"] if linking == "static" else []))
    library = next(prefix.rglob("libslipway.so")).parent
    if linking == "static":  # the archive itself in place of -lslipway
        flags = [str(library / "libslipway.a") if word == "-lslipway" else word for word in flags]
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", PROGRAMS / f"{name}.c", "-o", program, *flags)
    return program, {**os.environ, "LD_LIBRARY_PATH": f"{library}:{library / 'slipway'}"}


@pytest.mark.parametrize("linking", ["shared", "static"])
def test_a_team_can_deploy_update_roll_back_and_delete_from_c(prefix, linking, tmp_path, models, make_slipway):
    program, environment = compiled(prefix, linking, "team", tmp_path)
    one, two = model.embedding(models, "one", seed=7), model.embedding(models, "two", seed=8)
    service = make_slipway(token="secret", control_body_maximum="1Mi", body_maximum="2Mi").start()
    assert run(program, service.url, "secret", one, two, env=environment).endswith("done\n")


def test_a_search_team_can_write_search_reindex_and_switch_from_c(prefix, tmp_path, models, make_slipway):
    program, environment = compiled(prefix, "shared", "search_team", tmp_path)
    uris = [model.embedding(models, "one"), model.embedding(models, "two", dimension=12, seed=8),
            model.embedding(models, "three", seed=9)]
    service = make_slipway(token="secret").start()
    assert run(program, service.url, "secret", *uris, env=environment).endswith("done\n")
