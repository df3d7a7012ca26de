"""What an agent run raises, and what a tool may raise to steer one.

::

    AgentError                  a run that did not complete; carries its `result` so far
    ├── LimitExceeded           a limit was reached: `limit`, `used`, `allowed`
    │   └── PriceUnknown        a limit in dollars, and a model whose price is not known
    ├── OutputInvalid           the answer could not be read as the output type, after its retries
    ├── ToolCallInvalid         turn after turn, no tool call of the model could run
    ├── Stuck                   turn after turn, the model made the same calls with the same results: `tools`, `repeats`
    ├── ToolError               a call of a tool with on_error="fail" failed; the __cause__ is what the tool raised
    ├── GuardFailed             a policy or an approver raised; its error is the __cause__
    ├── ToolsetFailed           what tools need open could not be opened; the __cause__ is why
    ├── ValidatorFailed         a validator of the answer raised something else than ModelRetry; it is the __cause__
    └── RestartLimit            the run crashed too often; the last crash is the __cause__

    AgentFrozen                 an agent that has run already is changed
    UnknownOption               a keyword that is not ours; the message names ours (a TypeError too)
    StaleApproval               an answer for a call that does not wait, or waits no more
    StaleQuestion               an answer to a question that is not open, or is open no more
    NoneCompleted               of runs that raced, none completed; an exception group of the causes
    NoQuorum                    too few runs completed, or agreed; has `results` and `causes`
    RunEnded                    a message was sent to a run that has ended; carries it
    ConversationBusy            a conversation's last run has not ended, and is not here
    SystemBusy                  as many runs are at work, and wait, as the System takes
    SystemDraining              the System finishes what it has and starts nothing new
    SeveralSystems              the System to run in cannot be told

    ModelRetry                  raised by a tool or a validator: tell the model what to mend
    ToolFailed                  raised by a tool: tell the model that it failed, and why

A model call that fails for good raises its `ProviderError`, with `result` set; a stop through our own handle raises
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..actors import RestartLimit as ActorRestartLimit

if TYPE_CHECKING:
    from ..providers import Message
    from .result import RunResult


#: What a limit is counted in.
_UNITS = {
    "tool_calls": "tool calls",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "total_tokens": "tokens",
    "cost": "US dollars",
    "wall_time": "seconds",
    "depth": "levels of subagents",
    "children": "subagents",
}


class AgentError(Exception):
    """A run that did not complete. `result` is what it had reached, with a valid history."""

    result: RunResult[Any] | None = None


class LimitExceeded(AgentError):
    """The run reached a limit, its own or that of a run above it, before it had an answer.

    Attributes:
        limit: the name of it, as `Limits` has it.
        used, allowed: how much of it; US dollars for ``cost``, seconds for ``wall_time``.
        owner: the id of the run above whose limit it is; None where it is the run's own.
    """

    def __init__(self, limit: str, used: float, allowed: float, owner: str | None = None) -> None:
        whose = f"the run reached the limit of run {owner!r} above it," if owner else "the run reached its limit of"
        said = f"{_number(used)} used" + (", and what comes next needs more than is left" if used < allowed else "")
        super().__init__(f"{whose} {_number(allowed)} {_UNITS.get(limit, limit)} ({said}): raise Limits({limit}=…)")
        self.limit = limit
        self.used = used
        self.allowed = allowed
        self.owner = owner


def _number(value: float) -> str:
    """A count, or an amount to a billionth, without zeros at its end."""
    return f"{value:,.9f}".rstrip("0").rstrip(".")


class PriceUnknown(LimitExceeded):
    """A run that is bounded in dollars would ask a model whose price is not known. `model` is its name."""

    def __init__(self, model: str, used: float, allowed: float, owner: str | None = None) -> None:
        super().__init__("cost", used, allowed, owner)
        remedy = f'give the agent prices={{"{model}": Price(input=…, output=…)}}, or install greenroom[prices]'
        self.args = (f"Limits(cost=) needs the price of {model!r}, which is not known: {remedy}",)
        self.model = model


class OutputInvalid(AgentError):
    """The model's answer could not be read as the agent's output type."""


class ToolCallInvalid(AgentError):
    """The model called tools that do not exist, or with arguments that do not fit, more often than `tool_retries`."""


class Stuck(AgentError):
    """The model made the same calls with the same results, turn after turn, and went on after it was told.

    Attributes:
        tools: the names of what it called.
        repeats: turns in a row.
    """

    def __init__(self, message: str, tools: tuple[str, ...], repeats: int) -> None:
        super().__init__(message)
        self.tools = tools
        self.repeats = repeats


class RestartLimit(AgentError, ActorRestartLimit):
    """A run crashed more often than its supervision allows, or a System gave up. Its ``__cause__``: the last crash."""

    def __init__(self, message: str, name: str, child: str, intensity: int, period: float) -> None:
        ActorRestartLimit.__init__(self, name, child, intensity, period)
        self.args = (message,)


class ToolError(AgentError):
    """A tool whose errors fail the run has failed. Its ``__cause__``: what the tool raised."""

    def __init__(self, tool: str, call_id: str, message: str) -> None:
        super().__init__(f"tool {tool!r} failed: {message}")
        self.tool = tool
        self.call_id = call_id


class GuardFailed(AgentError):
    """Whether a tool call may run could not be judged: a policy or an approver raised. Its ``__cause__``: what."""

    def __init__(self, tool: str, call_id: str, message: str) -> None:
        super().__init__(f"nobody can say whether tool {tool!r} may be called: {message}")
        self.tool = tool
        self.call_id = call_id


class ToolsetFailed(AgentError):
    """What an agent's tools need open could not be opened, or is no use. The ``__cause__``: why."""

    def __init__(self, toolset: str, message: str) -> None:
        super().__init__(f"toolset {toolset!r} {message}")
        self.toolset = toolset


