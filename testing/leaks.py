"""What a piece of code left behind in this process: threads, child processes, descriptors, and tasks of its event loop.

A `Snapshot` is compared with what is there later. Something that seems left over gets two more chances: a thread that
has been told to end is waited for, and garbage is collected, because an object that only a cycle holds is no leak of
the code that dropped it (Python warns of unclosed files and sockets itself). Where nothing seems left, neither happens.

Threads that libraries keep for the next job are no leak while they idle (`pool_threads.py`). One that runs a job is.

What is seen depends on the platform. Threads: those that Python knows, everywhere. Descriptors: on Linux, macOS and the
BSDs, not on Windows. Child processes: on Linux, where the kernel lists them (as nearly every one does); elsewhere they
are not checked. Processes that have ended but were never waited for count.
"""

from __future__ import annotations

import gc
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import CoroutineType, FrameType
from typing import Any, NamedTuple

import anyio
import msgspec

from .pool_threads import Doing, library, outward, threads_and_what_they_do

#: Real seconds that threads and processes have to end, and those that a pool's idle threads have after their loop.
HASTE = 0.1
PATIENCE = 1.0

#: Whose frames say little about where a task or thread is.
_LIBRARIES = {
    *("anyio", "asyncio", "concurrent", "greenroom", "outcome", "queue", "selectors", "socket", "threading", "trio")
}
_DESCRIPTORS = next((folder for folder in ("/proc/self/fd", "/dev/fd") if os.path.isdir(folder)), None)
_THREADS = "/proc/self/task"


class Leak(AssertionError):
    """Something was left behind. Each line of the message names one thing."""

    def __init__(self, leaked: Collection[str]) -> None:
        super().__init__("\n".join(["left behind:", *(f"  {each}" for each in leaked)]))
        self.leaked = tuple(leaked)


class Snapshot(msgspec.Struct, frozen=True):
    """What there was at one moment.

    Attributes:
        threads: the live threads, and what each did (one of no known pool is always busy).
        processes: process ids of the children.
        descriptors: the open descriptors, and what tells the file behind one from others: device and inode.
    """

    threads: dict[threading.Thread, Doing]
    processes: frozenset[int]
    descriptors: dict[int, tuple[int, int]]

    def leaked(self) -> list[str]:
        """Describe what is there now and was not then, a line for each thing; empty is good.

        The kind comes first: ``thread``, ``process`` or ``descriptor``. It is fast where there is nothing to report;
        where there is, it waits for real, `HASTE` seconds for threads and processes that may be about to end,
        `PATIENCE` for threads that have nothing else to do.
        """
        began = time.monotonic()
        collected = False
        while left := self._left():
            waited = time.monotonic() - began
            if (waited < HASTE and left.may_end) or (waited < PATIENCE and left.ending):
                time.sleep(0.0005)
            elif not collected:
                gc.collect()
                collected = True
            else:
                return left.descriptions()
        return []

    def _left(self) -> _Left:
        now = snapshot()
        return _Left(
            {
                thread: doing
                for thread, doing in now.threads.items()
                if doing != "idle" and self.threads.get(thread, "idle") == "idle"
            },
            sorted(now.processes - self.processes),
            [fd for fd, file in now.descriptors.items() if self.descriptors.get(fd) != file],
        )


class _Left(NamedTuple):
    """What seems left over."""

    threads: dict[threading.Thread, Doing]
    processes: list[int]
    descriptors: list[int]

    def __bool__(self) -> bool:
        return any(self)

    @property
    def may_end(self) -> bool:
        """Whether some of it may end by itself."""
        return bool(self.threads or self.processes)

    @property
    def ending(self) -> bool:
        """Whether some of it has nothing to do but to end."""
        return "ending" in self.threads.values()

    def descriptions(self) -> list[str]:
        return [
            *map(_describe_thread, self.threads),
            *map(_describe_process, self.processes),
            *map(_describe_descriptor, self.descriptors),
        ]


def snapshot() -> Snapshot:
    """The threads, child processes and descriptors of this process. Takes some 50 microseconds."""
    return Snapshot(threads_and_what_they_do(), _processes(), _descriptors())


# -- threads


