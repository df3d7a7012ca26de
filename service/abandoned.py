"""Runs that nobody can come back to: they end when the process that answered their client has ended.

A run of the OpenAI-compatible endpoint ends when its client goes. Where its process goes first, drained or killed, its
client has lost its connection or was told to ask again, and the journal has a run that is to go on: for nobody, and
beside the run that the client has asked for instead. So before a System recovers what is unfinished, such runs are
ended in the journal, unless a process that lives is at work on them.
"""

from __future__ import annotations

import logging

from ..agents.chronicle import Chronicle
from ..agents.closure import end_one
from ..agents.lost_runs import UNREADABLE
from ..agents.system import System
from ..journal import Damaged, JournalError
from .run_views import OWN

#: In the metadata of a run that ends when its client goes.
ALONE = f"{OWN}ends_alone"

_log = logging.getLogger("greenroom")


async def end_abandoned(system: System) -> None:
    """End the runs in a System's journal whose client has gone with their process. Their subagents, which are orphans
    then, are for `System.recover` to end.
    """
    shelf = system.stage.journal
    try:
        listed = await shelf.runs(unfinished=True)
    except Damaged as error:
        listed = error.others  # recover says what is damaged
    for each in listed:
        if each.parent_id is not None or (each.owner is not None and each.owner.is_running):
            continue
        try:
            if ALONE in Chronicle(await shelf.read(each.run_id)).began.metadata:
                await end_one(shelf, each.run_id, "abandoned", system.stage.sources.clock, each.epoch)
        except (JournalError, *UNREADABLE) as error:
            _log.warning("run %r, whose client has gone, could not be ended: %s", each.run_id, error)
