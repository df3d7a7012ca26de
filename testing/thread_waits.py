"""How many threads the tasks of an event loop wait for, read off their coroutines.

A task that waits for a thread must hold a virtual clock; a thread that waits for a task in turn must not, or neither
would ever go on. No public interface of anyio or trio tells either, but where a coroutine waits is plain to see. A
thread that was given up is not counted, since nobody waits for it, nor is one that still waits for its limiter.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

# By module and function. Innermost frame of a task that waits for a thread:
_WAITING = {
    ("anyio._backends._asyncio", "run_sync_in_worker_thread"),
    ("trio._threads", "to_thread_run_sync"),
}
# Outermost frame of a task that a thread waits for:
_CALLED_BACK = {
    ("anyio._backends._asyncio", "task_wrapper"),
    ("trio._threads", "run_system"),
}
# What does not count as a frame: how trio suspends a task.
_TRAPS = "trio._core._traps"


def threads_at_work(coroutines: Iterable[Any]) -> int:
    """The threads that tasks wait for, less those that wait for a task themselves; `coroutines` are all tasks'."""
    count = 0
    for coroutine in coroutines:
        names = [
            (module, frame.f_code.co_name)
            for frame in frames_of(coroutine)
            if (module := frame.f_globals.get("__name__")) != _TRAPS
        ]
        if names:
            count += (names[-1] in _WAITING) - (names[0] in _CALLED_BACK)
    return count


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, the outermost first."""
    awaited = coroutine
    while awaited is not None:
        if hasattr(awaited, "cr_frame"):
            frame, awaited = awaited.cr_frame, awaited.cr_await
        elif hasattr(awaited, "gi_frame"):
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        elif hasattr(awaited, "ag_frame"):
            frame, awaited = awaited.ag_frame, awaited.ag_await
        elif type(awaited).__name__ in ("async_generator_asend", "async_generator_athrow"):
            # It does not say which generator it is of; the collector knows.
            awaited = next((each for each in gc.get_referents(awaited) if hasattr(each, "ag_frame")), None)
            continue
        else:
            return
        if frame is not None:
            yield frame
