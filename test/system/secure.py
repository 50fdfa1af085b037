"""A service over TLS, and the certificates for it, made by the openssl command.

    authority = Authority(folder, "ours")              # authority.pem
    certificate, key = authority.issue("server")       # PEM files; for localhost and 127.0.0.1
    service = SecureSlipway(folder, authority, **settings).start()
    service.connect(version)                            # a socket of Python's ssl on it
"""

import shutil
import socket
import ssl
import subprocess

import httpx

from slipway import Slipway

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def openssl(*words):
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


class Authority:
    def __init__(self, folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.serial = folder, name, 1
        self.pem, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30, "-subj", f"/CN={name}",
                "-keyout", self.key, "-out", self.pem)

    def issue(self, name):
        """The certificate's and the key's file."""
        pem, key, request, names = (self.folder / f"{name}.{ending}" for ending in ("pem", "key", "csr", "names"))
        names.write_text(NAMES)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key,
                "-out", request)
        self.serial += 1
        openssl("x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self.key, "-set_serial", self.serial, "-days", 20,
                "-extfile", names, "-out", pem)
        return pem, key


class SecureSlipway(Slipway):
    def __init__(self, folder, authority, **settings):
        self.authority = authority
        certificate, key = authority.issue("server")
        super().__init__(folder, tls_certificate=certificate, tls_key=key, **settings)

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def context(self, certificate=None, version=None):
        """`certificate`: (file, key file) to show; `version`: that alone."""
        context = ssl.create_default_context(cafile=self.authority.pem)
        if certificate:
            context.load_cert_chain(*certificate)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    @property
    def client(self):
        if self._client is None:
            token = self.settings.get("token")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            certificate = self.settings.get("tls_client_ca") and self.authority.issue("the-test")
            self._client = httpx.Client(base_url=self.url, timeout=30, headers=headers, verify=self.context(certificate))
        return self._client

    def connect(self, **context):
        plain = socket.create_connection((self.host, self.port), 30)
        return self.context(**context).wrap_socket(plain, server_hostname="localhost")

    def replace_certificate(self, name):
        """Another one under the same names of files, as those who renew certificates put it; its serial number."""
        certificate, key = self.authority.issue(name)
        shutil.copy(key, self.settings["tls_key"])
        shutil.copy(certificate, self.settings["tls_certificate"])
        return f"{self.authority.serial:02X}"

    def serial_seen(self):
        with self.connect() as connection:
            return connection.getpeercert()["serialNumber"]
