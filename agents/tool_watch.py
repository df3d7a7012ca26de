"""Notices a tool that blocks the event loop, and which one it was.

While a coroutine runs from one suspension to the next, nothing else in the loop does. So each step of an async tool is
timed, which costs about 0.1 microseconds, and one for the call; a long step is told of when it is over. Only the tool's
own steps count: what it waits for, subagents among it, runs in steps of others.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import Any

#: Seconds of one step that are told of.
BLOCKED_AFTER = 0.5


def call_watched(function: Callable[..., Any], arguments: dict[str, Any], tell: Callable[[float], None]) -> Any:
    """Call a function in the event loop; `tell` is called with its seconds if it took too long."""
    began = monotonic()
    value = function(**arguments)
    if monotonic() - began > BLOCKED_AFTER:
        tell(monotonic() - began)
    return value


@types.coroutine
def watched(coroutine: Coroutine[Any, Any, Any], tell: Callable[[float], None]) -> Generator[Any, Any, Any]:
    """Await a coroutine; `tell` is called with the seconds of each step that took too long."""
    clock, send = monotonic, coroutine.send
    value: Any = None
    error: BaseException | None = None
    while True:
        began = clock()
        try:
            waits_for = send(value) if error is None else coroutine.throw(error)
        except StopIteration as done:
            return done.value
        finally:
            error = value = None  # a traceback holds this frame; on trio, what is sent may hold the error
            if clock() - began > BLOCKED_AFTER:
                tell(clock() - began)
        try:
            value = yield waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as thrown:
            error = thrown
