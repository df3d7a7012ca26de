"""How a run ended, in the three forms that others get: the result, the error, the last event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..providers import ProviderError
from . import events
from .errors import AgentError, LimitExceeded, OutputInvalid
from .machine import Finish, Rejected
from .result import Messages, RunResult, utc

if TYPE_CHECKING:
    from ..providers import Message
    from .run_cell import RunCell


def make_result(run: RunCell, finish: Finish, messages: list[Message]) -> RunResult[Any]:
    """The result of a run that ended with this conversation."""
    own = messages[len(run.history) :]
    output = finish.output
    if finish.status != "completed":
        output = next((message.text for message in reversed(own) if message.role == "assistant"), None)
    return RunResult(
        output=output,
        status=finish.status,
        reason=finish.reason,
        usage=run.usage,
        cost=run.cost,
        messages=Messages(messages),
        new_messages=Messages(own),
        run_id=run.name,
        agent=run.agent.name,
        started_at=utc(run.began_at),
        ended_at=utc(run.stage.sources.clock()),
        conversation_id=run.options.conversation_id,
        outlived=tuple(run.outlived),
    )


def make_error(run: RunCell, finish: Finish, result: RunResult[Any]) -> BaseException | None:
    """What those who wait for the run get instead of its result, or None."""
    error = finish.error
    if finish.status == "limited":
        turns = run.machine.turn if run.machine is not None else 0
        error = LimitExceeded(finish.reason, turns, run.options.limits.turns or 0)
    elif isinstance(error, Rejected):
        rejected, error = error, OutputInvalid(f"the answer does not fit the output type: {error}")
        error.__cause__ = rejected
    if isinstance(error, AgentError | ProviderError):
        error.result = result
    return error


def last_event(run: RunCell, result: RunResult[Any]) -> events.Event:
    """The one event that ends a run."""
    facts: dict[str, Any] = {"agent": run.agent.name, "reason": result.reason, "usage": result.usage}
    match result.status:
        case "completed":
            return run.voice.make(events.RunCompleted, text=result.text, **facts)
        case "limited":
            return run.voice.make(events.RunLimited, **facts)
        case "failed":
            return run.voice.make(events.RunFailed, error=f"{type(run.error).__name__}: {run.error}", **facts)
        case _:
            return run.voice.make(events.RunStopped, outlived=result.outlived, **facts)
