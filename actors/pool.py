"""Temporary children that stop in parallel and never escalate: agent runs, tool calls.

A pool is a list, not a task: its children run in whatever task group started them, and a child that ends is struck off.
Four crashing runs must not stop a service, so nothing that happens to a child reaches the pool's owner.
"""

from __future__ import annotations

import anyio

from .cell import Cell
from .errors import NameTaken, SystemClosed
from .exits import Exit
from .roles import Verdict


class Pool:
    """The live children, by name. Implements `Parent`."""

    __slots__ = ("_cells", "_empty", "closing")

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}
        self._empty: anyio.Event | None = None
        #: Whether new children are refused.
        self.closing = False

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, name: str) -> bool:
        return name in self._cells

    def cells(self) -> tuple[Cell, ...]:
        """The live children, oldest first."""
        return tuple(self._cells.values())

    def find(self, name: str) -> Cell | None:
        """The live child with this name."""
        return self._cells.get(name)

    def adopt(self, cell: Cell) -> None:
        """List a child; its task may start now.

        Raises:
            NameTaken: a live child has that name.
            SystemClosed: the pool is closing.
        """
        if self.closing:
            raise SystemClosed("the system is shutting down and starts nothing new")
        if cell.name in self._cells:
            raise NameTaken(cell.name)
        self._cells[cell.name] = cell

    def child_started(self, _child: Cell, /) -> None:
        return None

    def child_down(self, child: Cell, _exit: Exit, _in_place: bool, /) -> Verdict:
        self._cells.pop(child.name, None)
        if not self._cells and self._empty is not None:
            self._empty.set()
        return Verdict.FINAL

    def child_dismissed(self, _child: Cell, /) -> None:
        return None

    async def stop(self, grace: float, reason: str) -> tuple[str, ...]:
        """Refuse new children, ask all to stop, kill those that have not after `grace` seconds, and wait for them.

        Returns:
            The names of those that had to be killed.
        """
        self.closing = True
        for cell in self.cells():
            cell.request_stop(reason)
        with anyio.move_on_after(grace):
            await self.wait_empty()
        late = self.cells()
        for cell in late:
            cell.kill()
        await self.wait_empty()
        return tuple(cell.name for cell in late)

    async def kill(self, grace: float) -> None:
        """Kill all children, and wait for them for at most `grace` seconds."""
        self.closing = True
        for cell in self.cells():
            cell.request_stop("system")
            cell.kill()
        if self._cells:
            with anyio.move_on_after(grace, shield=True):
                await self.wait_empty()

    async def wait_empty(self) -> None:
        """Wait until no child is left."""
        while self._cells:
            if self._empty is None or self._empty.is_set():
                self._empty = anyio.Event()  # one for all who wait
            await self._empty.wait()
