"""How each provider words a failure that has nothing to do with the request. Pure.

A script that says ``503`` gets the body and the headers that the provider sends with a 503, so that what reads them is
tested on the real shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .format import Refused

_WORDS = {
    400: "The request is not valid.",
    401: "The API key is not valid.",
    403: "This key may not do that.",
    404: "There is no such model.",
    408: "The request took too long.",
    409: "The request conflicts with another.",
    413: "The request is too large.",
    422: "The request cannot be processed.",
    429: "Too many requests.",
    500: "The server had an error.",
    502: "Bad gateway.",
    503: "The service is unavailable.",
    504: "The gateway timed out.",
    529: "Overloaded",
}


def failure(provider: str, status: int) -> Refused:
    """What `provider` (a name of the registry) answers with this status; OpenAI's shape for an unknown name.

    Raises:
        ValueError: it is no status of failure.
    """
    if not 400 <= status < 600:
        raise ValueError(f"a script can fail with a status from 400 to 599, not {status}")
    return _SHAPES.get(provider, _openai)(status, _WORDS.get(status, "Something went wrong."))


def _openai(status: int, words: str) -> Refused:
    kinds = {401: "invalid_request_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
    return Refused(status, {"error": {"message": words, "type": kind, "param": None, "code": code}})


def _anthropic(status: int, words: str) -> Refused:
    kinds = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_fake"}
    return Refused(status, body, {"request-id": "req_fake"})


def _gemini(status: int, words: str) -> Refused:
    kinds = {
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        409: "ABORTED",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
    kind = kinds.get(status, "INVALID_ARGUMENT" if status < 500 else "UNKNOWN")
    return Refused(status, {"error": {"code": status, "message": words, "status": kind}})


def _bedrock(status: int, words: str) -> Refused:
    kinds = {
        403: "AccessDeniedException",
        404: "ResourceNotFoundException",
        408: "ModelTimeoutException",
        429: "ThrottlingException",
        500: "InternalServerException",
        503: "ServiceUnavailableException",
    }
    kind = kinds.get(status, "ValidationException" if status < 500 else "InternalServerException")
    return Refused(status, {"message": words}, {"x-amzn-errortype": kind, "x-amzn-requestid": "req-fake"})


_SHAPES: dict[str, Callable[[int, str], Refused]] = {
    "anthropic": _anthropic,
    "bedrock": _bedrock,
    "cohere": lambda status, words: Refused(status, {"id": "fake", "message": words}),
    "gemini": _gemini,
    "ollama": lambda status, words: Refused(status, {"error": words}),
    "openai-chat": _openai,
    "openai-responses": _openai,
}


def dry(provider: str, played: int) -> Refused:
    """The answer of a server whose script has no line left."""
    words = f"the script of this fake server has {played} lines, and was asked for one more"
    made = failure(provider, 500)
    return Refused(500, reworded(made.body, words), made.headers)


def reworded(body: Any, words: str) -> Any:
    """An error body with another message in the place of its own."""
    if "message" in body:
        return {**body, "message": words}
    inner = body["error"]
    return {**body, "error": words if isinstance(inner, str) else {**inner, "message": words}}
