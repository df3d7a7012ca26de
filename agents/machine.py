"""The core of a run as a machine: facts come in, what to do next comes out.

::

              Begin                     Replied, no calls
    READY ───────────> CALLING ──────────────────────────────────────────> DONE
                       │  ^  │ Replied with calls                           ^
                       │  │  v                                              │
                       │  │ ACTING ── ToolDone … the last one ──┐           │
                       │  └─────────────────────────────────────┘           │
                       └── ModelFailed, ModelCut, a limit, a stop ──────────┘

Nothing here awaits, looks at a clock, draws a random number or does I/O, so every interleaving of replies, tool
endings and stops can be tried as data. The skin (`run_cell.py`) performs the effects and reports what came of them.
Resuming is replaying recorded facts into a new machine; streaming is somebody watching; neither is a second loop.

Invariants: at most one model call is open; every tool call has exactly one result before the next model call; a
result that comes late or twice changes nothing; after a stop no new work is asked for.

The set of effects is closed. What a run *says* about itself (events) is not an effect: the skin derives it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from ..providers import Message, ModelReply, ToolCall, ToolResult, user

StopMode: TypeAlias = Literal["now", "after_tools", "after_turn"]
STOP_MODES: tuple[StopMode, ...] = ("now", "after_tools", "after_turn")

Status: TypeAlias = Literal["completed", "stopped", "limited", "waiting", "failed"]


#: Stop reasons of a message that the provider wants back before it goes on with the same answer.
UNFINISHED = ("pause", "compaction")


class State(enum.Enum):
    """Where a run stands."""

    READY = "ready"
    CALLING = "calling"
    ACTING = "acting"
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


class StopAsked(msgspec.Struct, frozen=True):
    """Somebody wants the run to end."""

    mode: StopMode
    reason: str


Fact: TypeAlias = Begin | Replied | ModelFailed | ModelCut | ToolDone | StopAsked


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


class Finish(msgspec.Struct, frozen=True):
    """The run is over."""

    status: Status
    reason: str
    output: Any = None
    error: BaseException | None = None


Effect: TypeAlias = CallModel | CancelModel | CallTools | CancelTools | Finish


class Rejected(Exception):
    """An answer that cannot be read as the output type; the text tells the model what to mend."""


class Rules(msgspec.Struct, frozen=True):
    """What a machine must know of its agent.

    `refuse` gives the result of a call that must not run (unknown tool, bad arguments), or None. `read` turns the final
    message into the output, or raises `Rejected`. `turns` bounds the model calls; None does not.
    """

    refuse: Callable[[ToolCall], ToolResult | None]
    read: Callable[[Message], Any]
    turns: int | None = None
    output_retries: int = 1


class Machine:
    """One run.

    Args:
        rules: what the agent says.
        history: the conversation before this run.
        prompt: the messages that start it.
    """

    __slots__ = (
        "_calls",
        "_ids",
        "_messages",
        "_results",
        "_stop",
        "output_retries",
        "rules",
        "state",
        "turn",
    )

    def __init__(self, rules: Rules, history: Sequence[Message], prompt: Sequence[Message]) -> None:
        self.rules = rules
        self.state = State.READY
        #: The current turn, from 1; 0 before the first model call.
        self.turn = 0
        self.output_retries = 0
        self._messages: list[Message] = [*history, *prompt]
        self._calls: tuple[ToolCall, ...] = ()
        self._ids: frozenset[str | None] = frozenset()
        self._results: dict[str, ToolResult] = {}
        self._stop: StopAsked | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, with the results that are there, in the order of their calls."""
        return self._messages + self._result_messages()

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls that have no result yet."""
        return tuple(call for call in self._calls if call.id not in self._results)

    def handle(self, fact: Fact) -> list[Effect]:
        """Take a fact; return what to do, in this order. A fact that no longer matters changes nothing."""
        match self.state, fact:
            case State.READY, Begin():
                return self._next_turn()
            case State.CALLING, Replied(reply):
                return self._replied(reply)
            case State.CALLING, ModelFailed(error, partial):
                self._keep_partial(partial)
                return self._finish(Finish("failed", "error", error=error))
            case State.CALLING, ModelCut(partial):
                self._keep_partial(partial)
                return self._stopped()
            case State.ACTING, ToolDone(result):
                return self._tool_done(result)
            case _, StopAsked():
                return self._asked_to_stop(fact)
            case _:
                return []

    def abandon(self, result_of: Callable[[ToolCall], ToolResult], partial: Message | None = None) -> None:
        """Close what is open although nobody will act on it: the run is over, perhaps cut off from outside.

        An open model call leaves what was received; every open tool call gets its result.
        """
        if self.state is State.CALLING:
            self._keep_partial(partial)
        for call in self.open_calls:
            self._results[call.id or ""] = result_of(call)
        self.state = State.DONE

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
        calls = message.tool_calls
        if not calls:
            if reply.stop_reason in UNFINISHED:
                return self._next_turn()
            return self._answered(message)
        self.state = State.ACTING
        self._calls = calls
        self._ids = frozenset([call.id for call in calls])
        self._results = {}
        for call in calls:
            refusal = self.rules.refuse(call)
            if refusal is not None:
                self._results[refusal.call_id] = refusal
        allowed = self.open_calls
        if self._stop is not None and self._stop.mode != "after_turn":
            for call in allowed:
                self._results[call.id or ""] = cancelled(call)
            allowed = ()
        return [CallTools(allowed)] if allowed else self._all_done()

    def _answered(self, message: Message) -> list[Effect]:
        try:
            output = self.rules.read(message)
        except Rejected as rejection:
            if self.output_retries >= self.rules.output_retries:
                return self._finish(Finish("failed", "error", error=rejection))
            self.output_retries += 1
            self._messages.append(user(str(rejection)))
            return self._next_turn()
        return self._finish(Finish("completed", "answered", output))

    def _tool_done(self, result: ToolResult) -> list[Effect]:
        if result.call_id not in self._ids or result.call_id in self._results:
            return []
        self._results[result.call_id] = result
        return [] if len(self._results) < len(self._calls) else self._all_done()

    def _all_done(self) -> list[Effect]:
        self._messages += self._result_messages()
        self._calls, self._results = (), {}
        return self._next_turn()

    def _asked_to_stop(self, stop: StopAsked) -> list[Effect]:
        if self.state is State.DONE or (self._stop is not None and _urgency(self._stop) >= _urgency(stop)):
            return []
        self._stop = stop
        if self.state is State.READY:
            return self._stopped()
        if self.state is State.CALLING:
            return [] if stop.mode == "after_turn" else [CancelModel()]
        return [CancelTools()] if stop.mode == "now" else []

    def _stopped(self) -> list[Effect]:
        assert self._stop is not None
        return self._finish(Finish("stopped", self._stop.reason))

    def _finish(self, finish: Finish) -> list[Effect]:
        self.state = State.DONE
        return [finish]

    def _keep_partial(self, partial: Message | None) -> None:
        """Keep what the model had said. Half a tool call is not kept: it was never run and has no result."""
        if partial is not None:
            parts = tuple(part for part in partial.parts if not isinstance(part, ToolCall))
            if parts:
                self._messages.append(msgspec.structs.replace(partial, parts=parts, partial=True))

    def _result_messages(self) -> list[Message]:
        found = [self._results.get(call.id or "") for call in self._calls]
        return [Message("tool", (result,)) for result in found if result is not None]


def _urgency(stop: StopAsked) -> int:
    return {"after_turn": 0, "after_tools": 1, "now": 2}[stop.mode]


def cancelled(call: ToolCall) -> ToolResult:
    """The result of a call that a stop kept from finishing. It never claims success."""
    return ToolResult(
        call.id or "", "cancelled: the run was stopped before this call finished", call.name, True, "cancelled"
    )


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
