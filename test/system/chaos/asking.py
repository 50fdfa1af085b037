"""One connection of one client, and what it costs: the standard library's HTTP, which leaves the processors to the
service. A connection that was closed while nothing was asked on it is opened again; one that is cut off while an answer is
owed is the answer's failure, and is never tried again here."""

import http.client
import json
import select
import socket
import time
from dataclasses import dataclass

TIMEOUT = 60.0  # seconds; nothing that the service answers takes so long


@dataclass(slots=True)
class Answer:
    method: str
    path: str
    status: int  # 0: there was none
    body: bytes
    began: float
    ended: float

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def ok(self):
        return 200 <= self.status < 300

    def __str__(self):
        return f"{self.method} {self.path}: {self.status or 'no answer'} {self.body[:400].decode('utf-8', 'replace')} (after {self.ended - self.began:.2f} s)"


class Connection:
    def __init__(self, host, port):
        self._host, self._port, self._http = host, port, None

    def ask(self, method, path, body=None, headers=()):
        """body: what becomes JSON, or bytes as they are. Always an Answer."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        began = time.monotonic()
        try:
            self._open()
            self._http.request(method, path, content, {"Content-Type": "application/json", **dict(headers)})
            answer = self._http.getresponse()
            return Answer(method, path, answer.status, answer.read(), began, time.monotonic())
        except (OSError, http.client.HTTPException) as failure:
            self.close()
            return Answer(method, path, 0, repr(failure).encode(), began, time.monotonic())

    def close(self):
        if self._http:
            self._http.close()
        self._http = None

    def _open(self):
        if self._http and self._http.sock:
            if not select.select([self._http.sock], [], [], 0)[0]:
                return
            self.close()  # readable without a question: it has been closed
        self._http = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
