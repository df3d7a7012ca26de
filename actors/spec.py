"""What a supervisor is told: descriptions with closed vocabularies, checked when they are built.

Both records may be shared and used again; neither knows a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from ..mailbox import DEFAULT_CAPACITY, OVERFLOWS, Overflow
from .actor import Actor
from .errors import BadChildSpec
from .restart import RESTARTS, STRATEGIES, Restart, Strategy

#: Seconds that an actor has to stop before it is killed. A supervisor waits for its subtree as long as that takes.
DEFAULT_SHUTDOWN = 5.0


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

    Raises:
        BadChildSpec: a field that cannot work; the message names it.
    """

    __slots__ = ("capacity", "id", "overflow", "restart", "shutdown", "start")

    def __init__(
        self,
        id: str,
        start: Callable[[], Actor] | Supervisor,
        *,
        restart: Restart = "transient",
        shutdown: float | Literal["kill"] | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
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
        self.id = id
        self.start = start
        self.restart: Restart = restart
        self.shutdown: float | Literal["kill"] | None = shutdown
        self.capacity = capacity
        self.overflow: Overflow = overflow

    def __repr__(self) -> str:
        return f"ChildSpec({self.id!r}, restart={self.restart!r})"


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Supervisor:
    """The description of a group of supervised children.

    Args:
        children: the specifications, in start order.
        strategy: whom a restart concerns, see `restart.decide`.
        intensity: how many restarts may happen within `period` (default 3).
        period: the sliding window in seconds (default 5).

    Raises:
        BadChildSpec: children that are no ChildSpecs, a duplicate id, an unknown strategy, a negative intensity or a
            period that is not above 0.
    """

    __slots__ = ("children", "intensity", "period", "strategy")

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period: float = 5.0,
    ) -> None:
        if strategy not in STRATEGIES:
            raise BadChildSpec(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if not _is_count(intensity) or intensity < 0:
            raise BadChildSpec(f"intensity must be 0 or more restarts, not {intensity!r}")
        if not _is_time(period) or period == 0:
            raise BadChildSpec(f"period must be above 0 seconds, not {period!r}")
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

    def __repr__(self) -> str:
        return f"Supervisor({list(self.children)!r}, strategy={self.strategy!r})"
