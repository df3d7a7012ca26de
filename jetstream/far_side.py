"""Where the client of NATS runs: its library knows asyncio alone.

What is called here *home* is the event loop of whoever uses this; the *far side* is an asyncio loop. On asyncio the two
are one loop, and crossing over is a plain call. On trio the far side is one thread with a loop of its own, and what is
said to it goes in a queue: however much is said before it looks, it is woken once. The way back is the same.

Tasks of the far side belong to its group. They know nothing of the cancel scopes around whoever opened it, because what
was begun, such as storing what was appended, has to go on until the far side is closed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast

import anyio
from anyio.lowlevel import current_token

from ..loops import RunningLoop
from .errors import EngineError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("greenroom")


class FarSide(Protocol):
    """An asyncio loop, as it is reached from home."""

    async def open(self) -> None:
        """Be ready for calls."""

    async def close(self) -> None:
        """Cancel what still runs there and wait for its end. Not to be cancelled."""

    async def call(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Await ``function(*args)`` there. Cancelled, it is cancelled there, and this waits for its end; a function
        that ends well all the same has its result returned."""
        ...

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call a function there soon, after all that was posted or called before. On asyncio that is now."""

    def home(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """From there: call a function at home soon. On asyncio that is now."""

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, object]], *args: *Ts) -> None:
        """There: start a task. It ends by itself, or is cancelled when the far side is closed. One that raises is
        logged."""


def far_side() -> FarSide:
    """The far side of the event loop that runs here."""
    native: object = current_token().native_token
    return SameLoop() if isinstance(native, asyncio.AbstractEventLoop) else LoopInThread()


class _Tasks:
    """The tasks of a far side."""

    __slots__ = ("_group", "_is_closing", "_running")

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._is_closing = False
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        await self._group.__aenter__()

    async def close(self) -> None:
        self._is_closing = True
        await asyncio.sleep(0)  # each has begun by then, so that it can tell others that it was cancelled
        for task in [*self._running]:
            task.cancel()
        # The body's own exception is nobody's business here: it leaves the block of whoever opened this as it is.
        await self._group.__aexit__(None, None, None)

    def start(
        self, function: Callable[..., Coroutine[Any, Any, object]], *args: Any, over: Callable[[], object] | None = None
    ) -> None:
        """Start a task, which must not raise; `over` is called at its end. While this is closed nothing is started."""
        if self._is_closing:
            if over is not None:
                over()
            return
        task = self._group.create_task(function(*args))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if over is not None:
            task.add_done_callback(lambda _: over())


async def _told(function: Callable[..., Coroutine[Any, Any, object]], args: tuple[Any, ...]) -> None:
    """A task that raises is a mistake of ours, and takes no others with it."""
    try:
        await function(*args)
    except Exception:
        _log.exception("a task of the connection to NATS has failed")


class SameLoop:
    """Home is an asyncio loop: the far side is there."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks = _Tasks()

    async def open(self) -> None:
        await self._tasks.open()

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._tasks.close()

    async def call(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        return await function(*args)

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        function(*args)

    def home(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        function(*args)

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, object]], *args: *Ts) -> None:
        self._tasks.start(_told, function, args)


class _Call:
    """A call from home."""

    __slots__ = ("_is_unwanted", "_scope", "args", "error", "function", "over", "result")

    def __init__(self, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        #: Set at home.
        self.over = anyio.Event()
        self._is_unwanted = False
        #: The task there is cancelled as any of anyio's is: it may shield itself.
        self._scope: anyio.CancelScope | None = None
        self.result: Any = None
        #: What it raised; a CancelledError as long as it has not ended in another way.
        self.error: BaseException | None = asyncio.CancelledError()

    async def run(self) -> None:
        with anyio.CancelScope() as self._scope:
            if self._is_unwanted:
                self._scope.cancel()
            try:
                self.result = await self.function(*self.args)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self.error = error
            else:
                self.error = None

    def cancel(self) -> None:
        self._is_unwanted = True
        if self._scope is not None:
            self._scope.cancel()


class _Posts:
    """Functions to be called on the other side, in order."""

    __slots__ = ("_calls", "_on_its_way", "_wake")

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._on_its_way = False
        self._wake = wake

    def put(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._calls.append((function, args))
        if not self._on_its_way:
            self._on_its_way = True
            self._wake(self._take)

    def _take(self) -> None:
        self._on_its_way = False  # first: whoever comes from now on wakes again
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                _log.exception("a call from one side of the connection to NATS to the other has failed")


class LoopInThread:
    """Home is no asyncio loop: the far side is one in a thread of its own."""

    __slots__ = (
        *("_context", "_end", "_ended", "_failure", "_here", "_homewards", "_loop", "_outwards", "_ready", "_tasks"),
        "_thread",
    )

    def __init__(self) -> None:
        self._here = RunningLoop()
        self._homewards = _Posts(self._here.run)
        self._outwards = _Posts(self._wake)
        self._ready = anyio.Event()
        self._ended = anyio.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="greenroom-nats", daemon=True)

    async def open(self) -> None:
        self._thread.start()
        with anyio.CancelScope(shield=True), self._here.outside:
            await self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    async def close(self) -> None:
        self.post(self._end.set)
        with anyio.CancelScope(shield=True), self._here.outside:
            await self._ended.wait()
        self._thread.join()  # it has nothing left to do

    async def call(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        call = _Call(function, args)
        self.post(self._begin, call)
        try:
            await self._until_over(call)
        except BaseException:
            self.post(call.cancel)
            with anyio.CancelScope(shield=True):
                await self._until_over(call)
            if isinstance(call.error, asyncio.CancelledError):
                raise
        if isinstance(call.error, asyncio.CancelledError):
            raise EngineError("the connection to NATS was closed here before the answer came")
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    async def _until_over(self, call: _Call) -> None:
        with self._here.outside:
            await call.over.wait()

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        self._outwards.put(function, args)

    def home(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        self._homewards.put(function, args)

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, object]], *args: *Ts) -> None:
        self._tasks.start(_told, function, args)

    def _wake(self, take: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(take, context=self._context)
        except RuntimeError:  # closed: nobody is left to be told anything
            return

    def _begin(self, call: _Call) -> None:
        self._tasks.start(call.run, over=lambda: self.home(call.over.set))

    def _live(self) -> None:
        """The thread."""
        try:
            asyncio.run(self._far())
        except BaseException as error:
            self._failure = error
        self.home(self._ready.set)
        self.home(self._ended.set)

    async def _far(self) -> None:
        self._loop = asyncio.get_running_loop()
        # What is called from home must not run in home's context: that says which event loop is running, for one.
        self._context = copy_context()
        self._end = asyncio.Event()
        self._tasks = _Tasks()
        await self._tasks.open()
        self.home(self._ready.set)
        await self._end.wait()
        await self._tasks.close()
