"""The writers of all runs that something is appended to. On the far side."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from .journal_jobs import Job, Mark
from .run_writer import Desk, RunWriter


class Writers:
    """One for each run that is held here, or has something to do.

    Args:
        desk: what they share.
        start: starts a task.
    """

    __slots__ = ("_at_work", "_desk", "_start", "_writers")

    def __init__(self, desk: Desk, start: Callable[[Callable[[], Coroutine[Any, Any, object]]], None]) -> None:
        self._desk = desk
        self._start = start
        self._writers: dict[str, RunWriter] = {}
        self._at_work: set[anyio.CancelScope] = set()

    def __len__(self) -> int:
        return len(self._writers)

    def put(self, run_id: str, job: Job) -> None:
        """Have a job done, after all others of that run."""
        writer = self._writers.get(run_id)
        if writer is None:
            writer = self._writers[run_id] = RunWriter(run_id, self._desk)
        writer.put(job)
        if not writer.is_working:
            writer.is_working = True
            self._start(lambda: self._work(writer))

    async def _work(self, writer: RunWriter) -> None:
        with anyio.CancelScope() as scope:
            self._at_work.add(scope)
            try:
                await writer.work()
            finally:
                self._at_work.discard(scope)
        if not writer.is_held and not writer.is_working:
            del self._writers[writer.run_id]

    async def settled(self, run_id: str | None = None) -> None:
        """Wait for all that there is to do for a run; by default, for all of them."""
        writers = [*self._writers.values()] if run_id is None else [self._writers.get(run_id)]
        marks: list[anyio.Event] = []
        for writer in writers:
            if writer is not None and writer.is_working:
                mark = anyio.Event()
                writer.put(Mark(mark.set))
                marks.append(mark)
        for mark in marks:
            await mark.wait()

    async def close(self, within: float) -> bool:
        """Whether all that was appended was settled within so many seconds. What was not is given up."""
        with anyio.move_on_after(within):
            await self.settled()
        for scope in [*self._at_work]:
            scope.cancel()
        settled = not self._at_work
        while self._at_work:
            await anyio.sleep(0)
        return settled
