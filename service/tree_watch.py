"""Watching the tree: one look at it for all who watch, as often as is bearable, and none when nobody does.

No task works here. Whoever watches wakes up at its own pace and asks; the first one to ask after an interval looks at
the tree, and the others get what it has found. What is kept are the last few changes, already encoded: a watcher that
is further behind than that gets the tree whole again, so a slow one costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

from ..actors import Node
from .run_events import sse_frame
from .tree_changes import Change, FlatNode, Snapshot, change, flat, settled

#: Seconds between two looks.
INTERVAL = 0.5
#: Changes that are kept for those who are late.
KEPT = 8

_encode = msgspec.json.Encoder().encode


class TreeWatch:
    """The tree and its last changes.

    Args:
        look: gives the tree at this moment.
        now: seconds on a clock that goes only forward.
        interval: seconds between two looks.
    """

    __slots__ = ("_changes", "_epoch", "_interval", "_look", "_looked_at", "_nodes", "_now", "_snapshot", "_version")

    def __init__(self, look: Callable[[], Node], now: Callable[[], float], interval: float = INTERVAL) -> None:
        self._look = look
        self._now = now
        #: What our clock's zero is in seconds since the epoch; fixed, so that no beginning moves with the wall clock.
        self._epoch = time.time() - now()
        self._interval = interval
        self._looked_at: float | None = None
        self._version = 0
        self._nodes: dict[str, FlatNode] = {}
        self._changes: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._snapshot: tuple[int, bytes] | None = None

    def read(self, version: int) -> tuple[int, bytes]:
        """What is new for a watcher that knows a version (0: nothing), and the version that it then knows."""
        self._refresh()
        if version == self._version:
            return version, b""
        missing = [frame for number, frame in self._changes if number > version]
        if version == 0 or len(missing) < self._version - version:
            return self._version, self._whole()
        return self._version, b"".join(missing)

    def _refresh(self) -> None:
        now = self._now()
        if self._looked_at is not None and now - self._looked_at < self._interval * 0.9:
            return
        self._looked_at = now
        wall = self._epoch + now
        nodes = settled(self._nodes, flat(self._look(), wall))
        found = change(self._nodes, nodes, self._version + 1, wall)
        self._nodes = nodes
        if found is not None:
            self._version += 1
            self._changes.append((self._version, _frame(found)))

    def _whole(self) -> bytes:
        if self._snapshot is None or self._snapshot[0] != self._version:
            whole = Snapshot(self._version, self._epoch + self._now(), list(self._nodes.values()))
            self._snapshot = self._version, sse_frame(_encode(whole), "tree", str(self._version))
        return self._snapshot[1]


def _frame(found: Change) -> bytes:
    return sse_frame(_encode(found), "change", str(found.version))
