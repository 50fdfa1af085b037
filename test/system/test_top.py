"""`slipway top`: a page once where nobody sees a terminal, and a live one on a pty, which it leaves as it found it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

import models as model
from deployments import Busy, deploy, httpx_client
from slipway import DEADLINE, PROGRAM, eventually


def environment(service):
    return {**os.environ, "SLIPWAY_URL": service.url, "TERM": "xterm"}


def top_once(service, *flags):
    done = subprocess.run([PROGRAM, "top", *flags], capture_output=True, text=True, timeout=60, env=environment(service))
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(page):
    """By their first word."""
    return {line.split()[0]: line for line in page.splitlines() if line.strip()}


def test_one_page_tells_what_happens(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    deploy(slipway, "encoder", model.embedding(models))
    notes = slipway.create_collection("notes", "encoder")
    notes.bulk([{"id": f"d{i}", "text": "cat sun"} for i in range(7)], wait=True)
    with Busy(httpx_client(slipway, "one")):
        page = top_once(slipway, "--once")
    assert "\033" not in page
    found = rows(page)
    assert page.startswith("2 deployments, 1 collection, ")
    one = re.match(r"one +active +1/1 +([\d.]+) +([\d.]+ ms) +([\d.]+ ms) +\d+ +0\.0 +[\d.]+ MiB", found["one"])
    assert one and float(one[1]) > 1, found["one"]
    assert re.match(r"encoder +active +1/1 +[\d.]+ ", found["encoder"])
    assert re.match(r"notes +7 +7 +0 ", found["notes"])
    assert "DEPLOYMENT" in top_once(slipway)  # no terminal: once, too


class Terminal:
    """The command on a pty of 60 columns and 12 lines."""

    def __init__(self, service):
        self.main, self.other = pty.openpty()
        fcntl.ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
        self.before = termios.tcgetattr(self.other)
        self.output = b""
        self.process = subprocess.Popen([PROGRAM, "top"], stdin=self.other, stdout=self.other, stderr=subprocess.PIPE,
                                        env=environment(service), start_new_session=True)

    def read(self):
        while select.select([self.main], [], [], 0)[0]:
            self.output += os.read(self.main, 65536)
        return self.output

    def pages(self):
        return self.read().decode().split("\033[H\033[2J")[1:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.main)
        os.close(self.other)


@pytest.mark.parametrize("end", ["q", "SIGINT", "SIGTERM"])
def test_on_a_terminal_it_is_drawn_anew_and_leaves_all_as_it_was(slipway, models, end):
    for number in range(14):  # more than the window has lines
        answer = slipway.client.post("/v1/deployments", json={
            "deployment_name": f"a-deployment-with-a-long-name-{number}", "model_uri": f"file://{models}/nothing",
            "deployment_target_config": {"type": "api_service"}})
        assert answer.status_code == 202
    terminal = Terminal(slipway)
    try:
        eventually(lambda: len(terminal.pages()) >= 3, what="it is drawn again and again")
        assert not termios.tcgetattr(terminal.other)[3] & termios.ECHO
        page = terminal.pages()[1].replace("\r", "")
        lines = page.splitlines()
        assert len(lines) == 11 and max(map(len, lines)) <= 60, page
        if end == "q":
            os.write(terminal.main, b"q")
        else:
            terminal.process.send_signal(getattr(signal, end))
        status = terminal.process.wait(DEADLINE)
        assert status == (0 if end == "q" else -getattr(signal, end))
        assert terminal.read().endswith(b"\033[?25h\033[?1049l")
        assert termios.tcgetattr(terminal.other) == terminal.before
    finally:
        terminal.close()


def test_a_service_that_goes_away_is_said_and_seen_again(slipway):
    terminal = Terminal(slipway)
    try:
        eventually(terminal.pages)
        slipway.stop()
        eventually(lambda: "127.0.0.1" in terminal.pages()[-1], what="the page says that it does not answer")
        slipway.start()
        begun = time.monotonic()
        eventually(lambda: "127.0.0.1" not in terminal.pages()[-1] and "deployments" in terminal.pages()[-1])
        assert time.monotonic() - begun < DEADLINE and terminal.process.poll() is None
    finally:
        terminal.close()
