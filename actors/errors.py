"""What can go wrong between actors.

::

    ActorError
    ├── ActorEnded          an ask that will never be answered; `exit` says how the actor ended
    │   ├── ActorStopped    it was asked to stop, or returned
    │   └── ActorDied       it crashed or was killed; the crash is the __cause__
    ├── AskTimeout          no answer in time (a TimeoutError too)
    ├── LinkBroken          an actor that ended because one that it is linked to crashed; that crash is the __cause__
    ├── StartFailed         a child's `started` failed; the failure is the __cause__
    ├── RestartLimit        a supervisor gave up: too many restarts in its period; the last crash is the __cause__
    ├── BadChildSpec        a child specification that cannot work (a ValueError too)
    ├── NameTaken           another live actor has that name
    ├── SystemClosed        the system does not take new actors: it is not open, or it is shutting down
    ├── StrayCancellation   code raised the backend's cancelled exception although nobody had cancelled it
    └── WouldDeadlock       an actor that waits for itself, or for its own supervisor
"""

from __future__ import annotations

from .exits import Exit


class ActorError(Exception):
    """Base of the errors of the actor runtime."""


class ActorEnded(ActorError):
    """The actor `name` ended before it answered."""

    def __init__(self, name: str, exit: Exit) -> None:
        super().__init__(f"actor {name!r} has ended ({exit})")
        self.name = name
        self.exit = exit


class ActorStopped(ActorEnded):
    """The actor was asked to stop, or had nothing more to do."""


class ActorDied(ActorEnded):
    """The actor crashed or was killed. A crash is the ``__cause__``."""


class AskTimeout(ActorError, TimeoutError):
    """The actor `name` did not answer within `seconds`. It may still handle the question."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"actor {name!r} did not answer within {seconds:g} s")
        self.name = name
        self.seconds = seconds


class LinkBroken(ActorError):
    """The actor `name` ended with `peer`, which it was linked to. A crash of `peer` is the ``__cause__``."""

    def __init__(self, name: str, peer: str, exit: Exit) -> None:
        super().__init__(f"actor {name!r} ended with {peer!r}, which it is linked to ({exit})")
        self.name = name
        self.peer = peer
        self.exit = exit


class StartFailed(ActorError):
    """The child `name` did not start. The failure is the ``__cause__``."""

    def __init__(self, name: str, exit: Exit) -> None:
        super().__init__(f"actor {name!r} did not start ({exit})")
        self.name = name
        self.exit = exit


class RestartLimit(ActorError):
    """The supervisor `name` gave up after more than `intensity` restarts in `period` seconds."""

    def __init__(self, name: str, child: str, intensity: int, period: float) -> None:
        super().__init__(
            f"supervisor {name!r} gave up: child {child!r} ended once more after {intensity} restarts in {period:g} s"
        )
        self.name = name
        self.child = child
        self.intensity = intensity
        self.period = period


class BadChildSpec(ActorError, ValueError):
    """A child specification that cannot work; the message names the field."""


class NameTaken(ActorError, ValueError):
    """Another live actor is registered under `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"an actor named {name!r} is alive already; choose another name or stop that one first")
        self.name = name


class SystemClosed(ActorError, RuntimeError):
    """The system is not open."""


class StrayCancellation(ActorError):
    """Code raised the backend's cancelled exception although no scope around it was cancelled."""


class WouldDeadlock(ActorError, RuntimeError):
    """Waiting here would wait for oneself."""


def ended(name: str, exit: Exit) -> ActorEnded:
    """The error that tells an asker how the actor ended."""
    if exit.kind in ("crashed", "killed"):
        error = ActorDied(name, exit)
        error.__cause__ = exit.error
        return error
    return ActorStopped(name, exit)
