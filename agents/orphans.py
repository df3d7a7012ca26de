"""What becomes of runs in the background when the run above them ends.

Those that are to be stopped with it are, leaves first. The others are handed over: to the nearest run above that has
not ended, or to the System. What they were begun under goes on to hold for them: the limits (`remaining.bounded`), the
policies, the approver. Nobody hears them in the run that has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from ..actors import NameTaken, SystemClosed
from . import events

if TYPE_CHECKING:
    from .run_cell import RunCell

#: What becomes of one of them.
Orphan: TypeAlias = Literal["stop", "detach", "adopt"]

#: Why a run is stopped that nobody waits for any more.
ABANDONED = "abandoned"
#: Seconds that it has to stop before it is killed.
PATIENCE = 5.0


def outlives(orphan: Orphan | None) -> bool:
    """Whether a run may outlive the one above it, and is a run of its own in the journal."""
    return orphan in ("adopt", "detach")


def hand_over_orphans(run: RunCell) -> None:
    """Give those below a run that are to outlive it to whoever is to have them."""
    for child in run.subruns():
        if outlives(child.orphan) and child.exit is None:
            _hand_over(child)


def _hand_over(child: RunCell) -> None:
    """Give a run to its heir. Where the System takes no runs any more, it stays where it is and ends there."""
    above = child.run_parent
    assert above is not None
    heirs = (each for each in above.line() if each is not above and not each.is_over)
    heir = next(heirs, None) if child.orphan == "adopt" else None
    left: list[RunCell] = []
    for each in above.line():
        if each is heir:
            break
        left.append(each)
    if heir is None:
        try:
            child.move_to_pool()
        except (SystemClosed, NameTaken):
            return
    else:
        child.move_below(heir)
    child.heritage = (*child.heritage, *[options for each in left for options in (each.options, *each.heritage)])
    if above.background is not None:
        above.background.returned(child)
    if heir is not None:
        heir.background_runs.add(child)
    child.voice.mention(events.AgentAdopted, agent=child.agent.name, heir=heir.name if heir is not None else None)


async def end_below(run: RunCell) -> None:
    """End what works below a run that ends: in the background, or left behind by a tool in a task of its own."""
    suspends = run.is_suspended
    if not suspends:
        hand_over_orphans(run)
    left = run.subruns()
    stop_below(run, suspends)
    for child in left:
        if not suspends or child.orphan is None:
            child.stop_run("now", ABANDONED)
    with anyio.move_on_after(PATIENCE):
        for child in left:
            await child.wait_over()
    for child in left:
        child.kill()


def stop_below(run: RunCell, suspends: bool) -> None:
    """Ask those in the background of a run to stop with it, or to go on elsewhere as it does."""
    for child in run.subruns():
        if suspends and child.orphan is not None:
            child.request_stop("system")
        elif child.orphan == "stop":
            child.stop_run("now", ABANDONED)


async def kill_below(run: RunCell) -> None:
    """The same of a run that is cut off."""
    for child in run.subruns():
        child.kill()
    for child in run.subruns():
        await child.wait_over()
