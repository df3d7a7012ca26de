"""A System in an event loop in a thread of its own, and the way in for blocking calls.

Each call becomes a task in the loop, with a copy of its caller's context, and its thread waits for what comes of it::

    thread of the caller          thread of the loop
    call ─────── post ──────────> task: await function()
      waits                         │
      <────── value or error ───────┘

The tasks of calls are in a group around the System. So while the System ends in order, those who wait for its runs get
what the runs come to; whoever still waits when it has ended gets `SystemClosed`. A call is settled by its task, or by
the end of the thread where the loop is gone: nobody waits for ever.

Who is interrupted while he waits (Ctrl-C) cancels his task and gives it `FAREWELL` seconds to end.

Three would wait for themselves, and are refused: code in the loop's own thread; a tool that waits for a run that is no
subagent of its own, since that run may wait for its turn until the tool's run has ended; and a child process after a
fork, which has no such thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
from anyio import CancelScope, create_task_group
from anyio.abc import TaskGroup

from ..actors import SystemClosed, WouldDeadlock
from ..actors.crashes import is_crash, stray
from ..actors.exits import sole
from ..loops import RunningLoop
from .blocking import FAREWELL, Backend
from .blocking_call import BlockingCall
from .place import current_place

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .system import System

T = TypeVar("T")


class SystemThread:
    """The thread that a System lives in. Its methods may be called from any other thread, at any time.

    Args:
        system: the System, not opened before.
        backend: the event loop.
    """

    __slots__ = (
        "_aborted",
        "_backend",
        "_ended",
        "_everything",
        "_failure",
        "_leaving",
        "_lock",
        "_loop",
        "_open",
        "_pid",
        "_ready",
        "_thread",
        "_told",
        "_waiting",
        "calls",
        "system",
    )

    def __init__(self, system: System, backend: Backend) -> None:
        self.system = system
        self._backend: Backend = backend
        #: Guards what follows.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open = False
        self._waiting: set[BlockingCall] = set()
        self._pid = 0
        # Not thread.join(): in Python 3.11, a join that is interrupted calls the thread dead.
        self._ready, self._ended = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._told = False
        # Of the loop, once it runs.
        self._loop: RunningLoop | None = None
        #: The group of the tasks that calls, and blocks that are held, live in.
        self.calls: TaskGroup | None = None
        self._leaving: anyio.Event | None = None
        self._everything: CancelScope | None = None
        self._aborted = False

    # -- life

    def open(self) -> None:
        """Start the thread, and wait until the System is open.

        Raises:
            SystemClosed: it was opened before.
            BaseException: what opening the System raises.
        """
        with self._lock:
            if self._thread is not None:
                raise SystemClosed(f"{self.system.name!r} was opened before; a system is opened once")
            # A daemon: what does not heed its cancellation must not keep the process from ending.
            self._thread = thread = threading.Thread(target=self._live, name=f"{self.system.name}: loop", daemon=True)
            self._pid = os.getpid()
        try:
            thread.start()
            self._ready.wait()
        except BaseException:
            self.abort()
            if thread.ident is not None:
                self._ended.wait(FAREWELL)
            raise
        if not self._open:
            self.wait_ended()
            if self._failure is not None:
                raise self._failure

    def leave(self) -> None:
        """Have the System end in order. Harmless when it has."""
        if self._leaving is not None:
            self.post(self._leaving.set)

    def abort(self) -> None:
        """Cancel everything."""
        self._aborted = True
        if self._everything is not None:
            self.post(self._everything.cancel)

    def wait_ended(self) -> None:
        """Wait for the end of the thread. Whoever is interrupted meanwhile cancels everything."""
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        try:
            self._ended.wait()
        except BaseException:
            self.abort()
            self._ended.wait(FAREWELL)
            raise
        thread.join()

    @property
    def is_open(self) -> bool:
        """Whether it takes calls."""
        return self._open and self._pid == os.getpid()

    def take_failure(self) -> BaseException | None:
        """What the System raised at its end, once."""
        with self._lock:
            told, self._told = self._told, True
        return None if told else self._failure

    def _live(self) -> None:
        try:
            Context().run(anyio.run, self._main, backend=self._backend)
        except BaseException as error:
            self._failure = error
        finally:
            self._shut()
            with self._lock:
                left, self._waiting = self._waiting, set()
            for call in left:
                if call.task is not None:
                    call.task.close()  # asyncio has given it up before it began
                call.settle(None, self._closed())
            self._ready.set()
            self._ended.set()

    async def _main(self) -> None:
        failure: Exception | None = None
        self._loop = RunningLoop()
        with CancelScope() as self._everything:
            if self._aborted:
                self._everything.cancel()
            try:
                async with create_task_group() as self.calls:
                    try:
                        async with self.system:
                            self._leaving = anyio.Event()
                            with self._lock:
                                self._open = True
                            self._ready.set()
                            await self._leaving.wait()
                    except Exception as error:
                        failure = self._failure = error
                    except (KeyboardInterrupt, SystemExit) as error:
                        self.collapse(error)
                    finally:
                        self._shut()
                    self.calls.cancel_scope.cancel()
            except BaseExceptionGroup as errors:
                raise sole(errors) from None
        if failure is not None:
            raise failure

    def collapse(self, error: BaseException) -> None:
        """Something that must end the process ends the loop. It is kept for the end of the block: raised once more in a
        task, it would keep asyncio from ending the other tasks.
        """
        self._failure = error
        if self._everything is not None:
            self._everything.cancel()

    def _shut(self) -> None:
        with self._lock:
            self._open = False

    def _closed(self) -> SystemClosed:
        name = self.system.name
        if not self._ready.is_set():
            return SystemClosed(f"{name!r} is not open: use it as `with System.in_thread() as system:`")
        error = SystemClosed(f"{name!r} has ended: its block is over, or it gave up")
        error.__cause__ = self._failure
        return error

    # -- calls

    def refuse(self, what: str) -> None:
        """Refuse a blocking call that cannot work.

        Raises:
            SystemClosed: the System is not open.
            WouldDeadlock: this is the loop's own thread.
            RuntimeError: this process is a fork of the one whose System it is.
        """
        if self._thread is not None and self._pid != os.getpid():
            raise RuntimeError(
                f"System {self.system.name!r} lives in process {self._pid}, of which this one is a fork: "
                "open one in each process, after the fork"
            )
        if self._thread is threading.current_thread():
            raise WouldDeadlock(
                f"{what} blocks, and this is the event loop of System {self.system.name!r}, which would wait for "
                "itself: use `await agent.run(…)` here, or make the tool a plain function"
            )
        if not self._open:
            raise self._closed()

    def refuse_waiting(self, what: str, cell: RunCell | None = None) -> None:
        """Refuse a tool of this System that waits for something else than a subagent of its own.

        Raises:
            WouldDeadlock: the run, or whatever it is, may wait for the run of this tool.
        """
        place = current_place.get()
        caller = place.run if place is not None else None
        if caller is None or caller.stage is not self.system._stage:
            return
        below = cell
        while below is not None:
            if below.run_parent is caller:
                return
            below = below.run_parent
        raise WouldDeadlock(
            f"{what} in a tool of run {caller.name!r} may wait for what waits for that run to end: "
            "system.run(…) makes a subagent of it, for which a tool may wait"
        )

    def call(self, what: str, function: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """Await `function()` in the loop, and block until then. An interrupt cancels it.

        Raises:
            TimeoutError: it is not over after `timeout` seconds; it is cancelled.
            SystemClosed, WouldDeadlock, RuntimeError: as for `refuse`.
            BaseException: what it raises.
        """
        self.refuse(what)
        call = BlockingCall(function, self._backend)
        try:
            with self._lock:
                if not self._open:
                    raise self._closed()
                self._waiting.add(call)
            self.post(self._begin, call)
            if call.done.wait(timeout):
                return cast("T", call.outcome())
        except BaseException:
            if call in self._waiting:
                self.post(call.give_up)
                call.done.wait(FAREWELL)
            raise
        self.post(call.give_up)
        raise TimeoutError(f"{what} has waited for {timeout:g} s")

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the loop's thread, soon. A loop that is gone has nothing left to do."""
        if self._loop is not None and self._pid == os.getpid():
            self._loop.run(function, *args)

    def _begin(self, call: BlockingCall) -> None:
        if self.calls is None or not self._open or call.given_up:
            self._settle(call, None, self._closed())
        else:
            call.task = self._perform(call)
            self.calls.create_task(call.task, name=f"{self.system.name}: call", context=call.context)

    async def _perform(self, call: BlockingCall) -> None:
        value: Any = None
        error: BaseException | None = None
        over = False
        try:
            with CancelScope() as call.scope:
                if call.given_up:
                    call.scope.cancel()
                value, over = await call.function(), True
        except BaseException as failure:
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                error = failure  # for whoever asked for it
                self.collapse(failure)
            elif is_crash(failure):
                error = stray("a blocking call", failure)
            else:
                raise
        finally:
            self._settle(call, value, error if over or error is not None else self._closed())

    def _settle(self, call: BlockingCall, value: Any, error: BaseException | None) -> None:
        with self._lock:
            self._waiting.discard(call)
        call.settle(value, error)
