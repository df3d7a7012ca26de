"""Ending a run from its journal alone, without its agent.

Whoever does so claims the run, so that a former owner is fenced off: it is told at its next step, and nothing of it is
stored any more. Then the run gets what every end has: a result for each open call, true to what is known of it, and
its last entry. Its subagents end with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import journal
from ..journal import Damaged, Journal, JournalError, Listed, RunFinished
from ..providers import ToolResult
from .chronicle import Chronicle
from .diary import Diary
from .lost_runs import UNREADABLE, Lost, used_below, used_by, used_under
from .machine import cancelled
from .orphans import ABANDONED
from .replay import UNKNOWN

if TYPE_CHECKING:
    from .run_cell import RunCell


async def end_run(shelf: Journal, run_id: str, reason: str, clock: Callable[[], float] = time.time) -> int:
    """End a run and its subagents; returns how many subagents that were.

    Raises:
        UnknownRun, RunFinished: there is nothing to end.
        Damaged, BadRecord: it cannot be read; it is claimed, and has not ended.
        JournalError: its end could not be stored.
    """
    try:
        listed: Sequence[Listed] = await shelf.runs(unfinished=True)
    except Damaged as error:
        listed = error.others
    await end_one(shelf, run_id, reason, clock)
    ended = 0
    for child in _below(run_id, listed):
        try:
            await end_one(shelf, child, ABANDONED, clock)
        except RunFinished:  # it was faster
            continue
        ended += 1
    return ended


def _below(run_id: str, listed: Sequence[Listed]) -> list[str]:
    """The unfinished subagents of a run, and theirs, outermost first: so none is asked to go on any more."""
    found: list[str] = []
    for each in listed:  # a subagent is created after the run that it works for
        if each.parent_id is not None and (each.parent_id == run_id or each.parent_id in found):
            found.append(each.run_id)
    return found


async def end_one(
    shelf: Journal, run_id: str, reason: str, clock: Callable[[], float], after: int | None = None
) -> None:
    """End a run, and leave its subagents to whoever ends them; `after` as for a claim.

    Raises:
        JournalError, BadRecord, msgspec.ValidationError: as for `end_run`.
    """
    diary = Diary(shelf, run_id, clock)
    try:
        chronicle = Chronicle(await diary.reclaim(after))
        at = clock()
        if chronicle.was_asking(at):
            diary.hold(journal.Resumed(False, True, [], at))  # nobody knows what the request under way has cost
        lost = Lost()
        await used_under(shelf, chronicle, at, lost)
        diary.hold(*[journal.Happened(result, at) for result in _results(chronicle)])
        if lost.usage is not None or lost.cost is None:
            diary.hold(journal.Spent(at, lost.usage, lost.cost))
        await diary.end("stopped", reason)
    finally:
        diary.release()


async def lost_below(
    run: RunCell, place: str | None, spawned: Mapping[str, journal.Spawned], children: Iterable[journal.Spawned]
) -> Lost:
    """What the subagents of a call have used, all of which have ended when this returns.

    Args:
        run: whose call it is.
        place: where the call stands; None of a call that never began.
        spawned: what the run has begun in the background, by run id.
        children: those of them that the call has begun and that end with it.
    """
    lost = Lost()
    shelf, now = run.stage.journal, run.diary.clock()
    if place is not None:
        await used_below(shelf, run.name, place, spawned, now, lost)
    for each in children:
        await used_by(shelf, each.run_id, now, lost)
    await _end_all(run, lost)
    return lost


async def count_and_end(run: RunCell, run_id: str) -> Lost:
    """What a subagent of a run has used, which has ended when this returns."""
    lost = Lost()
    await used_by(run.stage.journal, run_id, run.diary.clock(), lost)
    await _end_all(run, lost)
    return lost


async def _end_all(run: RunCell, lost: Lost) -> None:
    shelf, clock = run.stage.journal, run.diary.clock
    for run_id in lost.unfinished:
        try:
            await end_one(shelf, run_id, ABANDONED, clock)
        except (JournalError, *UNREADABLE):
            pass  # somebody else has it, or it has ended meanwhile


def _results(chronicle: Chronicle) -> list[ToolResult]:
    """What stands for the outcomes of the open calls."""
    results: list[ToolResult] = []
    for call in chronicle.open_calls:
        if call.id in chronicle.at_work:
            results.append(ToolResult(call.id or "", UNKNOWN, call.name, True, "outcome_unknown"))
        else:
            results.append(cancelled(call))
    return results
