"""One stop for many runs: `StopToken`.

    token = StopToken()
    results = agent.map(prompts, stop=token)
    …
    token.stop(reason="budget")  # from any thread

A token knows its runs weakly and forgets each at its end, so it may live as long as the process. A run that is given a
token that was stopped before makes no request.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from ..actors.ref import check_seconds
from .machine import STOP_MODES, StopAsked, StopMode, urgency

if TYPE_CHECKING:
    from .run_cell import RunCell


def check_stop(mode: object, reason: object, grace: object) -> None:
    """Refuse what cannot be asked of a run.

    Raises:
        ValueError: an unknown mode, a grace below 0.
        TypeError: a reason that is no text, a grace that is no number.
    """
    if mode not in STOP_MODES:
        raise ValueError(f"stop({mode!r}) is not one of {', '.join(map(repr, STOP_MODES))}")
    if not isinstance(reason, str):
        raise TypeError(f"stop(reason=) takes a word, not {reason!r}")
    check_seconds("stop(grace=)", grace)


class StopToken:
    """Stops every run that it was given to, those that are still to begin included: ``agent.run(…, stop=token)``."""

    __slots__ = ("_asked", "_grace", "_lock", "_runs")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: WeakSet[RunCell] = WeakSet()
        self._asked: StopAsked | None = None
        self._grace: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked is not None

    @property
    def reason(self) -> str | None:
        """Why, in the word that was given; None before."""
        return self._asked.reason if self._asked is not None else None

    def stop(self, mode: StopMode = "now", *, reason: str = "user", grace: float | None = None) -> None:
        """Stop all its runs. From any thread; the arguments are those of `Run.stop`.

        Asking again changes nothing, except that it may be more urgent.

        Raises:
            ValueError: an unknown mode.
            TypeError: a reason that is no text, a grace that is no number.
        """
        check_stop(mode, reason, grace)
        asked = StopAsked(mode, reason)
        with self._lock:
            if self._asked is None or urgency(asked) > urgency(self._asked):
                self._asked, self._grace = asked, grace
            runs = tuple(self._runs)
        for run in runs:
            run.stage.home.run(run.stop_run, mode, reason, grace)

    def join(self, run: RunCell) -> None:
        """Take in a run that begins."""
        with self._lock:
            self._runs.add(run)
            asked, grace = self._asked, self._grace
        if asked is not None:
            run.stop_run(asked.mode, asked.reason, grace)

    def leave(self, run: RunCell) -> None:
        """Forget a run that has ended."""
        with self._lock:
            self._runs.discard(run)

    def __repr__(self) -> str:
        return f"<StopToken: {f'stopped ({self.reason})' if self.stopped else f'{len(self._runs)} runs'}>"
