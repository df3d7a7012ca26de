"""Cohere's own wire format, ``/v2/chat``: requests to bytes, bytes to replies. Pure: no I/O, no key, no clock.

What is peculiar to it:

- Text beside tool calls is refused in a history. What the model says before it calls tools is its plan (``tool_plan``);
  text that another model said there goes back as one.
- A message of the assistant without text and without calls is refused, and so is an empty result: the first is left
  out, the second says so.
- ``response_format`` is refused beside ``tools``, and without a word about JSON in the messages a model may write white
  space for ever. So the schema is always told as an instruction, and forced where there are no tools.
- ``p`` goes from 0.01 to 0.99.
- Only "some tool" can be demanded. For one tool by name, it is the only one that is offered.
- Plans and citations go back to this format only; thoughts to the same model, and only while thinking is not switched
  off.

Source: https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..dialect import Encoded
from ..errors import BadResponse, ProviderError
from ..framing import SSEParser
from ..messages import Document, Image, Message, Part, Refusal, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, call_text, parse_arguments
from ..vocabulary import ModelReply, ModelRequest, ModelSettings, ToolSpec
from .cohere_errors import finish_error, read_cohere_error, told
from .cohere_stream import (
    FAMILY,
    Call,
    CohereStreamDecoder,
    Content,
    Function,
    arguments_text,
    make_reply,
    plan_item,
)
from .rounds import NOTHING, Round, rounds, schema_instruction
from .wire_errors import excerpt

_encode = msgspec.json.Encoder().encode


class _Said(msgspec.Struct):
    content: list[Content] | str | None = None
    tool_plan: str | None = None
    tool_calls: list[Call] | None = None
    citations: list[Any] | None = None


class _Answer(msgspec.Struct):
    id: Any = None
    message: _Said | str | None = None  # text in an error
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


class CohereDialect:
    """Cohere's chat, for `model`."""

    #: Where it lies below the base URL.
    path = "/v2/chat"
    stream_type = "text/event-stream"
    family = FAMILY

    def __init__(self, model: str) -> None:
        self.model = model

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        settings = request.settings
        schema = request.output_schema
        instructions = [request.instructions] if request.instructions else []
        if schema is not None:
            instructions.append(schema_instruction(schema))
        messages: list[dict[str, Any]] = []
        if instructions:
            messages.append({"role": "system", "content": "\n\n".join(instructions)})
        thoughts = settings.reasoning_effort != "none"
        for each in rounds(request.messages):
            messages += self._write(each, thoughts=thoughts)
        if not messages:
            messages.append({"role": "user", "content": NOTHING})
        body: dict[str, Any] = {"model": self.model, "messages": messages, "stream": stream}
        if request.tools:
            body |= _tools(request.tools, settings.tool_choice)
        elif schema is not None:
            body["response_format"] = {"type": "json_object", "json_schema": schema}
        body |= _settings(settings)
        if settings.extra:
            body |= settings.extra
        return Encoded(self.path, _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Not beside tools, where it refuses one."""
        return not tools

    def _write(self, each: Round, *, thoughts: bool) -> list[dict[str, Any]]:
        message = each.message
        if message.role == "system":
            return [{"role": "system", "content": message.text}] if message.text.strip() else []
        if message.role == "user":
            return [{"role": "user", "content": _user(message)}]
        stamp = message.provider_data
        own = stamp is not None and stamp.family == self.family
        content: list[dict[str, Any]] = []
        if own and thoughts and stamp is not None and stamp.model == self.model and message.thinking:
            content.append({"type": "thinking", "thinking": message.thinking})
        written: dict[str, Any] = {"role": "assistant"}
        said = "".join([part.text for part in message.parts if isinstance(part, (Text, Refusal))])
        items = message.server_items if own else ()
        plans = [str(item.data.get("tool_plan", "")) for item in items if item.kind == "tool_plan"]
        if each.answers:
            plan = "\n".join([text for text in (*plans, said) if text.strip()])
            if plan:
                written["tool_plan"] = plan
            written["tool_calls"] = [
                {
                    "id": answer.id,
                    "type": "function",
                    "function": {"name": answer.call.name, "arguments": call_text(answer.call)},
                }
                for answer in each.answers
            ]
        elif not said.strip():
            return []
        else:
            content.append({"type": "text", "text": said})
        if content:
            written["content"] = content
        citations = [item.data for item in items if item.kind == "citation"]
        if citations and not each.answers:
            written["citations"] = citations
        results = [
            {
                "role": "tool",
                "tool_call_id": answer.id,
                "content": answer.result.content if answer.result.content.strip() else NOTHING,
            }
            for answer in each.answers
        ]
        return [written, *results]

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body holds an error, or is not an answer of this format.
        """
        try:
            answer = _decode(body)
        except UNDECODABLE as error:
            raise BadResponse(f"the answer is not of Cohere's chat ({error}): {_shown(body)}", status=200) from None
        said = answer.message
        if not isinstance(said, _Said):
            raise told(body)
        parts = _parts(said)
        failed = finish_error(answer.finish_reason, answer.error, partial=_partial(parts))
        if failed is not None:
            raise failed
        identity = answer.id if isinstance(answer.id, str) else None
        return make_reply(parts, self.model, identity, answer.finish_reason, answer.usage)

    def framer(self) -> SSEParser:
        """What cuts one streamed answer into events."""
        return SSEParser()

    def decoder(self) -> CohereStreamDecoder:
        """A decoder for one streamed answer."""
        return CohereStreamDecoder(self.model)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        return read_cohere_error(status, headers, body, now=now)


def _shown(body: bytes) -> str:
    return excerpt(body) or "an empty body"


def _parts(said: _Said) -> list[Part]:
    parts: list[Part] = []
    if isinstance(said.content, str):
        parts += [Text(said.content)] if said.content else []
    else:
        for item in said.content or ():
            if item.thinking:
                parts.append(Thinking(item.thinking))
            elif item.text:
                parts.append(Text(item.text))
    if said.tool_plan:
        parts.append(plan_item(said.tool_plan))
    citations = [cast("dict[str, Any]", item) for item in said.citations or () if isinstance(item, dict)]
    parts += [ServerItem("citation", citation) for citation in citations]
    for call in said.tool_calls or ():
        function = call.function or Function()
        raw = arguments_text(function.arguments)
        identity = call.id if isinstance(call.id, str) and call.id else None
        parts.append(ToolCall(identity, function.name or "", parse_arguments(raw), raw))
    return parts


def _partial(parts: list[Part]) -> Message | None:
    seen = [ToolCall(part.id, part.name, None, part.raw) if isinstance(part, ToolCall) else part for part in parts]
    return Message("assistant", tuple(seen), True) if seen else None


def _settings(settings: ModelSettings) -> dict[str, Any]:
    effort = settings.reasoning_effort
    thinking = None if effort is None else {"type": "disabled" if effort == "none" else "enabled"}
    found = (
        ("temperature", settings.temperature),
        ("p", None if settings.top_p is None else min(max(settings.top_p, 0.01), 0.99)),
        ("max_tokens", settings.max_tokens),
        ("stop_sequences", settings.stop),
        ("seed", settings.seed),
        ("thinking", thinking),
    )
    return {name: value for name, value in found if value is not None}


def _tools(tools: Any, choice: str | None) -> dict[str, Any]:
    written: dict[str, Any] = {}
    offered: list[ToolSpec] = list(tools)
    if choice == "none":
        written["tool_choice"] = "NONE"
    elif choice not in (None, "auto"):
        written["tool_choice"] = "REQUIRED"
        if choice != "required":
            offered = [tool for tool in offered if tool.name == choice]
    if offered and all(tool.strict for tool in offered):
        written["strict_tools"] = True
    written["tools"] = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in offered
    ]
    return written


def _user(message: Message) -> str | list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text():
                if part.text.strip():
                    parts.append({"type": "text", "text": part.text})
            case Image():
                url: dict[str, Any] = {"url": _source(part)}
                if part.detail is not None:
                    url["detail"] = part.detail
                parts.append({"type": "image_url", "image_url": url})
            case Document():
                raise ValueError(
                    "Cohere takes no document in a message: give its text, or settings with extra={'documents': …}"
                )
            case _:
                raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")
    if not parts:
        return NOTHING
    return parts[0]["text"] if len(parts) == 1 and "text" in parts[0] else parts


def _source(part: Image) -> str:
    if part.url is not None:
        return part.url
    return f"data:{part.media_type or 'image/png'};base64,{base64.b64encode(part.data or b'').decode()}"
