"""What a run says about itself: one closed union of frozen records.

Every event carries where it comes from. `seq` numbers the events of one tree of runs, from 1; `path` names the runs
from the root to the one that speaks; `turn` is 0 before the first model call. `event.type` is a dotted name,
`str(event)` one readable line.

Deltas (`ModelTextDelta` and its kin) may be merged for a slow reader, or dropped with an `EventsDropped` in their
place. All others are lifecycle events and reach every reader that follows; one that comes late gets the latest of them,
behind an `EventsDropped` for those that are no longer kept.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from ..providers import Usage


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False):
    """What all events have. `time` is in seconds since the epoch.

    Events are kept in numbers and hold no cycles, so the cyclic collector need not look at them (``gc=False``).
    """

    seq: int
    time: float
    run_id: str
    path: tuple[str, ...]
    turn: int = 0
    parent_id: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None

    @property
    def type(self) -> str:
        """The dotted name, for example ``tool.completed``."""
        return str(self.__struct_config__.tag)

    def to_dict(self) -> dict[str, Any]:
        """The event as a dictionary, `type` included."""
        return msgspec.to_builtins(self)

    def to_json(self) -> bytes:
        """The event as one line of JSON, for newline-delimited streams."""
        return msgspec.json.encode(self)

    def __str__(self) -> str:
        own = [
            f"{name}={_brief(getattr(self, name))}"
            for name in self.__struct_fields__
            if name not in Event.__struct_fields__ and getattr(self, name) not in (None, (), "", Usage())
        ]
        return " ".join([f"{'/'.join(self.path)} #{self.turn} {self.type}", *own])


def _brief(value: object) -> str:
    if isinstance(value, Usage):
        value = f"{value.input_tokens or 0}+{value.output_tokens or 0} tokens"
    elif isinstance(value, float):
        value = f"{value:.3g}"
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"


class RunStarted(Event, frozen=True, kw_only=True, tag="run.started"):
    """A run begins."""

    agent: str


class RunRestarted(Event, frozen=True, kw_only=True, tag="run.restarted"):
    """A run crashed and goes on from its journal."""

    agent: str
    restarts: int
    error: str


class RunRecovered(Event, frozen=True, kw_only=True, tag="run.recovered"):
    """A run that was begun in another process goes on from its journal; `claims` is how often it has been taken over.

    `changes` says what has become different about its agent meanwhile.
    """

    agent: str
    claims: int
    changes: tuple[str, ...] = ()


class RunCompleted(Event, frozen=True, kw_only=True, tag="run.completed"):
    """A run has its answer. `output_tool` names the tool that it came by, if it did; `text` is then its JSON."""

    agent: str
    reason: str
    usage: Usage
    text: str = ""
    output_tool: str | None = None


class RunStopped(Event, frozen=True, kw_only=True, tag="run.stopped"):
    """A run ended because somebody wanted it to."""

    agent: str
    reason: str
    usage: Usage
    outlived: tuple[str, ...] = ()


class RunLimited(Event, frozen=True, kw_only=True, tag="run.limited"):
    """A run ended at one of its limits."""

    agent: str
    reason: str
    usage: Usage


class RunWaiting(Event, frozen=True, kw_only=True, tag="run.waiting"):
    """A run ended because calls of its tools wait for an approval; `pending` are their ids."""

    agent: str
    reason: str
    usage: Usage
    pending: tuple[str, ...] = ()


class RunFailed(Event, frozen=True, kw_only=True, tag="run.failed"):
    """A run ended without an answer."""

    agent: str
    reason: str
    usage: Usage
    error: str


class LimitWarning(Event, frozen=True, kw_only=True, tag="limit.warning"):
    """A limit of the run is used up to its `warn_at`; `used` and `allowed` in its unit."""

    limit: str
    used: float
    allowed: float


class AgentAdopted(Event, frozen=True, kw_only=True, tag="agent.adopted"):
    """A run in the background has outlived the run above it; `heir` is whose it is now, None the System's."""

    agent: str
    heir: str | None = None


class AgentHandedOver(Event, frozen=True, kw_only=True, tag="agent.handoff"):
    """The run goes on with another agent, in the same conversation."""

    agent: str
    to: str


class StopPollFailed(Event, frozen=True, kw_only=True, tag="run.stop_poll_failed"):
    """The run's `stop_when` failed; it is asked again."""

    error: str


class RunPaused(Event, frozen=True, kw_only=True, tag="run.paused"):
    """A run has finished the step at hand and begins nothing new until it is resumed."""


class RunResumed(Event, frozen=True, kw_only=True, tag="run.resumed"):
    """A run that was paused goes on."""


