"""What supervisors have to report: who ended badly, why, and what follows.

Every end that was no orderly one is reported once, also one that is being repaired, and one that could not be acted on
because its supervisor was stopping the child already. The reports go to the log, and to a function of the system's
owner if there is one. A child that crashes in a tight loop must not cost more in its log lines than in its crashes:
within a second ten reports are logged, and the next one, or the system's end, says how many were not. That a
supervisor gives up is always logged.

Source of the kinds: the documentation of Erlang/OTP's ``supervisor`` module and its ``supervisor_report``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from .exits import Exit

ReportKind: TypeAlias = Literal["child_ended", "shutdown_error", "gave_up"]

#: Reports that one system logs in `WINDOW` seconds.
LOGGED = 10
WINDOW = 1.0

_WORDS: dict[ReportKind, str] = {
    "child_ended": "ended",
    "shutdown_error": "did not stop in order",
    "gave_up": "ended once too often",
}

_log = logging.getLogger("greenroom")


class Report(msgspec.Struct, frozen=True):
    """One thing that a supervisor reports.

    `kind` is ``child_ended`` (a child crashed or was killed, or a permanent one ended), ``shutdown_error`` (it crashed,
    or had to be killed, while it was being stopped) or ``gave_up`` (it ended, and with that there were too many
    restarts). `restarts` says whether the child will be started again, `delay` in how many seconds. A child that did
    not start is not reported: whoever wanted it gets the error.
    """

    kind: ReportKind
    supervisor: str
    child: str
    exit: Exit
    restarts: bool = False
    delay: float = 0.0

    def __str__(self) -> str:
        if self.restarts:
            with_others = " with its group" if self.kind == "shutdown_error" else ""
            follows = f"it is started again{with_others}" + (f" in {self.delay:.3g} s" if self.delay else "")
        else:
            follows = "the supervisor gives up" if self.kind == "gave_up" else "it is not started again"
        return f"{self.child!r} {_WORDS[self.kind]} ({self.exit}); {follows}"


class Reports:
    """Where the supervisors of one system report to.

    Args:
        tell: called with each `Report`, in the system's event loop; it must not block. What it raises is logged.
    """

    __slots__ = ("_began", "_logged", "_tell", "_unlogged")

    def __init__(self, tell: Callable[[Report], object] | None = None) -> None:
        self._tell = tell
        self._began = -WINDOW
        self._logged = 0
        self._unlogged = 0

    def add(self, report: Report, now: float) -> None:
        """Take a report at `now`, seconds on any monotonic clock."""
        if now - self._began >= WINDOW:
            self._began = now
            self._logged = 0
        if self._logged < LOGGED or report.kind == "gave_up":
            self._logged += 1
            self._write(report)
        else:
            self._unlogged += 1
        if self._tell is not None:
            try:
                self._tell(report)
            except Exception:
                _log.exception("on_report= raised")

    def close(self) -> None:
        """Say how many reports were not logged since the last one that was."""
        if self._unlogged:
            _log.error("%d more reports of supervisors were not logged", self._unlogged)
            self._unlogged = 0

    def _write(self, report: Report) -> None:
        more = f" ({self._unlogged} reports before it were not logged)" if self._unlogged else ""
        self._unlogged = 0
        _log.error("%s%s", report, more, exc_info=report.exit.error)
