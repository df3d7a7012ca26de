"""What the runs of one place share: pool, journal, connections, threads, sources.

A `System` owns one. Runs outside any System share a *common* stage that belongs to the event loop: made by the first
of them, counted, and closed when the last one ends, so that a thousand `agent.run` in a `gather` open one HTTP
client.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import RunVar

from ..actors import DeadLetters, Home, SystemClosed
from ..actors.pool import Pool
from ..actors.timers import Timers
from ..journal import Journal, MemoryJournal
from ..mailbox import Budget
from ..providers import GateLimits
from ..providers.gate import shared_gates
from ..providers.http import shared_connections
from ..providers.threaded import SharedThreads
from .errors import SeveralSystems, SystemDraining
from .instruments import Instruments
from .keepers import Keepers
from .processes import Processes
from .run_queue import RunQueue
from .sources import Sources
from .threads import Threads
from .tool_gate import ToolGate

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .agent import Agent
    from .drain import Drain
    from .run_options import RunOptions
    from .system import System
    from .talks import Talks

#: Seconds that a run has to end by default, once it was stopped.
GRACE = 5.0


class RunStage:
    """The surroundings of runs. Make it inside the event loop.

    Args:
        pool: lists the root runs.
        journal: where runs are written down.
        sources: clock, chance and ids.
        queue: the places of root runs at work; None for any number.
        grace: seconds that a run has to end once it was stopped, before it is killed.
        connections: open connections to model endpoints at once; None takes the providers' default.
        gates: limits of provider accounts, by the provider's name or base URL.
        tools: bounds the tool calls at once; None does not.
        processes: bounds the processes of tools; None takes the default.
        talks: its conversations.
        group: where a run goes on that has no run above it any more.
        timers: what is to be done later for runs of that group.
        require: what a run must be given, of its user's and its conversation's id.
        observers: called with each event of all runs.
        instruments: entered around the work of all runs; None for none.
    """

    __slots__ = (
        "_require",
        "_shared",
        "_shared_threads",
        "agents",
        "context",
        "dead_letters",
        "draining",
        "gate",
        "gates",
        "grace",
        "group",
        "home",
        "instruments",
        "journal",
        "keepers",
        "observers",
        "outside",
        "pool",
        "processes",
        "queue",
        "sources",
        "talks",
        "threads",
        "timers",
    )

    def __init__(
        self,
        *,
        home: Home | None = None,
        dead_letters: DeadLetters | None = None,
        outside: Budget | None = None,
        context: Context | None = None,
        pool: Pool | None = None,
        journal: Journal | None = None,
        sources: Sources | None = None,
        queue: RunQueue | None = None,
        grace: float = GRACE,
        connections: int | None = None,
        gates: Mapping[str, GateLimits] | None = None,
        tools: int | None = None,
        processes: int | None = None,
        talks: Talks | None = None,
        group: TaskGroup | None = None,
        timers: Timers | None = None,
        require: tuple[str, ...] = (),
        observers: tuple[Callable[[Any], Any], ...] = (),
        instruments: Instruments | None = None,
    ) -> None:
        self.home = home if home is not None else Home()
        self.dead_letters = dead_letters if dead_letters is not None else DeadLetters()
        self.outside = outside if outside is not None else Budget()
        self.context = context if context is not None else copy_context()
        self.pool = pool if pool is not None else Pool()
        self.journal: Journal = journal if journal is not None else MemoryJournal()
        self.sources = sources if sources is not None else Sources()
        self.queue = queue
        self.talks = talks
        self.group = group
        self.timers = timers
        #: Those that are known by name: who recovers a run may have to take up others below it.
        self.agents: dict[str, Agent[Any, Any]] = {}
        #: Those of toolsets that all runs share, of a System.
        self.keepers = Keepers(self, group) if group is not None else None
        self.observers = observers
        self.instruments = instruments
        self._require = require
        self.grace = grace
        #: Set once it takes no new runs.
        self.draining: Drain | None = None
        self.threads = Threads(self.home)
        self.processes = Processes(self.home, processes)
        self.gate = ToolGate(tools)
        self.gates = gates
        self._shared = shared_connections(connections)
        self._shared_threads = SharedThreads()

    def refuse_when_draining(self) -> None:
        """Refuse a new run.

        Raises:
            SystemDraining: what is at work is being brought to its end.
        """
        if self.draining is not None:
            raise SystemDraining("the System is draining and starts nothing new")

    def refuse_when_closing(self) -> None:
        """Refuse a new run also where the System ends.

        Raises:
            SystemDraining, SystemClosed: it does.
        """
        self.refuse_when_draining()
        if self.pool.closing:
            raise SystemClosed("the system is shutting down and starts nothing new")

    def refuse_without(self, options: RunOptions) -> None:
        """Refuse a run that lacks what it must be given.

        Raises:
            ValueError: the name of it.
        """
        for name in self._require:
            if getattr(options, name) is None:
                raise ValueError(f"this System requires {name}=, and the run has none: give it one")

    def open(self) -> None:
        """Join the event loop's connections and threads, and give its gates our limits and our chance."""
        self._shared.join()
        self._shared_threads.join()
        if self.gates is not None:
            shared_gates().rule(self, self.gates, self.sources.chance)

    async def close(self) -> None:
        """Let idle threads and processes end, and leave what the event loop shares; the last one out closes it."""
        self.threads.close()
        self._shared_threads.leave()
        shared_gates().unrule(self)
        try:
            await self.processes.close()
        finally:
            await self._shared.leave()


class _Common:
    __slots__ = ("stage", "users")

    def __init__(self) -> None:
        self.stage = RunStage()
        self.users = 0


_common: RunVar[_Common | None] = RunVar("greenroom_common_stage", None)
_systems: RunVar[tuple[System, ...]] = RunVar("greenroom_systems", ())


@asynccontextmanager
async def common_stage() -> AsyncGenerator[RunStage]:
    """The event loop's common stage, for the length of the block."""
    common = _common.get()
    if common is None:
        common = _Common()
        common.stage.open()
        _common.set(common)
    common.users += 1
    try:
        yield common.stage
    finally:
        common.users -= 1
        if common.users == 0:
            _common.set(None)
            await common.stage.close()


def enter_system(system: System) -> None:
    """List an open System, so that runs of this event loop find it."""
    _systems.set((*_systems.get(), system))


def leave_system(system: System) -> None:
    """Strike a System off the list."""
    _systems.set(tuple(each for each in _systems.get() if each is not system))


def open_system() -> System | None:
    """The System that is open in this event loop, or None.

    Raises:
        SeveralSystems: more than one is.
    """
    systems = _systems.get()
    if len(systems) > 1:
        names = ", ".join(repr(each.name) for each in systems)
        raise SeveralSystems(f"{len(systems)} Systems are open in this event loop ({names}): say which with system=")
    return systems[0] if systems else None
