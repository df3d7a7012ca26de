"""Threads for the plain functions of a stage's tools: how many, and for whom.

There are slots for each depth of subagents: a function that waits for a subagent never starves the subagent's own. How
a call gets through a thread, and what becomes of one that is given up, is in `providers.threads`.
"""

from __future__ import annotations

from typing import Any

from anyio import Semaphore

from ..actors import Home
from ..providers.threads import ThreadCall, Workers

__all__ = ["ThreadCall", "Threads"]

#: Threads at the same time for the runs of one depth.
THREADS = 64
#: The depth from which on each has a single one: the sum stays bounded, and nobody waits for ever.
DEEP = 8


class Threads(Workers):
    """The threads of one stage. Make it inside the event loop, and use it there."""

    __slots__ = ("_slots",)

    def __init__(self, home: Home) -> None:
        super().__init__(home, "greenroom-tool")
        self._slots: dict[int, Semaphore] = {}

    async def run(self, call: ThreadCall, depth: int) -> Any:
        """Run a call in a thread, as soon as one is free at this depth of subagents. Cancelling gives the call up."""
        slots = self._slots.get(depth)
        if slots is None:
            slots = self._slots[depth] = Semaphore(THREADS if depth < DEEP else 1, fast_acquire=True)
        return await self.run_within(call, slots)
