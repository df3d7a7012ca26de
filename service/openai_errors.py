"""What the OpenAI-compatible endpoint says where it has no answer: errors as a client of OpenAI knows them. Pure.

The body is ``{"error": {"message", "type", "param", "code"}}``, the same as an answer of its own and in the middle of a
stream. `type` is one of four, by whose fault it is and whether it passes; `code` names what happened. Clients try again
by the status alone, at 408, 409, 429 and every 5xx, so an answer that would be the same next time says
``x-should-retry: false``.

What happened to the agent's own model is never told as if it had happened to the client: a key that the model's
provider refuses is no 401 of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, isfinite
from typing import Any

import msgspec

from ..agents import (
    AgentError,
    GuardFailed,
    OutputInvalid,
    PriceUnknown,
    RestartLimit,
    RunResult,
    Stuck,
    ToolCallInvalid,
    ToolError,
    ToolsetFailed,
    ValidatorFailed,
)
from ..providers import ContextOverflow, Overloaded, ProviderError, RateLimited, Stalled
from .problems import DRAINING_AGAIN, Problem, problem_of

#: Ends of a run that are none of the model's, by their error: what clients read as the code.
_CODES: tuple[tuple[type[AgentError], str], ...] = (
    (OutputInvalid, "output_invalid"),
    (ToolCallInvalid, "tool_call_invalid"),
    (Stuck, "stuck"),
    (ToolError, "tool_failed"),
    (GuardFailed, "guard_failed"),
    (ValidatorFailed, "validator_failed"),
    (ToolsetFailed, "toolset_failed"),
    (RestartLimit, "restart_limit"),
    (PriceUnknown, "price_unknown"),
)
#: Characters of a message that are told.
MESSAGE = 1_000
#: Problems of the service that OpenAI has a code of its own for.
_PROBLEMS = {"unauthorized": "invalid_api_key"}
#: What `param` is called here, of the arguments of a run.
_PARAMS = {"user_id": "user", "conversation_id": "greenroom.conversation_id"}


class ApiErrorBody(msgspec.Struct, frozen=True):
    """An error as OpenAI has it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ApiErrorAnswer(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    error: ApiErrorBody


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: what happened, in one word.
        message: the same in one sentence.
        param: the field of the request that is to blame.
        retry_after: seconds after which another try may help.
        retry: whether one may help at all; None leaves it to what clients make of the status.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        *,
        retry_after: float | None = None,
        retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ApiErrorBody(_short(message), _type(status), _short(param) if param is not None else None, code)
        self.headers: dict[str, str] = {}
        if retry_after is not None and isfinite(retry_after):
            self.headers["retry-after"] = str(max(1, ceil(retry_after)))
        if retry is not None:
            self.headers["x-should-retry"] = "true" if retry else "false"

    def json(self) -> bytes:
        """The body."""
        return msgspec.json.encode(ApiErrorAnswer(self.body))


def _short(text: str) -> str:
    """The text, without most of what somebody has sent as a name."""
    return text if len(text) <= MESSAGE else text[:MESSAGE] + "…"


def _type(status: int) -> str:
    match status:
        case 401 | 403:
            return "authentication_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "server_error" if status >= 500 else "invalid_request_error"


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """The request is wrong, and stays so."""
    return ApiError(400, code, message, param)


def of_problem(problem: Problem) -> ApiError:
    """What the service says, in this endpoint's words."""
    others = {name.lower(): value for name, value in problem.headers.items()}
    wait, param = others.pop("retry-after", None), problem.body.param
    error = ApiError(
        problem.status,
        _PROBLEMS.get(problem.body.type, problem.body.type),
        str(problem),
        _PARAMS.get(param, param) if param is not None else None,
        retry_after=float(wait) if wait is not None else None,
        retry=False if problem.status in (408, 409) else None,
    )
    error.headers |= others
    return error


def of_failure(error: BaseException) -> ApiError:
    """Why a run has failed."""
    if isinstance(error, ProviderError):
        return _of_provider(error)
    if isinstance(error, AgentError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "run_failed")
        return ApiError(500, code, f"the run failed: {_told(error)}", retry=False)
    problem = problem_of(error) if isinstance(error, Exception) else None
    if problem is not None:
        return of_problem(problem)
    return ApiError(500, "internal_error", "the run failed; the service's log says why", retry=False)


def is_for_the_log(error: BaseException) -> bool:
    """Whether a failure is the service's own: its log says what happened, and the client is told no more than that."""
    return isinstance(error, RestartLimit | GuardFailed | ValidatorFailed | ToolsetFailed) or not isinstance(
        error, ProviderError | AgentError
    )


def _told(error: AgentError) -> str:
    """What a client may know of a failure."""
    match error:
        case RestartLimit():
            said = "it crashed too often"
        case GuardFailed():
            said = f"nobody can say whether tool {error.tool!r} may be called"
        case ValidatorFailed():
            said = f"validator {error.validator!r} could not judge the answer"
        case ToolsetFailed():
            said = f"toolset {error.toolset!r} is of no use"
        case _:
            return str(error)
    return f"{said}; the service's log says why"


def _of_provider(error: ProviderError) -> ApiError:
    said = f"the agent's model has failed: {error}"
    match error:
        case RateLimited():
            return ApiError(429, "rate_limit_exceeded", said, retry_after=error.retry_after, retry=error.retryable)
        case ContextOverflow():
            return ApiError(400, "context_length_exceeded", said, "messages", retry=False)
        case Overloaded():
            return ApiError(503, error.kind, said, retry_after=error.retry_after, retry=error.retryable)
        case Stalled():
            return ApiError(504, error.kind, said, retry=error.retryable)
        case _:
            # Also a request that the provider calls wrong, or a key that it refuses: the agent's, not this client's.
            return ApiError(502, error.kind, said, retry=error.retryable)


def of_stop(result: RunResult[Any]) -> ApiError:
    """Why a run was stopped."""
    if result.status == "waiting":
        waiting = ", ".join(call.tool for call in result.pending)
        return ApiError(409, "approval_required", f"the run waits for an approval of: {waiting}", retry=False)
    if result.reason == "system":
        said = "the service is shutting down: try again later"
        return ApiError(503, "draining", said, retry_after=DRAINING_AGAIN)
    return ApiError(409, "run_stopped", f"the run was stopped: {result.reason}", retry=False)


def model_not_found(name: str, known: Iterable[str]) -> ApiError:
    """There is no such agent; `known` are those that there are."""
    there = ", ".join(map(repr, known))
    return ApiError(404, "model_not_found", f"the model {name!r} does not exist: there is {there}", "model")
