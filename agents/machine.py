"""The core of a run as a machine: facts come in, what to do next comes out.

::

              Begin                     Replied, no calls
    READY ───────────> CALLING ──────────────────────────────────────────> DONE
                       │  ^  │ Replied with calls                           ^
                       │  │  v                                              │
                       │  │ ACTING ── ToolDone … the last one ──┐           │
                       │  └─────────────────────────────────────┘           │
                       └── ModelFailed, ModelCut, a limit, a stop ──────────┘

Where answers are checked, one is CHECKING before the run is DONE: `Accepted` ends it, `Refused` goes back to CALLING.

An answer is a reply without calls, or the call of an output tool. That call runs nothing: it is read once the other
calls of its reply have ended, and counts if none of them has failed, for the model wrote it before it knew. Its result
says what became of it.

Nothing here awaits, looks at a clock, draws a random number or does I/O, so every interleaving of replies, tool
endings and stops can be tried as data. The skin (`run_cell.py`) performs the effects and reports what came of them.
Resuming is replaying recorded facts into a new machine; streaming is somebody watching; neither is a second loop.

A message that is sent in waits in the machine until `Asking`: it never comes between a call and its result. A reminder
of the run's own (`reminders`) is put in where a turn with calls has ended and the run goes on.

Invariants: at most one model call is open; every tool call has exactly one result before the next model call; a
result that comes late or twice changes nothing; after a stop no new work is asked for.

The set of effects is closed. What a run *says* about itself (events) is not an effect: the skin derives it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from ..providers import Message, ModelReply, StopReason, ToolCall, ToolResult, user
from .reminders import Reminder, Repeating, Streak, replanning, stuck

StopMode: TypeAlias = Literal["now", "after_tools", "after_turn"]
STOP_MODES: tuple[StopMode, ...] = ("now", "after_tools", "after_turn")

Status: TypeAlias = Literal["completed", "stopped", "limited", "waiting", "failed"]


#: Stop reasons of a message that the provider wants back before it goes on with the same answer.
UNFINISHED = ("pause", "compaction")
#: Stop reasons of a message whose tool calls nobody stands for any more.
WITHHELD = ("refusal", "content_filter", "error")


#: Causes of results that tell the model to call otherwise; nothing, or nothing of use, has run.
UNUSABLE = ("invalid", "unknown_tool")


class State(enum.Enum):
    """Where a run stands."""

    READY = "ready"
    CALLING = "calling"
    ACTING = "acting"
    CHECKING = "checking"
    DONE = "done"


# -- facts


class Begin(msgspec.Struct, frozen=True):
    """Start."""


class Replied(msgspec.Struct, frozen=True):
    """The model has answered."""

    reply: ModelReply


class ModelFailed(msgspec.Struct, frozen=True):
    """The model call failed for good; `partial` is what had been received."""

    error: BaseException
    partial: Message | None = None


class ModelCut(msgspec.Struct, frozen=True):
    """The model call was cancelled by a stop; `partial` is what had been received."""

    partial: Message | None = None


class ToolDone(msgspec.Struct, frozen=True):
    """A tool call has its result."""

    result: ToolResult


class ToolPends(msgspec.Struct, frozen=True):
    """A tool call waits for an approval that nobody is there to give."""

    call_id: str


class Aborted(msgspec.Struct, frozen=True):
    """A tool call has ended in a way that fails the run."""

    error: BaseException


class Limited(msgspec.Struct, frozen=True):
    """A limit stands against the model call, or against the tool calls, that the machine has asked for.

    `partial` is what had been received, where it was found out in the middle of an answer.
    """

    reason: str
    error: BaseException
    partial: Message | None = None


class Accepted(msgspec.Struct, frozen=True):
    """The answer has passed the checks; `output` is what they have made of it."""

    output: Any


class Refused(msgspec.Struct, frozen=True):
    """The answer has not passed the checks."""

    rejection: Rejected


class CheckFailed(msgspec.Struct, frozen=True):
    """Nobody can say whether the answer is good: a check has failed."""

    error: BaseException


class CheckCut(msgspec.Struct, frozen=True):
    """The check was cancelled by a stop."""


class StopAsked(msgspec.Struct, frozen=True):
    """Somebody wants the run to end; one that is `resumable` wants it to go on elsewhere.

    With an `error`, it is a limit that wants the end.
    """

    mode: StopMode
    reason: str
    resumable: bool = False
    error: BaseException | None = None


class Sent(msgspec.Struct, frozen=True):
    """Somebody sends a message into the run.

    One that is for now (``asap``) stands before the next request; one that can wait (``idle``) where the run would
    otherwise be over. `id` tells it from the others.
    """

    id: str
    when: Literal["asap", "idle"]
    message: Message


class Asking(msgspec.Struct, frozen=True):
    """The request is about to be made: what has been sent is to be in it."""


class Reminded(msgspec.Struct, frozen=True):
    """The model was reminded of something, before this run was begun once more."""

    reminder: Reminder


Fact: TypeAlias = (
    Begin
    | Replied
    | ModelFailed
    | ModelCut
    | ToolDone
    | ToolPends
    | Aborted
    | Limited
    | StopAsked
    | Sent
    | Asking
    | Reminded
    | Accepted
    | Refused
    | CheckFailed
    | CheckCut
)


# -- effects


class CallModel(msgspec.Struct, frozen=True):
    """Ask the model to continue the conversation."""


class CancelModel(msgspec.Struct, frozen=True):
    """Cancel the model call; answer with `ModelCut`."""


class CallTools(msgspec.Struct, frozen=True):
    """Run these calls; answer each with `ToolDone`."""

    calls: tuple[ToolCall, ...]


class CancelTools(msgspec.Struct, frozen=True):
    """Cancel the calls that are open; answer each with `ToolDone`."""


class Check(msgspec.Struct, frozen=True):
    """Have the answer checked; answer with `Accepted`, `Refused` or `CheckFailed`."""

    output: Any


class CancelCheck(msgspec.Struct, frozen=True):
    """Cancel the check; answer with `CheckCut`."""


class Finish(msgspec.Struct, frozen=True):
    """The run is over."""

    status: Status
    reason: str
    output: Any = None
    error: BaseException | None = None


Effect: TypeAlias = CallModel | CancelModel | CallTools | CancelTools | Check | CancelCheck | Finish


class Rejected(Exception):
    """An answer that cannot be read as the output type; the text tells the model what to mend.

    One that is `final` does not go back to the model: it has refused to answer. One that was `checked` can be read, and
    a check has refused it. The `reason` alone is for who wrote the agent.
    """

    def __init__(self, text: str, *, reason: str | None = None, final: bool = False, checked: bool = False) -> None:
        super().__init__(text)
        self.reason = reason if reason is not None else text
        self.final = final
        self.checked = checked


class Unusable(Exception):
    """Too many turns in a row in which no tool call could run; the text is the last one's result."""


