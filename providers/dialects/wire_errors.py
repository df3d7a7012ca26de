"""What an OpenAI-style error body says: a status, some headers and some bytes become one `ProviderError`. Pure.

Three sources are read, in this order: the error object (its code and type), the status, and the words of the
message, for servers that put everything under 400. The same reader serves an error inside a body or a stream
with status 200. Retry-After is taken in seconds, in milliseconds, as a date (against the response's own Date
header, so that a skewed clock here does no harm) and from the body; a time that has passed is zero and a
malformed one is not a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, TypeGuard

import msgspec

from ..errors import (
    AuthError,
    ContentFiltered,
    ContextOverflow,
    InvalidRequest,
    Overloaded,
    ProviderError,
    RateLimited,
)
from ..openai_messages import UNDECODABLE

MAX_EXCERPT = 300
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-goog-request-id", "cf-ray")
_OVERFLOW_CODES = {"context_length_exceeded", "string_above_max_length", "context_window_exceeded"}
_OVERFLOW = re.compile(
    r"maximum context length|context length exceeded|exceeds? (the )?(model'?s )?(maximum )?context|"
    r"context window|prompt is too long|too many (input )?tokens|input is too long|"
    r"(reduce|shorten) the length of (the |your )?(messages|prompt|input|either)|exceeds the available context size",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"request too large for .*\blimit \d+, requested \d+", re.IGNORECASE | re.DOTALL)
_FILTER_CODES = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}
_FLAGGED = re.compile(r"\b(?:was|been) flagged\b|\bmoderation\b", re.IGNORECASE)
_AUTH_CODES = {"invalid_api_key", "authentication_error", "permission_denied", "account_deactivated"}
_RATE_CODES = {"rate_limit_exceeded", "rate_limit_error", "ratelimitreached", "too_many_requests", "rate_limited"}
_LOAD_CODES = {
    "api_error",
    "engine_overloaded",
    "internal_error",
    "internal_server_error",
    "overloaded",
    "overloaded_error",
    "server_error",
    "server_overloaded",
    "service_unavailable",
    "timeout",
}
# Money and quota do not come back by waiting, whatever the status says.
_SPENT_CODES = {"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance"}
_BODY_DELAY = re.compile(
    r"(?:try again|retry|available again)\s+(?:in|after)\s+"
    r"(?:(\d+(?:\.\d+)?)\s*m(?!s)(?:in(?:ute)?s?)?\s*)?(?:(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s\b|sec|seconds?))?",
    re.IGNORECASE,
)


def read_error(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
    """Read a response with a status of failure.

    Args:
        status: the HTTP status.
        headers: with lower-case names.
        body: as received; JSON, HTML or anything.
        now: wall-clock seconds since 1970, for a Retry-After date in a response without a Date.
    """
    try:
        parsed: Any = msgspec.json.decode(body)
    except UNDECODABLE:
        parsed = None
    error = error_object(parsed)
    if error is None:
        error = {"message": excerpt(body)}
    made = make_error(error, status=status, headers=headers, now=now)
    advice = headers.get("x-should-retry")  # of OpenAI and Anthropic
    if advice in ("true", "false"):
        made.retryable = advice == "true"
    return made


def error_object(body: Any) -> Mapping[str, Any] | None:
    """The error in a decoded body, in any of the shapes that servers use, or None when there is none."""
    if _is_list(body) and body:
        body = body[0]
    if not _is_mapping(body):
        return None
    error = body.get("error")
    if _is_mapping(error):
        return error
    if isinstance(error, str) and error:
        return {**body, "message": body.get("message") or error}
    errors = body.get("errors")
    if _is_list(errors) and errors and "choices" not in body:
        first = errors[0]
        return first if _is_mapping(first) else {"message": str(first)}
    if "choices" in body:
        return None
    detail = body.get("detail")
    if detail is not None:
        return {"message": _detail(detail)}
    if body.get("object") == "error" or "message" in body:
        return body
    return None


def make_error(
    error: Mapping[str, Any], *, status: int, headers: Mapping[str, str], now: float, partial: Any = None
) -> ProviderError:
    """The typed error for an error object; `status` is that of the response, which may be 200."""
    message = _text(error.get("message"))
    code, kind = _text(error.get("code")), _text(error.get("type"))
    inner = error.get("innererror")
    inner_code = _text(inner.get("code")) if _is_mapping(inner) else None
    words = {word.lower() for word in (code, kind, inner_code) if word}
    effective = status if status >= 400 else _status_in(error)
    if effective == 403 and _is_flagged(error, message or ""):
        words.add("content_filter")
    made = _class(effective, words, message or "")(
        message or f"the endpoint answered with status {status} and no message",
        status=status,
        code=code or kind,
        retry_after=retry_after(headers, error, now=now),
        request_id=next((headers[name] for name in _REQUEST_IDS if name in headers), None),
        partial=partial,
        error_type=kind,
        param=_text(error.get("param")),
    )
    if words & _SPENT_CODES:
        made.retryable = False
    elif effective in (408, 409, 425):
        made.retryable = True
    return made


def _class(status: int | None, words: set[str], message: str) -> type[ProviderError]:
    if words & _FILTER_CODES:
        return ContentFiltered
    if status in (401, 403):
        return AuthError
    if status == 429:
        # More than the account may ever send at once: no wait helps, and nobody else need wait.
        return ContextOverflow if _TOO_LARGE.search(message) else RateLimited
    if words & _OVERFLOW_CODES or (status in (None, 400, 413, 422, 500) and _OVERFLOW.search(message)):
        return ContextOverflow
    if status is not None and status >= 500:
        return Overloaded
    if status is not None and status >= 400:
        return AuthError if words & _AUTH_CODES else InvalidRequest
    if words & _AUTH_CODES:
        return AuthError
    if words & _RATE_CODES:
        return RateLimited
    if words & _LOAD_CODES:
        return Overloaded
    # An error inside a success that says nothing about its class: the endpoint failed after it had accepted.
    return InvalidRequest if any("invalid" in word or "bad_request" in word for word in words) else Overloaded


def _is_flagged(error: Mapping[str, Any], message: str) -> bool:
    """Whether a 403 speaks of the content, not of the key: OpenRouter's moderation does."""
    metadata = error.get("metadata")
    told = _is_mapping(metadata) and ("flagged_input" in metadata or "reasons" in metadata)
    return told or _FLAGGED.search(message) is not None