class MessageQueued(Event, frozen=True, kw_only=True, tag="message.queued"):
    """A message was sent into the run, for its next request (``asap``) or for when it has nothing else to do."""

    message_id: str
    when: str
    text: str = ""


class MessageDelivered(Event, frozen=True, kw_only=True, tag="message.delivered"):
    """A message that was sent into the run is in its conversation, and in the next request."""

    message_id: str
    text: str = ""


class QuestionAsked(Event, frozen=True, kw_only=True, tag="message.asked"):
    """A tool asks the user something, and waits for `run.answer(question_id, text)`."""

    question_id: str
    call_id: str
    tool: str
    question: str


class QuestionAnswered(Event, frozen=True, kw_only=True, tag="message.answered"):
    """A question to the user is open no more. `outcome` is answered (with `text`), expired or withdrawn."""

    question_id: str
    call_id: str
    tool: str
    outcome: str
    text: str = ""


class AgentReplanning(Event, frozen=True, kw_only=True, tag="agent.replanning"):
    """The model is told to look at its plan, after so many turns of the run."""

    turns: int


class AgentStuck(Event, frozen=True, kw_only=True, tag="agent.stuck"):
    """The model has made the same calls with the same results for `repeats` turns in a row, and is told so."""

    repeats: int
    tools: tuple[str, ...]


class ContextOverflowed(Event, frozen=True, kw_only=True, tag="context.overflow"):
    """The conversation is too long: for the agent's window (`source` is ``window``), or for the ``provider``.

    `tokens` is what would be sent or has been, instructions and tools included, by our count; `allowed` is what the
    window takes, None if it has no bound in tokens; `messages` of the conversation are among it.
    """

    tokens: int
    source: str
    allowed: int | None = None
    messages: int = 0


class ContextCompacted(Event, frozen=True, kw_only=True, tag="context.compacted"):
    """Less is sent than there is. `how`: ``drop``, ``summarise``, ``cap`` (long messages were cut) or ``custom``.

    `error` says why there is no summary where there was to be one.
    """

    how: str
    messages_before: int
    messages_after: int
    tokens_before: int
    tokens_after: int
    error: str | None = None


class TurnStarted(Event, frozen=True, kw_only=True, tag="turn.started"):
    """The model is about to be asked."""


class TurnEnded(Event, frozen=True, kw_only=True, tag="turn.ended"):
    """The model's reply and the results of its tools are in the history."""


class ModelStarted(Event, frozen=True, kw_only=True, tag="model.started"):
    """A request goes out; `attempt` counts from 1."""

    model: str
    attempt: int


class ModelTextDelta(Event, frozen=True, kw_only=True, tag="model.text_delta"):
    """More of the answer."""

    text: str


class ModelThinkingDelta(Event, frozen=True, kw_only=True, tag="model.thinking_delta"):
    """More visible reasoning."""

    text: str


class ModelToolArgsDelta(Event, frozen=True, kw_only=True, tag="model.tool_args_delta"):
    """More of the arguments of the tool call at position `index` of this reply."""

    index: int
    arguments: str
    name: str | None = None


class ModelCompleted(Event, frozen=True, kw_only=True, tag="model.completed"):
    """The reply is there, whole."""

    model: str
    stop_reason: str | None = None
    usage: Usage | None = None
    tool_calls: int = 0


class ModelRetrying(Event, frozen=True, kw_only=True, tag="model.retrying"):
    """The request failed and goes out again after `delay` seconds. `kind` is the failure's class in one word."""

    model: str
    attempt: int
    delay: float
    kind: str
    error: str


class ModelFallback(Event, frozen=True, kw_only=True, tag="model.fallback"):
    """A provider was passed over, and the next one is asked. `kind` is the class of the failure in one word."""

    provider: str
    model: str
    next_provider: str
    next_model: str
    kind: str
    error: str


class ModelFailed(Event, frozen=True, kw_only=True, tag="model.failed"):
    """The request failed for good. `kind` is the failure's class in one word."""

    model: str
    attempt: int
    kind: str
    error: str


class GateWaiting(Event, frozen=True, kw_only=True, tag="gate.waiting"):
    """A request waits for its admission to the provider.

    `reason` is ``frozen`` (the provider has refused, and is left alone), ``ramp`` (it is asked by few at first
    afterwards), ``concurrency`` or ``rate`` (a limit of ours or of the provider's). `delay` is in seconds, None where
    it depends on others; `ahead` requests wait too.
    """

    provider: str
    model: str
    reason: str
    delay: float | None = None
    ahead: int = 0


