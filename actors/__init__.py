"""Actors, supervisors and the root of their tree: Erlang's ideas on structured concurrency. No word about models."""

from .actor import Actor, Context
from .dead_letters import DeadLetter, DeadLetters
from .descriptors import DescriptorLimit, raise_descriptor_limit
from .errors import (
    ActorDied,
    ActorEnded,
    ActorError,
    ActorStopped,
    AskTimeout,
    BadChildSpec,
    NameTaken,
    RestartLimit,
    StartFailed,
    StrayCancellation,
    SystemClosed,
    WouldDeadlock,
)
from .exits import Down, Exit, ExitKind
from .home import Home
from .ref import ActorRef, Monitor
from .restart import Restart, Strategy
from .spec import ChildSpec, Supervisor
from .supervisor import SupervisorRef
from .system import ActorSystem
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
    "BadChildSpec",
    "ChildSpec",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "DescriptorLimit",
    "Down",
    "Exit",
    "ExitKind",
    "Home",
    "Monitor",
    "NameTaken",
    "Node",
    "Restart",
    "RestartLimit",
    "StartFailed",
    "Strategy",
    "StrayCancellation",
    "Supervisor",
    "SupervisorRef",
    "SystemClosed",
    "WouldDeadlock",
    "raise_descriptor_limit",
]
