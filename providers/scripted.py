"""A provider that plays a script: for tests, examples and dry runs. It talks to nobody.

Each call takes the next line of the script. A line may be text, a list of tool calls, a whole message or
reply, an exception to raise, or a function that is given the request and returns any of these. What was asked
is kept in `requests`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, Self, TypeAlias, cast, get_args

import anyio.lowlevel
import msgspec

from .errors import ProviderError
from .messages import Message, Part, Text, ToolCall
from .provider import Provider
from .vocabulary import ModelEvent, ModelReply, ModelRequest, TextDelta, ThinkingDelta, Usage, events_of

_PARTS: tuple[type, ...] = get_args(Part)

Line: TypeAlias = "str | ModelReply | Message | BaseException | Sequence[ToolCall] | Callable[[ModelRequest], Any]"


def call(tool: str, /, **arguments: Any) -> ToolCall:
    """A tool call for a script; `Scripted` gives it an id."""
    return ToolCall(None, tool, arguments, msgspec.json.encode(arguments).decode())


class ScriptExhausted(ProviderError):
    """The script was asked for more replies than it has."""

    kind = "script"


class Scripted(Provider):
    """Plays `lines`, one for each call, in the order in which the calls begin.

    Args:
        lines: the script.
        model: the model's name.
        chunk: characters of text in one streamed event.
        usage: reported with every reply that is not a `ModelReply` of its own.

    A line that crashes (an exception that is no `ProviderError`, a function that fails) is not used up: whoever asks
    again gets it again, so that a run that starts over ends with the true error.

    Raises:
        TypeError: a line that cannot be played.
        ScriptExhausted: from a call for which there is no line left.
    """

    name = "scripted"
    structured_output = True

    def __init__(self, *lines: Line, model: str = "scripted", chunk: int = 8, usage: Usage | None = None) -> None:
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, not {chunk}")
        self.model = model
        self.requests: list[ModelRequest] = []
        for line in lines:
            _check(line)
        self._lines = lines
        self._position = 0
        self._again: list[int] = []  # positions of lines that crashed
        self._chunk = chunk
        self._usage = usage
        self._calls = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        await anyio.lowlevel.checkpoint()
        return await self._next(request)

    def stream(self, request: ModelRequest) -> _ScriptedStream:
        return _ScriptedStream(self, request)

    @property
    def chunk(self) -> int:
        """Characters of text in one streamed event."""
        return self._chunk

    async def _next(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        if self._again:
            position = heappop(self._again)
        else:
            position = self._position
            self._position += 1
        if position >= len(self._lines):
            raise ScriptExhausted(
                f"the script has {len(self._lines)} replies and was asked for number {position + 1}: "
                "give Scripted(...) one for each model call"
            )
        try:
            line: Any = self._lines[position]
            if callable(line) and not isinstance(line, BaseException):
                line = line(request)
                if inspect.isawaitable(line):
                    line = await line
            return self._reply(line)
        except ProviderError:
            raise
        except BaseException as error:
            if isinstance(error, Exception) or error is self._lines[position]:
                heappush(self._again, position)
            raise

    def _reply(self, line: Any) -> ModelReply:
        match line:
            case ModelReply():
                return msgspec.structs.replace(line, message=self._with_ids(line.message))
            case BaseException():
                raise line
            case str():
                message = Message("assistant", (Text(line),) if line else ())
            case Message():
                message = self._with_ids(line)
            case ToolCall():
                message = self._with_ids(Message("assistant", (line,)))
            case list() | tuple():
                parts = tuple(Text(part) if isinstance(part, str) else part for part in cast("list[Any]", line))
                message = self._with_ids(Message("assistant", parts))
            case _:
                raise TypeError(_unplayable(line))
        reason = "tool_calls" if message.tool_calls else "stop"
        return ModelReply(message, reason, self._usage, self.model, None, reason)

    def _with_ids(self, message: Message) -> Message:
        if all(item.id is not None for item in message.tool_calls):
            return message
        parts = [self._with_id(part) if isinstance(part, ToolCall) else part for part in message.parts]
        return msgspec.structs.replace(message, parts=tuple(parts))

    def _with_id(self, item: ToolCall) -> ToolCall:
        if item.id is not None:
            return item
        self._calls += 1
        return msgspec.structs.replace(item, id=f"call_{self._calls}")


def _check(line: Any) -> None:
    """Refuse a line that cannot be played."""
    if isinstance(line, (list, tuple)):
        wrong = [part for part in cast("list[Any]", line) if not isinstance(part, (str, *_PARTS))]
        if wrong:
            raise TypeError(_unplayable(wrong[0]))
    elif isinstance(line, type) or not (
        isinstance(line, (str, ModelReply, Message, BaseException, ToolCall)) or callable(line)
    ):
        raise TypeError(_unplayable(line))


def _unplayable(line: Any) -> str:
    return f"a script cannot hold {line!r}: use text, tool calls, a message, a reply, an error or a function"


class _ScriptedStream:
    """One reply in small pieces."""

    def __init__(self, provider: Scripted, request: ModelRequest) -> None:
        self._provider = provider
        self._request = request
        self._reply: ModelReply | None = None
        self._ready: list[ModelEvent] | None = None

    @property
    def reply(self) -> ModelReply:
        if self._reply is None or self._ready:
            raise RuntimeError("the reply is there once the events have been read to their end")
        return self._reply

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        await anyio.lowlevel.checkpoint()
        if self._ready is None:
            self._reply = await self._provider._next(self._request)  # pyright: ignore[reportPrivateUsage]
            self._ready = self._pieces(self._reply)[::-1]
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.pop()

    def _pieces(self, reply: ModelReply) -> list[ModelEvent]:
        size = self._provider.chunk
        pieces: list[ModelEvent] = []
        for event in events_of(reply):
            if isinstance(event, (TextDelta, ThinkingDelta)):
                text = event.text
                pieces += [type(event)(text[start : start + size]) for start in range(0, len(text), size)]
            else:
                pieces.append(event)
        return pieces
