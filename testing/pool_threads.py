"""What the threads of this process do, told by their frames.

Libraries keep threads for the next job: trio's belong to the process; those of anyio, of asyncio's default executor and
of our own tools belong to an event loop, and end with it. No public interface says whether such a thread is at work;
but each of these pools drops its name for the job when the job is over.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Literal, NamedTuple, TypeAlias

#: What a thread does: it idles in its pool, it idles although its event loop has closed, or anything else.
Doing: TypeAlias = Literal["idle", "ending", "busy"]


class Pool(NamedTuple):
    """How to recognise a thread that is kept for the next job, by one of its frames.

    `job` is the local variable that is bound while a job runs, `next_job` the attribute of the worker that is set while
    one is about to, `prefix` what the thread's name begins with.
    """

    job: str
    next_job: str = ""
    prefix: str = ""


# By module and function. The frames of a job lie above these.
_POOLS = {
    ("trio._core._thread_cache", "_handle_job"): Pool("fn"),
    ("trio._core._thread_cache", "_work"): Pool("", next_job="_job"),
    ("anyio._backends._asyncio", "run"): Pool("func"),
    ("concurrent.futures.thread", "_worker"): Pool("work_item", prefix="asyncio_"),
    ("greenroom.providers.threads", "_work"): Pool("job"),
}


def threads_and_what_they_do() -> dict[threading.Thread, Doing]:
    """The live threads that Python knows."""
    # A thread without a frame has ended, whatever its object says.
    frames = sys._current_frames()
    return {thread: _doing(thread, frames[thread.ident]) for thread in threading.enumerate() if thread.ident in frames}


def _doing(thread: threading.Thread, frame: FrameType) -> Doing:
    for each in outward(frame):
        pool = _POOLS.get((each.f_globals.get("__name__", ""), each.f_code.co_name))
        if pool is None or not thread.name.startswith(pool.prefix):
            continue
        names = each.f_locals  # before Python 3.13 this keeps a job alive until the next look, or the thread's end
        if pool.job in names:
            # A trio run that is a guest of another loop waits for I/O in such a thread, and gives it back at its end.
            return "idle" if frame.f_code.co_name == "get_events" and library(frame) == "trio" else "busy"
        if pool.next_job and getattr(names.get("self"), pool.next_job, None) is not None:
            return "busy"
        is_closed = getattr(_loop_of(thread, names), "is_closed", None)  # trio's tokens cannot tell
        return "ending" if is_closed is not None and is_closed() else "idle"
    return "busy"


def outward(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def library(frame: FrameType) -> str:
    """The top-level package of the code in a frame."""
    return frame.f_globals.get("__name__", "").partition(".")[0]


def _loop_of(thread: threading.Thread, names: dict[str, Any]) -> Any:
    """The asyncio loop, or trio's token, that an idle thread belongs to, if it belongs to one."""
    worker = names.get("self")
    if worker is thread:  # anyio's workers are threads themselves
        return getattr(thread, "loop", None)
    token = getattr(worker, "_token", None)
    return token.native_token if token is not None else None
