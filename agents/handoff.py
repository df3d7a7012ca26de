"""Handing a conversation over to another agent: ``tools=[billing.as_handoff()]``.

A handoff is a tool. When the model calls it, the run goes on with the other agent: its instructions, model, tools and
output from the next model call on, in the same conversation, with the same deps and within the same limits. So one run
may have several agents, one after the other; its result names the last one.

One reply hands over once. What is handed over is written down, and is so still after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import journal
from ..providers import ToolCall, ToolResult
from . import events

if TYPE_CHECKING:
    from .agent import Agent
    from .run_cell import RunCell
    from .tool import Toolbox


def second_handoffs(calls: Iterable[ToolCall], toolbox: Toolbox) -> list[ToolCall]:
    """The calls of one reply that would hand over once more."""
    return [call for call in calls if toolbox[call.name].handoff is not None][1:]


def handed_over_by(result: ToolResult, toolbox: Toolbox) -> Agent[Any, Any] | None:
    """Whom a call has handed the conversation over to, as its result has it."""
    tool = toolbox.get(result.name or "") if not result.is_error else None
    return tool.handoff if tool is not None else None


def refused(call: ToolCall) -> ToolResult:
    """The result of such a call."""
    text = "not run: another call of the same reply has handed the conversation over"
    return ToolResult(call.id or "", text, call.name, True, "invalid")


async def hand_over(run: RunCell, to: Agent[Any, Any]) -> None:
    """Have a run go on with another agent, from its next model call on."""
    before = run.agent.name
    run.diary.hold(journal.HandedOver(to.name, run.diary.clock(), to.fingerprint))
    run.go_on_with(to)
    await run.voice.say(events.AgentHandedOver, agent=before, to=to.name)


def last_of(agent: Agent[Any, Any], names: Iterable[str]) -> Agent[Any, Any] | None:
    """Who goes on with a run of this agent that was handed over to these, one after the other.

    None where one of them is no longer handed over to.
    """
    for name in names:
        found = next((each for each in agent.toolbox.handoffs() if each.name == name), None)
        if found is None:
            return None
        agent = found
    return agent