class AnswerTool(msgspec.Struct, frozen=True):
    """The tool whose call is the answer. `read` makes the output of its arguments, or raises `Rejected`."""

    name: str
    read: Callable[[ToolCall], Any]


class Rules(msgspec.Struct, frozen=True):
    """What a machine must know of its agent.

    `refuse` gives the result of a call that must not run (unknown tool, bad arguments), or None. `read` turns the final
    message into the output, or raises `Rejected`. `turns` bounds the model calls; None does not. `tool_retries` bounds
    the turns in a row, after the first, in which every call was sent back to the model to be mended.

    `answer_tool` is the tool that answers are given by, beside text. Where answers are checked, `restore` makes the
    output of what was written down of one that was accepted; None where they are not.

    After each `replan_every` turns the model is told to look at its plan, in the words of `replan_prompt`. A model that
    has made the same calls with the same results `stuck_after` turns in a row is told so; None never tells it. A
    `silent` machine counts, but reminds of nothing by itself: what it said comes as facts (`Reminded`).
    """

    refuse: Callable[[ToolCall], ToolResult | None]
    read: Callable[[Message], Any]
    turns: int | None = None
    output_retries: int = 1
    tool_retries: int = 3
    answer_tool: AnswerTool | None = None
    restore: Callable[[str], Any] | None = None
    replan_every: int | None = None
    replan_prompt: str | None = None
    stuck_after: int | None = None
    silent: bool = False


