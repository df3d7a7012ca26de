"""What a tool returned, as the model gets it: text, JSON, images and files. Pure.

A string goes as it is, anything else as JSON; what has no JSON form in it, as the text that Python has for it. Images
and documents are sent as such, alone or in a list with texts. Every result has a text as well, for a provider that
takes nothing else, for events and for logs: there a line stands for each image.

A result stays in the conversation and is sent with every later request. So what no request could carry is refused here,
where it costs one call, and not found out by a provider, where it would cost the conversation: bytes that are no text,
generators, an image without end. The bounds of images and files are those of the narrowest provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from math import isfinite, isnan
from typing import Any, TypeAlias, cast

import msgspec

from ..providers.messages import Document, Image, Text, ToolResult, attachment_line

ResultPart: TypeAlias = Text | Image | Document

#: Bytes of an image, bytes of a document, and how many of both one result may have.
MOST_IMAGE = 5_000_000
MOST_DOCUMENT = 20_000_000
MOST_PARTS = 20
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def make_result(call_id: str, name: str, value: Any, limit: int) -> ToolResult:
    """The result of a call that returned `value`, with at most `limit` characters of text.

    Raises:
        TypeError, ValueError: no model could be sent the value; the text says what to return instead.
    """
    if isinstance(value, str):
        return ToolResult(call_id, cut(value, limit), name)
    if isinstance(value, (Iterator, AsyncIterator)):
        raise TypeError(f"returned {_a(value)}: return a value or a list")
    if isinstance(value, (Text, Image, Document)):
        value = [value]
    if isinstance(value, (list, tuple)) and any(
        isinstance(each, (Text, Image, Document)) for each in cast("Sequence[Any]", value)
    ):
        return _with_parts(call_id, name, cast("Sequence[Any]", value), limit)
    return ToolResult(call_id, cut(as_text(value), limit), name)


def cut(text: str, limit: int) -> str:
    """`text`, at most `limit` characters of it, with a note of what is missing."""
    # What cannot be encoded (half a surrogate pair) must not reach a request body.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"{text[:limit]}\n[cut: {len(text) - limit} more characters]"


def as_text(value: Any) -> str:
    """A return value as text: a string and UTF-8 bytes as they are, anything else as JSON.

    Raises:
        TypeError: bytes that are no text, or an image where only a list may have one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(cast("bytes", value))
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise TypeError(
                f"returned {len(data)} bytes that are not text: return text, or image(data, media_type=…) or "
                "document(data, media_type=…)"
            ) from None
    return _written(value)


def _with_parts(call_id: str, name: str, values: Sequence[Any], limit: int) -> ToolResult:
    parts: list[ResultPart] = []
    lines: list[str] = []
    left = limit
    for value in values:
        if isinstance(value, (Image, Document)):
            _check_attachment(value)
            parts.append(value)
            lines.append(attachment_line(value))
            continue
        text = as_text(value.text if isinstance(value, Text) else value)
        lines.append(text)
        if text and left >= 0:
            parts.append(Text(cut(text, left)))
            left -= len(text)
    if len(parts) - sum(isinstance(part, Text) for part in parts) > MOST_PARTS:
        raise ValueError(f"returned {len(parts)} images and documents: return at most {MOST_PARTS}")
    return ToolResult(call_id, cut("\n".join(lines), limit), name, parts=tuple(parts))


def _check_attachment(part: Image | Document) -> None:
    kind = "an image" if isinstance(part, Image) else "a document"
    most = MOST_IMAGE if isinstance(part, Image) else MOST_DOCUMENT
    if part.data is None:
        if not part.url:
            raise ValueError(f"returned {kind} with neither data nor a URL: make it with image(…) or document(…)")
        return
    if not part.data or len(part.data) > most:
        raise ValueError(f"returned {kind} of {len(part.data)} bytes: return 1 to {most}")
    if isinstance(part, Image) and part.media_type not in IMAGES:
        raise ValueError(f"returned an image of type {part.media_type!r}: models take {', '.join(IMAGES)}")


class _AtTop(Exception):
    """The value itself has no JSON form, so it is shown as text and not as a JSON string."""


def _written(value: Any) -> str:
    """A return value as JSON; what has no JSON form in it, as the text that Python has for it."""

    def shown(member: Any) -> Any:
        dump: Any = getattr(member, "model_dump", None)
        if dump is not None and not isinstance(member, type):
            return dump(mode="json")
        if member is value:
            raise _AtTop
        return _text(member)

    try:
        encoded = msgspec.json.encode(value, enc_hook=shown)
        if b"null" in encoded:  # as which numbers that JSON does not have are written
            encoded = msgspec.json.encode(_with_numbers(msgspec.to_builtins(value, enc_hook=shown)))
    except Exception:
        return _text(value)
    if b'"type":"image"' in encoded or b'"type":"document"' in encoded:
        _refuse_parts(value)
    return encoded.decode()


def _refuse_parts(value: Any) -> None:
    """Refuse images inside of something, where they would be sent as text."""
    pending: list[Any] = [value]
    while pending:
        held = pending.pop()
        if isinstance(held, (Image, Document)):
            raise TypeError(
                f"returned {_a(value)} that holds an {type(held).__name__.lower()}: return it by itself, or in a list "
                "of texts and parts"
            )
        if isinstance(held, dict):
            pending += cast("dict[Any, Any]", held).values()
        elif isinstance(held, (list, tuple)):
            pending += cast("list[Any]", held)


def _with_numbers(value: Any) -> Any:
    """The value with NaN and the infinities as text."""
    if isinstance(value, float):
        return value if isfinite(value) else "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _with_numbers(held) for key, held in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_with_numbers(held) for held in cast("list[Any]", value)]
    return value


def _text(value: Any) -> str:
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception as error:
        return f"({_a(value)} that cannot be shown: {type(error).__name__})"


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
