"""The checks of values of Anthropic's Messages API, in its own words. Pure.

Each raises `Unacceptable` with the message of Anthropic's error object.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from typing import Any, cast


class Unacceptable(Exception):
    """A request that the endpoint answers with an error."""

    def __init__(self, message: str, kind: str = "invalid_request_error", status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def required(held: Mapping[str, Any], key: str, where: str = "") -> Any:
    if key not in held:
        raise Unacceptable(f"{_at(where, key)}: Field required")
    return held[key]


def only(held: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
    for key in held:
        if key not in known:
            raise Unacceptable(f"{_at(where, key)}: Extra inputs are not permitted")


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unacceptable(f"{where}: Input should be a valid dictionary")
    return cast("dict[str, Any]", value)


def array(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unacceptable(f"{where}: Input should be a valid list")
    return cast("list[Any]", value)


def string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Unacceptable(f"{where}: Input should be a valid string")
    return value


def flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise Unacceptable(f"{where}: Input should be a valid boolean")
    return value


def whole(value: Any, where: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unacceptable(f"{where}: Input should be a valid integer")
    if value < least:
        raise Unacceptable(f"{where}: Input should be greater than or equal to {least}")
    return value


def fraction(value: Any, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Unacceptable(f"{where}: Input should be a valid number")
    if value < 0:
        raise Unacceptable(f"{where}: Input should be greater than or equal to 0")
    if value > 1:
        raise Unacceptable(f"{where}: Input should be less than or equal to 1")
    return value


def one_of(value: Any, known: Collection[str], where: str) -> str:
    if isinstance(value, str) and value in known:
        return value
    listed = [f"'{word}'" for word in known]
    shown = " or ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else listed[0]
    raise Unacceptable(f"{where}: Input should be {shown}")


def tag(held: Mapping[str, Any], known: Collection[str], where: str) -> str:
    """The `type` of a tagged object."""
    kind = held.get("type")
    if kind is None:
        raise Unacceptable(f"{where}: Unable to extract tag using discriminator 'type'")
    if kind not in known:
        listed = ", ".join(f"'{word}'" for word in sorted(known))
        raise Unacceptable(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {listed}"
        )
    return cast("str", kind)


def matching(value: Any, pattern: str, where: str) -> str:
    if re.fullmatch(pattern, string(value, where)) is None:
        raise Unacceptable(f"{where}: String should match pattern '^{pattern}$'")
    return value


def base64_data(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(string(value, where), validate=True)
    except (binascii.Error, ValueError):
        raise Unacceptable(f"{where}: Invalid base64 data") from None


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
