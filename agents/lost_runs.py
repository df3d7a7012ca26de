"""Subagents of a tool call that does not run again: what they have used is counted, and those at work are ended.

Their ids are made from the call's place, so they are found one after the other; runs that a tool has given ids of its
own are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..journal import JournalError
from ..providers import Usage
from .chronicle import Chronicle
from .diary import Diary

if TYPE_CHECKING:
    from .run_cell import RunCell


class Lost(NamedTuple):
    """What was used, and its cost in US dollars; None where that is not known."""

    usage: Usage | None
    cost: float | None


async def lost_below(run: RunCell, place: str | None) -> Lost:
    """What the subagents of a call have used, all of which have ended when this returns.

    Args:
        run: whose call it is.
        place: where the call stands, as in the ids of its runs; None of a call that never began.
    """
    usage: Usage | None = None
    cost: float | None = 0.0
    number = 1
    while place is not None and (entries := await run.stage.journal.read(f"{run.name}.{place}.{number}")):
        told = Chronicle(entries)
        usage = told.usage if usage is None else usage + told.usage
        cost = cost + told.cost if cost is not None and told.cost is not None else None
        if told.ended is None:
            await _end(run, told.run_id)
        number += 1
    return Lost(usage, cost)


async def _end(run: RunCell, run_id: str) -> None:
    diary = Diary(run.stage.journal, run_id, run.diary.clock)
    try:
        await diary.reclaim()
        await diary.end("stopped", "abandoned")
    except JournalError:
        pass  # somebody else has it, or it has ended meanwhile
    diary.release()
