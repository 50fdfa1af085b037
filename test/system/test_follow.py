"""Answers without an end: events and logs that are followed, through slow clients, rotated logs and deaths."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time

import httpx
import pytest

import models as model
from deployments import delete, deploy, get
from slipway import DEADLINE, PROGRAM, eventually
from upgrades import NEXT, upgrade


class Follow:
    """Reads an answer line by line on a thread of its own, from `with` to its end."""

    def __init__(self, service, path, **parameters):
        self.service, self.path, self.parameters = service, path, {"follow": "true", **parameters}
        self.objects, self.blanks, self.failure, self.status, self.headers = [], 0, None, None, {}
        self._stream = None

    def __enter__(self):
        self._client = httpx.Client(base_url=self.service.url, timeout=httpx.Timeout(30, read=60))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        eventually(lambda: self.status, what="the answer begins")
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:  # the reading thread is woken by the socket's end, not by a close of ours
            self._stream.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass
        self._thread.join(DEADLINE)
        self._client.close()

    def _read(self):
        try:
            with self._client.stream("GET", self.path, params=self.parameters) as answer:
                self._stream, self.headers = answer, answer.headers
                self.status = answer.status_code
                for line in answer.iter_lines():
                    if line.strip():
                        self.objects.append(json.loads(line))
                    else:
                        self.blanks += 1
        except httpx.HTTPError as failure:
            self.failure = failure

    def wait_for(self, predicate, what=None, deadline=DEADLINE):
        return eventually(lambda: predicate(list(self.objects)), deadline, what)

    def wait_for_end(self):
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the answer goes on"


def messages(objects):
    return [event["message"] for event in objects]


def replica_ids(service, name):
    lines = service.client.get(f"/v1/deployments/{name}/logs").json()
    return list(dict.fromkeys(line["replica_id"] for line in lines))


def log_of(service, name):
    return service.state / "logs" / f"{replica_ids(service, name)[0]}.log"


@pytest.mark.sanitizer
def test_events_come_as_they_happen_after_those_that_were_there(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    before = slipway.client.get("/v1/deployments/one/events").json()[::-1]
    with Follow(slipway, "/v1/deployments/one/events", limit=3) as follow:
        assert follow.headers["content-type"] == "application/x-ndjson"
        follow.wait_for(lambda seen: len(seen) == 3)
        assert follow.objects == before[-3:]  # oldest first, as the plain list has them
        answer = slipway.client.patch("/v1/deployments/one", json={"tags": {"a": 1}})
        assert answer.status_code == 202
        slipway.client.get("/v1/deployments/one/wait")
        after = slipway.client.get("/v1/deployments/one/events").json()[::-1]
        follow.wait_for(lambda seen: seen == after[len(before) - 3:], "each event once, in order")


def test_events_of_the_whole_service_name_their_deployment(slipway, models):
    with Follow(slipway, "/v1/events") as follow:
        deployment = deploy(slipway, "one", model.add_one(models))
        listed = slipway.client.get("/v1/events", params={"limit": 1000}).json()
        follow.wait_for(lambda seen: seen == listed[::-1])
        mine = [event for event in follow.objects if event.get("deployment") == "one"]
        assert mine and {event["deployment_id"] for event in mine} == {deployment["deployment_id"]}
        last = follow.objects[-1]["event_id"]
    with Follow(slipway, "/v1/events", after=last) as follow:
        delete(slipway, "one")
        follow.wait_for(lambda seen: any("inactive" in message for message in messages(seen)))
        assert min(event["event_id"] for event in follow.objects) == last + 1


def test_lines_of_logs_come_as_they_are_written(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    listed = slipway.client.get("/v1/deployments/one/logs").json()[::-1]
    log = log_of(slipway, "one")
    with Follow(slipway, "/v1/deployments/one/logs", limit=1) as follow:
        follow.wait_for(lambda seen: [line["line"] for line in seen] == [listed[-1]["line"]])
        assert follow.objects[0]["at"] == listed[-1]["at"] == listed[-1]["line"][:24]
        with open(log, "ab", buffering=0) as file:  # as a runner writes: appended
            file.write(b"first\nsec")
            follow.wait_for(lambda seen: seen[-1]["line"] == "first")
            file.write(b"ond\n\xff\n")
            follow.wait_for(lambda seen: [line["line"] for line in seen[-2:]] == ["second", "?"])
        position = follow.objects[-2]["position"]
    with Follow(slipway, "/v1/deployments/one/logs", after=position) as follow:
        follow.wait_for(lambda seen: [line["line"] for line in seen] == ["?"])
        new = deploy(slipway, "other", model.add_one(models, "add-two", amount=2.0))
        assert new
        slipway.client.patch("/v1/deployments/one", json={"replicas": 2})
        follow.wait_for(lambda seen: len({line["replica_id"] for line in seen}) == 2, "the new replica's lines")
        delete(slipway, "one")
        follow.wait_for_end()  # nothing can come any more
        assert follow.failure is None


@pytest.mark.sanitizer
def test_a_log_that_is_set_aside_is_followed_without_a_gap(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    log = log_of(slipway, "one")
    with Follow(slipway, "/v1/deployments/one/logs", limit=1) as follow:
        follow.wait_for(lambda seen: len(seen) == 1)
        for turn in range(5):
            new = log.with_name(log.name + ".new")
            with open(log, "ab", buffering=0) as old, open(new, "ab", buffering=0) as fresh:
                old.write(b"".join(b"%d old %d\n" % (turn, i) for i in range(100)))
                fresh.write(b"".join(b"%d new %d\n" % (turn, i) for i in range(100)))
                log.rename(log.with_name(log.name + ".1"))
                new.rename(log)
            expected = [f"{turn} {which} {i}" for which in ("old", "new") for i in range(100)]
            follow.wait_for(lambda seen: [line["line"] for line in seen[-200:]] == expected, f"turn {turn}")
        assert len(follow.objects) == 1 + 5 * 200 and not any(line.get("gap") for line in follow.objects)
        middle = follow.objects[-150]["position"]  # of the file that was set aside last
        expected = [line["line"] for line in follow.objects[-149:]]
    with Follow(slipway, "/v1/deployments/one/logs", after=middle) as follow:
        follow.wait_for(lambda seen: [line["line"] for line in seen] == expected)


def memory_of(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))


def test_a_client_that_does_not_read_costs_no_memory_and_misses_nothing(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    log = log_of(slipway, "one")
    connection = http.client.HTTPConnection(slipway.host, slipway.port, timeout=DEADLINE)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    connection.sock.connect((slipway.host, slipway.port))
    connection.request("GET", "/v1/deployments/one/logs?follow=true&limit=1")
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.readline())
    roles = [slipway.pids("controller")[0], slipway.pids("gateway")[0]]
    before = [memory_of(pid) for pid in roles]
    count = 100000
    with open(log, "ab") as file:  # about 12 MB of lines, and more as JSON
        for number in range(count):
            file.write(b"line %d %s\n" % (number, b"x" * 100))
    with Follow(slipway, "/v1/deployments/one/logs", limit=1000) as quick:  # others are not held up
        quick.wait_for(lambda seen: seen and seen[-1]["line"].startswith(f"line {count - 1} "))
    assert [after - size < 8 << 20 for after, size in zip([memory_of(pid) for pid in roles], before)] == [True, True]
    expected = 0
    while expected < count:  # now it reads: each line is there, in order
        line = answer.readline()
        if line.strip():
            assert line.partition(b'"line":"line ')[2].startswith(b"%d " % expected)
            expected += 1
    connection.close()


def test_a_follower_says_that_it_lives_and_is_let_go_when_its_client_goes(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    controller = slipway.pids("controller")[0]

    def logs_open():
        return [link for name in os.listdir(f"/proc/{controller}/fd")
                if (link := os.readlink(f"/proc/{controller}/fd/{name}")).count("/logs/")]

    def told():
        return [line for line in slipway.whole_log().splitlines() if "GET /v1/deployments/one/logs" in line]

    before = len(told())
    with Follow(slipway, "/v1/deployments/one/logs") as follow:
        assert logs_open()
        eventually(lambda: follow.blanks, 30, "a blank line")
        assert len(told()) == before  # the access log tells of it at its end
    eventually(lambda: not logs_open(), what="the controller lets go of the file")
    eventually(lambda: len(told()) == before + 1, what="one line in the access log")


def test_a_controller_that_dies_breaks_the_answer_off_and_the_command_goes_on(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    environment = {**os.environ, "SLIPWAY_URL": slipway.url}
    command = subprocess.Popen([PROGRAM, "events", "one", "-f", "--json"], stdout=subprocess.PIPE, text=True, env=environment)
    logs = subprocess.Popen([PROGRAM, "logs", "one", "--follow", "--json", "--limit", "5"], stdout=subprocess.PIPE,
                            text=True, env=environment)
    seen, lines = [], []
    readers = [threading.Thread(target=lambda pipe=pipe, kept=kept: kept.extend(map(json.loads, pipe)), daemon=True)
               for pipe, kept in ((command.stdout, seen), (logs.stdout, lines))]
    try:
        for reader in readers:
            reader.start()
        eventually(lambda: seen and lines)
        log = log_of(slipway, "one")
        with Follow(slipway, "/v1/deployments/one/events") as follow:
            slipway.kill_role("controller")
            follow.wait_for_end()
            assert isinstance(follow.failure, httpx.RemoteProtocolError), "the client sees that it is not whole"
        with open(log, "ab", buffering=0) as file:
            file.write(b"meanwhile\n")
        slipway.wait_until_ready()
        eventually(lambda: lines[-1]["line"] == "meanwhile")
        slipway.kill_role("gateway")
        slipway.wait_until_ready()
        patched = eventually(lambda: slipway.client.patch("/v1/deployments/one", json={"tags": {"b": 2}}).status_code == 202)
        assert patched
        slipway.client.get("/v1/deployments/one/wait")
        listed = slipway.client.get("/v1/deployments/one/events", params={"limit": 1000}).json()[::-1]
        eventually(lambda: seen == listed, what="every event once")
        with open(log, "ab", buffering=0) as file:
            file.write(b"at last\n")
        eventually(lambda: lines[-1]["line"] == "at last")
        texts = [line["line"] for line in lines]
        assert texts.count("meanwhile") == 1 and texts.count("at last") == 1
        positions = [line["position"] for line in lines]
        assert len(set(positions)) == len(positions)
    finally:
        for process in (command, logs):
            process.terminate()
            process.wait(DEADLINE)


def test_an_upgrade_is_followed_without_a_repeat_and_logs_go_on_being_set_aside(make_slipway, models):
    service = make_slipway(log_maximum="4096").start()
    deploy(service, "one", model.add_one(models))
    environment = {**os.environ, "SLIPWAY_URL": service.url}
    command = subprocess.Popen([PROGRAM, "logs", "one", "-f", "--json"], stdout=subprocess.PIPE, text=True, env=environment)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(map(json.loads, command.stdout)), daemon=True)
    reader.start()
    try:
        eventually(lambda: lines)
        log = log_of(service, "one")
        assert upgrade(service, NEXT)["state"] == "done"
        expected = [f"line {number}" for number in range(600)]
        log.open("a").write("".join(line + "\n" for line in expected))
        aside, new = log.with_name(log.name + ".1"), log.with_name(log.name + ".new")
        eventually(lambda: aside.exists() and not new.exists(), what="the new supervisor sets it aside")
        with open(log, "a") as file:
            file.write("last\n")
        eventually(lambda: [line["line"] for line in lines[-601:]] == [*expected, "last"], what="each line once")
    finally:
        command.terminate()
        command.wait(DEADLINE)


def test_a_service_that_ends_does_not_wait_for_those_who_follow(make_slipway, models):
    service = make_slipway().start()  # whose drain time is 30 s
    deploy(service, "one", model.add_one(models))
    with Follow(service, "/v1/events") as follow, Follow(service, "/v1/deployments/one/logs"):
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 15
        follow.wait_for_end()
        assert follow.failure


@pytest.mark.sanitizer
def test_only_so_many_follow_at_once(slipway):
    def begin():
        connection = http.client.HTTPConnection(slipway.host, slipway.port, timeout=DEADLINE)
        connection.request("GET", "/v1/events?follow=true")
        return connection, connection.getresponse()

    following = [begin() for _ in range(256)]
    assert {answer.status for _, answer in following} == {200}
    connection, answer = begin()
    assert answer.status == 503 and b"256 clients" in answer.read()
    connection.close()
    assert slipway.client.get("/v1/processes").status_code == 200  # others are not held up
    following.pop()[1].close()

    def there_is_room():
        connection, answer = begin()
        following.append((connection, answer))
        return answer.status == 200

    eventually(there_is_room)
    for connection, answer in following:
        answer.close()
        connection.close()


@pytest.mark.sanitizer
def test_what_cannot_be_followed_is_said(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    for path, status in (("/v1/deployments/two/events?follow=true", 404), ("/v1/deployments/one/logs?follow=maybe", 400),
                         ("/v1/events?follow=true&offset=3", 400), ("/v1/events?follow=true&after=x", 400),
                         ("/v1/deployments/one/logs?follow=true&after=nonsense", 400),
                         ("/v1/deployments/one/revisions?follow=true", 400), ("/v1/tasks?follow=true", 400)):
        assert slipway.client.get(path, timeout=10).status_code == status, path
    connection = http.client.HTTPConnection(slipway.host, slipway.port, timeout=10)
    connection.request("HEAD", "/v1/events?follow=true")
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("Content-Type") == "application/x-ndjson" and not answer.read()
    connection.close()
    assert get(slipway, "one")["status"] == "active"


def test_the_commands_show_logs_and_events(slipway, models):
    deploy(slipway, "one", model.add_one(models))
    environment = {**os.environ, "SLIPWAY_URL": slipway.url}

    def run(*words):
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = [line["line"] for line in slipway.client.get("/v1/deployments/one/logs").json()][::-1]
    assert [line[10:] for line in run("logs", "one").splitlines()] == listed
    assert "task_step" in run("events", "one")
    assert "DEPLOYMENT" in run("events")
