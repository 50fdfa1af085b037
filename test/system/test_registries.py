"""What every registry promises (src/registry/registry.h), over all of them, each against its real server; between the two
stands a proxy that cuts, lies, stalls and sends elsewhere (faulty_proxy.py).

The registries are driven by test/tools/fetch_model.c, without the service. What only one of them promises is in
test_registry_<name>.py; what the service makes of it in test_registry_life.py.
"""

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

import registry_beds
from faulty_proxy import LARGE, Cut, Fault, FaultyProxy, Flip, Gone, Length, Page, Redirect, Stall, Status
from registry_bed import digest_of

BUILD = Path(os.environ.get("SLIPWAY_BUILD", Path(__file__).parents[2] / "build"))
TOOL = BUILD / "test" / "fetch_model"
MODEL = random.Random(6).randbytes(300_000)
TREE = {
    "model.onnx": MODEL,
    "config.json": b'{"architectures": ["Tiny"]}',
    "1_Pooling/config.json": b"{}",
    "onnx/weights of a model+1=2.bin": random.Random(7).randbytes(2 * LARGE),
    "ünïcode/100%.txt": b"per cent",
    "empty": b"",
}


class Outcome:
    def __init__(self, process, folder):
        self.status, self.folder = process.returncode, folder
        self.text = process.stdout + process.stderr
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        self.resolution = next((line for line in lines if "files" in line), None)
        self.progress = [line for line in lines if "done" in line]
        self.tree = next((line["tree"] for line in lines if "tree" in line), None)
        self.error = next((line for line in lines if "message" in line), None)
        assert (self.status == 0) == (self.error is None), self.text

    def expect(self, error="ModelRegistryError", transient=None, part=""):
        assert self.error, self.text
        assert self.error["error"] == error, self.text
        assert transient is None or self.error["transient"] == transient, self.text
        assert part in self.error["message"], self.text
        return self.error["message"]


@pytest.fixture(params=registry_beds.NAMES)
def bed(request):
    return request.getfixturevalue(f"{request.param}_bed")


@pytest.fixture(params=[name for name in registry_beds.NAMES if name != "file"])
def served(request):
    """Those with a server."""
    return request.getfixturevalue(f"{request.param}_bed")


@pytest.fixture(params=registry_beds.DIGESTED)
def digested(request):
    """Those whose source tells digests; of the others only TLS would find a changed byte."""
    return request.getfixturevalue(f"{request.param}_bed")


@pytest.fixture
def proxy(served):
    with FaultyProxy(served.address) as proxy:
        yield proxy


@pytest.fixture
def fetch(tmp_path):
    count = iter(range(1000))

    def run(bed, model, address=None, timeout=60, **flags):
        address = address or bed.address
        conf = tmp_path / "registries.conf"
        conf.write_text(bed.conf(address))
        conf.chmod(0o600)
        folder = tmp_path / f"fetched-{next(count)}"
        folder.mkdir()
        command = [TOOL, f"--registries={conf}", *(["--root", bed.root] if bed.root else []), "--attempts=3",
                   *(f"--{name.replace('_', '-')}" if value is True else f"--{name.replace('_', '-')}={value}"
                     for name, value in flags.items()), bed.uri(model, address), folder]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **bed.environment()}
        outcome = Outcome(subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment), folder)
        for secret in bed.secrets():
            assert secret not in outcome.text
        return outcome

    return run


@pytest.fixture
def published(served):
    served.publish("minilm", TREE)
    return "minilm"


# ---- what is there ----


@pytest.mark.sanitizer
def test_the_same_model_is_one_tree_from_everywhere(bed, fetch):
    bed.publish("minilm", TREE)
    outcome = fetch(bed, "minilm")
    assert outcome.tree == digest_of(TREE), outcome.text
    for path, data in TREE.items():
        assert (outcome.folder / path).read_bytes() == data


def test_what_was_resolved_is_told_and_stays_the_same(bed, fetch):
    bed.publish("stays", TREE)
    time.sleep(bed.settles_s)  # a file that changed just now could change again without its time telling (registry.h)
    first, second = (fetch(bed, "stays", resolve_only=True).resolution for _ in range(2))
    assert first["resolved_uri"] == second["resolved_uri"]
    assert first["fingerprint"] == second["fingerprint"]
    assert bool(first["fingerprint"]) == bed.knows_identity
    assert bool(first["resolved_uri"]) == bed.pins


def test_a_model_that_changed_is_another(bed, fetch):
    bed.publish("changes", TREE)
    before = fetch(bed, "changes", resolve_only=True).resolution
    bed.publish("changes", {**TREE, "model.onnx": MODEL[::-1]})
    outcome = fetch(bed, "changes")
    assert outcome.tree == digest_of({**TREE, "model.onnx": MODEL[::-1]})
    if before["fingerprint"]:
        assert outcome.resolution["fingerprint"] != before["fingerprint"]


def test_what_is_not_there_is_said_with_its_name_and_for_good(bed, fetch):
    message = fetch(bed, "no-such-model").expect(transient=False)
    assert bed.missing("no-such-model") in message


