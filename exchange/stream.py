"""What comes one by one until somebody closes it: an iterator object with an end.

An object and not an async generator, because a generator that is abandoned warns on trio, and one that was cancelled
has ended: this one goes on with the next ``async for``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar, cast

T_co = TypeVar("T_co", covariant=True)


class Stream(ABC, Generic[T_co]):
    """An async iterator and a block that closes it. Cancelling whoever waits for the next thing takes nothing away."""

    __slots__ = ()

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> T_co: ...

    @abstractmethod
    async def aclose(self) -> None:
        """End it, for whoever waits at it too. A second time changes nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def as_bytes(data: object) -> bytes:
    """`data` as bytes that nobody can change.

    Raises:
        TypeError: it is something else. Another machine would not understand it.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"only bytes go from machine to machine, not {type(data).__name__}: encode it")
    return data if isinstance(data, bytes) else bytes(cast("bytearray", data))
