"""What was broken when, and what that excuses.

The death of a process excuses what it alone does, from the kill until a question of that kind has been answered again:

    supervisor, gateway   everything
    controller            control calls
    runner                searches with its encoder, where it is that deployment's only one; waiting for the index
    indexer               waiting for the index

Nothing else that fails is excused."""

import threading
from dataclasses import dataclass, field

SEARCH, WRITE, INDEXED, CONTROL = "search", "write", "indexed", "control"
COSTS = {
    "supervisor": (SEARCH, WRITE, INDEXED, CONTROL),
    "gateway": (SEARCH, WRITE, INDEXED, CONTROL),
    "controller": (CONTROL,),
    "indexer": (INDEXED,),
    "runner": (SEARCH, INDEXED),
}


@dataclass(slots=True)
class Fault:
    role: str
    deployment: str | None  # a runner's
    began: float
    over: dict = field(default_factory=dict)  # kind: when it was answered again

    def covers(self, kind, began, ended, deployments):
        if kind not in COSTS[self.role] or began > self.over.get(kind, float("inf")) or ended < self.began:
            return False
        return self.role != "runner" or kind != SEARCH or self.deployment in deployments


class Faults:
    def __init__(self):
        self._lock = threading.Lock()
        self._faults = []

    def begin(self, role, deployment, now):
        fault = Fault(role, deployment, now)
        with self._lock:
            self._faults.append(fault)
        return fault

    def excuse(self, kind, began, ended, deployments=()):
        """True when a failure then is one that had to be. `deployments`: whose runners were needed."""
        with self._lock:
            return any(fault.covers(kind, began, ended, deployments) for fault in reversed(self._faults))
