"""When an event loop can only wait for ever, and what it says then.

No task is ready, no deadline is set, nothing is read or written. Whatever could still come would come from a thread or
by a signal; where either is possible the loop goes on waiting.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from typing import Any

from anyio import TaskInfo

from . import leaks
from .pool_threads import threads_and_what_they_do

#: Real seconds after which to look again whether a thread that might still call has ended.
PATIENCE = 0.02


class Deadlock(AssertionError):
    """Nothing can happen any more: every task waits for another. The message names them."""

    def __init__(self, tasks: Iterable[tuple[str, Any]]) -> None:
        described = (leaks._describe_task(TaskInfo(0, None, name, coroutine)) for name, coroutine in tasks)
        waiting = "\n".join(f"  {each}" for each in described)
        super().__init__(f"no task can ever go on: none has a deadline, and nothing outside is waited for\n{waiting}")


class Outsiders:
    """The threads and signal handlers that are none of this event loop's. Make it before the loop runs."""

    __slots__ = ("_handlers", "_threads")

    def __init__(self) -> None:
        self._threads = _busy_threads()
        self._handlers = _handlers()

    def may_call(self) -> bool:
        """Whether a thread runs, or a signal is handled, that was not before. A main thread may always call."""
        here = threading.current_thread()
        if here is not threading.main_thread():
            return True
        return bool(_busy_threads() - self._threads - {here}) or _handlers() != self._handlers


def _busy_threads() -> set[threading.Thread]:
    return {thread for thread, doing in threads_and_what_they_do().items() if doing == "busy"}


def _handlers() -> list[Any]:
    # Whoever runs a loop handles Ctrl-C, which nobody waits for.
    return [signal.getsignal(number) for number in signal.valid_signals() if number is not signal.SIGINT]
