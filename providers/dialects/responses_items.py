"""What a Responses answer is made of: output items become parts, and a finished body becomes a reply. Pure.

An answer is a list of items. Each becomes one or more parts, and each part keeps what its item needs to be written
again (`responses_input` does that):

- a **message** becomes a `Text` or a `Refusal` for each piece of its content; their `details` hold the message without
  its content as ``item``, the piece without its text as ``part``, and the number of pieces as ``of`` where there are
  several. A message that says nothing is a `ServerItem`: its reasoning cannot go back without it;
- a **function call** becomes a `ToolCall`, whose `details` hold the item's own id and status;
- **reasoning** becomes a `Thinking` where any of it can be seen, else a `ServerItem`. The texts of one summary are
  joined by a blank line; raw reasoning (open models show it) is read where there is no summary. The encrypted reasoning
  is the `signature`;
- every other item is a `ServerItem`.

The message's stamp lists the ids of its items in order, so that a message from which something was taken away is known
as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec

from ..errors import ProviderError, StreamInterrupted
from ..messages import Message, Part, ProviderData, Refusal, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import parse_arguments
from ..vocabulary import ModelReply, StopReason, Usage
from .wire_errors import make_error

Item: TypeAlias = dict[str, Any]

_INCOMPLETE: dict[str, StopReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
#: Codes of an answer that failed because of what it was asked: the same request will fail again.
_REQUEST_CODES = {
    *("invalid_prompt", "invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url"),
    *("invalid_image_mode", "image_too_large", "image_too_small", "image_parse_error", "image_file_too_large"),
    *("unsupported_image_media_type", "empty_image_file", "failed_to_download_image", "image_file_not_found"),
}
_POLICY_CODES = {"bio_policy", "cyber_policy", "image_content_policy_violation"}
_NO_HEADERS: Mapping[str, str] = {}


class Stamp(msgspec.Struct, frozen=True):
    """Whose answers are read: the `family` of the dialect and the `model` that was asked."""

    family: str
    model: str


def as_item(value: Any) -> Item:
    """The value itself if it is an object, else an empty one."""
    return cast("Item", value) if isinstance(value, dict) else {}


def items_of(value: Any) -> list[Item]:
    """The items in a list of anything; none for anything else."""
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("Item", item) for item in listed if isinstance(item, dict)]


def kind_of_item(item: Item) -> str:
    """The item's type; a server that leaves it out means a message."""
    kind = item.get("type")
    return kind if isinstance(kind, str) else "message" if "content" in item else ""


def read_item(item: Item) -> list[Part]:
    """The parts that an item becomes: none for what has no type at all."""
    match kind_of_item(item):
        case "":
            return []
        case "message":
            return _message_parts(item) or [ServerItem("message", item)]
        case "function_call":
            return [_call(item)]
        case "reasoning" if thought := thought_of(item):
            sealed = item.get("encrypted_content")
            shown = {key: value for key, value in item.items() if key != "encrypted_content"}
            return [Thinking(thought, sealed if isinstance(sealed, str) else None, shown)]
        case kind:
            return [ServerItem(kind, item)]


def thought_of(item: Item) -> str:
    """The reasoning that an item shows: its summary, or else the reasoning itself."""
    for key in ("summary", "content"):
        texts = [text for piece in items_of(item.get(key)) if isinstance(text := piece.get("text"), str) and text]
        if texts:
            return "\n\n".join(texts)
    return ""


def _message_parts(item: Item) -> list[Part]:
    content = item.get("content")
    pieces = [{"type": "output_text", "text": content}] if isinstance(content, str) else items_of(content)
    head = {key: value for key, value in item.items() if key not in ("type", "role", "content")}
    parts: list[Part] = []
    for piece in pieces:
        for key, made in (("text", Text), ("refusal", Refusal)):
            text = piece.get(key)
            if isinstance(text, str) and piece.get("type") in ("output_text", "refusal"):
                rest = {name: value for name, value in piece.items() if name not in ("type", key)}
                details: Item = {"item": head, "part": rest}
                parts.append(made(text, details if len(pieces) == 1 else {**details, "of": len(pieces)}))
    return parts if any(cast("Text", part).text for part in parts) else []


