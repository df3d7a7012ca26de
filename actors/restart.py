"""Who is restarted when a child ends: OTP's rules as arithmetic.

No task, no clock, no exception handling: an exit and the time come in, a plan comes out. The supervisor carries it out.

=============  ========  ==========  ========  =========
restart type   normal    shutdown    killed    crashed
=============  ========  ==========  ========  =========
``permanent``  restart   restart     restart   restart
``transient``  forget    forget      restart   restart
``temporary``  forget    forget      forget    forget
=============  ========  ==========  ========  =========

A ``transient`` child that somebody had asked to stop is forgotten however it then ended: a stop whose grace ran out, or
during which the child crashed, must not bring it back.

A restart concerns the child alone (``one_for_one``), every child (``one_for_all``) or the child and those started after
it (``rest_for_one``). Others are stopped in reverse start order and started in start order; a temporary bystander that
was stopped with the group stays dead.

At most `intensity` restarts may happen within any `period` seconds. The window slides: one restart more inside it, and
the supervisor gives up. The stamps are pruned from the old end, so that a decision costs the same however long the
history.

Source: the documentation of Erlang/OTP's ``supervisor`` module, sections *Restart Strategy* and *Maximum Restart
Intensity*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from .exits import Exit, ExitKind

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS: tuple[Restart, ...] = ("permanent", "transient", "temporary")

_RESTARTED: dict[Restart, frozenset[ExitKind]] = {
    "permanent": frozenset(("normal", "shutdown", "killed", "crashed")),
    "transient": frozenset(("killed", "crashed")),
    "temporary": frozenset(),
}


class Child(msgspec.Struct, frozen=True):
    """What the decision needs to know of a child."""

    id: str
    restart: Restart
    #: Whether somebody asked for its end; being stopped with its group is no such request.
    dismissed: bool = False

    def returns_after(self, exit: Exit) -> bool:
        """Whether its restart type asks for a new incarnation after this end."""
        if self.dismissed and self.restart == "transient":
            return False
        return exit.kind in _RESTARTED[self.restart]


class Intensity:
    """The restarts of one supervisor inside its sliding window.

    Args:
        limit: restarts allowed within the window, at least 0.
        period: the window in seconds, above 0.
    """

    __slots__ = ("limit", "period", "stamps")

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        #: A deque takes 0.7 KiB even when it is empty, and most owners never restart anything.
        self.stamps: deque[float] | tuple[()] = ()

    def allows(self, now: float) -> bool:
        """Count one restart at `now`; False if it is one too many."""
        stamps = self.stamps
        if isinstance(stamps, tuple):
            stamps = self.stamps = deque()
        while stamps and now - stamps[0] > self.period:
            stamps.popleft()
        stamps.append(now)
        return len(stamps) <= self.limit


class Forget(msgspec.Struct, frozen=True):
    """The child has ended for good; its specification is dropped and its name is free."""


class RestartGroup(msgspec.Struct, frozen=True):
    """Stop the children `stop` in this order, drop `forget`, then start `start` in this order."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    forget: tuple[str, ...] = ()


class GiveUp(msgspec.Struct, frozen=True):
    """Too many restarts: stop every child, then escalate."""


Plan: TypeAlias = Forget | RestartGroup | GiveUp

_FORGET, _GIVE_UP = Forget(), GiveUp()


def decide(
    strategy: Strategy, children: Sequence[Child], intensity: Intensity, child: Child, exit: Exit, now: float
) -> Plan:
    """What to do about the end of `child`.

    Args:
        strategy: whom a restart concerns.
        children: all children in start order, `child` among them.
        intensity: the window, in which a restart is counted here.
        child: the one that ended.
        exit: how it ended.
        now: the time in seconds, on any monotonic clock.
    """
    if not child.returns_after(exit):
        return _FORGET
    if not intensity.allows(now):
        return _GIVE_UP
    if strategy == "one_for_one":
        return RestartGroup((), (child.id,))
    ids = [each.id for each in children]
    first = ids.index(child.id) if strategy == "rest_for_one" else 0
    affected = children[first:]
    return RestartGroup(
        stop=tuple(each.id for each in reversed(affected) if each.id != child.id),
        start=tuple(each.id for each in affected if each.restart != "temporary"),
        forget=tuple(each.id for each in affected if each.restart == "temporary"),
    )
