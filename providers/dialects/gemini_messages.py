"""A conversation as Gemini's ``contents``. Pure.

Gemini knows two roles and is strict about their order. What is done for it:

- **System messages**, wherever they stand, go into ``systemInstruction``; there is no such role in between.
- **A turn of the model** is one content: neighbouring assistant messages are joined, since a call must follow on a user
  or on results. A conversation never begins with the model.
- **Results** of one turn are one content, in the order of the calls, exactly one for each (`rounds` sees to that). An
  id is sent only where the model gave it; without, the order tells.
- **Images and documents** that a tool returned are in its result where the model takes them there, which the newer ones
  do, or else in a content behind it.
- **Empty** text and empty contents are refused, so they are left out, or are a word where something must stand.
- **What a message holds for its provider alone** (signatures, thoughts, items of its own tools) goes back to the family
  and the model that minted it, in its place. A signature of another model is refused.
- **Calls that have no signature** although the model wants one (they come from elsewhere) carry the documented marker,
  where it is checked: on the first call of each step of the current turn, which begins with the last words of the user.

https://ai.google.dev/gemini-api/docs/thought-signatures
https://ai.google.dev/gemini-api/docs/function-calling
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from ..messages import Document, Image, Message, Refusal, ServerItem, Text, Thinking, ToolCall
from .attachments import results_apart
from .rounds import NOTHING, Answered, fitting_name, rounds

_IN_RESPONSES = ("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain")
#: Says that a call was not made by this model.
FOREIGN_SIGNATURE = "skip_thought_signature_validator"

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "json": "application/json",
    "xml": "text/xml",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}


def system_parts(instructions: str | None, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The parts of ``systemInstruction``: the instructions, then what system messages say."""
    texts = [instructions, *(message.text for message in messages if message.role == "system")]
    return [{"text": text} for text in texts if text]


def contents(messages: Sequence[Message], *, family: str, model: str, signed: bool) -> list[dict[str, Any]]:
    """The conversation without its system messages.

    Args:
        messages: the conversation.
        family, model: whose signatures and items may be opened.
        signed: whether the model wants signatures on calls.

    Raises:
        ValueError: a message holds a part that its role cannot have.
    """
    written: list[dict[str, Any]] = []
    turn = 0  # where the contents of the current turn begin
    talk = [message for message in messages if message.role != "system"]
    for each in rounds(results_apart(talk, lambda part: _is_known(part) and not (signed and _fits_response(part)))):
        if each.message.role == "user":
            written.append({"role": "user", "parts": _user_parts(each.message)})
            turn = len(written)
            continue
        own = _is_own(each.message, family, model)
        parts = _model_parts(each.message, own)
        if parts and written and written[-1]["role"] == "model":
            written[-1]["parts"] += parts
        elif parts:
            written.append({"role": "model", "parts": parts})
        if each.answers:
            written.append({"role": "user", "parts": [_response(answer, own, signed) for answer in each.answers]})
    if signed:
        _mark_foreign(written[turn:])
    if not written or written[0]["role"] == "model":
        written.insert(0, {"role": "user", "parts": [{"text": NOTHING}]})
    return written


def _is_own(message: Message, family: str, model: str) -> bool:
    stamp = message.provider_data
    return stamp is not None and stamp.family == family and stamp.model == model and not message.partial


def _model_parts(message: Message, own: bool) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case ToolCall():
                parts.append(_call(part, own))
            case Text() | Refusal():
                signature = _signature(part.details) if own else {}
                if part.text or signature:
                    parts.append({"text": part.text, **signature})
            case Thinking() if own:
                signature = {"thoughtSignature": part.signature} if part.signature else {}
                parts.append({"text": part.text, "thought": True, **signature})
            case ServerItem() if own:
                parts.append(part.data)
            case Image() | Document():
                parts.append(_media(part))
            case _:
                pass  # thoughts and items of another provider
    return parts


def _call(call: ToolCall, own: bool) -> dict[str, Any]:
    arguments = call.arguments if call.arguments is not None else {"invalid_arguments": call.raw}
    function = {"name": _name(call), "args": arguments, **_id(call, own)}
    return {"functionCall": function, **(_signature(call.details) if own else {})}


def _response(answer: Answered, own: bool, with_media: bool) -> dict[str, Any]:
    result = answer.result
    response: dict[str, Any] = {"error" if result.is_error else "output": result.content}
    media = [_media(part) for part in result.attachments if with_media and _fits_response(part)]
    held = {"name": _name(answer.call), "response": response, **_id(answer.call, own)}
    return {"functionResponse": {**held, "parts": media} if media else held}


def _is_known(part: Image | Document) -> bool:
    """Whether the model reads such a thing; of what lies behind a URL that is not told here."""
    return part.data is None or part.media_type in _MEDIA_TYPES.values()


def _fits_response(part: Image | Document) -> bool:
    """Whether the result of a function may hold it. Models before those that sign their calls take none."""
    return part.data is not None and part.media_type in _IN_RESPONSES


def _signature(details: dict[str, Any] | None) -> dict[str, Any]:
    signature = (details or {}).get("thoughtSignature")
    return {} if signature is None else {"thoughtSignature": signature}


def _id(call: ToolCall, own: bool) -> dict[str, Any]:
    given = (call.details or {}).get("id") if own else None
    return {} if given is None else {"id": given}


def _name(call: ToolCall) -> str:
    return call.name if _NAME.fullmatch(call.name) else fitting_name(call.name)


def _user_parts(message: Message) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text():
                if part.text:
                    parts.append({"text": part.text})
            case Image() | Document():
                parts.append(_media(part))
            case _:
                raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")
    return parts or [{"text": NOTHING}]


def _media(part: Image | Document) -> dict[str, Any]:
    if part.data is not None:
        kind = part.media_type or "application/octet-stream"
        return {"inlineData": {"mimeType": kind, "data": base64.b64encode(part.data).decode()}}
    url = part.url
    if not url:
        raise ValueError(f"{type(part).__name__} has neither a url nor data")
    head, comma, payload = url[5:].partition(",") if url.startswith("data:") else ("", "", "")
    if comma and head.endswith(";base64"):
        return {"inlineData": {"mimeType": head.removesuffix(";base64") or "text/plain", "data": payload}}
    ending = url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    kind = part.media_type or _MEDIA_TYPES.get(ending)
    return {"fileData": {"fileUri": url, **({} if kind is None else {"mimeType": kind})}}


def _mark_foreign(steps: Sequence[dict[str, Any]]) -> None:
    """Put the marker on the first call of each step that brings no signature."""
    for content in steps:
        call = next((part for part in content["parts"] if "functionCall" in part), None)
        if call is not None and "thoughtSignature" not in call:
            call["thoughtSignature"] = FOREIGN_SIGNATURE
