"""How what everybody does grows with the number of deployments: 1, 100, 1000."""

import tempfile
import time

import articles
import chart
import machine
import service
from report import spread, table

TIERS = (1, 100, 1000)
LIVE_MAXIMUM = 100  # so many have a process each; the others are records of deployments that were deleted
CLIENTS = 8
CHART = service.ROOT / "bench" / "growth.svg"


def populate(slipway, model, count):
    """One by one would be a wait each: all are asked for, then waited for."""
    live = min(count, LIVE_MAXIMUM)
    names = [f"model-{number}" for number in range(live)]
    for name in names:
        slipway.call("POST", "/v1/deployments", slipway.request(name, model))
    for name in names:
        slipway.settle(name)
    gone = [slipway.call("POST", "/v1/deployments", slipway.request(f"gone-{number}", f"{model}-is-not-there"))
            for number in range(count - live)]
    for deployment in gone:
        slipway.call("DELETE", f"/v1/deployments/{deployment['deployment_id']}")
    for deployment in gone:
        slipway.settle(deployment["deployment_id"])
    return names


def timed(times, act):
    taken = []
    for number in range(times):
        begin = time.monotonic()
        act(number)
        taken.append(1e3 * (time.monotonic() - begin))
    return taken


def deploy_and_delete(slipway, model, number, taken):
    begin = time.monotonic()
    deployment = slipway.deploy(f"one-more-{number}", model)
    taken.append(1e3 * (time.monotonic() - begin))
    slipway.call("DELETE", f"/v1/deployments/{deployment['deployment_id']}")
    slipway.settle_gone(deployment["deployment_id"])


def measure_tier(count, rounds, seconds):
    print(f"bench: growth, {count} deployments", flush=True)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=service.BUILD) as folder:
        model = articles.tiny(folder, "tiny", 1)
        with service.Service(core=None, memory_budget="64Gi") as slipway:
            begin = time.monotonic()
            names = populate(slipway, model, count)
            populated = time.monotonic() - begin
            one = slipway.call("GET", f"/v1/deployments/{names[-1]}")["deployment_id"]
            given = {"populated": populated, "status": [], "infer": []}
            for _ in range(rounds):
                given["status"].append(service.load(slipway, CLIENTS, seconds, f"/v1/deployments/{one}", []))
                given["infer"].append(service.load(slipway, CLIENTS, seconds, f"/v2/models/{names[-1]}", []))
            given["list"] = timed(5 * rounds, lambda _: slipway.call("GET", "/v1/deployments?limit=10"))
            given["metrics"] = timed(rounds, lambda _: slipway.call("GET", "/metrics"))
            given["deploy"] = []
            for number in range(rounds):
                deploy_and_delete(slipway, model, number, given["deploy"])
            given["memory"] = {role: machine.pss_bytes(pid) for pid, role in slipway.processes().items() if role != "runner"}
            return given


def cpu_us(figures, role):
    return [f["cpu_of"].get(role, 0) / f["requests"] * 1e6 for f in figures]


def measure(rounds, seconds):
    return render({count: measure_tier(count, rounds, seconds) for count in TIERS})


def render(tiers):
    rows = []
    for what, of, unit in (
            ("GET /v1/deployments/{id}: controller's CPU a request", lambda t: cpu_us(t["status"], "controller"), "µs"),
            ("GET /v2/models/{name}: gateway's CPU a request", lambda t: cpu_us(t["infer"], "gateway"), "µs"),
            ("GET /v1/deployments?limit=10", lambda t: t["list"], "ms"),
            ("GET /metrics", lambda t: t["metrics"], "ms"),
            ("POST to active, one more", lambda t: t["deploy"], "ms"),
            ("controller's memory", lambda t: [t["memory"]["controller"] / 2**20], "MiB"),
            ("gateway's memory", lambda t: [t["memory"]["gateway"] / 2**20], "MiB"),
            ("supervisor's memory", lambda t: [t["memory"]["serve"] / 2**20], "MiB")):
        rows.append((what, unit, [of(tiers[count]) for count in TIERS]))
    chart.write(CHART, "Growth with the number of deployments, each relative to 1",
                [str(count) for count in TIERS],
                [(what, [machine.median(values) / machine.median(series[0]) for values in series]) for what, _, series in rows])
    return f"""## Growth

The same with {", ".join(map(str, TIERS))} deployments. Up to {LIVE_MAXIMUM} of them have a process each, with a model that costs next to
nothing; the others are records of failed deployments that were deleted. Not pinned. Goal: flat. `/metrics` tells of each replica, so
that it cannot be.

{table(["what", *(f"{count}" for count in TIERS)],
       [[what, *(spread(values, unit, 1) for values in series)] for what, unit, series in rows])}

![growth](growth.svg)
"""
