"""What a call is, apart from how it is made.

A `Call` is one request and how to read its answer. A script is a generator that yields steps (calls, pauses, functions of
the user's) and is sent what came of each, or thrown its error; it returns the result. A `Stream` is an answer without an
end, and how to ask for the rest of it. None of them knows whether it is run by Client, which blocks, or by AsyncClient,
which awaits: each thing that the service can do is written once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from . import errors
from .models import Page

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)

Parse = Callable[[httpx.Response], T]


@dataclass(frozen=True)
class Body:
    """Bytes that are read while they are sent: as often as open() is called, in any thread."""

    open: Callable[[], Iterator[bytes]]
    size: int
    media_type: str


@dataclass(frozen=True)
class Call(Generic[T]):
    method: str
    path: str
    parse: Parse[T]
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    lines: list[Any] | None = None  # a body of NDJSON
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None  # seconds; None: the client's

    def __iter__(self) -> Generator[Step, Any, T]:
        """In a script: answer = yield from call."""
        return cast(T, (yield self))

    def request(self) -> dict[str, Any]:
        """What httpx's build_request() takes, but the body of `body`."""
        headers = dict(self.headers)
        content: bytes | None = None
        if self.lines is not None:
            content = b"".join(encode(line) + b"\n" for line in self.lines)
            headers["Content-Type"] = "application/x-ndjson"
        elif self.json is not None:
            content = encode(self.json)
            headers["Content-Type"] = "application/json"
        elif self.body is not None:
            headers["Content-Type"] = self.body.media_type
            headers["Content-Length"] = str(self.body.size)
        query = {name: word(value) for name, value in self.query.items() if value is not None}
        return {"method": self.method, "url": self.path, "params": query or None, "content": content, "headers": headers}


@dataclass(frozen=True)
class Download:
    """A call whose answer goes into a file, which is there when it is whole. Gives the number of bytes."""

    call: Call[Any]
    file: str


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Invoke:
    """A function of the user's, which may be a coroutine function where it is awaited. One that may block does so in a
    thread of its own when others would have to wait for it."""

    function: Callable[[], Any]
    may_block: bool = False

    def __iter__(self) -> Generator[Step, Any, Any]:
        return (yield self)


Step = Call[Any] | Download | Pause | Invoke


class Script(Protocol[T_co]):
    def __iter__(self) -> Generator[Step, Any, T_co]: ...


@dataclass(frozen=True)
class Stream(Generic[T]):
    """NDJSON. begin() is told the headers of each answer, take() reads a line. An answer that breaks off is asked for again
    by resume(), which gives the call for the rest, or None where that is an error."""

    call: Call[Any]
    take: Callable[[bytes], T]
    begin: Callable[[httpx.Headers], None] = lambda headers: None
    resume: Callable[[], Call[Any] | None] = lambda: None


def patiently(call: Call[T], patience: float = 15.0) -> Generator[Step, Any, T]:
    """For calls that change nothing: one that the service cannot answer while a part of it restarts is made again."""
    end = time.monotonic() + patience
    while True:
        try:
            return (yield from call)
        except errors.UnavailableError as error:
            if error.status_code != 503 or time.monotonic() >= end:
                raise
            yield Pause(min(error.retry_after or 0.2, 0.5))


# ---- paths and bodies


def path(template: str, *words: object) -> str:
    """path("/v1/tasks/{}", id): each word is one segment, percent-encoded."""
    return template.format(*(quote(str(each), safe="") for each in words))


def word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def without_nones(**fields: Any) -> dict[str, Any]:
    return {name: plain(value) for name, value in fields.items() if value is not None}


def plain(value: Any) -> Any:
    """As JSON takes it: of models their body, of ids their text."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


# ---- reading answers


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise _not_ours(response, str(error)) from error


def _not_ours(response: httpx.Response, why: str) -> errors.ProtocolError:
    request = response.request
    return errors.ProtocolError(
        f"{request.method} {request.url.path}: the answer is not Slipway's: {why}", status_code=response.status_code
    )


def _model(kind: type[M], response: httpx.Response) -> M:
    try:
        return kind.model_validate(_json(response))
    except ValidationError as error:
        raise _not_ours(response, str(error)) from error


def _page(kind: type[M], response: httpx.Response) -> Page[M]:
    found = _json(response)
    if not isinstance(found, list):
        raise _not_ours(response, "it is no list")
    try:
        page: Page[M] = Page(kind.model_validate(each) for each in found)
    except ValidationError as error:
        raise _not_ours(response, str(error)) from error
    total = response.headers.get("X-Total-Count", "")
    page.total_count = int(total) if total.isdecimal() else None
    return page


def one(kind: type[M]) -> Parse[M]:
    return partial(_model, kind)


def many(kind: type[M]) -> Parse[Page[M]]:
    return partial(_page, kind)


def anything(response: httpx.Response) -> Any:
    return _json(response)


def nothing(response: httpx.Response) -> None:
    return None


def line_of(kind: type[M]) -> Callable[[bytes], M]:
    def take(line: bytes) -> M:
        try:
            return kind.model_validate_json(line)
        except ValidationError as error:
            raise errors.ProtocolError(f"a line of the answer is not Slipway's: {error}") from error

    return take
