"""A run that waits to be resumed.

A pause begins where the step at hand ends: a model call comes to its reply, a tool call to its result, and nothing new
is begun. It holds for the run and all below it. What was asked of a run is its `pause_asked`; whether it has come to
rest, its `rests`. All of this belongs to the loop's thread.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .. import journal
from ..journal import JournalError
from . import events

if TYPE_CHECKING:
    from .run_cell import RunCell


class LookAgain:
    """The control signal that has a run look again whether it may go on."""

    __slots__ = ()


def holds(run: RunCell) -> bool:
    """Whether the run is to begin nothing new. A helper is part of the step that it helps with."""
    while not run.pause_asked:
        above = run.run_parent
        if above is None or run.is_helper:
            return False
        run = above
    return not run.is_helper


def word_for(run: RunCell) -> str | None:
    """How the run's state is called in the tree, where a pause changes it."""
    return "paused" if run.rests else "pausing" if holds(run) else None


def pause(run: RunCell) -> None:
    """Begin nothing new, here and below, until resumed, also in another process."""
    if hold(run):
        _note(run, True)


def resume(run: RunCell) -> None:
    """Go on, unless a run above is paused too."""
    if let_go(run):
        _note(run, False)


def hold(run: RunCell) -> bool:
    """Begin nothing new here and below; False where that changes nothing. A run that is to end goes on to its end."""
    if run.exit is not None or run.wanted is not None or run.pause_asked:
        return False
    run.pause_asked = True
    look_again(run)  # one whose calls all wait for somebody is at rest now
    return True


def let_go(run: RunCell) -> bool:
    """Go on, unless a run above is held too; False where that changes nothing."""
    if not run.pause_asked:
        return False
    run.pause_asked = False
    look_again(run)
    return True


def _note(run: RunCell, paused: bool) -> None:
    with suppress(JournalError):  # the run finds out by itself
        run.write(journal.Held(paused, run.diary.clock()))


def look_again(run: RunCell) -> None:
    """Have a run, and those below it, look whether they may go on."""
    if run.resumed is not None:
        run.resumed.set()
    run.mailbox.signal(LookAgain())
    for below in run.subruns():
        look_again(below)


async def tell(run: RunCell) -> None:
    """Say that the run rests, or that it goes on, if that is news."""
    if run.rests is not holds(run):
        run.rests = not run.rests
        await run.voice.say(events.RunPaused if run.rests else events.RunResumed)
        if run.rests and run.stage.draining is not None:
            run.stage.draining.look_at(run)


async def rest(run: RunCell) -> None:
    """Wait until the run is resumed."""
    if not holds(run):
        await tell(run)
        return
    try:
        while holds(run):
            run.resumed = anyio.Event()
            await tell(run)
            await run.resumed.wait()
    except BaseException:
        run.rests = False
        raise
    await tell(run)
    await checkpoint_if_cancelled()  # a stop lets the run go, too, and nothing is to begin then
