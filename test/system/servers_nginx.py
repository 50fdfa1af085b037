"""A web server for the system tests: nginx (tools/install-deps) on a folder of its own.

Below its root, the same files are reached in several ways:

    /…              as they are
    /private/…      behind basic authentication (`user`, `password`)
    /chunked/…      without a length, by chunks
    /unranged/…     by a server that knows no ranges
    /moved/…        redirected to /…                       /round/…  to itself
    /elsewhere/…    redirected to the second port, /…      /metadata/…  to http://169.254.169.254/…
    /plain/…        redirected to http (of use over https)

The second port has the same files; the third has them over TLS, as localhost.
"""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from secure import Authority
from slipway import ROOT, eventually

PROGRAM = ROOT / "build" / "deps" / "nginx" / "usr" / "sbin" / "nginx"
USER, PASSWORD = "trainer", "http-password-that-is-nowhere-else"

CONF = """
daemon off; worker_processes 1; pid {folder}/pid; {user}
events {{ worker_connections 256; }}
http {{
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5;
  log_format seen '$server_port $request_method $uri range="$http_range" authorization="$http_authorization" $status';
  access_log {folder}/access seen; default_type application/octet-stream; absolute_redirect off;
  server {{
    listen 127.0.0.1:{port}; root {root};
    location /private/ {{ alias {root}/; auth_basic "models"; auth_basic_user_file {folder}/users; }}
    location /chunked/ {{ alias {root}/; ssi on; ssi_types *; }}
    location /unranged/ {{ alias {root}/; max_ranges 0; }}
    location ~ ^/moved/(.*)$ {{ return 302 /$1; }}
    location ~ ^/round/(.*)$ {{ return 307 /round/$1; }}
    location ~ ^/elsewhere/(.*)$ {{ return 302 http://127.0.0.1:{other}/$1; }}
    location ~ ^/metadata/(.*)$ {{ return 302 http://169.254.169.254/$1; }}
  }}
  server {{ listen 127.0.0.1:{other}; root {root}; }}
  server {{
    listen 127.0.0.1:{tls} ssl; root {root}; ssl_certificate {certificate}; ssl_certificate_key {key};
    location ~ ^/plain/(.*)$ {{ return 302 http://localhost:{port}/$1; }}
  }}
}}
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Nginx:
    def __init__(self, folder):
        self.folder, self.root = Path(folder), Path(folder) / "root"
        self.root.mkdir()
        self.user, self.password = USER, PASSWORD
        self.port, self.other_port, self.tls_port = free_ports(3)
        self.address = ("127.0.0.1", self.port)
        self.authority = Authority(self.folder / "tls", "ours")
        certificate, key = self.authority.issue("server")
        (self.folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        (self.folder / "conf").write_text(CONF.format(
            folder=self.folder, root=self.root, port=self.port, other=self.other_port, tls=self.tls_port,
            certificate=certificate, key=key, user="user root;" if os.geteuid() == 0 else ""))
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-c", self.folder / "conf", "-p", self.folder, "-e", self.folder / "error"], stdout=log, stderr=log)
        eventually(self._is_up, 30, "nginx answers")

    def _is_up(self):
        assert self.process.poll() is None, (self.folder / "log").read_text() + (self.folder / "error").read_text()
        with socket.socket() as one:
            return one.connect_ex(self.address) == 0

    def close(self):
        self.process.terminate()
        self.process.wait(30)

    def put(self, path, data):
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + ".part")
        part.write_bytes(data)
        part.rename(place)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}/{path}"

    def seen(self, part=""):
        """The lines of requests that hold `part`."""
        return [line for line in (self.folder / "access").read_text().splitlines() if part in line]


@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    assert PROGRAM.exists(), "run tools/install-deps test first"
    server = Nginx(tmp_path_factory.mktemp("nginx"))
    yield server
    server.close()
