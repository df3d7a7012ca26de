"""Actors for a demo to be watched: they take the parcels of its runs, and come back when somebody kills them.

    carriers = await system.spawn(CARRIERS, name="carriers")

Three actors under one supervisor, ``one_for_one``. Each hands out its parcels one by one; what comes while it is away
waits in its mailbox.
"""

from __future__ import annotations

from typing import Any

import anyio

from ..actors import Actor, Backoff, ChildSpec, Supervisor
from ..actors.actor import Context

NAMES = ("north", "south", "east")
#: Seconds that a parcel takes.
_HANDLING = 0.02
#: Seconds until one comes back that was killed: long enough to be seen. Killed again, it stays away longer.
_AWAY = Backoff(1.0, 4.0, jitter=0.0, reset=15.0)


class Carrier(Actor):
    """Hands out parcels."""

    async def receive(self, message: Any, context: Context) -> None:
        """Hand one out."""
        await anyio.sleep(_HANDLING)


#: However often they are killed, the supervisor never gives up: each is away for a second or more.
CARRIERS = Supervisor(
    [
        ChildSpec(name, Carrier, restart="permanent", capacity=10_000, overflow="drop_oldest", backoff=_AWAY)
        for name in NAMES
    ],
    intensity=100,
    period=5.0,
)
