"""What Anthropic's Messages API answers, in our words: blocks, usage, stop reasons, errors. Pure.

A block that the model wrote becomes the part of its kind; whatever else the block holds (citations, who called a tool)
stays with the part as `details`. A block of any other type (hidden thinking, calls and results of the provider's own
tools, a summary of what came before, a type that is yet unknown) becomes a `ServerItem` and goes back unchanged.
Thinking whose text the provider keeps to itself has nothing to show, and is kept in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from ..errors import BadResponse, ProviderError
from ..messages import Message, Part, ProviderData, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import ModelReply, StopReason, Usage
from .anthropic_messages import PAUSED
from .wire_errors import error_object, excerpt, make_error, read_error

_NO_HEADERS: Mapping[str, str] = {}

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "compaction": "compaction",
}

#: The status that goes with each type of error, for errors that come inside a success.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
#: A limit of money comes as 429 and does not go away by waiting.
_SPENT = "enforced_spend_limit_reached"


def read_block(block: Any) -> Part:
    """The part of a whole block.

    Raises:
        BadResponse: it is not a block of this format.
    """
    if not isinstance(block, dict):
        raise BadResponse("a block of the answer is not an object")
    held = cast("dict[str, Any]", block)
    kind = held.get("type")
    match kind:
        case "text":
            return Text(_text(held, "text"), _rest(held, "text"))
        case "thinking":
            return thought(_text(held, "thinking"), held)
        case "tool_use":
            return _call(held)
        case str():
            return ServerItem(kind, held)
        case _:
            raise BadResponse("a block of the answer has no type")


def thought(text: str, block: dict[str, Any]) -> Part:
    """The part of a thinking block with this text."""
    signature = block.get("signature")
    signed = signature if isinstance(signature, str) and signature else None
    if not text:
        return ServerItem("thinking", {**block, "thinking": ""})
    return Thinking(text, signed, _rest(block, "thinking", "signature"))


def finished_call(block: dict[str, Any], raw: str) -> ToolCall:
    """The call of a ``tool_use`` block with this argument text."""
    return ToolCall(_identity(block), _name(block), parse_arguments(raw), raw, _rest(block, "id", "name", "input"))


def unfinished_call(block: dict[str, Any], raw: str) -> ToolCall:
    """The call of a block whose stream was cut; it must not run."""
    return ToolCall(_identity(block), _name(block), None, raw)


def _call(block: dict[str, Any]) -> ToolCall:
    given = block.get("input")
    raw = given if isinstance(given, str) else msgspec.json.encode(given if given is not None else {}).decode()
    if isinstance(given, dict):
        arguments = cast("dict[str, Any]", given)
        return ToolCall(_identity(block), _name(block), arguments, raw, _rest(block, "id", "name", "input"))
    return finished_call(block, raw)


def _identity(block: dict[str, Any]) -> str | None:
    given = block.get("id")
    return str(given) if given else None


def _name(block: dict[str, Any]) -> str:
    given = block.get("name")
    return given if isinstance(given, str) else ""


def _text(block: dict[str, Any], key: str) -> str:
    given = block.get(key)
    if not isinstance(given, str):
        raise BadResponse(f"a block of type {key} of the answer has no text")
    return given


def _rest(block: dict[str, Any], *known: str) -> dict[str, Any] | None:
    """What a block holds besides the fields that have a place of their own."""
    rest = {key: value for key, value in block.items() if key != "type" and key not in known and value is not None}
    return rest or None


def make_reply(
    parts: Sequence[Part],
    *,
    family: str,
    model: Any,
    identity: Any,
    stop_reason: Any,
    usage: Any,
    extras: Mapping[str, Any],
) -> ModelReply:
    """The reply of these parts. `extras` are fields of the message that are kept with it, or go back with it."""
    parts = without_nothing(parts)
    raw = stop_reason if isinstance(stop_reason, str) else None
    named = model if isinstance(model, str) else None
    items = {key: value for key, value in extras.items() if value is not None}
    reason = _STOP_REASONS.get(raw) if raw is not None else None
    if reason in ("pause", "compaction"):
        items[PAUSED] = raw
    return ModelReply(
        Message("assistant", parts, False, stamp(parts, family, named, items)),
        reason,
        make_usage(usage),
        named,
        str(identity) if identity else None,
        raw,
    )


def without_nothing(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts without empty texts, which the API sends and does not take back."""
    return tuple([part for part in parts if not (isinstance(part, Text) and not part.text)])


def stamp(
    parts: Sequence[Part], family: str, model: str | None, items: dict[str, Any] | None = None
) -> ProviderData | None:
    """The stamp of a message that holds something for its family only, or None for one that does not."""
    if items or any(
        isinstance(part, ServerItem)
        or (isinstance(part, Thinking) and part.signature is not None)
        or (isinstance(part, (Text, Thinking, ToolCall)) and part.details is not None)
        for part in parts
    ):
        return ProviderData(family, model, items or None)
    return None


def make_usage(raw: Any) -> Usage | None:
    """Read a usage object; None for none. Cached and cache-writing tokens are counted apart from the others here."""
    if not isinstance(raw, dict):
        return None
    held = cast("dict[str, Any]", raw)
    return Usage(
        _count(held, "input_tokens"),
        _count(held, "output_tokens"),
        None,
        _count(held, "cache_read_input_tokens"),
        _count(held, "cache_creation_input_tokens"),
        _count(held.get("output_tokens_details"), "thinking_tokens"),
        held,
    )


def _count(holder: Any, key: str) -> int | None:
    value: Any = cast("dict[str, Any]", holder).get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def error_in(body: bytes, partial: Message | None = None) -> ProviderError | None:
    """The error that a body or an event of success holds, or None when it holds none."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except UNDECODABLE:
        return None
    told = error_object(parsed)
    if told is None:
        return None
    kind = told.get("type")
    status = _STATUSES.get(kind) if isinstance(kind, str) else None
    error = make_error(
        told if status is None else {**told, "status_code": status},
        status=200,
        headers=_NO_HEADERS,
        now=0.0,
        partial=partial,
    )
    return _completed(error, told, parsed)


def read_failure(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
    """Read an answer with a status of failure."""
    error = read_error(status, headers, body, now=now)
    try:
        parsed: Any = msgspec.json.decode(body)
    except UNDECODABLE:
        parsed = None
    return _completed(error, error_object(parsed) or {}, parsed)


def _completed(error: ProviderError, told: Mapping[str, Any], body: Any) -> ProviderError:
    """The error with what this API adds to the common shape."""
    details = told.get("details")
    if isinstance(details, dict) and cast("dict[str, Any]", details).get("error_code") == _SPENT:
        error.retryable = False
    request_id: Any = cast("dict[str, Any]", body).get("request_id") if isinstance(body, dict) else None
    if error.request_id is None and isinstance(request_id, str) and request_id:
        error.request_id = request_id
    return error


def not_an_answer(body: bytes, why: str) -> ProviderError:
    """The error that a body of success holds, or that it is no message."""
    shown = excerpt(body) or "an empty body"
    return error_in(body) or BadResponse(f"the answer is not a message ({why}): {shown}", status=200)
