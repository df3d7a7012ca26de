"""What a run uses, tokens and dollars: counted here and in every run above, and held within their limits.

Most runs are bounded in their turns alone; they count what providers report, and that is all. A run that is bounded in
more, or works for one that is, has a *ledger*, and asks it before each model call, tool call and subagent.

Before a model call, what it may come to is set aside. Where that would fit but for what others have set aside, the call
waits its turn, first come, first served; they give it back when their calls are over. What nobody can tell afterwards,
of a call that was cut for example, counts as all that was set aside for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from weakref import ref

import anyio

from ..providers import Usage
from . import events
from .errors import LimitExceeded
from .ledger import Amount, Ledger, Refusal
from .tally import Tally, added

if TYPE_CHECKING:
    from .run_cell import RunCell

_ONE_CHILD = Amount(children=1)


class _Turn:
    """One who waits in the queue."""

    __slots__ = ("come",)

    def __init__(self) -> None:
        self.come = anyio.Event()


class Spending:
    """What one run has used.

    Args:
        run: whose it is.
        above: that of the run above it.

    Attributes:
        usage: tokens so far, subagents included.
        cost: US dollars so far, or None once a part of it is unknown.
        ledger: None where nothing is bounded that could be used up.
        bill: of a run in the background: what it has used and the run above has not written down.
        counts: whether it counts above. One that had ended before a crash, and only says so again, does not.
        interrupted: the tallies of calls that were at work when the run crashed, by their ids, until they run once
            more.
    """

    __slots__ = ("_queue", "_ref", "bill", "cost", "counts", "interrupted", "ledger", "usage")

    def __init__(self, run: RunCell, above: Spending | None) -> None:
        self._ref = ref(run)  # the run holds this: one that held the run would be work for the cyclic collector
        self.bill = Tally() if run.orphan is not None else None
        self.counts = True
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.interrupted: dict[str, Tally] = {}
        ledger = above.ledger if above is not None else None
        self.ledger: Ledger | None = None
        # Calls that wait for others to give back; one queue for the whole tree.
        self._queue: deque[_Turn] | None = None
        if ledger is not None or run.options.limits.bounds_use:
            self.ledger = Ledger(run.options.limits, run.name, ledger)
            self._queue = above._queue if above is not None and above._queue is not None else deque()

    @property
    def _run(self) -> RunCell:
        run = self._ref()
        assert run is not None
        return run

    # -- counting

    def use(self, usage: Usage) -> None:
        """Count tokens, here and in every run above."""
        self.usage += usage
        if self._run.run_parent is None:
            return
        for tally, above in self._above():
            if tally is not None:
                tally.use(usage)
            above.usage += usage

    def spend(self, cost: float | None) -> None:
        """Count dollars, here and in every run above. None: nobody knows how many."""
        self.cost = added(self.cost, cost)
        if self._run.run_parent is None:
            return
        for tally, above in self._above():
            if tally is not None:
                tally.spend(cost)
            above.cost = added(above.cost, cost)

    def take_up(self, usage: Usage, cost: float | None, spent: Amount) -> None:
        """Count what the run had used before it went on, here and in those above that have not counted it yet."""
        name = self._run.name
        self.usage += usage
        self.cost = added(self.cost, cost)
        parent = self._run.run_parent
        known = parent.spending.ledger if parent is not None and not self.counts else None
        for tally, above in self._above():
            if tally is not None:
                if tally.runs.get(name):
                    known = above.ledger
                    break  # it was at work here before, and so were the runs above
                tally.runs[name] = True
                tally.use(usage)
                tally.spend(cost)
                tally.spent += spent
            above.usage += usage
            above.cost = added(above.cost, cost)
        if self.ledger is not None:
            self.ledger.enter(spent, below=known)
        self._warn()

    def _caller(self) -> Tally | None:
        """The tally of the call that the run works for."""
        return next((tally for tally, _ in self._above()), None)

    def _above(self) -> Iterator[tuple[Tally | None, Spending]]:
        """The runs above, nearest first, each with the tally of the call that it waits for."""
        run = self._run
        while run.run_parent is not None and run.spending.counts:
            caller, bill = run.caller, run.spending.bill
            run = run.run_parent
            yield (caller.tally if caller is not None else bill), run.spending

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
            self.wake()

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
        self._count_for_callers(came_to)
        self.wake()
        self._warn()

    def claim(self, need: Amount) -> LimitExceeded | None:
        """Use something now, unless a limit stands against it."""
        if self.ledger is None:
            return None
        refusal = self.ledger.refusal(need)
        if refusal is not None:
            return self.exceeded(refusal)
        self._enter(need)
        return None

    def return_claim(self, unused: Amount) -> None:
        """What was claimed is not used after all."""
        self._enter(Amount() - unused)

    def admit(self) -> LimitExceeded | None:
        """Count the run as a subagent of those above, unless a limit of theirs stands against it.

        One that goes on was let in when it began.
        """
        run, goes_on = self._run, self._run.resumption is not None
        parent, caller = run.run_parent, self._caller()
        assert parent is not None
        if not self.counts or (caller is not None and run.name in caller.runs):
            return None  # it has begun before, and the call that runs once more begins it again
        refusal = None if goes_on else self._refusal_below(parent)
        if refusal is not None:
            return refusal
        known: Ledger | None = None
        for tally, above in self._above():
            if tally is not None:
                if run.name in tally.runs:
                    known = above.ledger
                    break
                tally.runs[run.name] = not goes_on
                tally.spent += _ONE_CHILD
        if parent.spending.ledger is not None:
            parent.spending.ledger.enter(_ONE_CHILD, below=known)
        self._warn()
        return None

    def _refusal_below(self, parent: RunCell) -> LimitExceeded | None:
        for depth, above in enumerate(parent.line(), 1):
            allowed = above.options.limits.depth
            if allowed is not None and depth > allowed:
                return LimitExceeded("depth", depth - 1, allowed, above.name)
        ledger = parent.spending.ledger
        refusal = ledger.refusal(_ONE_CHILD) if ledger is not None else None
        return self.exceeded(refusal) if refusal is not None else None

    def _enter(self, came_to: Amount) -> None:
        assert self.ledger is not None
        self.ledger.enter(came_to)
        self._count_for_callers(came_to)
        self._warn()

    def exceeded(self, refusal: Refusal) -> LimitExceeded:
        """The error for what was refused."""
        owner = refusal.owner if refusal.owner != self._run.name else None
        return LimitExceeded(refusal.limit, refusal.used, refusal.allowed, owner)

    def _count_for_callers(self, came_to: Amount) -> None:
        for tally, _ in self._above():
            if tally is not None:
                tally.spent += came_to

    def wake(self) -> None:
        """Something was given back: have the first one that waits look again."""
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
