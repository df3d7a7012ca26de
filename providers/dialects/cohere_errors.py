"""What Cohere says when it fails: a status with ``{"message", "id"}``, or a finish reason. Pure.

A spent monthly allowance of a trial key is a 429 that no wait will mend; 498 is a key that is not valid any more.
Source: https://docs.cohere.com/reference/errors
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import BadResponse, Overloaded, ProviderError
from ..messages import Message
from ..openai_messages import UNDECODABLE
from .wire_errors import error_object, excerpt, make_error

_NO_HEADERS: Mapping[str, str] = {}


def read_cohere_error(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
    """Read a response with a status of failure."""
    error = _error(body)
    if error is None:
        error = {"message": excerpt(body)}
    # The status says more than any word of the body; 498 is one of nobody else's.
    made = make_error(error, status=401 if status == 498 else status, headers=headers, now=now)
    made.status = status
    if made.request_id is None and isinstance(error.get("id"), str):
        made.request_id = error["id"]
    if status == 429 and "/ month" in made.message:
        made.retryable = False
    if status == 499:  # a proxy of theirs gave up: nothing was wrong with the request
        made.retryable = True
    return made


def told(body: bytes, *, partial: Message | None = None) -> ProviderError:
    """The error in a body or an event of a success that is not an answer."""
    error = _error(body)
    if error is not None and error.get("message"):
        return make_error(error, status=200, headers=_NO_HEADERS, now=0.0, partial=partial)
    shown = excerpt(body) or "an empty body"
    return BadResponse(f"the answer is not of Cohere's chat: {shown}", status=200, partial=partial)


def finish_error(finish: str | None, error: Any, *, partial: Message | None) -> ProviderError | None:
    """The error beside a finish reason, or None when there is none."""
    if not isinstance(error, str) or not error:
        return None
    return Overloaded(error, status=200, code=finish, partial=partial)


def _error(body: bytes) -> dict[str, Any] | None:
    try:
        found = error_object(msgspec.json.decode(body))
    except UNDECODABLE:
        return None
    if found is None:
        return None
    error = dict(found)
    error.setdefault("type", error.get("error_type"))
    return error