class ValidatorFailed(AgentError):
    """Whether an answer is good could not be judged: a validator of the agent raised. Its ``__cause__``: what."""

    def __init__(self, validator: str, message: str) -> None:
        super().__init__(f"validator {validator!r} could not judge the answer: {message}")
        self.validator = validator


class StaleApproval(RuntimeError):
    """An answer for a call that does not wait for one: it is unknown, was answered, has expired or was given up."""

    def __init__(self, where: str, call_id: str) -> None:
        super().__init__(
            f"in {where}, no call {call_id!r} waits for an approval: it was answered, expired or given up before, "
            "or was never asked for"
        )
        self.call_id = call_id


class StaleQuestion(RuntimeError):
    """An answer to a question that is not open: it is unknown, was answered, has expired or was withdrawn."""

    def __init__(self, where: str, question_id: str) -> None:
        super().__init__(
            f"in {where}, no question {question_id!r} is open: it was answered, expired or withdrawn before, "
            "or was never asked"
        )
        self.question_id = question_id


class AgentFrozen(RuntimeError):
    """An agent is fixed from its first run on, because runs may share it. `agent.with_(…)` makes a changed copy."""


class UnknownOption(TypeError):
    """A keyword that is not one of ours."""


class NoneCompleted(ExceptionGroup[Exception]):
    """Of those that raced, none completed. `exceptions` has the cause for each, in the order of the arguments."""

    def derive(self, excs: Sequence[Exception], /) -> NoneCompleted:  # type: ignore[override]
        return NoneCompleted(self.message, excs)


class NoQuorum(Exception):
    """Too few completed, or too few of them agreed.

    Attributes:
        need: how many were needed.
        results: of those that completed, in the order of the arguments.
        causes: why the others did not, in that order; without those that were cancelled when it was clear.
    """

    def __init__(self, text: str, need: int, results: Sequence[Any], causes: Sequence[Exception] = ()) -> None:
        super().__init__(text)
        self.need = need
        self.results = list(results)
        self.causes = tuple(causes)


class RunEnded(RuntimeError):
    """The run ended before it got to a message that was sent to it. `message` is that message, to be sent again."""

    def __init__(self, text: str, message: Message) -> None:
        super().__init__(text)
        self.message = message


class ConversationBusy(RuntimeError):
    """The last run of a conversation has not ended: it is at work and one would not wait for it, another process is at
    work on it, or it waits for `recover`.
    """

    def __init__(self, conversation_id: str, run_id: str, *, here: bool = False) -> None:
        if here:
            where = "is at work here: when_busy='wait' waits for it"
        else:
            where = (
                "has not ended and is not at work here: another process has it, or system.recover([agent]) goes on "
                "with it"
            )
        super().__init__(f"run {run_id!r} of conversation {conversation_id!r} {where}")
        self.run_id = run_id


class SystemBusy(RuntimeError):
    """As many runs are at work, and as many wait, as may (`max_running`, `max_queued`): try again later."""

    def __init__(self, max_running: int, max_queued: int) -> None:
        super().__init__(
            f"the System is full: {max_running} runs are at work and {max_queued} wait; try again later, or raise "
            "System(max_running=, max_queued=)"
        )
        self.max_running = max_running
        self.max_queued = max_queued


class SystemDraining(RuntimeError):
    """The System finishes what it has begun and starts nothing new: ask another one, or later."""


class SeveralSystems(RuntimeError):
    """More than one System is open in this event loop: say which with ``system=``."""


class ModelRetry(Exception):
    """Raised by a tool, a validator or an output type to tell the model what to mend: ``raise ModelRetry("use an ISO
    date")``.
    """


class ToolFailed(Exception):
    """Raised by a tool to tell the model that the call failed: ``raise ToolFailed("no such customer")``."""


def described(error: BaseException) -> str:
    """The type and the message of an error, also of one that cannot say its message."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (its message cannot be shown)"
