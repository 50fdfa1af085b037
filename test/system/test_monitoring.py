"""What operators watch: the metrics against dashboard, alerts and page; the log as JSON; and that nothing is told to anyone
who was not named."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import models as folders
from slipway import ROOT, Slipway, eventually
from test_runner import Runner

ALERTS = ROOT / "packaging/prometheus/alerts.yml"
DASHBOARD = ROOT / "packaging/grafana/slipway.json"
PROMTOOL = ROOT / "build/deps/promtool/promtool"
ADDED = {"instance", "job", "le"}  # by Prometheus; le stands in the table as a label of histograms
INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def use(service, models):
    """One of every kind of request, good and bad."""
    assert service.deploy("one", folders.add_one(models))["status"] == "active"
    assert service.deploy("words", folders.embedding(models))["status"] == "active"
    assert service.deploy("never", folders.not_a_model(models))["status"] == "failed"
    notes = service.create_collection("notes", "words", probe="hello", keep_queries=True)
    notes.put("a", "hello world", wait=True)
    notes.bulk([{"id": "b", "text": "hello"}, {"id": "a", "delete": True}])
    notes.search("hello")
    for model, status in (("one", 200), ("never", 503), ("nothing", 404)):
        assert service.client.post(f"/v2/models/{model}/infer", json=INFER).status_code == status
    assert service.client.post("/v1/embeddings", json={"model": "words", "input": "hello"}).status_code == 200
    return notes


@pytest.fixture(scope="module")
def exposition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "models").mkdir()
    with Slipway(folder / "slipway", model_roots=folder / "models") as service:
        use(service.start(), folder / "models")
        answer = service.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.text


def labels_of(exposition):
    """The labels of every sample that there is, by its name."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def samples(exposition):
    return labels_of(exposition)


@pytest.fixture(scope="module")
def of_a_runner(tmp_path_factory):
    """What a runner that runs alone says."""
    folder = tmp_path_factory.mktemp("runner")
    runner = Runner(folders.add_one(folder), folder / "log").ready()
    text = runner.client.get("/metrics").text
    assert runner.stop() == 0
    return text


# ---- the metrics


def test_prometheus_reads_the_metrics(exposition, of_a_runner):
    assert len(check_exposition(exposition)) > 40
    assert len(check_exposition(of_a_runner)) >= 10


def check_exposition(exposition):
    families = list(text_string_to_metric_families(exposition))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    for family in families:
        assert family.documentation and family.type in ("counter", "gauge", "histogram")
        labels = [tuple(sorted(s.labels.items())) + (s.name,) for s in family.samples]
        assert len(set(labels)) == len(labels), family.name
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=exposition, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return names


def told():
    """Metric to labels, as the page's table has them."""
    rows = re.findall(r"^\| ((?:`slipway_\w+`(?:, )?)+) \|\s*([\w, ]*?)\s*\|", (ROOT / "docs/monitoring.md").read_text(), flags=re.M)
    return {name: set(filter(None, labels.split(", "))) for names, labels in rows for name in re.findall(r"`(\w+)`", names)}


def test_every_metric_is_told(exposition, samples, of_a_runner):
    there = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposition + of_a_runner, flags=re.M))
    samples = samples | labels_of(of_a_runner)
    table = told()
    assert table.keys() == there.keys()
    for name, kind in there.items():
        labels = samples.get(f"{name}_bucket" if kind == "histogram" else name)
        assert labels is None or labels == table[name], name


