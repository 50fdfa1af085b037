"""The HTTP registry's bed: nginx, each model one tar.gz with its digest beside it."""

import gzip
import hashlib
import io
import tarfile

import pytest

from registry_bed import Bed
from servers_nginx import nginx  # noqa: F401


def tar_of(files):
    """The same files give the same bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def tar_gz_of(files):
    return gzip.compress(tar_of(files), compresslevel=1, mtime=0)


class HttpBed(Bed):
    name = "http"

    def __init__(self, server):
        self.server, self.address = server, server.address

    def publish(self, model, files):
        data = tar_gz_of(files)
        self.server.put(f"bed/{model}.tar.gz", data)
        self.server.put(f"bed/{model}.tar.gz.sha256", f"{hashlib.sha256(data).hexdigest()}  {model}.tar.gz\n".encode())

    def uri(self, model, address):
        return f"http://{address[0]}:{address[1]}/bed/{model}.tar.gz"

    def conf(self, address):
        return f"[http bed]\nhosts = {address[0]}:{address[1]}\n"


@pytest.fixture
def http_bed(nginx):  # noqa: F811
    return HttpBed(nginx)
