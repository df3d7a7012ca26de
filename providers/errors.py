"""What can go wrong between us and a model.

::

    ProviderError                   everything below; `retryable` says whether another try may help
    ├── AuthError                   401, 403, or no key (names the variable to set)
    ├── RateLimited                 429; `retry_after` in seconds when the provider said so
    ├── Overloaded                  5xx, 529
    ├── InvalidRequest              any other 4xx: the request itself is wrong
    │   └── ContextOverflow         the conversation does not fit the model's window
    ├── ContentFiltered             the provider refused the content
    ├── ConnectionFailed            no connection: name, refusal, TLS, timeout while connecting
    ├── StreamInterrupted           the answer ended before its end
    ├── Stalled                     no byte within a deadline (first byte, idle, total)
    ├── BadResponse                 an answer that is not of this wire format
    └── SdkFailed                   the blocking client of a `ThreadProvider` raised what we cannot read
"""

from __future__ import annotations

from typing import Any

from .messages import Message


class ProviderError(Exception):
    """A model call that failed.

    Attributes:
        status: the HTTP status, or None when there was no response.
        kind: one word for the class of failure (``auth``, ``rate_limit``, ``overloaded``, ``invalid_request``,
            ``context_overflow``, ``content_filter``, ``connection``, ``interrupted``, ``stalled``, ``bad_response``,
            ``sdk``).
        code: the provider's error code, or its type where it sends no code.
        error_type: the provider's error type, or None.
        param: the request parameter that the provider blames, or None.
        message: the provider's message, or ours. Never holds a key.
        retryable: whether the same request may succeed later.
        retry_after: seconds to wait, as the provider asked; None when it did not say.
        request_id: the provider's id of the request, for its support.
        provider: the vendor's short name.
        hint: what the caller may do about it, in our words, or None.
        partial: the assistant message received before the failure, or None. Its tool calls have no `arguments`,
            whatever their `raw` text holds: they are there to be seen and must never run.
        causes: the failures of all providers that were asked, where several were (`Fallback`).
        result: the result, so far, of the agent run that this failure ended; None outside a run.
    """

    kind = "provider"
    retryable_by_default = False
    result: Any = None
    causes: tuple[ProviderError, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        provider: str | None = None,
        partial: Message | None = None,
        error_type: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after = retry_after
        self.request_id = request_id
        self.provider = provider
        self.partial = partial
        self.error_type = error_type
        self.param = param
        self.hint: str | None = None

    def __str__(self) -> str:
        facts = [
            f"{name} {value}"
            for name, value in (
                ("status", self.status),
                ("code", self.code),
                ("request id", self.request_id),
                ("retry after", self.retry_after),
            )
            if value is not None
        ]
        where = f"{self.provider}: " if self.provider else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}{self.message}" + (f" ({', '.join(facts)})" if facts else "") + hint


class AuthError(ProviderError):
    """The key is missing, wrong, or may not do this."""

    kind = "auth"


class RateLimited(ProviderError):
    """Too many requests or tokens; `retry_after` says when to come back, if the provider did."""

    kind = "rate_limit"
    retryable_by_default = True


class Overloaded(ProviderError):
    """The provider failed or is overloaded (5xx, 529)."""

    kind = "overloaded"
    retryable_by_default = True


class InvalidRequest(ProviderError):
    """The request is wrong; the same request will fail again."""

    kind = "invalid_request"


class ContextOverflow(InvalidRequest):
    """The conversation does not fit the model's context window."""

    kind = "context_overflow"


class ContentFiltered(ProviderError):
    """The provider's filter refused the request or the answer."""

    kind = "content_filter"


class ConnectionFailed(ProviderError):
    """No connection to the endpoint: its name, a refusal, TLS, or a timeout while connecting."""

    kind = "connection"
    retryable_by_default = True


class StreamInterrupted(ProviderError):
    """The answer ended before its end; `partial` holds what had come."""

    kind = "interrupted"
    retryable_by_default = True


class Stalled(ProviderError):
    """No byte came within a deadline."""

    kind = "stalled"
    retryable_by_default = True


class BadResponse(ProviderError):
    """The endpoint answered with something that is not of this wire format."""

    kind = "bad_response"


class SdkFailed(ProviderError):
    """The blocking client of a `ThreadProvider` failed in a way of its own; its error is the ``__cause__``."""

    kind = "sdk"
