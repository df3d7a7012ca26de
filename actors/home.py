"""The event loop and thread that a system lives in, and the way in from other threads.

Everything in the runtime belongs to one event loop. A call that may come from any thread (`stop`) passes through `run`:
at once in the loop's own thread, else as soon as the loop gets to it. A loop that is gone has nothing left to ask for.

Whoever waits for something outside of the loop, such as a thread, does so in the block `outside`. A loop of a test may
have a clock that jumps when nothing can run; it stands still meanwhile. In production the block does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from anyio.lowlevel import current_token

#: What holds the clocks of loops that are in a test, by native loop or token.
clocks: WeakKeyDictionary[Any, AbstractContextManager[None]] = WeakKeyDictionary()


class Home:
    """The running event loop and its thread. Make it inside that loop.

    Attributes:
        now: the loop's clock, in seconds: `anyio.current_time`, by the shortest way.
        outside: a block, to be entered any number of times, that waits for something outside of the loop.
    """

    __slots__ = ("_deadline", "_post", "_thread", "now", "outside")

    def __init__(self) -> None:
        token = current_token()
        loop: Any = token.native_token
        # asyncio's loop and trio's token have the same method under different names.
        self._post: Callable[..., Any] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._thread = threading.get_ident()
        # `anyio.current_time` finds out at each call which backend is running; here that is settled.
        self.now: Callable[[], float] = getattr(loop, "time", token.backend_class.current_time)
        self._deadline: Callable[[], float] = token.backend_class.current_effective_deadline
        self.outside: AbstractContextManager[None] = clocks.get(loop) or nullcontext()

    @property
    def here(self) -> bool:
        """Whether the caller is in the loop's own thread."""
        return threading.get_ident() == self._thread

    def is_cancelled(self) -> bool:
        """Whether a scope around the running task is cancelled, without asking first which backend is running."""
        return self._deadline() == -inf

    def refuse_elsewhere(self, what: str) -> None:
        """Refuse a call from another thread.

        Raises:
            RuntimeError: this is not the loop's thread.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{what} belongs to the system's event loop, and this is another thread: go through "
                "anyio.from_thread.run(), with token= if the thread is not anyio's"
            )

    def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the loop's thread: now if this is it, else soon."""
        if threading.get_ident() == self._thread:
            function(*args)
            return
        try:
            self._post(function, *args)
        except RuntimeError:  # the loop has closed (trio.RunFinishedError is a RuntimeError too)
            return
