"""What the runtime adds to a run: the time in it in which nothing was waited for that is not the runtime's own.

While agents of an iteration run, either something of theirs is *open* (a request to the model with its wait at the
gate, a tool at work, a pause before the next try) or the runtime is at work, or waits for its turn in the event loop.
The meter counts what is open and adds up the rest: the union of the intervals, without a list of them. Subagents belong
to the iteration; the tool call that waits for one does not count as open, or it would hide all that the subagent costs.

Pure: moments in, seconds out.
"""

from __future__ import annotations


class Meter:
    """The meter of one iteration.

    Attributes:
        number: of the iteration.
        overhead: seconds so far.
    """

    __slots__ = ("_open", "_pause_until", "_runs", "_since", "_tools", "number", "overhead")

    def __init__(self, number: int) -> None:
        self.number = number
        self.overhead = 0.0
        self._runs = 0
        self._open = 0
        self._since = 0.0
        self._pause_until = 0.0
        self._tools: set[tuple[str, str]] = set()

    def begin_run(self, now: float) -> None:
        """An agent of the iteration begins to run."""
        if not self._runs and not self._open:
            self._since = now
        self._runs += 1

    def end_run(self, now: float) -> None:
        """It has ended."""
        if not self._open:
            self._count(now)
        self._runs -= 1

    def open(self, now: float) -> None:
        """Something else than the runtime is waited for."""
        if not self._open:
            self._count(now)
        self._open += 1

    def close(self, now: float) -> None:
        """It is there."""
        self._open -= 1
        if not self._open:
            self._since = now

    def pause(self, now: float, seconds: float) -> None:
        """A run waits so long before its next try."""
        if not self._open:
            self._count(now)
        self._pause_until = max(self._pause_until, now + seconds)

    def begin_tool(self, now: float, run_id: str, call_id: str) -> None:
        """A tool call of a run is at work."""
        self._tools.add((run_id, call_id))
        self.open(now)

    def end_tool(self, now: float, run_id: str, call_id: str) -> None:
        """It has a result; one that never was at work, because it was refused, changes nothing."""
        call = (run_id, call_id)
        if call in self._tools:
            self._tools.remove(call)
            self.close(now)

    def _count(self, now: float) -> None:
        begun = max(self._since, self._pause_until)
        if self._runs and now > begun:
            self.overhead += now - begun
        self._since = now
