"""The event loop and thread that a system lives in, and the way in from other threads.

Everything in the runtime belongs to one event loop. A call that may come from any thread (`stop`) passes through `run`:
at once in the loop's own thread, else as soon as the loop gets to it. A loop that is gone has nothing left to ask for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.lowlevel import current_token

from ..loops import RunningLoop


class Home(RunningLoop):
    """The running event loop and its thread. Make it inside that loop.

    Attributes:
        now: the loop's clock, in seconds: `anyio.current_time`, by the shortest way.
    """

    __slots__ = ("_checkpoint_if_cancelled", "_thread", "now")

    def __init__(self) -> None:
        super().__init__()
        token = current_token()
        loop: Any = token.native_token
        self._thread = threading.get_ident()
        # `anyio.current_time` finds out at each call which backend is running; here that is settled.
        self.now: Callable[[], float] = getattr(loop, "time", token.backend_class.current_time)
        self._checkpoint_if_cancelled: Callable[[], Coroutine[Any, Any, None]] = (
            token.backend_class.checkpoint_if_cancelled
        )

    @property
    def here(self) -> bool:
        """Whether the caller is in the loop's own thread."""
        return threading.get_ident() == self._thread

    def is_cancelled(self) -> bool:
        """Whether a scope around the running task is cancelled.

        A checkpoint for cancelled tasks alone is over at its first step in any other; in a cancelled one it is given up
        there. The deadline of all scopes around, which says so too, costs more the deeper the task is.
        """
        look = self._checkpoint_if_cancelled()
        try:
            look.send(None)
        except StopIteration:
            return False
        look.close()
        return True

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
        else:
            super().run(function, *args)
