"""The neutral conversation: what every provider's wire format is read into and written from.

A message is a role and a tuple of typed parts. What a provider needs back unchanged travels with the message: the
signature of a thought and the id of an item as `details` of their part, an item that means nothing to anybody else as a
`ServerItem`, and what concerns the whole message in `provider_data`. That field is the stamp for all of them: it names
the family that minted the message, and only a dialect of the same family may open any of these.

Nothing here knows a wire format, a client or an actor. All records are frozen and encode to JSON or MessagePack with
msgspec, tagged by `type`, so that a journal can keep them. What encodes so holds no cycle: the cyclic collector, which
walks through everything that is alive, need not know them (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Text(msgspec.Struct, frozen=True, gc=False, tag="text", omit_defaults=True):
    """Plain text. `details` is what the message's family wants back with it."""

    text: str
    details: dict[str, Any] | None = None


class Thinking(msgspec.Struct, frozen=True, gc=False, tag="thinking", omit_defaults=True):
    """Reasoning that the provider made visible.

    `signature` is the provider's proof of it, `details` what else the message's family wants back, both unchanged.
    """

    text: str
    signature: str | None = None
    details: dict[str, Any] | None = None


class Refusal(msgspec.Struct, frozen=True, gc=False, tag="refusal", omit_defaults=True):
    """The model's stated refusal, where the provider has a field for it."""

    text: str
    details: dict[str, Any] | None = None


class Image(msgspec.Struct, frozen=True, gc=False, tag="image", omit_defaults=True):
    """An image, by `url` or as `data` with its `media_type` (for example ``image/png``)."""

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class Document(msgspec.Struct, frozen=True, gc=False, tag="document", omit_defaults=True):
    """A file for the model to read, by `url` or as `data` with its `media_type` (for example ``application/pdf``)."""

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None
    name: str | None = None


class ToolCall(msgspec.Struct, frozen=True, gc=False, tag="tool_call", omit_defaults=True):
    """A tool that the model wants run.

    `raw` is the argument text as the provider sent it; `arguments` is that text parsed, or None when it is not a JSON
    object: such a call is answered with an error and never runs a tool. `id` is None where the provider gave none.
    `details` is what the message's family wants back with it.
    """

    id: str | None
    name: str
    arguments: dict[str, Any] | None
    raw: str = ""
    details: dict[str, Any] | None = None


class ToolResult(msgspec.Struct, frozen=True, gc=False, tag="tool_result", omit_defaults=True):
    """The one answer to one tool call.

    `cause` says why there is no ordinary result (``failed``, ``cancelled``, ``timed_out``, ``denied``, ``invalid``,
    ``unknown_tool``, ``outcome_unknown``); it is None for a tool that returned, and ``accepted`` for the call of an
    output tool that was the answer. `is_error` is what the provider is told.

    `content` is the whole answer as text. Where images or documents are part of it, `parts` is the same answer with
    them, for a provider that takes them in a result; in `content` a line stands for each.
    """

    call_id: str
    content: str
    name: str | None = None
    is_error: bool = False
    cause: str | None = None
    parts: tuple[Text | Image | Document, ...] | None = None

    @property
    def attachments(self) -> tuple[Image | Document, ...]:
        """The images and documents of the answer."""
        return tuple([part for part in self.parts or () if not isinstance(part, Text)])


class ServerItem(msgspec.Struct, frozen=True, gc=False, tag="server_item", omit_defaults=True):
    """Something that the provider said or did and that has no meaning elsewhere, kept as it came.

    For example a search that its own tool made, that tool's result, hidden reasoning. `kind` is the provider's word for
    it, `data` the item. It goes back in its place, to the family that minted the message and to nobody else.
    """

    kind: str
    data: dict[str, Any]


Part: TypeAlias = Text | Thinking | Refusal | Image | Document | ToolCall | ToolResult | ServerItem


class ProviderData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The stamp of a message: `family` and `model` minted it. `items` is what they want back for the whole of it.

    Only a dialect of `family` may open `items`, the `details` of the parts and the `ServerItem`s.
    """

    family: str
    model: str | None = None
    items: Any = None


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One message of a conversation.

    `partial` marks an assistant message whose stream ended before the model had finished.
    """

    role: Role
    parts: tuple[Part, ...]
    partial: bool = False
    provider_data: ProviderData | None = None

    @property
    def text(self) -> str:
        """All text of the message, concatenated with nothing between the parts. Thinking and refusals are not in it."""
        return "".join([part.text for part in self.parts if type(part) is Text])

    @property
    def thinking(self) -> str | None:
        """The visible reasoning, or None when the provider showed none."""
        thoughts = [part.text for part in self.parts if type(part) is Thinking]
        return "".join(thoughts) if thoughts else None

    @property
    def refusal(self) -> str | None:
        """The refusal text, or None."""
        refusals = [part.text for part in self.parts if type(part) is Refusal]
        return "".join(refusals) if refusals else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in the order in which the model made them."""
        return tuple([part for part in self.parts if type(part) is ToolCall])

    @property
    def server_items(self) -> tuple[ServerItem, ...]:
        """What the provider's own tools did, and what else means something to the provider only."""
        return tuple([part for part in self.parts if type(part) is ServerItem])

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """The tool results in a message of role ``tool``."""
        return tuple([part for part in self.parts if type(part) is ToolResult])


def attachment_line(part: Image | Document) -> str:
    """What stands for an image or a document where only text can be."""
    kind = type(part).__name__.lower()
    name = f" {part.name!r}" if isinstance(part, Document) and part.name else ""
    if part.data is not None:
        return f"[{kind}{name}: {part.media_type or 'of unknown type'}, {len(part.data)} bytes]"
    where = part.url or "empty"
    return f"[{kind}{name}: {where if len(where) <= 200 and not where.startswith('data:') else 'by its URL'}]"


def plain_text(value: Any, what: str) -> str:
    """The text itself, for a subclass of str (as template libraries make) as well.

    Raises:
        TypeError: it is no text.
        ValueError: it holds half a surrogate pair, which no request can carry.
    """
    if type(value) is not str:
        if not isinstance(value, str):
            raise TypeError(f"{what} must be a string, not {kind_of(value)}")
        value = str.__str__(value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} is not valid Unicode: half a surrogate pair at position {error.start}") from None
    return value


def kind_of(value: Any) -> str:
    """How a message about a wrong value calls it."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _optional_text(value: Any, what: str) -> str | None:
    return None if value is None else plain_text(value, what)


def _parts(content: Sequence[Any], who: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    for item in content:
        if isinstance(item, str):
            parts.append(Text(plain_text(item, f"the text of {who}()")))
        elif isinstance(item, _PARTS):
            parts.append(cast("Part", item))
        else:
            raise TypeError(f"{who}() takes texts and parts made by image() and document(), not {kind_of(item)}")
    return tuple(parts)


_PARTS: tuple[type, ...] = get_args(Part)


def system(text: str) -> Message:
    """A system message."""
    return Message("system", (Text(plain_text(text, "the text of system()")),))


def user(*content: str | Part) -> Message:
    """A user message: texts, and parts made by `image` and `document`."""
    return Message("user", _parts(content, "user"))


def assistant(*content: str | Part, tool_calls: Sequence[ToolCall] = ()) -> Message:
    """A message of the model, for examples and for conversations kept elsewhere."""
    wrong: Any = next((item for item in tool_calls if not isinstance(item, ToolCall)), tool_calls)  # pyright: ignore[reportUnnecessaryIsInstance]
    if wrong is not tool_calls:
        raise TypeError(f"assistant(tool_calls=) takes ToolCalls, not {kind_of(wrong)}")
    return Message("assistant", (*_parts(content, "assistant"), *tool_calls))


def tool_result(
    call_id: str, content: str, *, name: str | None = None, is_error: bool = False, cause: str | None = None
) -> Message:
    """The answer to the tool call with this id."""
    identity = plain_text(call_id, "the call_id of tool_result()")
    text = plain_text(content, "the content of tool_result()")
    label, why = _optional_text(name, "the name of tool_result()"), _optional_text(cause, "the cause of tool_result()")
    return Message("tool", (ToolResult(identity, text, label, bool(is_error), why),))


def image(
    source: str | bytes, *, media_type: str | None = None, detail: Literal["auto", "low", "high"] | None = None
) -> Image:
    """An image part, from a URL or from bytes (which need their `media_type`).

    Raises:
        TypeError: it is neither.
        ValueError: it is empty, or bytes without a `media_type`.
    """
    if detail not in (None, "auto", "low", "high"):
        raise ValueError(f"image(detail=) must be 'auto', 'low' or 'high', not {detail!r}")
    url, data, kind = _source("image", source, media_type, "image/png")
    return Image(url, data, kind, detail)


def document(source: str | bytes, *, media_type: str | None = None, name: str | None = None) -> Document:
    """A document part, from a URL or from bytes (which need their `media_type`).

    Raises:
        TypeError: it is neither.
        ValueError: it is empty, or bytes without a `media_type`.
    """
    url, data, kind = _source("document", source, media_type, "application/pdf")
    return Document(url, data, kind, _optional_text(name, "the name of document()"))


def _source(who: str, source: Any, media_type: Any, example: str) -> tuple[str | None, bytes | None, str | None]:
    """URL, data and media type of an image or a document."""
    kind = _optional_text(media_type, f"the media_type of {who}()")
    if not isinstance(source, (str, bytes, bytearray, memoryview)):
        remedy = ""
        if isinstance(source, PurePath):
            remedy = f"; read the file: {who}(path.read_bytes(), media_type={example!r})"
        raise TypeError(f"{who}() takes a URL or bytes, not {kind_of(source)}{remedy}")
    if not source:
        raise ValueError(f"{who}() takes a URL or bytes, and this is empty")
    if isinstance(source, str):
        return plain_text(source, f"the URL of {who}()"), None, kind
    if kind is None:
        article = "an" if who == "image" else "a"
        raise ValueError(f"{article} {who} given as bytes needs media_type=, for example media_type={example!r}")
    return None, bytes(cast("bytes", source)), kind
