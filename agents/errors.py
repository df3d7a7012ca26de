"""What an agent run raises, and what a tool may raise to steer one.

::

    AgentError                  a run that did not complete; carries its `result` so far
    ├── LimitExceeded           a limit was reached: `limit`, `used`, `allowed`
    ├── OutputInvalid           the answer could not be read as the output type, after its retries
    └── RestartLimit            the run crashed too often; the last crash is the __cause__

    AgentFrozen                 an agent that has run already is changed
    UnknownOption               a keyword that is not ours; the message names ours (a TypeError too)
    SeveralSystems              the System to run in cannot be told

    ModelRetry                  raised by a tool: tell the model what to mend
    ToolFailed                  raised by a tool: tell the model that it failed, and why

A model call that fails for good raises its `ProviderError`, with `result` set; a stop through our own handle raises
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actors import RestartLimit as ActorRestartLimit

if TYPE_CHECKING:
    from .result import RunResult


class AgentError(Exception):
    """A run that did not complete. `result` is what it had reached, with a valid history."""

    result: RunResult[Any] | None = None


class LimitExceeded(AgentError):
    """The run reached a limit before it had an answer."""

    def __init__(self, limit: str, used: float, allowed: float) -> None:
        super().__init__(f"the run reached its limit of {allowed:g} {limit} ({used:g} used): raise Limits({limit}=…)")
        self.limit = limit
        self.used = used
        self.allowed = allowed


class OutputInvalid(AgentError):
    """The model's answer could not be read as the agent's output type."""


class RestartLimit(AgentError, ActorRestartLimit):
    """A run crashed more often than its supervision allows, or a System gave up. Its ``__cause__``: the last crash."""

    def __init__(self, message: str, name: str, child: str, intensity: int, period: float) -> None:
        ActorRestartLimit.__init__(self, name, child, intensity, period)
        self.args = (message,)


class AgentFrozen(RuntimeError):
    """An agent is fixed from its first run on, because runs may share it. `agent.with_(…)` makes a changed copy."""


class UnknownOption(TypeError):
    """A keyword that is not one of ours."""


class SeveralSystems(RuntimeError):
    """More than one System is open in this event loop: say which with ``system=``."""


class ModelRetry(Exception):
    """Raised by a tool to tell the model what to mend: ``raise ModelRetry("use an ISO date")``."""


class ToolFailed(Exception):
    """Raised by a tool to tell the model that the call failed: ``raise ToolFailed("no such customer")``."""
