"""What the scenarios share: groups of children that write down what happens to them, and moments of a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import pytest
from anyio.abc import TaskGroup

from greenroom.actors import (
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    Exit,
    Report,
    Restart,
    Strategy,
    Supervisor,
    SupervisorRef,
)

from ..cast import Boom, Player

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")
#: The smallest step of time that our scenarios take. A power of two, so that sums of it are exact.
TICK = 2**-10


def some(seeds: range, share: int) -> range:
    """One seed in so many: for what has as many variants, or is no scenario of the first rank and costly."""
    return seeds[: max(1, len(seeds) // share)]


async def rest() -> None:
    """Let everybody run until all wait. A virtual clock moves on only then."""
    await anyio.sleep(TICK)


class Moments:
    """Moments of the event loop's clock, in seconds since this was made."""

    def __init__(self) -> None:
        self.began = anyio.current_time()

    @property
    def now(self) -> float:
        """The moment it is."""
        return anyio.current_time() - self.began

    async def at(self, moment: float) -> None:
        """Wait for a moment. What is going on has come to rest by then."""
        await anyio.sleep_until(self.began + moment)


class Member(Player):
    """One incarnation of a child in a `Troupe`; told "self" it answers with itself."""

    def __init__(self, troupe: Troupe, id: str, **options: Any) -> None:
        super().__init__(id, troupe.lines, **options)
        self.troupe = troupe
        self.notes: list[Any] = []
        self.cleanups = 0
        troupe.made.setdefault(id, []).append(self)

    async def started(self, context: Context) -> None:
        """See who is there already."""
        self.troupe.onstage.append((self.name, tuple(sorted(self.troupe.running()))))
        await super().started(context)

    async def receive(self, message: Any, context: Context) -> Any:
        """Do as told."""
        return self if message == "self" else await super().receive(message, context)

    async def stopping(self, context: Context, exit: Exit | None) -> None:
        """Count it."""
        self.cleanups += 1
        await super().stopping(context, exit)