def _call(item: Item) -> ToolCall:
    name, held = item.get("name"), item.get("arguments")
    identity = item.get("call_id") or item.get("id")
    raw = held if isinstance(held, str) else "" if held is None else msgspec.json.encode(held).decode()
    # A call that was cut off before its first argument would otherwise be a call without arguments.
    cut = item.get("status") in ("incomplete", "in_progress") and (not raw or raw.isspace())
    return ToolCall(
        identity if isinstance(identity, str) else None,
        name if isinstance(name, str) else "",
        None if cut else parse_arguments(raw),
        raw,
        {key: value for key, value in item.items() if key not in ("type", "call_id", "name", "arguments")},
    )


def message_of(items: list[Item], stamp: Stamp) -> Message:
    """The message that these items are."""
    parts: list[Part] = []
    ids: list[Any] = []
    for item in items:
        read = read_item(item)
        if read:
            parts += read
            ids.append(item.get("id"))
    return Message("assistant", tuple(parts), False, ProviderData(stamp.family, stamp.model, ids) if ids else None)


def partial_of(items: list[Item]) -> Message | None:
    """What an unfinished answer has said, or None for nothing. Its tool calls have no `arguments`."""
    parts: list[Part] = []
    for item in items:
        for part in read_item(item):
            match part:
                case Text() | Refusal() | Thinking() if part.text:
                    parts.append(type(part)(part.text))
                case ToolCall():
                    parts.append(ToolCall(part.id, part.name, None, part.raw))
                case _:
                    pass
    return Message("assistant", tuple(parts), True) if parts else None


def reply_of(response: Mapping[str, Any], items: list[Item], stamp: Stamp) -> ModelReply:
    """The reply that a response is, whose output is `items`.

    Raises:
        ProviderError: it failed or was cancelled; `partial` holds its output.
    """
    status = response.get("status")
    if status == "failed" or response.get("error"):
        raise failure(response.get("error"), partial_of(items))
    if status == "cancelled":
        raise StreamInterrupted("the response was cancelled at the provider", status=200, partial=partial_of(items))
    message = message_of(items, stamp)
    reason, raw = _stop_reason(response, message)
    usage = response.get("usage")
    return ModelReply(
        message,
        reason,
        make_usage(cast("dict[str, Any]", usage)) if isinstance(usage, dict) else None,
        _text(response.get("model")),
        _text(response.get("id")),
        raw,
        _text(response.get("service_tier")),
    )


def _stop_reason(response: Mapping[str, Any], message: Message) -> tuple[StopReason | None, str | None]:
    """Our word and the provider's. A response that is queued or in progress has not stopped."""
    status = _text(response.get("status"))
    if status == "incomplete":
        why = _text(as_item(response.get("incomplete_details")).get("reason"))
        return _INCOMPLETE.get(why or ""), why or status
    if status != "completed":
        return None, status
    return ("tool_calls" if message.tool_calls else "refusal" if message.refusal else "stop"), status


def make_usage(raw: dict[str, Any]) -> Usage:
    """Read a usage object."""
    read, written = raw.get("input_tokens_details"), raw.get("output_tokens_details")
    return Usage(
        _count(raw, "input_tokens"),
        _count(raw, "output_tokens"),
        _count(raw, "total_tokens"),
        _count(read, "cached_tokens"),
        _count(read, "cache_write_tokens"),
        _count(written, "reasoning_tokens"),
        raw,
    )


def failure(error: Any, partial: Message | None) -> ProviderError:
    """The typed error for the error object of a response that had begun with status 200."""
    if isinstance(error, str) and error:
        error = {"message": error}
    told = as_item(error)
    if not told.get("message"):
        told = {**told, "message": "the response failed, and the provider does not say why"}
    code = told.get("code")
    if isinstance(code, str) and code in _REQUEST_CODES:
        told = {**told, "status": 400}
    elif isinstance(code, str) and code in _POLICY_CODES:
        told = {**told, "innererror": {"code": "content_policy_violation"}}
    return make_error(told, status=200, headers=_NO_HEADERS, now=0.0, partial=partial)


def _count(holder: Any, key: str) -> int | None:
    value = as_item(holder).get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
