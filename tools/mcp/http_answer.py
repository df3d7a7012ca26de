"""The answer to one call over HTTP: whole, or as a stream of events in which things are said on the way.

A task of its own reads each response: what is said on the way goes to the session, the answer to who waits for it, and
the rest of a stream is read until it ends. The SDK would read without bounds, and drop a stream in the middle with the
generators that the HTTP library has made for it, of which trio then complains one by one. Here a stream is always left
from inside: at its end, or by a cancellation.
"""

from __future__ import annotations

from typing import Any

import anyio
from anyio.abc import ObjectSendStream

from ...providers import BadResponse
from ...providers.framing.event import WireEvent
from ...providers.framing.sse import SSEParser
from .incoming import encoded, is_answer, is_error, message_of
from .link import MOST_MESSAGE, load

#: Seconds that a stream has to end after the answer.
DRAIN = 2.0


class Answer:
    """What comes of one call, in one response or several: a stream may be cut and gone on with.

    Attributes:
        message: the answer; None while there is none.
        fault: why there will be none.
        is_error: whether the answer is an error of the protocol.
        last_id: the id of the last event, with which the stream can be gone on with; empty where events have none.
        retry: milliseconds that the server wants to be left alone before that.
        read_until: set when a response has given all that is to be waited for.
        scope: of the task that reads. Cancel it to give the call up.
    """

    __slots__ = (
        "_arrived",
        "_call_id",
        "_wrap",
        "fault",
        "is_error",
        "last_id",
        "message",
        "read_until",
        "retry",
        "scope",
    )

    def __init__(self, call_id: Any, arrived: ObjectSendStream[Any]) -> None:
        self._call_id = call_id
        self._arrived = arrived
        self._wrap = load("mcp.shared.message").SessionMessage
        self.message: bytes | None = None
        self.fault: str | None = None
        self.is_error = False
        self.last_id = ""
        self.retry: int | None = None
        self.begin()

    def begin(self) -> None:
        """Be ready for a response."""
        self.read_until = anyio.Event()
        self.scope = anyio.CancelScope()

    async def read(self, response: Any, in_events: bool, breaks: type[Exception]) -> None:
        """Read a response to its end, after `begin`. `breaks` is what is raised when the connection does."""
        parser = SSEParser(max_event=MOST_MESSAGE) if in_events else None
        whole = bytearray()
        try:
            with self.scope:
                async for piece in response.aiter_raw():
                    if parser is None:
                        whole += piece
                        if len(whole) > MOST_MESSAGE:
                            self._give_up(f"the answer has more than {MOST_MESSAGE // 1024**2} MiB")
                    elif self.message is None and self.fault is None:
                        await self._feed(parser, piece)
                if parser is None and self.fault is None:
                    self._take_whole(bytes(whole))
        except breaks:
            pass  # it may be gone on with
        finally:
            self.read_until.set()
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _feed(self, parser: SSEParser, piece: bytes) -> None:
        try:
            for event in parser.feed(piece):
                self.retry = parser.retry
                await self._take(event)
        except (BadResponse, ValueError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._give_up(str(error) or type(error).__name__)

    def _give_up(self, fault: str) -> None:
        self.fault = fault
        self.read_until.set()
        self.scope.cancel()

    def _take_whole(self, data: bytes) -> None:
        try:
            message = message_of(data)
        except ValueError as error:
            self.fault = str(error)
            return
        if is_answer(message):
            self._settle(message)
        else:
            self.fault = "it is no answer"

    async def _take(self, event: WireEvent) -> None:
        self.last_id = event.id or self.last_id
        if not event.data or event.event != "message" or self.message is not None:
            return
        message = message_of(event.data)
        if is_answer(message):
            self._settle(message)
            self.scope.deadline = anyio.current_time() + DRAIN
            self.read_until.set()
        elif message is not None:
            await self._arrived.send(self._wrap(message))

    def _settle(self, message: Any) -> None:
        message.id = self._call_id  # nothing else can be answered here
        self.is_error = is_error(message)
        self.message = encoded(message)