class Machine:
    """One run.

    Args:
        rules: what the agent says.
        history: the conversation before this run.
        prompt: the messages that start it.
        kept: of a run that goes on with calls that waited for an approval: the history ends with the message that made
            them, and these are the results of its other calls.
    """

    __slots__ = (
        "_answer",
        "_calls",
        "_failure",
        "_messages",
        "_mid_answer",
        "_pending",
        "_places",
        "_results",
        "_sent",
        "_stop",
        "_streak",
        "_unsaid",
        "_unwritten",
        "output",
        "output_retries",
        "rules",
        "state",
        "stop_reason",
        "tool_retries",
        "turn",
    )

    def __init__(
        self,
        rules: Rules,
        history: Sequence[Message],
        prompt: Sequence[Message],
        kept: Sequence[ToolResult] | None = None,
    ) -> None:
        self.rules = rules
        self.state = State.READY
        #: The current turn, from 1; 0 before the first model call.
        self.turn = 0
        self.output_retries = 0
        #: The answer that is being checked.
        self.output: Any = None
        #: Why the model ended its last reply.
        self.stop_reason: StopReason | None = None
        #: Turns in a row, up to the last one with calls, in which none of them could run.
        self.tool_retries = 0
        self._messages: list[Message] = [*history, *prompt]
        self._calls: tuple[ToolCall, ...] = ()
        #: The one of them that is the answer, as long as it has no result.
        self._answer: ToolCall | None = None
        #: Where each call stands among those of its reply, by its id.
        self._places: dict[str | None, int] = {}
        self._results: dict[str, ToolResult] = {}
        #: Calls that wait for an approval.
        self._pending: frozenset[str] = frozenset()
        self._failure: BaseException | None = None
        self._stop: StopAsked | None = None
        #: Messages that are not in the conversation yet, in the order in which they came.
        self._sent: tuple[Sent, ...] = ()
        #: Whether the provider goes on with an answer that it has suspended, into which nothing may be put.
        self._mid_answer = False
        # What we have put into the conversation by ourselves, for the skin to write down; and to say.
        self._unwritten: tuple[ToolResult | Message | Reminder, ...] = ()
        self._unsaid: tuple[Reminder, ...] = ()
        #: How often in a row the same turn has come.
        self._streak = Streak()
        if kept is not None:
            self._calls = self._messages[-1].tool_calls
            self._results = {result.call_id: result for result in kept}

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, with the results that are there, in the order of their calls."""
        return self._messages + self._result_messages()

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls that have no result yet, without that of the output tool."""
        return tuple([call for call in self._calls if call.id not in self._results and call is not self._answer])

    def place_of(self, call_id: str) -> int:
        """Where an open call stands among those of its reply, from 0."""
        return self._places[call_id]

    @property
    def due(self) -> tuple[Sent, ...]:
        """The messages that the next request is to hold."""
        return () if self._mid_answer else tuple([sent for sent in self._sent if sent.when == "asap"])

    @property
    def cuts(self) -> list[Effect]:
        """What the stop that was asked for cuts short where the run stands."""
        if self._stop is None:
            return []
        if self.state is State.CALLING and self._stop.mode != "after_turn":
            return [CancelModel()]
        if self.state is State.ACTING and self._stop.mode == "now":
            return [CancelTools()]
        if self.state is State.CHECKING and self._stop.mode == "now":
            return [CancelCheck()]
        return []

    def handle(self, fact: Fact) -> list[Effect]:
        """Take a fact; return what to do, in this order. A fact that no longer matters changes nothing."""
        match self.state, fact:
            case State.READY, Begin():
                return self._act() if self._calls else self._next_turn()
            case State.CALLING, Replied(reply):
                return self._replied(reply)
            case State.CALLING, ModelFailed(error, partial):
                self._keep_partial(partial)
                return self._finish(Finish("failed", "error", error=error))
            case State.CALLING, ModelCut(partial):
                self._keep_partial(partial)
                return self._stopped()
            case State.CALLING, Limited(reason, error, partial):
                self._keep_partial(partial)
                return self._finish(Finish("limited", reason, error=error))
            case State.ACTING, Limited(reason, error):
                self._close_turn(over_limit)
                return self._finish(Finish("limited", reason, error=error))
            case State.ACTING, ToolDone(result):
                return self._tool_done(result)
            case State.ACTING, ToolPends(call_id):
                self._pending |= {call_id}
                return self._once_all_done()
            case State.ACTING, Aborted(error):
                self._failure = self._failure or error
                return [CancelTools()]
            case State.CHECKING, Accepted(output):
                return self._accepted(output)
            case State.CHECKING, Refused(rejection):
                return self._refused(rejection)
            case State.CHECKING, CheckFailed(error):
                self._close_turn(cancelled)
                return self._finish(Finish("failed", "error", error=error))
            case State.CHECKING, CheckCut():
                return self._check_cut()
            case State.CALLING, Asking():
                return self._deliver()
            case State.CALLING, Reminded(reminder):
                return self._reminded(reminder)
            case State.READY | State.CALLING | State.ACTING | State.CHECKING, Sent() as sent:
                self._sent += (sent,)
                return []
            case _, StopAsked() as stop:
                return self._asked_to_stop(stop)
            case _:
                return []

    def take_unwritten(self) -> Sequence[ToolResult | Message | Reminder]:
        """What the machine has put into the conversation by itself since it was last asked, for the journal."""
        taken, self._unwritten = self._unwritten, ()
        return taken

    def take_unsaid(self) -> Sequence[Reminder]:
        """The reminders since it was last asked, for the events."""
        taken, self._unsaid = self._unsaid, ()
        return taken

    def go_on_with(self, rules: Rules) -> None:
        """Have other rules from here on, of another agent. What was sent back to the one before does not count."""
        self.rules = rules
        self.forgive()

    def forgive(self) -> None:
        """Begin to count anew what is sent back."""
        self.output_retries = self.tool_retries = 0

    def forget_written(self) -> None:
        """The journal that was replayed holds what was said to it, but not a reminder that is new."""
        self._unwritten = tuple([item for item in self._unwritten if isinstance(item, Reminder)])

    def abandon(self, result_of: Callable[[ToolCall], ToolResult], partial: Message | None = None) -> None:
        """Close what is open although nobody will act on it: the run is over, perhaps cut off from outside.

        An open model call leaves what was received; every open tool call gets its result.
        """
        if self.state is State.CALLING:
            self._keep_partial(partial)
        self._close_open(pending_result if self.state is State.READY else result_of)
        self.state = State.DONE

    def _close_open(self, result_of: Callable[[ToolCall], ToolResult]) -> None:
        for call in self._calls:
            if call.id not in self._results:
                self._put_result(result_of(call))

    def _close_turn(self, result_of: Callable[[ToolCall], ToolResult]) -> list[ToolResult]:
        """Close what is open, and put all results into the conversation."""
        self._close_open(result_of)
        messages = self._result_messages()
        self._messages += messages
        self._calls, self._results, self._answer = (), {}, None
        self._pending = frozenset()
        return [message.tool_results[0] for message in messages]

    def _put_result(self, result: ToolResult) -> None:
        """Give a call a result that nobody has reported."""
        self._results[result.call_id] = result
        self._unwritten += (result,)

    # -- transitions

    def _next_turn(self) -> list[Effect]:
        if self._stop is not None:
            return self._stopped()
        if self.rules.turns is not None and self.turn >= self.rules.turns:
            return self._finish(Finish("limited", "turns"))
        self.turn += 1
        self.state = State.CALLING
        return [CallModel()]

    def _replied(self, reply: ModelReply) -> list[Effect]:
        message = with_distinct_ids(reply.message, self.turn)
        self._messages.append(message)
        self.stop_reason = reply.stop_reason
        calls = message.tool_calls
        self._mid_answer = not calls and reply.stop_reason in UNFINISHED
        if not calls:
            if self._mid_answer:
                return self._next_turn()
            return self._answered()
        self._calls, self._results = calls, {}
        if reply.stop_reason == "length":
            self._put_result(cut_off(calls[-1]))
        elif reply.stop_reason in WITHHELD:
            for call in calls:
                self._put_result(not_meant(call, reply.stop_reason))
        return self._act()

    def _act(self) -> list[Effect]:
        self.state = State.ACTING
        self._places = {call.id: place for place, call in enumerate(self._calls)}
        self._find_answer()
        for call in self.open_calls:
            refusal = self.rules.refuse(call)
            if refusal is not None:
                self._put_result(refusal)
        if self._stop is not None and self._stop.mode != "after_turn":
            for call in self.open_calls:
                self._put_result(cancelled(call))
        allowed = self.open_calls
        return [CallTools(allowed)] if allowed else self._all_done()

    def _find_answer(self) -> None:
        """Find the first call of the output tool; of several, the others are not read."""
        tool = self.rules.answer_tool
        answers = [call for call in self.open_calls if tool is not None and call.name == tool.name]
        for other in answers[1:]:
            self._put_result(not_read(other))
        self._answer = answers[0] if answers else None

    def _answered(self) -> list[Effect]:
        """Read the answer: the call of the output tool, or the last message."""
        self._streak.break_off()
        tool, call = self.rules.answer_tool, self._answer
        try:
            output = tool.read(call) if tool is not None and call is not None else self.rules.read(self._messages[-1])
        except Rejected as rejection:
            return self._refused(rejection)
        if self.rules.restore is None:
            return self._accepted(output)
        self.state, self.output = State.CHECKING, output
        if self._stop is not None and self._stop.mode == "now":
            return self._check_cut()
        return [Check(output)]

    def _accepted(self, output: Any) -> list[Effect]:
        self._close_turn(accepted)
        if self._sent and self._stop is None and (self.rules.turns is None or self.turn < self.rules.turns):
            return self._go_on()
        return self._finish(Finish("completed", "answered", output))

    def _refused(self, rejection: Rejected) -> list[Effect]:
        """Send an answer back, where that is still allowed: as the result of its call, or as a message."""
        called = self._answer is not None
        self._close_turn(lambda call: ToolResult(call.id or "", str(rejection), call.name, True, "invalid"))
        if rejection.final or self.output_retries >= self.rules.output_retries:
            return self._finish(Finish("failed", "error", error=rejection))
        self.output_retries += 1
        if not called:
            self._put_message(user(str(rejection)))
        return self._next_turn()

    def _check_cut(self) -> list[Effect]:
        self._close_turn(cancelled)
        return self._stopped()

    def _go_on(self) -> list[Effect]:
        """There is an answer, and a message to come after it. What could wait has waited when nothing else is left."""
        if not self.due:
            self._sent = tuple([msgspec.structs.replace(sent, when="asap") for sent in self._sent])
        return self._next_turn()

    def _deliver(self) -> list[Effect]:
        if self._mid_answer:
            return []
        self._messages += [sent.message for sent in self.due]
        self._sent = tuple([sent for sent in self._sent if sent.when != "asap"])
        return []

    def _tool_done(self, result: ToolResult) -> list[Effect]:
        if result.call_id not in self._places or result.call_id in self._results:
            return []
        self._results[result.call_id] = result
        return self._once_all_done()

    def _once_all_done(self) -> list[Effect]:
        return [] if len(self.open_calls) > len(self._pending) else self._all_done()

    def _all_done(self) -> list[Effect]:
        waits = bool(self._pending) and self._stop is None and self._failure is None
        if self._answer is not None and not waits and self._failure is None:
            if all(self._has_gone_well(call) for call in self._calls):
                return self._answered()
            if self._stop is None:
                self._put_result(not_taken(self._answer))
        calls = self._calls
        results = self._close_turn(pending_result if waits else cancelled)
        if self._failure is not None:
            return self._finish(Finish("failed", "error", error=self._failure))
        if waits:
            return self._finish(Finish("waiting", "approval"))
        self.tool_retries = self.tool_retries + 1 if all(result.cause in UNUSABLE for result in results) else 0
        if self.tool_retries > self.rules.tool_retries and self._stop is None:
            return self._finish(Finish("failed", "error", error=Unusable(results[-1].content)))
        if self.rules.stuck_after is not None:
            self._streak.count(calls, results)
        if self._stop is None and not self.rules.silent:
            return self._after_tools()
        return self._next_turn()

    def _after_tools(self) -> list[Effect]:
        """Go on after a turn with calls, with a reminder where one is due."""
        rules, streak = self.rules, self._streak
        if rules.stuck_after is not None and streak.is_over(rules.stuck_after):
            error = Repeating(streak.repeats, streak.tools)
            return self._finish(Finish("failed", "error", error=error))
        effects = self._next_turn()
        if self.state is State.CALLING:
            if rules.stuck_after is not None and streak.due(rules.stuck_after):
                self._remind(stuck(streak))
            elif rules.replan_every is not None and self.turn > 1 and (self.turn - 1) % rules.replan_every == 0:
                self._remind(replanning(rules.replan_prompt))
        return effects

    def _remind(self, reminder: Reminder) -> None:
        self._reminded(reminder)
        self._unwritten += (reminder,)
        self._unsaid += (reminder,)

    def _reminded(self, reminder: Reminder) -> list[Effect]:
        if reminder.why == "stuck":
            self._streak.tell()
        self._messages.append(reminder.message)
        return []

    def _has_gone_well(self, call: ToolCall) -> bool:
        """Whether nothing that this call has come to speaks against the answer beside it."""
        tool = self.rules.answer_tool
        return (tool is not None and call.name == tool.name) or not self._results[call.id or ""].is_error

    def _asked_to_stop(self, stop: StopAsked) -> list[Effect]:
        if self.state is State.DONE or (self._stop is not None and urgency(self._stop) >= urgency(stop)):
            return []
        self._stop = stop
        if self.state is State.READY:
            self._close_open(pending_result)
            return self._stopped()
        return self.cuts

    def _stopped(self) -> list[Effect]:
        assert self._stop is not None
        stop = self._stop
        return self._finish(Finish("limited" if stop.error is not None else "stopped", stop.reason, error=stop.error))

    def _finish(self, finish: Finish) -> list[Effect]:
        self.state = State.DONE
        return [finish]

    def _keep_partial(self, partial: Message | None) -> None:
        """Keep what the model had said. Half a tool call is not kept: it was never run and has no result."""
        if partial is not None:
            parts = tuple(part for part in partial.parts if not isinstance(part, ToolCall))
            if parts:
                self._put_message(msgspec.structs.replace(partial, parts=parts, partial=True))

    def _put_message(self, message: Message) -> None:
        self._messages.append(message)
        self._unwritten += (message,)

    def _result_messages(self) -> list[Message]:
        results = self._results
        if not results:
            return []
        found = [results.get(call.id or "") for call in self._calls]
        return [Message("tool", (result,)) for result in found if result is not None]


