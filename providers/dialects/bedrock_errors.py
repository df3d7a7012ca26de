"""What Bedrock says when it fails: a status with the header ``x-amzn-errortype``, or an exception in a stream. Pure.

The name of the exception says more than the status: a model that failed is 424 and a model that took too long is 408,
and both may be asked again; a spent service quota is 400 and may not. The header has the name with an address behind
it, which is told as it came.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..errors import ContextOverflow, ProviderError
from ..framing import WireEvent
from ..messages import Message
from ..openai_messages import UNDECODABLE
from .wire_errors import excerpt, make_error

#: The status that says what kind of failure an exception is.
_STATUS = {
    "accessdeniedexception": 403,
    "expiredtokenexception": 403,
    "incompletesignatureexception": 403,
    "internalfailure": 500,
    "internalserverexception": 500,
    "invalidsignatureexception": 403,
    "missingauthenticationtokenexception": 403,
    "modelerrorexception": 503,
    "modelnotreadyexception": 429,
    "modelstreamerrorexception": 503,
    "modeltimeoutexception": 503,
    "notauthorized": 403,
    "resourcenotfoundexception": 404,
    "servicequotaexceededexception": 429,
    "serviceunavailable": 503,
    "serviceunavailableexception": 503,
    "signaturedoesnotmatch": 403,
    "throttlingexception": 429,
    "toomanyrequestsexception": 429,
    "unrecognizedclientexception": 403,
    "validationexception": 400,
}
_PLAIN = (401, 403, 429)  # these say what they mean, whatever name stands beside them
_OVERFLOW = re.compile(
    r"input tokens? exceed|number of input tokens|too many input tokens|input is too long|exceeds? (the )?context",
    re.IGNORECASE,
)
_NO_HEADERS: Mapping[str, str] = {}


def read_bedrock_error(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
    """Read a response with a status of failure."""
    told = _object(body)
    kind: Any = headers.get("x-amzn-errortype") or told.get("__type")
    return _make(kind if isinstance(kind, str) else None, told, body, status=status, headers=headers, now=now)


def read_exception(event: WireEvent, *, partial: Message | None) -> ProviderError:
    """Read an exception or an error in a stream whose status was 200."""
    return _make(
        event.event, _object(event.data), event.data, status=200, headers=_NO_HEADERS, now=0.0, partial=partial
    )


def _make(
    kind: str | None,
    told: dict[str, Any],
    body: bytes,
    *,
    status: int,
    headers: Mapping[str, str],
    now: float,
    partial: Message | None = None,
) -> ProviderError:
    name = (kind or "").partition(":")[0].rpartition("#")[2].lower()
    original = told.get("originalStatusCode")
    # Without a name that is known, an exception in a stream that had begun well is a failure of theirs.
    effective = status if status in _PLAIN else _STATUS.get(name, status if status >= 400 else 500)
    if name in ("modelerrorexception", "modelstreamerrorexception") and original in (400, 404, 413, 422):
        effective = 400
    words = told.get("message") or told.get("Message")
    error = {"message": words if isinstance(words, str) else excerpt(body), "type": kind}
    made = make_error(error, status=effective, headers=headers, now=now, partial=partial)
    if effective == 400 and type(made) is not ContextOverflow and _OVERFLOW.search(made.message):
        made = ContextOverflow(
            made.message,
            code=made.code,
            error_type=made.error_type,
            request_id=made.request_id,
            partial=made.partial,
        )
    made.status = status
    if name == "servicequotaexceededexception":
        made.retryable = False
    return made


def _object(body: bytes) -> dict[str, Any]:
    try:
        told: Any = msgspec.json.decode(body)
    except UNDECODABLE:
        return {}
    return cast("dict[str, Any]", told) if isinstance(told, dict) else {}
