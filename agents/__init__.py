"""Agents: an agent run as an actor, its tools and subagents as its children.

Read `machine` for what a run does, `run_cell` for how it is done, `agent` for what users write.
"""

from .agent import Agent
from .approvals import PendingCall
from .archive import Archive
from .auto_recall import recalled
from .chronicle import Chronicle
from .context import RunContext
from .context_window import ContextWindow, OverflowContext
from .conversation import Conversation
from .drain import Drained
from .errors import (
    AgentError,
    AgentFrozen,
    ConversationBusy,
    GuardFailed,
    LimitExceeded,
    ModelRetry,
    NoneCompleted,
    NoQuorum,
    OutputInvalid,
    PriceUnknown,
    RestartLimit,
    RunEnded,
    SeveralSystems,
    StaleApproval,
    StaleQuestion,
    Stuck,
    SystemBusy,
    SystemDraining,
    ToolCallInvalid,
    ToolError,
    ToolFailed,
    ToolsetFailed,
    UnknownOption,
    ValidatorFailed,
)
from .hooks import Hooks
from .in_thread import ThreadRecovery, ThreadSystem
from .inbox import Letter
from .joint import quorum, race, wait_all, wait_any
from .limits import Limits, Supervision
from .memory import LocalMemory, Memory, MemoryFailed, Note
from .memory_file import NewerMemory, NotAMemory
from .memory_sqlite import SqliteMemory
from .memory_tools import memory_tools
from .policy import Allow, Ask, Deny, allow_only, ask_before, deny_all
from .questions import PendingQuestion
from .readers import EventReader, ReaderDetached, TextReader
from .recovery import Recovery
from .recovery_terms import Unfinished
from .result import Messages, RunResult
from .run import Run, RunSnapshot
from .sources import Sources
from .stop_token import StopToken
from .system import System
from .thread_run import ThreadConversation, ThreadRun
from .tool import Tool, tool
from .toolset import Toolkit, Toolset
from .trace import Trace

__all__ = [
    "Agent",
    "AgentError",
    "AgentFrozen",
    "Allow",
    "Archive",
    "Ask",
    "Chronicle",
    "ContextWindow",
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
    "LocalMemory",
    "Memory",
    "MemoryFailed",
    "Messages",
    "ModelRetry",
    "NewerMemory",
    "NoQuorum",
    "NoneCompleted",
    "NotAMemory",
    "Note",
    "OutputInvalid",
    "OverflowContext",
    "PendingCall",
    "PendingQuestion",
    "PriceUnknown",
    "ReaderDetached",
    "Recovery",
    "RestartLimit",
    "Run",
    "RunContext",
    "RunEnded",
    "RunResult",
    "RunSnapshot",
    "SeveralSystems",
    "Sources",
    "SqliteMemory",
    "StaleApproval",
    "StaleQuestion",
    "StopToken",
    "Stuck",
    "Supervision",
    "System",
    "SystemBusy",
    "SystemDraining",
    "TextReader",
    "ThreadConversation",
    "ThreadRecovery",
    "ThreadRun",
    "ThreadSystem",
    "Tool",
    "ToolCallInvalid",
    "ToolError",
    "ToolFailed",
    "Toolkit",
    "Toolset",
    "ToolsetFailed",
    "Trace",
    "Unfinished",
    "UnknownOption",
    "ValidatorFailed",
    "allow_only",
    "ask_before",
    "deny_all",
    "memory_tools",
    "quorum",
    "race",
    "recalled",
    "tool",
    "wait_all",
    "wait_any",
]
