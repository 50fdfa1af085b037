"""Every other server that installs in an environment of its own, with the same model under the same load on one core."""

import time

import machine
import service
from measure_throughput import SENTENCE
from peer import Peer
from report import ratio, table

CLIENTS = 8
GOAL_BEST = 1.4
# Of the table of peers that were tried beforehand, those that are not measured here, and why.
LEFT_OUT = {"TorchServe": "needs a Java runtime beside its environment, and is not maintained any more",
            "a Rust server over the fastembed crate": "is no package to install but a program to write"}


def start_and_load(peer, seconds):
    begin = time.monotonic()
    with peer:
        started = time.monotonic() - begin
        service.load(peer, CLIENTS, 2, peer.form, [SENTENCE])  # warm
        figures = service.load(peer, CLIENTS, seconds, peer.form, [SENTENCE])
        figures["started"] = started
        figures["memory"] = sum(machine.pss_bytes(pid) for pid in peer.processes())
        return figures


def slipway_once(seconds):
    begin = time.monotonic()
    with service.Service() as slipway:
        slipway.deploy()
        started = time.monotonic() - begin
        service.load(slipway, CLIENTS, 2, "base64", [SENTENCE])
        figures = service.load(slipway, CLIENTS, seconds, "base64", [SENTENCE])
        figures["started"] = started
        figures["memory"] = sum(machine.pss_bytes(pid) for pid in slipway.processes())
        return figures


def measure(rounds, seconds):
    peers = [Peer(name) for name in Peer.SERVERS]
    missing = [peer.title for peer in peers if not peer.is_installed]
    peers = [peer for peer in peers if peer.is_installed]
    own, theirs, broken = [], {peer.name: [] for peer in peers}, {}
    for number in range(rounds):
        print(f"bench: peers, round {number + 1} of {rounds}", flush=True)
        own.append(slipway_once(seconds))
        for peer in peers:
            if peer.name in broken:
                continue
            try:
                theirs[peer.name].append(start_and_load(Peer(peer.name), seconds))
            except RuntimeError as error:
                broken[peer.name] = str(error)[-300:]
    return render(own, peers, theirs, broken, missing)


def row(title, version, figures, own):
    middle = machine.median
    return [title, version, f"{middle([f.per_second for f in figures]):.0f}",
            ratio([(a.per_second, b.per_second) for a, b in zip(own, figures)]),
            ratio([(a.per_cpu_second, b.per_cpu_second) for a, b in zip(own, figures)]),
            f"{middle([f['p50_ms'] for f in figures]):.0f} / {middle([f['p99_ms'] for f in figures]):.0f}",
            f"{middle([f['started'] for f in figures]):.1f}", f"{middle([f['memory'] for f in figures]) / 2**20:.0f}",
            sum(f["failed"] for f in figures)]


def cores(figures):
    return machine.median([f["cpu_seconds"] / f["seconds"] for f in figures])


def render(own, peers, theirs, broken, missing):
    rows = [row("**Slipway**", "", own, own)]
    measured = [peer for peer in peers if len(theirs[peer.name]) == len(own)]
    measured.sort(key=lambda peer: -machine.median([f.per_second for f in theirs[peer.name]]))
    rows += [row(peer.title, peer.version(), theirs[peer.name], own) for peer in measured]
    notes = [f"{peer.title} did not run here: {broken[peer.name]}" for peer in peers if peer.name in broken]
    notes += [f"{title} could not be installed here." for title in missing]
    notes += [f"{peer.title} used {cores(theirs[peer.name]):.1f} cores: its threads set their own affinity and leave the core that it was "
              "given. Only the column by CPU compares it." for peer in measured if cores(theirs[peer.name]) > 1.1]
    notes += [f"{title} is left out: it {why}." for title, why in LEFT_OUT.items()]
    return f"""## Beside other servers

One sentence of 12 tokens a request, the same model as fp32 ONNX, tokenising and pooling included, {CLIENTS} clients with
connections that stay, one thread of ONNX Runtime; each server with all its processes on one core, wrk on another. One runs
at a time; the median of {len(own)} rounds in which they take turns. Each in its own way to be asked (`bench/peers/`); those that
can batch requests do so, up to 8 for 2 ms. Goal: ahead of every one, and ≥ {GOAL_BEST} times the best. The columns *Slipway / it* say
how many times as many requests Slipway answers, by clock and in a CPU second. *Start*: until it is ready, with the model
(Slipway: the service and its deployment). Memory: PSS of all its processes under that load.

{table(["server", "version", "requests a second", "Slipway / it, by clock", "by CPU", "p50 / p99 ms", "start s", "memory MiB",
        "failed"], rows)}

{chr(10).join(f"- {note}" for note in notes)}
"""
