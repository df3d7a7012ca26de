"""What a call of a server's tool has returned, as the value of a tool of ours. Pure.

Texts stay texts, images and files are passed on where models can be given such. What cannot be passed on is said in a
line: a result that loses something in silence would mislead the model. Where a server sends structured content and
nothing else, the model gets that as JSON; where it sends both, they are the same thing, and the text is shorter.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeAlias

import msgspec

from ...agents.tool_results import IMAGES, MOST_DOCUMENT, MOST_IMAGE, MOST_PARTS
from ...providers.messages import Document, Image

#: Texts and parts, as a tool may return them.
Value: TypeAlias = "str | list[str | Image | Document]"

_TEXTUAL = ("application/json", "application/xml", "application/yaml", "application/javascript")


def value_of(result: Any) -> Value:
    """What the tool returned: text, or a list of texts, images and documents."""
    parts = [_part(content) for content in result.content]
    if not parts and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    kept: list[str | Image | Document] = []
    attached = 0
    for part in parts:
        if not isinstance(part, str):
            attached += 1
            if attached > MOST_PARTS:
                continue
        kept.append(part)
    if attached > MOST_PARTS:
        kept.append(left_out(f"{attached - MOST_PARTS} more images and documents"))
    if not attached:
        return "\n".join([part for part in kept if isinstance(part, str)])
    return kept


def text_of(result: Any) -> str:
    """The same as text alone, for an error."""
    value = value_of(result)
    if isinstance(value, str):
        return value
    return "\n".join([part if isinstance(part, str) else _left_out(part) for part in value])


def _part(content: Any) -> str | Image | Document:
    match content.type:
        case "text":
            return content.text
        case "image":
            return _image(content.data, content.mime_type)
        case "audio":
            return _document(content.data, content.mime_type, None)
        case "resource_link":
            about = ", ".join(filter(None, (content.title or content.name, content.mime_type, content.description)))
            return f"[resource {content.uri}: {about}]"
        case _:
            return _resource(content.resource)


def _resource(resource: Any) -> str | Image | Document:
    kind = resource.mime_type or ""
    text = getattr(resource, "text", None)
    if text is not None:
        return f"[resource {resource.uri}]\n{text}"
    if kind.startswith("image/"):
        return _image(resource.blob, kind)
    if kind.startswith("text/") or kind in _TEXTUAL:
        data = _bytes(resource.blob)
        try:
            return f"[resource {resource.uri}]\n{data.decode()}" if data is not None else _no(resource.uri, kind)
        except UnicodeDecodeError:
            return _no(resource.uri, kind)
    name = str(resource.uri).rstrip("/").rpartition("/")[2][:200] or None
    return _document(resource.blob, kind or "application/octet-stream", name)


def _image(data: str, kind: str) -> str | Image:
    held = _bytes(data)
    kind = "image/jpeg" if kind == "image/jpg" else kind
    if not held or kind not in IMAGES or len(held) > MOST_IMAGE:
        return _no("an image", kind, held)
    return Image(data=held, media_type=kind)


def _document(data: str, kind: str, name: str | None) -> str | Document:
    held = _bytes(data)
    if not held or len(held) > MOST_DOCUMENT:
        return _no(name or "a file", kind, held)
    return Document(data=held, media_type=kind, name=name)


def _bytes(data: str) -> bytes | None:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return None


def _left_out(part: Image | Document) -> str:
    what = "an image" if isinstance(part, Image) else part.name or "a file"
    return _no(what, part.media_type or "", part.data)


def left_out(what: str) -> str:
    """The line for something that cannot be passed on."""
    return f"[left out: {what}]"


def _no(what: object, kind: str, data: bytes | None = None) -> str:
    size = "unreadable" if data is None else f"{len(data)} bytes"
    return left_out(f"{what}, {kind[:100] or 'of unknown type'}, {size}")
