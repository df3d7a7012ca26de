"""The checks of values that OpenAI's endpoints share, in their own words. Pure.

Each raises `Unacceptable` with the message, the parameter and the code of OpenAI's error object.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import msgspec

_KINDS = {
    "dict": "an object",
    "list": "an array",
    "str": "a string",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a decimal",
    "NoneType": "null",
}
_UNKNOWN_TO_STRICT = {
    *("oneOf", "allOf", "not", "if", "then", "else", "prefixItems", "uniqueItems", "contains", "default"),
    *("patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"),
    *("minLength", "maxLength", "dependentRequired", "dependentSchemas", "discriminator"),
}
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_MAX_NAME = 64


class Unacceptable(Exception):
    """A request that the endpoint answers with an error."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


def required(held: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in held:
        raise Unacceptable(
            f"Missing required parameter: '{where}.{key}'.", f"{where}.{key}", "missing_required_parameter"
        )
    return held[key]


def only(held: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in held:
        if key not in known:
            raise Unacceptable(f"Unknown parameter: '{where}.{key}'.", f"{where}.{key}", "unknown_parameter")


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(where, "an object", value)
    return cast("dict[str, Any]", value)


def array(held: Mapping[str, Any], key: str, where: str) -> list[Any]:
    if key not in held:
        raise Unacceptable(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    value = held[key]
    if not isinstance(value, list):
        raise wrong_type(where, "an array of objects", value)
    if not value:
        raise Unacceptable(
            f"Invalid '{where}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            where,
            "empty_array",
        )
    return cast("list[Any]", value)


def string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(where, "a string", value)
    return value


def one_of(where: str, value: Any, known: Sequence[str]) -> str:
    if value in known:
        return cast("str", value)
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    listed = ", ".join(f"'{word}'" for word in known[:-1])
    listed = f"{listed}, and '{known[-1]}'" if listed else f"'{known[-1]}'"
    raise Unacceptable(f"Invalid value: '{shown}'. Supported values are: {listed}.", where, "invalid_value")


def function_name(function: Mapping[str, Any], where: str) -> str:
    name = string(required(function, "name", where), f"{where}.name")
    if len(name) > _MAX_NAME:
        raise too_long(f"{where}.name", _MAX_NAME, name)
    if _NAME.fullmatch(name) is None:
        raise Unacceptable(
            f"Invalid '{where}.name': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            f"{where}.name",
            "invalid_value",
        )
    return name


def too_long(where: str, limit: int, value: str) -> Unacceptable:
    return Unacceptable(
        f"Invalid '{where}': string too long. Expected a string with maximum length {limit}, but got a string with "
        f"length {len(value)} instead.",
        where,
        "string_above_max_length",
    )


def wrong_type(where: str, wanted: str, value: Any) -> Unacceptable:
    got = _KINDS[type(value).__name__]
    return Unacceptable(f"Invalid type for '{where}': expected {wanted}, but got {got} instead.", where, "invalid_type")


def check_strict(schema: Any, what: str, param: str, code: str | None, context: tuple[str, ...]) -> None:
    if isinstance(schema, list):
        for item in cast("list[Any]", schema):
            check_strict(item, what, param, code, context)
        return
    if not isinstance(schema, dict):
        return
    node = cast("dict[str, Any]", schema)
    place = f"Invalid schema for {what}: In context={context!r}"
    if node.get("type") == "object":
        if node.get("additionalProperties") is not False:
            raise Unacceptable(
                f"{place}, 'additionalProperties' is required to be supplied and to be false.", param, code
            )
        missing = [key for key in node.get("properties", {}) if key not in node.get("required", ())]
        if missing:
            raise Unacceptable(
                f"{place}, 'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{missing[0]}'.",
                param,
                code,
            )
    for key, value in node.items():
        if key in _UNKNOWN_TO_STRICT:
            raise Unacceptable(f"{place}, '{key}' is not permitted.", param, code)
        if key in ("properties", "$defs"):
            for name, inner in cast("dict[str, Any]", value).items():
                check_strict(inner, what, param, code, (*context, key, name))
        elif key not in ("enum", "const", "required"):
            check_strict(value, what, param, code, (*context, key))
