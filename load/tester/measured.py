"""A provider that times each request, and changes nothing.

It stands between agents and the provider that they would ask, and knows by a context variable which iteration a request
belongs to: runs copy the context of whoever starts them. What a gate has made a request wait is heard of as a run hears
of it, and counted apart. With `tagged`, for the simulated model, each request names its iteration as its conversation
(the body's `user`), so that runs with the same words are told apart there.

It costs a few microseconds for each request, and less than one for each piece of a streamed answer.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, Self

import msgspec

from ...providers import (
    ModelEvent,
    ModelReply,
    ModelRequest,
    ModelSettings,
    ModelStream,
    Provider,
    ToolCallDelta,
    Usage,
)
from ...providers.notices import FellBack, GateOpened, GateWaiting, Listener, ThreadOutlived, listening
from .meter import Meter
from .recorder import Recorder

#: The meter of the iteration that the present code belongs to.
metering: ContextVar[Meter | None] = ContextVar("greenroom_load_meter", default=None)


class MeasuredProvider(Provider):
    """`provider`, measured into `recorder`.

    Args:
        provider: who is asked.
        recorder: what is told.
        tagged: whether each request names its iteration in the body's `user`.
    """

    def __init__(self, provider: Provider, recorder: Recorder, *, tagged: bool = False) -> None:
        self.name = provider.name
        self.model = provider.model
        self.structured_output = provider.structured_output
        self._provider = provider
        self._recorder = recorder
        self._tagged = tagged

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        return self._provider.takes_schema(schema, tools=tools)

    async def complete(self, request: ModelRequest) -> ModelReply:
        timed = _Timed(self._recorder)
        try:
            reply = await self._provider.complete(self._sent(request, timed))
        except BaseException as error:
            timed.end(None, error)
            raise
        timed.end(reply.usage, None)
        return reply

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        return _MeasuredStream(self, request)

    def _sent(self, request: ModelRequest, timed: _Timed) -> ModelRequest:
        if not self._tagged or timed.meter is None:
            return request
        settings = request.settings
        extra = {**(settings.extra or {}), "user": f"run {timed.meter.number}"}
        tagged = msgspec.structs.replace(settings, extra=extra)
        assert isinstance(tagged, ModelSettings)
        return ModelRequest(
            request.messages,
            tools=request.tools,
            instructions=request.instructions,
            settings=tagged,
            output_schema=request.output_schema,
        )


class _Timed(Listener):
    """One request, from here on; hears of the gate in the place of who made it, and passes on what it hears."""

    __slots__ = ("_outer", "_sampled", "begun", "meter", "recorder", "waited")

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._sampled = recorder.measuring
        self.meter = metering.get()
        self.waited = 0.0
        self._outer = listening.get()
        listening.set(self)
        self.begun = recorder.now()
        if self.meter is not None:
            self.meter.open(self.begun)

    @property
    def sampled(self) -> bool:
        """Whether the request belongs to the sample."""
        return self._sampled

    def end(self, usage: Usage | None, error: BaseException | None) -> float:
        """The request is over; returns when."""
        ended = self.recorder.now()
        listening.set(self._outer)
        if self.meter is not None:
            self.meter.close(ended)
        self.recorder.request_ended(ended - self.begun, self.waited, usage, error, self._sampled)
        return ended

    async def hear(self, notice: GateWaiting | FellBack) -> None:
        if self._outer is not None:
            await self._outer.hear(notice)

    def note(self, notice: GateOpened | ThreadOutlived) -> None:
        if isinstance(notice, GateOpened):
            self.waited += notice.waited
        if self._outer is not None:
            self._outer.note(notice)


class _MeasuredStream:
    """One streamed answer; pieces without content, as some servers begin with, are no pieces."""

    def __init__(self, owner: MeasuredProvider, request: ModelRequest) -> None:
        self._owner = owner
        self._request = request
        self._block: AbstractAsyncContextManager[ModelStream] | None = None
        self._events: ModelStream | None = None
        self._timed: _Timed | None = None
        self._first: float | None = None
        self._last = 0.0
        self._ended = False
        self._error: BaseException | None = None

    async def __aenter__(self) -> Self:
        owner = self._owner
        self._timed = timed = _Timed(owner._recorder)
        try:
            self._block = owner._provider.stream(owner._sent(self._request, timed))
            self._events = await self._block.__aenter__()
        except BaseException as error:
            timed.end(None, error)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._block is not None
        assert self._timed is not None
        try:
            await self._block.__aexit__(None, None, None)
        finally:
            if self._ended:
                usage = self.reply.usage
                self._timed.end(usage, None)
                self._finish(usage)
            else:
                # Left before its end: by a failure of the answer, or because nobody wanted the rest.
                self._timed.end(None, self._error or GeneratorExit())

    @property
    def reply(self) -> ModelReply:
        assert self._events is not None
        return self._events.reply

    @property
    def usage(self) -> Usage | None:
        """What the provider has counted so far; None as long as it has told nothing."""
        return getattr(self._events, "usage", None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        assert self._events is not None
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise
        except BaseException as error:
            self._error = error
            raise
        if event.arguments or event.name if isinstance(event, ToolCallDelta) else event.text:
            self._piece()
        return event

    def _piece(self) -> None:
        timed = self._timed
        assert timed is not None
        recorder = timed.recorder
        now = recorder.now()
        if self._first is None:
            self._first = now
            recorder.first_piece(now - timed.begun - timed.waited, timed.sampled)
        elif timed.sampled:
            recorder.between_pieces.record(now - self._last)
        self._last = now

    def _finish(self, usage: Usage | None) -> None:
        timed = self._timed
        assert timed is not None
        if not timed.sampled:
            return
        timed.recorder.streamed += 1
        tokens = usage.output_tokens if usage is not None else None
        if self._first is not None and tokens is not None and tokens > 1:
            timed.recorder.per_token.record((self._last - self._first) / (tokens - 1))
