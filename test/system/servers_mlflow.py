"""Tracking servers of MLflow 3.x and 2.x for the system tests, with and without basic auth (tools/test-mlflow lays them
out). Each takes ten seconds or more to start, so those that are wanted start at once, and only when a test asks.

    mlflow3, mlflow2               the servers; also mlflow3_auth, mlflow2_auth
    server.url, server.address
    server.client                  an httpx.Client on it, as the administrator
    server.log_model(PATH)         logs an ONNX file by MLflow's own client; {"run_id", "model_uri", "version"}
    server.do(steps)               mlflow_client.py
    server.create_run(), server.put_files(run, path, files), server.end_run(run)    the same by REST
"""

import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from slipway import ROOT, eventually

START_SECONDS = 180
API = "/api/2.0/mlflow/"
PROXIED = "/api/2.0/mlflow-artifacts/artifacts"
USER, PASSWORD = "admin", "mlflow-password-that-is-nowhere-else"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class MlflowServer:
    def __init__(self, folder, version, auth=False, port=None):
        self.folder, self.version, self.auth = Path(folder), version, auth
        self.home = ROOT / "build" / f"venv-mlflow{version}"
        assert (self.home / ".from").exists(), "run tools/test-mlflow first"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = ("127.0.0.1", port or free_port())
        self.url = "http://{}:{}".format(*self.address)
        self.user, self.password = (USER, PASSWORD) if auth else (None, None)
        self.client = httpx.Client(base_url=self.url, timeout=60, auth=(USER, PASSWORD) if auth else None)
        self.log_path, self.process, self.puts = self.folder / "log", None, 0

    # ---- life

    def launch(self):
        """Starts it and waits for nothing."""
        command = [self.home / "bin" / "python", "-m", "mlflow", "server", "--host", self.address[0], "--port", str(self.address[1]),
                   "--backend-store-uri", f"sqlite:///{self.folder}/ml.db", "--serve-artifacts",
                   "--artifacts-destination", self.folder / "artifacts", "--workers", "1",
                   *(["--app-name", "basic-auth"] if self.auth else [])]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env=self._environment(),
                                            start_new_session=True)
        return self

    def wait_until_ready(self):
        eventually(self._is_up, START_SECONDS, f"MLflow {self.version} answers")
        return self

    def close(self):
        """Ends it with its workers: they are a session of their own."""
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait(30)
            self.process = None

    def _is_up(self):
        assert self.process.poll() is None, self.log_path.read_text()[-4000:]
        return self.client.get("/health").status_code == 200

    def _environment(self):
        environment = {"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", "HOME": str(self.folder),
                       "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        if self.auth:
            conf = self.folder / "auth.ini"
            conf.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{self.folder}/auth.db\n"
                            f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
                            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n")
            environment |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "not secret", "MLFLOW_AUTH_CONFIG_PATH": str(conf)}
        return environment

    # ---- its content, by MLflow's client

    def do(self, steps):
        environment = {**self._environment(), "MLFLOW_TRACKING_URI": self.url, "GIT_PYTHON_REFRESH": "quiet"}
        if self.auth:
            environment |= {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        program = Path(__file__).with_name("mlflow_client.py")
        done = subprocess.run([self.home / "bin" / "python", program], input=json.dumps(steps), capture_output=True, text=True,
                              timeout=240, env=environment, cwd=self.folder)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    def log_model(self, path, name="model", registered=None):
        path = Path(path)
        file = path / "model.onnx" if path.is_dir() else path
        return self.do([{"do": "onnx", "file": str(file), "name": name, "registered": registered}])[0]

    # ---- its content, by REST

    def ask(self, method, path, **options):
        answer = self.client.request(method, path, **options)
        assert answer.status_code == 200, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else {}

    def create_run(self, experiment="0"):
        return self.ask("POST", API + "runs/create", json={"experiment_id": experiment})["run"]["info"]["run_id"]

    def end_run(self, run):
        self.ask("POST", API + "runs/update", json={"run_id": run, "status": "FINISHED"})

    def artifact_path(self, run):
        """Of its folder, below what is handed through."""
        uri = self.ask("GET", API + "runs/get", params={"run_id": run})["run"]["info"]["artifact_uri"]
        return uri.removeprefix("mlflow-artifacts:/")

    def put_files(self, folder, files, at_rest=True):
        """folder: as of artifact_path(), and what is below it. `at_rest`: as if that had been a while ago, each time
        another one, so that the server's ETags can be relied on."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda path: self.ask("PUT", f"{PROXIED}/{quote(f'{folder}/{path}')}", content=files[path]), files))
        self.puts += 1
        for path in files if at_rest else ():
            os.utime(self.folder / "artifacts" / folder / path, times=(time.time(), time.time() - 10_000 + self.puts))

    def remove_files(self, folder):
        self.client.delete(f"{PROXIED}/{quote(folder)}")


class MlflowServers:
    def __init__(self, folder):
        self.folder, self.launched, self.ready = folder, {}, set()

    def launch(self, *kinds):
        for kind in kinds:
            if kind not in self.launched:
                version, auth = kind
                folder = self.folder / f"mlflow{version}{'-auth' if auth else ''}"
                self.launched[kind] = MlflowServer(folder, version, auth).launch()

    def get(self, version, auth=False):
        self.launch(("3", auth), ("2", auth))
        server = self.launched[version, auth]
        if server not in self.ready:
            server.wait_until_ready()
            self.ready.add(server)
        return server

    def close(self):
        for server in self.launched.values():
            server.close()


@pytest.fixture(scope="session")
def mlflow_servers(tmp_path_factory):
    servers = MlflowServers(tmp_path_factory.mktemp("mlflow"))
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def mlflow3(mlflow_servers):
    return mlflow_servers.get("3")


@pytest.fixture(scope="session")
def mlflow2(mlflow_servers):
    return mlflow_servers.get("2")


@pytest.fixture(scope="session")
def mlflow3_auth(mlflow_servers):
    return mlflow_servers.get("3", True)


@pytest.fixture(scope="session")
def mlflow2_auth(mlflow_servers):
    return mlflow_servers.get("2", True)
