"""Agents: an agent run as an actor, its tools and subagents as its children.

Read `machine` for what a run does, `run_cell` for how it is done, `agent` for what users write.
"""

from .agent import Agent
from .context import RunContext
from .errors import (
    AgentError,
    AgentFrozen,
    LimitExceeded,
    ModelRetry,
    OutputInvalid,
    RestartLimit,
    SeveralSystems,
    ToolFailed,
    UnknownOption,
)
from .hooks import Hooks
from .limits import Limits, Supervision
from .readers import EventReader, ReaderDetached, TextReader
from .result import Messages, RunResult
from .run import Run
from .sources import Sources
from .system import System
from .tool import Tool, tool

__all__ = [
    "Agent",
    "AgentError",
    "AgentFrozen",
    "EventReader",
    "Hooks",
    "LimitExceeded",
    "Limits",
    "Messages",
    "ModelRetry",
    "OutputInvalid",
    "ReaderDetached",
    "RestartLimit",
    "Run",
    "RunContext",
    "RunResult",
    "SeveralSystems",
    "Sources",
    "Supervision",
    "System",
    "TextReader",
    "Tool",
    "ToolFailed",
    "UnknownOption",
    "tool",
]
