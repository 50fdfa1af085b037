"""(b) What clients notice of an update: 8 of them ask all the time while the model is replaced again and again."""

import http.client
import json
import shutil
import threading
import time
from datetime import datetime

import machine
import service
from report import percentile, table

CLIENTS = 8
SENTENCE = "The quick brown fox jumps over the lazy dog."
BODY = json.dumps({"model": "minilm", "input": SENTENCE, "encoding_format": "base64"})


class Client(threading.Thread):
    """Closed loop over one kept-alive connection. asked: (begin, end) of each answer; failed: what went wrong."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.asked, self.failed, self.ends = port, [], [], False

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.ends:
            begin = time.time()
            try:
                connection.request("POST", "/v1/embeddings", BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    self.failed.append(f"{answer.status} {text[:200]}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
            self.asked.append((begin, time.time()))


def copy_of_model():
    """The same weights as another package: its README differs."""
    folder = service.BUILD / "bench" / "all-MiniLM-L6-v2-b"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(service.MODEL, folder)
    (folder / "README.md").write_text("The same model again, as another package.\n")
    return folder


def seconds_of(event):
    return datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp()


def windows_of(slipway, task_id):
    """(update, switch): from the task's first step to its end, and from the step switch to its end."""
    events = [e for e in slipway.call("GET", "/v1/deployments/minilm/events?limit=1000") if e.get("task_id") == task_id]
    steps = {e["message"]: seconds_of(e) for e in reversed(events) if e["kind"] == "task_step"}
    end = max(map(seconds_of, events))
    return (min(steps.values()), end), (steps["switch"], end)


def latencies(asked, windows):
    """Milliseconds of the requests that were under way in one of the windows."""
    return [(end - begin) * 1e3 for begin, end in asked if any(begin < last and end > first for first, last in windows)]


def measure(updates, pause):
    with service.Service(rollback_window="0s") as slipway:
        slipway.deploy()
        models, tasks = (copy_of_model(), service.MODEL), []
        clients = [Client(slipway.port) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for number in range(updates):
            print(f"bench: update under load, {number + 1} of {updates}", flush=True)
            time.sleep(pause)
            tasks.append(slipway.update(models[number % 2])["task_id"])
        time.sleep(pause)
        for client in clients:
            client.ends = True
        for client in clients:
            client.join()
        windows = [windows_of(slipway, task) for task in tasks]
    asked = [pair for client in clients for pair in client.asked]
    return render(asked, [text for client in clients for text in client.failed], windows)


def render(asked, failed, windows):
    updates, switches = zip(*windows)
    quiet = [(end - begin) * 1e3 for begin, end in asked
             if not any(begin < last and end > first for first, last in updates)]
    rows = [["no update at work", len(quiet), quiet], ["an update at work (fetch to the old replica's end)", None,
            latencies(asked, updates)], ["within it, the switch (from the new route to the old replica's end)", None,
            latencies(asked, switches)]]
    cells = [[name, len(values), f"{percentile(values, .5):.0f}", f"{percentile(values, .99):.0f}", f"{max(values):.0f}"]
             for name, _, values in rows if values]
    base = percentile(quiet, 0.99)
    within = percentile(latencies(asked, switches) or [0], 0.99)
    lasted = machine.median([(last - first) * 1e3 for first, last in switches])
    return f"""## An update under load

{CLIENTS} clients ask all the time while the model is replaced {len(windows)} times by another package of the same size
(`rollback_window` 0, so that the old replica ends each time). The new replica loads and warms up on the one core that the
server has, beside the one that serves: that is what an update costs.

Failed requests: **{len(failed)}** of {len(asked)}{": " + "; ".join(failed[:3]) if failed else ""}.
p99 within the switch: **{within / base:.2f}** of that without an update. The switch took {lasted:.0f} ms (median).

{table(["while", "requests", "p50 ms", "p99 ms", "longest ms"], cells)}
"""
