"""The records of the Chat Completions wire format, and what whole answers and streamed ones have in common. Pure.

The records are lenient where servers differ (a field of type `Any` is looked at before it is used) and typed where the
hot path needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..messages import Message, Part, ProviderData, Thinking, ToolCall
from ..openai_messages import content_parts, parse_arguments
from ..vocabulary import StopReason, Usage

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "error": "error",
    "network_error": "error",
    "insufficient_system_resource": "error",
}


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: Function | None = None
    #: Gemini's signature of the thought behind the call; without it the conversation is refused.
    extra_content: Any = None


class Said(msgspec.Struct):
    """A ``delta`` of a stream or the ``message`` of a whole answer."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct):
    index: Any = 0
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None
    error: Any = None


class Vendor(msgspec.Struct):
    usage: dict[str, Any] | None = None


class Chunk(msgspec.Struct):
    """A chunk of a stream, or a whole answer."""

    id: Any = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: Vendor | None = None
    error: Any = None
    service_tier: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode


def make_call(identity: str | None, name: str, raw: str, extra: Any = None) -> ToolCall:
    """A finished tool call; arguments that are not a JSON object are kept as text only."""
    return ToolCall(identity, name, parse_arguments(raw), raw, {"extra_content": extra} if extra else None)


def argument_text(call: Call) -> str:
    """The argument text of a call or a fragment; some servers send the object itself."""
    raw = call.function.arguments if call.function is not None else None
    return raw if isinstance(raw, str) else "" if raw is None else msgspec.json.encode(raw).decode()


def read_parts(content: Any) -> list[Part]:
    """Read list-valued content, leniently: a part of an unknown type is passed over."""
    parts: list[Part] = []
    for item in cast("list[Any]", content) if isinstance(content, list) else [content]:
        try:
            parts += content_parts([item])
        except (TypeError, ValueError):
            continue
    return parts


def stop_reason(raw: str | None, message: Message) -> StopReason | None:
    """Our word for a finish reason; None for a word that we do not know."""
    reason = _STOP_REASONS.get(raw) if raw is not None else None
    return "refusal" if reason == "stop" and message.refusal else reason


def provider_data(
    family: str, model: str | None, details: list[dict[str, Any]], parts: list[Part]
) -> ProviderData | None:
    """The stamp of a message that holds something which only its own family may have back."""
    if details:
        return ProviderData(family, model, {"reasoning_details": details})
    private = any(type(part) is Thinking or (type(part) is ToolCall and part.details) for part in parts)
    return ProviderData(family, model) if private else None


def make_usage(raw: Mapping[str, Any] | None) -> Usage | None:
    """Read a usage object; None for none."""
    if raw is None:
        return None
    prompt, completion = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = _count(prompt, "cached_tokens")
    return Usage(
        _count(raw, "prompt_tokens"),
        _count(raw, "completion_tokens"),
        _count(raw, "total_tokens"),
        cached if cached is not None else _count(raw, "prompt_cache_hit_tokens"),
        _count(prompt, "cache_write_tokens"),
        _count(completion, "reasoning_tokens"),
        dict(raw),
    )


def _count(holder: Any, key: str) -> int | None:
    if not isinstance(holder, dict):
        return None
    value = cast("dict[str, Any]", holder).get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
