"""What is asked of the machine: processes pinned to cores, their CPU time and memory, and what the machine is."""

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]  # one and the same where there is one only


class Runner:
    """Starts programs, all at one niceness, so that none of the contenders is favoured."""

    niceness = 0


def command(core, arguments):
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    return [*pinned, "nice", "-n", str(Runner.niceness), *map(str, arguments)]


def start(core, arguments, log=None, **options):
    output = open(log, "ab") if log else subprocess.DEVNULL
    return subprocess.Popen(command(core, arguments), stdout=output, stderr=output, **options)


def output_of(core, arguments, **options):
    return subprocess.run(command(core, arguments), check=True, capture_output=True, text=True, **options).stdout


def stat_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(pid):
    """pid and its children."""
    found = [pid]
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and int(stat_of(entry)[1]) == pid:
                found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def descendants(pid):
    """pid, its children, theirs, and so on."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents.setdefault(int(stat_of(entry)[1]), []).append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for parent in new for child in parents.get(parent, [])} - found
    return found


def session(leader):
    """Every process of the session that `leader` began."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(stat_of(entry)[3]) == leader:
                found.add(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def role(pid):
    """The second word of its command line: serve, gateway, controller, runner."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1]


def cpu_seconds(pid):
    """Of all its threads, those that have ended too, to the nanosecond: the process's own CPU clock, whose number
    clock_getcpuclockid(3) would make like this. What /proc/PID/stat has is counted in ticks."""
    return time.clock_gettime(~pid << 3 | 2)


def pss_bytes(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss")


def pss_parts(pid):
    """(own memory, mapped files) of the proportional set size, in bytes."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name.rstrip(":")] = int(size) * 1024
    return sizes["Pss_Anon"], sizes["Pss_File"] + sizes["Pss_Shmem"]


def core_busy_seconds(core):
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / TICKS
    raise RuntimeError(f"/proc/stat has no cpu{core}")


def until(is_true, what, deadline=120, pause=0.05):
    end = time.monotonic() + deadline
    while True:
        seen = is_true()
        if seen:
            return seen
        if time.monotonic() > end:
            raise RuntimeError(f"not within {deadline} s: {what}")
        time.sleep(pause)


def describe():
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{len(CORES)} cores of {model}, {memory:.0f} GiB, {system}, kernel {platform.release()}"


median = statistics.median
