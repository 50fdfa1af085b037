"""One run of the proof, from an empty folder to the summary."""

import time
from dataclasses import dataclass, field

from chaos.client import Clients
from chaos.encoders import MODELS
from chaos.kills import Killer
from chaos.rest import check_at_rest
from chaos.scenario import Scenario
from chaos.world import World
from slipway import Slipway

# Death is what is tried here, not patience: pauses are short, nothing is given up for having died often, and what would
# hang for longer than this is a failure.
SETTINGS = {"step_backoff": "50ms", "replica_restarts": 1000, "task_attempts": 100, "drain": "10s", "upstream_timeout": "10s",
            "rollback_window": "5s", "switch_max_lag": "2s", "switch_deadline": "2m", "reindex_stall_deadline": "1m",
            "indexed_timeout": "30s", "access_log": "false"}
CLIENTS = 6
RESTED = 1.0  # seconds between a recovery and the next kill, at most


@dataclass
class Summary:
    seed: int
    seconds: float = 0
    kills: dict = field(default_factory=dict)
    kills_by_step: dict = field(default_factory=dict)
    kills_by_task_step: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)
    switches: int = 0
    rollbacks: int = 0
    missed_rollbacks: int = 0
    longest: dict = field(default_factory=dict)
    violations: list = field(default_factory=list)
    violation_count: int = 0

    def __str__(self):
        def words(counts):
            return ", ".join(f"{key} {value}" for key, value in sorted(counts.items())) or "none"

        longest = ", ".join(f"{kind} {seconds:.2f} s ({role})" for (kind, role), seconds in sorted(self.longest.items()))
        lines = [f"seed                     {self.seed}",
                 f"time                     {self.seconds:.0f} s",
                 f"kills                    {sum(self.kills.values())}",
                 f"  by role                {words(self.kills)}",
                 f"  by step                {words(self.kills_by_step)}",
                 f"  by what tasks were at  {words(self.kills_by_task_step)}",
                 f"operations               {words(self.counts)}",
                 f"switches, rollbacks      {self.switches}, {self.rollbacks} (and {self.missed_rollbacks} after their window)",
                 f"longest unavailability   {longest or 'none'}",
                 f"violations               {self.violation_count}"]
        return "\n".join(lines + [f"  {violation}" for violation in self.violations])


def run(folder, seed, kills, settings=None, pause=RESTED, window=30):
    """The Summary; the caller looks at its violations. `folder` is empty or not there; what the service left stays in it."""
    print(f"chaos: seed {seed}, {kills} kills", flush=True)
    roots = ":".join(str(path) for path in MODELS.values())
    with Slipway(folder, model_roots=roots, **{**SETTINGS, **(settings or {})}) as service:
        service.folder.mkdir(parents=True, exist_ok=True)
        world = World(service, seed, MODELS)
        service.start()
        assert service.deploy("fp32", MODELS["fp32"])["status"] == "active"
        world.deployments["fp32"].add("fp32")
        for name, keep_queries in (("main", True), ("aside", False)):
            service.create_collection(name, "fp32", probe=world.queries[0], keep_queries=keep_queries)
            world.watch(name, "fp32", keep_queries)
        killer = Killer(world, kills, pause)
        scenario = Scenario(world, world.collections["main"], world.collections["aside"], killer, window)
        try:
            with Clients(world, CLIENTS):
                killer.start()
                try:
                    scenario.run()
                finally:
                    killer.close()
            check_at_rest(world, scenario)
        except Exception as failure:  # noqa: BLE001 - the summary says what was found until then
            world.violate(f"the run ended early: {failure!r}")
        return summarise(world, killer, scenario)


def summarise(world, killer, scenario):
    return Summary(seed=world.seed, seconds=time.monotonic() - world.began, kills=dict(killer.by_role),
                   kills_by_step=dict(killer.by_step), kills_by_task_step=dict(killer.by_task_step), counts=dict(world.counts),
                   switches=scenario.switches, rollbacks=scenario.rollbacks, missed_rollbacks=scenario.missed_rollbacks,
                   longest=killer.longest, violations=world.violations, violation_count=world.violation_count)
