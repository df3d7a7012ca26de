"""How long finished runs are kept: old ones are forgotten when the journal is opened, and from time to time after that.

It is done in the writer thread, between two batches, one step of pruning at a time; each is a transaction of its own.
Whoever writes waits for at most one of them, and a process that dies in the middle has forgotten some runs and kept the
others whole. The next opening goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from .sqlite_batch import Call
from .sqlite_store import Pruned, Store

#: Seconds between two times.
EVERY = 3600.0

_log = logging.getLogger("greenroom")


class Retention:
    """Forgets runs that ended more than `seconds` ago, by `clock`."""

    __slots__ = ("_after", "_before", "_clock", "_complained", "_last", "_seconds", "is_at_work")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last: float | None = None
        self._before = 0.0
        self._after: int = 0
        self._complained = False
        #: Whether there are more steps to do now.
        self.is_at_work = False

    def step(self, store: Store) -> None:
        """Do a step, if it is time.

        Raises:
            sqlite3.Error: it is put off until the next time.
        """
        if not self.is_at_work:
            now = self._clock()
            if self._last is not None and abs(now - self._last) < EVERY:  # a clock may be set back
                return
            self._last, self._before, self._after, self._complained = now, now - self._seconds, 0, False
        self.is_at_work = False
        call = Call(partial(_prune, self._before, self._after), writes=True)
        store.run([call])
        if call.error is not None:
            self._complain(store, call.error)
            return
        pruned: Pruned = call.result
        if pruned.damaged is not None:
            self._complain(store, pruned.damaged)
        if pruned.last is not None:
            self._after, self.is_at_work = pruned.last, True

    def _complain(self, store: Store, error: BaseException) -> None:
        """Once each time: whoever reads the run is told, too."""
        if not self._complained:
            self._complained = True
            _log.warning("not all old runs of the journal %s can be forgotten: %s", store.path, error)


def _prune(before: float, after: int, store: Store) -> Pruned:
    return store.prune(before, after)
