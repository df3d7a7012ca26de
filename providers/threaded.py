"""`ThreadProvider`: a provider for those who have a blocking client.

    class Legacy(ThreadProvider):
        name, model = "legacy", "legacy-1"

        def complete_sync(self, request):
            return client.ask(request.messages[-1].text)

The methods run in threads of our own, so that nothing else waits for them. A thread cannot be cancelled: a call that is
given up ends at once for whoever waited for it, its thread is named as having outlived it (in the log, and in
`result.outlived` of a run), and what it returns later is dropped. A stream that is left ends at its next piece.

Whatever the methods raise is a failure of the provider, never a crash of the run, which would make the same call again:
a `ProviderError` as it is, another error as `sdk_errors` reads it, with the original as its ``__cause__``.

A stream's thread hands its pieces over through a short queue: it waits when nobody reads, and the loop never waits for
it but in `__anext__`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import inf
from typing import Any, Self
from weakref import ref

import anyio
from anyio import CancelScope, Semaphore
from anyio.lowlevel import RunVar

from ..loops import RunningLoop
from .errors import BadResponse, ProviderError, Stalled
from .messages import assistant
from .notices import ThreadOutlived, listening
from .provider import ModelStream, Provider
from .sdk_errors import sdk_error
from .thread_pieces import END, Pieces, ThreadQueue
from .threads import ThreadCall, Workers
from .vocabulary import (
    ModelEvent,
    ModelReply,
    ModelRequest,
    events_of,
)

_log = logging.getLogger("greenroom")


class ThreadProvider(Provider):
    """Talks to one model with blocking code. Subclass it and write `complete_sync`, or `stream_sync`, or both.

    Attributes:
        max_threads: calls at the same time in one event loop; further ones wait for their turn (default 64).
        timeout: seconds for a whole call, its wait for a thread included, or None (default 600).
    """

    max_threads: int = 64
    timeout: float | None = 600.0

    def complete_sync(self, request: ModelRequest) -> ModelReply | str:
        """Answer `request`, in a thread.

        Raises:
            ProviderError: the call failed; `retryable` says whether another try may help. Any other error is made
                into one.
        """
        parts = Pieces()
        for piece in self.stream_sync(request):
            parts.add(piece)
        return parts.reply()

    def stream_sync(self, request: ModelRequest) -> Iterable[ModelEvent | str | ModelReply]:
        """Answer `request` piece by piece, in a thread: text or events, and the whole reply as the last piece.

        Without a reply at the end, one is made of the pieces; it reports no usage.
        """
        raise NotImplementedError(f"{type(self).__name__} has no stream_sync()")

    @property
    def _streams(self) -> bool:
        return type(self).stream_sync is not ThreadProvider.stream_sync

    async def complete(self, request: ModelRequest) -> ModelReply:
        if not self._streams and type(self).complete_sync is ThreadProvider.complete_sync:
            raise NotImplementedError(f"{type(self).__name__} must define complete_sync() or stream_sync()")
        shared = _join()
        call = ThreadCall(partial(_unheard, _answer, self, request))
        try:
            with CancelScope(deadline=_deadline(self.timeout)):
                return _reply(self, await shared.workers.run_within(call, shared.slots(self)))
            raise _stalled(self, call)
        finally:
            if call.runs:
                _outlived(self)
            _leave(shared)

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        return _ThreadStream(self, request) if self._streams else super().stream(request)


class _ThreadStream:
    """The pieces of one call of `stream_sync`. Its thread starts with the first of them."""

    def __init__(self, provider: ThreadProvider, request: ModelRequest) -> None:
        self._provider = provider
        self._request = request
        self._shared: _Shared | None = None
        self._queue: ThreadQueue | None = None
        self._call: ThreadCall | None = None
        self._deadline = inf
        self._parts = Pieces()
        self._ready: list[ModelEvent] = []  # not yet handed out, last one first
        self._reply: ModelReply | None = None

    @property
    def reply(self) -> ModelReply:
        if self._reply is None or self._ready:
            raise RuntimeError("the reply is there once the events have been read to their end")
        return self._reply

    async def __aenter__(self) -> Self:
        self._shared = _join()
        self._deadline = _deadline(self._provider.timeout)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            if self._queue is not None and self._call is not None and self._queue.close(self._call):
                _outlived(self._provider)
            _leave(shared)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        while not self._ready:
            if self._reply is not None:
                raise StopAsyncIteration
            piece = await self._next()
            if piece is END:
                self._reply = self._parts.reply()
                self._ready = [] if self._parts.shown else events_of(self._reply)[::-1]
            else:
                self._ready = self._parts.add(piece)
        return self._ready.pop()

    async def _next(self) -> Any:
        shared = self._shared
        if shared is None:
            raise RuntimeError("the stream was read outside its block")
        with CancelScope(deadline=self._deadline):
            if self._queue is None:
                self._queue = await self._start(shared)
            return await self._queue.get()
        raise _stalled(self._provider, self._call)

    async def _start(self, shared: _Shared) -> ThreadQueue:
        slots = shared.slots(self._provider)
        queue = ThreadQueue(shared.loop)
        call = ThreadCall(partial(_unheard, queue.fill, partial(_pieces, self._provider, self._request)))
        self._call = call
        await slots.acquire()
        call.waits, call.runs = False, True
        shared.workers.start(call, queue.scope, slots.release)
        return queue


class _Shared:
    """The threads of all `ThreadProvider`s of one event loop."""

    def __init__(self) -> None:
        self.users = 0
        self.loop = RunningLoop()
        self.workers = Workers(self.loop, "greenroom-model")
        # By the provider's identity: a subclass may have no hash.
        self._slots: dict[int, tuple[ref[ThreadProvider], Semaphore]] = {}

    def slots(self, provider: ThreadProvider) -> Semaphore:
        """What bounds the calls of one provider."""
        key = id(provider)
        if key not in self._slots:
            gone = ref(provider, lambda _: self._slots.pop(key, None))
            self._slots[key] = gone, Semaphore(provider.max_threads, fast_acquire=True)
        return self._slots[key][1]


_shared: RunVar[_Shared | None] = RunVar("greenroom_model_threads", None)


def _join() -> _Shared:
    shared = _shared.get()
    if shared is None:
        shared = _Shared()
        _shared.set(shared)
    shared.users += 1
    return shared


def _leave(shared: _Shared) -> None:
    shared.users -= 1
    if shared.users == 0:
        _shared.set(None)
        shared.workers.close()


class SharedThreads:
    """Membership in the threads that all `ThreadProvider`s of an event loop share: while anybody is in, they idle."""

    __slots__ = ("_shared",)

    def __init__(self) -> None:
        self._shared: _Shared | None = None

    def join(self) -> None:
        """Keep idle threads for the next call."""
        self._shared = _join()

    def leave(self) -> None:
        """Leave; the last one out lets them end. Leaving twice is harmless."""
        shared, self._shared = self._shared, None
        if shared is not None:
            _leave(shared)


def _unheard(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a context that does not keep the listener, for a thread may outlive it by far."""
    listening.set(None)
    return function(*args)


