"""Agents: an agent run as an actor, its tools and subagents as its children.

Read `machine` for what a run does, `run_cell` for how it is done, `agent` for what users write.
"""

from .agent import Agent
from .approvals import PendingCall
from .context import RunContext
from .errors import (
    AgentError,
    AgentFrozen,
    GuardFailed,
    LimitExceeded,
    ModelRetry,
    OutputInvalid,
    RestartLimit,
    RunEnded,
    SeveralSystems,
    StaleApproval,
    ToolCallInvalid,
    ToolError,
    ToolFailed,
    UnknownOption,
)
from .hooks import Hooks
from .inbox import Letter
from .limits import Limits, Supervision
from .policy import Allow, Ask, Deny, allow_only, ask_before, deny_all
from .readers import EventReader, ReaderDetached, TextReader
from .result import Messages, RunResult
from .run import Run
from .sources import Sources
from .stop_token import StopToken
from .system import System
from .tool import Tool, tool

__all__ = [
    "Agent",
    "AgentError",
    "AgentFrozen",
    "Allow",
    "Ask",
    "Deny",
    "EventReader",
    "GuardFailed",
    "Hooks",
    "Letter",
    "LimitExceeded",
    "Limits",
    "Messages",
    "ModelRetry",
    "OutputInvalid",
    "PendingCall",
    "ReaderDetached",
    "RestartLimit",
    "Run",
    "RunContext",
    "RunEnded",
    "RunResult",
    "SeveralSystems",
    "Sources",
    "StaleApproval",
    "StopToken",
    "Supervision",
    "System",
    "TextReader",
    "Tool",
    "ToolCallInvalid",
    "ToolError",
    "ToolFailed",
    "UnknownOption",
    "allow_only",
    "ask_before",
    "deny_all",
    "tool",
]
