"""The home of a service's runs: the root of the tree, and what all of them share.

A System adds to the root of the actors (names, restarts, orderly shutdown) what runs need: connections to models
whose number is the number of runs at work, a journal, and a pool that never escalates.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from anyio.lowlevel import checkpoint, current_token

from ..actors import ActorSystem, Report, raise_descriptor_limit
from ..actors import RestartLimit as ActorRestartLimit
from ..journal import Journal
from ..providers import GateLimits
from ..providers.gate_names import check_gates
from .approvals import Answer, Approver
from .errors import RestartLimit
from .history import History, Prompt
from .hooks import Audience
from .launch import Launch
from .limits import Limits
from .options import names_ours
from .policy import Policy
from .result import OutputT
from .run import Run
from .sources import Sources
from .stage import RunStage, enter_system, leave_system
from .stop_poll import StopWhen
from .stop_token import StopToken

if TYPE_CHECKING:
    from .agent import Agent
    from .context import DepsT


class System(ActorSystem):
    """``async with System() as system: run = await system.start(agent, "…")``.

    Runs started in this event loop while it is open live in it, also those of a plain ``agent.run`` in another task.

    Args:
        name: for the tree and the logs.
        max_running: runs at work at the same time, and connections to model endpoints (default 1,000); further runs
        wait
            for their turn, first come, first served. Subagents do not count.
        intensity, period: restarts of spawned actors within so many seconds, before the System gives up (default 3 in
        5 s).
        grace: seconds that a run has to end once it was stopped, also by the closing of the System, before it is killed
            (default 5).
        journal: where runs are written down (default: in memory).
        gates: how much provider accounts are asked at most, by the provider's name or its base URL, for example
            ``{"openai": GateLimits(concurrency=50)}``. They hold for the whole event loop while the System is open.
        max_tools: tool calls at work at the same time, in all runs (default: any number); further calls wait for their
            turn. A call that waits for a subagent of its own does not count.
        processes: processes for tools with ``where="process"``, and so their calls at the same time (default: the
            number of cores, but at least 4). They are started when they are needed, and kept.
        sources: clock, chance and ids, for tests.
        signals: whether SIGINT and SIGTERM end the block and close the System in order (default False): runs are
            stopped and the program goes on behind the block; a second signal ends everything at once, and the
            process. Only in the main thread.
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
        max_running: int = 1_000,
        intensity: int = 3,
        period: float = 5.0,
        grace: float = 5.0,
        journal: Journal | None = None,
        gates: Mapping[str, GateLimits] | None = None,
        max_tools: int | None = None,
        processes: int | None = None,
        sources: Sources | None = None,
        signals: bool = False,
        on_report: Callable[[Report], object] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name= takes text, not {name!r}")
        if not name:
            raise ValueError("name= must not be empty; leave it out for 'system'")
        _check_whole("max_running", max_running, 1)
        if max_tools is not None:
            _check_whole("max_tools", max_tools, 1)
        if processes is not None:
            _check_whole("processes", processes, 1)
        _check_whole("intensity", intensity, 0)
        _check_finite("period", period)
        if period <= 0:
            raise ValueError(f"period must be above 0 seconds, not {period!r}")
        _check_finite("grace", grace)
        if grace < 0:
            raise ValueError(f"grace must be 0 seconds or more, not {grace!r}")
        if isinstance(journal, str | os.PathLike):
            raise TypeError("journal= takes a Journal object; files are not supported yet")
        if journal is not None and (
            isinstance(journal, type)
            or not all(callable(getattr(journal, each, None)) for each in ("claim", "append", "read"))
        ):
            raise TypeError(f"journal= takes a Journal object, with claim, append and read, not {journal!r}")
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
        self.max_running = max_running
        self.max_tools = max_tools
        self._processes = processes
        self._journal = journal
        self._gates = check_gates(gates)
        self._stage: RunStage | None = None
        self._loop: object = None

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
        await super().__aenter__()
        try:
            self._loop = current_token().native_token
            stage = RunStage(
                home=self.home,
                dead_letters=self.dead_letters,
                outside=self.outside,
                context=self.context,
                pool=self.pool,
                journal=self._journal,
                sources=self._sources,
                slots=self.max_running,
                grace=self.grace,
                connections=self.max_running,
                gates=self._gates,
                tools=self.max_tools,
                processes=self._processes,
            )
            stage.open()
        except BaseException as error:
            await super().__aexit__(type(error), error, error.__traceback__)
            raise
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
            await self.stage.close()

    def __enter__(self) -> NoReturn:
        raise TypeError("a System is opened with `async with System() as system:`")

    def __exit__(self, *exc_info: object) -> None:
        return None

    def escalation(self, error: BaseException) -> BaseException:
        if not isinstance(error, ActorRestartLimit):
            return error
        limit = RestartLimit(str(error), error.name, error.child, error.intensity, error.period)
        limit.__cause__ = error.__cause__
        return limit

    @names_ours
    async def start(
        self,
        agent: Agent[DepsT, OutputT],
        prompt: Prompt | None = None,
        *,
        deps: DepsT | None = None,
        history: History | None = None,
        limits: Limits | None = None,
        on_event: Callable[[Any], Any] | None = None,
        stop: StopToken | None = None,
        stop_when: StopWhen | None = None,
        stop_poll: float | None = None,
        user_id: str | None = None,
        conversation_id: str | None = None,
        run_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        approve: Approver | None = None,
        approvals: Mapping[str, Answer] | None = None,
    ) -> Run[OutputT]:
        """Start a run in the background and return its handle. The arguments are those of `Agent.run`.

        Raises:
            NameTaken: a live run has that `run_id`.
            SystemClosed: the System is not open, or is shutting down.
            RuntimeError: it lives in another event loop.
        """
        if not isinstance(getattr(agent, "audience", None), Audience):
            raise TypeError(f"start() takes an agent first: system.start(agent, prompt), not {agent!r}")
        self.refuse_elsewhere()
        await checkpoint()
        launch = Launch(
            agent,
            prompt,
            deps=deps,
            system=self,
            history=history,
            limits=limits,
            on_event=on_event,
            stop=stop,
            stop_when=stop_when,
            stop_poll=stop_poll,
            user_id=user_id,
            conversation_id=conversation_id,
            run_id=run_id,
            tags=tags,
            metadata=metadata,
            policy=policy,
            approve=approve,
            approvals=approvals,
        )
        cell = launch.cell(self.stage, None, followable=True)
        cell.start_in(self.group)
        agent.freeze()
        return Run(cell)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closing" if self._group else "closed" if self._closing else "not open"
        return f"<System {self.name!r}: {state}, max_running={self.max_running}>"


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def _check_finite(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} takes a number of seconds, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} takes a finite number of seconds, not {value!r}")
