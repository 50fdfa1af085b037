"""Every bed that the suites over all registries run on, as fixtures: NAME_bed for each of NAMES.

A back-end's own file (registry_bed_<name>.py) has its class, its fixture and what starts its server; its row stands here.
"""

from urllib.parse import quote

import pytest

from registry_bed import Bed
from registry_bed_http import *  # noqa: F403
from registry_bed_mlflow import *  # noqa: F403
from registry_bed_oci import *  # noqa: F403
from registry_bed_s3 import *  # noqa: F403

NAMES = ["file", "http", "s3", "oci", "mlflow3", "mlflow2"]
DIGESTED = ["http", "oci"]  # those of them whose source tells digests: of the files, or of the whole


class FileBed(Bed):
    name, pins, settles_s = "file", False, 3.1

    def __init__(self, folder):
        self.root = folder

    def publish(self, model, files):
        for path, data in files.items():
            place = self.root / model / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    def uri(self, model, address):
        return f"file://{quote(str(self.root / model))}"

    def conf(self, address):
        return ""


@pytest.fixture
def file_bed(tmp_path):
    folder = tmp_path / "models-of-files"
    folder.mkdir()
    return FileBed(folder)