def _status_in(error: Mapping[str, Any]) -> int | None:
    for key in ("status_code", "status", "code", "http_status"):
        value = error.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:6])
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any], *, now: float) -> float | None:
    """Seconds to wait as the provider asked, 0.0 for a time that has passed, None when it did not say.

    Where the headers disagree (Azure sends ``retry-after: 1`` beside ``retry-after-ms: 0``) the longer wait holds.
    """
    waits = [_seconds(headers.get("retry-after"), headers.get("date"), now)]
    milliseconds = _number(headers.get("retry-after-ms"))
    waits.append(None if milliseconds is None else milliseconds / 1000)
    told = [wait for wait in waits if wait is not None]
    if told:
        return max(told)
    return _in_body(error)


def _seconds(value: str | None, date: str | None, now: float) -> float | None:
    if value is None:
        return None
    # Sent twice, as by a gateway behind another one, it is a list, and the longer wait holds. A date has a comma, too.
    numbers = [_number(each) for each in value.split(",")]
    told = [number for number in numbers if number is not None]
    if len(told) == len(numbers):
        return max(told)
    moment = _moment(value)
    if moment is None:
        return None
    sent = _moment(date) if date is not None else None
    return max(0.0, moment - (now if sent is None else sent))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, number) if isfinite(number) else None


def _moment(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
        # A date without a zone, or with "-0000", is in universal time.
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _in_body(error: Mapping[str, Any]) -> float | None:
    for key in ("retry_after", "retryAfter", "retry_after_seconds", "retryDelay"):
        value = error.get(key)
        number = _number(value.removesuffix("s") if isinstance(value, str) else value)
        if number is not None:
            return number
    details = error.get("details")
    if _is_list(details):
        for detail in details:
            if _is_mapping(detail) and isinstance(delay := detail.get("retryDelay"), str):
                return _number(delay.removesuffix("s"))
    metadata = error.get("metadata")
    if _is_mapping(metadata):
        number = _number(metadata.get("retry_after_seconds", metadata.get("retry_after")))
        if number is not None:
            return number
    found = _BODY_DELAY.search(_text(error.get("message")) or "")
    if found is None or (found[1] is None and found[2] is None):
        return None
    unit = (found[3] or "s").lower()
    return _number(float(found[1] or 0) * 60 + float(found[2] or 0) * (0.001 if unit.startswith("m") else 1))


def excerpt(body: bytes) -> str:
    """The beginning of a body, on one line, for an error message."""
    text = " ".join(body[: 4 * MAX_EXCERPT].decode("utf-8", "replace").split())
    return text if len(text) <= MAX_EXCERPT else text[:MAX_EXCERPT] + "…"


def _detail(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    if _is_list(detail):
        return "; ".join(_told(item) if _is_mapping(item) else str(item) for item in detail)
    return _text(detail) or ""


def _told(item: Mapping[str, Any]) -> str:
    """What FastAPI says of one field, and where it is."""
    place = item.get("loc")
    where = ".".join(str(step) for step in place if step != "body") if _is_list(place) else ""
    words = str(item.get("msg", item))
    return f"{where}: {words}" if where else words


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
