"""What a tree of runs may use, and what of it is used or set aside: arithmetic alone.

Each run whose limits bound more than its turns has a ledger, and so has every run below it: what is taken is entered
there and in all ledgers above, and refused if one of them has too little left. So a limit holds for a run and all of
its subagents together, however many work side by side.

Before a model call, what it may come to is *set aside* (`take`); afterwards the difference to what it came to is given
back (`settle`). A call that would fit if others gave back all that they have set aside may wait for that; they hold
nothing else meanwhile, so nobody waits for ever.

Money is counted in whole billionths of a dollar: sums of them are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from .limits import Limits

Bound: TypeAlias = Literal[
    "requests", "tool_calls", "children", "input_tokens", "output_tokens", "total_tokens", "cost"
]
#: The limits that a ledger keeps.
BOUNDS: tuple[Bound, ...] = (
    "requests",
    "tool_calls",
    "children",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cost",
)

_NANO = 1_000_000_000


class Amount(msgspec.Struct, frozen=True, omit_defaults=True):
    """What something uses; `cost` in billionths of a US dollar."""

    requests: int = 0
    tool_calls: int = 0
    children: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(*[getattr(self, name) + getattr(other, name) for name in BOUNDS])

    def __sub__(self, other: Amount) -> Amount:
        return Amount(*[getattr(self, name) - getattr(other, name) for name in BOUNDS])


def nano(dollars: float) -> int:
    """US dollars in billionths, rounded up."""
    return math.ceil(_nanos(dollars))


def _nanos(dollars: float) -> float:
    # What is less than a thousandth of one is the noise of binary fractions.
    return round(dollars * _NANO, 3)


def dollars(billionths: float) -> float:
    """Billionths of a US dollar in dollars."""
    return billionths / _NANO


class Refusal(msgspec.Struct, frozen=True):
    """What stands against taking something.

    Attributes:
        limit: the limit that has too little left.
        used, allowed: of that limit; dollars for ``cost``.
        owner: the id of the run whose limit it is.
        waits: whether there would be enough if all that is set aside were given back.
    """

    limit: Bound
    used: float
    allowed: float
    owner: str
    waits: bool


class Alert(msgspec.Struct, frozen=True):
    """A limit is used up to the share at which its run wants to know. `used` and `allowed` as of a `Refusal`."""

    limit: Bound
    used: float
    allowed: float


class Ledger:
    """The ledger of one run.

    Args:
        limits: its own.
        owner: its id.
        above: the ledger of the run that it works for.

    Attributes:
        used: by the run and all below it.
        set_aside: for calls under way.
        alerts: what is to be said of its limits, and has not been.
    """

    __slots__ = ("_allowed", "_warn_at", "above", "alerts", "owner", "set_aside", "used")

    def __init__(self, limits: Limits, owner: str, above: Ledger | None = None) -> None:
        self.owner = owner
        self.above = above
        self.used = Amount()
        self.set_aside = Amount()
        self.alerts: list[Alert] = []
        self._allowed: dict[Bound, int] = {}
        for name in BOUNDS:
            allowed = getattr(limits, name)
            if allowed is not None:
                self._allowed[name] = math.floor(_nanos(allowed)) if name == "cost" else allowed
        warn_at = limits.warn_at
        #: The use from which on a limit is warned of, and those that have not been.
        self._warn_at: dict[Bound, float] = (
            {name: round(warn_at * most, 6) for name, most in self._allowed.items()} if warn_at is not None else {}
        )

    def line(self) -> Iterator[Ledger]:
        """This ledger, and those above it."""
        each: Ledger | None = self
        while each is not None:
            yield each
            each = each.above

    def bounds(self, name: Bound) -> bool:
        """Whether this limit is set, here or above."""
        return any(name in each._allowed for each in self.line())

    def left(self, name: Bound, *, returned: bool = False) -> int | None:
        """How much is left of this limit, here and above; None where none is set.

        Args:
            name: which; ``cost`` in billionths of a dollar.
            returned: as if all that is set aside were given back.
        """
        least: int | None = None
        for each in self.line():
            allowed = each._allowed.get(name)
            if allowed is not None:
                left = allowed - getattr(each.used, name) - (0 if returned else getattr(each.set_aside, name))
                least = left if least is None else min(least, left)
        return max(0, least) if least is not None else None

    def refusal(self, need: Amount) -> Refusal | None:
        """What stands against taking this much, or None. One that no waiting would change goes before the others."""
        waiting: Refusal | None = None
        for each in self.line():
            for name, allowed in each._allowed.items():
                wanted, used = getattr(need, name), getattr(each.used, name)
                if wanted and used + getattr(each.set_aside, name) + wanted > allowed:
                    found = each._refusal(name, waits=used + wanted <= allowed)
                    if not found.waits:
                        return found
                    waiting = waiting or found
        return waiting

    def spent(self, name: Bound) -> Refusal:
        """The refusal of something that needs more of this limit than it has left, whatever is given back."""
        for each in self.line():
            allowed = each._allowed.get(name)
            if allowed is not None and allowed - getattr(each.used, name) <= (self.left(name, returned=True) or 0):
                return each._refusal(name, waits=False)
        raise KeyError(name)

    def _refusal(self, name: Bound, *, waits: bool) -> Refusal:
        return Refusal(name, *self._shown(name), self.owner, waits)

    def _shown(self, name: Bound) -> tuple[float, float]:
        used, allowed = getattr(self.used, name), self._allowed[name]
        return (used / _NANO, allowed / _NANO) if name == "cost" else (used, allowed)

    def take(self, need: Amount) -> None:
        """Set this much aside, here and above. Ask for a `refusal` first."""
        for each in self.line():
            each.set_aside += need

    def settle(self, taken: Amount, came_to: Amount) -> None:
        """Give back what was set aside for something, and enter what it came to."""
        for each in self.line():
            each.set_aside -= taken
        self.enter(came_to)

    def enter(self, came_to: Amount, *, below: Ledger | None = None) -> None:
        """Enter what something came to, for which nothing is set aside.

        `below`: the first ledger above in which it is entered already, and in those above that.
        """
        for each in self.line():
            if each is below:
                return
            each._count(came_to)

    def _count(self, came_to: Amount) -> None:
        self.used += came_to
        for name, share in tuple(self._warn_at.items()):
            if getattr(self.used, name) >= share:
                del self._warn_at[name]
                if self._allowed[name]:
                    self.alerts.append(Alert(name, *self._shown(name)))
