"""What goes on while clients work and processes are killed: one collection is moved from encoder to encoder and back, and
every step must end as if nobody had been killed.

    fp32 → small (another dimension) → int8 (the dimension of the first, other weights) → back to small → fp32, and again
"""

import time

from chaos.faults import CONTROL
from slipway import eventually

STEP_DEADLINE = 240.0  # seconds; a step that takes longer hangs
UNFINISHED = ("pending", "processing")


class Scenario:
    def __init__(self, world, watched, shared, killer, window):
        """`watched` is moved; `shared` (or None) stays on the first encoder, which therefore is never deleted. `window`:
        seconds for which a pair can be rolled back to."""
        self.world, self.watched, self.shared, self.killer, self.window = world, watched, shared, killer, window
        self.connection, self.dice = world.connect(), world.dice("scenario")
        self.switches = self.rollbacks = self.missed_rollbacks = self.cycles = 0

    # ---- the steps

    def run(self):
        """Until there have been kills enough; ends after a whole step."""
        while not self.killer.enough:
            self.cycles += 1
            for name, step in (("to small", lambda: self.reindex("small", self.dice.choice((0, 1, 3)))),
                               ("to int8", lambda: self.reindex("int8", self.window)),
                               ("rollback", self.roll_back),
                               ("to fp32", lambda: self.reindex("fp32", self.dice.choice((0, 1, 3))))):
                if self.killer.enough:
                    return
                self.killer.step(name)
                step()
                self.killer.step_over()

    def destination(self, encoder):
        """A new deployment of it; the first encoder is deployed for good."""
        if encoder == "fp32":
            return "fp32"
        name = f"{encoder}-{self.cycles}"
        self.world.deployments[encoder].add(name)
        return {"deployment_name": name, "model_uri": str(self.world.encoders[encoder].folder),
                "deployment_target_config": {"type": "api_service"}}

    def reindex(self, encoder, window):
        if self.watched.pairs.blue == encoder:
            return  # a rollback came too late
        body = {"destination": self.destination(encoder), "rollback_window": window}
        if self.change("reindex", encoder, body):
            self.switches += 1

    def roll_back(self):
        if self.watched.pairs.blue != "int8":
            return
        if self.change("rollback", "small", None):
            self.rollbacks += 1
        else:
            self.missed_rollbacks += 1

    def change(self, operation, encoder, body):
        """Asks for it, again where the answer was lost or the time was wrong, until it is done; False when a rollback's
        window was over."""
        self.watched.pairs.begin(encoder, time.monotonic())
        end = time.monotonic() + STEP_DEADLINE
        while True:
            task = self.begin(operation, body)
            finished = self.wait_for(task, end) if task else None
            if finished and finished["status"] == "done":
                self.watched.pairs.done(time.monotonic())
                self.expect_blue(encoder)
                return True
            if operation == "rollback" and (finished is None or finished["status"] in ("refused", "failed")):
                self.world.count("rollbacks refused")
                self.watched.pairs.given_up(time.monotonic())
                self.expect_blue(self.watched.pairs.blue)
                return False
            if finished is None or finished["status"] != "refused" or time.monotonic() > end:
                self.world.violate(f"{operation} to {encoder} ended: {finished}")
                self.watched.pairs.given_up(time.monotonic())
                self.expect_blue(self.watched.pairs.blue)
                return False
            self.world.count("re-indexes refused")
            time.sleep(0.3)  # the window of the change before is open still: asked again

    # ---- asking

    def ask(self, method, path, body=None):
        """Until it is answered; a failure without an excuse is a violation."""
        end = time.monotonic() + STEP_DEADLINE
        while True:
            answer = self.connection.ask(method, path, body)
            if answer.status not in (0, 502, 503, 504):
                return answer
            if not self.world.faults.excuse(CONTROL, answer.began, answer.ended):
                self.world.violate(f"a control call failed although nothing that it needs was down: {answer}")
            assert time.monotonic() < end, f"never answered: {answer}"
            time.sleep(0.02)

    def tasks(self, **query):
        words = "&".join(f"{key}={value}" for key, value in {"limit": 1000, **query}.items())
        return self.ask("GET", f"/v1/tasks?{words}").json

    def begin(self, operation, body):
        """The task; None when it was refused with a status. An answer that was lost is looked for among the tasks."""
        path = f"/v1/collections/{self.watched.name}/{operation}"
        while True:
            before = {task["task_id"] for task in self.tasks(collection=self.watched.name)}
            answer = self.connection.ask("POST", path, body)
            if answer.status == 202:
                return answer.json
            if answer.status not in (0, 502, 503, 504):
                if operation != "rollback":
                    self.world.violate(f"{operation} was refused: {answer}")
                return None
            if not self.world.faults.excuse(CONTROL, answer.began, answer.ended):
                self.world.violate(f"a control call failed although nothing that it needs was down: {answer}")
            kinds = ("reindex",) if operation == "reindex" else ("rollback", "switch")
            new = [task for task in self.tasks(collection=self.watched.name) if task["task_id"] not in before and task["kind"] in kinds]
            if new:
                return new[0]

    def wait_for(self, task, end):
        while True:
            found = self.ask("GET", f"/v1/tasks/{task['task_id']}").json
            if found["status"] not in UNFINISHED:
                return found
            if time.monotonic() > end:
                self.world.violate(f"a task hangs: {found}")
                raise AssertionError(f"a task hangs: {found}")
            time.sleep(0.03)

    def expect_blue(self, encoder):
        answer = self.ask("GET", f"/v1/collections/{self.watched.name}")
        digest = answer.json["blue"]["digest"]
        if digest != self.world.encoders[encoder].digest:
            self.world.violate(f"{encoder} should be blue: {answer}")

    def wait_until_retired(self, deadline=STEP_DEADLINE):
        """Until no task is left, windows included."""
        def unfinished():
            return [task for task in self.tasks() if task["status"] in UNFINISHED]

        eventually(lambda: not unfinished(), deadline, "every task, also of windows, has ended")
