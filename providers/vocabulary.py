"""What goes into a model call and what comes out: requests, replies, usage and stream events.

A dialect turns a `ModelRequest` into bytes and bytes into `ModelEvent`s; the fold of those events is a `ModelReply`.
The records are frozen. A field that the provider did not report is None, which is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast
from weakref import WeakKeyDictionary

import msgspec

from .checks import is_number, is_whole
from .functions import describe
from .keywords import Keywords
from .messages import Message, Refusal, Text, Thinking, ToolCall
from .openai_messages import message_from_openai

#: ``pause``: a long turn of the provider's own tools was suspended, and goes on when the message is sent back.
#: ``compaction``: the provider has summarised the conversation, and goes on likewise.
StopReason: TypeAlias = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error", "compaction"
]


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
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


class ModelSettings(msgspec.Struct, metaclass=Keywords, frozen=True, omit_defaults=True, kw_only=True):
    """Settings of a model call. None leaves the provider's default.

    `tool_choice` is ``auto``, ``none``, ``required`` or the name of a tool. `extra` is merged into the request body
    as it is, for what a provider has beyond these. `stop` may also be given as one text or as a list.

    Raises:
        ValueError: a value of the wrong type or out of range; `extra` holds what the request itself sets.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    extra: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, (str, list)):
            stop: Any = self.stop
            msgspec.structs.force_setattr(self, "stop", (stop,) if isinstance(stop, str) else tuple(stop))
        for name, fits, words in _SETTINGS:
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise ValueError(f"settings: {name} must be {words}, not {value!r}")
        taken = [key for key in _TAKEN if key in (self.extra or ())]
        if taken:
            raise ValueError(f"settings: extra must not hold {taken[0]!r}, which is set by the request itself")


def _is_stop(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in cast("tuple[Any, ...]", value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_extra(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in cast("dict[Any, Any]", value))


_SETTINGS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("temperature", lambda value: is_number(value) and value >= 0, "a number, 0 or more"),
    ("top_p", lambda value: is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    ("max_tokens", lambda value: is_whole(value) and value >= 1, "a whole number, at least 1"),
    ("stop", _is_stop, "text or a list of texts"),
    ("seed", is_whole, "a whole number"),
    ("tool_choice", _is_text, "'auto', 'none', 'required' or the name of a tool"),
    ("parallel_tool_calls", lambda value: isinstance(value, bool), "True or False"),
    ("reasoning_effort", _is_text, "text"),
    ("extra", _is_extra, "a dictionary with text as keys"),
)
_TAKEN = ("messages", "model", "stream")


class ModelReply(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A whole answer of a model.

    `stop_reason` is our word and None when the provider gave none; `stop_reason_raw` is the provider's. `service_tier`
    is the one that has answered (``default``, ``flex``, ``priority`` …), where the provider names it beside the usage.
    """

    message: Message
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    stop_reason_raw: str | None = None
    service_tier: str | None = None


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


def events_of(reply: ModelReply) -> list[ModelEvent]:
    """The events of an answer that came in one piece."""
    events: list[ModelEvent] = []
    calls = 0
    for part in reply.message.parts:
        match part:
            case Text():
                events.append(TextDelta(part.text))
            case Thinking():
                events.append(ThinkingDelta(part.text))
            case Refusal():
                events.append(RefusalDelta(part.text))
            case ToolCall():
                events.append(ToolCallDelta(calls, part.raw, part.id, part.name))
                calls += 1
            case _:
                pass
    return events


class ModelRequest:
    """One request to a model.

    Args:
        messages: the conversation; OpenAI-style dictionaries are read too.
        tools: functions, tools, `ToolSpec`s or JSON-schema dictionaries.
        instructions: the system prompt.
        settings: `ModelSettings`, or a dictionary of its fields.
        output_schema: a JSON schema that the answer must follow.

    Raises:
        TypeError: a message, tool or setting is of a type that has no meaning here.
        ValueError: a dictionary lacks a key or holds a value that has no meaning here.
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
        self.messages: Sequence[Message] = [
            message if isinstance(message, Message) else _message(message) for message in messages
        ]
        self.tools: Sequence[ToolSpec] = tuple(
            [tool if isinstance(tool, ToolSpec) else tool_spec(tool) for tool in tools]
        )
        self.instructions = instructions
        self.settings = settings if isinstance(settings, ModelSettings) else _settings(settings)
        self.output_schema = output_schema

    @classmethod
    def of_records(
        cls,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        instructions: str | None,
        settings: ModelSettings | None,
        output_schema: dict[str, Any] | None,
    ) -> ModelRequest:
        """A request of what is known to be records: neither looked at nor copied, so nobody may change the lists."""
        request = cls.__new__(cls)
        request.messages = messages
        request.tools = tools
        request.instructions = instructions
        request.settings = settings if settings is not None else _DEFAULTS
        request.output_schema = output_schema
        return request


def _message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise TypeError(f"a message must be a Message or a dictionary, not {type(message).__name__}")
    return message_from_openai(cast("Mapping[str, Any]", message))


def _settings(settings: Mapping[str, Any] | None) -> ModelSettings:
    if settings is None:
        return _DEFAULTS
    if not isinstance(settings, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"settings must be ModelSettings(…) or a dictionary, not {type(settings).__name__}")
    unknown = [name for name in settings if name not in ModelSettings.__struct_fields__]
    if unknown:
        known = ", ".join(ModelSettings.__struct_fields__)
        raise ValueError(f"settings: unknown key {unknown[0]!r}; known are {known} (others go into 'extra')")
    return ModelSettings(**settings) if settings else _DEFAULTS


def tool_spec(tool: Any) -> ToolSpec:
    """The `ToolSpec` of a tool in any of the forms that a request takes.

    Args:
        tool: a `ToolSpec`, an object whose `spec` is one, a function with annotated parameters, or a dictionary with
            ``name``, ``description`` and ``parameters``, bare or under ``function``.

    Raises:
        TypeError: it is none of these, or a parameter of the function cannot be described.
        ValueError: a dictionary lacks its name, or holds something else than a schema.
    """
    if isinstance(tool, ToolSpec):
        return tool
    spec = getattr(tool, "spec", None)
    if isinstance(spec, ToolSpec):
        return spec
    if isinstance(tool, Mapping):
        return _spec_from_dict(cast("Mapping[str, Any]", tool))
    if callable(tool):
        return _spec_from_function(tool)
    raise TypeError(f"a tool must be a function, a tool or a schema dictionary, not {type(tool).__name__}")


def _spec_from_dict(tool: Mapping[str, Any]) -> ToolSpec:
    held: Any = tool.get("function", tool)
    if not isinstance(held, Mapping):
        raise ValueError("tool key 'function' must be a dictionary")
    function = cast("Mapping[str, Any]", held)
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("tool key 'name' is missing or not a string")
    parameters: Any = function.get("parameters", function.get("input_schema"))
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise ValueError(f"tool {name!r}: key 'parameters' must be a JSON schema")
    return ToolSpec(
        name, str(function.get("description") or ""), cast("dict[str, Any]", parameters), function.get("strict")
    )


def _spec_from_function(function: Any) -> ToolSpec:
    """Described once per function: a memo that dies with the function."""
    try:
        spec = _described.get(function)
    except TypeError:
        spec = None
    if spec is None:
        schema = describe(function)
        spec = ToolSpec(schema.name, schema.description, schema.parameters)
        try:
            _described[function] = spec
        except TypeError:
            pass  # a callable without weak references or a hash is described each time
    return spec


_described: WeakKeyDictionary[Any, ToolSpec] = WeakKeyDictionary()
_DEFAULTS = ModelSettings()
