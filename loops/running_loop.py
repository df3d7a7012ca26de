"""The event loop that runs here, for those who come from its outside.

Whoever waits for something outside of the loop, such as a thread, does so in the block `outside`. A loop of a test may
have a clock that jumps when nothing can run; it stands still meanwhile. In production the block does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from anyio.lowlevel import current_token

#: What holds the clocks of loops that are in a test, by native loop or token.
clocks: WeakKeyDictionary[Any, AbstractContextManager[None]] = WeakKeyDictionary()


class RunningLoop:
    """The event loop that runs here. Make it inside that loop.

    Attributes:
        outside: a block, to be entered any number of times, that waits for something outside of the loop.
    """

    __slots__ = ("_post", "outside")

    def __init__(self) -> None:
        loop: Any = current_token().native_token
        # asyncio's loop and trio's token have the same method under different names.
        self._post: Callable[..., Any] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self.outside: AbstractContextManager[None] = clocks.get(loop) or nullcontext()

    def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the loop's thread, soon. From any thread; a loop that is gone has nothing left to do."""
        try:
            self._post(function, *args)
        except RuntimeError:  # the loop has closed (trio.RunFinishedError is a RuntimeError too)
            return
