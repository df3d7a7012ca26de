"""What Google says when a Gemini call fails. Pure.

``{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": …, "details": [{"retryDelay": "30s", …}]}}``, or an
array that holds one such object, with a status of failure or inside an answer with status 200. Two things hide under
400: a wrong key (its reason is in `details`) and a conversation that is too long (its message says so).

https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..errors import ProviderError
from ..messages import Message
from ..openai_messages import UNDECODABLE
from .wire_errors import error_object, excerpt, make_error

_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_KEY_REASONS = {"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED"}
_OVERFLOW = re.compile(
    r"input token count.*(exceeds the maximum|only supports up to)|exceeds the maximum number of (input )?tokens",
    re.IGNORECASE | re.DOTALL,
)
_NO_HEADERS: Mapping[str, str] = {}


def read_error(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
    """Read a response with a status of failure.

    Args:
        status: the HTTP status.
        headers: with lower-case names.
        body: as received; JSON, HTML or anything.
        now: wall-clock seconds since 1970, for a Retry-After date in a response without a Date.
    """
    error = _found(body)
    return _made({"message": excerpt(body)} if error is None else error, status, headers, now, None)


def answered_error(body: bytes, *, partial: Message | None = None) -> ProviderError | None:
    """The error that a body with status 200 holds, or None when it holds none."""
    error = _found(body)
    return None if error is None else _made(error, 200, _NO_HEADERS, 0.0, partial)


def _found(body: bytes) -> Mapping[str, Any] | None:
    try:
        parsed: Any = msgspec.json.decode(body)
    except UNDECODABLE:
        return None
    if isinstance(parsed, list):
        # In an array of chunks the error is the last one.
        parsed = next((each for each in reversed(cast("list[Any]", parsed)) if error_object(each) is not None), None)
    return error_object(parsed)


def _made(
    error: Mapping[str, Any], status: int, headers: Mapping[str, str], now: float, partial: Message | None
) -> ProviderError:
    word = error.get("status")
    told: dict[str, Any] = dict(error)
    if isinstance(word, str):
        told["type"] = word
        told.setdefault("status_code", _STATUSES.get(word))
    reasons = {_reason(detail) for detail in _details(error)}
    message = error.get("message")
    # The reader of errors knows these by the words that other vendors have for them.
    if reasons & _KEY_REASONS:
        told["innererror"] = {"code": "invalid_api_key"}
    elif isinstance(message, str) and _OVERFLOW.search(message):
        told["innererror"] = {"code": "context_length_exceeded"}
    made = make_error(told, status=status, headers=headers, now=now, partial=partial)
    if word == "CANCELLED":
        made.retryable = True  # by the provider: a client that cancels reads no answer
    return made


def _details(error: Mapping[str, Any]) -> list[Any]:
    details = error.get("details")
    return cast("list[Any]", details) if isinstance(details, list) else []


def _reason(detail: Any) -> str | None:
    reason = cast("dict[str, Any]", detail).get("reason") if isinstance(detail, dict) else None
    return reason if isinstance(reason, str) else None
