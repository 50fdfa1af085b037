"""S3: what only this registry promises (src/registry/registry_s3.h, src/s3/s3.h), against versitygw, which verifies
signatures. What all registries promise is in test_registries.py."""

import base64
import datetime
import hashlib
import http.server
import json
import os
import random
import re
import subprocess
import threading
from pathlib import Path

import pytest

import models as tiny
from deployments import begin_deploy, deploy, get, infer, settle
from faulty_proxy import Cut, Fault, FaultyProxy
from registry_bed import digest_of
from servers_s3 import free_port, sign
from slipway import PROGRAM, ROOT

BUILD = Path(os.environ.get("SLIPWAY_BUILD", ROOT / "build"))
SERVERS = ROOT / "build" / "test-servers" / "bin"


class Client:
    """The two test programs over one registries file."""

    def __init__(self, folder, server):
        self.folder, self.server, self.count = folder, server, 0
        self.conf = folder / "registries.conf"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
        self.say()

    def say(self, more=None, endpoint=None, title="s3", **keys):
        """Writes the registries file; keys that are None are left out."""
        usual = {"endpoint": endpoint or self.server.url, "access_key_id": self.server.key,
                 "secret_access_key": self.server.secret}
        lines = [f"{name} = {value}" for name, value in {**usual, **keys}.items() if value is not None]
        self.conf.write_text("\n".join([f"[{title}]", *lines, more or ""]) + "\n")
        self.conf.chmod(0o600)

    def run(self, command, binary=False, timeout=120):
        done = subprocess.run(command, capture_output=True, timeout=timeout, env=self.environment)
        assert self.server.secret.encode() not in done.stdout + done.stderr
        if binary:
            return done.stdout
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == (1 if any("message" in line for line in lines) else 0), done.stdout + done.stderr
        return lines

    def call(self, command, uri, *arguments, **options):
        return self.run([BUILD / "test" / "s3_call", self.conf, command, uri, *map(str, arguments)], **options)

    def fetch(self, uri, *flags):
        """(folder, what it says): the last line has the tree or the error."""
        self.count += 1
        folder = self.folder / f"fetched-{self.count}"
        folder.mkdir()
        lines = self.run([BUILD / "test" / "fetch_model", f"--registries={self.conf}", "--attempts=3", *flags, uri, folder])
        return folder, lines

    def fails(self, uri, *parts, error="ModelRegistryError"):
        last = self.fetch(uri)[1][-1]
        assert last.get("error") == error, last
        for part in parts:
            assert part in last["message"], last
        assert not last["transient"]
        return last["message"]


@pytest.fixture
def s3(tmp_path, s3_server):
    s3_server.make_bucket("models")
    return Client(tmp_path, s3_server)


# ---- keys and pages


def test_a_prefix_of_2500_objects_is_fetched_whole(s3, s3_server):
    tree = {f"shards/{number:05}.bin": b"%d" % number for number in range(2500)}
    s3_server.publish("models", "pages/", tree)
    folder, lines = s3.fetch("s3://models/pages", "--parallel=8")
    assert len(lines[0]["files"]) == 2500 and lines[0]["resolved_uri"] is None
    assert lines[-1]["tree"] == digest_of(tree)
    for maximum in (2499, 1500):
        message = s3.fetch("s3://models/pages", f"--files-maximum={maximum}")[1][-1]
        assert message["error"] == "ConfigurationError" and str(maximum) in message["message"]


def test_keys_with_every_odd_character_come_as_they_are(s3, s3_server):
    names = ["a b", "a+b", "a=b&c", "100%", "%41", "question?", "hash#", "ünïcode", "日本", "quote\"'", "(b)[c]{d}", "a,b;c:d",
             "~tilde!", "$dollar@", "back\\slash", "<angle>", "star*", "a|b^c`"]
    tree = {f"o dd+/{name}.txt": name.encode() for name in names}
    s3_server.publish("models", "odd =%25+/", tree)
    folder, lines = s3.fetch("s3://models/odd =%25+/")
    assert lines[-1]["tree"] == digest_of(tree)
    for path, data in tree.items():
        assert (folder / path).read_bytes() == data


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(s3, s3_server):
    s3_server.publish("models", "near/", {"a": b"a"})
    s3_server.publish("models", "nearer/", {"b": b"b"})
    s3_server.put("models", "near.txt", b"c")
    s3_server.put("models", "near/mark/", b"")
    assert s3.fetch("s3://models/near")[1][-1]["tree"] == digest_of({"a": b"a"})
    s3.fails("s3://models/nea", "there is nothing at s3://models/nea")
    s3.fails("s3://models/near.txt", "neither a prefix nor an .onnx object", error="ConfigurationError")


