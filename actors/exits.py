"""How an actor ended, as a value.

An exception ends at the edge of the actor's task and becomes an `Exit`; watchers get it as a `Down`. Only true
cancellation, `KeyboardInterrupt` and `SystemExit` leave a task as exceptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec

if TYPE_CHECKING:
    from .ref import ActorRef

    AnyRef: TypeAlias = ActorRef[Any]
else:
    AnyRef = Any  # `help` evaluates a record's fields, and the class is made after this module

ExitKind: TypeAlias = Literal["normal", "shutdown", "killed", "crashed"]


class Exit(msgspec.Struct, frozen=True):
    """The end of one actor.

    `kind` is ``normal`` (it returned), ``shutdown`` (it was asked to stop and did), ``killed`` (it was cancelled, from
    outside or after its grace) or ``crashed`` (it raised `error`). `reason` is the word given with a stop.
    """

    kind: ExitKind
    error: BaseException | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.kind}: {type(self.error).__name__}: {text_of(self.error)}"
        return f"{self.kind} ({self.reason})" if self.reason else self.kind


def text_of(error: BaseException) -> str:
    """What an error says of itself; an error of its own in that must not hide it."""
    try:
        return str(error)
    except Exception as second:
        return f"<{type(second).__name__} in its text>"


NORMAL = Exit("normal")
SHUTDOWN = Exit("shutdown")
KILLED = Exit("killed")


class Down(msgspec.Struct, frozen=True):
    """The notice that a monitored actor has ended."""

    ref: AnyRef
    exit: Exit


class LinkDown(msgspec.Struct, frozen=True):
    """The notice that an incarnation of a linked actor is over; a message for actors that trap exits."""

    ref: AnyRef
    exit: Exit


def sole(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception inside nested groups, if there is just one: `KeyboardInterrupt` must not leave in a wrapper."""
    group = errors
    while len(group.exceptions) == 1:
        inner: BaseException = group.exceptions[0]
        if not isinstance(inner, BaseExceptionGroup):
            return inner
        group = cast("BaseExceptionGroup[BaseException]", inner)
    return group
