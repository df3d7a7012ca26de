"""A conversation as the input items of the Responses API. Pure.

Nothing is kept at the provider, so what it minted must come back as it was. Its rules, each of which ends a run with
status 400 when it is broken:

- a reasoning item must be followed by the item that came of it, and that item, where it is sent under its id, must have
  its reasoning before it: messages, function calls and the provider's own tools alike;
- reasoning that is not stored is known by its encrypted content (open models: by its text), never by its id;
- no id may occur twice;
- a call that the caller answers, of whatever kind, must be answered.

So a message of the assistant is written in one of two ways. If this family and model minted it, and every item of it is
still there and can be sent, its items go back unchanged, with their ids. Otherwise (another provider's, trimmed, cut
off, reasoning without its content) only what is neutral is sent, *without any id or reasoning*: text, refusals and
calls; where the family minted it also the ``phase`` of a message and a ``compaction``, which stands for what came
before it. Reasoning at the end, which a limit on tokens leaves there, has no item to go with and is left out.

Servers of this format differ in what they take for an assistant message without an id; all take bare text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, cast

from ..messages import (
    Document,
    Image,
    Message,
    Part,
    Refusal,
    ServerItem,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    attachment_line,
)
from ..openai_messages import call_text
from .responses_items import Item, Stamp, as_item, thought_of
from .rounds import fitting_name, matched

_fits = re.compile(r"[\x21-\x7e]{1,64}").fullmatch


def input_items(messages: Sequence[Message], stamp: Stamp) -> list[Item]:
    """The conversation as input items.

    Raises:
        ValueError: a message of the user holds what only a model can say.
    """
    messages = matched(messages, fits=_fits, make=_make_id, named=fitting_name)
    answered = _answered(messages, stamp)
    written: list[Item] = []
    used: set[str] = set()
    for message in messages:
        match message.role:
            case "system":
                if message.text:
                    written.append({"role": "system", "content": message.text})
            case "assistant":
                minted = _as_minted(message, stamp, answered, used)
                written += _neutral(message, stamp) if minted is None else minted
            case "user":
                written += _user_items(message, stamp)
            case "tool":
                for part in message.parts:
                    if isinstance(part, ToolResult):
                        output = _content([_readable(each) for each in part.parts]) if part.parts else part.content
                        written.append({"type": "function_call_output", "call_id": part.call_id, "output": output})
                    elif isinstance(part, ServerItem) and _is_own(message, stamp):
                        written.append(part.data)
    return written


def _make_id(number: int) -> str:
    return f"call_{number}"


def _is_own(message: Message, stamp: Stamp) -> bool:
    bag = message.provider_data
    return bag is not None and (bag.family, bag.model) == (stamp.family, stamp.model)


def _answered(messages: Sequence[Message], stamp: Stamp) -> set[str]:
    """The ids of calls and requests that the conversation answers."""
    found: set[str] = set()
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolResult):
                found.add(part.call_id)
            elif isinstance(part, ServerItem) and _is_own(message, stamp):
                identity = part.data.get("approval_request_id", part.data.get("call_id"))
                if not part.kind.endswith("_call") and isinstance(identity, str):
                    found.add(identity)
    return found


def _as_minted(message: Message, stamp: Stamp, answered: set[str], used: set[str]) -> list[Item] | None:
    """The items of a message as the provider made them, or None where they must not go back so."""
    bag = message.provider_data
    if bag is None or message.partial or not _is_own(message, stamp):
        return None
    items = _rebuilt(message.parts)
    ids = None if items is None else [item.get("id") for item in items]
    if items is None or ids != bag.items:
        return None
    while items and items[-1]["type"] == "reasoning":
        items.pop()
    named = [item["id"] for item in items if isinstance(item.get("id"), str)]
    if len({*named, *used}) < len(named) + len(used) or not all(_can_be_sent(item, answered) for item in items):
        return None
    used.update(named)
    return [_written(item) for item in items]


def _written(item: Item) -> Item:
    """The item without its nulls, which are refused; reasoning needs a summary, be it an empty one."""
    held = {key: value for key, value in item.items() if value is not None}
    return {"summary": [], **held} if item["type"] == "reasoning" else held


def _rebuilt(parts: Sequence[Part]) -> list[Item] | None:
    """The items that were read into these parts; None if parts are missing, edited or not of this family."""
    items: list[Item] = []
    left = 0  # pieces that the last message still lacks
    for part in parts:
        if isinstance(part, (Text, Refusal)):
            details = part.details or {}
            head, rest = details.get("item"), details.get("part")
            if not isinstance(head, dict) or not isinstance(rest, dict):
                return None
            if not left:
                items.append({"type": "message", "role": "assistant", **cast("Item", head), "content": []})
                left = details.get("of", 1)
            elif items[-1].get("id") != cast("Item", head).get("id"):
                return None
            items[-1]["content"].append({**_piece(part), **cast("Item", rest)})
            left -= 1
            continue
        if left:
            return None
        match part:
            case Thinking():
                item = {"type": "reasoning", **(part.details or {}), "encrypted_content": part.signature}
                if thought_of(item) != part.text:
                    return None
                items.append(item)
            case ToolCall():
                called = {"call_id": part.id, "name": part.name, "arguments": call_text(part)}
                items.append({"type": "function_call", **(part.details or {}), **called})
            case ServerItem():
                items.append({**part.data, "type": part.kind})
            case _:
                return None
    return None if left else items


def _can_be_sent(item: Item, answered: set[str]) -> bool:
    kind = item["type"]
    if kind == "reasoning":
        return bool(item.get("encrypted_content") or item.get("content"))
    if kind == "function_call":
        return True
    # What the caller must answer: a request for approval, and any call with an id of its own.
    asked = item.get("id") if kind == "mcp_approval_request" else item.get("call_id")
    return not isinstance(asked, str) or asked in answered or not kind.endswith(("_call", "_request"))


def _neutral(message: Message, stamp: Stamp) -> list[Item]:
    """What any model could have said, without ids."""
    own = _is_own(message, stamp)
    items: list[Item] = []
    said: list[Text | Refusal] = []
    for part in (*message.parts, None):
        if isinstance(part, (Text, Refusal)):
            if said and _phase(said[0], own) != _phase(part, own):
                items += _spoken(said, own)
                said = []
            said.append(part)
            continue
        if isinstance(part, (Thinking, Image, Document)):
            continue
        items += _spoken(said, own)
        said = []
        match part:
            case ToolCall():
                called = {"call_id": part.id, "name": part.name, "arguments": call_text(part)}
                items.append({"type": "function_call", **called})
            case ServerItem(kind="compaction") if own:
                items.append({"type": "compaction", **{k: v for k, v in part.data.items() if k not in ("type", "id")}})
            case _:
                pass
    return items


def _spoken(said: list[Text | Refusal], own: bool) -> list[Item]:
    """An assistant message of these texts; none for no text."""
    texts = [part for part in said if part.text]
    if not texts:
        return []
    content: Any = [_piece(part) for part in texts]
    if not any(isinstance(part, Refusal) for part in texts):
        content = "".join([part.text for part in texts])
    phase = _phase(texts[0], own)
    return [{"role": "assistant", "content": content, **({} if phase is None else {"phase": phase})}]


def _phase(part: Text | Refusal, own: bool) -> Any:
    return as_item(as_item(part.details).get("item")).get("phase") if own else None


def _piece(part: Text | Refusal) -> Item:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text}


def _user_items(message: Message, stamp: Stamp) -> list[Item]:
    """The user's message, and what it answers to the provider's own tools."""
    if len(message.parts) == 1 and isinstance(message.parts[0], Text):
        return [{"role": "user", "content": message.parts[0].text}]
    items: list[Item] = []
    content: list[Item] = []
    for part in message.parts:
        match part:
            case Text() | Image() | Document():
                content += _content([part])
            case ServerItem():
                if _is_own(message, stamp):
                    items.append(part.data)
            case _:
                raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")
    return [*items, {"role": "user", "content": content or ""}] if content or not items else items


def _readable(part: Text | Image | Document) -> Text | Image | Document:
    """The part, or a line that stands for a document of a kind that is not surely read: it would end the run."""
    if isinstance(part, Document) and part.data is not None:
        kind = part.media_type or ""
        return part if kind == "application/pdf" or kind.startswith("text/") else Text(attachment_line(part))
    return part


def _content(parts: Sequence[Text | Image | Document]) -> list[Item]:
    """The content of a message of the user, or of what a tool returned."""
    content: list[Item] = []
    for part in parts:
        match part:
            case Text():
                content.append({"type": "input_text", "text": part.text})
            case Image():
                content.append({"type": "input_image", "image_url": _source(part), "detail": part.detail or "auto"})
            case Document(url=None):
                name = part.name or "document"
                content.append({"type": "input_file", "filename": name, "file_data": _source(part)})
            case Document():
                content.append({"type": "input_file", "file_url": part.url})
    return content


def _source(part: Image | Document) -> str | None:
    if part.data is None:
        return part.url
    return f"data:{part.media_type or 'application/octet-stream'};base64,{base64.b64encode(part.data).decode()}"
