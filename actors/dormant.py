"""Actors that have no task yet, because they have nothing to do.

An actor without code for its start and its end does nothing before something comes for it. So it has no task before: it
costs a quarter of one that has, and one that is told something at once never parks. Nobody can tell the difference.

Its cell stands in its mailbox where a parked receiver's event would: whatever comes first has the parent start the task
(`ActorCell.lie_dormant`).
"""

from __future__ import annotations

from .actor import Actor


def may_lie_dormant(start: object) -> bool:
    """Whether nobody can tell that it has no task yet: an Actor class without code for its start and its end."""
    return (
        isinstance(start, type)
        and issubclass(start, Actor)
        and start.started is Actor.started
        and start.stopping is Actor.stopping
        and start.__init__ is Actor.__init__
        and start.__new__ is Actor.__new__
    )