def _describe_thread(thread: threading.Thread) -> str:
    frames = outward(sys._current_frames().get(thread.ident or 0))
    return f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}{_place(list(frames))}"


# -- processes


def _processes() -> frozenset[int]:
    if sys.platform != "linux":
        return frozenset()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # leaves everything as it is
    except ChildProcessError:
        return frozenset()  # there are none: the usual case costs one call
    found: set[int] = set()
    for thread in os.listdir(_THREADS):
        try:
            with open(f"{_THREADS}/{thread}/children", encoding="ascii") as children:
                found.update(map(int, children.read().split()))
        except OSError:  # the thread has ended, or the kernel keeps no such list
            continue
    return frozenset(found)


def _describe_process(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"process {pid}: {command or 'it has ended, but nobody waited for it'}"


# -- descriptors


def _descriptors() -> dict[int, tuple[int, int]]:
    if _DESCRIPTORS is None:
        return {}
    found: dict[int, tuple[int, int]] = {}
    for name in os.listdir(_DESCRIPTORS):
        fd = int(name)
        try:
            about = os.fstat(fd)
        except OSError:  # the descriptor that the folder was read with
            continue
        found[fd] = about.st_dev, about.st_ino
    return found


def _describe_descriptor(fd: int) -> str:
    try:
        target = os.readlink(f"{_DESCRIPTORS}/{fd}")
    except OSError:  # no links here, or closed meanwhile
        target = ""
    return " ".join(filter(None, (f"descriptor {fd}", target, _addresses(fd))))


def _addresses(fd: int) -> str:
    """The ends of a socket, where the descriptor is one that has them."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return ""
        with socket.socket(fileno=os.dup(fd)) as copy:
            here = copy.getsockname()
            try:
                return f"({here} to {copy.getpeername()})" if here else ""
            except OSError:
                return f"({here}, not connected)"
    except OSError:  # closed meanwhile
        return ""


# -- tasks


class Tasks(msgspec.Struct, frozen=True):
    """The tasks of one event loop at one moment. It holds their coroutines: an address alone might be used again."""

    known: tuple[Any, ...]

    def leaked(self) -> list[str]:
        """Describe the tasks of the running loop that are neither the caller's, nor its ancestors, nor known.

        What a known task starts is its own business: a shared server may serve. A line for each, which begins with
        ``task``. Nothing is waited for: see `settled`.
        """
        tasks = {info.id: info for info in anyio.get_running_tasks()}
        passed = {id(coroutine) for coroutine in self.known}
        lineage = {info.id for info in _line(anyio.get_current_task().id, tasks)}

        def has_owner(info: anyio.TaskInfo) -> bool:
            return any(id(each.coro) in passed and each.id not in lineage for each in _line(info.id, tasks))

        return [
            _describe_task(info)
            for info in tasks.values()
            if info.id not in lineage and id(info.coro) not in passed and not has_owner(info)
        ]

    async def settled(self, checkpoints: int = 100) -> list[str]:
        """As `leaked`, once nothing is left or so many checkpoints have passed: what is closing may finish that."""
        while (left := self.leaked()) and checkpoints:
            checkpoints -= 1
            await anyio.sleep(0)
        return left


def running_tasks() -> Tasks:
    """The tasks of the running event loop, for a later look at what is new."""
    return Tasks(tuple(info.coro for info in anyio.get_running_tasks()))


def _line(task: int | None, tasks: Mapping[int, anyio.TaskInfo]) -> Iterator[anyio.TaskInfo]:
    """A task and its ancestors, as far as they are known."""
    while task is not None and (info := tasks.get(task)) is not None:
        yield info
        task = info.parent_id


def _describe_task(info: anyio.TaskInfo) -> str:
    frames: list[FrameType] = []
    coroutine: Any = info.coro
    while isinstance(coroutine, CoroutineType):
        if coroutine.cr_frame is not None:
            frames.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return f"task {info.name!r}{_place(frames[::-1])}"


# -- words


def _place(frames: Sequence[FrameType]) -> str:
    """Where something is, given its frames from the innermost: rather in somebody's code than in a library's."""
    if not frames:
        return ""
    frame = next((each for each in frames if library(each) not in _LIBRARIES), frames[0])
    return f" in {frame.f_code.co_qualname} ({'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno})"
