"""Agents: an agent run as an actor, its tools and subagents as its children.

Read `machine` for what a run does, `run_cell` for how it is done, `agent` for what users write.
"""

from .agent import Agent
from .approvals import PendingCall
from .archive import Archive
from .chronicle import Chronicle
from .context import RunContext
from .conversation import Conversation
from .drain import Drained
from .errors import (
    AgentError,
    AgentFrozen,
    ConversationBusy,
    GuardFailed,
    LimitExceeded,
    ModelRetry,
    OutputInvalid,
    RestartLimit,
    RunEnded,
    SeveralSystems,
    StaleApproval,
    SystemDraining,
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
from .recovery import Recovery
from .recovery_terms import Unfinished
from .result import Messages, RunResult
from .run import Run
from .sources import Sources
from .stop_token import StopToken
from .system import System
from .tool import Tool, tool
from .trace import Trace

__all__ = [
    "Agent",
    "AgentError",
    "AgentFrozen",
    "Allow",
    "Archive",
    "Ask",
    "Chronicle",
    "Conversation",
    "ConversationBusy",
    "Deny",
    "Drained",
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
    "Recovery",
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
    "SystemDraining",
    "TextReader",
    "Tool",
    "ToolCallInvalid",
    "ToolError",
    "ToolFailed",
    "Trace",
    "Unfinished",
    "UnknownOption",
    "allow_only",
    "ask_before",
    "deny_all",
    "tool",
]
