"""The JSON schema of a function's parameters, made fit for every provider. Pure.

msgspec writes the schema; what is done to it here makes servers accept it and models understand it. Objects are
closed, every array says what its items are, every list of alternatives of what type they are. Titles, which only repeat
the names, are gone. The documentation of a class goes to where it belongs: its text to the class, what it says of a
field to the property. Definitions that pydantic brought are put with the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast, get_origin

import docstring_parser
import msgspec

from .function_types import bounds_of, classes_of, described, foreign_schema, hints_of, is_foreign
from .schema_reading import parts_of

#: The keywords that a decoder may pass over in the types of a user, and with which they are found.
_CLOSING = ("properties", "additionalProperties", "items", "prefixItems", "$ref", "$defs", "anyOf", "allOf")
_BOUNDING = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)


_SCALARS = ["string", "number", "boolean", "null"]


def schema_of(struct: type[msgspec.Struct], sources: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the struct with the top object inline and no name of ours in it.

    Args:
        struct: holds the parameters.
        sources: their annotations, as the function has them.
    """
    kinds = [kind for source in sources.values() if not is_foreign(source) for kind in classes_of(source)]
    (top, *references), definitions = msgspec.json.schema_components((struct, *kinds), schema_hook=foreign_schema)
    schema: dict[str, Any] = definitions.pop(top["$ref"].rpartition("/")[2])
    schema.pop("description", None)
    for kind, reference in zip(kinds, references, strict=True):
        _document(kind, definitions[reference["$ref"].rpartition("/")[2]])
    for label in sources:
        _lift(schema["properties"], label, definitions)
    if definitions:
        schema["$defs"] = definitions
    for _, part in parts_of("#", schema):
        _tidy(part)
    return schema


def closer_of(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a schema that a decoder does not check in nested types, or None if there is none."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    nested = [*definitions.values(), *schema["properties"].values()]
    if not any("properties" in part for each in nested for _, part in parts_of("#", each)):
        return None
    return _closing(schema)


def _closing(schema: Any, *, alternative: bool = False) -> Any:
    """What of a schema concerns keys and bounds. Of an `alternative` it is kept what sort of value it is for."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, held in cast("dict[str, Any]", schema).items():
        if key in _BOUNDING:
            kept[key] = held
        elif key in ("type", "enum") and alternative:
            kept["type"] = held if held in ("object", "array") else _SCALARS
        elif key in ("properties", "$defs"):
            kept[key] = {name: _closing(part, alternative=key == "$defs") for name, part in held.items()}
        elif key == "prefixItems":
            kept[key] = [_closing(part) for part in held]
        elif key in ("anyOf", "allOf", "oneOf"):
            kept["anyOf" if key == "oneOf" else key] = [_closing(part, alternative=key != "allOf") for part in held]
        elif key in _CLOSING:
            kept[key] = _closing(held)
    return kept or True


def _document(kind: Any, schema: dict[str, Any]) -> None:
    """Give a class and its fields what the class's docstring and annotations say of them."""
    bare = get_origin(kind) or kind
    text = schema.pop("description", None)  # the whole docstring, where the class has one of its own
    doc = docstring_parser.parse(inspect.cleandoc(text or ""))
    short = "\n\n".join(each.strip() for each in (doc.short_description, doc.long_description) if each)
    if short:
        schema["description"] = short
    told = {each.arg_name: each.description for each in doc.params if each.description}
    properties: dict[str, Any] = schema.get("properties", {})
    for name, hint in hints_of(bare).items():
        if name not in properties:
            continue
        words = described(hint) or told.get(name)
        if words:
            properties[name].setdefault("description", " ".join(words.split()))
        properties[name].update(bounds_of(hint))


def _lift(properties: dict[str, Any], label: str, definitions: dict[str, Any]) -> None:
    """Put the definitions that are in one property with those of all."""
    own: dict[str, Any] = properties[label].pop("$defs", {})
    names = {name: name for name in own}
    for name in own:
        while names[name] in definitions and definitions[names[name]] != own[name]:
            names[name] += "_"
    definitions.update({names[name]: _renamed(part, names) for name, part in own.items()})
    properties[label] = _renamed(properties[label], names)


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        held = cast("dict[str, Any]", schema)
        made = {key: _renamed(part, names) for key, part in held.items()}
        reference = held.get("$ref")
        if isinstance(reference, str):
            name = reference.rpartition("/")[2]
            made["$ref"] = f"#/$defs/{names.get(name, name)}"
        return made
    return [_renamed(each, names) for each in cast("list[Any]", schema)] if isinstance(schema, list) else schema


def _tidy(part: dict[str, Any]) -> None:
    if isinstance(part.get("title"), str):
        del part["title"]
    if "enum" in part and "type" not in part:
        kinds = {_NAMES.get(type(value)) for value in cast("list[object]", part["enum"])}
        if len(kinds) == 1 and None not in kinds:
            part["type"] = kinds.pop()
    if "properties" in part and part.get("type") == "object":
        part.setdefault("additionalProperties", False)
    first: list[Any] = part.get("prefixItems", [])
    if first and part.get("items", False) is False and "maxItems" in part:
        # Some servers know nothing of places in an array: for them it says what the items are.
        plain = [{key: held for key, held in each.items() if key not in ("default", "description")} for each in first]
        distinct = [each for index, each in enumerate(plain) if each not in plain[:index]]
        part["items"] = {"anyOf": distinct} if len(distinct) > 1 else distinct[0]
        if len(distinct) == 1 and plain == first:
            del part["prefixItems"]
    elif part.get("type") == "array":
        part.setdefault("items", {})


_NAMES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
