"""A conversation as Bedrock's Converse accepts it. Pure.

What Converse refuses, and what is done about it:

- Turns must alternate and begin with the user's: neighbours of one role are joined. Newer models of Anthropic's want
  the user's last too; they are asked to continue.
- Blank text: it is left out; where nothing else is left, and in a result, a placeholder says so.
- The results of a turn must be exactly its calls, in the message behind it, each id once in the conversation and of a
  few characters: `rounds` sees to that.
- A document's name may hold few characters and be used once; a document wants text beside it.
- A thought without its signature, or of another model than Claude or the one that is asked: it is left out. So is a
  thought that an answer was cut in, since no message may end with one, and a call of Bedrock's own tools without its
  result.
- Images and documents by URL, except from S3. What a tool returned beside text is in its result for the models that
  take it there; for others a line of the text stands for it.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from ..messages import Document, Image, Message, Refusal, ServerItem, Text, Thinking, ToolCall, ToolResult
from ..openai_messages import call_text
from .anthropic_models import abilities
from .bedrock_blocks import FAMILY
from .rounds import NOTHING, Round, fitting_name, rounds

_decode = msgspec.json.Decoder().decode
_READ = "Read the document."
_GO_ON = "Continue."
#: What is in the names of the models whose tool results may hold images and documents.
_SEEING = ("anthropic.", "amazon.nova")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    f"{_OFFICE}wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_LONGEST_NAME = 200


def write_messages(messages: Sequence[Message], model: str) -> list[dict[str, Any]]:
    """The messages for `model`, without those of the system.

    Raises:
        ValueError: a message holds something that this format cannot carry.
    """
    written: list[dict[str, Any]] = []
    names: set[str] = set()
    for each in rounds(messages):
        if each.message.role == "user":
            _add(written, "user", _user(each.message, names))
        elif each.message.role == "assistant":
            _add(written, "assistant", _assistant(each, model))
            _add(written, "user", [_result(answer.id, answer.result, model, names) for answer in each.answers])
    if not written or written[0]["role"] == "assistant":
        written.insert(0, {"role": "user", "content": [{"text": NOTHING}]})
    if written[-1]["role"] == "assistant" and "anthropic." in model and not abilities(model).prefill:
        written.append({"role": "user", "content": [{"text": _GO_ON}]})
    return written


def _add(written: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if not blocks:
        return
    if written and written[-1]["role"] == role:
        written[-1]["content"] += blocks
    else:
        written.append({"role": role, "content": blocks})


def _result(identity: str, result: ToolResult, model: str, names: set[str]) -> dict[str, Any]:
    text = result.content if result.content.strip() else NOTHING
    content: list[dict[str, Any]] = [{"text": text}]
    for part in result.attachments if any(maker in model for maker in _SEEING) else ():
        try:
            content.append(_attachment(part, names))
        except ValueError:
            pass  # the text has a line for it
    block: dict[str, Any] = {"toolUseId": identity, "content": content}
    if result.is_error:
        block["status"] = "error"  # said only where it is needed: not every model knows the field
    return {"toolResult": block}


def _assistant(each: Round, model: str) -> list[dict[str, Any]]:
    message = each.message
    stamp = message.provider_data
    own = stamp is not None and stamp.family == FAMILY
    thinks = own and stamp is not None and _same_thinker(stamp.model, model)
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text(details={"citationsContent": cited}) if own:
                blocks.append({"citationsContent": cited})
            case Text() | Refusal():
                if part.text.strip():
                    blocks.append({"text": part.text})
            case Thinking():
                if thinks and part.signature is not None:
                    thought = {"text": part.text, "signature": part.signature}
                    blocks.append({"reasoningContent": {"reasoningText": thought}})
            case ToolCall():
                use = {"toolUseId": part.id, "name": fitting_name(part.name), "input": _decode(call_text(part))}
                blocks.append({"toolUse": use})
            case ServerItem():
                if own and (thinks or "reasoningContent" not in part.data) and not _unanswered(part, message):
                    blocks.append(part.data)
            case _:
                pass  # pictures that another provider's model made: no answer can hold them here
    while blocks and "reasoningContent" in blocks[-1]:
        blocks.pop()
    return blocks


def _same_thinker(minted: str | None, model: str) -> bool:
    """Whether thoughts of one model are for the other: all of Claude's read each other's signatures."""
    return minted == model or (minted is not None and "anthropic." in minted and "anthropic." in model)


def _unanswered(item: ServerItem, message: Message) -> bool:
    """Whether an answer was cut between a call of Bedrock's own tool and its result."""
    if not message.partial or item.kind != "toolUse":
        return False
    results = [_use_id(other.data.get("toolResult")) for other in message.server_items if other.kind == "toolResult"]
    return _use_id(item.data.get("toolUse")) not in results


def _use_id(block: Any) -> Any:
    return cast("dict[str, Any]", block).get("toolUseId") if isinstance(block, dict) else None


def _user(message: Message, names: set[str]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text():
                if part.text.strip():
                    blocks.append({"text": part.text})
            case Image() | Document():
                blocks.append(_attachment(part, names))
            case _:
                raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")
    if any("document" in block for block in blocks) and not any("text" in block for block in blocks):
        blocks.append({"text": _READ})
    return blocks or [{"text": NOTHING}]


def _attachment(part: Image | Document, names: set[str]) -> dict[str, Any]:
    if isinstance(part, Document):
        return {"document": _document(part, names)}
    kind = _IMAGES.get(_media_type(part))
    if kind is None and part.url is not None:
        kind = _IMAGES.get(f"image/{part.url.rpartition('.')[2].lower()}")
    if kind is None:
        raise ValueError(
            f"Bedrock takes images as PNG, JPEG, GIF or WebP, not {part.media_type or 'an unknown type'}: "
            "give media_type="
        )
    return {"image": {"format": kind, "source": _source(part)}}


def _document(part: Document, names: set[str]) -> dict[str, Any]:
    kind = _DOCUMENTS.get(_media_type(part))
    if kind is None:
        ending = (part.name or part.url or "").rpartition(".")[2].lower()
        kind = ending if ending in _DOCUMENTS.values() else None
    if kind is None:
        raise ValueError(
            f"Bedrock takes documents as {', '.join(_DOCUMENTS.values())}, not "
            f"{part.media_type or 'an unknown type'}: give media_type="
        )
    return {"format": kind, "name": document_name(part.name, names), "source": _source(part)}


def document_name(name: str | None, taken: set[str]) -> str:
    """A name of allowed characters that no document before has: letters, digits, single spaces, ``-()[]``."""
    base = re.sub(r"[^a-zA-Z0-9\s()\[\]-]", "-", name or "")
    base = " ".join(base.split())[:_LONGEST_NAME].strip() or "document"
    made, number = base, 1
    while made in taken:
        number += 1
        suffix = f" ({number})"
        made = base[: _LONGEST_NAME - len(suffix)].rstrip() + suffix
    taken.add(made)
    return made


def _media_type(part: Image | Document) -> str:
    return (part.media_type or "").partition(";")[0].strip().lower()


def _source(part: Image | Document) -> dict[str, Any]:
    if part.data is not None:
        return {"bytes": base64.b64encode(part.data).decode()}
    if part.url is not None and part.url.startswith("s3://"):
        return {"s3Location": {"uri": part.url}}
    what = type(part).__name__.lower()
    raise ValueError(
        f"Bedrock fetches no {what} by URL, except from s3://: read it yourself and give {what}(data, media_type=…)"
    )
