"""The OCI registry's bed: distribution, one repository a model, one layer a file as ORAS does it."""

import pytest

from registry_bed import Bed
from servers_oci import oci_registry  # noqa: F401


class OciBed(Bed):
    name = "oci"

    def __init__(self, registry):
        self.registry, self.address = registry, registry.address

    def publish(self, model, files):
        self.registry.push_files(f"models/{model}", "v1", files)

    def uri(self, model, address):
        return "oci://{}:{}/models/{}:v1".format(*address, model)

    def conf(self, address):
        return "[oci test]\nhosts = {}:{}\nplain_http = true\n".format(*address)


@pytest.fixture
def oci_bed(oci_registry):  # noqa: F811
    return OciBed(oci_registry)