def urgency(stop: StopAsked) -> int:
    """How soon a stop wants the end, as a number to compare."""
    return {"after_turn": 0, "after_tools": 1, "now": 2}[stop.mode]


#: Why a call was given up, unless somebody says otherwise.
STOPPED = "the run was stopped before this call finished"


def cancelled(call: ToolCall, why: str = STOPPED) -> ToolResult:
    """The result of a call that something kept from finishing. It never claims success."""
    return ToolResult(call.id or "", f"cancelled: {why}", call.name, True, "cancelled")


def not_meant(call: ToolCall, reason: str) -> ToolResult:
    """The result of a call in a reply that the model, or its provider, has taken back."""
    text = f"not run: the reply with this call ended with the stop reason {reason!r}"
    return ToolResult(call.id or "", text, call.name, True, "invalid")


def over_limit(call: ToolCall) -> ToolResult:
    """The result of a call that a limit stands against."""
    text = "not run: the run has reached the limit on its tool calls"
    return ToolResult(call.id or "", text, call.name, True, "limited")


def accepted(call: ToolCall) -> ToolResult:
    """The result of the call that was the answer."""
    return ToolResult(call.id or "", "accepted", call.name, False, "accepted")


def not_taken(call: ToolCall) -> ToolResult:
    """The result of an answer beside a call that has failed."""
    text = "not taken: another call of the same reply did not end well; look at its result, then answer again"
    return ToolResult(call.id or "", text, call.name, True, "invalid")


