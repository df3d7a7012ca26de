"""A tool call that waits for runs in the background of its own run.

While it waits, it does nothing else. So it gives up what it holds at the gate, as a call does that waits for a subagent
of its own: a run in the background may need just that. And it is at rest as long as those are that it waits for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .place import current_place

if TYPE_CHECKING:
    from .run_cell import RunCell


@asynccontextmanager
async def waiting_for(runs: Sequence[RunCell]) -> AsyncGenerator[None]:
    """A block in which code waits for the ends of these runs."""
    place = current_place.get()
    above = place.run if place is not None else None
    if place is None or above is None or not above.stage.home.here:
        yield
        return
    call = above.tool_call(place.call_id)
    waits = tuple([run for run in runs if any(each is above for each in run.line())])
    if call is None or not waits:
        yield
        return
    call.waits.append(waits)
    if call.passes is not None:
        call.passes.lend()
    try:
        yield
    finally:
        call.waits.remove(waits)
        if call.passes is not None:
            call.passes.returned()
    if call.passes is not None:
        await call.passes.regain()
