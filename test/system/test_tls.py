"""The port over TLS, with the clients that people use: curl, Python's ssl and httpx, openssl, the command line."""

import http.client
import json
import select
import signal
import socket
import ssl
import subprocess
import threading

import httpx
import pytest

import models as folders
from secure import Authority, SecureSlipway
from slipway import PROGRAM, eventually

HASTY = {"drain": "2s", "upstream_timeout": "2s"}  # so long does the gateway before wait for connections without a request
HELLO = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture
def make_secure(tmp_path, models, authority):
    services = []

    def make(**settings):
        services.append(SecureSlipway(tmp_path / f"secure-{len(services)}", authority, model_roots=models, **settings))
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture
def secure(make_secure):
    return make_secure().start()


def curl(*words):
    return subprocess.run(["curl", "-sS", "--max-time", "30", *map(str, words)], capture_output=True, text=True, timeout=60)


def read_answer(connection):
    answer = b""
    while b"ok\n" not in answer:
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


# ---- what it speaks


@pytest.mark.sanitizer
def test_1_2_and_1_3_are_spoken_and_1_1_is_not(secure):
    for version in ("1.2", "1.3"):
        answer = curl("--cacert", secure.authority.pem, f"--tlsv{version}", "--tls-max", version, f"{secure.url}/readyz")
        assert (answer.returncode, answer.stdout) == (0, "ok\n"), answer.stderr
    for version, words in (("TLSv1.1", ["-tls1_1"]), ("TLSv1", ["-tls1"])):
        client = ["openssl", "s_client", "-connect", f"localhost:{secure.port}", *words, "-cipher", "ALL:@SECLEVEL=0"]
        answer = subprocess.run(client, input=HELLO, capture_output=True, timeout=60)
        assert answer.returncode != 0 and b"ok\n" not in answer.stdout, version
        assert b"protocol version" in answer.stderr, answer.stderr
    modern = ["openssl", "s_client", "-connect", f"localhost:{secure.port}", "-CAfile", secure.authority.pem, "-verify_return_error"]
    answer = subprocess.run([*modern, "-alpn", "h2,http/1.1", "-ign_eof"], capture_output=True, timeout=60,
                            input=HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    for word in (b"Verify return code: 0 (ok)", b"ALPN protocol: http/1.1", b"Compression: NONE", b"HTTP/1.1 200 OK"):
        assert word in answer.stdout, answer.stdout
    assert f"url=https://127.0.0.1:{secure.port}" in secure.log()


def test_a_connection_is_kept_alive(secure):
    connection = http.client.HTTPSConnection("localhost", secure.port, context=secure.context(), timeout=30)
    connection.connect()
    connection.auto_open = False  # one that was closed is not made anew in silence
    for _ in range(50):
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read() == b"ok\n"
    connection.close()


def test_plain_http_is_told_what_this_port_speaks(secure):
    answer = httpx.get(f"http://127.0.0.1:{secure.port}/livez")
    assert answer.status_code == 400 and "https://" in answer.json()["detail"]


def test_endpoints_are_named_with_https(secure, models):
    deployment = secure.deploy("one", folders.add_one(models))
    assert deployment["endpoint_url"] == f"https://127.0.0.1:{secure.port}/v2/models/one"


# ---- bodies


@pytest.mark.sanitizer
def test_large_bodies_go_both_ways(secure, models):
    assert secure.deploy("repeat", folders.identity(models, "FP32"))["status"] == "active"
    name = secure.client.get("/v2/models/repeat").json()["inputs"][0]["name"]
    values = list(range(300_000))
    request = {"inputs": [{"name": name, "datatype": "FP32", "shape": [150_000, 2], "data": values}]}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        answer = httpx.post(f"{secure.url}/v2/models/repeat/infer", json=request, verify=secure.context(version=version), timeout=60)
        assert answer.status_code == 200, answer.text[:300]
        assert answer.json()["outputs"][0]["data"] == values


def test_ndjson_streams_in_and_out(secure, models):
    assert secure.deploy("encoder", folders.embedding(models))["status"] == "active"
    secure.create_collection("notes", "encoder", probe="hello")
    count = 4000
    written = {f"d{i}": folders.WORDS[i % 7 + 4] + " " + "way" * (i % 50) for i in range(count)}

    def lines():
        for document, text in written.items():
            yield json.dumps({"id": document, "text": text}).encode() + b"\n"

    answer = secure.client.post("/v1/collections/notes/documents", content=lines(), timeout=60,
                                headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 200 and answer.json()["accepted"] == count, answer.text
    read = {}
    with secure.client.stream("GET", "/v1/collections/notes/documents", timeout=60) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        for line in answer.iter_lines():
            document = json.loads(line)
            read[document["id"]] = document["text"]
    assert read == written


# ---- clients that must show a certificate


@pytest.mark.sanitizer
def test_only_clients_of_the_authority_are_let_in(make_secure, authority, tmp_path):
    service = make_secure(tls_client_ca=authority.pem).start()
    friend, stranger = authority.issue("friend"), Authority(tmp_path / "other", "theirs").issue("stranger")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = service.context(friend, version)
        assert httpx.get(f"{service.url}/livez", verify=context).status_code == 200
        for certificate in (None, stranger):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{service.url}/livez", verify=service.context(certificate, version))
    for words, code in (([], "certificate required"), (["--cert", stranger[0], "--key", stranger[1]], "unknown ca")):
        answer = curl("--cacert", authority.pem, *words, f"{service.url}/livez")
        assert answer.returncode != 0 and code in answer.stderr, answer.stderr
    flags = ["--url", service.url, "--ca", authority.pem]
    for words, status in (([], 3), (["--cert", friend[0], "--key", friend[1]], 0)):
        answer = subprocess.run([PROGRAM, "list", *flags, *words], capture_output=True, text=True, timeout=60)
        assert answer.returncode == status, answer.stderr


def test_the_command_line_trusts_only_who_it_is_told_to(secure, authority, tmp_path):
    other = Authority(tmp_path / "other", "theirs").pem
    for words, status in ((["--ca", authority.pem], 0), (["--ca", other], 3), ([], 3)):
        answer = subprocess.run([PROGRAM, "list", "--url", secure.url, *map(str, words)], capture_output=True, text=True, timeout=60)
        assert answer.returncode == status, answer.stderr
    environment = {"SLIPWAY_URL": secure.url, "SLIPWAY_CA": str(authority.pem)}
    assert subprocess.run([PROGRAM, "list"], env=environment, capture_output=True, timeout=60).returncode == 0


# ---- slow, spoilt, many


@pytest.mark.sanitizer
def test_slow_handshakes_and_garbage_are_sent_away(make_secure):
    service = make_secure(header_timeout="300ms").start()
    beginnings = (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00garbage", b"\x80\x2e\x01\x00\x02")
    connections = [socket.create_connection((service.host, service.port), 30) for _ in beginnings]
    for connection, beginning in zip(connections, beginnings, strict=True):
        connection.sendall(beginning)
    for connection in connections:
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
        connection.close()
    dripping = socket.create_connection((service.host, service.port), 30)
    dripping.sendall(b"\x16")

    def is_closed():
        try:
            dripping.sendall(b"\x03")  # a byte now and then keeps nothing open
            return select.select([dripping], [], [], 0.02)[0] and not dripping.recv(4096)
        except OSError:
            return True

    eventually(is_closed)
    dripping.close()
    assert service.client.get("/livez").status_code == 200


def test_two_hundred_connections_at_once(secure):
    context = secure.context()
    connections = []
    for _ in range(200):
        plain = socket.create_connection((secure.host, secure.port), 30)
        connections.append(context.wrap_socket(plain, server_hostname="localhost"))
    for _ in range(3):
        for connection in connections:
            connection.sendall(HELLO)
        for connection in connections:
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
    for connection in connections:
        connection.close()


# ---- the files


def test_files_that_cannot_be_used_end_the_start_with_their_name(make_secure, authority, tmp_path):
    _, other_key = authority.issue("another")
    missing = tmp_path / "nowhere.pem"
    for setting, path, word in (("tls_certificate", missing, "No such file"), ("tls_key", other_key, "is not the key"),
                                ("tls_client_ca", missing, "No such file")):
        service = make_secure()
        service.settings[setting] = path
        assert service.launch().wait() == 9
        last = service.log().splitlines()[-1]
        assert last.startswith("slipway serve: the gateway cannot start: ") and str(path) in last and word in last, last


def test_settings_that_lack_each_other_are_refused(make_slipway, authority):
    certificate, key = authority.issue("server")
    for settings in ({"tls_certificate": certificate}, {"tls_key": key}, {"tls_client_ca": authority.pem}):
        service = make_slipway(**settings)
        assert service.launch().wait() == 2
        assert next(iter(settings)) in service.log()


class Busy:
    """Clients that ask on connections that are kept alive, and forget no failure."""

    def __init__(self, service, count=6):
        self.service, self.stopping, self.failures, self.answers = service, threading.Event(), [], [0] * count
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(count)]

    def run(self, number):
        transport = httpx.HTTPTransport(verify=self.service.context(), retries=0)
        with httpx.Client(base_url=self.service.url, transport=transport, timeout=60) as client:
            while not self.stopping.is_set():
                try:
                    answer = client.get("/livez" if number % 2 else "/v1/deployments")
                    if answer.status_code != 200:
                        self.failures.append(answer.text)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.answers[number] += 1

    def go_on(self, more=5):
        before = list(self.answers)
        eventually(lambda: all(now >= then + more for now, then in zip(self.answers, before, strict=True)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures[:5]


def hang_up(service, word):
    seen = service.log().count(word)
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: service.log().count(word) > seen, what=f"the log says {word}")


def test_a_new_certificate_is_taken_without_a_dropped_request(make_secure):
    secure = make_secure(**HASTY).start()
    first = secure.serial_seen()
    with Busy(secure) as busy:
        for name in ("renewed", "renewed-again"):
            gateways = secure.pids("gateway")
            serial = secure.replace_certificate(name)
            assert secure.serial_seen() == first
            hang_up(secure, "reloaded")
            eventually(lambda serial=serial: secure.serial_seen() == serial, what="the new certificate is shown")
            busy.go_on()
            eventually(lambda gateways=gateways: not set(gateways) & set(secure.pids("gateway")), what="the old gateway has ended")
            first = serial


def test_a_broken_certificate_leaves_the_gateway_that_has_the_old_one(make_secure):
    secure = make_secure(**HASTY).start()
    first, gateways = secure.serial_seen(), secure.pids("gateway")
    certificate = secure.settings["tls_certificate"]
    whole = certificate.read_bytes()
    with Busy(secure, 2) as busy:
        certificate.write_bytes(whole[: len(whole) // 2])
        hang_up(secure, "went back")
        assert secure.serial_seen() == first and secure.pids("gateway") == gateways
        assert f"tls_certificate: {certificate}" in secure.log()
        busy.go_on()
    certificate.write_bytes(whole)
    hang_up(secure, "reloaded")
    assert secure.serial_seen() == first
