"""Threads for the plain functions of a stage's tools.

A thread cannot be cancelled. A call that is given up leaves its thread behind, and its slot stays taken until the
function ends, so that there are never more threads than slots. What the function returns by then is dropped.

There are slots for each depth of subagents: a function that waits for a subagent never starves the subagent's own.

On asyncio the threads are our own, daemons that are used again while the stage is open; anyio's would keep the process
from ending. On trio they are trio's, which already are like that. Either way `anyio.from_thread` works inside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

import anyio
import sniffio
from anyio import CancelScope, Semaphore, to_thread
from anyio.lowlevel import EventLoopToken, checkpoint_if_cancelled, current_token

from ..actors import Home

try:  # what `anyio.from_thread` looks up: it has no public way in for the threads of others
    from anyio.from_thread import threadlocals as _of_anyio  # pyright: ignore[reportPrivateImportUsage]
except ImportError:  # pragma: no cover - then it wants `token=`
    _of_anyio = threading.local()

#: Threads at the same time for the runs of one depth.
THREADS = 64
#: The depth from which on each has a single one: the sum stays bounded, and nobody waits for ever.
DEEP = 8


class ThreadCall:
    """A function on its way through a thread.

    Attributes:
        waits: whether it has no slot yet.
        runs: whether it has been handed to a thread that is not through with it.
    """

    __slots__ = ("_claim", "_context", "_error", "_function", "_given_up", "_value", "runs", "waits")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._context = copy_context()
        self._context.run(sniffio.current_async_library_cvar.set, None)
        self._claim = threading.Lock()  # of whoever is first: the thread that runs it, or the waiter that gives it up
        self._given_up = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.waits = True
        self.runs = False

    def perform(self) -> None:
        """Run the function, in the thread, unless the call was given up before it began."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._value = self._context.run(self._function)
        except BaseException as error:
            self._error = error
        self.runs = False
        if self._given_up:
            self._value = self._error = None

    def give_up(self) -> None:
        """Wait no longer. A function that has not begun never will."""
        self._given_up = True
        if self._claim.acquire(blocking=False):
            self.runs = False

    def result(self) -> Any:
        """What the function returned, or raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


class Threads:
    """The threads of one stage. Make it inside the event loop, and use it there."""

    __slots__ = ("_idle", "_slots", "_token", "_trio", "closed", "home")

    def __init__(self, home: Home) -> None:
        self.home = home
        self._token = current_token()
        self._trio = sniffio.current_async_library() == "trio"
        self._slots: dict[int, Semaphore] = {}
        self._idle: list[_Worker] = []
        self.closed = False

    async def run(self, call: ThreadCall, depth: int) -> Any:
        """Run a call in a thread, as soon as one is free at this depth of subagents. Cancelling gives the call up."""
        slots = self._slots.get(depth)
        if slots is None:
            slots = self._slots[depth] = Semaphore(THREADS if depth < DEEP else 1, fast_acquire=True)
        await slots.acquire()
        call.waits = False
        call.runs = True
        slot = _Slot(slots)
        try:
            await checkpoint_if_cancelled()
            if self._trio:
                limiter: Any = slot
                await to_thread.run_sync(call.perform, abandon_on_cancel=True, limiter=limiter)
            else:
                await self._in_worker(call, slot)
        except BaseException:
            call.give_up()
            if not slot.lent:
                slots.release()
            raise
        return call.result()

    async def _in_worker(self, call: ThreadCall, slot: _Slot) -> None:
        with self.home.outside, CancelScope() as scope:
            done = anyio.Event()
            worker = self._idle.pop() if self._idle else _Worker(self, self._token)
            slot.lent = True
            worker.jobs.put((call, scope, partial(self._ended, worker, slot, done)))
            await done.wait()

    def _ended(self, worker: _Worker, slot: _Slot, done: anyio.Event) -> None:
        slot.release_on_behalf_of(None)
        if self.closed:
            worker.jobs.put(None)
        else:
            self._idle.append(worker)
        done.set()

    def close(self) -> None:
        """End the idle threads; the others end when their functions do."""
        self.closed = True
        while self._idle:
            self._idle.pop().jobs.put(None)


class _Slot:
    """A slot that has been taken, in the shape of a limiter: whoever runs the thread gives it back at the very end."""

    __slots__ = ("_slots", "lent")

    def __init__(self, slots: Semaphore) -> None:
        self._slots = slots
        self.lent = False

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        self.lent = True

    def release_on_behalf_of(self, borrower: object) -> None:
        self._slots.release()


class _Worker:
    """A daemon thread that carries out one job after the other."""

    __slots__ = ("_threads", "_token", "jobs")

    def __init__(self, threads: Threads, token: EventLoopToken) -> None:
        self._threads = threads
        self._token = token
        self.jobs: SimpleQueue[tuple[ThreadCall, CancelScope, Callable[[], None]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="greenroom-tool", daemon=True).start()

    def _work(self) -> None:
        _of_anyio.current_token = self._token
        while (job := self.jobs.get()) is not None:
            call, _of_anyio.current_cancel_scope, ended = job
            call.perform()
            del _of_anyio.current_cancel_scope
            self._threads.home.run(ended)
            del job, call, ended
            if self._threads.closed:  # the loop may be gone, too
                return