def not_read(call: ToolCall) -> ToolResult:
    """The result of another answer in the same reply."""
    return ToolResult(
        call.id or "", "not read: the reply has another answer before this one", call.name, True, "invalid"
    )


def cut_off(call: ToolCall) -> ToolResult:
    """The result of a call that the model may not have finished: its arguments may parse and still be half of them."""
    text = "not run: the reply was cut off here by the limit on output tokens; make this call again, or a shorter one"
    return ToolResult(call.id or "", text, call.name, True, "invalid")


def pending_result(call: ToolCall) -> ToolResult:
    """What stands for the result of a call that waits for an approval: so the history is valid, whatever comes next."""
    return ToolResult(call.id or "", "not run yet: this call waits for an approval", call.name, True, "pending")


def with_distinct_ids(message: Message, turn: int) -> Message:
    """The message with an id on every tool call, no two alike: providers leave them out, or repeat them."""
    given = [part.id for part in message.parts if isinstance(part, ToolCall)]
    if all(given) and len(set(given)) == len(given):
        return message
    taken = set(given)
    kept: set[str] = set()
    parts = list(message.parts)
    for index, part in enumerate(parts):
        if isinstance(part, ToolCall):
            id = part.id
            if not id or id in kept:
                id = f"{id or 'call'}-{turn}-{index}"
                while id in taken:
                    id += "x"
                taken.add(id)
                parts[index] = msgspec.structs.replace(part, id=id)
            kept.add(id)
    return msgspec.structs.replace(message, parts=tuple(parts))