def _answer(provider: ThreadProvider, request: ModelRequest) -> Any:
    """What the provider answers, in a thread; its errors are ours."""
    try:
        return provider.complete_sync(request)
    except ProviderError:
        raise
    except Exception as error:
        raise sdk_error(error, provider.name, now=time.time()) from error


def _pieces(provider: ThreadProvider, request: ModelRequest) -> Iterator[Any]:
    """The pieces that the provider yields, in a thread; its errors are ours."""
    try:
        yield from provider.stream_sync(request)
    except ProviderError:
        raise
    except Exception as error:
        raise sdk_error(error, provider.name, now=time.time()) from error


def _deadline(timeout: float | None) -> float:
    return inf if timeout is None else anyio.current_time() + timeout


def _reply(provider: ThreadProvider, answer: Any) -> ModelReply:
    if isinstance(answer, str):
        return ModelReply(assistant(answer), "stop")
    if not isinstance(answer, ModelReply):
        said = f"{type(provider).__name__}.complete_sync() must return a ModelReply or text, not {answer!r}"
        raise BadResponse(said, provider=provider.name)
    return answer


def _stalled(provider: ThreadProvider, call: ThreadCall | None) -> Stalled:
    what = "no free thread" if call is None or call.waits else "no answer"
    return Stalled(f"{what} within timeout={provider.timeout:g} s", provider=provider.name)


def _outlived(provider: ThreadProvider) -> None:
    name = f"{provider.name}:{provider.model}"
    _log.warning("a call of model %s was given up, but its thread goes on; its answer will be dropped", name)
    listener = listening.get()
    if listener is not None:
        listener.note(ThreadOutlived(name))
