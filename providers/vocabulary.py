"""What goes into a model call and what comes out: requests, replies, usage and stream events.

A dialect turns a `ModelRequest` into bytes and bytes into `ModelEvent`s; the fold of those events is a `ModelReply`.
The records are frozen. A field that the provider did not report is None, which is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from .messages import Message

StopReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error"]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one or more model calls, in the provider's own counting. None: not reported.

    `raw` keeps the provider's object of a single call; a sum has none.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: dict[str, Any] | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
            _sum(self.total_tokens, other.total_tokens),
            _sum(self.cached_input_tokens, other.cached_input_tokens),
            _sum(self.cache_write_tokens, other.cache_write_tokens),
            _sum(self.reasoning_tokens, other.reasoning_tokens),
        )


def _sum(left: int | None, right: int | None) -> int | None:
    if left is None:
        return right
    return left if right is None else left + right


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as the model sees it: `parameters` is the JSON schema (an object) of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool | None = None


class ModelSettings(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Settings of a model call. None leaves the provider's default.

    `tool_choice` is ``auto``, ``none``, ``required`` or the name of a tool. `extra` is merged into the request body
    as it is, for what a provider has beyond these.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    extra: dict[str, Any] | None = None


class ModelReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole answer of a model.

    `stop_reason` is our word and None when the provider gave none; `stop_reason_raw` is the provider's.
    """

    message: Message
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    stop_reason_raw: str | None = None


class TextDelta(msgspec.Struct, frozen=True, gc=False, tag="text_delta"):
    """More answer text."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, gc=False, tag="thinking_delta"):
    """More visible reasoning."""

    text: str


class RefusalDelta(msgspec.Struct, frozen=True, gc=False, tag="refusal_delta"):
    """More refusal text."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False, tag="tool_call_delta"):
    """More of the tool call at position `index` of this reply; `id` and `name` come with the first delta."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


ModelEvent: TypeAlias = TextDelta | ThinkingDelta | RefusalDelta | ToolCallDelta


class ModelRequest:
    """One request to a model.

    Args:
        messages: the conversation; OpenAI-style dictionaries are read too.
        tools: functions, tools, `ToolSpec`s or JSON-schema dictionaries.
        instructions: the system prompt.
        settings: `ModelSettings`, or a dictionary of its fields.
        output_schema: a JSON schema that the answer must follow.
    """

    __slots__ = ("instructions", "messages", "output_schema", "settings", "tools")

    def __init__(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        tools: Sequence[Any] = (),
        instructions: str | None = None,
        settings: ModelSettings | Mapping[str, Any] | None = None,
        output_schema: dict[str, Any] | None = None,
    ) -> None:
        self.messages: Sequence[Message] = [*messages]  # type: ignore[list-item]
        self.tools: Sequence[ToolSpec] = [*tools]
        self.instructions = instructions
        self.settings = settings if isinstance(settings, ModelSettings) else ModelSettings(**(settings or {}))
        self.output_schema = output_schema
