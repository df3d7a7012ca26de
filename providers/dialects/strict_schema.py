"""Whether a JSON schema obeys the rules of OpenAI's strict mode as it is. Pure.

Strict mode knows a part of JSON schema: closed objects whose properties are all required, and a list of keywords. A
schema with anything else is refused when it is called strict; so only a schema that surely fits is, and none is ever
rewritten. A keyword that is not in the list counts as unknown, although the API may learn it.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from typing import Any, cast

_KEYWORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs"),
    *("title", "description", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minItems", "maxItems", "pattern", "format"),
}
_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
_MAX_DEPTH = 10


def obeys_strict_rules(schema: dict[str, Any]) -> bool:
    """Whether the schema of an object may be called strict."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    left: list[tuple[Any, int]] = [(schema, 0)]
    while left:
        node, depth = left.pop()
        if not isinstance(node, dict) or depth > _MAX_DEPTH or not _fits(cast("dict[str, Any]", node)):
            return False
        held = cast("dict[str, Any]", node)
        nested: list[Any] = [held["items"]] if "items" in held else []
        for key in ("properties", "$defs"):
            nested += cast("dict[str, Any]", held.get(key, {})).values()
        left += [(each, depth + 1) for each in (*nested, *cast("list[Any]", held.get("anyOf", ())))]
    return True


def _fits(node: dict[str, Any]) -> bool:
    """Whether one schema fits, without those in it; what holds those is of the right type then."""
    if not _KEYWORDS.issuperset(node):
        return False
    if "$ref" in node:
        return len(node) == 1  # nothing may stand beside a reference
    kinds: Any = node.get("type", [])
    types = cast("list[Any]", kinds) if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in types):
        return False
    if not types and not any(key in node for key in ("anyOf", "enum", "const")):
        return False
    if not isinstance(node.get("properties", {}), dict) or not isinstance(node.get("$defs", {}), dict):
        return False
    if not isinstance(node.get("anyOf", []), list) or ("array" in types and "items" not in node):
        return False
    if "object" in types or "properties" in node:
        required: Any = node.get("required", [])
        names = cast("list[Any]", required) if isinstance(required, list) else [None]
        if node.get("additionalProperties") is not False or not all(isinstance(name, str) for name in names):
            return False
        if "properties" not in node or set(names) != set(cast("dict[str, Any]", node["properties"])):
            return False
    pattern: Any = node.get("pattern", "")
    kind: Any = node.get("format", "date")
    return isinstance(pattern, str) and "(?" not in pattern and isinstance(kind, str) and kind in _FORMATS
