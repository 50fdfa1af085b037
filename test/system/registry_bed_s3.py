"""The S3 registry's bed: versitygw, one bucket for all models, each a prefix."""

import pytest

from registry_bed import Bed
from servers_s3 import s3_server  # noqa: F401

BUCKET = "models"


class S3Bed(Bed):
    name, pins = "s3", False

    def __init__(self, server):
        self.server, self.address = server, server.address
        server.make_bucket(BUCKET)

    def publish(self, model, files):
        self.server.publish(BUCKET, model + "/", files)

    def uri(self, model, address):
        return f"s3://{BUCKET}/{model}"

    def conf(self, address):
        return (f"[s3]\nendpoint = http://{address[0]}:{address[1]}\nbuckets = {BUCKET}\n"
                f"access_key_id = {self.server.key}\nsecret_access_key = {self.server.secret}\n")

    def secrets(self):
        return [self.server.secret]


@pytest.fixture
def s3_bed(s3_server):  # noqa: F811
    return S3Bed(s3_server)
