"""A virtual clock's holds.

Virtual time jumps to the next deadline as soon as nothing can run. That is wrong while something outside the event
loop is at work: a thread, another process. So the clock may be held: while it is, it stands still and the loop waits
for real. The clocks hold themselves for threads of anyio and of greenroom and for asyncio's executors. For anything
else there is `hold_clock`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from anyio.lowlevel import current_token

from ..loops import clocks


class Hold:
    """A block that may be entered any number of times; `count` says how many are inside."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *exc_info: object) -> None:
        self.count -= 1


class Holds:
    """What holds the clock of one event loop.

    Attributes:
        told: the blocks of `hold_clock`.
        outside: the calls in threads that greenroom waits for.
    """

    __slots__ = ("outside", "told")

    def __init__(self) -> None:
        self.told = Hold()
        self.outside = Hold()


_holds: WeakKeyDictionary[Any, Holds] = WeakKeyDictionary()


def register(native_loop: object, holds: Holds) -> None:
    """Let `hold_clock` and greenroom's own waits find the holds of this loop (of trio: its token)."""
    _holds[native_loop] = holds
    clocks[native_loop] = holds.outside


def hold_clock() -> AbstractContextManager[None]:
    """A block in which the virtual clock of the running event loop stands still.

    For what the clock cannot see: another process, a plain thread, a thread with a limiter of its own kind. Anything
    that has a deadline still waits for it, for as long as the block lasts. A clock that runs by itself cannot be
    held; then the block does nothing.

    Raises:
        anyio.NoEventLoopError: no event loop runs in this thread.
    """
    holds = _holds.get(current_token().native_token)
    return nullcontext() if holds is None else holds.told
