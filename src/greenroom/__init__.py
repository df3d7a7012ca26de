"""greenroom: LLM agents that run as supervised actors, on asyncio and trio.

    from greenroom import Agent, tool

    agent = Agent("helper", model="openai:gpt-5-mini", tools=[get_weather])
    result = await agent.run("Weather in Tokyo?")

The names are in reading order: agents and their tools, the System that runs many of them, what can go wrong, and the
actors that everything is made of. Events are in `greenroom.events`, models in `greenroom.providers`.
"""

from . import _links as _links  # first: it says so when the links below are no links
from . import events, providers
from .actors import (
    Actor,
    ActorDied,
    ActorEnded,
    ActorRef,
    ActorStopped,
    AskTimeout,
    Backoff,
    ChildSpec,
    Context,
    Down,
    Exit,
    LinkDown,
    NameTaken,
    StartFailed,
    Supervisor,
    SystemClosed,
    WouldDeadlock,
)
from .agents import (
    Agent,
    AgentError,
    AgentFrozen,
    Hooks,
    LimitExceeded,
    Limits,
    ModelRetry,
    OutputInvalid,
    RestartLimit,
    Run,
    RunContext,
    RunResult,
    Supervision,
    System,
    Tool,
    ToolFailed,
    UnknownOption,
    tool,
)
from .mailbox import MailboxClosed, MailboxFull
from .providers import ModelSettings, ProviderError, Retry, Usage

__version__ = "0.1.0"

__all__ = [
    "Actor",
    "ActorDied",
    "ActorEnded",
    "ActorRef",
    "ActorStopped",
    "Agent",
    "AgentError",
    "AgentFrozen",
    "AskTimeout",
    "Backoff",
    "ChildSpec",
    "Context",
    "Down",
    "Exit",
    "Hooks",
    "LimitExceeded",
    "Limits",
    "LinkDown",
    "MailboxClosed",
    "MailboxFull",
    "ModelRetry",
    "ModelSettings",
    "NameTaken",
    "OutputInvalid",
    "ProviderError",
    "RestartLimit",
    "Retry",
    "Run",
    "RunContext",
    "RunResult",
    "StartFailed",
    "Supervision",
    "Supervisor",
    "System",
    "SystemClosed",
    "Tool",
    "ToolFailed",
    "UnknownOption",
    "Usage",
    "WouldDeadlock",
    "events",
    "providers",
    "tool",
]