def test_a_whole_bucket_is_a_model(s3, s3_server):
    s3_server.make_bucket("only-one-model")
    s3_server.put("only-one-model", "model.onnx", b"m")
    for uri in ("s3://only-one-model", "s3://only-one-model/"):
        assert s3.fetch(uri)[1][-1]["tree"] == digest_of({"model.onnx": b"m"})


# ---- one object, versions


def test_one_onnx_object_is_fetched_as_model_onnx(s3, s3_server):
    s3_server.put("models", "single/minilm.onnx", b"onnx")
    folder, lines = s3.fetch("s3://models/single/minilm.onnx")
    assert lines[0]["resolved_uri"] is None and lines[0]["fingerprint"]
    assert (folder / "model.onnx").read_bytes() == b"onnx"
    s3.fails("s3://models/single/other.onnx", "there is nothing at")


def test_a_version_is_an_immutable_name_and_stays_what_it_was(s3, s3_server):
    s3_server.make_bucket("versioned", keeps_versions=True)
    first = s3_server.put("versioned", "m.onnx", b"first").headers["x-amz-version-id"]
    uri = s3.fetch("s3://versioned/m.onnx")[1][0]["resolved_uri"]
    assert uri == f"s3://versioned/m.onnx?versionId={first}"
    second = s3_server.put("versioned", "m.onnx", b"second").headers["x-amz-version-id"]
    folder, lines = s3.fetch(uri)
    assert lines[0]["resolved_uri"] == uri and (folder / "model.onnx").read_bytes() == b"first"
    folder, lines = s3.fetch("s3://versioned/m.onnx")
    assert lines[0]["resolved_uri"].endswith(second) and (folder / "model.onnx").read_bytes() == b"second"
    s3.fails(f"s3://versioned/m.onnx?versionId={first[:-1]}X")


