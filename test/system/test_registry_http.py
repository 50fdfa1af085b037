"""What only the HTTP registry promises (docs/registry-http.md), over nginx; what all promise is in test_registries.py.

Redirects, basic authentication, servers without lengths or ranges, digests, TLS, archives of every kind, and archives that
nobody should send.
"""

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from registry_bed import digest_of
from registry_bed_http import tar_gz_of, tar_of

BUILD = Path(os.environ.get("SLIPWAY_BUILD", Path(__file__).parents[2] / "build"))
TOOL = BUILD / "test" / "fetch_model"
TREE = {"model.onnx": random.Random(3).randbytes(200_000), "config.json": b"{}", "onnx/weights.bin": b"1234"}
ONNX = random.Random(4).randbytes(50_000)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def fetch(tmp_path, nginx):
    count = iter(range(1000))

    def run(uri, conf=None, **flags):
        place = tmp_path / f"run-{next(count)}"
        (place / "fetched").mkdir(parents=True)
        conf = f"[http ours]\nhosts = 127.0.0.1:{nginx.port}\n" if conf is None else conf
        (place / "registries.conf").write_text(conf)
        (place / "registries.conf").chmod(0o600)
        command = [TOOL, f"--registries={place}/registries.conf", "--attempts=2",
                   *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()), uri, place / "fetched"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert nginx.password not in process.stdout + process.stderr
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        result = {key: value for line in lines for key, value in line.items()}
        result["files_on_disk"] = {str(path.relative_to(place / "fetched")): path.read_bytes()
                                   for path in (place / "fetched").rglob("*") if path.is_file()}
        assert (process.returncode == 0) == ("message" not in result), process.stdout + process.stderr
        return result

    return run


def refused(result, error="ModelRegistryError", part="", transient=False):
    assert "tree" not in result and result["error"] == error, result
    assert part in result["message"] and result["transient"] == transient, result
    return result["message"]


# ---- files and archives ----


@pytest.mark.sanitizer
def test_a_single_model_is_called_model_onnx(nginx, fetch):
    nginx.put("single/minilm-v2.onnx", ONNX)
    os.utime(nginx.root / "single/minilm-v2.onnx", (1e9, 1e9))
    result = fetch(nginx.url("single/minilm-v2.onnx"))
    assert result["files_on_disk"] == {"model.onnx": ONNX}
    assert result["resolved_uri"] is None and result["fingerprint"]  # nothing pins it, but its ETag tells
    assert result["files"][0]["identity"].startswith('etag "')


def test_a_digest_in_the_uri_pins_it(nginx, fetch):
    nginx.put("single/pinned.onnx", ONNX)
    uri = nginx.url("single/pinned.onnx") + "#sha256=" + sha256(ONNX).upper()
    result = fetch(uri)
    assert result["resolved_uri"] == nginx.url("single/pinned.onnx") + "#sha256=" + sha256(ONNX)
    assert result["files_on_disk"] == {"model.onnx": ONNX}
    assert not nginx.seen("pinned.onnx.sha256"), "the digest was known"
    nginx.put("single/pinned.onnx", ONNX[::-1])
    assert sha256(ONNX[::-1]) in refused(fetch(uri), part="sha256")


@pytest.mark.parametrize("text", ["{hex}", "{hex}  {name}\n", "SHA256 ({name}) = {hex}\n", "{other}  other\n{hex} *{name}\n"])
def test_a_digest_beside_it_is_read_as_tools_write_it(nginx, fetch, text):
    nginx.put("beside/m.onnx", ONNX)
    nginx.put("beside/m.onnx.sha256", text.format(hex=sha256(ONNX), name="m.onnx", other="0" * 64).encode())
    assert fetch(nginx.url("beside/m.onnx"))["resolved_uri"].endswith(sha256(ONNX))


