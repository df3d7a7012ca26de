"""From a journal back to a machine in the state that it describes.

Recorded replies and outcomes are facts, handed to a new machine as they were to the old one; nothing is asked for
again. What the old machine itself said to a reply (a call refused, an answer sent back) is in the same entry, and is
said again as it was, whatever the agent would say today.

What was in flight at the crash follows the tool's `replay`: a call that never began, or may run twice, runs; of any
other the model is told that its outcome is unknown. Waits go on until the moment that they were to end at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..journal import (
    Answered,
    Asked,
    Delivered,
    Happened,
    Held,
    Intended,
    Record,
    Resumed,
    Retrying,
    Said,
    Slept,
    Spent,
    Stopping,
    decode,
)
from ..journal import Replied as RepliedRecord
from ..journal import Sent as SentRecord
from ..providers import Message, ModelReply, ToolCall, ToolResult, Usage
from .approvals import Answer
from .errors import LimitExceeded
from .ledger import Amount, nano
from .machine import (
    Asking,
    Begin,
    CallTools,
    Effect,
    Machine,
    Rejected,
    Replied,
    Sent,
    State,
    StopAsked,
    ToolDone,
)
from .tool import Toolbox

UNKNOWN = "outcome unknown: the run crashed while this call was running; it may or may not have taken effect"


class Replayed:
    """Where a run stands, beside the state of its machine.

    Attributes:
        effects: what is to be done next.
        made_up: results of calls whose outcome is unknown, which are to be written down.
        lost: where those of them stand that had begun, as in the ids of their runs, by call id.
        again: the ids of calls that had begun and run once more.
        answers: what was said to calls of this turn.
        asked: until when an answer is waited for, by call id, as seconds since the epoch.
        naps: until when a tool sleeps, by call id and the number of its sleep.
        attempts: tries of the model call at hand that have failed; `due`, the moment of the next one, and `pause`, the
            seconds between.
        stop: what was asked for.
        paused: whether the run is to wait.
        sent: how many messages were sent into it.
        usage, cost: what was used so far, in tokens and US dollars; `spent`, what counts of it against limits.
    """

    __slots__ = (
        "again",
        "answers",
        "asked",
        "attempts",
        "cost",
        "due",
        "effects",
        "lost",
        "made_up",
        "naps",
        "pause",
        "paused",
        "sent",
        "spent",
        "stop",
        "usage",
    )

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.effects: list[Effect] = []
        self.made_up: list[ToolResult] = []
        self.lost: dict[str, str] = {}
        self.again: set[str] = set()
        self.answers = dict(answers)
        self.asked: dict[str, float | None] = {}
        self.naps: dict[tuple[str, int], float] = {}
        self.attempts = 0
        self.due = 0.0
        self.pause = 0.0
        self.stop: StopAsked | None = None
        self.paused = False
        self.sent = 0
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.spent = Amount()

    def count(self, *, requests: int = 0, tool_calls: int = 0, usage: Any = None, cost: float | None = None) -> None:
        """Count what was used against limits, as far as it was written down."""
        read = msgspec.convert(usage, Usage) if usage is not None else Usage()
        input, output = read.input_tokens or 0, read.output_tokens or 0
        total = read.total_tokens if read.total_tokens is not None else input + output
        self.spent += Amount(requests, tool_calls, 0, input, output, total, nano(cost or 0.0))

    def spend(self, usage: Any, cost: float | None) -> None:
        """Count what something has used, as it was written down."""
        if usage is not None:
            self.usage += msgspec.convert(usage, Usage)
        self.cost = self.cost + cost if self.cost is not None and cost is not None else None


def replay(
    machine: Machine, entries: Sequence[bytes], toolbox: Toolbox, answers: Mapping[str, Answer] | None = None
) -> Replayed:
    """Bring a new machine to the state that the entries say.

    Args:
        machine: as it was made at the run's beginning.
        entries: the run's journal.
        toolbox: the agent's tools, as they are today.
        answers: those that the run was started with.

    Raises:
        BadRecord: the entries cannot be read.
    """
    said = Replayed(answers or {})
    rules = machine.rules
    intended: set[str] = set()
    said.effects = machine.handle(Begin())
    for entry in entries:
        records = decode(entry)
        # In the entry of a reply stands what the machine has said to it.
        machine.rules = msgspec.structs.replace(rules, **_recorded_rules(records, rules.read))
        for record in records:
            said.effects = _apply(machine, record, intended, said) or said.effects
    machine.rules = rules
    machine.take_unwritten()
    if machine.state is State.ACTING:
        _go_on(machine, intended, toolbox, said)
    return said


def _recorded_rules(records: Sequence[Record], read: Any) -> dict[str, Any]:
    """Rules that say what was said then."""
    results: dict[str, ToolResult] = {}
    corrections = [record for record in records if isinstance(record, Said)]
    if isinstance(records[0], RepliedRecord):
        made = [msgspec.convert(record.result, ToolResult) for record in records if isinstance(record, Happened)]
        results = {result.call_id: result for result in made}

    def read_again(message: Message) -> Any:
        if corrections:
            raise Rejected(msgspec.convert(corrections[0].message, Message).text)
        return read(message)

    def refused(call: ToolCall) -> ToolResult | None:
        return results.get(call.id or "")

    return {"refuse": refused, "read": read_again}


def _apply(machine: Machine, record: Record, intended: set[str], said: Replayed) -> list[Effect]:
    match record:
        case RepliedRecord():
            reply = msgspec.convert(record.reply, ModelReply)
            said.spend(reply.usage, record.cost)
            said.count(requests=1, usage=reply.usage, cost=record.cost)
            said.attempts, said.due = 0, 0.0
            intended.clear()  # a new turn may use the same ids again
            said.asked.clear()
            said.naps.clear()
            said.answers.clear()
            return machine.handle(Replied(reply))
        case Intended():
            if record.call_id not in intended:
                said.count(tool_calls=1)
            intended.add(record.call_id)
        case Happened():
            said.spend(record.usage, record.cost)
            if record.spent is not None:
                said.spent += msgspec.convert(record.spent, Amount)
            return machine.handle(ToolDone(msgspec.convert(record.result, ToolResult)))
        case SentRecord():
            said.sent += 1
            return machine.handle(Sent(record.message_id, record.when, msgspec.convert(record.message, Message)))
        case Delivered():
            return machine.handle(Asking())
        case Retrying():
            said.spend(record.usage, record.cost)
            said.count(requests=1, usage=record.usage, cost=record.cost)
            said.attempts, said.due, said.pause = record.attempt, record.until, record.until - record.at
        case Spent():
            said.spend(record.usage, record.cost)
            said.count(requests=1, usage=record.usage, cost=record.cost)
        case Asked():
            said.asked[record.call_id] = record.until
        case Answered():
            said.answers[record.call_id] = record.answer
        case Slept():
            said.naps[record.call_id, record.number] = record.until
        case Stopping():
            error = LimitExceeded(*record.limit) if record.limit is not None else None
            said.stop = StopAsked(record.mode, record.reason, error=error)  # type: ignore[arg-type]
            return machine.handle(said.stop)
        case Held():
            said.paused = record.paused
        case Resumed() if record.asking:
            said.spend(None, None)
        case _:
            pass
    return []


def limit_of(error: BaseException | None) -> tuple[str, float, float] | None:
    """How a stop that a limit wants is written down."""
    return (error.limit, error.used, error.allowed) if isinstance(error, LimitExceeded) else None


def _go_on(machine: Machine, intended: set[str], toolbox: Toolbox, said: Replayed) -> None:
    """Decide about the calls that have no outcome."""
    calls: list[ToolCall] = []
    for call in machine.open_calls:
        begun = call.id in intended
        refusal = machine.rules.refuse(call)
        if begun and (refusal is not None or toolbox[call.name].replay == "never"):
            said.made_up.append(ToolResult(call.id or "", UNKNOWN, call.name, True, "outcome_unknown"))
            said.lost[call.id or ""] = f"{machine.turn}.{machine.place_of(call.id or '')}"
        elif refusal is not None:
            said.made_up.append(refusal)
        else:
            calls.append(call)
            if begun:
                said.again.add(call.id or "")
    for result in said.made_up:
        said.effects = machine.handle(ToolDone(result)) or said.effects
    if calls:
        said.effects = [CallTools(tuple(calls))]
