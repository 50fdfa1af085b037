"""The service under test: the real program in the foreground, as a child of the test.

    service = Slipway(folder)            # or with settings: Slipway(folder, drain="2s", upstream_timeout="2s")
    service.start()                      # returns when /readyz says 200
    service.client.get("/v1/processes")  # an httpx.Client on its address
    service.deploy("one", models.add_one(folder))
    service.create_collection("notes", "minilm")  # what there is to do with it: collection.py
    service.kill("controller")           # SIGKILL by role, or by pid; "supervisor" is serve itself
    service.kill_role("indexer")         # the same, and waits for the next one
    service.stop()                       # SIGTERM; returns the exit status
    service.close()                      # whatever is left ends here; fails if something outlived serve

Tests take it from the fixture `slipway` (conftest.py), which closes it. The first start lets the kernel choose the port,
later ones of the same Slipway use the same one again. Nothing here sleeps and hopes: every wait is eventually().
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx

import conformance

ROOT = Path(__file__).parents[2]
PROGRAM = os.environ.get("SLIPWAY_PROGRAM", str(ROOT / "build" / "slipway"))
DEADLINE = 60.0  # seconds; a sanitized program on a busy machine is slow


def eventually(predicate, deadline=DEADLINE, what=None):
    """Calls predicate until it returns something true, which is returned. AssertionErrors, httpx errors and missing
    files count as false. After `deadline` seconds, fails with the last that was seen."""
    end = time.monotonic() + deadline
    while True:
        try:
            seen = predicate()
            if seen:
                return seen
        except (AssertionError, httpx.HTTPError, FileNotFoundError) as error:
            seen = error
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline:g} s: {what or predicate.__name__}; last: {seen!r}")
        time.sleep(0.02)


def stat_of(pid):
    """Parent and start time of a process that runs; None when it has ended (also when nobody has collected it yet)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def children_of(pid):
    """(pid, start time) of the children that live."""
    found = []
    for entry in os.listdir("/proc"):
        stat = stat_of(entry) if entry.isdigit() else None
        if stat and stat[0] == pid:
            found.append((int(entry), stat[1]))
    return found


def in_own_mounts(script, command):
    """The command that runs `script` by a shell in mounts of its own; the script ends with exec "$@", which is `command`.
    (unshare's own way to keep the mounts private fails in a chroot, whose root is no mount point.)"""
    private = "mount --make-rprivate / 2>/dev/null || :"
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", f"{private}; {script}", "sh", *command]


def lives(pid, start=None):
    stat = stat_of(pid)
    return stat is not None and start in (None, stat[1])


