"""Runs the sections and writes RESULTS.md. Started by bench/run."""

import argparse
import datetime
import os
from pathlib import Path

import machine
import measure_batch
import measure_control
import measure_gateway
import measure_growth
import measure_peers
import measure_registries
import measure_reindex
import measure_search
import measure_searching
import measure_start
import measure_switch
import measure_throughput
import measure_update
import measure_writes
import report
import service

RESULTS = Path(__file__).parent / "RESULTS.md"
NOTES = Path(__file__).parent / "NOTES.md"
SECTIONS = ("throughput", "peers", "update", "start", "gateway", "control", "growth", "reindex", "writes", "search",
            "searching", "switch", "registries", "batch")


def parse():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement in a round")
    parser.add_argument("--documents", type=int, default=3000, help="in the collections that a real model embeds")
    parser.add_argument("--largest", type=int, default=1_000_000, help="documents in the largest collection")
    parser.add_argument("--nice", type=int, default=0, help="niceness of every contender and of the load")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return options


def head(options):
    flags = options.sections + [f"--rounds {options.rounds}", f"--seconds {options.seconds}"] + \
            [f"--documents {options.documents}", f"--largest {options.largest}"] + \
            ([f"--nice {options.nice}"] if options.nice else [])
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    loads = "; load average at the start %.1f" % os.getloadavg()[0]
    return f"""# Results

{today} · {machine.describe()}{loads} · `bench/run {" ".join(flags)}` (`make bench` runs it with its defaults)

Ratios are what counts here: everything in a table was measured in the same run, the contenders in turns. Absolute figures
are of this machine on this day.
"""


def main():
    options = parse()
    wanted = options.sections or SECTIONS
    machine.Runner.niceness = options.nice
    parts, idle = [head(options)], None
    if "throughput" in wanted:
        text, idle = measure_throughput.measure(options.rounds, options.seconds)
        parts.append(text)
    if "peers" in wanted:
        parts.append(measure_peers.measure(options.rounds, 2 * options.seconds))
    if "update" in wanted:
        parts.append(measure_update.measure(updates=4, pause=options.seconds))
    if "start" in wanted:
        parts.append(measure_start.measure(max(3, options.rounds), idle))
    if "gateway" in wanted:
        parts.append(measure_gateway.measure(options.rounds, options.seconds))
    if "control" in wanted:
        parts.append(measure_control.measure(options.rounds, options.seconds))
    if "growth" in wanted:
        parts.append(measure_growth.measure(options.rounds, options.seconds))
    if "reindex" in wanted:
        parts.append(measure_reindex.measure(options.rounds, options.documents, options.largest))
    if "writes" in wanted:
        parts.append(measure_writes.measure(options.rounds, options.seconds))
    if "search" in wanted:
        parts.append(measure_search.measure(10 * options.rounds))
    if "searching" in wanted:
        parts.append(measure_searching.measure(options.documents, 15 * options.seconds))
    if "switch" in wanted:
        parts.append(measure_switch.measure(options.documents, 2 * options.rounds))
    if "registries" in wanted:
        parts.append(measure_registries.measure(options.rounds))
    if "batch" in wanted:
        parts.append(measure_batch.measure(options.rounds, options.documents))
    notes = NOTES.read_text()
    text = "\n".join([*parts, notes])
    print(text)
    RESULTS.write_text(report.merge(RESULTS.read_text(), text, notes) if options.sections else text)
    print(f"bench: written to {RESULTS.relative_to(service.ROOT)}")


if __name__ == "__main__":
    main()
