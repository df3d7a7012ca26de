"""A run as its clients see it: made of its handle while the service has that, afterwards of the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ..agents import Agent, Chronicle
from ..agents.recovery_terms import Unfinished
from ..agents.result import RunResult
from ..agents.run import Run
from .known_runs import KnownRun
from .wire import PendingView, QuestionView, RunView

#: What the service itself writes into a run's metadata begins so; clients neither give it nor see it.
OWN = "greenroom."
#: Where a run's metadata holds the digests of the idempotency key, and of the request, that started it.
KEY = f"{OWN}key"
DIGEST = f"{OWN}request"


async def result_of(run: Run[Any]) -> RunResult[Any] | None:
    """Wait for the end of a run; what it has come to, also of one that failed. None where nothing is known of it."""
    try:
        return await run.result()
    except Exception as error:
        return getattr(error, "result", None)


async def view_of(known: KnownRun, agent: Agent[Any, Any] | None) -> RunView:
    """A run that the service has the handle of."""
    if known.is_over:
        result = await result_of(known.run)
        return _of_result(known, result, agent) if result is not None else _of_loss(known)
    return _at_work(known)


def _facts(known: KnownRun) -> dict[str, Any]:
    return {
        "id": known.run.id,
        "started_at": known.started_at,
        "user_id": known.user_id,
        "conversation_id": known.conversation_id,
        "tags": known.tags,
        "metadata": known.metadata,
    }


def _at_work(known: KnownRun) -> RunView:
    run = known.run
    node, snapshot = run.tree(), run.snapshot()
    return RunView(
        **_facts(known),
        agent=node.detail.get("agent", known.agent),
        status="running",
        text=snapshot.text,
        seq=snapshot.seq,
        paused=node.state in ("paused", "pausing"),
        turn=node.detail.get("turn", 0),
        usage=run.usage,
        cost=node.detail.get("cost"),
        pending=[
            PendingView(call.call_id, call.run_id, call.tool, call.question, call.arguments, call.turn)
            for call in run.pending
        ],
        questions=[QuestionView(each.question_id, each.run_id, each.tool, each.question) for each in run.questions],
    )


def _of_result(known: KnownRun, result: RunResult[Any], agent: Agent[Any, Any] | None) -> RunView:
    return RunView(
        **_facts(known),
        agent=result.agent,
        status=result.status,
        reason=result.reason,
        output=_output(result.output, result.status == "completed", agent),
        text=result.text,
        error=result.error,
        turn=sum(message.role == "assistant" for message in result.new_messages),
        usage=result.usage,
        cost=result.cost,
        ended_at=result.ended_at,
        pending=[
            PendingView(call.call_id, call.run_id, call.tool, call.question, call.arguments, call.turn)
            for call in result.pending
        ],
        outlived=list(result.outlived),
    )


def _of_loss(known: KnownRun) -> RunView:
    """A run whose error carries no result: nothing but its status is known."""
    return RunView(**_facts(known), agent=known.agent, status=known.run.status, usage=known.run.usage)


def _output(output: Any, whole: bool, agent: Agent[Any, Any] | None) -> Any:
    """The answer as JSON can hold it: text, or what the agent's type writes."""
    if output is None or isinstance(output, str):
        return output
    written = agent.write_output(output) if agent is not None and whole else None
    if written is not None:
        return msgspec.Raw(written.encode())
    try:
        return msgspec.Raw(msgspec.json.encode(output))
    except (TypeError, ValueError):
        return str(output)


def view_of_past(chronicle: Chronicle, agent: Agent[Any, Any] | None) -> RunView:
    """A run that only the journal knows."""
    began = chronicle.began
    text = next((each.text for each in reversed(chronicle.messages) if each.role == "assistant"), "")
    output: Any = text or None
    if agent is not None and agent.output_schema is not None:
        output = _read(text)
    return RunView(
        id=began.run_id,
        agent=chronicle.handed_over[-1] if chronicle.handed_over else chronicle.agent,
        status=chronicle.standing,
        reason=chronicle.reason,
        output=output if chronicle.standing == "completed" else None,
        text=text,
        error=chronicle.ended.error if chronicle.ended is not None else None,
        paused=chronicle.paused,
        turn=chronicle.turns,
        usage=chronicle.usage,
        cost=chronicle.cost,
        started_at=chronicle.started_at,
        ended_at=chronicle.ended_at,
        user_id=began.user_id,
        conversation_id=began.conversation_id,
        parent_id=began.parent_id,
        tags=began.tags,
        metadata=without_own(began.metadata),
    )


def _read(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def without_own(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata without what the service itself has written into it."""
    return {name: value for name, value in metadata.items() if not name.startswith(OWN)}


def known_of(run: Run[Any], began: Unfinished | None = None) -> KnownRun:
    """A run that this service has not started; `began` is what its journal says of its beginning."""
    node = run.tree()
    agent = node.detail.get("agent", "")
    started_at = datetime.now(UTC) - timedelta(seconds=node.age)
    if began is None:
        return KnownRun(run, agent, started_at)
    return KnownRun(
        run,
        agent,
        started_at,
        key=began.metadata.get(KEY),
        digest=began.metadata.get(DIGEST),
        user_id=began.user_id,
        conversation_id=began.conversation_id,
        tags=list(began.tags),
        metadata=without_own(dict(began.metadata)),
    )
