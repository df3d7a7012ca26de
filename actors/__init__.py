"""Actors, supervisors and the root of their tree: Erlang's ideas on structured concurrency. No word about models."""

from .actor import Actor, Context
from .backoff import Backoff
from .dead_letters import DeadLetter, DeadLetters
from .descriptors import DescriptorLimit, raise_descriptor_limit
from .errors import (
    ActorDied,
    ActorEnded,
    ActorError,
    ActorStopped,
    AskTimeout,
    BadChildSpec,
    LinkBroken,
    NameTaken,
    RestartLimit,
    StartFailed,
    StrayCancellation,
    SystemClosed,
    WouldDeadlock,
)
from .exits import Down, Exit, ExitKind, LinkDown
from .home import Home
from .ref import ActorRef, Monitor
from .reports import Report, ReportKind
from .restart import Restart, Strategy
from .roster import ChildCount
from .spec import AutoShutdown, ChildSpec, Supervisor
from .supervisor_ref import SupervisorRef
from .system import ActorSystem
from .timers import Timer
from .tree import Node

__all__ = [
    "Actor",
    "ActorDied",
    "ActorEnded",
    "ActorError",
    "ActorRef",
    "ActorStopped",
    "ActorSystem",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "BadChildSpec",
    "ChildCount",
    "ChildSpec",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "DescriptorLimit",
    "Down",
    "Exit",
    "ExitKind",
    "Home",
    "LinkBroken",
    "LinkDown",
    "Monitor",
    "NameTaken",
    "Node",
    "Report",
    "ReportKind",
    "Restart",
    "RestartLimit",
    "StartFailed",
    "Strategy",
    "StrayCancellation",
    "Supervisor",
    "SupervisorRef",
    "SystemClosed",
    "Timer",
    "WouldDeadlock",
    "raise_descriptor_limit",
]
