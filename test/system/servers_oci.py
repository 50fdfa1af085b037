"""Container registries for the system tests: distribution (open, with htpasswd, with tokens) and one that has the
referrers API, from tools/test-servers; and a small client to fill them, so that what is tested is not also what judges.

    registry = oci_registry                      # fixture; registry.host is "127.0.0.1:PORT"
    registry.push_files("models/tiny", "v1", {"model.onnx": b"..."})       # as ORAS does: one layer a file
    registry.push_layers("models/tiny", "v1", [(media_type, bytes, annotations)], config=...)
"""

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from servers_s3 import free_port
from slipway import ROOT, eventually

BIN = ROOT / "build" / "test-servers" / "bin"
USER, PASSWORD = "fred", "s3cret-of-the-registry"
HTPASSWD = f"{USER}:$2b$04$0uTxE0UrLCKKagepnlmLgutbzb8Jkx/5vn2hFCW0EVSv8EN9EjFhu\n"  # bcrypt of PASSWORD
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(entries, compress=""):
    """A tar of (name, bytes) pairs, or of TarInfo for what is no plain file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:" + compress) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            tar.addfile(info, io.BytesIO(entry[1]))
    return buffer.getvalue()


class Registry:
    """One process; `auth` is a section of distribution's configuration."""

    def __init__(self, folder, program="registry", auth=None, user=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = ("127.0.0.1", free_port())
        self.host = "{}:{}".format(*self.address)
        self.url = f"http://{self.host}"
        self.log_path = self.folder / "log"
        self.user = user
        self.client = httpx.Client(base_url=self.url, timeout=30, auth=user)
        self.command = [BIN / program, self.host] if program == "referrers" else self._distribution(auth)
        self.process = None
        self.start()

    def _distribution(self, auth):
        config = {"version": 0.1, "log": {"level": "info"},
                  "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
                  "http": {"addr": self.host}}
        if auth:
            config["auth"] = auth
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))  # JSON is YAML, too
        return [BIN / "registry", "serve", path]

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log,
                                            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"})
        eventually(self._is_up, 60, "the registry answers")
        return self

    def _is_up(self):
        assert self.process.poll() is None, self.log_path.read_text()
        return httpx.get(self.url + "/v2/", timeout=5).status_code in (200, 401)

    def stop(self):
        self.process.kill()
        self.process.wait(30)

    def close(self):
        self.client.close()
        self.stop()

    def log(self):
        return self.log_path.read_text()

    # ---- its content

    def put_blob(self, repository, data):
        digest = digest_of(data)
        answer = self.client.post(f"/v2/{repository}/blobs/uploads/")
        assert answer.status_code == 202, answer.text
        place = httpx.URL(answer.headers["Location"]).copy_merge_params({"digest": digest})
        answer = self.client.put(place, content=data, headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 201, answer.text
        return digest

    def put_manifest(self, repository, name, manifest, media_type=None):
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        media_type = media_type or json.loads(data)["mediaType"]
        answer = self.client.put(f"/v2/{repository}/manifests/{name}", content=data, headers={"Content-Type": media_type})
        assert answer.status_code == 201, answer.text
        return digest_of(data)

    def get_manifest(self, repository, name):
        answer = self.client.get(f"/v2/{repository}/manifests/{name}", headers={"Accept": f"{MANIFEST}, {INDEX}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get_blob(self, repository, digest):
        answer = self.client.get(f"/v2/{repository}/blobs/{digest}", follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer.content

    def describe(self, repository, media_type, data, annotations=None):
        described = {"mediaType": media_type, "digest": self.put_blob(repository, data), "size": len(data)}
        return described | ({"annotations": annotations} if annotations else {})

    def push_layers(self, repository, tag, layers, config=(EMPTY, b"{}"), **more):
        """layers: (media type, bytes, annotations). The manifest's digest."""
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.describe(repository, *config),
                    "layers": [self.describe(repository, *layer) for layer in layers], **more}
        return self.put_manifest(repository, tag, manifest)

    def push_files(self, repository, tag, files):
        layers = [("application/octet-stream", data, {TITLE: path}) for path, data in files.items()]
        return self.push_layers(repository, tag, layers, artifactType="application/vnd.example.model")

    def push_image(self, repository, tag, tars, labels=None, **more):
        config = {"architecture": "amd64", "os": "linux", "config": {"Labels": labels} if labels else {},
                  "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}}
        return self.push_layers(repository, tag, [(LAYER, tar, None) for tar in tars],
                                config=(CONFIG, json.dumps(config).encode()), **more)


# ---- tokens (https://distribution.github.io/distribution/spec/auth/token/)


def run_openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True).stdout


def in_base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Gives tokens to those who know the password, or bring the refresh token; `grants` are the scopes that it gave."""

    refresh_token = "identity-token-of-fred"

    def __init__(self, folder, lifetime=300):
        self.folder, self.lifetime, self.grants, self.requests = Path(folder), lifetime, [], []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key, self.certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        run_openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key, "-out", self.certificate, "-days", "2",
                    "-subj", "/CN=tokens")
        self.chain = base64.b64encode(run_openssl("x509", "-in", self.certificate, "-outform", "DER")).decode()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self, parse_qs(urlsplit(self.path).query))

            def do_POST(self):
                outer.answer(self, parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = "127.0.0.1:{}".format(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def auth(self):
        return {"token": {"realm": f"http://{self.host}/token", "service": "registry.test", "issuer": "tokens",
                          "rootcertbundle": str(self.certificate)}}

    def is_known(self, handler, asked):
        if asked.get("refresh_token") == [self.refresh_token]:
            return True
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return handler.headers.get("Authorization") == expected

    def answer(self, handler, asked):
        self.requests.append((handler.command, asked))
        known = self.is_known(handler, asked)
        scopes = " ".join(asked.get("scope", [])).split()
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",") if known else []})
        if known:
            self.grants += scopes
        data = json.dumps({"token": self.token(access), "expires_in": self.lifetime}).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def token(self, access):
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.chain]}
        claims = {"iss": "tokens", "sub": USER, "aud": "registry.test", "exp": now + self.lifetime, "nbf": now - 10, "iat": now,
                  "jti": str(uuid.uuid4()), "access": access}
        text = ".".join(in_base64url(json.dumps(part).encode()) for part in (header, claims))
        return text + "." + in_base64url(run_openssl("dgst", "-sha256", "-sign", self.key, data=text.encode()))

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="session")
def oci_registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("oci"))
    yield registry
    registry.close()


@pytest.fixture(scope="session")
def guarded_registry(tmp_path_factory):
    """With Basic authentication."""
    folder = tmp_path_factory.mktemp("oci-guarded")
    (folder / "htpasswd").write_text(HTPASSWD)
    registry = Registry(folder, auth={"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}, user=(USER, PASSWORD))
    yield registry
    registry.close()


@pytest.fixture(scope="session")
def referrers_registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("oci-referrers"), program="referrers")
    yield registry
    registry.close()


@pytest.fixture(scope="session")
def token_server(tmp_path_factory):
    server = TokenServer(tmp_path_factory.mktemp("tokens"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory, token_server):
    registry = Registry(tmp_path_factory.mktemp("oci-tokens"), auth=token_server.auth())
    yield registry
    registry.close()
