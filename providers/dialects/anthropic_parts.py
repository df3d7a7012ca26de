"""Texts, pictures and documents as blocks of Anthropic's Messages API. Pure.

Pictures and PDFs go by URL or as base64, plain text as it is. Other kinds of documents the API does not read.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from ..messages import Document, Image, Part, Refusal, Text, attachment_line

_TEXTUAL = ("application/json", "application/xml", "application/yaml", "application/x-yaml", "application/javascript")


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user_block(part: Part) -> dict[str, Any] | None:
    """The block of a part of a user message; None for blank text, which the API refuses.

    Raises:
        ValueError: the part cannot stand in a user message, or is of a kind that the API does not read.
    """
    match part:
        case Text() | Refusal():
            return text_block(part.text) if part.text.strip() else None
        case Image():
            return {"type": "image", "source": _source(part, "image/png")}
        case Document():
            return _document_block(part)
        case _:
            raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")


def result_blocks(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The blocks of a tool's result. What the API does not read is named there."""
    blocks: list[dict[str, Any]] = []
    for part in parts:
        try:
            block = user_block(part)
        except ValueError:
            block = text_block(attachment_line(part)) if isinstance(part, Image | Document) else None
        if block is not None:
            blocks.append(block)
    return blocks


def _document_block(part: Document) -> dict[str, Any]:
    media_type = (part.media_type or "application/pdf").partition(";")[0].strip().lower()
    if part.url is None and media_type.startswith("image/"):
        return {"type": "image", "source": _source(Image(None, part.data, media_type), media_type)}
    source: dict[str, Any]
    if part.url is not None or media_type == "application/pdf":
        source = _source(part, "application/pdf")
    elif media_type.startswith("text/") or media_type in _TEXTUAL:
        try:
            text = (part.data or b"").decode()
        except UnicodeDecodeError:
            raise ValueError(f"a document of type {media_type} must be UTF-8 text") from None
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise ValueError(f"a document of type {media_type} cannot be sent to this provider: PDF and text can")
    block: dict[str, Any] = {"type": "document", "source": source}
    if part.name:
        block["title"] = part.name
    return block


def _source(part: Image | Document, usual: str) -> dict[str, Any]:
    if part.url is not None and part.url.startswith("data:"):
        head, _, payload = part.url[5:].partition(",")
        media_type, mark, _ = head.partition(";base64")
        if not mark:
            raise ValueError("a data URL must be base64, like data:image/png;base64,…")
        return {"type": "base64", "media_type": media_type or usual, "data": payload}
    if part.url is not None:
        return {"type": "url", "url": part.url}
    media_type = (part.media_type or usual).lower()
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(part.data or b"").decode()}
