"""What a provider tells whoever waits for its answer, while they wait.

A call may have to wait at its gate, be answered by another provider than was asked first, or leave a thread behind. The
caller wants to know at once, and is not an argument of `complete`: between it and the provider there may be providers
that only pass the request on. So the caller listens for the length of a block, in its own task:

    with heard_by(listener):
        reply = await provider.complete(request)

Without a listener nothing is told.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal, Protocol, TypeAlias

import msgspec

#: Why a call waits: the provider has refused and is left alone, it is asked by few at first afterwards, the limit on
#: concurrent calls is reached, or the requests or tokens of this minute are used up.
WaitReason: TypeAlias = Literal["frozen", "ramp", "concurrency", "rate"]


class GateWaiting(msgspec.Struct, frozen=True):
    """A call has to wait for its admission. `delay` is in seconds, None if it depends on others; `ahead` wait too."""

    provider: str
    model: str
    reason: WaitReason
    delay: float | None
    ahead: int


class GateOpened(msgspec.Struct, frozen=True):
    """A call that had to wait goes out, after so many seconds."""

    provider: str
    model: str
    waited: float


class FellBack(msgspec.Struct, frozen=True):
    """A provider was passed over, and the next one is asked. `kind` is the class of the failure in one word."""

    provider: str
    model: str
    next_provider: str
    next_model: str
    kind: str
    error: str


class ThreadOutlived(msgspec.Struct, frozen=True):
    """A call was given up, but the thread that carries it out goes on; what it returns will be dropped."""

    name: str


class Listener(Protocol):
    """Who waits for a reply. Both methods are called in its own task."""

    async def hear(self, notice: GateWaiting | FellBack) -> None:
        """Take a notice; the provider goes on when this returns."""
        ...

    def note(self, notice: GateOpened | ThreadOutlived) -> None:
        """Take a notice at a moment at which the provider cannot wait."""
        ...


listening: ContextVar[Listener | None] = ContextVar("greenroom_listener", default=None)


class heard_by:
    """Have `listener` told of the calls that this task makes in the block.

    Contexts outlive their tasks: asyncio keeps that of a timer that was cancelled until the timer would be due. So what
    is in them is this object, and it lets go of the listener, and of all behind it, at the end of the block.
    """

    __slots__ = ("_before", "_listener")

    def __init__(self, listener: Listener) -> None:
        self._listener: Listener | None = listener
        self._before: Listener | None = None

    def __enter__(self) -> None:
        self._before = listening.get()
        listening.set(self)

    def __exit__(self, *exc_info: object) -> None:
        listening.set(self._before)  # not by a token: a task that is dropped unfinished is closed in another context
        self._listener = self._before = None

    async def hear(self, notice: GateWaiting | FellBack) -> None:
        if self._listener is not None:
            await self._listener.hear(notice)

    def note(self, notice: GateOpened | ThreadOutlived) -> None:
        if self._listener is not None:
            self._listener.note(notice)
