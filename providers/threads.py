"""Threads for plain functions: our own, given up without being lost sight of.

A thread cannot be cancelled. A call that is given up leaves its thread behind, and its slot stays taken until the
function ends, so that there are never more threads than slots. What the function returns by then is dropped.

On asyncio the threads are our own, daemons that are used again as long as their owner is open; anyio's would keep the
process from ending. On trio they are trio's, which already are like that. Either way `anyio.from_thread` works inside.

This is the lowest place that all who use threads can reach, so it knows neither agents nor actors: what it needs of the
event loop is a `Loop`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

import anyio
import sniffio
from anyio import CancelScope, Semaphore, to_thread
from anyio.lowlevel import EventLoopToken, checkpoint_if_cancelled, current_token

try:  # what `anyio.from_thread` looks up: it has no public way in for the threads of others
    from anyio.from_thread import threadlocals as _of_anyio  # pyright: ignore[reportPrivateImportUsage]
except ImportError:  # pragma: no cover - then it wants `token=`
    _of_anyio = threading.local()


class Loop(Protocol):
    """The event loop, as a thread needs it."""

    @property
    def outside(self) -> AbstractContextManager[None]:
        """A block, to be entered any number of times, that waits for something outside of the loop."""
        ...

    def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the loop's thread. From any thread; a loop that is gone has nothing left to do."""
        ...


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


class Workers:
    """The threads of one owner. Make it inside the event loop, and use it there.

    Args:
        loop: where they belong.
        name: what they are called.
    """

    __slots__ = ("_idle", "_token", "_trio", "closed", "loop", "name")

    def __init__(self, loop: Loop, name: str) -> None:
        self.loop = loop
        self.name = name
        self._token = current_token()
        self._trio = sniffio.current_async_library() == "trio"
        self._idle: list[_Worker] = []
        self.closed = False

    async def run_within(self, call: ThreadCall, slots: Semaphore) -> Any:
        """Run a call in a thread, as soon as there is a slot for it. Cancelling gives the call up."""
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

    def start(self, call: ThreadCall, scope: CancelScope, ended: Callable[[], None]) -> None:
        """Run a call in a thread of our own without waiting for it, on any backend.

        Args:
            call: the call.
            scope: what `anyio.from_thread.check_cancelled` looks at.
            ended: called in the loop's thread at the very end, unless the loop is gone.
        """
        worker = self._idle.pop() if self._idle else _Worker(self, self._token)
        worker.jobs.put((call, scope, partial(self._ended, worker, ended)))

    async def _in_worker(self, call: ThreadCall, slot: _Slot) -> None:
        with self.loop.outside, CancelScope() as scope:
            done = anyio.Event()
            slot.lent = True

            def ended() -> None:
                slot.release_on_behalf_of(None)
                done.set()

            self.start(call, scope, ended)
            await done.wait()

    def _ended(self, worker: _Worker, ended: Callable[[], None]) -> None:
        if self.closed:
            worker.jobs.put(None)
        else:
            self._idle.append(worker)
        ended()

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

    def __init__(self, threads: Workers, token: EventLoopToken) -> None:
        self._threads = threads
        self._token = token
        self.jobs: SimpleQueue[tuple[ThreadCall, CancelScope, Callable[[], None]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=threads.name, daemon=True).start()

    def _work(self) -> None:
        _of_anyio.current_token = self._token
        while (job := self.jobs.get()) is not None:
            call, _of_anyio.current_cancel_scope, ended = job
            call.perform()
            del _of_anyio.current_cancel_scope
            self._threads.loop.run(ended)
            del job, call, ended
            if self._threads.closed:  # the loop may be gone, too
                return
