"""What a server says of its tools, in our terms. Pure.

A server is not always careful, and it may lie. So names become such as providers take, descriptions and schemas are
bounded, and what a tool is said to do (`readOnlyHint` and the like) decides only what is asked and repeated, never what
is allowed.

A schema has two uses: the model reads it, and arguments are checked with it before they are sent. For the check, what
another language means by a pattern is left out, and so is what needs the whole of JSON Schema: the server checks
anyway. A schema that is none at all would have the model's provider refuse every request; such a tool takes any object,
and its description says what the server has said. So it does where a schema begins with a choice, which providers do
not take there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, cast

import msgspec

from ...providers import json_schema
from ...providers.schema_reading import read_schema
from .incoming import SCHEMA_AS_SAID

#: Characters of a description, and of a schema that is told as text. What is longer is cut.
MOST_DESCRIPTION = 4_000
#: Bytes of a schema. What is longer is no schema for a model.
MOST_SCHEMA = 50_000

_LEFT_OUT = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "format")
_LITERAL = ("enum", "const", "default", "examples", "required")
#: What providers do not take at the top of a schema.
_CHOICES = ("anyOf", "oneOf", "allOf", "not", "enum", "const", "if", "then", "else")


class Offer(msgspec.Struct, frozen=True):
    """A tool as a server offers it, made fit.

    Attributes:
        name: what the server calls it.
        label: what the model calls it.
        description: what the model is told.
        shown: the schema that the model is told.
        checked: the schema that arguments are checked with.
        output: the schema that structured results are checked with; None for no check.
        repeatable: whether a call may be made again when nobody knows what has become of it.
        risk: what the server says of it; None where it says nothing.
        doubt: what is wrong with its schema; None for nothing.
    """

    name: str
    label: str
    description: str
    shown: dict[str, Any]
    checked: dict[str, Any]
    output: dict[str, Any] | None = None
    repeatable: bool = False
    risk: Literal["low", "high"] | None = None
    doubt: str | None = None


def choose(listed: Iterable[Any], only: Collection[str] | None, exclude: Collection[str]) -> list[Any]:
    """Those of a server's tools that are wanted, each name once.

    What can be called as a long-running task alone is left out: nobody here could call it.
    """
    chosen: dict[str, Any] = {}
    for tool in listed:
        is_task = tool.execution is not None and tool.execution.task_support == "required"
        if tool.name not in exclude and (only is None or tool.name in only) and not is_task:
            chosen.setdefault(tool.name, tool)
    return list(chosen.values())


def offers(tools: Iterable[Any], prefix: str) -> list[Offer]:
    """A server's tools in our terms, with labels that are all different."""
    made: list[Offer] = []
    labels: set[str] = set()
    for tool in tools:
        label = _label(prefix, tool.name, labels)
        labels.add(label)
        made.append(_offer(tool, label))
    return made


def _label(prefix: str, name: str, taken: Collection[str]) -> str:
    """A name that every provider takes and no other tool has; the server's own where that is one."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", prefix + name) or "tool"
    label = plain[:64]
    number = 2
    while label in taken:
        end = f"_{number}"
        label = plain[: 64 - len(end)] + end
        number += 1
    return label


def _offer(tool: Any, label: str) -> Offer:
    hints = tool.annotations
    title = tool.title or (hints.title if hints is not None else None)
    description = _cut(tool.description or title or "", MOST_DESCRIPTION)
    reads = bool(hints is not None and hints.read_only_hint)
    destroys = not reads and bool(hints is not None and hints.destructive_hint)
    repeatable = reads or bool(hints is not None and hints.idempotent_hint)
    risk: Literal["low", "high"] | None = "low" if reads else "high" if destroys else None
    shown = {key: value for key, value in tool.input_schema.items() if key != "$schema"}
    output = _checkable_output(tool.output_schema)
    try:
        if SCHEMA_AS_SAID in shown:
            shown = shown[SCHEMA_AS_SAID]
            raise ValueError("its JSON schema is none of an object")
        checked = read_schema(_lenient(shown))
        size = len(msgspec.json.encode(shown))
        if size > MOST_SCHEMA:
            raise ValueError(f"the JSON schema has {size} bytes, and at most {MOST_SCHEMA} are of use")
    except (TypeError, ValueError, RecursionError) as error:
        free: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}
        told = _told(description, shown)
        doubt = str(error) or type(error).__name__
        return Offer(tool.name, label, told, free, free, output, repeatable, risk, doubt)
    if not shown.keys().isdisjoint(_CHOICES):
        description = _told(description, shown)
        shown = {key: value for key, value in shown.items() if key not in _CHOICES}
    shown = {"type": "object", "properties": dict[str, Any](), **shown}
    return Offer(tool.name, label, description, shown, checked, output, repeatable, risk)


def _told(description: str, schema: Any) -> str:
    return f"{description}\n\nIts arguments, as JSON schema: {_written(schema)}".strip()


def _lenient(schema: Any, depth: int = 0) -> Any:
    """The schema without what is checked by the server alone."""
    if depth > 100:
        raise RecursionError("the JSON schema is nested too deeply")
    if isinstance(schema, list):
        return [_lenient(each, depth + 1) for each in cast("list[Any]", schema)]
    if not isinstance(schema, Mapping):
        return schema
    schema = cast("Mapping[str, Any]", schema)
    open_ended = "patternProperties" in schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _LEFT_OUT or (open_ended and key == "additionalProperties"):
            continue
        if key in ("properties", "$defs", "definitions", "dependentSchemas") and isinstance(value, Mapping):
            named = cast("Mapping[str, Any]", value)
            kept[key] = {name: _lenient(part, depth + 1) for name, part in named.items()}
        else:
            kept[key] = value if key in _LITERAL else _lenient(value, depth + 1)
    return kept


def _checkable_output(schema: Any) -> dict[str, Any] | None:
    if schema is None:
        return None
    try:
        return read_schema(_lenient(schema))
    except (TypeError, ValueError, RecursionError):
        return None


def mistakes_of(offer: Offer, structured: Any) -> list[str]:
    """What of a structured result is not as the server has said."""
    if offer.output is None:
        return []
    try:
        return json_schema.check(offer.output, structured)
    except RecursionError:
        return ["it is nested too deeply"]


def _written(schema: Any) -> str:
    try:
        return _cut(msgspec.json.encode(schema).decode(), MOST_DESCRIPTION)
    except (TypeError, ValueError, RecursionError):
        return "(none that JSON can hold)"


def _cut(text: str, most: int) -> str:
    text = text.encode("utf-8", "replace").decode().strip()
    return text if len(text) <= most else f"{text[:most]} …"
