"""From a journal back to a machine in the state that it describes.

Recorded replies and outcomes are facts, handed to a new machine as they were to the old one; nothing is asked for
again. What was in flight at the crash follows the tool's `replay`: a call that never began, or may run twice, runs;
of any other the model is told that its outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..journal import Answered, Delivered, Happened, Intended, Record, decode
from ..journal import Replied as RepliedRecord
from ..journal import Sent as SentRecord
from ..providers import Message, ModelReply, ToolCall, ToolResult
from .approvals import Answer
from .machine import Asking, Begin, CallTools, Effect, Machine, Replied, Sent, State, ToolDone
from .tool import Toolbox

UNKNOWN = "outcome unknown: the run crashed while this call was running; it may or may not have taken effect"


def replay(machine: Machine, records: Sequence[bytes], toolbox: Toolbox) -> tuple[list[Effect], list[ToolResult]]:
    """Bring a new machine to the state that the records say.

    Returns:
        What is to be done next, and the results that were made up for calls whose outcome is unknown; these are to be
        written down.

    Raises:
        BadRecord: the records cannot be read.
    """
    effects = machine.handle(Begin())
    intended: set[str] = set()
    for record in map(decode, records):
        effects = _apply(machine, record, intended) or effects
    if machine.state is not State.ACTING:
        return effects, []
    again: list[ToolCall] = []
    unknown: list[ToolResult] = []
    for call in machine.open_calls:
        if call.id in intended and toolbox[call.name].replay == "never":
            result = ToolResult(call.id or "", UNKNOWN, call.name, True, "outcome_unknown")
            unknown.append(result)
            effects = machine.handle(ToolDone(result))
        else:
            again.append(call)
    return ([CallTools(tuple(again))] if again else effects), unknown


def answered(records: Sequence[bytes], given: Mapping[str, Answer]) -> dict[str, Answer]:
    """The answers to calls of the last turn: those that the run was started with, and those in its journal."""
    answers = dict(given)
    for record in map(decode, records):
        if isinstance(record, RepliedRecord):
            answers.clear()
        elif isinstance(record, Answered):
            answers[record.call_id] = record.answer
    return answers


def _apply(machine: Machine, record: Record, intended: set[str]) -> list[Effect]:
    if isinstance(record, RepliedRecord):
        intended.clear()  # a new turn may use the same ids again
        return machine.handle(Replied(msgspec.convert(record.reply, ModelReply)))
    if isinstance(record, Intended):
        intended.add(record.call_id)
    elif isinstance(record, Happened):
        return machine.handle(ToolDone(msgspec.convert(record.result, ToolResult)))
    elif isinstance(record, SentRecord):
        return machine.handle(Sent(record.message_id, record.when, msgspec.convert(record.message, Message)))
    elif isinstance(record, Delivered):
        return machine.handle(Asking())
    return []