def expressions():
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"], re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"], re.findall(r"{{(\w+)}}", target["legendFormat"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
            yield f"variable {variable['name']}", metric, [label]


def test_what_dashboard_and_alerts_name_exists(samples):
    checked = 0
    for where, expression, shown in expressions():
        named = re.findall(r"\b(slipway_\w+)(?:{([^}]*)})?", expression)
        assert named or expression.startswith("up{"), where
        labels = set()
        for metric, selector in named:
            assert metric in samples, f"{where}: {metric}"
            wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert wanted <= samples[metric] | ADDED, f"{where}: {metric}{{{selector}}}"
            labels |= samples[metric]
            checked += 1
        grouped = {label for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.split(", ")}
        assert (grouped | set(shown)) <= labels | ADDED, where
        if re.search(r"\bby \(", expression):
            assert set(shown) <= grouped, where  # what is summed up is gone
    assert checked > 60


def test_the_dashboards_panels_do_not_overlap():
    dashboard = json.loads(DASHBOARD.read_text())
    taken, ids = set(), set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        ids.add(panel["id"])
    assert len(ids) == len(dashboard["panels"]) and dashboard["schemaVersion"] >= 36


def test_each_alert_fires_when_it_should(tmp_path):
    """Prometheus's own words about rules and their test; every alert is in it, as one that fires."""
    for command in (["check", "rules", ALERTS], ["test", "rules", tmp_path / "test.yml"]):
        text = (ROOT / "test/prometheus/alerts_test.yml").read_text()
        (tmp_path / "test.yml").write_text(text.replace("[ALERTS]", f"[{ALERTS}]"))
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    names = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
    fired = {case["alertname"] for test in yaml.safe_load(text)["tests"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert fired == names
    page = (ROOT / "docs/monitoring.md").read_text()
    assert [name for name in names if f"`{name}`" not in page] == []


# ---- the log


def test_every_line_of_a_run_is_json(make_slipway, models):
    service = make_slipway(log_format="json", log_level="debug")
    service.launch()
    service.port = int(eventually(lambda: re.search(r'"address":"\S+?:(\d+)"', service.log()), what="the port")[1])
    service.wait_until_ready()
    use(service, models)
    service.client.get('/a"b\\c%0a\u00e9', headers={"X-Request-Id": 'x","level":"error'})
    replica = service.client.get("/v1/deployments/one/logs").json()
    eventually(lambda: "/deployments/one/logs" in service.log(), what="the access log is written")
    service.kill_role("gateway")
    assert service.stop() == 0
    lines = [json.loads(line) for line in service.log().splitlines()]
    assert len(lines) > 20
    for line in lines:
        assert {"time", "level", "role", "message"} <= line.keys(), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("debug", "info", "warning", "error")
    assert {"supervisor", "controller", "gateway", "indexer", "access"} <= {line["role"] for line in lines}
    access = [line for line in lines if line["role"] == "access" and line["path"] == "/v2/models/one/infer"]
    assert [(a["status"], a["method"], a["deployment"], a["revision"]) for a in access] == [(200, "POST", "one", 1)]
    written = [(line["at"], json.loads(line["line"])) for line in replica]
    assert "ready" in {line["message"] for _, line in written} and all(at == line["time"] for at, line in written)


def test_a_form_that_is_none_is_refused(make_slipway):
    service = make_slipway(log_format="yaml").launch()
    assert service.wait() == 2
    assert 'setting log_format: "yaml" is not text or json' in service.log()


# ---- nobody else is told anything

# Run in a network of its own, whose only way out is a device that this script reads: what leaves the machine is seen.
ALONE = """
import fcntl, os, select, socket, struct, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from slipway import Slipway
from test_monitoring import use

tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"out", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
for words in ("link set lo up", "addr add 192.0.2.2/24 dev out", "link set out up", "route add default dev out"):
    subprocess.run(["ip", *words.split()], check=True)

def left():
    packets = []
    while select.select([tun], [], [], 0)[0]:
        packet = os.read(tun, 65536)
        if packet[0] >> 4 == 4:  # the kernel itself speaks IPv6 to find its neighbours
            packets.append(packet)
    return packets

folder = Path(sys.argv[2])
(folder / "models").mkdir()
with Slipway(folder / "slipway", model_roots=folder / "models") as service:
    use(service.start(), folder / "models")
    service.kill_role("gateway")
    assert service.stop() == 0
assert not left(), "something was sent"
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"seen", ("198.51.100.1", 9))
assert [packet for packet in left() if b"seen" in packet], "this test would not have seen it"
print("quiet")
"""


def test_nothing_is_sent_to_the_outside(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", ALONE, str(ROOT / "test/system"), str(tmp_path)],
                          capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0 and done.stdout.endswith("quiet\n"), done.stdout + done.stderr
