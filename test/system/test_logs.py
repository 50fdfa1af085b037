"""Logs that grow: they are set aside while their runner lives, and nothing of them is lost."""

import os
import signal

import pytest

import models as model
from deployments import deploy, infer, runners
from slipway import eventually
from test_follow import Follow, log_of

MAXIMUM = 4096


def writes_into(pid):
    return {os.readlink(f"/proc/{pid}/fd/{descriptor}") for descriptor in (1, 2)}


@pytest.mark.sanitizer
def test_a_log_is_set_aside_while_its_runner_lives(make_slipway, models):
    service = make_slipway(log_maximum=str(MAXIMUM)).start()
    deploy(service, "one", model.add_one(models))
    log, pid = log_of(service, "one"), next(iter(runners(service, "one")))
    aside = log.with_name(log.name + ".1")
    with Follow(service, "/v1/deployments/one/logs", limit=1000) as follow:
        follow.wait_for(lambda seen: seen)
        for turn in range(3):
            lines = [f"turn {turn} line {number}" for number in range(300)]
            before = log.read_text()
            with open(log, "a") as file:  # as much as if its runner had written it
                file.write("".join(line + "\n" for line in lines))
            eventually(lambda: aside.exists() and aside.read_text().endswith(f"turn {turn} line 299\n"))
            eventually(lambda: writes_into(pid) == {str(log)}, what="the runner writes into the new one")
            assert aside.read_text() == before + "".join(line + "\n" for line in lines)
            assert log.stat().st_size < MAXIMUM and not log.with_name(log.name + ".new").exists()
            follow.wait_for(lambda seen: [line["line"] for line in seen[-300:]] == lines)
        assert set(runners(service, "one")) == {pid} and infer(service, "one")[0] == 2
        plain = [line["line"] for line in service.client.get("/v1/deployments/one/logs", params={"limit": 5}).json()]
        assert plain == [f"turn 2 line {number}" for number in range(299, 294, -1)]  # those that were set aside, too
        os.kill(pid, signal.SIGTERM)  # its last line is in the new one
        follow.wait_for(lambda seen: any("ending after a drain" in line["line"] for line in seen))
        assert not any(line.get("gap") for line in follow.objects)
        eventually(lambda: set(runners(service, "one")) - {pid})
        follow.wait_for(lambda seen: any(" ready " in line["line"] for line in seen[-3:]), "the next one goes on in it")
    eventually(lambda: infer(service, "one")[0] == 2)
