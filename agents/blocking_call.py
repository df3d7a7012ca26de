"""What a thread waits for while a task in another thread's event loop does it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any

import sniffio
from anyio import CancelScope

from .blocking import Backend


class BlockingCall:
    """One call: a function to await, and room for what comes of it.

    Args:
        function: what to await.
        backend: the event loop that it is awaited in.
    """

    __slots__ = ("_error", "_value", "context", "done", "function", "given_up", "scope", "task")

    def __init__(self, function: Callable[[], Awaitable[Any]], backend: Backend) -> None:
        self.function = function
        self.context = copy_context()
        # The context may be of a task in another event loop, maybe of the other kind.
        self.context.run(sniffio.current_async_library_cvar.set, backend)
        self.done = threading.Event()
        self.task: Coroutine[Any, Any, None] | None = None
        self.scope: CancelScope | None = None
        self.given_up = False
        self._value: Any = None
        self._error: BaseException | None = None

    def give_up(self) -> None:
        """Nobody waits any more. In the loop's thread."""
        self.given_up = True
        if self.scope is not None:
            self.scope.cancel()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Say what came of it. The first word counts."""
        if not self.done.is_set():
            self._value, self._error = value, error
            self.done.set()

    def outcome(self) -> Any:
        """What the function returned, or raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # its traceback holds this frame