def test_a_digest_beside_it_that_is_wrong_or_none_is_refused(nginx, fetch):
    nginx.put("wrong/m.onnx", ONNX)
    nginx.put("wrong/m.onnx.sha256", b"0" * 64)
    refused(fetch(nginx.url("wrong/m.onnx")), part="sha256")
    nginx.put("wrong/m.onnx.sha256", b"no digest at all")
    refused(fetch(nginx.url("wrong/m.onnx")), part="holds no SHA-256")


def zip_of(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return stream.getvalue()


@pytest.mark.parametrize("name, pack", [("m.tar", tar_of), ("m.tar.gz", tar_gz_of), ("m.tgz", tar_gz_of), ("m.zip", zip_of),
                                        ("download", tar_gz_of)])
def test_every_archive_gives_the_same_tree(nginx, fetch, name, pack):
    nginx.put(f"kinds/{name}", pack(TREE))
    assert fetch(nginx.url(f"kinds/{name}"))["tree"] == digest_of(TREE)
    nginx.put(f"kinds/{name}", pack({f"minilm/{path}": data for path, data in TREE.items()}))
    assert fetch(nginx.url(f"kinds/{name}"))["tree"] == digest_of(TREE)


def test_what_is_neither_is_refused(nginx, fetch):
    nginx.put("kinds/model.pkl", ONNX)
    refused(fetch(nginx.url("kinds/model.pkl")), "ConfigurationError", "neither an .onnx file nor an archive")
    nginx.put("kinds/broken.zip", b"PK\x03\x04 and then nothing that makes sense")
    refused(fetch(nginx.url("kinds/broken.zip")), part="the archive is broken")


def tar_with(change):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        good = tarfile.TarInfo("model.onnx")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"onnx"))
        bad = tarfile.TarInfo("bad")
        change(bad)
        archive.addfile(bad, io.BytesIO(b"\0" * bad.size) if bad.isreg() else None)
    return stream.getvalue()


def make(**fields):
    def change(entry):
        for name, value in fields.items():
            setattr(entry, name, value)

    return change


@pytest.mark.parametrize("change, part", [
    (make(name="../bad"), "the name"), (make(name="/tmp/bad"), "the name"), (make(name="Model.onnx"), "case"),
    (make(name="model.onnx"), "twice"), (make(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "symbolic link"),
    (make(type=tarfile.LNKTYPE, linkname="../../etc/passwd"), "hard link"), (make(type=tarfile.CHRTYPE), "device"),
    (make(type=tarfile.FIFOTYPE), "pipe")])
def test_archives_that_nobody_should_send(nginx, fetch, tmp_path, change, part):
    nginx.put("evil/m.tar", tar_with(change))
    refused(fetch(nginx.url("evil/m.tar")), "ConfigurationError", part)
    assert not (tmp_path / "bad").exists()


def test_bombs_and_claims(nginx, fetch):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(50 << 20))
    nginx.put("bomb/m.zip", stream.getvalue())
    refused(fetch(nginx.url("bomb/m.zip"), size_maximum=10 << 20), "ConfigurationError", "10.0 MiB")
    nginx.put("bomb/many.tar.gz", tar_gz_of({f"{number}": b"" for number in range(3000)}))
    refused(fetch(nginx.url("bomb/many.tar.gz"), files_maximum=2000), "ConfigurationError", "2000 files")


# ---- servers ----


@pytest.mark.parametrize("way", ["chunked", "unranged"])
def test_servers_without_lengths_or_ranges(nginx, fetch, way):
    nginx.put("odd/m.tar.gz", tar_gz_of(TREE))
    result = fetch(nginx.url(f"{way}/odd/m.tar.gz"))
    assert result["tree"] == digest_of(TREE)
    assert (result["files"][0]["size"] is None) == (way == "chunked")


def test_an_error_has_the_words_of_the_server(nginx, fetch):
    message = refused(fetch(nginx.url("no/such.onnx?v=1")), part="404 from the server: 404 Not Found")
    assert nginx.url("no/such.onnx") in message and "v=1" not in message


