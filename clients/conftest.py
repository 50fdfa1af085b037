"""Fixtures of the tests of both Python distributions, against the real program (SLIPWAY_PROGRAM, else build/slipway).

    service        a running service with a folder of models it may open
    make_service   makes more of them, or ones with settings: make_service(token="secret").start()
    models         that folder; tiny models are laid out in it by test/system/models.py
    client         a slipway.Client of `service`
    mlflow3        a tracking server of MLflow 3.x; mlflow2: of 2.x (test/system/servers_mlflow.py)

The program is started by the same helper as in the system tests. It is called slipway there, as the package under test is
here: it is loaded under another name.
"""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEM = ROOT / "test" / "system"
sys.path.append(str(SYSTEM))  # behind what is installed: `import slipway` is the package

import slipway  # noqa: E402 (behind the path)

assert "clients" in slipway.__file__ or "site-packages" in slipway.__file__, slipway.__file__


def load(name, file):
    """A helper of the system tests, for which `slipway` is the module beside it."""
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    ours, sys.modules["slipway"] = (
        sys.modules["slipway"],
        sys.modules.get("slipway_program", module),
    )
    try:
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.modules["slipway"] = ours
    return module


program = load("slipway_program", SYSTEM / "slipway.py")
servers_mlflow = load("servers_mlflow", SYSTEM / "servers_mlflow.py")
mlflow_servers, mlflow3, mlflow2 = (
    servers_mlflow.mlflow_servers,
    servers_mlflow.mlflow3,
    servers_mlflow.mlflow2,
)


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitizer: also run against the program built with sanitizers")


@pytest.fixture(autouse=True)
def no_service_of_the_machine(monkeypatch):
    """What a test does not say itself is not taken from the environment."""
    for name in [name for name in os.environ if name.startswith("SLIPWAY_")]:
        if name not in ("SLIPWAY_PROGRAM", "SLIPWAY_BUILD"):
            monkeypatch.delenv(name)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def make_service(tmp_path, models):
    services = []

    def make(folder=None, **settings):
        settings.setdefault("model_roots", models)
        service = program.Slipway(
            folder or tmp_path / f"slipway-{len(services)}",
            is_watched=False,
            **settings,
        )
        services.append(service)
        return service

    yield make
    for service in services:
        service.close()


@pytest.fixture
def service(make_service):
    return make_service().start()


@pytest.fixture
def client(service):
    with slipway.Client(service.url) as client:
        yield client


@pytest.fixture
def run_readme(service, models, monkeypatch):
    """Runs the Python blocks of a page one after the other, as one program; /srv/models is a folder with models in it."""
    make = sys.modules["models"]
    make.embedding(models, "minilm")
    make.embedding(models, "minilm-v2", seed=8)
    monkeypatch.setenv("SLIPWAY_URL", service.url)

    def run(page):
        names = {"__name__": "readme"}
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for block in blocks:
            exec(
                compile(block.replace("/srv/models", str(models)), str(page), "exec"),
                names,
            )
        return len(blocks)

    return run