class GateOpened(Event, frozen=True, kw_only=True, tag="gate.opened"):
    """A request that had to wait goes out, after `waited` seconds."""

    provider: str
    model: str
    waited: float


class ToolStarted(Event, frozen=True, kw_only=True, tag="tool.started", gc=True):
    """A tool call runs."""

    call_id: str
    tool: str
    arguments: dict[str, Any] | None = None


class ToolProgress(Event, frozen=True, kw_only=True, tag="tool.progress", gc=True):
    """What a tool emitted while it ran."""

    call_id: str
    tool: str
    progress: Any = None


class ToolCompleted(Event, frozen=True, kw_only=True, tag="tool.completed"):
    """A tool call returned. `seconds` is how long it ran."""

    call_id: str
    tool: str
    result: str
    seconds: float = 0.0


class ToolErrored(Event, frozen=True, kw_only=True, tag="tool.failed"):
    """A tool call has an error for a result; `cause` says which: failed, timed_out, cancelled …"""

    call_id: str
    tool: str
    result: str
    cause: str
    seconds: float = 0.0


class ToolOutlived(Event, frozen=True, kw_only=True, tag="tool.outlived"):
    """A tool call was given up but still runs, because nothing can stop it; its result will be dropped."""

    call_id: str
    tool: str


class ToolRetrying(Event, frozen=True, kw_only=True, tag="tool.retrying"):
    """A tool call failed and is tried again after `delay` seconds; `attempt` is the try that failed, from 1."""

    call_id: str
    tool: str
    attempt: int
    delay: float
    error: str


class ToolBlocked(Event, frozen=True, kw_only=True, tag="tool.blocked"):
    """A tool has kept the whole event loop waiting for so many seconds, without a pause of its own."""

    call_id: str
    tool: str
    seconds: float


class ToolsetOpened(Event, frozen=True, kw_only=True, tag="toolset.opened"):
    """What a toolset of the run's agent needs is open, from this turn on.

    `again` is how often it was opened before, for whatever run, since it is kept open: more than 0 after a crash of it.
    """

    toolset: str
    again: int = 0


class ToolsetLost(Event, frozen=True, kw_only=True, tag="toolset.lost"):
    """What a toolset had open has crashed since the turn before, and is being opened again; the turn waits for it a
    little. `error` says why, where that is known yet.
    """

    toolset: str
    error: str | None = None


class ApprovalRequested(Event, frozen=True, kw_only=True, tag="approval.requested", gc=True):
    """A tool call waits until somebody approves it."""

    call_id: str
    tool: str
    question: str
    arguments: dict[str, Any] | None = None


class ApprovalResolved(Event, frozen=True, kw_only=True, tag="approval.resolved"):
    """A tool call waits no more. `answer` is approved, denied (`reason` says why), expired or withdrawn."""

    call_id: str
    tool: str
    answer: str
    reason: str | None = None


class EventsDropped(Event, frozen=True, kw_only=True, tag="events.dropped"):
    """Events are missing here: deltas, because this reader was slow, or older events that are no longer kept.

    `seq` is that of the last one; `count` is how many: of older events the most that it can be.
    """

    count: int


AnyEvent: TypeAlias = (
    RunStarted
    | RunRestarted
    | RunRecovered
    | RunCompleted
    | RunStopped
    | RunLimited
    | RunWaiting
    | RunFailed
    | LimitWarning
    | AgentAdopted
    | AgentHandedOver
    | StopPollFailed
    | RunPaused
    | RunResumed
    | MessageQueued
    | MessageDelivered
    | QuestionAsked
    | QuestionAnswered
    | AgentReplanning
    | AgentStuck
    | ContextOverflowed
    | ContextCompacted
    | TurnStarted
    | TurnEnded
    | ModelStarted
    | ModelTextDelta
    | ModelThinkingDelta
    | ModelToolArgsDelta
    | ModelCompleted
    | ModelRetrying
    | ModelFallback
    | ModelFailed
    | GateWaiting
    | GateOpened
    | ToolStarted
    | ToolProgress
    | ToolCompleted
    | ToolErrored
    | ToolOutlived
    | ToolRetrying
    | ToolBlocked
    | ToolsetOpened
    | ToolsetLost
    | ApprovalRequested
    | ApprovalResolved
    | EventsDropped
)

Delta: TypeAlias = ModelTextDelta | ModelThinkingDelta | ModelToolArgsDelta
DELTAS: tuple[type[Event], ...] = (ModelTextDelta, ModelThinkingDelta, ModelToolArgsDelta)
TERMINAL: tuple[type[Event], ...] = (RunCompleted, RunStopped, RunLimited, RunWaiting, RunFailed)