class Troupe:
    """Children that write down what happens to them.

    Attributes:
        lines: "a starts", "a ready", "a stops", "a gone", in the order in which it happened.
        made: every incarnation of each child.
        onstage: for each child that began to start, which children had a task then, it among them.
        reports: what their supervisors reported (give `reports.append` to the system).
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.made: dict[str, list[Member]] = {}
        self.onstage: list[tuple[str, tuple[str, ...]]] = []
        self.reports: list[Report] = []

    def part(
        self,
        id: str,
        restart: Restart = "permanent",
        *,
        shutdown: float | Literal["kill"] | None = None,
        backoff: Backoff | None = None,
        beginning: Callable[[Context], Any] | None = None,
        ending: Callable[[Context], Any] | None = None,
        significant: bool = False,
        trap_exits: bool = False,
    ) -> ChildSpec:
        """The specification of one child. `beginning` and `ending` are what it does while it starts and stops."""

        def make() -> Member:
            return Member(self, id, beginning=beginning, ending=ending, trap_exits=trap_exits)

        return ChildSpec(id, make, restart=restart, shutdown=shutdown, backoff=backoff, significant=significant)

    def parts(self, ids: str, restart: Restart = "permanent", **options: Any) -> list[ChildSpec]:
        """One child for each letter."""
        return [self.part(id, restart, **options) for id in ids]

    def running(self) -> list[str]:
        """The ids of the children that have a task at this moment, each as often as it has."""
        names = [(task.name or "").rpartition("/")[2] for task in anyio.get_running_tasks()]
        return [name for name in names if name in self.made]

    def take(self) -> list[str]:
        """What happened since the last look."""
        lines, self.lines[:] = list(self.lines), []
        return lines

    def told(self) -> list[tuple[str, str, str]]:
        """The reports since the last look: kind, child and how it ended."""
        reports, self.reports[:] = list(self.reports), []
        return [(report.kind, report.child, str(report.exit)) for report in reports]


@asynccontextmanager
async def staged(
    troupe: Troupe,
    children: list[ChildSpec],
    strategy: Strategy = "one_for_one",
    *,
    intensity: int = 3,
    period: float = 5.0,
    restart: Restart = "transient",
) -> AsyncIterator[SupervisorRef]:
    """A supervisor called "top" of these children, under a root that never restarts, in a system of its own."""
    async with ActorSystem(on_report=troupe.reports.append, intensity=0) as system:
        supervisor = Supervisor(children, strategy=strategy, intensity=intensity, period=period)
        top = await system.spawn(supervisor, name="top", restart=restart)
        await rest()
        troupe.take()
        yield top


def starts(ids: str) -> list[str]:
    """The lines of children that start in this order, each ready before the next."""
    return [f"{id} {word}" for id in ids for word in ("starts", "ready")]


def stops(ids: str) -> list[str]:
    """The lines of children that stop in this order, each gone before the next."""
    return [f"{id} {word}" for id in ids for word in ("stops", "gone")]


async def crash(ref: ActorRef[Any], error: BaseException | None = None) -> BaseException:
    """Have an actor crash, and wait until everything that follows from it at once has happened."""
    error = Boom(f"{ref.name} crashes") if error is None else error
    ref.tell_nowait(error)
    await rest()
    return error


async def refreshed(ref: ActorRef[Any]) -> int:
    """How often an actor that is alive has been restarted, in its own words."""
    return await ref.ask(lambda context: context.restarts, timeout=1)


# -- one actor, and tasks that are cancelled

Way = Literal["scope", "native", "twice"]

#: Where a task can be cancelled in which ways: by a scope, by asyncio itself, and by asyncio once more right after.
each_cancellation = pytest.mark.parametrize(
    ("loop", "way"), [("asyncio", "scope"), ("asyncio", "native"), ("asyncio", "twice"), ("trio", "scope")]
)


class Gate:
    """A message that keeps its actor busy until the test opens it."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.open = anyio.Event()

    async def __call__(self, _context: Context) -> str:
        """Wait here."""
        self.entered.set()
        await self.open.wait()
        return "through"


class Victim:
    """A task of its own, in the group, that can be cancelled from outside.

    Attributes:
        outcome: ``returned``, ``cancelled`` or the exception that it raised; None while it runs.
        value: what it returned.
    """

    def __init__(self, group: TaskGroup, way: Way, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self.outcome: Any = None
        self.value: Any = None
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self._twice = way == "twice"
        self._over = anyio.Event()
        if way == "scope":
            group.start_soon(self._live, function, args)
        else:
            self._task = asyncio.get_running_loop().create_task(self._live(function, args))
            self._task.add_done_callback(self._has_ended)
            group.start_soon(self.wait)

    async def _live(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        with self._scope:
            try:
                self.value = await function(*args)
                self.outcome = "returned"
            except Exception as error:
                self.outcome = error
        if self._task is None:
            if self._scope.cancelled_caught:
                self.outcome = "cancelled"
            self._over.set()

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.outcome = "cancelled"
        self._over.set()

    def cancel(self) -> None:
        """Cancel it, in its way."""
        if self._task is None:
            self._scope.cancel()
            return
        self._task.cancel()
        if self._twice:
            asyncio.get_running_loop().call_soon(self._task.cancel)

    async def wait(self) -> Any:
        """Wait for its end and return the outcome."""
        await self._over.wait()
        return self.outcome


@asynccontextmanager
async def player(**options: Any) -> AsyncIterator[tuple[ActorSystem, ActorRef[Any], list[str]]]:
    """A system with one player called "it", and what that was told and did."""
    lines: list[str] = []
    async with ActorSystem(intensity=100) as system:
        yield system, await system.spawn(lambda: Player("it", lines), name="it", **options), lines


def letters(system: ActorSystem) -> list[tuple[Any, str]]:
    """The dead letters: message and reason."""
    return [(letter.message, letter.reason) for letter in system.dead_letters]
