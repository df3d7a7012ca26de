"""Reading a request's body: bounded in bytes and in time, and of the type that was asked for."""

from __future__ import annotations

import re
from math import nan
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.requests import Request

from .problems import Problem

T = TypeVar("T")

#: Seconds that a body may take to arrive.
BODY_TIMEOUT = 30.0
JSON_TYPES = ("application/json",)
#: Levels of lists and objects in each other: what is read here has to be readable wherever it is written, too, and how
#: deep that may be depends on how much is on the stack.
DEEPEST = 64
#: Bytes beyond the bound that are read and thrown away: a client that is still sending would not see our answer.
DISCARDED = 8_388_608


async def read_body(request: Request, bound: int) -> bytes:
    """The body.

    Raises:
        Problem: it is larger than `bound` bytes, takes too long, or its client has gone.
    """
    said = request.headers.get("content-length", "")
    length = int(said) if said.isdecimal() and len(said) < 20 else 0
    if length > bound + DISCARDED or (length > bound and "expect" in request.headers):
        raise _too_large(bound)
    pieces: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_TIMEOUT):
            more = True
            while more and size <= bound + DISCARDED:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise Problem(400, "invalid_request", "the client went away before its body had arrived")
                piece: bytes = message.get("body", b"")
                size += len(piece)
                if size <= bound:
                    pieces.append(piece)
                else:
                    pieces.clear()
                more = message.get("more_body", False)
    except TimeoutError:
        raise Problem(408, "timeout", f"the body did not arrive within {BODY_TIMEOUT:g} seconds") from None
    if size > bound:
        raise _too_large(bound)
    return b"".join(pieces)


async def read_json(request: Request, type: type[T], bound: int, *, optional: bool = False) -> T:
    """The body as a record.

    Args:
        request: whose body it is.
        type: of the record.
        bound: in bytes.
        optional: whether an empty body is a record of defaults.

    Raises:
        Problem: no JSON (400, 415), too large (413), or not of that type (422, which names the field).
    """
    kind = request.headers.get("content-type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "unsupported_media_type", "send the body as it is, without a coding", "Content-Encoding")
    body = await read_body(request, bound)
    if optional and not body:
        return type()
    if kind is None or kind.partition(";")[0].strip().lower() not in JSON_TYPES:
        raise Problem(415, "unsupported_media_type", "send the body as application/json", "Content-Type")
    return decode(body, type)


def decode(body: bytes, type: type[T]) -> T:
    """JSON as a record.

    Raises:
        Problem: it is none.
    """
    try:
        record = msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        raise Problem(422, "invalid_request", message, _param(message, place)) from None
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Problem(400, "invalid_request", f"the body is not valid JSON: {error}") from None
    if is_deeper(body, DEEPEST):
        raise _too_deep()
    return record


_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def is_deeper(body: bytes, levels: int) -> bool:
    """Whether JSON, which has to be valid, has more than so many lists and objects in each other."""
    if body.count(b"[") + body.count(b"{") <= levels:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_ALIKE, _NO_BRACKETS)
    for _ in range(levels):  # what is innermost goes
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _too_deep() -> Problem:
    said = f"the body has lists and objects in each other, more than {DEEPEST} levels deep"
    return Problem(400, "invalid_request", said)


def _param(message: str, place: str) -> str | None:
    """The field that an error of msgspec speaks of: ``$.limits.turns`` as ``limits.turns``."""
    name = place.strip("`").removeprefix("$").removeprefix(".")
    quoted = message.split("`")
    if "field" in message and len(quoted) > 2 and "fields" not in message:
        name = f"{name}.{quoted[1]}" if name else quoted[1]
    return name or None


def _too_large(bound: int) -> Problem:
    return Problem(
        413,
        "too_large",
        f"a body has at most {bound:,} bytes: Service(max_body=…) says how many",
        headers={"Connection": "close"},
    )


def one_of(value: str | None, name: str, words: tuple[Any, ...]) -> Any:
    """A word of a query, which must be one of these; None if it is not given."""
    if value is not None and value not in words:
        raise Problem(422, "invalid_request", f"{name}= is one of {', '.join(map(str, words))}", name)
    return value


def whole(value: str | None, name: str, default: int, least: int, most: int) -> int:
    """A whole number of a query."""
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 17) or not least <= int(value) <= most:
        raise Problem(422, "invalid_request", f"{name}= is a whole number from {least} to {most:,}", name)
    return int(value)


def seconds(value: str | None, name: str, most: float) -> float:
    """A length of time of a query, 0 if it is not given."""
    if value is None:
        return 0.0
    try:
        number = float(value) if re.fullmatch(r"[0-9.eE+-]{1,31}", value) else nan  # float reads more: 1_0, ٣
    except ValueError:
        number = nan
    if not 0 <= number <= most:
        raise Problem(422, "invalid_request", f"{name}= is a number of seconds from 0 to {most:g}", name)
    return number
