"""A proxy between a client and a real HTTP server, which does what servers and networks do on bad days.

    with FaultyProxy(server_address) as proxy:      # forwards; proxy.address is where clients go
        proxy.fault = Cut(0.3)                      # what happens to answers from now on
        ...
        proxy.requests                              # [(method, target, status)] that went through

It forwards one request a connection. A fault is asked about each answer once its head is there, and says what becomes
of it. Answers with a large body are the files of a model; all others are left alone unless a fault says otherwise.
What it leaves out: TLS, pipelining, anything but HTTP/1.
"""

import re
import socket
import threading
import time
from dataclasses import dataclass, field

LARGE = 20_000  # bytes of a body that is a file of a model, and no answer of an API
SILENCE = 30.0  # seconds that nobody here is waited for


@dataclass
class Answer:
    method: str
    target: str
    request: bytes  # the head
    head: bytes  # up to and with the empty line
    body: bytes
    number: int  # of the answers with a large body, from 1

    @property
    def is_file(self):
        return len(self.body) >= LARGE

    @property
    def status(self):
        return int(self.head.split(b" ", 2)[1])


class Fault:
    """What is sent in an answer's place: (bytes, and whether the connection ends as it should)."""

    def change(self, answer):
        return answer.head + answer.body

    def instead(self, method, target, request):
        """Bytes that are answered without asking the server, or None."""
        return None


class Cut(Fault):
    """Breaks the connection off at this share of each file's body; a share of what is still missing when it goes on."""

    def __init__(self, share, times=None):
        self.share, self.times, self.count = share, times, 0

    def change(self, answer):
        if not answer.is_file or (self.times is not None and self.count >= self.times):
            return answer.head + answer.body
        self.count += 1
        return answer.head + answer.body[:int(len(answer.body) * self.share)]


class Length(Fault):
    """Lies about the length of files by so many bytes."""

    def __init__(self, more):
        self.more = more

    def change(self, answer):
        if not answer.is_file:
            return answer.head + answer.body
        head = re.sub(rb"(?i)(content-length: *)(\d+)", lambda m: m[1] + b"%d" % (int(m[2]) + self.more), answer.head)
        return head + answer.body


class Flip(Fault):
    """One bit in the middle of each file is another one."""

    def change(self, answer):
        if not answer.is_file:
            return answer.head + answer.body
        body = bytearray(answer.body)
        body[len(body) // 2] ^= 1
        return answer.head + bytes(body)


class Page(Fault):
    """Every answer is a page to log in at, as a proxy of a company's network gives it."""

    page = b"<!doctype html><title>Log in</title><p>Please log in to go on."

    def instead(self, method, target, request):
        return (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                % len(self.page)) + self.page


class Status(Fault):
    """The first `times` requests are answered with this status (None: all of them)."""

    def __init__(self, status, times=None, extra=b""):
        self.status, self.times, self.count, self.extra = status, times, 0, extra

    def instead(self, method, target, request):
        if self.times is not None and self.count >= self.times:
            return None
        self.count += 1
        body = b"the server is out for lunch"
        return (b"HTTP/1.1 %d Out for lunch\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n"
                % (self.status, self.extra, len(body))) + body


class Redirect(Fault):
    """Every request is sent elsewhere."""

    def __init__(self, location):
        self.location = location.encode()

    def instead(self, method, target, request):
        return (b"HTTP/1.1 307 Elsewhere\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                % self.location)


class Stall(Fault):
    """The first file stops coming half-way, all others at once; connections stay open."""

    stalls = True

    def __init__(self):
        self.count = 0

    def change(self, answer):
        if not answer.is_file:
            return answer.head + answer.body
        self.count += 1
        return answer.head + (answer.body[:len(answer.body) // 2] if self.count == 1 else b"")


class Gone(Fault):
    """The server goes away after so many answers: connections are accepted and closed."""

    def __init__(self, after):
        self.after, self.count = after, 0

    def instead(self, method, target, request):
        self.count += 1
        return b"" if self.count > self.after else None


@dataclass
class FaultyProxy:
    server: tuple
    fault: Fault = field(default_factory=Fault)
    requests: list = field(default_factory=list)
    heads: list = field(default_factory=list)  # of requests, as they came

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self._listener.getsockname()[:2]
        self._files, self._lock, self._is_over = 0, threading.Lock(), False
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._is_over = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        client.settimeout(SILENCE)
        with client:
            try:
                self._forward(client)
            except (OSError, ValueError):
                pass  # either side went away: so does the other

    def _forward(self, client):
        reader = client.makefile("rb")
        head = read_head(reader)
        if not head:
            return
        method, target = head.split(b" ", 2)[:2]
        self.heads.append(head)
        fault = self.fault
        instead = fault.instead(method.decode(), target.decode(), head)
        if instead is not None:
            self.requests.append((method.decode(), target.decode(), None))
            client.sendall(instead)
            return
        if re.search(rb"(?im)^expect: *100-continue", head):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"(?im)^expect:[^\r]*\r\n", b"", head)
        with socket.create_connection(self.server, SILENCE) as server:
            server.sendall(closing(head) + read_body(reader, head, is_answer=False))
            answers = server.makefile("rb")
            answer_head = read_head(answers)
            while answer_head.split(b" ", 2)[1].startswith(b"1"):
                answer_head = read_head(answers)
            body = b"" if method == b"HEAD" else read_body(answers, answer_head, is_answer=True)
        if re.search(rb"(?im)^transfer-encoding: *chunked", answer_head):
            answer_head = re.sub(rb"(?im)^transfer-encoding:[^\r]*\r\n", b"", answer_head)
            answer_head = answer_head[:-2] + b"Content-Length: %d\r\n\r\n" % len(body)
        with self._lock:
            self._files += len(body) >= LARGE
            answer = Answer(method.decode(), target.decode(), head, closing(answer_head), body, self._files)
        self.requests.append((answer.method, answer.target, answer.status))
        client.sendall(fault.change(answer))
        if getattr(fault, "stalls", False) and answer.is_file:
            self._hold(client)

    def _hold(self, client):
        end = time.monotonic() + SILENCE
        client.settimeout(0.1)
        while not self._is_over and time.monotonic() < end:
            try:
                if not client.recv(1):
                    return
            except TimeoutError:
                continue

    def files(self):
        """How many requests got bytes of a file."""
        return self._files


def read_head(reader):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline(65536)
        if not line:
            return b"" if not head else head
        head += line
    return head


def read_body(reader, head, is_answer):
    if is_answer and head.split(b" ", 2)[1] in (b"204", b"304"):
        return b""
    if re.search(rb"(?im)^transfer-encoding: *chunked", head):
        return read_chunks(reader) if is_answer else read_chunks(reader, keep=True)
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    if length:
        return reader.read(int(length[1]))
    return reader.read() if is_answer else b""


def read_chunks(reader, keep=False):
    """The decoded body, or as it came."""
    whole, decoded = b"", b""
    while True:
        line = reader.readline(1024)
        size = int(line.split(b";")[0], 16)
        chunk = reader.read(size)
        end = reader.readline(1024)
        whole, decoded = whole + line + chunk + end, decoded + chunk
        if not size:
            return whole if keep else decoded


def closing(head):
    """The same head, of a connection that ends behind it."""
    head = re.sub(rb"(?im)^connection:[^\r]*\r\n", b"", head)
    return head[:-2] + b"Connection: close\r\n\r\n"
