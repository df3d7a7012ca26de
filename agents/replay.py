"""From a journal back to a machine in the state that it describes.

Recorded replies and outcomes are facts, handed to a new machine as they were to the old one; nothing is asked for
again. What the old machine itself said to a reply (a call refused, an answer sent back) is in the same entry, and is
said again as it was, whatever the agent would say today.

What was in flight at the crash follows the tool's `replay`: a call that never began, or may run twice, runs; of any
other the model is told that its outcome is unknown. Waits go on until the moment that they were to end at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..journal import (
    Answered,
    AnsweredQuestion,
    Asked,
    Checked,
    Delivered,
    HandedOver,
    Happened,
    Held,
    Intended,
    Questioned,
    Record,
    Resumed,
    Retrying,
    Returned,
    Said,
    Slept,
    Spawned,
    Spent,
    Stopping,
    Summarised,
    decode,
)
from ..journal import Replied as RepliedRecord
from ..journal import Sent as SentRecord
from ..providers import Message, ModelReply, ToolCall, ToolResult, Usage
from .approvals import Answer
from .errors import LimitExceeded
from .handoff import handed_over_by
from .machine import (
    Accepted,
    AnswerTool,
    Asking,
    Begin,
    CallModel,
    CallTools,
    Check,
    Effect,
    Machine,
    Rejected,
    Reminded,
    Replied,
    Rules,
    Sent,
    State,
    StopAsked,
    ToolDone,
    cancelled,
)
from .questions import Recorded
from .reminders import Reminder
from .tool import Toolbox

if TYPE_CHECKING:
    from .agent import Agent

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
        questions: what a tool has asked the user, and the answer, by call id and the number of the question.
        attempts: tries of the model call at hand that have failed; `due`, the moment of the next one, and `pause`, the
            seconds between.
        stop: what was asked for.
        paused: whether the run is to wait.
        sent: how many messages were sent into it.
        spawned: what it had begun in the background, by run id; the ids of those whose use it has written down are in
            `returned`.
        handoff: to whom the turn at hand has handed the conversation over, where that is not written down.
        summary: how many messages the last summary stands for, and its text.
        usage, cost: what was used so far, in tokens and US dollars.
    """

    __slots__ = (
        "again",
        "answers",
        "asked",
        "attempts",
        "cost",
        "due",
        "effects",
        "handoff",
        "lost",
        "made_up",
        "naps",
        "pause",
        "paused",
        "questions",
        "returned",
        "sent",
        "spawned",
        "stop",
        "summary",
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
        self.questions: dict[str, dict[int, Recorded]] = {}
        self.attempts = 0
        self.due = 0.0
        self.pause = 0.0
        self.stop: StopAsked | None = None
        self.paused = False
        self.sent = 0
        self.summary: tuple[int, str] | None = None
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.spawned: dict[str, Spawned] = {}
        self.returned: set[str] = set()
        self.handoff: Agent[Any, Any] | None = None

    def lost_children(self, place: str) -> list[Spawned]:
        """What a call of unknown outcome had begun in the background, and what is to end with it."""
        return [
            each
            for each in self.spawned.values()
            if (each.place, each.orphan) == (place, "stop") and each.run_id not in self.returned
        ]

    def spend(self, usage: Any, cost: float | None) -> None:
        """Count what something has used, as it was written down."""
        if usage is not None:
            self.usage += msgspec.convert(usage, Usage)
        self.cost = self.cost + cost if self.cost is not None and cost is not None else None


#: Of a run that has nothing of the kind: shared by all of them, and never changed.
NOTHING = Replayed({})


def replay(
    machine: Machine,
    entries: Sequence[bytes],
    toolbox: Toolbox,
    answers: Mapping[str, Answer] | None = None,
    *,
    unopened: bool = False,
) -> Replayed:
    """Bring a new machine to the state that the entries say.

    Args:
        machine: as it was made at the run's beginning.
        entries: the run's journal.
        toolbox: the agent's tools, as they are today.
        answers: those that the run was started with.
        unopened: whether tools are missing because a stop came before they were open: calls of them that have not
            begun are cancelled.

    Raises:
        BadRecord: the entries cannot be read.
    """
    said = Replayed(answers or {})
    rules = machine.rules
    if unopened:
        machine.rules = msgspec.structs.replace(rules, refuse=_no_refusal)  # what became of it may be recorded
        rules = msgspec.structs.replace(rules, refuse=_cancel_unless_in(toolbox))
    intended: set[str] = set()
    said.effects = machine.handle(Begin())
    story = [decode(entry) for entry in entries]
    last = _last_request(story)
    reply = max((place for place, records in enumerate(story) if _has(records, RepliedRecord)), default=-1)
    for place, records in enumerate(story):
        machine.rules = _recorded_rules(story, place, _patient(rules) if place < reply else rules, last)
        for record in records:
            said.effects = _apply(machine, record, intended, said) or said.effects
            if isinstance(record, Happened):
                said.handoff = said.handoff or handed_over_by(msgspec.convert(record.result, ToolResult), toolbox)
    machine.rules = rules
    machine.forget_written()
    if machine.state is State.ACTING:
        _go_on(machine, intended, toolbox, said)
    elif machine.state is State.CHECKING:
        said.effects = [Check(machine.output)]
    elif machine.state is State.CALLING:
        said.effects = [CallModel()]  # whatever a stop wanted to be cut has been cut
    return said


#: Records that are not there before what the model is reminded of has been written down.
_OF_REQUESTS = (RepliedRecord, Said, Delivered, Retrying, Spent, Summarised)


def _last_request(story: Sequence[Sequence[Record]]) -> int:
    """Where the last entry stands that belongs to a request. What was said before it is known."""
    return max((place for place, records in enumerate(story) if _has(records, _OF_REQUESTS)), default=-1)


def _has(records: Sequence[Record], kinds: type[Any] | tuple[type[Any], ...]) -> bool:
    return any(isinstance(record, kinds) for record in records)


def _patient(rules: Rules) -> Rules:
    """Rules for what came before the last reply: nothing of it has ended the run, whoever had it then."""
    return msgspec.structs.replace(rules, output_retries=sys.maxsize, tool_retries=sys.maxsize)


def _recorded_rules(story: Sequence[Sequence[Record]], place: int, rules: Rules, last: int) -> Rules:
    """Rules that say what was said then to the records of the entry at this place.

    What the machine has said to a reply by itself stands in the same entry. What became of an answer that was checked,
    or that stood beside other calls, was known later, but before the next reply. What the model was reminded of is
    written before the next request; only where the journal ends before that, it is decided today.
    """
    results: dict[str, ToolResult] = {}
    if isinstance(story[place][0], RepliedRecord):
        results = {result.call_id: result for result in _outcomes(story[place])}

    def read_again(message: Message) -> Any:
        for record in _until_next_reply(story, place):
            if isinstance(record, Said):
                correction = msgspec.convert(record.message, Message)
                if correction.role == "user":
                    raise Rejected(correction.text)
        return rules.read(message)

    def read_call_again(call: ToolCall) -> Any:
        for result in _outcomes(_until_next_reply(story, place)):
            if result.call_id == call.id and result.cause == "invalid":
                raise Rejected(result.content)
        return tool.read(call) if tool is not None else None

    def refused(call: ToolCall) -> ToolResult | None:
        return results.get(call.id or "")

    tool = rules.answer_tool
    answer_tool = AnswerTool(tool.name, read_call_again) if tool is not None else None
    silent = place < last or _has(story[place], Said)
    return msgspec.structs.replace(rules, refuse=refused, read=read_again, answer_tool=answer_tool, silent=silent)


def _outcomes(records: Iterable[Record]) -> list[ToolResult]:
    return [msgspec.convert(record.result, ToolResult) for record in records if isinstance(record, Happened)]


def _until_next_reply(story: Sequence[Sequence[Record]], place: int) -> Iterator[Record]:
    """The records from this entry on, with the reply that it may hold, up to the next one."""
    replied = False
    for number, records in enumerate(story[place:]):
        for record in records:
            if isinstance(record, RepliedRecord):
                if replied or number > 0:
                    return
                replied = True
            yield record


def _apply(machine: Machine, record: Record, intended: set[str], said: Replayed) -> list[Effect]:
    match record:
        case RepliedRecord():
            reply = msgspec.convert(record.reply, ModelReply)
            said.spend(reply.usage, record.cost)
            said.attempts, said.due = 0, 0.0
            intended.clear()  # a new turn may use the same ids again
            said.asked.clear()
            said.naps.clear()
            said.questions.clear()
            said.answers.clear()
            said.handoff = None
            return machine.handle(Replied(reply))
        case Intended():
            intended.add(record.call_id)
        case Happened():
            said.spend(record.usage, record.cost)
            return machine.handle(ToolDone(msgspec.convert(record.result, ToolResult)))
        case Checked():
            return _accept(machine, record)
        case SentRecord():
            said.sent += 1
            return machine.handle(Sent(record.message_id, record.when, msgspec.convert(record.message, Message)))
        case Delivered():
            return machine.handle(Asking())
        case Retrying():
            said.spend(record.usage, record.cost)
            said.attempts, said.due, said.pause = record.attempt, record.until, record.until - record.at
        case Spent():
            said.spend(record.usage, record.cost)
        case Summarised():
            said.spend(record.usage, record.cost)
            said.summary = record.count, record.text
        case Asked():
            said.asked[record.call_id] = record.until
        case Answered():
            said.answers[record.call_id] = record.answer
        case Spawned():
            said.spawned[record.run_id] = record
        case Returned():
            said.returned.add(record.run_id)
            said.spend(record.usage, record.cost)
        case HandedOver():
            said.handoff = None
            machine.forgive()
        case Slept():
            said.naps[record.call_id, record.number] = record.until
        case Questioned():
            asked = said.questions.setdefault(record.call_id, {})
            asked[record.number] = Recorded(record.question, record.until)
        case AnsweredQuestion():
            asked = said.questions.setdefault(record.call_id, {})
            if record.number in asked:
                asked[record.number] = msgspec.structs.replace(asked[record.number], answer=record.text)
        case Said() if record.why is not None:
            return machine.handle(Reminded(Reminder(record.why, msgspec.convert(record.message, Message))))  # type: ignore[arg-type]
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


def _accept(machine: Machine, record: Checked) -> list[Effect]:
    """Accept an answer as it was accepted. Where it is not known what was made of it, it is checked again."""
    if not record.changed:
        return machine.handle(Accepted(machine.output))
    restore = machine.rules.restore
    if record.output is None or restore is None:
        return []
    try:
        return machine.handle(Accepted(restore(record.output)))
    except Exception:
        return []  # the type is another today


def _no_refusal(_call: ToolCall) -> None:
    return None


def _cancel_unless_in(toolbox: Toolbox) -> Callable[[ToolCall], ToolResult | None]:
    return lambda call: toolbox.refuse(call) if call.name in toolbox.names else cancelled(call)


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
