"""How a run ended, in the three forms that others get: the result, the error, the last event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..providers import ProviderError
from . import events
from .errors import AgentError, LimitExceeded, OutputInvalid, Stuck, ToolCallInvalid, described
from .machine import Finish, Rejected, Unusable
from .reminders import Repeating
from .result import Messages, RunResult, utc

if TYPE_CHECKING:
    from ..providers import Message
    from .approvals import PendingCall
    from .run_cell import RunCell


def make_result(run: RunCell, finish: Finish, messages: list[Message], error: BaseException | None) -> RunResult[Any]:
    """The result of a run that ended with this conversation, and this error; which carries the result."""
    own = messages[len(run.history) :]
    output = finish.output
    if finish.status != "completed":
        output = next((message.text for message in reversed(own) if message.role == "assistant"), None)
    result = RunResult(
        output=output,
        status=finish.status,
        reason=finish.reason,
        usage=run.spending.usage,
        cost=run.spending.cost,
        messages=Messages(messages),
        new_messages=Messages(own),
        run_id=run.name,
        agent=run.agent.name,
        started_at=utc(run.began_at),
        ended_at=utc(run.stage.sources.clock()),
        conversation_id=run.options.conversation_id,
        outlived=run.outlived,
        stop_reason=run.machine.stop_reason if run.machine is not None else None,
        pending=_pending(run, own) if finish.status == "waiting" else (),
        error=described(error) if error is not None else None,
    )
    if isinstance(error, AgentError | ProviderError):
        error.result = result
    return result


def _pending(run: RunCell, messages: list[Message]) -> tuple[PendingCall, ...]:
    """The calls that wait for an approval, in their order."""
    asked = {call.call_id: call for call in run.pending}
    results = [result for message in messages for result in message.tool_results if result.cause == "pending"]
    return tuple([asked[result.call_id] for result in results if result.call_id in asked])


def make_error(run: RunCell, finish: Finish) -> BaseException | None:
    """What those who wait for the run get instead of its result, or None."""
    error = finish.error
    if finish.status == "limited" and error is None:
        turns = run.machine.turn if run.machine is not None else 0
        error = LimitExceeded(finish.reason, turns, run.options.limits.turns or 0)
    elif isinstance(error, Rejected):
        what = (
            "was refused by a validator" if error.checked else f"does not fit the output type {run.agent.output_name}"
        )
        remedy = "" if error.final else "; raise output_retries=, or say in instructions= what is wanted"
        rejected, error = error, OutputInvalid(f"the answer {what}: {error.reason}{remedy}")
        error.__cause__ = rejected
    elif isinstance(error, Unusable):
        turns = run.machine.tool_retries if run.machine is not None else 0
        error = ToolCallInvalid(
            f"no tool call of the model could run, {turns} turns in a row: raise tool_retries=, or mend the tool's "
            f"description; the last one's result was: {error!s:.500}"
        )
    elif isinstance(error, Repeating):
        error = Stuck(
            f"the run is stuck: the model has {error} each time, also after it was told so: mend the tool or its "
            "description, or raise stuck_after= (None never ends a run for this)",
            error.tools,
            error.repeats,
        )
    return error


def last_event(run: RunCell, result: RunResult[Any]) -> events.Event:
    """The one event that ends a run."""
    facts: dict[str, Any] = {"agent": run.agent.name, "reason": result.reason, "usage": result.usage}
    match result.status:
        case "completed":
            call = result.answer_call
            tool = call.name if call is not None else None
            return run.voice.make(events.RunCompleted, text=result.text, output_tool=tool, **facts)
        case "limited":
            return run.voice.make(events.RunLimited, **facts)
        case "waiting":
            return run.voice.make(events.RunWaiting, pending=tuple(call.call_id for call in result.pending), **facts)
        case "failed":
            return run.voice.make(events.RunFailed, error=f"{type(run.error).__name__}: {run.error}", **facts)
        case _:
            return run.voice.make(events.RunStopped, outlived=result.outlived, **facts)
