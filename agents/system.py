"""The home of a service's runs: the root of the tree, and what all of them share.

A System adds to the root of the actors (names, restarts, orderly shutdown) what runs need: connections to models
whose number is the number of runs at work, a journal, and a pool that never escalates.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

from anyio import CancelScope, Event
from anyio.lowlevel import checkpoint, current_token
from typing_extensions import Unpack

from ..actors import ActorSystem, NameTaken, Report, raise_descriptor_limit
from ..actors import RestartLimit as ActorRestartLimit
from ..actors.cell import Cell
from ..journal import Journal, UnknownRun
from ..providers import GateLimits
from ..providers.gate_names import check_gates
from .approvals import Approver
from .archive import read_chronicle
from .blocking import Backend
from .chronicle import Chronicle
from .conversation import Conversation
from .drain import Drain, Drained
from .enrolment import enrol
from .errors import RestartLimit
from .history import Prompt
from .in_thread import SystemKeywords, ThreadSystem
from .instruments import Instrument, read_instruments
from .keepers import Keepers
from .launch import Launch, check_agent, check_id
from .named_agents import agents_by_name
from .options import names_ours, names_ours_in, refuse_unknown
from .policy import Policy
from .recovery import Recoverer, Recovery
from .recovery_terms import MAX_CLAIMS, Terms, Unfinished
from .result import OutputT
from .run import Run
from .run_options import ConversationKeywords, RunKeywords
from .run_queue import RunQueue
from .sources import Sources
from .stage import RunStage, enter_system, leave_system
from .stop_poll import StopWhen
from .talks import Talks
from .which_journal import read_journal

if TYPE_CHECKING:
    from .agent import Agent
    from .context import DepsT
    from .run_cell import RunCell


#: Seconds that runs have at a signal to finish their step, where somebody can go on with them.
DRAIN_TIMEOUT = 10.0


#: What a System may insist on.
REQUIRABLE = ("user_id", "conversation_id")


class System(ActorSystem):
    """``async with System() as system: run = await system.start(agent, "…")``.

    Runs started in this event loop while it is open live in it, also those of a plain ``agent.run`` in another task.

    Args:
        name: for the tree and the logs.
        agents: those that are known by name here, to a service in front of the System and to `recover` (default: none).
        max_running: runs at work at the same time, and connections to model endpoints (default 1,000); further runs
            wait for their turn, first come, first served. Subagents do not count.
        max_queued: how many runs may wait for their turn (default: any number); one more is refused with `SystemBusy`.
        fair: whether users take turns, by `user_id`, where runs wait (default False).
        require: what a run must be given, of ``user_id`` and ``conversation_id`` (default: neither); one without is
            refused.
        on_event: a function, sync or async, or a list of them, called with each event of all runs, in order. It hears
            deltas only of runs that somebody follows anyway.
        instruments: what is entered around the work of all runs, model calls and tool calls, in their tasks, in order
            (default: none); see `greenroom.telemetry`.
        intensity, period: restarts of spawned actors within so many seconds, before the System gives up (default 3 in
        5 s).
        grace: seconds that a run has to end once it was stopped, also by the closing of the System, before it is killed
            (default 5).
        journal: where runs are written down (default: in memory): a file by its name, such as ``"runs.db"``, with what
            several runs write at the same time made durable together; or a `SqliteJournal`, or any other `Journal`.
            One that is not open is opened and closed with the System. `recover` goes on with what is unfinished in it.
        gates: how much provider accounts are asked at most, by the provider's name or its base URL, for example
            ``{"openai": GateLimits(concurrency=50)}``. They hold for the whole event loop while the System is open.
        max_tools: tool calls at work at the same time, in all runs (default: any number); further calls wait for their
            turn. A call that waits for a subagent of its own does not count.
        processes: processes for tools with ``where="process"``, and so their calls at the same time (default: the
            number of cores, but at least 4). They are started when they are needed, and kept.
        sources: clock, chance and ids, for tests.
        signals: whether SIGINT and SIGTERM end the block and close the System in order (default False): it drains, the
            block is cancelled, runs are stopped, and the program goes on behind the block; a second signal ends
            everything at once, and the process. Only in the main thread.
        drain_timeout: seconds that runs have at a signal to finish the step they are at (default: 10 with a journal
            that outlives the System, 0 without one, where nobody could go on).
        on_report: called with each `Report` of a supervisor of spawned actors: who ended badly, why, and what follows.
            Reports are logged in any case.

    Raises:
        TypeError, ValueError: an argument that cannot work; the message names it.
        DescriptorLimit: the process may not open `max_running` connections.
    """

    @names_ours
    def __init__(
        self,
        *,
        name: str = "system",
        agents: Iterable[Agent[Any, Any]] = (),
        max_running: int = 1_000,
        max_queued: int | None = None,
        fair: bool = False,
        require: Collection[str] = (),
        on_event: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        instruments: Sequence[Instrument] = (),
        intensity: int = 3,
        period: float = 5.0,
        grace: float = 5.0,
        journal: Journal | str | os.PathLike[str] | None = None,
        gates: Mapping[str, GateLimits] | None = None,
        max_tools: int | None = None,
        processes: int | None = None,
        sources: Sources | None = None,
        signals: bool = False,
        drain_timeout: float | None = None,
        on_report: Callable[[Report], object] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name= takes text, not {name!r}")
        if not name:
            raise ValueError("name= must not be empty; leave it out for 'system'")
        _check_whole("max_running", max_running, 1)
        if max_queued is not None:
            _check_whole("max_queued", max_queued, 0)
        if not isinstance(fair, bool):
            raise TypeError(f"fair= takes True or False, not {fair!r}")
        if max_tools is not None:
            _check_whole("max_tools", max_tools, 1)
        if processes is not None:
            _check_whole("processes", processes, 1)
        _check_whole("intensity", intensity, 0)
        _check_finite("period", period)
        if period <= 0:
            raise ValueError(f"period must be above 0 seconds, not {period!r}")
        if not isinstance(signals, bool):
            raise TypeError(f"signals= takes True or False, not {signals!r}")
        check_seconds("grace", grace)
        if drain_timeout is not None:
            check_seconds("drain_timeout", drain_timeout)
        if sources is not None and not isinstance(sources, Sources):
            raise TypeError(f"sources= takes Sources(…), not {sources!r}")
        self._sources = sources if sources is not None else Sources()
        super().__init__(
            name=name,
            intensity=intensity,
            period=period,
            grace=grace,
            signals=signals,
            on_report=on_report,
            chance=self._sources.chance,
        )
        #: Those that are known here, by name.
        self.agents: Mapping[str, Agent[Any, Any]] = MappingProxyType(agents_by_name(agents))
        self.max_running = max_running
        self.max_queued = max_queued
        self._fair = fair
        self.require = read_require(require)
        self._on_event = read_observers(on_event)
        self._instruments = read_instruments(instruments)
        self.max_tools = max_tools
        self._processes = processes
        self._journal = read_journal(journal)
        self._opens_journal = False
        self._drain_timeout = drain_timeout
        self._drained: Event | None = None
        self._gates = check_gates(gates)
        self._stage: RunStage | None = None
        self._loop: object = None

    @property
    def talks(self) -> Talks:
        """Its conversations."""
        assert self.stage.talks is not None
        return self.stage.talks

    @property
    def stage(self) -> RunStage:
        """What its runs share."""
        if self._stage is None:
            raise self.not_open()
        return self._stage

    def refuse_elsewhere(self) -> None:
        """Refuse to be used where it does not live.

        Raises:
            SystemClosed: it is not open.
            RuntimeError: it lives in another event loop.
        """
        if not self.is_open:
            raise self.not_open()
        if not self.home.here or current_token().native_token is not self._loop:
            raise RuntimeError(
                f"System {self.name!r} lives in another event loop: use it in the loop that opened it, "
                "or open one in this loop too"
            )

    async def __aenter__(self) -> Self:
        raise_descriptor_limit(self.max_running)
        journal = self._journal
        self._opens_journal = not journal.is_open
        if self._opens_journal:
            await journal.__aenter__()
        try:
            await super().__aenter__()
        except BaseException as error:
            await self._close_journal(error)
            raise
        try:
            self._loop = current_token().native_token
            stage = RunStage(
                home=self.home,
                dead_letters=self.dead_letters,
                outside=self.outside,
                context=self.context,
                pool=self.pool,
                journal=journal,
                sources=self._sources,
                queue=RunQueue(self.max_running, self.max_queued, fair=self._fair),
                grace=self.grace,
                connections=self.max_running,
                gates=self._gates,
                tools=self.max_tools,
                processes=self._processes,
                talks=Talks(self._journal.survives),
                group=self.group,
                timers=self.timers,
                require=self.require,
                observers=self._on_event,
                instruments=self._instruments,
            )
            stage.open()
        except BaseException as error:
            await super().__aexit__(type(error), error, error.__traceback__)
            await self._close_journal(error)
            raise
        stage.agents.update(self.agents)
        self._stage = stage
        enter_system(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        try:
            return await super().__aexit__(exc_type, exc, tb)
        finally:
            leave_system(self)
            try:
                await self.stage.close()
            finally:
                await self._close_journal(exc)

    async def _close_journal(self, error: BaseException | None) -> None:
        """Close what we have opened. Also a System that is cancelled stores what was written."""
        if self._opens_journal:
            with CancelScope(shield=True):
                await self._journal.__aexit__(type(error) if error is not None else None, error, None)

    @classmethod
    def in_thread(cls, *, backend: Backend = "asyncio", **options: Unpack[SystemKeywords]) -> ThreadSystem:
        """A System for code that does not await, in an event loop in a thread of its own:
        ``with System.in_thread() as system: result = system.run(agent, "…")``.

        Its methods block, and may be called from any thread. The end of the block ends it as that of ``async with``
        does. A process that forks opens it after the fork: the child has no such thread, and its calls are refused.

        Args:
            backend: ``"asyncio"`` (default) or ``"trio"``.
            options: those of a System, but for ``signals``.

        Raises:
            TypeError, ValueError: an argument that cannot work.
        """
        if "signals" in options:
            raise TypeError("in_thread takes no signals=: they come to the main thread; end the `with` block there")
        return ThreadSystem(cls(**options), backend)

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "a System is opened with `async with System() as system:`; "
            "without await, with `with System.in_thread() as system:`"
        )

    def __exit__(self, *exc_info: object) -> None:
        return None

    def escalation(self, error: BaseException) -> BaseException:
        if not isinstance(error, ActorRestartLimit):
            return error
        limit = RestartLimit(str(error), error.name, error.child, error.intensity, error.period)
        limit.__cause__ = error.__cause__
        return limit

    @names_ours_in(RunKeywords)
    async def start(
        self,
        agent: Agent[DepsT, OutputT],
        prompt: Prompt | None = None,
        *,
        deps: DepsT | None = None,
        **options: Unpack[RunKeywords],
    ) -> Run[OutputT]:
        """Start a run in the background and return its handle. The arguments are those of `Agent.run`.

        Raises:
            NameTaken: a live run has that `run_id`.
            SystemBusy: as many runs wait for their turn as may (`max_queued`).
            SystemClosed: the System is not open, or is shutting down.
            RuntimeError: it lives in another event loop.
        """
        check_agent("system.start(agent, prompt)", agent)
        self.refuse_elsewhere()
        await checkpoint()
        return await self.launch(Launch(agent, prompt, deps=deps, system=self, **options))

    async def launch(self, launch: Launch) -> Run[Any]:
        """Start a run whose arguments are checked."""
        cell = await launch.cell(self.stage, None, followable=True, detached=True)
        try:
            if cell.name in self.pool:
                raise NameTaken(cell.name)
            if not cell.diary.is_open:
                enrol(cell)
            await cell.diary.durable()
            self.stage.refuse_when_draining()  # that may have begun meanwhile
            cell.start_in(self.group)
        except BaseException:
            cell.discard()
            raise
        launch.agent.freeze()
        return Run(cell)

    def conversation(
        self, agent: Agent[DepsT, OutputT], id: str, **options: Unpack[ConversationKeywords]
    ) -> Conversation[OutputT]:
        """A conversation with an agent, new or known: ``chat = system.conversation(agent, "c1", user_id="u1")``.

        Args:
            agent: who answers.
            id: the conversation; with a journal that outlives the System it goes on where it was, in whatever process.
            options: `deps`, `user_id`, `on_event`, `limits`, `policy` and so on, as for `start`, for all of its runs.

        Raises:
            TypeError, ValueError: an argument that cannot work.
        """
        check_agent("system.conversation(agent, id)", agent)
        check_id("conversation(id)", id)
        self.refuse_elsewhere()
        refuse_unknown("conversation", options, ConversationKeywords.__annotations__)
        Launch(agent, "", system=self, **options)  # says what is wrong with them
        return Conversation(self, agent, self.talks.get(id), options)

    def find(self, run_id: str) -> Run[Any] | None:
        """The handle of a run that is at work here, subagents not among them; None if there is none of that id."""
        cell = self.pool.find(run_id)
        return Run(cast("RunCell", cell)) if cell is not None else None

    async def recover(
        self,
        agents: Iterable[Agent[Any, Any]] | None = None,
        *,
        deps: Any = None,
        deps_for: Callable[[Unfinished], Any] | None = None,
        run_ids: Iterable[str] | None = None,
        on_event: Callable[[Any], Any] | None = None,
        policy: Policy | None = None,
        approve: Approver | None = None,
        stop_when: StopWhen | None = None,
        max_claims: int = MAX_CLAIMS,
        takeover: bool = False,
    ) -> Recovery:
        """Go on with the runs that are unfinished in the journal, each from where it was.

        What is recorded is not done again. A tool call that was at work when its process died follows its tool's
        `replay`; a pause before another try, a sleep and the time for an approval go on until the moment that they were
        to end at. A run whose agent has changed goes on and says what has changed.

        Call it once the System is open. Runs that are at work here, or in another process that runs, are left alone.

        Args:
            agents: who may go on, found by name (default: those of the System).
            deps, deps_for: what tools depend on: the same for all runs, or by a function of an `Unfinished`.
            run_ids: only these, also parked ones.
            on_event, policy, approve, stop_when: as for `start`. A run that was started with a policy goes on only with
                one.
            max_claims: a run that was taken over so often in a row, and each time its process died while it was at
                work, is parked (default 3).
            takeover: whether to take runs from another process that still runs (default False); it is told at its next
                step.

        Raises:
            TypeError, ValueError: an argument that cannot work.
            SystemDraining, SystemClosed: it takes no runs.
        """
        if agents is None and not self.agents:
            raise TypeError("recover() needs to know who can go on: recover([agent, …]), or System(agents=[agent, …])")
        terms = Terms(
            self.agents.values() if agents is None else agents,
            deps=deps,
            deps_for=deps_for,
            run_ids=run_ids,
            on_event=on_event,
            policy=policy,
            approve=approve,
            stop_when=stop_when,
            max_claims=max_claims,
            takeover=takeover,
        )
        self.refuse_elsewhere()
        self.stage.refuse_when_draining()
        return await Recoverer(self.stage, terms).recover(lambda cell: cell.start_in(self.group))

    async def chronicle(self, run_id: str) -> Chronicle:
        """The story of a run as its journal has it up to now, with those of its subagents: its messages, what it has
        used, its trace. A journal in memory forgets a run when it has ended; `Archive` reads a file without a System.

        Raises:
            UnknownRun: the journal has no such run.
            Damaged, BadRecord: it cannot be read.
        """
        check_id("chronicle(run_id)", run_id)
        self.refuse_elsewhere()
        try:
            return await read_chronicle(self.stage.journal, run_id)
        except UnknownRun:
            if not self.stage.journal.survives:
                raise UnknownRun(
                    run_id, "a journal in memory forgets it at its end; System(journal='runs.db') keeps it"
                ) from None
            raise

    async def drain(self, timeout: float = 30.0) -> Drained:
        """Start nothing new, and bring what is at work to a good place to stop.

        With a journal that outlives the System, each run finishes the step it is at, a model call or its tools, and is
        suspended: somebody else may `recover` it. Without one, each has the time to come to its end. What is at work
        after `timeout` seconds is stopped; with such a journal it goes on elsewhere, too.

        From here on `start` and runs of `Agent.run` are refused with `SystemDraining`. Draining again joins in.

        Raises:
            SystemClosed: the System is not open.
        """
        check_seconds("timeout", timeout)
        self.refuse_elsewhere()
        drain = self.stage.draining
        if drain is None:
            drain = self.stage.draining = Drain(self.stage)
        return await drain.perform(timeout)

    def wind_down(self, end: Callable[[], None]) -> None:
        timeout = self._drain_timeout
        if timeout is None:
            timeout = DRAIN_TIMEOUT if self._journal.survives else 0.0
        if timeout == 0.0 or self._stage is None:
            end()
            return
        self._drained = Event()
        self.group.create_task(self._drain_and(end, timeout), name=f"{self.name}: drain", context=self.context)

    async def _drain_and(self, end: Callable[[], None], timeout: float) -> None:
        assert self._drained is not None
        try:
            await self.drain(timeout)
        finally:
            self._drained.set()
            end()

    async def _shut_down(self) -> None:
        if self._drained is not None:
            await self._drained.wait()  # the block has ended by itself meanwhile
        await super()._shut_down()
        if self._keepers is not None:
            await self._keepers.close(self.grace)

    @property
    def _keepers(self) -> Keepers | None:
        return self._stage.keepers if self._stage is not None else None

    def _residents(self) -> list[Cell]:
        shared = self._keepers.cells() if self._keepers is not None else ()
        return [*super()._residents(), *shared]

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closing" if self._group else "closed" if self._closing else "not open"
        return f"<System {self.name!r}: {state}, max_running={self.max_running}>"


def read_require(require: object) -> tuple[str, ...]:
    """The names of what a run must be given.

    Raises:
        TypeError, ValueError: not a list of them.
    """
    if isinstance(require, str) or not isinstance(require, Collection):
        raise TypeError(f"require= takes a list of {', '.join(map(repr, REQUIRABLE))}, not {require!r}")
    names = tuple(cast("Collection[Any]", require))
    for name in names:
        if name not in REQUIRABLE:
            raise ValueError(f"require= takes {', '.join(map(repr, REQUIRABLE))}, not {name!r}")
    return names


def read_observers(given: object) -> tuple[Callable[[Any], Any], ...]:
    """The functions to call with each event.

    Raises:
        TypeError: one of them is none.
    """
    each = cast("Sequence[Any]", given if isinstance(given, Sequence) else () if given is None else (given,))
    for observer in each:
        if not callable(observer) or isinstance(observer, type):
            raise TypeError(f"on_event= takes a function of one event, or a list of them, not {observer!r}")
    return tuple(each)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no length of time.

    Raises:
        TypeError, ValueError: it is no number, or below 0.
    """
    _check_finite(name, value)
    if cast("float", value) < 0:
        raise ValueError(f"{name} must be 0 seconds or more, not {value!r}")


def _check_finite(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} takes a number of seconds, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} takes a finite number of seconds, not {value!r}")
