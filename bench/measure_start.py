"""(c) What it takes to be there: start to ready, memory when idle, deploy to active."""

import socket
import tempfile
import time

import machine
import service
from report import spread, table


def readyz(port):
    """One question on one connection, without a library in the way."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def start_once(state=None):
    """Milliseconds from exec to the first 200 of /readyz, and CPU milliseconds of all processes by then."""
    slipway = service.Service(core=None, state=state)
    begin = time.monotonic()
    slipway.launch()
    while not readyz(slipway.port):
        if time.monotonic() > begin + 60:
            raise RuntimeError("not ready within 60 s")
        time.sleep(0.001)
    took = time.monotonic() - begin
    cpu = sum(machine.cpu_seconds(pid) for pid in slipway.processes())
    slipway.__exit__()
    return took * 1e3, cpu * 1e3


def memory_of_fresh():
    with service.Service(core=None) as slipway:
        time.sleep(2)
        return {role: machine.pss_bytes(pid) for pid, role in slipway.processes().items()}


def deploy_once(slipway, name):
    begin = time.monotonic()
    deployment = slipway.deploy(name)
    took = time.monotonic() - begin
    slipway.call("DELETE", f"/v1/deployments/{name}")
    slipway.settle(deployment["deployment_id"])
    return took * 1e3


def measure_deploys(times):
    with service.Service(core=None) as slipway:
        slipway.deploy()
        return [deploy_once(slipway, f"again-{number}") for number in range(times)]


def measure(times, idle_after_load):
    print("bench: start to ready, memory, deploy to active", flush=True)
    fresh = [start_once() for _ in range(times)]
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as state:
        again = [start_once(state) for _ in range(times + 1)][1:]
    return render(fresh, again, [memory_of_fresh() for _ in range(3)], idle_after_load, measure_deploys(times))


def render(fresh, again, idle, idle_after_load, deploys):
    def mib(figures):
        parts = ", ".join(f"{role} {size / 2**20:.1f}" for role, size in sorted(figures.items()))
        return f"**{sum(figures.values()) / 2**20:.1f} MiB** ({parts})"

    middle = sorted(idle, key=lambda figures: sum(figures.values()))[len(idle) // 2]
    rows = [["exec to the first 200 of /readyz, new state folder", "≤ 100 ms", spread([ms for ms, _ in fresh], "ms")],
            ["of that, CPU of all processes", "", spread([ms for _, ms in fresh], "ms")],
            ["exec to the first 200 of /readyz, state folder there", "≤ 100 ms", spread([ms for ms, _ in again], "ms")],
            ["PSS of supervisor (serve) + controller + gateway, idle, fresh", "≤ 15 MB", mib(middle)]]
    if idle_after_load:
        rows.append(["the same, idle after the load above, one model deployed", "≤ 15 MB", mib(idle_after_load)])
    rows.append(["POST to active, package already here (fp32 MiniLM loads and warms up)", "", spread(deploys, "ms")])
    return f"""## Start and memory

Not pinned; the figures are this machine's own, with whatever else it did. Median of {len(fresh)} (smallest to largest).

{table(["what", "goal", "measured"], rows)}
"""
