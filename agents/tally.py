"""What the subagents of one tool call have used: written down with the call's outcome."""

from __future__ import annotations

from ..providers import Usage
from .ledger import Amount


def added(cost: float | None, more: float | None) -> float | None:
    """A sum of US dollars; None where a part of it is not known."""
    return cost + more if cost is not None and more is not None else None


class Tally:
    """The tally of one call. Where the run crashes and goes on in place, the call that runs once more keeps it.

    Attributes:
        usage: tokens; None as long as there were no subagents that told theirs.
        cost: US dollars, or None once a part of it is unknown.
        spent: what counts against limits.
        runs: the subagents that are counted here and in all runs above, at whatever depth, by name; and whether what
            they had used before they last went on is.
    """

    __slots__ = ("cost", "runs", "spent", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.cost: float | None = 0.0
        self.spent = Amount()
        self.runs: dict[str, bool] = {}

    def use(self, usage: Usage) -> None:
        """Count tokens."""
        self.usage = self.usage + usage if self.usage is not None else usage

    def spend(self, cost: float | None) -> None:
        """Count dollars. None: nobody knows how many."""
        self.cost = added(self.cost, cost)
