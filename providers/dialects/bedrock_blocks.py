"""What the content blocks, usage and stop reasons of Bedrock's Converse mean, whole or streamed. Pure.

A block is an object with one key that says what it is. Text, thoughts and calls of the caller's tools have a meaning
for everybody; the rest (calls of Bedrock's own tools, their results, redacted thoughts, citations, images) is a
`ServerItem` that holds the block as it came. Text that was generated with its citations in one block is a `Text` that
carries the block in its `details`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from ..messages import Message, Part, ProviderData, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import parse_arguments
from ..vocabulary import ModelReply, StopReason, Usage

#: Whose signatures and blocks go back: those of this format.
FAMILY = "bedrock-converse"

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
    "refusal": "refusal",
    "pause_turn": "pause",
}


def read_block(block: dict[str, Any]) -> Part | None:
    """The part that a block is; None for a block that holds nothing."""
    block = {key: value for key, value in block.items() if value is not None}
    kind = next((key for key in _READERS if key in block), None)
    if kind is None:
        other = next(iter(block), None)
        return None if other is None else ServerItem(other, block)
    return _READERS[kind](block, block[kind])


def _text(_: dict[str, Any], value: Any) -> Part | None:
    return Text(value) if isinstance(value, str) and value else None


def _tool_use(block: dict[str, Any], value: Any) -> Part | None:
    use = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if not isinstance(use.get("name"), str):
        return None  # nobody could run it, and it would be refused when it goes back
    if is_server_tool(use):
        return ServerItem("toolUse", block) if isinstance(use.get("toolUseId"), str) else None
    arguments = use.get("input")
    raw = "" if arguments is None else msgspec.json.encode(arguments).decode()
    return make_call(use, raw)


def _reasoning(block: dict[str, Any], value: Any) -> Part:
    held = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    told: Any = held.get("reasoningText")
    if not isinstance(told, dict):
        return ServerItem("redactedContent" if "redactedContent" in held else "reasoningContent", block)
    text, signature = (cast("dict[str, Any]", told).get(key) for key in ("text", "signature"))
    return Thinking(
        text if isinstance(text, str) else "", signature if isinstance(signature, str) and signature else None
    )


def _cited(block: dict[str, Any], value: Any) -> Part:
    generated: Any = cast("dict[str, Any]", value).get("content") if isinstance(value, dict) else None
    pieces = cast("list[Any]", generated) if isinstance(generated, list) else []
    texts = [cast("dict[str, Any]", piece).get("text") for piece in pieces if isinstance(piece, dict)]
    text = "".join([each for each in texts if isinstance(each, str)])
    return Text(text, {"citationsContent": value}) if text else ServerItem("citationsContent", block)


_READERS: dict[str, Callable[[dict[str, Any], Any], Part | None]] = {
    "text": _text,
    "toolUse": _tool_use,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
}


def is_server_tool(use: dict[str, Any]) -> bool:
    """Whether a ``toolUse`` was run by Bedrock itself."""
    return use.get("type") not in (None, "tool_use")


def make_call(use: dict[str, Any], raw: str) -> ToolCall:
    """A call of one of the caller's tools."""
    identity, name = use.get("toolUseId"), use.get("name")
    return ToolCall(
        identity if isinstance(identity, str) and identity else None,
        name if isinstance(name, str) else "",
        parse_arguments(raw),
        raw,
    )


def make_reply(parts: list[Part], model: str, stop: str | None, usage: dict[str, Any] | None, tier: Any) -> ModelReply:
    """The reply of these parts. `model` is the one asked for: an answer does not name it."""
    message = Message("assistant", tuple(parts), False, stamp(parts, model))
    reason = _STOP_REASONS.get(stop) if stop is not None else None
    if reason == "stop" and message.tool_calls:
        reason = "tool_calls"
    named: Any = cast("dict[str, Any]", tier).get("type") if isinstance(tier, dict) else None
    return ModelReply(message, reason, make_usage(usage), None, None, stop, named if isinstance(named, str) else None)


def stamp(parts: list[Part], model: str) -> ProviderData | None:
    """The stamp of a message that holds something for this format only."""
    kept = any(
        isinstance(part, (Thinking, ServerItem)) or (isinstance(part, Text) and part.details is not None)
        for part in parts
    )
    return ProviderData(FAMILY, model) if kept else None


def make_usage(raw: dict[str, Any] | None) -> Usage | None:
    """Read a usage object. Input tokens are counted without those read from and written to the cache."""
    if raw is None:
        return None
    names = ("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    return Usage(*[_count(raw.get(name)) for name in names], raw=raw)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
