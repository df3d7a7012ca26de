"""What a supervisor is told: descriptions with closed vocabularies, checked when they are built.

Both records may be shared and used again; neither knows a task.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from ..mailbox import DEFAULT_CAPACITY, OVERFLOWS, Overflow
from .actor import Actor
from .backoff import Backoff
from .errors import BadChildSpec
from .restart import RESTARTS, STRATEGIES, Restart, Strategy

#: Seconds that an actor has to stop before it is killed. A supervisor waits for its subtree as long as that takes.
DEFAULT_SHUTDOWN = 5.0

AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
AUTO_SHUTDOWNS: tuple[AutoShutdown, ...] = ("never", "any_significant", "all_significant")


class ChildSpec:
    """How a supervisor starts, restarts and stops one child.

    Args:
        id: the child's name, unique in its supervisor; in the tree it follows the supervisor's name and a slash.
        start: an `Actor` class, a callable that makes an actor, or a `Supervisor`.
        restart: ``permanent`` restarts it however it ended, ``transient`` (default) after a crash or a kill,
            ``temporary`` never.
        shutdown: seconds between the request to stop and the kill (default 5; a supervisor: as long as it takes), or
            ``"kill"`` to cancel at once.
        capacity: messages its mailbox holds (default 1,024).
        overflow: what a full mailbox does, see `Mailbox`.
        backoff: the delays before its restarts, a `Backoff`; by default it is restarted at once.
        intensity, period: restarts within so many seconds that are counted for this child alone, instead of among its
            supervisor's (period: default 5). One more, and the supervisor gives up as it does for its own.
        significant: whether its end of its own accord may end the supervisor, see ``auto_shutdown`` of `Supervisor`.
            Not for a ``permanent`` child, which always comes back.

    Raises:
        BadChildSpec: a field that cannot work; the message names it.

    Warns:
        UserWarning: a supervisor that would be killed before its own children have had their time to stop.
    """

    __slots__ = (
        "backoff",
        "capacity",
        "grace",
        "id",
        "intensity",
        "overflow",
        "period",
        "restart",
        "shutdown",
        "significant",
        "start",
    )

    def __init__(
        self,
        id: str,
        start: Callable[[], Actor] | Supervisor,
        *,
        restart: Restart = "transient",
        shutdown: float | Literal["kill"] | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        backoff: Backoff | None = None,
        intensity: int | None = None,
        period: float | None = None,
        significant: bool = False,
    ) -> None:
        if not isinstance(id, str) or not id or "/" in id:
            raise BadChildSpec(f"id must be a name without a slash, not {id!r}")
        if isinstance(start, Actor):
            raise BadChildSpec(
                f"start of child {id!r} is an actor, but a restart needs a new one: pass the class "
                f"{type(start).__name__}, or a function that makes it"
            )
        if not callable(start) and not isinstance(start, Supervisor):
            raise BadChildSpec(
                f"start of child {id!r} must be an Actor class, a callable or a Supervisor, not {start!r}"
            )
        if restart not in RESTARTS:
            raise BadChildSpec(f"restart of child {id!r} must be one of {', '.join(RESTARTS)}, not {restart!r}")
        if shutdown is not None and shutdown != "kill" and not _is_time(shutdown):
            raise BadChildSpec(f"shutdown of child {id!r} must be seconds (0 or more) or 'kill', not {shutdown!r}")
        if not _is_count(capacity) or capacity < 1:
            raise BadChildSpec(f"capacity of child {id!r} must be at least 1, not {capacity!r}")
        if overflow not in OVERFLOWS:
            raise BadChildSpec(f"overflow of child {id!r} must be one of {', '.join(OVERFLOWS)}, not {overflow!r}")
        if isinstance(start, Supervisor) and (capacity != DEFAULT_CAPACITY or overflow != "wait"):
            raise BadChildSpec(f"child {id!r} is a supervisor and takes no messages: leave out capacity and overflow")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise BadChildSpec(f"backoff of child {id!r} must be a Backoff(…), not {backoff!r}")
        if intensity is not None or period is not None:
            _check_window(f" of child {id!r}", intensity, 5.0 if period is None else period)
        if not isinstance(significant, bool):
            raise BadChildSpec(f"significant of child {id!r} must be True or False, not {significant!r}")
        if significant and restart == "permanent":
            raise BadChildSpec(f"child {id!r} cannot be significant and permanent: it would always come back")
        self.id = id
        self.start = start
        self.restart: Restart = restart
        self.shutdown: float | Literal["kill"] | None = shutdown
        self.capacity = capacity
        self.overflow: Overflow = overflow
        self.backoff = backoff
        self.intensity = intensity
        self.period = 5.0 if period is None else float(period)
        self.significant = significant
        #: Seconds that the child has to stop, and its cleanup to run.
        self.grace = _grace(start, shutdown)
        if isinstance(start, Supervisor) and shutdown is not None:
            _warn_of_early_kill(id, 0.0 if shutdown == "kill" else shutdown, start)

    def says(
        self,
        start: object,
        restart: object,
        shutdown: object,
        capacity: object,
        overflow: object,
        backoff: object,
    ) -> bool:
        """Whether it was made with just these, so that they need not be checked again. 1 and True are not the same."""
        return (
            self.start is start
            and self.restart is restart
            and self.shutdown is shutdown
            and self.capacity is capacity
            and self.overflow is overflow
            and self.backoff is backoff
        )

    def __repr__(self) -> str:
        return f"ChildSpec({self.id!r}, restart={self.restart!r})"


def _grace(start: object, shutdown: float | Literal["kill"] | None) -> float:
    if shutdown is None:
        return float("inf") if isinstance(start, Supervisor) else DEFAULT_SHUTDOWN
    return DEFAULT_SHUTDOWN if shutdown == "kill" else shutdown


def _is_time(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # Not nan, and no whole number that is too large to be a float.
    return 0 <= value <= sys.float_info.max or value == float("inf")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_window(whose: str, intensity: int | None, period: float) -> None:
    if intensity is None or not _is_count(intensity) or intensity < 0:
        raise BadChildSpec(f"intensity{whose} must be 0 or more restarts, not {intensity!r}")
    if not _is_time(period) or period == 0:
        raise BadChildSpec(f"period{whose} must be above 0 seconds, not {period!r}")


def _warn_of_early_kill(id: str, shutdown: float, supervisor: Supervisor) -> None:
    needed = time_to_stop(supervisor)
    if shutdown < needed:
        warnings.warn(
            f"supervisor {id!r} is killed {shutdown:g} s after it was asked to stop, but its children may take "
            f"{needed:g} s: leave shutdown= out, and it waits for them",
            stacklevel=3,
        )


def time_to_stop(supervisor: Supervisor) -> float:
    """The most seconds that the orderly stop of a supervisor may take: its children stop one after the other."""
    total = 0.0
    for child in supervisor.children:
        if isinstance(child.start, Supervisor) and child.shutdown is None:
            total += time_to_stop(child.start)
        elif child.shutdown != "kill":
            total += child.grace
    return total


class Supervisor:
    """The description of a group of supervised children.

    Args:
        children: the specifications, in start order.
        strategy: whom a restart concerns, see `restart.decide`.
        intensity: how many restarts may happen within `period` (default 3).
        period: the sliding window in seconds (default 5).
        auto_shutdown: whether the supervisor stops when significant children have ended of their own accord:
            ``never`` (default), after the first (``any_significant``) or the last of them (``all_significant``).

    Raises:
        BadChildSpec: children that are no ChildSpecs, a duplicate id, an unknown strategy, a negative intensity, a
            period that is not above 0, or a significant child where nothing follows from its end.
    """

    __slots__ = ("auto_shutdown", "children", "intensity", "period", "strategy")

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:
        if strategy not in STRATEGIES:
            raise BadChildSpec(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        _check_window("", intensity, period)
        if auto_shutdown not in AUTO_SHUTDOWNS:
            raise BadChildSpec(f"auto_shutdown must be one of {', '.join(AUTO_SHUTDOWNS)}, not {auto_shutdown!r}")
        if isinstance(children, ChildSpec):
            raise BadChildSpec(f"children must be a list of ChildSpecs: write Supervisor([{children!r}])")
        if not isinstance(children, Iterable):
            raise BadChildSpec(f"children must be a list of ChildSpecs, not {children!r}")
        self.children = tuple(children)
        ids: set[str] = set()
        for spec in self.children:
            if not isinstance(spec, ChildSpec):
                raise BadChildSpec(f"children must be ChildSpecs, not {spec!r}")
            if spec.id in ids:
                raise BadChildSpec(f"two children have the id {spec.id!r}")
            ids.add(spec.id)
        self.strategy: Strategy = strategy
        self.intensity = intensity
        self.period = float(period)
        self.auto_shutdown: AutoShutdown = auto_shutdown
        for spec in self.children:
            self.check(spec)

    def check(self, spec: ChildSpec) -> None:
        """Refuse a child that cannot be one of this supervisor's.

        Raises:
            BadChildSpec: it is significant, and the supervisor never stops for that.
        """
        if spec.significant and self.auto_shutdown == "never":
            raise BadChildSpec(
                f"child {spec.id!r} is significant, but nothing follows from that: give its supervisor "
                "auto_shutdown='any_significant' or 'all_significant'"
            )

    def __repr__(self) -> str:
        return f"Supervisor({list(self.children)!r}, strategy={self.strategy!r})"
