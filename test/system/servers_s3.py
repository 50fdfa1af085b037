"""S3 for the system tests: versitygw (tools/test-servers) on folders of its own, and a small client to fill it, so that
what is tested is not also what judges. https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import base64
import datetime
import hashlib
import hmac
import os
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from slipway import ROOT, eventually

PROGRAM = ROOT / "build" / "test-servers" / "bin" / "versitygw"
KEY, SECRET = "AKIDTESTONLY", "s3-secret-that-is-nowhere-else"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def sign(method, host, path, query, headers, body, key, secret, region, when=None):
    """Headers with the signature (version 4). Path and query are encoded already, the query is sorted."""
    now = when or datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    signed = {**{name.lower(): value for name, value in headers.items()},
              "host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join([method, path, query, lines, names, digest])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    step = b"AWS4" + secret.encode()
    for part in (day, region, "s3", "aws4_request", text):
        step = hmac.new(step, part.encode(), hashlib.sha256).digest()
    credential = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={step.hex()}"
    return {**signed, "authorization": credential}


class S3Server:
    """versitygw; keys are in `key` and `secret`, its buckets' names may stand before the host s3.localhost."""

    def __init__(self, folder):
        self.folder, self.key, self.secret, self.region = Path(folder), KEY, SECRET, "us-east-1"
        self.address = ("127.0.0.1", free_port())
        self.url = "http://{}:{}".format(*self.address)
        for name in ("data", "versions", "meta"):
            (self.folder / name).mkdir(parents=True)
        environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": self.key, "ROOT_SECRET_KEY": self.secret}
        command = [PROGRAM, "--port", "{}:{}".format(*self.address), "--virtual-domain", "s3.localhost", "--health", "/health",
                   "--quiet", "--keep-alive", "posix", "--versioning-dir", self.folder / "versions",
                   "--sidecar", self.folder / "meta", self.folder / "data"]
        self.log_path = self.folder / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.client = httpx.Client(base_url=self.url, timeout=30)
        eventually(self._is_up, 60, "versitygw answers")

    def _is_up(self):
        assert self.process.poll() is None, self.log_path.read_text()
        return self.client.get("/health").status_code == 200

    def close(self):
        self.client.close()
        self.process.kill()
        self.process.wait(30)

    # ---- its content

    def request(self, method, bucket, key="", query="", body=b"", headers=None):
        path = "/" + bucket + ("/" + quote(key, safe="/-._~") if key else "")
        signed = sign(method, self.client.base_url.netloc.decode(), path, query, headers or {}, body, self.key, self.secret,
                      self.region)
        return self.client.request(method, path + ("?" + query if query else ""), content=body, headers=signed)

    def ask(self, *arguments, **options):
        answer = self.request(*arguments, **options)
        assert answer.status_code < 300, (arguments[:3], answer.status_code, answer.text)
        return answer

    def make_bucket(self, bucket, keeps_versions=False):
        if self.request("HEAD", bucket).status_code == 404:
            self.ask("PUT", bucket)
        if keeps_versions:
            body = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
            self.ask("PUT", bucket, query="versioning=", body=body,
                     headers={"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()})

    def put(self, bucket, key, data, **headers):
        return self.ask("PUT", bucket, key, body=data, headers=headers)

    def get(self, bucket, key):
        return self.ask("GET", bucket, key).content

    def remove(self, bucket, key):
        self.ask("DELETE", bucket, key)

    def keys(self, bucket, prefix=""):
        """Of at most 1000 objects, with names that XML says as they are."""
        answer = self.ask("GET", bucket, query=f"list-type=2&prefix={quote(prefix, safe='')}")
        return re.findall("<Key>([^<]*)</Key>", answer.text)

    def uploads(self, bucket):
        """Multipart uploads that were begun and neither completed nor taken back."""
        return re.findall("<UploadId>([^<]*)</UploadId>", self.ask("GET", bucket, query="uploads=").text)

    def publish(self, bucket, prefix, files):
        """Exactly these files below the prefix, which ends with '/'."""
        for path in sorted((self.folder / "data" / bucket / prefix).rglob("*"), reverse=True):
            if path.is_file():
                self.remove(bucket, str(path.relative_to(self.folder / "data" / bucket)))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda item: self.put(bucket, prefix + item[0], item[1]), files.items()))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    assert PROGRAM.exists(), "run tools/test-servers first"
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.close()
