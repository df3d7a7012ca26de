"""A JSON schema as Anthropic's structured outputs take it. Pure.

The API refuses a request whose schema goes beyond its rules: every object must be closed, bounds on numbers, lengths
and counts are unknown to it, and no definition may contain itself. So objects are closed that did not say (this only
narrows what the model may answer), "one of" becomes "any of", and bounds become words of the description (the caller
checks the answer against the whole schema anyway). What cannot be put so is None; the schema is then asked for in
words. So is an object that names no properties and is open: closed, it could only be empty.

The rules: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

#: Keys whose values are schemas by name, schemas in a list, and single schemas.
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items",)
_BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
    *("minProperties", "maxProperties", "propertyNames", "examples"),
)
_UNKNOWN = ("not", "if", "patternProperties", "dependentSchemas", "unevaluatedProperties", "dependentRequired")
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
_DEEPEST = 100


def fitted_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema within the API's rules, or None when it cannot be put so. The argument is not changed."""
    try:
        fitted = _fitted(schema, 0)
    except _Unfit:
        return None
    return None if _contains_itself(schema) else fitted


class _Unfit(Exception):
    """The schema says something that the API has no way to say."""


def _fitted(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise _Unfit
    node = cast("dict[str, Any]", schema)
    if any(key in node for key in _UNKNOWN):
        raise _Unfit
    made: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    for key, value in node.items():
        if key in _NAMED and isinstance(value, dict):
            made[key] = {name: _fitted(held, depth + 1) for name, held in cast("dict[str, Any]", value).items()}
        elif key in _LISTED and isinstance(value, list):
            made["anyOf" if key == "oneOf" else key] = [_fitted(held, depth + 1) for held in cast("list[Any]", value)]
        elif key in _SINGLE:
            made[key] = _fitted(value, depth + 1)
        elif (
            key in _BOUNDS or (key == "minItems" and value not in (0, 1)) or (key == "format" and value not in _FORMATS)
        ):
            bounds[key] = value
        elif key == "discriminator":
            continue  # a hint of OpenAPI's; what is not known is refused
        elif key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise _Unfit
        else:
            made[key] = value
    kinds: Any = node.get("type")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in node:
        if node.get("additionalProperties", "properties" not in node) is not False:
            raise _Unfit
        made["additionalProperties"] = False
    if bounds:
        told = msgspec.json.encode(bounds).decode()
        said = made.get("description")
        made["description"] = f"{said} {told}" if isinstance(said, str) and said else told
    return made


def _contains_itself(schema: dict[str, Any]) -> bool:
    """Whether following its references inside `schema` leads back to where one began."""
    uses: dict[str, set[str]] = {"#": _references(schema, outside=True)}
    for place in ("$defs", "definitions"):
        held: Any = schema.get(place)
        if isinstance(held, dict):
            for name, node in cast("dict[str, Any]", held).items():
                uses[f"#/{place}/{name}"] = _references(node, outside=False)
    left = dict(uses)
    while left:
        ends = [name for name, targets in left.items() if not targets & left.keys()]
        if not ends:
            return True
        for name in ends:
            del left[name]
    return False


def _references(node: Any, *, outside: bool) -> set[str]:
    """The targets of all references in `node`; `outside` leaves its own definitions out."""
    found: set[str] = set()
    waiting: list[Any] = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += cast("list[Any]", here)
        elif isinstance(here, dict):
            mapping = cast("dict[str, Any]", here)
            target = mapping.get("$ref")
            if isinstance(target, str):
                found.add(target)
            waiting += [
                value
                for key, value in mapping.items()
                if not (outside and here is node and key in ("$defs", "definitions"))
            ]
    return found
