"""The service on this machine: whether one runs, and starting one.

One that was started here belongs to the process that started it: it ends when that process ends, however it ends (the
kernel sends it SIGTERM), and is told so in good time at a normal exit. Whoever asks meanwhile, in this process or another,
uses the same one.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from . import errors
from ._address import DEFAULT_URL

START_SECONDS = 60.0
STOP_SECONDS = 45.0  # requests under way may take as long as the setting `drain` says
PR_SET_PDEATHSIG = 1
EXIT_IN_USE = 3  # of `slipway serve`: another one has the state folder

_lock = threading.Lock()
_started: Started | None = None


def find_or_start(logger: logging.Logger, token: str | None = None) -> str:
    """The URL of the service on this machine; starts one where none is."""
    global _started
    with _lock:
        if _started is not None and _started.is_ours and _started.lives:
            return _started.url
        if answers(DEFAULT_URL):
            return DEFAULT_URL
        state = state_folder()
        control = f"unix:{state / 'control.sock'}"
        if answers(control):
            return control
        try:
            _started = Started(find_program(), state, token)
        except InUse:  # another process was a little quicker
            return _await_the_other(control)
        logger.warning(
            "no Slipway service was running: started one (pid %d) on %s with its state in %s; it is stopped when this process ends",
            _started.pid,
            _started.url,
            state,
        )
        return _started.url


def _await_the_other(control: str) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for url in (DEFAULT_URL, control):
            if answers(url):
                return url
        time.sleep(0.05)
    raise errors.UnavailableError(f"another process has started a service, which did not answer within {START_SECONDS:g} s")


def stop(logger: logging.Logger | None = None) -> None:
    """Stops the one that was started here, if there is one."""
    global _started
    with _lock:
        started, _started = _started, None
        if started is not None and started.is_ours:
            started.stop()
            if logger:
                logger.info("the Slipway service that was started here (pid %d) is stopped", started.pid)


def answers(url: str) -> bool:
    """Whether a Slipway service answers there, ready or not."""
    path = url.removeprefix("unix:")
    if path != url and not os.path.exists(path):
        return False
    transport = httpx.HTTPTransport(uds=path) if path != url else None
    base = "http://localhost" if path != url else url
    try:
        with httpx.Client(transport=transport, timeout=5.0, trust_env=False, verify=False) as http:
            answer = http.get(base + "/v1/deployments", params={"limit": 1})
            if answer.status_code == 200:
                return "X-Total-Count" in answer.headers and isinstance(answer.json(), list)
            problem = answer.json()
            return isinstance(problem, dict) and problem.get("error") in errors.BY_NAME
    except (httpx.HTTPError, ValueError):
        return False


def find_program() -> str:
    named = os.environ.get("SLIPWAY_BIN")
    if named:
        found = shutil.which(named)
        if found is None:
            raise errors.ConfigurationError(f"SLIPWAY_BIN is {named}, which is no program that can be run")
        return found
    found = shutil.which("slipway")
    if found is None:
        raise errors.ConfigurationError(
            f"no Slipway service answers at {DEFAULT_URL}, and none can be started: there is no program `slipway` on PATH. "
            "Set SLIPWAY_URL to a service, or SLIPWAY_BIN to the program"
        )
    return found


def state_folder() -> Path:
    named = os.environ.get("SLIPWAY_STATE")
    if named:
        return Path(named).absolute()
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "slipway"


class InUse(errors.ExternalServiceError):
    """Another service has the state folder."""


class Started:
    """`slipway serve`, run by a thread that lives as long as this process: the kernel ties the service to that thread."""

    url: str
    pid: int

    def __init__(self, program: str, state: Path, token: str | None) -> None:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.owner = os.getpid()
        self.log = state / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._is_launched = threading.Event()
        environment = {name: value for name, value in os.environ.items() if name not in OURS}
        if token:
            environment["SLIPWAY_TOKEN"] = token
        command = [program, "serve", f"--state={state}"]
        if "SLIPWAY_LISTEN" not in environment:
            command.append(f"--listen={DEFAULT_URL.removeprefix('http://') if is_free(DEFAULT_URL) else '127.0.0.1:0'}")
        runner = threading.Thread(target=self._run, args=(command, environment), name="slipway", daemon=True)
        runner.start()
        self._is_launched.wait()
        if self._failure is not None:
            raise errors.ConfigurationError(f"{program} cannot be run: {self._failure}") from self._failure
        assert self._process is not None
        self.pid = self._process.pid
        atexit.register(stop)
        try:
            self.url = self._await_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def is_ours(self) -> bool:
        """False in a process that was forked since: the service belongs to the parent."""
        return self.owner == os.getpid()

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _run(self, command: list[str], environment: dict[str, str]) -> None:
        try:
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    preexec_fn=_tie_to_parent(),
                    start_new_session=True,  # Ctrl-C is this process's to handle
                )
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._is_launched.set()
        self._process.wait()

    def _await_ready(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if not self.lives:
                assert self._process is not None
                kind = InUse if self._process.returncode == EXIT_IN_USE else errors.ExternalServiceError
                raise kind(f"slipway serve ended with status {self._process.returncode}: {self._last_words()}")
            found = re.search(r"supervisor listening .*address=(\S+):(\d+)", self._words())
            if found:
                host = "127.0.0.1" if found[1] in ("0.0.0.0", "[::]") else found[1]
                url = f"http://{host}:{found[2]}"
                if _is_ready(url):
                    return url
            time.sleep(0.05)
        raise errors.UnavailableError(f"slipway serve was not ready within {START_SECONDS:g} s: {self._last_words()}")

    def _words(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def _last_words(self) -> str:
        lines = [line for line in self._words().splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or "it said nothing"


# What concerns clients: the service has settings of its own by other names.
OURS = frozenset({"SLIPWAY_URL", "SLIPWAY_BIN", "SLIPWAY_STATE", "SLIPWAY_CA", "SLIPWAY_CERT", "SLIPWAY_KEY"})


def is_free(url: str) -> bool:
    """Whether nothing at all listens there."""
    try:
        with httpx.Client(timeout=2.0, trust_env=False, verify=False) as http:
            http.get(url + "/livez")
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        return False
    return False


def _is_ready(url: str) -> bool:
    try:
        with httpx.Client(timeout=5.0, trust_env=False, verify=False) as http:
            return http.get(url + "/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _tie_to_parent() -> Callable[[], None]:
    """What the child does before it becomes the service: ask for SIGTERM when the thread that made it ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie
