"""HTML and SVG by construction: what is text is escaped, unless `tag` has made it.

A page is put together with `tag` alone. It returns `Markup`; every other string that it is given is text or the value
of an attribute, and cannot end the element that it stands in. So whatever a workload is called, and whatever a model or
a server has said, is shown and never obeyed. The output is well-formed XML and HTML at once, as far as elements and
attributes go.

Control characters and lone surrogates are no text for a browser: in their place stands U+FFFD.
"""

from __future__ import annotations

import re

#: What XML 1.0 has no place for; tab and line end are text.
_NO_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REFERENCES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
#: Elements of HTML that have no end tag.
_VOID = ("br", "hr", "meta")


class Markup(str):
    """Text that is markup already. Only `tag`, `join` and constants of ours make it."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """The text as markup that shows it; markup stays what it is."""
    if isinstance(text, Markup):
        return text
    return Markup(clean(text).translate(_REFERENCES))


def clean(text: str) -> str:
    """The text without what no document may hold."""
    return _NO_TEXT.sub("\ufffd", text)


def join(*parts: str, by: str = "") -> Markup:
    """The parts as one piece of markup."""
    return Markup(escape(by).join(map(escape, parts)))


def tag(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element with its children.

    Args:
        name: of the element, ours and never a reader's.
        children: markup as it is, and text, which is escaped.
        attributes: an underscore at the end is dropped (``class_``), one within is a hyphen. None and False leave the
            attribute out, True gives it no value of its own; a number is written with at most two decimals.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    if value is True:
        return f' {key}="{key}"'
    # An attribute's value is text, also when it was made of markup.
    text = clean(value).translate(_REFERENCES) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {key}="{text}"'
