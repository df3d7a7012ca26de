"""A streamed Chat Completions answer, event by event. Pure.

The wire format is simple and its servers are not. What this decoder copes with:

- **Tool calls** come in fragments that should carry an `index`. Some servers leave it out, some send 0 for
  every call, some repeat the id and the name in each fragment, some send neither. A fragment belongs to a call
  by its id; else, when a name comes that is not the open call's, or comes after the open call's arguments were
  whole, it begins a new call; else by index; else to the call that is open.
- **Usage** comes in a chunk without choices, beside the finish reason, or (growing) in every chunk: the last
  one holds.
- **Reasoning** has three names, and one server puts it into the content as parts.
- **Errors** come inside the stream with status 200, with or without ``event: error``.

Whether an answer is whole: a finish reason makes it so, with or without ``[DONE]`` after it, because some
servers never send that. ``[DONE]`` without any finish reason is believed only if the body also ended cleanly,
something was said and every tool call parses: a server that drops a running answer for a newer request ends
exactly so, with a broken body behind it.

The hot path is a chunk with a little text: one typed decode, one list append, one event.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..errors import BadResponse, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message, Part, Refusal, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import (
    ModelEvent,
    ModelReply,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from .chat_wire import (
    Call,
    Function,
    Said,
    argument_text,
    decode_chunk,
    make_call,
    make_usage,
    provider_data,
    read_parts,
    stop_reason,
)
from .wire_errors import error_object, excerpt, make_error


class _OpenCall:
    """A tool call that is being gathered."""

    __slots__ = ("extra", "id", "index", "name", "pieces")

    def __init__(self, index: Any, identity: str | None, name: str | None) -> None:
        self.index = index
        self.id = identity
        self.name = name
        self.pieces: list[str] = []
        self.extra: Any = None

    @property
    def raw(self) -> str:
        return "".join(self.pieces)


class ChatStreamDecoder:
    """Decodes one streamed answer; see the module's text for what it copes with."""

    def __init__(self, family: str) -> None:
        self.done = False
        self._family = family
        # Parts in the order in which the model made them; adjacent fragments of one kind are gathered.
        self._gathered: list[tuple[type[Text | Thinking | Refusal], list[str]]] = []
        self._calls: list[_OpenCall] = []
        self._details: list[dict[str, Any]] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._vendor_usage: dict[str, Any] | None = None
        self._tier: str | None = None
        self._model: str | None = None
        self._id: str | None = None

    @property
    def usage(self) -> Usage | None:
        """What was counted so far; some servers tell it in every chunk."""
        return make_usage(self._usage or self._vendor_usage)

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        data = event.data
        if data == b"[DONE]" or data.strip() == b"[DONE]":
            self.done = True
            return []
        if self.done or not data:
            return []
        if event.event == "error":
            self._raise(data)
        try:
            chunk = decode_chunk(data)
        except UNDECODABLE as error:
            if event.event not in ("message", "completion", "chunk"):
                return []  # an event type of the vendor's own
            raise BadResponse(
                f"an event of the stream is not a chat completion chunk ({error}): {excerpt(data)}",
                partial=self.partial(),
            ) from None
        if chunk.error:
            self._raise(data)
        if chunk.choices is None and chunk.usage is None and chunk.id is None:
            self._raise(data, unless_unknown=True)
        if self._model is None and chunk.model:
            self._model = chunk.model
        if self._id is None and chunk.id:
            self._id = str(chunk.id)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if isinstance(chunk.service_tier, str):
            self._tier = chunk.service_tier
        if chunk.x_groq is not None and chunk.x_groq.usage is not None:
            self._vendor_usage = chunk.x_groq.usage
        events: list[ModelEvent] = []
        for choice in chunk.choices or ():
            if choice.index:  # another candidate than the first
                continue
            said = choice.delta or (choice.message if not self._gathered and not self._calls else None)
            if said is not None:
                self._take(said, events)
            if choice.error:
                self._raise(msgspec.json.encode({"error": choice.error}))
            if choice.finish_reason:
                self._finish = choice.finish_reason
        return events

    def _take(self, said: Said, events: list[ModelEvent]) -> None:
        thought = said.reasoning_content or said.reasoning
        if thought and isinstance(thought, str):
            self._gather(Thinking, thought)
            events.append(ThinkingDelta(thought))
        if said.reasoning_details:
            self._keep_details(said.reasoning_details, events, silent=bool(thought))
        content = said.content
        if content:
            if isinstance(content, str):
                self._gather(Text, content)
                events.append(TextDelta(content))
            else:
                self._take_parts(content, events)
        if said.refusal:
            self._gather(Refusal, said.refusal)
            events.append(RefusalDelta(said.refusal))
        if said.tool_calls:
            for position, call in enumerate(said.tool_calls):
                self._take_call(call, position, len(said.tool_calls), events)
        elif said.function_call is not None and (said.function_call.name or said.function_call.arguments):
            self._take_call(Call(function=said.function_call), 0, 1, events)

    def _gather(self, kind: type[Text | Thinking | Refusal], text: str) -> None:
        if self._gathered and self._gathered[-1][0] is kind:
            self._gathered[-1][1].append(text)
        else:
            self._gathered.append((kind, [text]))

    def _take_parts(self, content: Any, events: list[ModelEvent]) -> None:
        for part in read_parts(content):
            if isinstance(part, (Text, Thinking, Refusal)) and part.text:
                self._gather(type(part), part.text)
                made = {Text: TextDelta, Thinking: ThinkingDelta, Refusal: RefusalDelta}[type(part)]
                events.append(made(part.text))

    def _keep_details(self, details: Any, events: list[ModelEvent], *, silent: bool) -> None:
        """Join the fragments of OpenRouter's `reasoning_details`, which go back to it unchanged."""
        if not isinstance(details, list):
            return
        for detail in cast("list[Any]", details):
            if not isinstance(detail, dict):
                continue
            fragment = cast("dict[str, Any]", detail)
            if not silent and (text := fragment.get("text") or fragment.get("summary")):
                self._gather(Thinking, str(text))
                events.append(ThinkingDelta(str(text)))
            last = self._details[-1] if self._details else None
            same = last is not None and all(last.get(key) == fragment.get(key) for key in ("type", "index"))
            if last is None or not same or fragment.get("index") is None:
                self._details.append(dict(fragment))
                continue
            for key, value in fragment.items():
                before = last.get(key)
                if key in ("text", "summary", "data") and isinstance(before, str) and isinstance(value, str):
                    last[key] = before + value
                elif value is not None and value != "":
                    last[key] = value

    def _take_call(self, delta: Call, position: int, count: int, events: list[ModelEvent]) -> None:
        function = delta.function or Function()
        identity = str(delta.id) if delta.id else None
        text = argument_text(delta)
        call = self._owner(delta.index, identity, function.name, position, count)
        if call is None:
            call = _OpenCall(delta.index, identity, function.name)
            self._calls.append(call)
            shown = ToolCallDelta(len(self._calls) - 1, text, identity, function.name)
        else:
            late_id = identity if call.id is None else None
            late_name = None
            if function.name and function.name != call.name:
                late_name = call.name = (call.name or "") + function.name  # it may come in pieces
            call.id = call.id or identity
            shown = ToolCallDelta(self._calls.index(call), text, late_id, late_name)
        if delta.extra_content:
            call.extra = delta.extra_content
        if text:
            call.pieces.append(text)
        if text or shown.id is not None or shown.name is not None:
            events.append(shown)

    def _owner(self, index: Any, identity: str | None, name: str | None, position: int, count: int) -> _OpenCall | None:
        """The call that a fragment belongs to, or None when it begins a new one."""
        if not self._calls:
            return None
        if identity is not None:
            for call in reversed(self._calls):
                if call.id == identity:
                    # The same id under another name and another index is a server that does not number its calls.
                    return call if call.index == index or name in (None, call.name) else None
        indexed = next((call for call in reversed(self._calls) if index is not None and call.index == index), None)
        open_call = indexed or (self._calls[-1] if index is None else None)
        if open_call is None:
            return None
        if identity is not None and open_call.id is not None:
            return None
        if name:
            if open_call.name and name != open_call.name:
                # The rest of the name, where servers give ids; without them it is another call.
                goes_on = identity is None and open_call.id is not None and not open_call.pieces
                return open_call if goes_on and index is not None else None
            if open_call.name and identity is None and open_call.pieces and _whole(open_call.raw):
                return None
        elif index is None and count > 1 and len(self._calls) >= count:
            return self._calls[len(self._calls) - count + position]
        return open_call

    def _raise(self, data: bytes, *, unless_unknown: bool = False) -> None:
        """Raise the error that an event holds."""
        try:
            body: Any = msgspec.json.decode(data)
        except UNDECODABLE:
            body = {"message": excerpt(data)}
        error = error_object(body)
        if error is None:
            if unless_unknown:
                return
            error = {"message": excerpt(data)}
        raise make_error(error, status=200, headers={}, now=0.0, partial=self.partial())

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        if self._finish is None and not (self.done and clean and self._believable()):
            raise StreamInterrupted(
                "the stream ended without a finish reason" if self.done or clean else "the stream was cut",
                partial=self.partial(),
            )
        parts = self._parts()
        parts += [make_call(call.id, call.name or "", call.raw, call.extra) for call in self._calls]
        stamp = provider_data(self._family, self._model, self._details, parts)
        message = Message("assistant", tuple(parts), False, stamp)
        return ModelReply(
            message,
            stop_reason(self._finish, message),
            make_usage(self._usage or self._vendor_usage),
            self._model,
            self._id,
            self._finish,
            self._tier,
        )

    def _believable(self) -> bool:
        said = bool(self._gathered or self._calls)
        return said and all(call.name and parse_arguments(call.raw) is not None for call in self._calls)

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        parts = self._parts()
        parts += [ToolCall(call.id, call.name or "", None, call.raw) for call in self._calls]
        return Message("assistant", tuple(parts), True) if parts else None

    def _parts(self) -> list[Part]:
        return [kind("".join(pieces)) for kind, pieces in self._gathered]


def _whole(raw: str) -> bool:
    return bool(raw) and not raw.isspace() and parse_arguments(raw) is not None
