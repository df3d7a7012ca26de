"""Who keeps toolsets open: an actor for each, which enters and leaves it in one task.

::

    (nobody uses it) ──kit()──> opening ──> open ──stop──> closed
                                   │          │
                                   │          └── a crash ──pause──> opening …   (runs go on with what they had)
                                   └── the first time: failed, which the run that asked is told

A System has `Keepers` for the toolsets that all its runs share, and each run has some of its own. What crashes is
opened again after pauses that grow; what does not open `TRIES` times in a row is given up, and the next run that wants
it tries anew and is told. What is shared and has not been used by any run for `IDLE` seconds is closed: an agent that
was made for one request leaves nothing open.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import anyio
from anyio import TaskHandle
from anyio.abc import TaskGroup

from ..actors import Backoff, Exit
from ..actors.backoff import Pace
from ..actors.cell import Cell
from ..actors.exits import sole, text_of
from ..actors.roles import Verdict
from .errors import SystemDraining, ToolsetFailed
from .toolset import Toolkit, Toolset

if TYPE_CHECKING:
    from .stage import RunStage

#: Seconds that a turn waits for a toolset that is being opened again, before it goes on with what was open before.
PATIENCE = 5.0
#: Openings that fail in a row, after a crash, before a toolset is given up.
TRIES = 8
#: Seconds that a shared toolset stays open although no run uses it.
IDLE = 300.0

_log = logging.getLogger("greenroom")


class Keeper(Cell):
    """Keeps one toolset open.

    Attributes:
        kit: what is open, or was open last.
        openings: how often it has been opened.
        trouble: why it is being opened again; None while it is open.
    """

    __slots__ = ("_back", "_failed", "_pace", "_users", "_uses", "kit", "openings", "toolset", "trouble")

    kind = "toolset"
    stage: RunStage

    def __init__(self, toolset: Toolset, name: str, parent: Keepers, stage: RunStage) -> None:
        super().__init__(name, name, parent, stage)
        self.toolset = toolset
        self.kit: Toolkit | None = None
        self.openings = 0
        self.trouble: str | None = None
        # Runs that use it, and how often one has begun to.
        self._users = 0
        self._uses = 0
        self._pace = Pace(Backoff())
        self._failed = 0
        #: Who waits to open it again.
        self._back: TaskHandle[None] | None = None

    async def perform(self) -> None:
        async with self.toolset.open() as kit:
            if not isinstance(kit, Toolkit):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"open() must yield a Toolkit, not {kit!r}")
            self.kit = kit
            self._failed = 0
            self.openings += 1
            self.trouble = None
            self.announce_started()
            while not self.stop_requested:
                await self.mailbox.parked().wait()

    @property
    def is_open(self) -> bool:
        """Whether its tools can be used now."""
        return self.announced and not self.is_down and not (self.kit is not None and self.kit.is_broken)

    async def wait_open(self, patience: float) -> Toolkit:
        """Wait until it is open; for at most `patience` seconds where something was open before.

        Raises:
            ToolsetFailed: it has not opened, or was closed.
        """
        if not self.is_open:
            with anyio.move_on_after(patience if self.kit is not None else None):
                await self._wait_until(lambda: self.is_open or self.exit is not None)
        if self.kit is None or self.exit is not None:
            error = _cause(self.exit) if self.exit is not None else None
            raise ToolsetFailed(self.toolset.name, f"could not be opened: {_words(error)}") from error
        return self.kit

    def again(self, group: TaskGroup, exit: Exit) -> bool:
        """Have it opened again, after a pause; False if that was tried often enough."""
        self._failed += 1
        if self._failed > TRIES:
            return False
        home = self.stage.home
        delay = self._pace.next_delay(home.now(), 0.5, was_ready=self.announced)
        self.trouble = _words(_cause(exit))
        told = "toolset %s is not open any more, and is opened again in %.1f s: %s"
        _log.warning(told, self.name, delay, self.trouble)
        self._back = group.create_task(self._come_back(group, delay), name=f"{self.name}: again")
        return True

    async def _come_back(self, group: TaskGroup, delay: float) -> None:
        await anyio.sleep(delay)
        self._back = None
        if self.state == "restarting":
            self.spawn_in(group, self.stage.context)

    # -- its users, of one that is shared

    def join(self) -> None:
        """A run begins to use it."""
        self._users += 1
        self._uses += 1

    def leave(self) -> None:
        """A run does not use it any more."""
        self._users -= 1
        timers = self.stage.timers
        if not self._users and timers is not None:
            timers.after(IDLE, self._close_if_idle, self._uses)

    def _close_if_idle(self, uses: int) -> None:
        if self._uses == uses and not self.is_down:
            self.request_stop("idle")

    # -- the end

    def request_stop(self, reason: str | None) -> None:
        super().request_stop(reason)
        if not self.announced:  # nobody has what is still being opened, so nobody is to wait for it
            self.kill()

    def kill(self) -> None:
        if self.state == "restarting":
            self.parent.child_dismissed(self)
        super().kill()

    def close(self, exit: Exit) -> None:
        if self._back is not None:
            self._back.cancel()
            self._back = None
        super().close(exit)


def _cause(exit: Exit) -> BaseException | None:
    """The error behind an end, without a task group around it."""
    error = exit.error
    return sole(cast("BaseExceptionGroup[BaseException]", error)) if isinstance(error, BaseExceptionGroup) else error


def _words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {text_of(error)}" if error is not None else "it was closed"


class Keepers:
    """The keepers of one place. Implements `Parent`.

    Args:
        stage: what the runs there share.
        group: where their tasks are.
        prefix: of their names, for those of a run.
    """

    __slots__ = ("_cells", "_group", "_prefix", "_stage", "closing")

    def __init__(self, stage: RunStage, group: TaskGroup, prefix: str = "") -> None:
        self._stage = stage
        self._group = group
        self._prefix = prefix
        self._cells: dict[Toolset, Keeper] = {}
        self.closing = False

    def cells(self) -> tuple[Keeper, ...]:
        """Those that are not closed, oldest first."""
        return tuple(self._cells.values())

    def keeper(self, toolset: Toolset) -> Keeper:
        """The keeper of a toolset, which is being opened if it is not open.

        Raises:
            SystemDraining: the place is closing.
        """
        cell = self._cells.get(toolset)
        if cell is None or cell.stop_requested:  # one that is closing is nobody's any more
            if self.closing:
                raise SystemDraining(f"toolset {toolset.name!r} is not opened: what it is wanted for is ending")
            cell = self._cells[toolset] = Keeper(toolset, f"{self._prefix}{toolset.name}", self, self._stage)
            cell.spawn_in(self._group, self._stage.context)
        return cell

    # -- what a parent answers

    def child_started(self, child: Cell, /) -> None:
        return None

    def child_down(self, child: Cell, exit: Exit, in_place: bool, /) -> Verdict:
        assert isinstance(child, Keeper)
        wanted = not (self.closing or child.stop_requested or child.was_killed or child.cancelled)
        if wanted and child.ready and child.again(self._group, exit):
            return Verdict.WAIT
        self._strike(child)
        return Verdict.FINAL

    def child_dismissed(self, child: Cell, /) -> None:
        assert isinstance(child, Keeper)
        self._strike(child)
        child.close(Exit("shutdown"))

    def _strike(self, cell: Keeper) -> None:
        if self._cells.get(cell.toolset) is cell:
            del self._cells[cell.toolset]

    # -- the end

    async def close(self, grace: float) -> None:
        """Ask all to close, kill those that have not after `grace` seconds, and wait for them."""
        self.closing = True
        cells = self.cells()
        for cell in cells:
            cell.request_stop("system")
        with anyio.move_on_after(grace):
            for cell in cells:
                await cell.wait_ended()
        self.kill()
        for cell in cells:
            await cell.wait_ended()

    def kill(self) -> None:
        """Have them end without waiting for anything."""
        self.closing = True
        for cell in self.cells():
            cell.kill()
