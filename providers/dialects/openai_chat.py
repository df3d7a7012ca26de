"""The Chat Completions wire format: requests to bytes, bytes to replies. Pure: no I/O, no key, no clock.

OpenAI's format is spoken by most gateways and local servers, each with its own habits. A habit that changes what we
send is a `Quirks` field, set by the vendor's preset (`chat_messages`). What we accept is the union of everything seen,
whoever sent it (`chat_stream` and `wire_errors` name it).

Visible reasoning is shown to the caller. It goes back to a server only where that server asks for it: in the
key that its preset names, or as the opaque `provider_data` of a message that the same family made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..dialect import Encoded
from ..errors import BadResponse, ProviderError
from ..framing import SSEParser
from ..messages import Message, Part, Refusal, Text, Thinking
from ..openai_messages import UNDECODABLE
from ..vocabulary import ModelReply, ModelRequest, ToolSpec
from .chat_messages import Quirks, write_messages
from .chat_stream import ChatStreamDecoder
from .chat_wire import (
    Call,
    Choice,
    Chunk,
    Said,
    argument_text,
    decode_chunk,
    make_call,
    make_usage,
    provider_data,
    read_parts,
    stop_reason,
)
from .rounds import schema_instruction
from .strict_schema import obeys_strict_rules
from .tool_bytes import ToolBytes
from .wire_errors import error_object, excerpt, make_error, read_error

_encode = msgspec.json.Encoder().encode
_NO_HEADERS: Mapping[str, str] = {}


class ChatDialect:
    """Chat Completions as `vendor` speaks it, for `model`."""

    #: Where it lies below the base URL.
    path = "/chat/completions"
    stream_type = "text/event-stream"

    def __init__(self, model: str, *, vendor: str = "openai", quirks: Quirks | None = None) -> None:
        self.model = model
        self.family = f"chat-completions/{vendor}"
        self.quirks = quirks if quirks is not None else Quirks()
        self._tools = ToolBytes(_tool)

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        settings, quirks = request.settings, self.quirks
        instructions, schema = request.instructions, request.output_schema
        forced = quirks.json_schemas == "always" or (quirks.json_schemas == "alone" and not (stream or request.tools))
        if schema is not None and not forced:
            instructions = "\n\n".join(filter(None, [instructions, schema_instruction(schema)]))
        messages = write_messages(request.messages, instructions, quirks, self.family)
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if request.tools:
            body["tools"] = self._tools(request.tools)
            if settings.tool_choice is not None:
                body["tool_choice"] = self._tool_choice(settings.tool_choice)
            if settings.parallel_tool_calls is not None and quirks.parallel_tool_calls:
                body["parallel_tool_calls"] = settings.parallel_tool_calls
        if schema is not None and forced:
            body["response_format"] = _response_format(schema)
        elif schema is not None and quirks.json_schemas == "never" and not request.tools:
            body["response_format"] = {"type": "json_object"}  # with tools it could spoil what is said beside calls
        if stream:
            body["stream"] = True
            if quirks.stream_usage:
                body["stream_options"] = {"include_usage": True}
        for key, value in (
            ("temperature", settings.temperature),
            ("top_p", settings.top_p),
            (quirks.max_tokens_key, settings.max_tokens),
            ("stop", settings.stop),
            (quirks.seed_key, settings.seed),
            ("reasoning_effort", settings.reasoning_effort),
        ):
            if value is not None:
                body[key] = value
        if settings.extra:
            body.update(settings.extra)
        return Encoded(self.path, _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether the server takes a schema in every request."""
        return self.quirks.json_schemas == "always"

    def _tool_choice(self, choice: str) -> Any:
        if choice == "required":
            return self.quirks.required_word
        if choice in ("auto", "none"):
            return choice
        return {"type": "function", "function": {"name": choice}}

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body holds an error, or is not a chat completion.
        """
        try:
            answer = decode_chunk(body)
        except UNDECODABLE as error:
            raise self._not_an_answer(body, str(error)) from None
        if answer.error or not answer.choices:
            raise self._not_an_answer(body, "it has no choices")
        choice: Choice = next((choice for choice in answer.choices if not choice.index), answer.choices[0])
        if choice.error:
            raise self._not_an_answer(_encode({"error": choice.error}), "its choice is an error")
        said = choice.message or choice.delta
        if said is None:
            raise self._not_an_answer(body, "its choice has no message")
        message = self._message(said, answer)
        return ModelReply(
            message,
            stop_reason(choice.finish_reason, message),
            make_usage(answer.usage or (answer.x_groq.usage if answer.x_groq else None)),
            answer.model,
            str(answer.id) if answer.id else None,
            choice.finish_reason,
            answer.service_tier if isinstance(answer.service_tier, str) else None,
        )

    def _message(self, said: Said, answer: Chunk) -> Message:
        parts: list[Part] = []
        thought: Any = said.reasoning_content or said.reasoning
        details = _dicts(said.reasoning_details)
        if not thought:
            thought = "".join(str(item.get("text") or item.get("summary") or "") for item in details)
        if thought and isinstance(thought, str):
            parts.append(Thinking(thought))
        if isinstance(said.content, str):
            parts += [Text(said.content)] if said.content else []
        elif said.content:
            parts += read_parts(said.content)
        if said.refusal:
            parts.append(Refusal(said.refusal))
        calls = said.tool_calls or ()
        if not calls and said.function_call is not None:
            calls = (Call(function=said.function_call),)
        for call in calls:
            if call.function is not None:
                identity = str(call.id) if call.id else None
                parts.append(make_call(identity, call.function.name or "", argument_text(call), call.extra_content))
        return Message("assistant", tuple(parts), False, provider_data(self.family, answer.model, details, parts))

    def _not_an_answer(self, body: bytes, why: str) -> ProviderError:
        try:
            error = error_object(msgspec.json.decode(body))
        except UNDECODABLE:
            error = None
        if error is not None:
            return make_error(error, status=200, headers=_NO_HEADERS, now=0.0)
        shown = excerpt(body) or "an empty body"
        return BadResponse(f"the answer is not a chat completion ({why}): {shown}", status=200)

    def framer(self) -> SSEParser:
        """What cuts one streamed answer into events."""
        return SSEParser()

    def decoder(self) -> ChatStreamDecoder:
        """A decoder for one streamed answer."""
        return ChatStreamDecoder(self.family)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        return read_error(status, headers, body, now=now)


def _dicts(value: Any) -> list[dict[str, Any]]:
    """The dictionaries in a list of anything; none for anything else."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        # An object that names no properties is refused, whether it is strict or not.
        "parameters": {"type": "object", "properties": {}, **tool.parameters},
    }
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Only a schema that obeys the strict rules already is marked strict; one that does not is sent as it is."""
    title = str(schema.get("title", "output"))
    name = "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in title)[:64]
    wrapped: dict[str, Any] = {"name": name or "output", "schema": schema}
    if obeys_strict_rules(schema):
        wrapped["strict"] = True
    return {"type": "json_schema", "json_schema": wrapped}
