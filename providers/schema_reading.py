"""A JSON schema that somebody else wrote: looked at once, before any value is checked with it. Pure.

What `json_schema.check` could not do is refused here, when somebody can still mend the schema: references to other
documents, dynamic references, ``unevaluated…``, patterns that Python does not know, keywords of a wrong shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

Schema: TypeAlias = "dict[str, Any] | bool"

_REFUSED = ("$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems")
_TYPES = ("string", "boolean", "null", "array", "object", "number", "integer")
_ONE = ("not", "if", "then", "else", "contains", "propertyNames", "additionalProperties", "additionalItems")
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def read_schema(schema: Any) -> dict[str, Any]:
    """A copy of the schema of an object, after a look at all of it.

    Raises:
        TypeError: it is no dictionary that JSON can hold.
        ValueError: it is not the schema of an object, or holds something that cannot be checked.
    """
    if not isinstance(schema, Mapping):
        raise TypeError(f"a JSON schema is a dictionary, not {schema!r}")
    try:
        top = cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(schema)))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the JSON schema holds something that JSON does not have: {error}") from None
    if top.setdefault("type", "object") != "object":
        raise ValueError(f"the JSON schema must be that of an object, with 'type': 'object', not {top['type']!r}")
    properties = top.setdefault("properties", {})
    if not isinstance(properties, dict):
        raise ValueError("the JSON schema's 'properties' must be a dictionary of schemas")
    for where, part in parts_of("#", top):
        _look_at(top, where, part)
    return top


def resolve(top: Mapping[str, Any], reference: str) -> Schema:
    """What a reference inside the schema points at.

    Raises:
        ValueError: it points at nothing, or out of the schema.
    """
    if reference == "#":
        return cast("dict[str, Any]", top)
    if not reference.startswith("#/"):
        raise ValueError(f"the reference {reference!r} leads out of the JSON schema: put what it means under '$defs'")
    node: Any = top
    for word in reference[2:].split("/"):
        word = word.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and word in node:
            node = cast("dict[str, Any]", node)[word]
        elif isinstance(node, list) and word.isdecimal() and int(word) < len(cast("list[Any]", node)):
            node = cast("list[Any]", node)[int(word)]
        else:
            raise ValueError(f"the reference {reference!r} points at nothing in the JSON schema")
    if not isinstance(node, dict | bool):
        raise ValueError(f"the reference {reference!r} does not point at a schema")
    return cast("Schema", node)


def _follow(top: dict[str, Any], schema: Schema) -> None:
    """Refuse references that only lead to each other."""
    seen: set[str] = set()
    while isinstance(schema, dict) and "$ref" in schema:
        if schema["$ref"] in seen:
            raise ValueError(f"the reference {schema['$ref']!r} of the JSON schema leads back to itself")
        seen.add(schema["$ref"])
        schema = resolve(top, schema["$ref"])


def parts_of(where: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its place."""
    pending: list[tuple[str, Any]] = [(where, schema)]
    while pending:
        where, node = pending.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise ValueError(f"{where} of the JSON schema must be a schema, not {node!r:.100}")
        held = cast("dict[str, Any]", node)
        yield where, held
        pending += [(f"{where}/{key}", held[key]) for key in _ONE if key in held]
        items = held.get("items", True)
        several = [(key, held[key]) for key in _SEVERAL if key in held]
        if isinstance(items, list):
            several.append(("items", cast("list[Any]", items)))
        else:
            pending.append((f"{where}/items", items))
        for key, parts in several:
            if not isinstance(parts, list) or not parts:
                raise ValueError(f"{where}/{key} of the JSON schema must be a list of schemas")
            pending += [(f"{where}/{key}/{index}", part) for index, part in enumerate(cast("list[Any]", parts))]
        for key in _NAMED:
            parts = held.get(key, {})
            if not isinstance(parts, dict):
                raise ValueError(f"{where}/{key} of the JSON schema must be a dictionary of schemas")
            pending += [(f"{where}/{key}/{name}", part) for name, part in cast("dict[str, Any]", parts).items()]


def _look_at(top: dict[str, Any], where: str, schema: dict[str, Any]) -> None:
    """Refuse what could not be checked, at the time when somebody can mend it."""
    for key in _REFUSED:
        if key in schema:
            raise ValueError(f"{where} of the JSON schema has {key!r}, which cannot be checked here: write it out")
    kinds: Any = schema.get("type", [])
    for kind in cast("list[Any]", kinds) if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            raise ValueError(f"{where} of the JSON schema has the type {kind!r}; the types are {', '.join(_TYPES)}")
    if "$ref" in schema:
        if not isinstance(schema["$ref"], str):
            raise ValueError(f"{where} of the JSON schema has a reference that is no text")
        _follow(top, schema)
    for key, kind, words in _SHAPES:
        if key in schema and (not isinstance(schema[key], kind) or isinstance(schema[key], bool)):
            raise ValueError(f"{where}/{key} of the JSON schema must be {words}, not {schema[key]!r:.100}")
    for pattern in (*([schema["pattern"]] if "pattern" in schema else ()), *schema.get("patternProperties", {})):
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"{where} of the JSON schema has a pattern that Python does not know: {pattern!r}: {error}"
            ) from None


_SHAPES: Final = (
    *((key, (int, float), "a number") for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
    ("multipleOf", (int, float), "a number above 0"),
    *((f"{end}{noun}", int, "a whole number") for end in ("min", "max") for noun in ("Length", "Items", "Properties")),
    *((key, int, "a whole number") for key in ("minContains", "maxContains")),
    *((key, list, "a list") for key in ("required", "enum")),
    *((key, dict, "a dictionary") for key in ("dependentRequired",)),
    ("pattern", str, "text"),
)
