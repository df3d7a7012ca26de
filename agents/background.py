"""Subagents that work in the background: ``context.spawn(agent, prompt)`` begins one, and the tool goes on.

Such a run works for the run whose tool has begun it, not for the tool call: it is stopped with that run, its events are
heard there, and what it uses counts there. When the run above ends, its *orphans* are dealt with (`orphans`): one that
was begun with ``orphan="stop"`` ends too. ``adopt`` hands it over to the run above that one, or at the top to the
System; ``detach`` hands it to the System in any case. Whoever gets it, the limits that it was begun under hold on.

In the journal a run that is to be stopped with another is a part of that one, and is taken up with it after a crash.
One that may outlive it is a run of its own there, and goes on by itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import ref

from .. import journal
from ..journal import JournalError
from ..providers import Usage
from .closure import count_and_end
from .handoff import last_of
from .lost_runs import UNREADABLE
from .resumption import Resumption, input_of, limits_of
from .run import Run
from .run_options import RunOptions
from .tally import Tally

if TYPE_CHECKING:
    from .run_cell import RunCell

_log = logging.getLogger("greenroom")


class Background:
    """The background runs of one run.

    Attributes:
        runs: all that it was given, by their ids, oldest first; also those that have ended.
    """

    __slots__ = ("_ref", "runs")

    def __init__(self, run: RunCell) -> None:
        self._ref = ref(run)  # which holds this
        self.runs: dict[str, Run[Any]] = {}

    @property
    def _run(self) -> RunCell:
        run = self._ref()
        assert run is not None
        return run

    def add(self, cell: RunCell) -> Run[Any]:
        """List one of them."""
        handle = self.runs[cell.name] = Run(cell)
        return handle

    def returned(self, child: RunCell) -> None:
        """One of them has ended, or is handed over: write down what it has used. One that goes on elsewhere does so
        there.
        """
        bill = child.spending.bill
        if bill is not None and child.spending.counts and not child.suspended and self._run.diary.is_open:
            spent = bill.spent if child.spending.ledger is not None else None
            at = self._run.diary.clock()
            self._run.diary.hold(journal.Returned(child.name, at, bill.usage, bill.cost, spent))
            child.spending.bill = Tally()

    async def revive(self, spawned: journal.Spawned, returned: bool) -> None:
        """Take one of them up after a crash. One that had returned only says once more how it has ended."""
        run = self._run
        shelf = run.stage.journal
        agent = run.stage.agents.get(spawned.agent)
        try:
            entries = await shelf.read(spawned.run_id)
            if not entries:
                return
            resumption = Resumption(agent, entries) if agent is not None else None
        except (JournalError, *UNREADABLE) as error:
            _log.warning("run %s is not taken up: %s", spawned.run_id, error)
            return
        if agent is None or resumption is None or last_of(agent, resumption.chronicle.handed_over) is None:
            _log.warning("run %s is not taken up: its agent %r is not known", spawned.run_id, spawned.agent)
            await self._give_up(spawned.run_id, returned)
            return
        history, prompt = input_of(resumption.chronicle)
        began = resumption.chronicle.began
        options = RunOptions(
            limits=limits_of(resumption.chronicle),
            deps=run.options.deps,
            user_id=began.user_id,
            conversation_id=began.conversation_id,
            tags=tuple(began.tags),
            metadata=began.metadata,
            stop_when=agent.stop_when,
            stop_poll=agent.stop_poll,
        )
        cell = run.child(agent, prompt, history, options, spawned.run_id, began.call_id or "", "stop", resumption)
        cell.spending.counts = not returned
        cell.spending.admit()
        assert run.group is not None
        cell.start_in(run.group)
        self.add(cell)

    async def _give_up(self, run_id: str, returned: bool) -> None:
        """One of them cannot be taken up: it ends, and what it has used counts."""
        run = self._run
        lost = await count_and_end(run, run_id)
        if returned:
            return
        run.spending.take_up(lost.usage or Usage(), lost.cost, lost.spent)
        spent = lost.spent if run.spending.ledger is not None else None
        run.diary.hold(journal.Returned(run_id, run.diary.clock(), lost.usage, lost.cost, spent))
