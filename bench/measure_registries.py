"""How fast a model comes over http and S3, against curl piped through sha256sum into a synced file with as many connections;
what that takes of memory; and what it takes to deploy a model that is here already.

What is timed of Slipway is the whole task of `POST /v1/packages/build`: resolved, fetched, verified, synced, read-only,
renamed, recorded."""

import http.client
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import machine
import service
from report import ratio, spread, table

SIZE = 500 << 20
FILES, PARALLEL = 5, 4  # over S3; over http it is one file and one connection
GOAL = 0.90
KEY, SECRET = "bench-access", "bench-secret"

NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access; sendfile on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""

CONF = """
[http bench]
hosts = 127.0.0.1:{http}
[s3]
endpoint = http://127.0.0.1:{s3}
path_style = true
access_key_id = {key}
secret_access_key = {secret}
"""


class Sources:
    """nginx and versitygw over the same files: <folder>/bucket/big.onnx and <folder>/bucket/model/part-*.bin."""

    versitygw = service.BUILD / "test-servers/bin/versitygw"

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
        self.folder.chmod(0o755)
        self.http, self.s3 = service.free_port(), service.free_port()
        bucket = self.folder / "root" / "bucket"
        (bucket / "model").mkdir(parents=True)
        block = random.Random(1).randbytes(1 << 20)
        write(bucket / "big.onnx", block, SIZE)
        for number in range(FILES):
            write(bucket / "model" / f"part-{number}.bin", bytes([number]) + block[1:], SIZE // FILES)
        settings = NGINX.format(folder=self.folder, root=self.folder / "root", port=self.http)
        (self.folder / "conf").write_text(("user root;" if os.geteuid() == 0 else "") + settings)

    def __enter__(self):
        environment = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        self.processes = [
            machine.start(None, [service.Nginx.program, "-c", self.folder / "conf", "-p", self.folder]),
            machine.start(None, [self.versitygw, "--port", f"127.0.0.1:{self.s3}", "posix", self.folder / "root"],
                          env=environment)]
        for port in (self.http, self.s3):
            machine.until(lambda: is_open(port), "the servers are ready")
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def bytes_sent(self):
        """By nginx, of bodies."""
        return sum(int(line.split()[9]) for line in (self.folder / "access").read_text().splitlines())

    def curl_http(self, folder):
        return [curl([], f"http://127.0.0.1:{self.http}/bucket/big.onnx", folder / "big.onnx")]

    def curl_s3(self, folder):
        flags = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{KEY}:{SECRET}", "-H",
                 "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
        return [curl(flags, f"http://127.0.0.1:{self.s3}/bucket/model/part-{number}.bin", folder / f"part-{number}.bin")
                for number in range(FILES)]


def write(path, block, size):
    with open(path, "wb") as file:
        for number in range(size // len(block)):
            file.write(number.to_bytes(8, "big") + block[8:])


def is_open(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        connection.getresponse().read()
        return True
    except OSError:
        return False


def curl(flags, url, place):
    quoted = " ".join(f"'{flag}'" for flag in flags)
    return f"curl -fsS {quoted} '{url}' | tee '{place}' | sha256sum >'{place}.sha256' && sync '{place}'"


def curl_once(commands):
    """Seconds for all of them, PARALLEL at once."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        lines = "\0".join(commands(Path(folder)))
        begin = time.monotonic()
        subprocess.run(machine.command(None, ["xargs", "-0", "-n1", f"-P{PARALLEL}", "bash", "-o", "pipefail", "-ec"]),
                       input=lines, text=True, check=True)
        return time.monotonic() - begin


def peak_of(pid):
    """The most that it ever had resident, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no VmHWM")


def controller_of(slipway):
    return next(pid for pid, role in slipway.processes().items() if role == "controller")


def build_once(conf, uri):
    """Seconds of the task, and what the controller's memory grew by meanwhile."""
    with service.Service(core=None, registries=conf, fetch_parallel=PARALLEL) as slipway:
        before = peak_of(controller_of(slipway))
        begin = time.monotonic()
        task = slipway.call("POST", "/v1/packages/build", {"model_uri": uri})
        task = slipway.call("GET", f"/v1/tasks/{task['task_id']}/wait?timeout=300", timeout=310)
        took = time.monotonic() - begin
        if task["status"] != "done":
            raise RuntimeError(f"{uri}: {task}")
        return took, peak_of(controller_of(slipway)) - before


def deploy_again(sources, conf):
    """Milliseconds to active of the first and of a second deployment of a model over http; bytes that the second took."""
    archive = sources.folder / "root" / "minilm.tar"
    subprocess.run(["tar", "-C", service.MODEL.resolve(), "-cf", archive, "."], check=True)
    uri = f"http://127.0.0.1:{sources.http}/{quote(archive.name)}"
    with service.Service(core=None, registries=conf) as slipway:
        def timed(name):
            begin = time.monotonic()
            slipway.deploy(name, uri)
            return (time.monotonic() - begin) * 1e3

        first, sent = timed("first"), sources.bytes_sent()
        seconds = [timed(f"again-{number}") for number in range(5)]
        return first, seconds, sources.bytes_sent() - sent


def measure(rounds):
    print("bench: models over http and S3", flush=True)
    figures = {"http": [], "s3": []}
    with Sources() as sources, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        conf = Path(folder, "registries.conf")
        conf.touch(0o600)
        conf.write_text(CONF.format(http=sources.http, s3=sources.s3, key=KEY, secret=SECRET))
        ways = {"http": (f"http://127.0.0.1:{sources.http}/bucket/big.onnx", sources.curl_http),
                "s3": ("s3://bucket/model", sources.curl_s3)}
        for uri, commands in ways.values():  # everything is in the page cache before anything is timed
            curl_once(commands)
        for _ in range(rounds):
            for name, (uri, commands) in ways.items():
                floor = curl_once(commands)
                figures[name].append((floor, *build_once(conf, uri)))
        return render(figures, *deploy_again(sources, conf))


def render(figures, first, again, taken):
    mb = SIZE / 1e6
    rows = []
    for name, what in (("http", "http, one file, one connection (nginx)"),
                       ("s3", f"S3, {FILES} files, {PARALLEL} at once (versitygw)")):
        runs = figures[name]
        rows.append([what, spread([mb / floor for floor, *_ in runs], "MB/s"), spread([mb / took for _, took, _ in runs], "MB/s"),
                     ratio([(floor, took) for floor, took, _ in runs]), f"≥ {GOAL:.2f}",
                     spread([grown / 2**20 for *_, grown in runs], "MiB", 1)])
    heads = ["500 MiB over loopback", "curl \\| sha256sum, synced", "Slipway, URI to package", "Slipway : curl", "goal",
             "controller's memory grew by"]
    return f"""## Registries

{table(heads, rows)}

The same model deployed again from the same archive (MiniLM, 90 MB over http): {taken / 1e3:.1f} kB fetched for five more
deployments, active after {spread(again, "ms")}, the first after {first:.0f} ms.
"""
