"""How a JSON schema and a value are called in a message to a model. Pure.

A model mends what it is told: where it is, what is wanted there and what it had sent, in few words, for a message is
paid for with every later request. So everything quoted is clipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

#: Characters of a value, a name and a place that a message quotes.
VALUE: Final = 60
NAME: Final = 80
PLACE: Final = 200

_ARTICLES: Final = {
    "string": "a string",
    "boolean": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
    "number": "a number",
    "integer": "an integer",
}


def place(path: Sequence[str | int]) -> str:
    """The place in a value: ``$.stops[1].city``."""
    words = [f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{_json(step)}]" for step in path]
    return clipped(f"${''.join(words)}", PLACE)


def named(name: str) -> str:
    """A key, in quotation marks."""
    return f"'{clipped(name, NAME)}'"


def found(value: Any) -> str:
    """A value: its kind and as much of it as says something."""
    if isinstance(value, bool) or value is None:
        return _json(value)
    if isinstance(value, str):
        return f"a string ({clipped(_json(value), VALUE)})" if value else "an empty string"
    if isinstance(value, (int, float)):
        return f"{'an integer' if isinstance(value, int) else 'a number'} ({clipped(_json(value), VALUE)})"
    if isinstance(value, Mapping):
        return f"an object with {_keys(cast('Mapping[str, Any]', value))}" if value else "an empty object"
    if isinstance(value, Sequence):
        length = len(cast("Sequence[Any]", value))
        return f"an array of {length} item{'s' if length != 1 else ''}" if length else "an empty array"
    return f"a value of type {type(value).__name__}"


def expected(wanted: Any) -> str:
    """What a schema wants, or an empty text where it cannot be said in a few words."""
    if not isinstance(wanted, Mapping):
        return ""
    schema = cast("Mapping[str, Any]", wanted)
    if "const" in schema:
        return clipped(_json(schema["const"]), VALUE)
    if "enum" in schema:
        values = [clipped(_json(each), VALUE) for each in schema["enum"]]
        return f"one of {_listed(values)}" if len(values) > 1 else "".join(values)
    kinds: Any = schema.get("type")
    if kinds is not None:
        names = cast("list[str]", kinds if isinstance(kinds, list) else [kinds])
        return _or([_ARTICLES.get(name, name) for name in names])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [expected(part) for part in schema[key]]
            return _or(list(dict.fromkeys(parts))) if parts and all(parts) else ""
    reference = schema.get("$ref")
    return str(reference).rpartition("/")[2] if isinstance(reference, str) and reference != "#" else ""


def clipped(text: str, length: int) -> str:
    """The text, at most `length` characters of it and a sign that more was there."""
    return text if len(text) <= length else f"{text[:length]}…"


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value[: 2 * PLACE] if isinstance(value, str) else value).decode()
    except Exception:
        return repr(value)[: 2 * PLACE]


def _keys(value: Mapping[str, Any]) -> str:
    names = [named(key) for key in list(value)[:4]]
    return f"{', '.join(names)}{' …' if len(value) > 4 else ''}"


def _listed(values: Sequence[str]) -> str:
    return f"{', '.join(values[:20])}{' …' if len(values) > 20 else ''}"


def _or(names: Sequence[str]) -> str:
    head = ", ".join(names[:-1])
    return clipped(f"{head} or {names[-1]}" if head else names[-1], PLACE)
