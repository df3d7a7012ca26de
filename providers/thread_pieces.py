"""A stream's pieces on their way out of a thread: the queue between it and the loop, and the fold into a reply."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from .errors import BadResponse
from .messages import Message, Refusal, Text, Thinking, ToolCall
from .openai_messages import parse_arguments
from .threads import Loop, ThreadCall
from .vocabulary import (
    ModelEvent,
    ModelReply,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)

#: Pieces of a stream that its thread may be ahead.
AHEAD = 64


class ThreadQueue:
    """What a thread has produced and the loop has not read."""

    def __init__(self, loop: Loop) -> None:
        self.scope = CancelScope()
        self._loop = loop
        self._pieces: deque[Any] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._event: anyio.Event | None = None
        self._called = False  # the loop has been called, and has not come yet
        self._closed = False
        self._producing = True  # the thread is in code that is not ours

    # In the thread.

    def fill(self, produce: Callable[[], Iterable[Any]]) -> None:
        """Hand over what `produce` yields, and how it ended."""
        pieces: Iterator[Any] | None = None
        try:
            pieces = iter(produce())
            for piece in pieces:
                if not self._put(piece):
                    break
            end: Any = END
        except BaseException as error:
            end = Failure(error)
        try:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            end = Failure(error)
        self._producing = False
        self._hand_over(end)

    def _put(self, piece: Any) -> bool:
        self._producing = False
        self._room.acquire()
        self._producing = True
        if not self._closed:
            self._hand_over(piece)
        return not self._closed

    def _hand_over(self, piece: Any) -> None:
        self._pieces.append(piece)
        if not self._called:
            self._called = True
            self._loop.run(self._wake)

    # In the loop.

    def _wake(self) -> None:
        self._called = False
        if self._event is not None:
            self._event.set()

    async def get(self) -> Any:
        """The next piece, or `END`; raises what the thread raised."""
        await checkpoint()
        while not self._pieces:
            self._event = anyio.Event()
            with self._loop.outside:
                await self._event.wait()
        piece = self._pieces.popleft()
        self._room.release()
        if isinstance(piece, Failure):
            raise piece.error
        return piece

    def close(self, call: ThreadCall) -> bool:
        """Read no more. True: the thread is in code that is not ours, and nobody knows when it ends."""
        self._closed = True
        self.scope.cancel()
        self._room.release()
        call.give_up()
        return call.runs and self._producing


class Failure:
    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


END = object()


class Pieces:
    """Pieces on their way to a reply."""

    def __init__(self) -> None:
        self._message: list[Any] = []  # deltas, or what they are folded into
        self._calls: dict[int, ToolCallDelta] = {}
        self._whole: ModelReply | None = None
        #: Whether any piece was there to be shown.
        self.shown = False

    def add(self, piece: Any) -> list[ModelEvent]:
        """Take a piece; returns the event to hand out for it, if any."""
        if self._whole is not None:
            raise BadResponse(f"stream_sync() must end with its ModelReply, but went on with {piece!r}")
        match piece:
            case ModelReply():
                self._whole = piece
                return []
            case str():
                event: ModelEvent = TextDelta(piece)
            case TextDelta() | ThinkingDelta() | RefusalDelta() | ToolCallDelta():
                event = piece
            case _:
                raise BadResponse(f"stream_sync() must yield text, events and at last a ModelReply, not {piece!r}")
        self.shown = True
        self._fold(event)
        return [event]

    def reply(self) -> ModelReply:
        """The reply that came last, or what the pieces make."""
        if self._whole is not None:
            return self._whole
        parts = tuple(_part(kind, self._calls if kind is ToolCallDelta else said) for kind, said in self._message)
        flat = tuple(part for each in parts for part in each)
        calls = any(isinstance(part, ToolCall) for part in flat)
        return ModelReply(Message("assistant", flat), "tool_calls" if calls else "stop")

    def _fold(self, event: ModelEvent) -> None:
        kind = type(event)
        if isinstance(event, ToolCallDelta):
            before = self._calls.get(event.index)
            if before is not None:
                arguments = before.arguments + event.arguments
                event = ToolCallDelta(event.index, arguments, before.id or event.id, before.name or event.name)
            self._calls[event.index] = event
            if all(each is not kind for each, _ in self._message):
                self._message.append((kind, []))
        elif self._message and self._message[-1][0] is kind:
            self._message[-1][1].append(event.text)
        else:
            self._message.append((kind, [event.text]))


def _part(kind: type, said: Any) -> list[Any]:
    if kind is ToolCallDelta:
        return [
            ToolCall(call.id, call.name or "", parse_arguments(call.arguments), call.arguments)
            for _, call in sorted(said.items())
        ]
    text = "".join(said)
    return [Text(text) if kind is TextDelta else Thinking(text) if kind is ThinkingDelta else Refusal(text)]