def test_a_checksum_that_the_server_has_is_known_and_verified(s3, s3_server):
    data = b"checked"
    s3_server.put("models", "checked.onnx", data,
                  **{"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(data).digest()).decode()})
    _, lines = s3.fetch("s3://models/checked.onnx")
    assert lines[0]["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_fingerprint_changes_with_the_bytes_and_not_with_time(s3, s3_server):
    def fingerprint():
        return s3.fetch("s3://models/prints", "--resolve-only")[1][0]["fingerprint"]

    s3_server.publish("models", "prints/", {"a": b"1", "b": b"2"})
    first = fingerprint()
    s3_server.put("models", "prints/a", b"1")
    assert fingerprint() == first
    s3_server.put("models", "prints/a", b"3")
    assert fingerprint() != first


# ---- credentials


def test_a_wrong_secret_is_told_in_the_servers_words(s3, s3_server):
    s3_server.publish("models", "minilm/", {"a": b"a"})
    s3.say(secret_access_key="wrong")
    s3.fails("s3://models/minilm", "403", "SignatureDoesNotMatch", "list s3://models/minilm/")
    s3.fails("s3://models/minilm.onnx", "403", "SignatureDoesNotMatch")
    s3.say(access_key_id="NOBODY")
    assert "NOBODY" not in s3.fails("s3://models/minilm", "XAdminUserNotFound")
    s3.say(access_key_id=None, secret_access_key=None)
    s3.fails("s3://models/minilm", "403", "AccessDenied")


def test_a_bucket_that_is_not_there_is_named_with_the_servers_words(s3):
    s3.fails("s3://no-such-bucket/minilm", "s3://no-such-bucket/", "404", "NoSuchBucket")
    s3.fails("s3://no-such-bucket/minilm.onnx", "s3://no-such-bucket/minilm.onnx", "404", "NoSuchBucket")


def test_a_wrong_region_is_refused_in_the_servers_words(s3, s3_server):
    s3.say(region="eu-central-1")
    s3.fails("s3://models/minilm", "400")


def test_only_the_buckets_of_the_section_are_asked_for(s3):
    s3.say(buckets="models")
    s3.fails("s3://other/minilm", "no [s3] section", error="ConfigurationError")
    s3.conf.write_text("")
    s3.fails("s3://models/minilm", "is not configured here", error="ConfigurationError")


def test_keys_come_from_the_environment(s3, s3_server):
    s3_server.publish("models", "minilm/", {"a": b"a"})
    s3.conf.write_text("")
    s3.environment |= {"AWS_ACCESS_KEY_ID": s3_server.key, "AWS_SECRET_ACCESS_KEY": s3_server.secret,
                       "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": s3_server.url,
                       "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert s3.fetch("s3://models/minilm")[1][-1]["tree"] == digest_of({"a": b"a"})


def test_keys_come_from_a_profile_of_the_shared_credentials_file(s3, s3_server, tmp_path):
    s3_server.publish("models", "minilm/", {"a": b"a"})
    shared = tmp_path / "home" / ".aws" / "credentials"
    shared.parent.mkdir(parents=True)
    shared.write_text(f"[default]\naws_access_key_id = WRONG\naws_secret_access_key = wrong\n\n[team]\n"
                      f"aws_access_key_id = {s3_server.key}\naws_secret_access_key = {s3_server.secret}\n")
    s3.say(access_key_id=None, secret_access_key=None)
    s3.fails("s3://models/minilm", "XAdminUserNotFound")
    s3.environment["AWS_PROFILE"] = "team"
    assert s3.fetch("s3://models/minilm")[1][-1]["tree"] == digest_of({"a": b"a"})
    s3.environment["AWS_PROFILE"] = "nobody"
    s3.fails("s3://models/minilm", "the profile nobody", error="ConfigurationError")
    s3.say(access_key_id=None, secret_access_key=None, profile="team")
    assert s3.fetch("s3://models/minilm")[1][-1]["tree"] == digest_of({"a": b"a"})
    moved = shared.rename(tmp_path / "moved")
    s3.environment |= {"AWS_SHARED_CREDENTIALS_FILE": str(moved), "AWS_PROFILE": "default"}
    assert s3.fetch("s3://models/minilm")[1][-1]["tree"] == digest_of({"a": b"a"})


def test_a_session_token_is_sent_and_signed(s3, s3_server):
    """This server knows no tokens but its own, and says so: what was sent is then held against the algorithm."""
    with FaultyProxy(s3_server.address) as proxy:
        s3.say(endpoint="http://{}:{}".format(*proxy.address), session_token="temporary-token")
        s3.fails("s3://models/mini lm", "InvalidToken")
        request, *lines = proxy.heads[0].decode().split("\r\n")
    sent = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if ": " in line)}
    names = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert sent["x-amz-security-token"] == "temporary-token" and "x-amz-security-token" in names
    when = datetime.datetime.strptime(sent["x-amz-date"], "%Y%m%dT%H%M%SZ")
    path, query = request.split(" ")[1].split("?")
    right = sign("GET", sent["host"], path, query, {name: sent[name] for name in names}, b"", s3_server.key, s3_server.secret,
                 "us-east-1", when)
    assert sent["authorization"] == right["authorization"].replace(", ", ",").replace(",", ", ")


# ---- addresses


@pytest.mark.parametrize("path_style", ["true", "false"])
def test_a_bucket_stands_in_the_path_or_before_the_host(s3, s3_server, path_style):
    s3_server.publish("models", "minilm/", {"a b+c": b"a"})
    s3.say(endpoint="http://s3.localhost:{}".format(s3_server.address[1]), path_style=path_style)
    assert s3.fetch("s3://models/minilm")[1][-1]["tree"] == digest_of({"a b+c": b"a"})
    assert s3.call("head", "s3://models/minilm/a b+c")[0]["size"] == 1


def test_a_download_that_breaks_goes_on_with_a_range_of_the_same_object(s3, s3_server):
    data = random.Random(3).randbytes(3_000_000)
    s3_server.put("models", "breaks.onnx", data)
    with FaultyProxy(s3_server.address) as proxy:
        proxy.fault = Cut(0.5, times=4)
        s3.say(endpoint="http://{}:{}".format(*proxy.address))
        folder, lines = s3.fetch("s3://models/breaks.onnx")
        assert (folder / "model.onnx").read_bytes() == data
        assert any(b"range: bytes=" in head.lower() and b"if-range:" in head.lower() for head in proxy.heads)


# ---- writing


@pytest.mark.sanitizer
def test_an_object_is_written_listed_read_and_removed(s3, s3_server, tmp_path):
    s3_server.make_bucket("written")
    data = random.Random(4).randbytes(200_000)
    (tmp_path / "data").write_bytes(data)
    uri = "s3://written/a b/c+d=é%.bin"
    s3.call("write", uri, tmp_path / "data")
    assert s3_server.get("written", "a b/c+d=é%.bin") == data
    found = s3.call("list", "s3://written/a b/")
    assert [(one["key"], one["size"]) for one in found] == [("a b/c+d=é%.bin", 200_000)]
    assert s3.call("head", uri)[0]["etag"] == found[0]["etag"]
    for offset, size in ((0, 10), (100_000, 50_000), (199_990, 100), (200_000, 5), (10**12, 5)):
        assert s3.call("read", uri, offset, size, binary=True) == data[offset:offset + size]
    s3.call("remove", uri)
    s3.call("remove", uri)
    assert "key" not in s3.call("head", uri)[0] and s3_server.keys("written") == []
    assert "NoSuchBucket" in s3.call("remove", "s3://no-such-bucket/a")[0]["message"]


def test_an_empty_object_is_written_and_read(s3, s3_server, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    s3.call("write", "s3://models/written/empty", tmp_path / "empty")
    assert s3.call("head", "s3://models/written/empty")[0]["size"] == 0
    assert s3.call("read", "s3://models/written/empty", 0, 10, binary=True) == b""


def test_a_large_object_is_uploaded_in_parts(s3, s3_server, tmp_path):
    s3_server.make_bucket("parts")
    block = random.Random(5).randbytes(1 << 20)
    with open(tmp_path / "large", "wb") as file:
        for _ in range(70):
            file.write(block)
    s3.call("write", "s3://parts/large", tmp_path / "large")
    found = s3.call("head", "s3://parts/large")[0]
    assert found["size"] == 70 << 20 and found["etag"].endswith('-3"')
    assert hashlib.sha256(s3_server.get("parts", "large")).digest() == hashlib.sha256(block * 70).digest()
    assert s3_server.uploads("parts") == []


def test_an_upload_that_fails_leaves_nothing_behind(s3, s3_server):
    s3_server.make_bucket("parts")
    for size in (1 << 20, 70 << 20):
        last = s3.call("write-broken", "s3://parts/broken", size)[-1]
        assert "the source is broken" in last["message"] and "s3://parts/broken" in last["message"]
        assert s3_server.request("HEAD", "parts", "broken").status_code == 404
        assert s3_server.uploads("parts") == []


# ---- the service


def put_model(server, folder, prefix):
    server.publish("models", prefix + "/", {str(path.relative_to(folder)): path.read_bytes()
                                            for path in folder.rglob("*") if path.is_file()})
    return f"s3://models/{prefix}"


@pytest.mark.sanitizer
def test_the_service_deploys_from_s3(make_slipway, s3, s3_server, models):
    uri = put_model(s3_server, tiny.add_one(models, "one", 1), "served/one")
    service = make_slipway(registries=s3.conf).start()
    deployment = deploy(service, "from-s3", uri)
    assert deployment["model_uri"] == uri
    assert infer(service, "from-s3") == [2, 3, 4, 5]
    put_model(s3_server, tiny.add_one(models, "ten", 10), "served/one")
    s3_server.put("models", "served/single.onnx", (tiny.add_one(models, "hundred", 100) / "model.onnx").read_bytes())
    deploy(service, "single", "s3://models/served/single.onnx")
    assert infer(service, "single") == [101, 102, 103, 104]
    begin_deploy(service, "missing", "s3://models/served/nothing")
    failed = settle(service, "missing", "failed")
    assert "there is nothing at s3://models/served/nothing" in failed["message"]
    assert s3_server.secret not in service.whole_log() + json.dumps(get(service, "from-s3"))


def test_the_page_goes_as_it_stands(tmp_path):
    tiny.embedding(tmp_path, "all-MiniLM-L6-v2")
    page = (ROOT / "docs" / "registry-s3.md").read_text()
    script = re.search(r"^```sh\n(.*?)^```", page, flags=re.S | re.M)[1]
    listen = f"127.0.0.1:{free_port()}"
    script = script.replace("127.0.0.1:9000", f"127.0.0.1:{free_port()}").replace("127.0.0.1:8400", listen)
    environment = {**os.environ, "PATH": f"{Path(PROGRAM).parent}:{SERVERS}:{os.environ['PATH']}", "SLIPWAY_LISTEN": listen,
                   "SLIPWAY_STATE": str(tmp_path / "state"), "SLIPWAY_URL": f"http://{listen}"}
    ending = "trap 'kill $(jobs -p); wait' EXIT\n"
    done = subprocess.run(["bash", "-ec", ending + script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^status +active$", done.stdout, flags=re.M), done.stdout


# ---- what only other servers do, or none should


class Listing:
    """A server that answers every request with the next of some pages, or with the last again. A fake: it verifies
    nothing; versitygw neither encodes keys, as AWS does, nor lies."""

    def __init__(self, *pages, status=200, headers=None):
        seen = self.seen = []
        left = list(pages)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                seen.append(self.path)
                body = (left.pop(0) if len(left) > 1 else left[0]).encode()
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def listing(*keys, more="", size="1", encoded=False):
    contents = "".join(f"<Contents><Key>{key}</Key><ETag>&quot;e&quot;</ETag><Size>{size}</Size></Contents>" for key in keys)
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    next_page = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return f'<?xml version="1.0"?><ListBucketResult xmlns="x">{encoding}{next_page}{contents}</ListBucketResult>'


def test_keys_that_a_server_encodes_are_decoded(s3):
    with Listing(listing("m/a+b%2Bc%3D%25/%C3%A9", encoded=True, more="t+/="), listing("m/plain")) as server:
        s3.say(endpoint=server.url)
        lines = s3.fetch("s3://models/m", "--resolve-only")[1]
        assert [file["path"] for file in lines[0]["files"]] == ["a b+c=%/é", "plain"]
        assert "continuation-token=t%2B%2F%3D" in server.seen[1]


@pytest.mark.parametrize("pages, part", [
    (["not XML"], "not the XML of an S3 server"),
    ([""], "not the XML of an S3 server"),
    (["<html><body>Welcome</body></html>"], "another document"),
    ([listing("m/a")[:-19]], "it ends too early"),
    (['<!DOCTYPE a [<!ENTITY e "x">]>' + listing("m/a&e;")], "not the XML of an S3 server"),
    ([listing("elsewhere/a")], "does not begin with what was asked for"),
    ([listing("m/a", size="-1")], "a size that is none"),
    ([listing("m/a", size=str(2**60))], "a size that is none"),
    ([listing("m/%zz", encoded=True)], "badly encoded"),
    ([listing("m/%FF", encoded=True)], "not UTF-8"),
    ([listing("m/a", more="same")], "does not say how to go on"),
    ([listing(more=str(number)) for number in range(200)], "page after page with nothing in it"),
])
def test_a_list_that_lies_is_refused(s3, pages, part):
    with Listing(*pages) as server:
        s3.say(endpoint=server.url)
        s3.fails("s3://models/m", part)


@pytest.mark.parametrize("keys", [["m/../a"], ["m//a"], ["m/a/./b"], ["m/a", "m/A"], ["m/a", "m/a/b"], ["m/a%0Ab"], ["m/" + 2000 * "a"]])
def test_a_key_that_no_folder_can_have_is_refused(s3, keys):
    with Listing(listing(*keys, encoded=True)) as server:
        s3.say(endpoint=server.url)
        s3.fails("s3://models/m", "s3://models/m", error="ConfigurationError")


def test_a_model_of_a_petabyte_is_refused_before_a_byte_is_asked_for(s3):
    with Listing(listing("m/a", size=str(2**50))) as server:
        s3.say(endpoint=server.url)
        last = s3.fetch("s3://models/m", "--size-maximum=1000000")[1][-1]
        assert last["error"] == "ConfigurationError" and len(server.seen) == 1


def test_a_bucket_of_another_region_is_told(s3):
    words = "<Error><Code>PermanentRedirect</Code><Message>Use another endpoint.</Message></Error>"
    with Listing(words, status=301, headers={"x-amz-bucket-region": "eu-central-1", "Location": "http://127.0.0.1:1/"}) as server:
        s3.say(endpoint=server.url)
        s3.fails("s3://models/m", "PermanentRedirect", "the bucket is in the region eu-central-1 and was asked for in us-east-1")


class LostAnswer(Fault):
    """The upload is completed, and nobody hears of it."""

    count = 0

    def change(self, answer):
        if answer.method == "POST" and "uploadId" in answer.target and not self.count:
            self.count += 1
            return b""
        return answer.head + answer.body


def test_an_upload_whose_last_answer_is_lost_is_whole_all_the_same(s3, s3_server, tmp_path):
    s3_server.make_bucket("parts")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(65 << 20)
    with FaultyProxy(s3_server.address) as proxy:
        proxy.fault = LostAnswer()
        s3.say(endpoint="http://{}:{}".format(*proxy.address))
        assert s3.call("write", "s3://parts/lost", tmp_path / "large") == []
        assert proxy.fault.count == 1 and s3.call("head", "s3://parts/lost")[0]["size"] == 65 << 20
