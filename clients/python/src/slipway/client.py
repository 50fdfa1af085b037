"""Slipway from code that blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar

import httpx

from . import _address, errors
from ._api import Api
from ._steps import Call, Download, Invoke, Pause, Script, Step, Stream

T = TypeVar("T")


class Client(Api):
    """What the service can do is listed in slipway._api, one line a method.

    Without arguments: SLIPWAY_URL, else http://127.0.0.1:8400; SLIPWAY_TOKEN; SLIPWAY_CA, SLIPWAY_CERT and SLIPWAY_KEY.
    `timeout` is that of each request in seconds. Nothing is sent before the first call. It may be used by several threads
    at once, keeps connections, and is closed by close() or at the end of `with`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        key_file: str | None = None,
        timeout: float = _address.DEFAULT_TIMEOUT,
    ) -> None:
        self._address = _address.find(
            url, token, ca_file=ca_file, certificate_file=certificate_file, key_file=key_file, timeout=timeout
        )
        options = self._address.options()
        if self._address.socket:
            options["transport"] = httpx.HTTPTransport(uds=self._address.socket)
        self._http = httpx.Client(**options)

    @property
    def url(self) -> str:
        return self._address.url

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(self, script: Script[T]) -> T:
        """Makes a call, or goes through a script."""
        generator = iter(script)
        try:
            step = next(generator)
            while True:
                try:
                    result = self._do(step)
                except errors.SlipwayError as error:
                    step = generator.throw(error)
                else:
                    step = generator.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def stream(self, stream: Stream[T]) -> Iterator[T]:
        """What comes, until it ends or the caller has had enough. Closing the iterator closes the connection."""
        call: Call[Any] | None = stream.call
        while call is not None:
            try:
                with self._open(call, read_timeout=_STREAM_TIMEOUT) as response:
                    stream.begin(response.headers)
                    for line in response.iter_lines():
                        if line:
                            yield stream.take(line.encode())
                return
            except errors.UnavailableError:
                call = stream.resume()
                if call is None:
                    raise
                self._wait_until_reachable()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            with self._open(step) as response:
                response.read()
                return step.parse(response)
        if isinstance(step, Download):
            return self._download(step)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        return _call(step)

    @contextmanager
    def _open(self, call: Call[Any], read_timeout: float | None = None) -> Iterator[httpx.Response]:
        """The answer with its body still to come; errors are raised as ours."""
        try:
            request = call.request()
            if call.body is not None:
                request["content"] = call.body.open()
            timeout = _timeout(self._address.timeout, call, read_timeout)
            response = self._http.send(self._http.build_request(**request, timeout=timeout), stream=True)
            try:
                if response.status_code >= 300:
                    response.read()
                    raise errors.from_response(response)
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.from_transport(error, self.url) from error

    def _download(self, step: Download) -> int:
        part = step.file + ".part"
        try:
            with self._open(step.call) as response, open(part, "wb") as file:
                for piece in response.iter_bytes(1 << 20):
                    file.write(piece)
                size = file.tell()
            os.replace(part, step.file)
            return size
        except BaseException:
            _unlink(part)
            raise

    def _wait_until_reachable(self) -> None:
        """A service that restarts is waited for as long as a request may take."""
        end = time.monotonic() + self._address.timeout
        while True:
            try:
                self.run(self.READY)
                return
            except errors.UnavailableError:
                if time.monotonic() >= end:
                    raise
                time.sleep(_PAUSE)


_PAUSE = 0.1
_STREAM_TIMEOUT = 60.0  # a blank line comes at least every 15 s


def _timeout(default: float, call: Call[Any], read_timeout: float | None) -> httpx.Timeout:
    whole = call.timeout or default
    return httpx.Timeout(whole, connect=min(whole, 10.0), read=read_timeout or whole)


def _call(step: Invoke) -> Any:
    result = step.function()
    if hasattr(result, "__await__"):
        result.close() if hasattr(result, "close") else None
        raise errors.ConfigurationError("a coroutine function was given where nothing is awaited: use AsyncClient")
    return result


def _unlink(file: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(file)
