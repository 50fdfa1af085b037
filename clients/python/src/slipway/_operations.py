"""How one description becomes a method of Client and one of AsyncClient, with the types of each."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from ._steps import Script, Stream

if TYPE_CHECKING:
    from .async_client import AsyncClient
    from .client import Client

P = ParamSpec("P")
T = TypeVar("T")


class operation(Generic[P, T]):
    """`describe` gives a call or a script for its arguments; the client runs it."""

    def __init__(self, describe: Callable[P, Script[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__
        self.__wrapped__ = describe

    @overload
    def __get__(self, client: None, owner: type[Any]) -> operation[P, T]: ...
    @overload
    def __get__(self, client: Client, owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        if client is None:
            return self

        @functools.wraps(self._describe)
        def method(*arguments: P.args, **named: P.kwargs) -> Any:
            return client.run(self._describe(*arguments, **named))

        return method


class streaming(Generic[P, T]):
    """The same for what comes piece by piece."""

    def __init__(self, describe: Callable[P, Stream[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__
        self.__wrapped__ = describe

    @overload
    def __get__(self, client: None, owner: type[Any]) -> streaming[P, T]: ...
    @overload
    def __get__(self, client: Client, owner: type[Any]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[Any]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        if client is None:
            return self

        @functools.wraps(self._describe)
        def method(*arguments: P.args, **named: P.kwargs) -> Any:
            return client.stream(self._describe(*arguments, **named))

        return method
