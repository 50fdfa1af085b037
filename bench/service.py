"""The contenders: Slipway, the bare loop over ONNX Runtime, nginx (others: peer.py); and the load that is put on them."""

import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

import machine

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
MODEL = BUILD / "models" / "all-MiniLM-L6-v2"
LIBRARY = BUILD / "deps" / "onnxruntime" / "lib" / "libonnxruntime.so"
PROGRAM = Path(os.environ.get("SLIPWAY_PROGRAM", BUILD / "slipway"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port, path="/readyz"):
    """Whether it says 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Service:
    """`slipway serve` in a folder of its own, pinned to the server's core unless told otherwise."""

    def __init__(self, core=machine.SERVER_CORE, state=None, **settings):
        self.folder = tempfile.mkdtemp(prefix="slipway-bench-")
        self.state = state or f"{self.folder}/state"
        self.port = free_port()
        self.settings = {"onnxruntime": LIBRARY, "model_roots": f"{ROOT}:{MODEL.resolve().parent}", **settings}
        self.core = core

    def launch(self):
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        arguments = [PROGRAM, "serve", "--state", self.state, "--listen", f"127.0.0.1:{self.port}", *flags]
        self.process = machine.start(self.core, arguments, log=f"{self.folder}/log")

    def __enter__(self):
        self.launch()
        machine.until(lambda: answers(self.port), "slipway is ready")
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text}")
        return json.loads(text) if text[:1] in "{[" else text

    def settle(self, name):
        deployment = self.call("GET", f"/v1/deployments/{name}/wait?timeout=60")
        if deployment["status"] not in ("active", "inactive"):
            raise RuntimeError(f"{name} is {deployment['status']}: {deployment.get('message')}")
        return deployment

    def settle_gone(self, name):
        """Waits for a deletion; by then the name may be unknown."""
        try:
            self.settle(name)
        except RuntimeError as error:
            if ": 404 " not in str(error):
                raise

    @staticmethod
    def request(name, model):
        return {"model_uri": str(model), "deployment_name": name, "deployment_target_config": {"type": "api_service"},
                "resource_allocation": {"cpu": 1}}

    def deploy(self, name="minilm", model=MODEL):
        self.call("POST", "/v1/deployments", self.request(name, model))
        return self.settle(name)

    def update(self, model, name="minilm"):
        self.call("PUT", f"/v1/deployments/{name}", self.request(name, model))
        return self.settle(name)

    def processes(self):
        """{pid: role} of the supervisor ("serve") and its children."""
        return {pid: machine.role(pid) for pid in machine.tree(self.process.pid)}

    def runner_socket(self):
        return next(path for path in Path(self.state, "run").iterdir() if path.name != "controller.sock")


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
  keepalive_requests 1000000000;
  upstream runner {{ server unix:{socket}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://runner; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Nginx:
    """nginx as reverse proxy before the socket of a runner, without an access log."""

    program = BUILD / "deps/nginx/usr/sbin/nginx"

    def __init__(self, socket_path):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="slipway-bench-")
        os.chmod(self.folder, 0o755)
        settings = NGINX.format(folder=self.folder, socket=socket_path, port=self.port)
        # A runner's socket is for its own user; where we are root, so are the workers.
        Path(self.folder, "conf").write_text(("user root;" if os.geteuid() == 0 else "") + settings)

    def __enter__(self):
        self.process = machine.start(machine.SERVER_CORE, [self.program, "-c", f"{self.folder}/conf", "-p", self.folder])
        machine.until(lambda: answers(self.port), "nginx is ready")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self):
        return {pid: "nginx" for pid in machine.tree(self.process.pid)}


class Figures(dict):
    """requests, seconds, cpu_seconds, failed, p50_ms, p99_ms of one measurement; cpu_of: seconds by role; others: the
    share of the server's core that other processes had."""

    @property
    def per_second(self):
        return self["requests"] / self["seconds"]

    @property
    def per_cpu_second(self):
        return self["requests"] / self["cpu_seconds"]


def load(server, clients, seconds, form, texts):
    """wrk with `clients` closed-loop connections on the load's core."""
    processes = server.processes()
    before = {pid: machine.cpu_seconds(pid) for pid in processes}
    arguments = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", ROOT / "bench/requests.lua",
                 f"http://127.0.0.1:{server.port}", "--", form, *texts]
    busy, begin = machine.core_busy_seconds(machine.SERVER_CORE), time.monotonic()
    figures = Figures(json.loads(machine.output_of(machine.LOAD_CORE, arguments).splitlines()[-1]))
    busy, took = machine.core_busy_seconds(machine.SERVER_CORE) - busy, time.monotonic() - begin
    figures["cpu_of"] = {}
    for pid, role in processes.items():
        spent = machine.cpu_seconds(pid) - before[pid]
        figures["cpu_of"][role] = figures["cpu_of"].get(role, 0) + spent
    figures["cpu_seconds"] = sum(figures["cpu_of"].values())
    figures["others"] = max(0.0, busy - figures["cpu_seconds"]) / took
    return figures


def loop(batch, seconds, sentences, huge_pages=False):
    """The bare loop, on the server's core; sentences are lists of token ids. As a program is by default, or with its
    memory on huge pages, as a runner's is."""
    arguments = [BUILD / "bench/ort_loop", LIBRARY, MODEL / "onnx/model.onnx", 1, batch, seconds,
                 *(",".join(map(str, ids)) for ids in sentences)]
    return loop_with(arguments, huge_pages)


def loop_once_each(batch, sentences, huge_pages=False):
    """The same over many sentences, each once, in their order."""
    with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
        file.writelines(",".join(map(str, ids)) + "\n" for ids in sentences)
        file.flush()
        arguments = [BUILD / "bench/ort_loop", LIBRARY, MODEL / "onnx/model.onnx", 1, batch, 0, f"@{file.name}"]
        return loop_with(arguments, huge_pages)


def loop_with(arguments, huge_pages):
    environment = {**os.environ, "GLIBC_TUNABLES": f"glibc.malloc.hugetlb={int(huge_pages)}"}
    given = json.loads(machine.output_of(machine.SERVER_CORE, arguments, env=environment))
    return Figures(requests=given["sentences"], seconds=given["seconds"], cpu_seconds=given["cpu_seconds"])
