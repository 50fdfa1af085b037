"""Slipway from code that awaits."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx

from . import _address, errors
from ._api import Api
from ._steps import Body, Call, Download, Invoke, Pause, Script, Step, Stream
from .client import _PAUSE, _STREAM_TIMEOUT, _timeout, _unlink

T = TypeVar("T")


class AsyncClient(Api):
    """The same as Client, to be awaited: what the service can do is listed in slipway._api.

    Within `async with` it keeps connections, which belong to that event loop. Without it, every call makes one of its own
    and closes it: such a client has no state that belongs to an event loop, and may be used from several, also at once.
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
        self._options = self._address.options()
        self._http: httpx.AsyncClient | None = None

    @property
    def url(self) -> str:
        return self._address.url

    async def __aenter__(self) -> AsyncClient:
        self._http = self._connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def run(self, script: Script[T]) -> T:
        """Makes a call, or goes through a script."""
        generator = iter(script)
        try:
            step = next(generator)
            while True:
                try:
                    result = await self._do(step)
                except errors.SlipwayError as error:
                    step = generator.throw(error)
                else:
                    step = generator.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    async def stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        """What comes, until it ends or the caller has had enough."""
        call: Call[Any] | None = stream.call
        while call is not None:
            try:
                async with self._open(call, read_timeout=_STREAM_TIMEOUT) as response:
                    stream.begin(response.headers)
                    async for line in response.aiter_lines():
                        if line:
                            yield stream.take(line.encode())
                return
            except errors.UnavailableError:
                call = stream.resume()
                if call is None:
                    raise
                await self._wait_until_reachable()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            async with self._open(step) as response:
                await response.aread()
                return step.parse(response)
        if isinstance(step, Download):
            return await self._download(step)
        if isinstance(step, Pause):
            return await anyio.sleep(step.seconds)
        return await _call(step)

    def _connect(self) -> httpx.AsyncClient:
        options = dict(self._options)
        if self._address.socket:
            options["transport"] = httpx.AsyncHTTPTransport(uds=self._address.socket)
        return httpx.AsyncClient(**options)

    @asynccontextmanager
    async def _open(self, call: Call[Any], read_timeout: float | None = None) -> AsyncIterator[httpx.Response]:
        http = self._http or self._connect()
        try:
            request = call.request()
            if call.body is not None:
                request["content"] = _pieces(call.body)
            timeout = _timeout(self._address.timeout, call, read_timeout)
            response = await http.send(http.build_request(**request, timeout=timeout), stream=True)
            try:
                if response.status_code >= 300:
                    await response.aread()
                    raise errors.from_response(response)
                yield response
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.from_transport(error, self.url) from error
        finally:
            if http is not self._http:
                await http.aclose()

    async def _download(self, step: Download) -> int:
        part = step.file + ".part"
        try:
            size = 0
            with await anyio.to_thread.run_sync(open, part, "wb") as file:
                async with self._open(step.call) as response:
                    async for piece in response.aiter_bytes(1 << 20):
                        await anyio.to_thread.run_sync(file.write, piece)
                        size += len(piece)
            os.replace(part, step.file)
            return size
        except BaseException:
            _unlink(part)
            raise

    async def _wait_until_reachable(self) -> None:
        """A service that restarts is waited for as long as a request may take."""
        end = time.monotonic() + self._address.timeout
        while True:
            try:
                await self.run(self.READY)
                return
            except errors.UnavailableError:
                if time.monotonic() >= end:
                    raise
                await anyio.sleep(_PAUSE)


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    """Reads files in a thread, so that others are not kept waiting."""
    pieces: Iterator[bytes] = body.open()
    while piece := await anyio.to_thread.run_sync(next, pieces, b""):
        yield piece


async def _call(step: Invoke) -> Any:
    result = await anyio.to_thread.run_sync(step.function) if step.may_block else step.function()
    return await result if hasattr(result, "__await__") else result
