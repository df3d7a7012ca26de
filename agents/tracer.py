"""From the records of a run to its trace, one record after the other.

A turn begins with the model's reply; its calls are filled in as their intents and outcomes come. What happens to the
run while calls are open stands in their turn, everything else beside the turns. The moment from which the model could
be asked is not written down; it is that of the last record the request depends on.

Nothing is believed about the order of records beyond what a run guarantees: a journal may be of any version that this
one reads, and end anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..journal import (
    Answered,
    AnsweredQuestion,
    Asked,
    Began,
    Delivered,
    Ended,
    HandedOver,
    Happened,
    Held,
    Intended,
    Parked,
    Questioned,
    Record,
    Replied,
    Resumed,
    Retrying,
    Said,
    Sent,
    Slept,
    Spent,
    Stopping,
    Summarised,
    Suspended,
)
from ..providers import Message, ModelReply, ToolCall, ToolResult, Usage
from .machine import with_distinct_ids
from .trace import Trace, call_name, duration, one_line, tokens_in

if TYPE_CHECKING:
    from .chronicle import Chronicle
    from .result import RunResult

#: Stop reasons that need no mention.
_USUAL = (None, "stop", "tool_calls")


class Step:
    """A node of a trace that is not finished yet."""

    __slots__ = (
        *("at", "begun", "call_id", "children", "cost", "kind", "name", "seconds", "status", "text", "tokens", "tries"),
    )

    def __init__(self, kind: str, name: str, text: str = "", at: float = 0.0, *, status: str | None = None) -> None:
        self.kind = kind
        self.name = name
        self.text = one_line(text)
        self.at = at
        self.seconds: float | None = None
        self.status = status
        self.tokens: int | None = None
        self.cost: float | None = None
        self.children: list[Step | Trace] = []
        #: Of a call: its id, how often it has begun, and when it did last.
        self.call_id: str | None = None
        self.tries = 0
        self.begun: float | None = None

    def finished(self) -> Trace:
        """The node as it is now."""
        return Trace(
            *(self.kind, self.name, self.text, self.at, self.seconds, self.status),
            *(self.tries if self.tries > 1 else None, self.tokens, self.cost),
            tuple([each.finished() if isinstance(each, Step) else each for each in self.children]),
        )


class Tracer:
    """The story of one run as far as it was read. `root` is the run; what it stands at is left to whoever knows."""

    def __init__(self, began: Began) -> None:
        self.root = Step("run", f"run {began.run_id} of agent {began.agent}", at=began.at)
        self._run_id = began.run_id
        self._turns: list[Step] = []
        self._replies = 0
        self._open: dict[str, Step] = {}
        self._answerable = began.at
        self._sent: dict[str, str] = {}
        history = [msgspec.convert(each, Message) for each in began.history]
        if history:
            self.root.children.append(Step("history", f"after {_count(len(history), 'message')}"))
        self.root.children += [_message(msgspec.convert(each, Message), began.at) for each in began.prompt]
        if began.kept is not None and history:
            self._go_on_with(history[-1], [msgspec.convert(each, ToolResult) for each in began.kept], began)

    def _go_on_with(self, message: Message, kept: Sequence[ToolResult], began: Began) -> None:
        """A run that begins with calls that waited for an approval."""
        turn = Step("turn", "calls that waited", at=began.at)
        self._begin_turn(turn, message, began.at)
        for result in kept:
            self._end_call(result, began.at)
        for id, answer in began.answers.items():
            if id in self._open:
                self._open[id].children.append(_answer(answer, began.at))

    @property
    def opening(self) -> list[Step]:
        """The steps that the beginning is news about."""
        return [self.root, *[each for each in self.root.children if isinstance(each, Step)]]

    # -- where things stand

    def _add(self, step: Step, parent: Step | None = None) -> list[Step]:
        """Beside the turns, or in the one whose calls are open."""
        if parent is None:
            parent = self._turns[-1] if self._open else self.root
        parent.children.append(step)
        return [step]

    def _begin_turn(self, turn: Step, message: Message, at: float) -> list[Step]:
        self._open.clear()
        self.root.children.append(turn)
        self._turns.append(turn)
        if message.text or message.refusal:
            turn.children.append(_message(message, at))
        news = [turn, *[each for each in turn.children if isinstance(each, Step)]]
        for call in message.tool_calls:
            step = _call(call, at)
            self._open[call.id or ""] = step
            turn.children.append(step)
        return news

    def _end_call(self, result: ToolResult, at: float) -> list[Step]:
        step = self._open.pop(result.call_id, None)
        if step is None:
            return []
        if step.begun is not None:
            step.seconds = max(0.0, at - step.begun)
        step.status = _status(result)
        step.text = one_line(result.content)
        if not self._open:
            self._answerable = at
        return [step]

    # -- reading

    def read(self, record: Record) -> Sequence[Step]:
        """Take the next record; returns the steps that it is news about."""
        at = record.at
        match record:
            case Replied():
                return self._read_reply(msgspec.convert(record.reply, ModelReply), record)
            case Intended() if record.call_id in self._open:
                step = self._open[record.call_id]
                step.begun = at
                step.tries += 1
                return [step]
            case Happened():
                return self._read_outcome(record)
            case Slept() | Asked() | Answered() | Questioned() | AnsweredQuestion() if record.call_id in self._open:
                return self._add(_beside_call(record), self._open[record.call_id])
            case Said():
                message = msgspec.convert(record.message, Message)
                self._answerable = at
                return self._add(_message(message, at), self._turns[-1] if self._turns else None)
            case Retrying():
                self._answerable = record.until
                again = f"again after {duration(record.until - at)}"
                step = Step("retry", f"try {record.attempt} of the model call failed", again, at)
                _spend(step, record.usage, record.cost)
                return self._add(step)
            case Spent():
                self._answerable = at
                step = Step("spent", "a model call without a reply", at=at)
                _spend(step, record.usage, record.cost)
                return self._add(step)
            case Summarised():
                self._answerable = at
                step = Step("summary", f"summary of {_count(record.count, 'message')}", record.text, at)
                _spend(step, record.usage, record.cost)
                return self._add(step)
            case Sent():
                text = msgspec.convert(record.message, Message).text
                self._sent[record.message_id] = text
                return self._add(Step("sent", f"message sent ({record.when})", text, at))
            case Delivered():
                self._answerable = at
                texts = [self._sent[id] for id in record.message_ids if id in self._sent]
                return self._add(Step("delivered", "message delivered", " / ".join(texts), at), self.root)
            case _:
                return self._read_fate(record)

    def _read_reply(self, reply: ModelReply, record: Replied) -> list[Step]:
        self._replies += 1
        turn = Step("turn", f"turn {self._replies}", at=self._answerable)
        turn.seconds = max(0.0, record.at - self._answerable)
        if reply.stop_reason not in _USUAL:
            turn.status = reply.stop_reason
        _spend(turn, reply.usage, record.cost)
        news = self._begin_turn(turn, with_distinct_ids(reply.message, self._replies), record.at)
        if not self._open:
            self._answerable = record.at
        return news

    def _read_outcome(self, record: Happened) -> list[Step]:
        news = self._end_call(msgspec.convert(record.result, ToolResult), record.at)
        for step in news:
            _spend(step, record.usage, record.cost)
        return news

    def _read_fate(self, record: Record) -> list[Step]:
        """What concerns the run as a whole."""
        at = record.at
        match record:
            case Stopping():
                return self._add(Step("stop", f"stop asked for ({record.mode})", record.reason, at))
            case Held():
                return self._add(Step("pause", "paused" if record.paused else "pause is over", at=at))
            case HandedOver():
                return self._add(Step("handoff", f"handed over to agent {record.agent}", at=at), self.root)
            case Suspended():
                return self._add(Step("suspended", "suspended, to go on in another process", at=at))
            case Resumed():
                self._answerable = at
                died = "its process had died" if record.suspect or record.asking else ""
                said = "; ".join([*([died] if died else []), *record.changes])
                return self._add(Step("resumed", "goes on in another process", said, at))
            case Parked():
                return self._add(Step("parked", "parked", record.reason, at))
            case Ended():
                step = Step("end", f"{record.status} ({record.reason})", record.error or "", at)
                self.root.seconds = max(0.0, at - self.root.at)
                return self._add(step, self.root)
            case _:
                return []

    # -- subagents

    def place(self, run_id: str, call_id: str | None, at: float, trace: Trace) -> None:
        """Put the trace of a subagent into the call that it worked for."""
        self._call_of(run_id, call_id, at).children.append(trace)

    def _call_of(self, run_id: str, call_id: str | None, at: float) -> Step:
        calls = [
            (turn, call)
            for turn in self._turns
            for call in turn.children
            if isinstance(call, Step) and call.call_id is not None and call.call_id == call_id
        ]
        # Ids of calls may come again in another turn. The subagent's own id names the turn, unless it was given one.
        named = f"turn {run_id.removeprefix(f'{self._run_id}.').split('.')[0]}"
        for turn, call in calls:
            if turn.name == named:
                return call
        begun = [call for _, call in calls if call.at <= at]
        return begun[-1] if begun else self.root


def trace_of(chronicle: Chronicle) -> Trace:
    """The trace of a run, with those of its subagents."""
    tracer = Tracer(chronicle.began)
    for record in chronicle.records[1:]:
        tracer.read(record)
    for child in chronicle.children:
        began = child.began
        tracer.place(began.run_id, began.call_id, began.at, trace_of(child))
    root = tracer.root
    root.status = (
        chronicle.standing if not chronicle.reason else f"{chronicle.standing} ({one_line(chronicle.reason, 40)})"
    )
    root.tokens, root.cost = tokens_in(chronicle.usage), chronicle.cost
    for run_id, why in chronicle.unreadable.items():
        root.children.append(Step("unreadable", f"run {run_id} cannot be read", why))
    return root.finished()


def trace_of_result(result: RunResult[Any]) -> Trace:
    """What a result knows: the conversation, without the moments of its steps."""
    root = Step("run", f"run {result.run_id} of agent {result.agent}", at=result.started_at.timestamp())
    root.status = f"{result.status} ({one_line(result.reason, 40)})"
    root.seconds = (result.ended_at - result.started_at).total_seconds()
    root.tokens, root.cost = tokens_in(result.usage), result.cost
    older = len(result.messages) - len(result.new_messages)
    if older:
        root.children.append(Step("history", f"after {_count(older, 'message')}"))
    calls: dict[str, Step] = {}
    turns = 0
    for message in result.new_messages:
        if message.role == "assistant":
            turns += 1
            turn = Step("turn", f"turn {turns}", status="cut" if message.partial else None)
            if message.text or message.refusal:
                turn.children.append(_message(message, 0.0))
            calls = {call.id or "": _call(call, 0.0) for call in message.tool_calls}
            turn.children += calls.values()
            root.children.append(turn)
        elif message.role != "tool":
            root.children.append(_message(message, 0.0))
        for each in message.tool_results:
            if each.call_id in calls:
                calls[each.call_id].status, calls[each.call_id].text = _status(each), one_line(each.content)
    if result.error is not None:
        ended = f"{result.status} ({one_line(result.reason, 40)})"
        root.children.append(Step("end", ended, one_line(result.error), result.ended_at.timestamp()))
    return root.finished()


# -- single steps


def _message(message: Message, at: float) -> Step:
    text = message.text or message.refusal or ""
    return Step("message", message.role, text, at, status="cut" if message.partial else None)


def _call(call: ToolCall, at: float) -> Step:
    step = Step("call", call_name(call.name, call.arguments, call.raw), at=at)
    step.call_id = call.id or ""
    return step


def _status(result: ToolResult) -> str | None:
    return (result.cause or "failed").replace("_", " ") if result.is_error or result.cause else None


def _beside_call(record: Slept | Asked | Answered | Questioned | AnsweredQuestion) -> Step:
    match record:
        case Slept():
            step = Step("sleep", "sleeps", at=record.at)
            step.seconds = max(0.0, record.until - record.at)
        case Asked():
            limit = "" if record.until is None else f"for {duration(record.until - record.at)}"
            step = Step("approval", "waits for an approval", limit, record.at)
        case Answered():
            step = _answer(record.answer, record.at)
        case Questioned():
            step = Step("question", "asks the user", record.question, record.at)
        case AnsweredQuestion():
            step = Step("question", "the user answers", record.text, record.at)
    return step


def _answer(answer: bool | str, at: float) -> Step:
    if answer is True:
        return Step("approval", "approved", at=at)
    return Step("approval", "denied", answer if isinstance(answer, str) else "", at)


def _spend(step: Step, usage: Any, cost: float | None) -> None:
    if usage is not None:
        step.tokens = tokens_in(msgspec.convert(usage, Usage))
    step.cost = cost


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