def test_basic_authentication(nginx, fetch, tmp_path):
    nginx.put("secret.onnx", ONNX)
    uri, host = nginx.url("private/secret.onnx"), f"[http ours]\nhosts = 127.0.0.1:{nginx.port}\n"
    refused(fetch(uri), part="401")
    refused(fetch(uri, host + f"username = {nginx.user}\npassword = wrong\n"), part="401")
    assert fetch(uri, host + f"username = {nginx.user}\npassword = {nginx.password}\n")["files_on_disk"] == {"model.onnx": ONNX}
    secret = tmp_path / "password"
    secret.write_text(nginx.password + "\n")
    assert "tree" in fetch(uri, host + f"username = {nginx.user}\npassword_file = {secret}\n")
    message = refused(fetch(uri.replace("://", f"://{nginx.user}:{nginx.password}@")), "ConfigurationError", "user or password")
    assert nginx.user + ":" not in message


def test_a_redirect_is_followed_to_allowed_hosts_only(nginx, fetch):
    nginx.put("moving.onnx", ONNX)
    assert fetch(nginx.url("moved/moving.onnx"))["files_on_disk"] == {"model.onnx": ONNX}
    refused(fetch(nginx.url("elsewhere/moving.onnx")), part="not among those")
    assert not nginx.seen(f"{nginx.other_port} GET /moving.onnx")
    refused(fetch(nginx.url("round/moving.onnx")), part="redirects more than 5 times")


def test_credentials_do_not_follow_a_redirect_to_another_port(nginx, fetch):
    nginx.put("follow.onnx", ONNX)
    conf = (f"[http ours]\nhosts = 127.0.0.1:{nginx.port}\nredirect_hosts = 127.0.0.1:{nginx.other_port}\n"
            f"username = {nginx.user}\npassword = {nginx.password}\n")
    assert fetch(nginx.url("elsewhere/follow.onnx"), conf)["files_on_disk"] == {"model.onnx": ONNX}
    there, here = nginx.seen(f"{nginx.other_port} GET /follow.onnx"), nginx.seen(f"{nginx.port} GET /elsewhere/follow.onnx")
    assert there and all('authorization="-"' in line for line in there)
    assert here and all('authorization="Basic ' in line for line in here)


def test_a_redirect_to_a_metadata_address_is_refused(nginx, fetch):
    uri = nginx.url("metadata/latest/model.onnx")
    refused(fetch(uri), part="169.254.169.254")
    conf = f"[http ours]\nhosts = 127.0.0.1:{nginx.port} 169.254.169.254\n"  # not even where somebody allows the host
    refused(fetch(uri, conf), part="169.254.169.254 is not one that may be connected to")


def test_hosts_that_nobody_named_are_not_asked(nginx, fetch):
    before = len(nginx.seen())
    refused(fetch(nginx.url("m.onnx"), "[http other]\nhosts = models.example.com\n"), "ConfigurationError", "[http NAME]")
    refused(fetch(f"http://localhost:{nginx.port}/m.onnx"), "ConfigurationError", "[http NAME]")
    assert len(nginx.seen()) == before


def test_tls_with_an_authority_of_our_own(nginx, fetch):
    nginx.put("tls.onnx", ONNX)
    uri, host = f"https://localhost:{nginx.tls_port}/tls.onnx", f"[http ours]\nhosts = localhost:{nginx.tls_port}\n"
    assert fetch(uri, host + f"ca_file = {nginx.authority.pem}\n")["files_on_disk"] == {"model.onnx": ONNX}
    assert "certificate" in refused(fetch(uri, host))
    conf = f"[http ours]\nhosts = localhost\nca_file = {nginx.authority.pem}\n"
    refused(fetch(uri.replace("/tls.onnx", "/plain/tls.onnx"), conf), part="leaves https")