def test_progress_grows_up_to_the_total(bed, fetch):
    bed.publish("minilm", TREE)
    outcome = fetch(bed, "minilm")
    done = [line["done"] for line in outcome.progress]
    assert done and done == sorted(done)
    assert all(line["done"] <= line["total"] for line in outcome.progress if line["total"])


def test_two_hundred_files(bed, fetch):
    tree = {f"part-{number:03}.bin": b"%d" % number for number in range(200)}
    bed.publish("many", tree)
    assert fetch(bed, "many").tree == digest_of(tree)


# ---- ceilings and names ----


def test_more_files_than_a_model_may_have(bed, fetch):
    bed.publish("minilm", TREE)
    fetch(bed, "minilm", files_maximum=3).expect("ConfigurationError", part="3")


def test_a_larger_model_than_there_may_be(bed, fetch):
    bed.publish("minilm", TREE)
    fetch(bed, "minilm", size_maximum=100_000).expect("ConfigurationError", part="97.7 KiB")


def test_names_that_differ_in_case_only(served, fetch):
    served.publish("cases", {"model.onnx": b"small", "Model.onnx": b"large"})
    fetch(served, "cases").expect("ConfigurationError", part="case")


# ---- the network and the server on bad days ----


@pytest.mark.sanitizer
def test_a_connection_that_is_cut_at_every_tenth_costs_nothing(served, proxy, published, fetch):
    for tenth in range(10):
        proxy.fault = Cut(tenth / 10, times=2)
        outcome = fetch(served, published, proxy.address)
        assert outcome.tree == served.tree_of(TREE), outcome.text
        assert proxy.fault.count, "nothing was cut"


def test_a_connection_that_is_cut_again_and_again_goes_on_where_it_was(served, proxy, published, fetch):
    proxy.fault = Cut(0.5, times=12)
    assert fetch(served, published, proxy.address).tree == served.tree_of(TREE)
    assert any(b"range: bytes=" in head.lower() for head in proxy.heads)


@pytest.mark.parametrize("more", [-1, 1, 10**12])
def test_a_lie_about_the_length_is_found(served, proxy, published, fetch, more):
    proxy.fault = Length(more)
    outcome = fetch(served, published, proxy.address, stall_ms=1000)
    assert outcome.tree is None
    outcome.expect()


def test_bytes_that_are_not_those_of_the_digest_are_refused(digested, fetch):
    digested.publish("minilm", TREE)
    with FaultyProxy(digested.address) as proxy:
        proxy.fault = Flip()
        outcome = fetch(digested, "minilm", proxy.address)
    assert outcome.tree is None
    assert "sha256" in outcome.expect()


def test_a_page_to_log_in_at_is_no_model(served, proxy, published, fetch):
    proxy.fault = Page()
    outcome = fetch(served, published, proxy.address)
    assert outcome.tree is None
    outcome.expect()


def test_a_server_that_is_busy_for_a_moment_is_asked_again(served, proxy, published, fetch):
    proxy.fault = Status(503, times=2)
    assert fetch(served, published, proxy.address).tree == served.tree_of(TREE)


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_is_quoted_and_may_be_asked_later(served, proxy, published, fetch, status):
    proxy.fault = Status(status)
    message = fetch(served, published, proxy.address).expect(transient=True)
    assert str(status) in message and "out for lunch" in message


def test_a_refusal_is_quoted_and_final(served, proxy, published, fetch):
    proxy.fault = Status(403)
    message = fetch(served, published, proxy.address).expect(transient=False)
    assert "403" in message and "out for lunch" in message
    assert len(proxy.requests) < 4, "it was asked again and again"


def test_silence_ends_at_its_deadline(served, proxy, published, fetch):
    proxy.fault = Stall()
    fetch(served, published, proxy.address, stall_ms=300, attempts=2).expect(transient=True)
    proxy.fault = Stall()
    fetch(served, published, proxy.address, stall_ms=60_000, deadline_ms=1500, timeout=30).expect(transient=True)


def test_a_server_that_goes_away_between_resolve_and_fetch(served, proxy, published, fetch):
    fetch(served, published, proxy.address, resolve_only=True)
    asked = len(proxy.requests)
    proxy.fault = Gone(after=asked)
    fetch(served, published, proxy.address).expect(transient=True)


def test_nobody_listens(served, published, fetch):
    with FaultyProxy(served.address) as gone:
        address = gone.address
    message = fetch(served, published, address).expect(transient=True)
    assert str(address[1]) in message


@pytest.mark.parametrize("elsewhere", [
    "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/",
    "http://metadata.google.internal/", "http://example.com/model.onnx", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_leads_to_no_other_place(served, proxy, published, fetch, elsewhere):
    proxy.fault = Redirect(elsewhere)
    outcome = fetch(served, published, proxy.address)
    assert outcome.tree is None
    outcome.expect(outcome.error["error"], transient=False)


def test_a_circle_of_redirects_has_an_end(served, proxy, published, fetch):
    class Circle(Fault):
        def instead(self, method, target, request):
            return Redirect(f"http://{proxy.address[0]}:{proxy.address[1]}{target}").instead(method, target, request)

    proxy.fault = Circle()
    assert fetch(served, published, proxy.address).tree is None
    assert len(proxy.requests) < 60
