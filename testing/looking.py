"""How checks of what waits look at it: what must come is waited for long, what must not come for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import anyio

T = TypeVar("T")

#: Seconds in which something does not happen, and those in which something must.
A_WHILE, PATIENCE = 0.2, 20.0
ODD_BYTES = (b"", b"\x00", b"\r\n", bytes(range(256)), b"x" * 100_000)


async def soon(stream: AsyncIterator[T]) -> T:
    """The next thing, which must come."""
    with anyio.fail_after(PATIENCE):
        return await anext(stream)


async def comes(stream: AsyncIterator[object]) -> bool:
    """Whether something comes."""
    with anyio.move_on_after(A_WHILE):
        await anext(stream)
        return True
    return False


async def rest(stream: AsyncIterator[T]) -> list[T]:
    """What comes until the end, which must come."""
    with anyio.fail_after(PATIENCE):
        return [each async for each in stream]


async def after(delay: float, function: Callable[[], Awaitable[object]]) -> None:
    await anyio.sleep(delay)
    await function()


async def eventually(function: Callable[[], Awaitable[object]], kind: type[Exception], *, pause: float = 0.01) -> None:
    """Call it until it does not raise such an error."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await function()
            except kind:
                await anyio.sleep(pause)
            else:
                return


@contextmanager
def refused(kind: type[Exception]) -> Generator[list[Exception]]:
    """The block raises such an error, which is in the list then."""
    caught: list[Exception] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        return
    raise AssertionError(f"{kind.__name__} was not raised")
