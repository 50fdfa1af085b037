"""Fixtures of the system tests.

    slipway        a running service with its own state and a folder of models it may open; closed after the test
    make_slipway   makes more of them, or ones with settings: make_slipway(drain="2s", upstream_timeout="2s")
    models         the folder, inside the roots, where a test lays out models (models.py)

Every answer is held against /openapi.json (conformance.py); when the whole folder has run, every operation must have
succeeded in some test. When a test fails, the log of each service it used is in the report.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import conformance  # noqa: E402
from registry_beds import *  # noqa: E402, F403
from slipway import Slipway  # noqa: E402

services_key = pytest.StashKey()
missing_key = pytest.StashKey()


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitizer: also run against the program built with sanitizers")
    conformance.install()


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def make_slipway(tmp_path, models, request):
    services = request.node.stash.setdefault(services_key, [])

    def make(folder=None, **settings):
        settings.setdefault("model_roots", models)
        service = Slipway(folder or tmp_path / f"slipway-{len(services)}", **settings)
        services.append(service)
        return service

    yield make
    failures = []
    for service in services:
        try:
            service.close()
            # What a sanitizer ended was started again, and no answer may have shown it.
            found = [line for line in service.whole_log().splitlines() if "Sanitizer: " in line or "runtime error: " in line]
            assert not found, found
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture
def slipway(make_slipway):
    return make_slipway().start()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for service in item.stash.get(services_key, []):
            report.sections.append((f"log of {service.folder.name}", service.whole_log()[-20000:]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    conformance.violations.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    outcome = yield
    if conformance.violations and not outcome.excinfo:
        found = list(dict.fromkeys(conformance.violations))
        outcome.force_exception(AssertionError("not as /openapi.json says:\n" + "\n".join(found[:10])))


def pytest_testnodedown(node):
    """A worker of pytest-xdist has ended: what it saw counts."""
    conformance.visited.update(getattr(node, "workeroutput", {}).get("visited", ()))


def ran_whole(session):
    """Whether nothing of the folder was left out."""
    here = Path(__file__).parent
    option = session.config.option
    is_whole = all(Path(argument).resolve() == here for argument in session.config.args)
    return is_whole and not option.keyword and not option.markexpr and not session.testsfailed and not session.shouldstop


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["visited"] = sorted(conformance.visited)
        return
    if not conformance.visited:
        return
    session.config.stash[missing_key] = missing = conformance.description().operations() - conformance.visited
    if missing and exitstatus == 0 and ran_whole(session):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if missing_key not in config.stash:
        return
    missing = sorted(config.stash[missing_key])
    words = f"{len(conformance.visited)} operations of /openapi.json were seen to succeed, {len(missing)} were not"
    terminalreporter.write_line(words if not 0 < len(missing) < 20 else f"{words}: {', '.join(missing)}")
