"""kill -9, at moments and of processes that a seed chooses, one after the other: the next one when the last one is over.

A kill is over when a search of every collection, a control call and a write with wait=indexed have been answered; how long
each took is kept, and until then what the dead process does may fail (faults.py)."""

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

from chaos.client import ModelClient
from chaos.faults import CONTROL, COSTS, INDEXED, SEARCH, WRITE
from deployments import Follower
from slipway import eventually, lives

ROLES = ("controller", "indexer", "gateway", "runner", "supervisor")
RECOVERY = 90.0  # seconds; longer is a violation
STRUCK_OUT = 5.0  # seconds at most until a step's first kill
AFTER_A_BEGINNING = 0.03  # seconds at most from the beginning of a task's step to the kill
KILLS_A_STEP = 6  # at most: so that there are many steps, and not one that is killed for ever
TRIES = 200
TOLD = 50  # kills between two lines that say how it goes


def deployment_of(pid):
    """The deployment that a runner serves; None when it has gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return words[words.index("--name") + 1]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


class Killer(threading.Thread):
    """Kills while a step is open (step(), until step_over()). `pause`: the longest between a recovery and the next kill."""

    def __init__(self, world, total, pause, roles=ROLES):
        super().__init__(daemon=True)
        self.world, self.total, self.pause, self.roles = world, total, pause, roles
        self.service, self.dice = world.service, world.dice("kills")
        self.probe = ModelClient(world, -1)  # writes and searches as clients do, and is checked like them
        self.by_role, self.by_step, self.by_task_step = Counter(), Counter(), Counter()
        self.longest = {}
        self._changed = threading.Condition()
        self._step, self._struck, self._number, self._over = None, 0, 0, False
        self._typical, self._seen, self._deck, self._record = {}, {}, [], None
        self.error = None

    # ---- told by the scenario

    @property
    def done(self):
        return sum(self.by_role.values())

    @property
    def enough(self):
        return self.done >= self.total or self.error is not None

    def step(self, name):
        with self._changed:
            self._step, self._struck, self._began = name, 0, time.monotonic()
            self._allowed = self.dice.randint(1, KILLS_A_STEP)
            self._number += 1
            self._changed.notify_all()

    def step_over(self):
        """Returns when no kill is on its way. A step ends with at least one kill, if there are any left to be done."""
        with self._changed:
            took = time.monotonic() - self._began
            before = self._typical.get(self._step, took)
            self._typical[self._step] = 0.7 * before + 0.3 * min(took, STRUCK_OUT)
            self._changed.wait_for(lambda: self._struck or self.enough, RECOVERY)
            self._step = None
            self._changed.wait_for(lambda: not self._striking or self.error, 2 * RECOVERY)

    def close(self):
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self.join(2 * RECOVERY)

    # ---- the thread

    def run(self):
        self._striking = False
        try:
            while not self._over and not self.enough:
                self._wait_for_step()
                if not self._over:
                    self._wait_for_moment()
                    if self._step or not self._struck:
                        self._strike()
        except Exception as failure:  # noqa: BLE001 - the run ends with it
            self.error = failure
            self.world.violate(f"the one that kills ended: {failure!r}")
        with self._changed:
            self._striking = False
            self._changed.notify_all()

    _striking = False

    def _wait_for_step(self):
        with self._changed:
            self._striking = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: (self._step and self._struck < self._allowed) or self._over)
            self._striking = True

    def _wait_for_moment(self):
        """Half of the kills: just after the beginning of one of the steps that tasks have here, by chance, so that the short
        ones are met as often as the long. The others: a share of the time that all this takes; after the first, a pause."""
        step, number, first = self._step, self._number, not self._struck
        known = sorted(self._seen.get(step, ()))
        if known and self.dice.random() < 0.5:
            self._wait_for_task_step(self.dice.choice(known), number, STRUCK_OUT if first else 3 * self.pause)
        else:
            time.sleep(self.dice.random() * (self._typical.get(step, 1.0) if first else self.pause))

    def _wait_for_task_step(self, wanted, number, longest):
        end = time.monotonic() + longest
        while time.monotonic() < end and number == self._number and self._step and wanted not in self._task_steps():
            time.sleep(0.002)
        time.sleep(self.dice.random() * AFTER_A_BEGINNING)

    def _task_steps(self):
        """What the tasks at work are at: "reindex/await_ready"."""
        try:
            self._record = self._record or Follower(self.service.state)
            found = [f"{kind}/{step}" for kind, step in self._record.rows("SELECT kind, step FROM tasks WHERE status = 'processing'") if step]
        except sqlite3.OperationalError:
            self._record = None  # between a supervisor and the next
            return []
        if self._step:
            self._seen.setdefault(self._step, set()).update(found)
        return found

    def _strike(self):
        role, victims, deployment = self._choose()
        with self._changed:
            step = self._step or "between steps"
        at = self._task_steps()
        fault = self.world.faults.begin(role, deployment, time.monotonic())
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self.by_role[role] += 1
        self.by_step[step] += 1
        self.by_task_step.update(at or ["none"])
        if role == "supervisor":
            self.service.process.wait(RECOVERY)
            self.service.start()
        else:
            for pid in victims:
                eventually(lambda pid=pid: not lives(pid), what=f"{role} {pid} ends")
        self._recover(fault, step)
        self._tell()
        with self._changed:
            self._struck += 1
            self._changed.notify_all()

    def _choose(self):
        """Each role once, in an order by chance, before any comes again."""
        if not self._deck:
            self._deck = self.dice.sample(self.roles, len(self.roles))
        role = self._deck.pop()
        for _ in range(TRIES):
            pids = sorted(self.service.pids(role))
            if not pids:
                time.sleep(0.02)
                continue
            pid = self.dice.choice(pids)
            deployment = deployment_of(pid) if role == "runner" else None
            if lives(pid) and (deployment or role != "runner"):
                return role, [pid], deployment
        raise AssertionError(f"no {role} runs")

    # ---- recovery

    def _recover(self, fault, step):
        """Asks until all is answered again. What fails meanwhile is checked as any client's failures are."""
        collections = list(self.world.collections.values())
        self._until(fault, step, SEARCH, lambda: self._is_back(fault) and all(self.probe.search(watched, 1) for watched in collections))
        self._until(fault, step, CONTROL, self._control_answers)
        self._until(fault, step, WRITE, lambda: all(self.probe.put(watched, "probe", wait=False) for watched in collections))
        self._until(fault, step, INDEXED, lambda: all(self.probe.put(watched, "probe", wait=True) for watched in collections))

    def _is_back(self, fault):
        """A runner's successor answers, or its deployment has gone meanwhile. (It may become the blue one at any moment.)"""
        if fault.role != "runner":
            return True
        answer = self.probe.connection.ask("GET", f"/v2/models/{fault.deployment}/ready")
        return answer.status == 404 or (answer.ok and any(deployment_of(pid) == fault.deployment for pid in self.service.pids("runner")))

    def _control_answers(self):
        answer = self.probe.connection.ask("GET", "/v1/tasks?limit=1")
        if not answer.ok and not self.world.faults.excuse(CONTROL, answer.began, answer.ended):
            self.world.violate(f"a control call failed although nothing that it needs was down: {answer}")
        return answer.ok

    def _tell(self):
        if self.done % TOLD == 0:
            print(f"{time.monotonic() - self.world.began:.0f} s: {self.done} kills, {self.world.counts['searches']} searches, "
                  f"{self.world.violation_count} violations", flush=True)

    def _until(self, fault, step, kind, answered):
        end = time.monotonic() + RECOVERY
        while not answered():
            if time.monotonic() > end:
                raise AssertionError(f"{RECOVERY:g} s after the kill of {fault.role} in {step}, no {kind} is answered")
            time.sleep(0.02)
        now = time.monotonic()
        fault.over[kind] = now
        if kind in COSTS[fault.role]:
            took = now - fault.began
            longest = self.longest.get((kind, fault.role), 0)
            self.longest[kind, fault.role] = max(longest, took)