class Slipway:
    def __init__(self, folder, port=0, program=PROGRAM, environment=None, state=None, is_watched=True, **settings):
        """`folder` is where log and (unless named) state lie; `settings` become flags: drain="2s" is --drain 2s. What a
        watched one answers must be as /openapi.json says (conformance.py)."""
        self.folder = Path(folder)
        self.state = Path(state) if state else self.folder / "state"
        self.host, self.port, self.program = "127.0.0.1", port, program
        self.settings = settings
        self.is_watched = is_watched
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")} | (environment or {})
        self.log_path = self.folder / "slipway.log"
        self.process = None
        self._client = None
        self._seen = set()  # every child there was, by pid and start time

    # ---- starting and ending

    def command(self):
        flags = {"state": self.state, "listen": f"{self.host}:{self.port}", **self.settings}
        return [self.program, "serve", *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items())]

    def launch(self):
        """Starts it and waits for nothing."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder, env=self.environment)
        return self

    def start(self, deadline=DEADLINE):
        self.launch()
        self.port = self.port or int(eventually(self._port_in_log, deadline, "the log names the port"))
        if self.is_watched:
            conformance.watch(self.url)
        self.wait_until_ready(deadline)
        return self

    def wait_until_ready(self, deadline=DEADLINE):
        def is_ready():
            self._check_alive()
            return self.client.get("/readyz", timeout=5).status_code == 200

        eventually(is_ready, deadline, "/readyz answers 200")

    def wait(self, deadline=DEADLINE):
        """Waits for its end by itself; the exit status."""
        return self.process.wait(deadline)

    def stop(self, deadline=DEADLINE):
        """Asks it to end; the exit status."""
        self._note_children()
        self.process.send_signal(signal.SIGTERM)
        return self.wait(deadline)

    def close(self):
        """Ends all that is left. Fails when a process outlived serve: the kernel is to end them with it (RULES P2)."""
        if self.process is None:
            return
        conformance.unwatch(self.url)
        self._note_children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        if self._client:
            self._client.close()
        try:
            eventually(lambda: not self.survivors(), 10, "the children end with serve")
        finally:
            for pid in self.survivors():
                os.kill(pid, signal.SIGKILL)

    def survivors(self):
        """Children of this serve, and of those before it, that still live."""
        return [pid for pid, start in self._seen if lives(pid, start)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- looking and meddling

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    @property
    def client(self):
        if self._client is None:
            token = self.settings.get("token")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._client = httpx.Client(base_url=self.url, timeout=30, headers=headers)
        return self._client

    def processes(self):
        """What GET /v1/processes says."""
        self._note_children()
        answer = self.client.get("/v1/processes")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pids(self, role):
        """By role and without asking the service: "supervisor", "controller", "indexer", "gateway", "runner"."""
        self._note_children()
        if role == "supervisor":
            return [self.pid]
        return [pid for pid, _ in children_of(self.pid) if self._role_of(pid) == role]

    def deploy(self, name, model, config=None, **fields):
        """Deploys a model folder and waits until that is settled; the deployment, whatever its status. `config` goes into
        deployment_target_config, `fields` into the request beside it."""
        request = {"deployment_name": name, "model_uri": str(model), **fields}
        request["deployment_target_config"] = {"type": "api_service", **(config or {})}
        answer = self.client.post("/v1/deployments", json=request)
        assert answer.status_code == 202, answer.text
        answer = self.client.get(f"/v1/deployments/{name}/wait", params={"timeout": DEADLINE}, timeout=DEADLINE + 10)
        assert answer.status_code == 200, answer.text
        self._note_children()
        return answer.json()

    def create_collection(self, name, deployment, probe="anything", **fields):
        """metric, keep_queries, quantized; a Collection (collection.py) that can be searched: `probe` has been."""
        from collection import Collection

        answer = self.client.post("/v1/collections", json={"name": name, "deployment": deployment, **fields})
        assert answer.status_code == 201, answer.text
        return Collection(self, name).wait_until_searchable(probe)

    def kill_role(self, role, number=signal.SIGKILL):
        """kill() by role that knows how the service comes back: returns when another process of that role runs; a killed
        supervisor is started again, and is ready."""
        pids = self.kill(role, number)
        if role == "supervisor":
            return self.start()
        eventually(lambda: set(self.pids(role)) - set(pids), what=f"another {role} runs")
        return self

    def kill(self, role_or_pid, number=signal.SIGKILL):
        """Sends the signal to every process of the role, or to the pid; returns the pids. Waits until those that were killed
        have ended."""
        pids = self.pids(role_or_pid) if isinstance(role_or_pid, str) else [role_or_pid]
        assert pids, f"no {role_or_pid} runs"
        for pid in pids:
            os.kill(pid, number)
        if number == signal.SIGKILL:
            for pid in pids:
                if pid == self.pid:
                    self.process.wait(DEADLINE)
                eventually(lambda pid=pid: not lives(pid), what=f"{role_or_pid} ends")
        return pids

    def log(self):
        """What it has written since it was last started."""
        with open(self.log_path, "rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def whole_log(self):
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    # ---- inside

    def _role_of(self, pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return None
        return words[1].decode() if len(words) > 1 else None

    def _note_children(self):
        if self.process and self.process.poll() is None:
            self._seen.update(children_of(self.pid))

    def _check_alive(self):
        status = self.process.poll()
        if status is not None:
            raise RuntimeError(f"serve ended with status {status}:\n{self.log()}")

    def _port_in_log(self):
        self._check_alive()
        found = re.search(r"supervisor listening .*address=\S+:(\d+)", self.log())
        return found and found[1]
