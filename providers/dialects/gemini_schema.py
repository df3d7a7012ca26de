"""JSON schemas as Gemini reads them. Pure.

``parametersJsonSchema`` and ``responseJsonSchema`` take JSON Schema with references, definitions and closed objects; so
a schema goes as it is, but for two things that the API does not know and that can be said otherwise without a change of
meaning: ``const`` is an ``enum`` of one, and a reference with something beside it is an ``anyOf`` of one reference.

https://ai.google.dev/api/generate-content#FIELDS.response_json_schema
"""

from __future__ import annotations

from typing import Any, cast

_NAMED = {"properties", "$defs", "definitions", "patternProperties"}  # names to schemas
_LISTED = {"anyOf", "oneOf", "allOf", "prefixItems"}
_SINGLE = {"items", "additionalProperties", "not"}


def readable(schema: Any) -> Any:
    """The schema in the words that Gemini knows; what is given stays unchanged."""
    if not isinstance(schema, dict):
        return schema
    node = cast("dict[str, Any]", schema)
    written: dict[str, Any] = {}
    for key, value in node.items():
        if key in _NAMED and isinstance(value, dict):
            written[key] = {name: readable(each) for name, each in cast("dict[str, Any]", value).items()}
        elif key in _LISTED and isinstance(value, list):
            written[key] = [readable(each) for each in cast("list[Any]", value)]
        elif key in _SINGLE:
            written[key] = readable(value)
        elif key == "const":
            written["enum"] = [value]
        else:
            written[key] = value
    if "$ref" in written and any(not key.startswith("$") for key in written):
        reference = {"$ref": written.pop("$ref")}
        if "anyOf" not in written:
            written["anyOf"] = [reference]
        else:
            written["allOf"] = [reference, {"anyOf": written.pop("anyOf")}, *written.get("allOf", [])]
    return written
