"""What a run uses, tokens and dollars: counted here and in every run above, and held within their limits.

Most runs are bounded in their turns alone; they count what providers report, and that is all. A run that is bounded in
more, or works for one that is, has a *ledger*, and asks it before each model call, tool call and subagent.

Before a model call, what it may come to is set aside. Where that would fit but for what others have set aside, the call
waits its turn, first come, first served; they give it back when their calls are over. What nobody can tell afterwards,
of a call that was cut for example, counts as all that was set aside for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from ..providers import Usage
from . import events
from .errors import LimitExceeded
from .ledger import Amount, Ledger, Refusal

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .tool_cell import ToolCell


class _Turn:
    """One who waits in the queue."""

    __slots__ = ("come",)

    def __init__(self) -> None:
        self.come = anyio.Event()


class Spending:
    """What one run has used.

    Args:
        run: whose it is.
        above: the ledger of the run on whose account it works, and who waits there for its turn.
    """

    __slots__ = ("_queue", "_run", "cost", "ledger", "usage")

    def __init__(self, run: RunCell, above: Spending | None) -> None:
        self._run = run
        self.usage = Usage()
        #: US dollars so far, or None once a part of it is unknown.
        self.cost: float | None = 0.0
        ledger = above.ledger if above is not None else None
        #: None where nothing is bounded that could be used up.
        self.ledger: Ledger | None = None
        # Calls that wait for others to give back; one queue for the whole tree.
        self._queue: deque[_Turn] | None = None
        if ledger is not None or run.options.limits.bounds_use:
            self.ledger = Ledger(run.options.limits, run.name, ledger)
            self._queue = above._queue if above is not None and above._queue is not None else deque()

    # -- counting

    def use(self, usage: Usage) -> None:
        """Count tokens, here and in every run above."""
        self.usage += usage
        caller, above = self._caller(), self._run.run_parent
        if caller is not None:
            caller.usage = caller.usage + usage if caller.usage is not None else usage
        if above is not None:
            above.spending.use(usage)

    def spend(self, cost: float | None) -> None:
        """Count dollars, here and in every run above. None: nobody knows how many."""
        self.cost = self.cost + cost if self.cost is not None and cost is not None else None
        caller, above = self._caller(), self._run.run_parent
        if caller is not None:
            caller.spend(cost)
        if above is not None:
            above.spending.spend(cost)

    def _caller(self) -> ToolCell | None:
        """The tool call that the run works for."""
        above = self._run.run_parent
        return above.tool_call(self._run.call_id) if above is not None else None

    # -- limits

    async def set_aside(self, plan: Callable[[], Amount | Refusal]) -> Amount | Refusal:
        """Set aside what a model call may come to, or say what stands against it. Cancelling it leaves nothing taken.

        Args:
            plan: how much that is, as of now; asked again after a wait.
        """
        queue, ledger = self._queue, self.ledger
        assert queue is not None
        assert ledger is not None
        if not queue:
            outcome = self._try_to_take(plan)
            if outcome is not None:
                return outcome
        turn = _Turn()
        queue.append(turn)
        try:
            while True:
                if queue[0] is turn:
                    outcome = self._try_to_take(plan)
                    if outcome is not None:
                        return outcome
                turn.come = anyio.Event()
                await turn.come.wait()
        finally:
            queue.remove(turn)
            self._wake()

    def _try_to_take(self, plan: Callable[[], Amount | Refusal]) -> Amount | Refusal | None:
        """What was set aside, or what stands against it; None where waiting may help."""
        assert self.ledger is not None
        planned = plan()
        refusal = self.ledger.refusal(planned) if isinstance(planned, Amount) else planned
        if isinstance(planned, Amount) and refusal is None:
            self.ledger.take(planned)
            return planned
        return None if refusal is not None and refusal.waits else refusal

    def settle(self, taken: Amount, came_to: Amount) -> None:
        """A call is over: give back what it did not come to."""
        assert self.ledger is not None
        self.ledger.settle(taken, came_to)
        self._count_for_caller(came_to)
        self._wake()
        self._warn()

    def enter(self, came_to: Amount) -> None:
        """Count what was used without having been set aside, or, below zero, what was not used after all."""
        if self.ledger is not None:
            self.ledger.enter(came_to)
            self._count_for_caller(came_to)
            self._warn()

    def claim(self, need: Amount) -> LimitExceeded | None:
        """Use something now, unless a limit stands against it."""
        ledger = self.ledger
        refusal = ledger.refusal(need) if ledger is not None else None
        if refusal is not None:
            return self.exceeded(refusal)
        self.enter(need)
        return None

    def exceeded(self, refusal: Refusal) -> LimitExceeded:
        """The error for what was refused."""
        owner = refusal.owner if refusal.owner != self._run.name else None
        return LimitExceeded(refusal.limit, refusal.used, refusal.allowed, owner)

    def _count_for_caller(self, came_to: Amount) -> None:
        run = self._run
        while run.run_parent is not None:
            caller = run.run_parent.tool_call(run.call_id)
            if caller is not None:
                caller.spent += came_to
            run = run.run_parent

    def _wake(self) -> None:
        if self._queue:
            self._queue[0].come.set()

    def _warn(self) -> None:
        """Say which limits are nearly used up, each by the run whose limit it is."""
        run: RunCell | None = self._run
        while run is not None:
            ledger = run.spending.ledger
            if ledger is not None and ledger.alerts:
                alerts, ledger.alerts = ledger.alerts, []
                for each in alerts:
                    run.voice.mention(events.LimitWarning, limit=each.limit, used=each.used, allowed=each.allowed)
            run = run.run_parent
