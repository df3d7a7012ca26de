"""A System for code that does not await: Django, Flask, a graphical interface, a plain script.

`System.in_thread()` opens a System in an event loop in a thread of its own (`system_thread`). What it gives has the
methods of a System and of an agent as blocking functions, each of which may be called from any thread at any time. The
errors are those of the asynchronous functions.

Nothing is implemented twice: each method awaits its asynchronous twin in the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypedDict, cast, overload

import msgspec
from typing_extensions import Unpack

from ..actors import Node, Report
from ..journal import Journal
from ..providers import GateLimits
from .approvals import Approver
from .blocking import Backend, check_backend
from .chronicle import Chronicle
from .context import DepsT
from .drain import Drained
from .execution import OnLimit
from .held_block import HeldBlock
from .history import Prompt
from .instruments import Instrument
from .launch import check_agent
from .options import names_ours_in, refuse_unknown
from .policy import Policy
from .recovery_terms import MAX_CLAIMS, Unfinished
from .result import OutputT, RunResult
from .run_options import ConversationKeywords, RunKeywords
from .run_stream import OnExit
from .sources import Sources
from .stop_poll import StopWhen
from .system_thread import SystemThread
from .thread_reading import ThreadCompleted
from .thread_run import ThreadConversation, ThreadRun, ThreadStream

if TYPE_CHECKING:
    from .agent import Agent
    from .system import System


class SystemKeywords(TypedDict, total=False):
    """Keywords of a System in a thread: those of `System`, without ``signals``."""

    name: str
    agents: Iterable[Agent[Any, Any]]
    max_running: int
    max_queued: int | None
    fair: bool
    require: Collection[str]
    on_event: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None
    instruments: Sequence[Instrument]
    intensity: int
    period: float
    grace: float
    journal: Journal | str | os.PathLike[str] | None
    gates: Mapping[str, GateLimits] | None
    max_tools: int | None
    processes: int | None
    sources: Sources | None
    drain_timeout: float | None
    on_report: Callable[[Report], object] | None


#: Options of each run of a `map`.
_EACH = {*RunKeywords.__annotations__, "deps", "on_limit"}


class ThreadRecovery(msgspec.Struct, frozen=True):
    """What became of the unfinished runs of a journal, as in `Recovery`; `runs` has their handles."""

    runs: tuple[ThreadRun[Any], ...]
    parked: dict[str, str]
    left: dict[str, str]
    changed: dict[str, tuple[str, ...]]


class ThreadSystem:
    """A System in a thread of its own. Get it from `System.in_thread`.

    Functions that you give it (`on_event`, `approve`, hooks) are called in its thread, and must not block there.

    In a tool that is a plain function, `run`, `map`, `stream` and `as_completed` work, and their runs are subagents.
    What waits for other runs of the same System is refused with `WouldDeadlock`: a run that waits for its turn
    (`max_running`) would never get it from one that waits for it.
    """

    __slots__ = ("_system", "_thread")

    def __init__(self, system: System, backend: Backend) -> None:
        check_backend(backend)
        self._system = system
        self._thread = SystemThread(system, backend)

    # -- life

    def open(self) -> Self:
        """Start the thread and open the System, for code that has no block to hold it; then `close` it.

        Raises:
            SystemClosed: it was opened before.
            JournalError, DescriptorLimit: it cannot be opened.
        """
        self._thread.open()
        return self

    def close(self) -> None:
        """End in order, as the end of the block does: runs are stopped with ``reason="system"``, and the thread ends.
        Harmless when it has ended.

        Raises:
            RestartLimit: the System gave up.
            WouldDeadlock: in a tool, or in the System's thread.
        """
        self._end(None)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._end(exc)

    def _end(self, error: BaseException | None) -> None:
        thread = self._thread
        if thread.is_open:
            thread.refuse("system.close()")
            thread.refuse_waiting("system.close()")
        if error is None or isinstance(error, Exception):
            thread.leave()
        else:
            thread.abort()  # an interrupt does not wait for anything in order
        thread.wait_ended()
        failure = thread.take_failure()
        if failure is None or failure is error:
            return
        if error is None:
            raise failure
        error.add_note(f"while {self._system.name!r} was shutting down: {failure}")

    @property
    def name(self) -> str:
        """The System's name."""
        return self._system.name

    @property
    def is_open(self) -> bool:
        """Whether it takes calls."""
        return self._thread.is_open

    async def __aenter__(self) -> NoReturn:
        raise TypeError(
            "a System in a thread is opened with `with System.in_thread() as system:`; "
            "where there is an event loop, with `async with System() as system:`"
        )

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    # -- runs

    @names_ours_in(RunKeywords)
    def run(
        self,
        agent: Agent[DepsT, OutputT],
        prompt: Prompt | None = None,
        *,
        deps: DepsT | None = None,
        on_limit: OnLimit = "raise",
        **options: Unpack[RunKeywords],
    ) -> RunResult[OutputT]:
        """Run to the end, as `Agent.run` does. An interrupt, such as Ctrl-C, ends the run.

        Raises:
            AgentError, ProviderError: as for `Agent.run`.
            SystemClosed: it is not open, or has ended.
            WouldDeadlock: in the System's own thread.
        """
        check_agent("system.run(agent, prompt)", agent)
        return self._thread.call(
            "system.run()",
            lambda: agent.run(prompt, deps=cast("Any", deps), system=self._system, on_limit=on_limit, **options),
        )

    @names_ours_in(RunKeywords)
    def start(
        self,
        agent: Agent[DepsT, OutputT],
        prompt: Prompt | None = None,
        *,
        deps: DepsT | None = None,
        **options: Unpack[RunKeywords],
    ) -> ThreadRun[OutputT]:
        """Start a run in the background and return its handle, as `System.start` does."""
        check_agent("system.start(agent, prompt)", agent)
        run = self._thread.call("system.start()", lambda: self._system.start(agent, prompt, deps=deps, **options))
        return ThreadRun(self._thread, run)

    @names_ours_in(RunKeywords)
    def stream(
        self,
        agent: Agent[DepsT, OutputT],
        prompt: Prompt | None = None,
        *,
        deps: DepsT | None = None,
        on_exit: OnExit = "stop",
        **options: Unpack[RunKeywords],
    ) -> ThreadStream[OutputT]:
        """Run and follow, as `Agent.stream` does: ``with system.stream(agent, "…") as run: for event in run: …``."""
        check_agent("system.stream(agent, prompt)", agent)
        return ThreadStream(
            self._thread,
            lambda: agent.stream(prompt, deps=cast("Any", deps), system=self._system, on_exit=on_exit, **options),
        )

    @overload
    def map(
        self,
        agent: Agent[Any, OutputT],
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect"] = "collect",
        **options: Any,
    ) -> list[RunResult[OutputT] | Exception]: ...

    @overload
    def map(
        self,
        agent: Agent[Any, OutputT],
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"],
        **options: Any,
    ) -> list[RunResult[OutputT]]: ...

    def map(
        self,
        agent: Agent[Any, OutputT],
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect", "raise"] = "collect",
        **options: Any,
    ) -> list[Any]:
        """One run per prompt, as `Agent.map` does. The prompts are read here, in the calling thread, before the first
        run.
        """
        check_agent("system.map(agent, prompts)", agent)
        refuse_unknown("ThreadSystem.map", options, _EACH)
        options |= {"concurrency": concurrency, "on_error": on_error, "system": self._system}
        prompts = _read_here(prompts)
        return self._thread.call("system.map()", lambda: cast("Any", agent).map(prompts, **options))

    @overload
    def as_completed(
        self,
        agent: Agent[Any, OutputT],
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect"] = "collect",
        **options: Any,
    ) -> ThreadCompleted[RunResult[OutputT] | Exception]: ...

    @overload
    def as_completed(
        self,
        agent: Agent[Any, OutputT],
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["raise"],
        **options: Any,
    ) -> ThreadCompleted[RunResult[OutputT]]: ...

    def as_completed(
        self,
        agent: Agent[Any, OutputT],
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect", "raise"] = "collect",
        **options: Any,
    ) -> ThreadCompleted[Any]:
        """Each result as soon as it is there, as `Agent.as_completed` does:
        ``with system.as_completed(agent, prompts) as results: for index, result in results: …``. The prompts are read
        here, before the first run.
        """
        check_agent("system.as_completed(agent, prompts)", agent)
        refuse_unknown("ThreadSystem.as_completed", options, _EACH)
        options |= {"concurrency": concurrency, "on_error": on_error, "system": self._system}
        block = cast("Any", agent).as_completed(_read_here(prompts), **options)
        return ThreadCompleted(self._thread, HeldBlock[Any](self._thread, "system.as_completed()", lambda: block))

    def conversation(
        self, agent: Agent[DepsT, OutputT], id: str, **options: Unpack[ConversationKeywords]
    ) -> ThreadConversation[OutputT]:
        """A conversation with an agent, new or known, as `System.conversation` gives."""

        check_agent("system.conversation(agent, id)", agent)

        async def conversation() -> ThreadConversation[OutputT]:
            return ThreadConversation(self._thread, self._system.conversation(agent, id, **options))

        return self._thread.call("system.conversation()", conversation)

    # -- the System

    def find(self, run_id: str) -> ThreadRun[Any] | None:
        """The handle of a run that is at work here, as `System.find` gives."""

        async def find() -> ThreadRun[Any] | None:
            run = self._system.find(run_id)
            return ThreadRun(self._thread, run) if run is not None else None

        return self._thread.call("system.find()", find)

    def tree(self) -> Node:
        """The live tree at this moment."""

        async def tree() -> Node:
            return self._system.tree()

        return self._thread.call("system.tree()", tree)

    def chronicle(self, run_id: str) -> Chronicle:
        """The story of a run as its journal has it, as `System.chronicle` gives."""
        return self._thread.call("system.chronicle()", lambda: self._system.chronicle(run_id))

    def drain(self, timeout: float = 30.0) -> Drained:
        """Start nothing new, and bring what is at work to a good place to stop, as `System.drain` does."""
        self._thread.refuse_waiting("system.drain()")
        return self._thread.call("system.drain()", lambda: self._system.drain(timeout))

    def recover(
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
    ) -> ThreadRecovery:
        """Go on with the runs that are unfinished in the journal, as `System.recover` does."""

        async def recover() -> ThreadRecovery:
            recovery = await self._system.recover(
                agents,
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
            runs = tuple([ThreadRun(self._thread, run) for run in recovery.runs])
            return ThreadRecovery(runs, recovery.parked, recovery.left, recovery.changed)

        return self._thread.call("system.recover()", recover)

    def __repr__(self) -> str:
        return f"<ThreadSystem {self.name!r}: {'open' if self.is_open else 'not open'}>"


def _read_here(prompts: Iterable[Prompt]) -> Iterable[Prompt]:
    """Read prompts in the thread of who gives them: they may come from what only works, or blocks, there."""
    return list(prompts) if isinstance(prompts, Iterator) else prompts
