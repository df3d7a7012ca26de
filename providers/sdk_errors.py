"""What somebody else's blocking client raises, as one of our errors. Pure.

Clients differ, and none of them is known here: an error is read by what most of them have, a status and headers, on it
or on its ``response``; without a status, by the names of its classes. What tells neither is `SdkFailed`: the call may
have been carried out, so it is not made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .dialects.wire_errors import MAX_EXCERPT, make_error
from .errors import ConnectionFailed, ProviderError, RateLimited, SdkFailed, Stalled, StreamInterrupted

#: Words in the name of a class, and what it is; the first that is found counts.
_NAMES: tuple[tuple[str, type[ProviderError]], ...] = (
    ("ratelimit", RateLimited),
    ("toomanyrequests", RateLimited),
    ("throttl", RateLimited),
    ("resourceexhausted", RateLimited),
    ("connecttimeout", ConnectionFailed),
    ("connecterror", ConnectionFailed),
    ("connectionrefused", ConnectionFailed),
    ("newconnection", ConnectionFailed),
    ("endpointconnection", ConnectionFailed),
    ("gaierror", ConnectionFailed),
    ("timeout", Stalled),
    ("timedout", Stalled),
    ("connectionerror", StreamInterrupted),
    ("connectionreset", StreamInterrupted),
    ("connectionaborted", StreamInterrupted),
    ("disconnected", StreamInterrupted),
    ("incompleteread", StreamInterrupted),
    ("chunkedencoding", StreamInterrupted),
    ("protocolerror", StreamInterrupted),
    ("readerror", StreamInterrupted),
)
_STATUSES = ("status_code", "http_status", "status", "code", "HTTPStatusCode")


def sdk_error(error: Exception, provider: str, *, now: float) -> ProviderError:
    """Our error for that of a client; raise it ``from`` the client's.

    Args:
        error: as it was raised.
        provider: the name of the provider that has called the client.
        now: wall-clock seconds since 1970, for a Retry-After date in a response without a Date.
    """
    message = _message(error)
    response = _held(error, "response")
    # What boto3 has for a response is a dictionary, and what matters is one level down.
    places = [error, response, _held(response, "ResponseMetadata")]
    status = next((found for place in places if (found := _status(place)) is not None), None)
    if status is None:
        made = _by_name(type(error), message)
    else:
        headers = next((found for place in places if (found := _headers(place))), dict[str, str]())
        code = _held(error, "code") or _held(_held(response, "Error"), "Code")
        told = {"message": message, "code": code if isinstance(code, str) else None, "type": type(error).__name__}
        made = make_error(told, status=status, headers=headers, now=now)
    made.provider = provider
    return made


def _by_name(kind: type, message: str) -> ProviderError:
    for name in (each.__name__.lower() for each in kind.__mro__):
        if "ssl" in name or "certificate" in name:
            return ConnectionFailed(message, retryable=False)
        for word, ours in _NAMES:
            if word in name:
                return ours(message)
    return SdkFailed(message)


def _message(error: Exception) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = text if len(text) <= MAX_EXCERPT else text[:MAX_EXCERPT] + "…"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _status(place: Any) -> int | None:
    for name in _STATUSES:
        value = _held(place, name)
        if isinstance(value, int) and 400 <= value < 600:
            return int(value)
    return None


def _headers(place: Any) -> dict[str, str]:
    """The headers that it holds, with names in lower case."""
    held = _held(place, "headers") or _held(place, "HTTPHeaders")
    try:
        items = cast("Mapping[Any, Any]", held).items() if held is not None else ()
        return {str(name).lower(): str(value) for name, value in items}
    except Exception:
        return {}


def _held(place: Any, name: str) -> Any:
    """An attribute or a key, or None; an attribute of a stranger may raise anything."""
    try:
        return cast("Mapping[str, Any]", place).get(name) if isinstance(place, Mapping) else getattr(place, name, None)
    except Exception:
        return None
