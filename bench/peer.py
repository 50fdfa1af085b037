"""The servers that people use for such a model. Each runs bench/peers/<name>_app.py in a virtual environment of its own,
build/venv-peers/<name>, which holds what bench/peers/<name>.txt pins; `bench/install-peers` makes them."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import machine
import service

FOLDER = service.ROOT / "bench" / "peers"
VENVS = service.BUILD / "venv-peers"
OURS = ("fastapi", "records")  # what they need is in the measurements' own environment


class Peer:
    """One of them, pinned to the server's core, in a session of its own so that all it starts ends with it."""

    # name: (as it is called, its version's package, form of requests.lua, path that says 200 when it is ready)
    SERVERS = {
        "fastapi": ("FastAPI + uvicorn", "fastapi", "base64", "/readyz"),
        "mlserver": ("MLServer, batching", "mlserver", "v2", "/v2/models/minilm/ready"),
        "bentoml": ("BentoML, batching", "bentoml", "embed_list", "/readyz"),
        "litserve": ("LitServe, batching", "litserve", "embed", "/health"),
        "ray": ("Ray Serve, batching", "ray", "embed", "/-/healthz"),
        "kserve": ("KServe's Python server", "kserve", "v2", "/v2/models/minilm/ready"),
        "infinity": ("infinity, optimum engine", "infinity_emb", "embeddings", "/health"),
    }
    # The same of a server of records instead of a model.
    RECORDS = {"records": ("FastAPI + SQLite", "fastapi", None, "/readyz")}

    def __init__(self, name):
        self.name = name
        self.title, self.package, self.form, self.ready_path = (self.SERVERS | self.RECORDS)[name]
        self.port = service.free_port()
        self.environment = service.BUILD / "venv-bench" if name in OURS else VENVS / name

    @property
    def is_installed(self):
        return (self.environment / ".from").exists()

    def version(self):
        code = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        return subprocess.run([self.environment / "bin/python", "-c", code], check=True, capture_output=True,
                              text=True).stdout.strip()

    def arguments(self):
        programs = self.environment / "bin"
        if self.name in OURS:
            return [programs / "uvicorn", "--app-dir", FOLDER, f"{self.name}_app:app", "--port", self.port, "--no-access-log",
                    "--log-level", "warning"]
        if self.name == "bentoml":
            return [programs / "bentoml", "serve", "bentoml_app:Minilm", "--working-dir", FOLDER, "--port", self.port,
                    "--host", "127.0.0.1"]
        if self.name == "infinity":
            return [programs / "infinity_emb", "v2", "--engine", "optimum", "--device", "cpu", "--model-id", ".",
                    "--served-model-name", "minilm", "--pooling-method", "mean", "--host", "127.0.0.1", "--port", self.port,
                    "--batch-size", "8", "--no-bettertransformer", "--log-level", "warning"]
        return [programs / "python", FOLDER / f"{self.name}_app.py", self.port]

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
        shutil.copytree(service.MODEL, self.folder / "model", symlinks=False)
        (self.folder / "model/onnx/model.onnx").rename(self.folder / "model/model.onnx")  # infinity looks for it there
        environment = {**os.environ, "MODEL": str(service.MODEL), "HOME": str(self.folder), "HF_HUB_OFFLINE": "1",
                       "PATH": f"{self.environment / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
                       "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "true",
                       "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
        self.log = self.folder / "log"
        self.process = machine.start(machine.SERVER_CORE, self.arguments(), log=self.log, env=environment,
                                     cwd=self.folder / "model", start_new_session=True)
        try:
            machine.until(self.is_ready, f"{self.title} is ready (its words: {self.log})")
        except BaseException:
            self.end()
            raise
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.title} ended: {self.log.read_text(errors='replace')[-2000:]}")
        return service.answers(self.port, self.ready_path)

    def processes(self):
        """All that came of it, though it has other parents by now (Ray's)."""
        return {pid: self.name for pid in machine.session(self.process.pid) | machine.descendants(self.process.pid)}

    def end(self):
        pids = self.processes()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(20)

    def __exit__(self, *_):
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)
