"""What the service says when it cannot do what it was asked for: one shape, and one place that knows every error.

A `Problem` is an answer: a status, a word for programs (`type`), a sentence for people, and the parameter that is to
blame, where one is. Errors of the rooms below are translated here and nowhere else. An error that nobody foresaw says
nothing about itself to the client; it is in the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..actors import NameTaken, SystemClosed
from ..agents import (
    ConversationBusy,
    RunEnded,
    StaleApproval,
    StaleQuestion,
    SystemBusy,
    SystemDraining,
)
from ..journal import BadRecord, Damaged, JournalError, RunExists, UnknownRun

#: Seconds after which a client may try again: at a full System, at one that ends.
BUSY_AGAIN = 1
DRAINING_AGAIN = 5
#: Agents that an answer names, where one was asked for that there is not.
AGENTS_NAMED = 50


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=False):
    """What went wrong. `type` is one word of a closed set, `param` the parameter that is to blame, if one is."""

    type: str
    message: str
    param: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is no success."""

    error: ErrorBody


class Problem(Exception):
    """An answer that is no success.

    Args:
        status: of HTTP.
        type: one word for programs.
        message: one sentence for people.
        param: the field, the header or the part of the address that is to blame.
        headers: that go with it.
    """

    def __init__(
        self,
        status: int,
        type: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(type, message, param)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer."""
        content = msgspec.json.encode(ErrorAnswer(self.body))
        return Response(content, self.status, self.headers, media_type="application/json")


def not_found(what: str, name: str, param: str | None = None) -> Problem:
    """There is no such thing."""
    return Problem(404, "not_found", f"there is no {what} {name!r}", param)


def no_agent(name: str, known: Collection[str]) -> Problem:
    """There is no agent of that name."""
    there = ", ".join(list(known)[:AGENTS_NAMED]) + (", …" if len(known) > AGENTS_NAMED else "")
    return Problem(404, "not_found", f"there is no agent {name!r}, only: {there}", "agent")


def draining() -> Problem:
    """The service ends."""
    said = "the service is shutting down and starts nothing new: try again later"
    return Problem(503, "draining", said, headers={"Retry-After": str(DRAINING_AGAIN)})


def no_method(method: str, allow: str) -> Problem:
    """The address takes other methods."""
    said = f"this address does not take {method}, only {allow}"
    return Problem(405, "method_not_allowed", said, headers={"Allow": allow})


def ended(run_id: str) -> Problem:
    """The run is over, and takes nothing more."""
    return Problem(409, "run_ended", f"run {run_id!r} has ended")


def problem_of(error: Exception) -> Problem | None:
    """The answer for an error of the rooms below; None for one that is a bug, or somebody else's."""
    message = str(error)
    match error:
        case Problem():
            return error
        case SystemBusy():
            return Problem(503, "busy", message, headers={"Retry-After": str(BUSY_AGAIN)})
        case SystemDraining() | SystemClosed():
            return draining()
        case NameTaken() | RunExists():
            return Problem(409, "run_exists", "there is a run of that id already", "run_id")
        case ConversationBusy():
            said = f"run {error.run_id!r} of this conversation has not ended"
            return Problem(409, "conversation_busy", said, "conversation_id")
        case RunEnded():
            return Problem(409, "run_ended", message)
        case StaleApproval():
            return Problem(409, "not_waiting", message, "call_id")
        case StaleQuestion():
            return Problem(409, "not_waiting", message, "question_id")
        case UnknownRun():
            return not_found("run", error.run_id)
        case Damaged() | BadRecord():
            return Problem(500, "damaged", "what is stored of this cannot be read; the service's log says why")
        case JournalError():
            said = "the journal cannot be read or written at the moment; the service's log says why"
            return Problem(503, "journal", said, headers={"Retry-After": str(DRAINING_AGAIN)})
        case _:
            return None


async def _tell_problem(_: Request, error: Exception) -> Response:
    return cast("Problem", error).response()


async def _tell_http(request: Request, error: Exception) -> Response:
    """What the router has to say."""
    known = cast("HTTPException", error)
    if known.status_code == 404:
        return not_found("address", request.scope["path"]).response()
    if known.status_code == 405:
        allow = (known.headers or {}).get("Allow", "")
        return no_method(request.method, allow).response()
    return Problem(known.status_code, "invalid_request", known.detail, headers=known.headers).response()


async def _tell_bug(_: Request, error: Exception) -> Response:
    problem = problem_of(error) or Problem(500, "internal", "something went wrong in the service; its log says what")
    return problem.response()


#: What the application answers to an exception, as Starlette takes it. A bug is raised to the server too.
ANSWERS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    Problem: _tell_problem,
    HTTPException: _tell_http,
    Exception: _tell_bug,
}
