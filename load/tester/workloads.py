"""What is run under load: a workload is a coroutine function of one `Iteration`.

    from greenroom import Agent
    from greenroom.load import Iteration, workload

    agent = Agent("support", "openai:gpt-5-mini", tools=[…])

    @workload
    async def support(it: Iteration) -> None:
        \"""A customer asks for an order.\"""
        await it.run(agent, f"Where is order {it.random.randint(1, 1000)}?")

Each call of the function is one run of the report. Agents are run through the iteration, which gives them the model of
the test. What the function raises is a failure, which the report counts and shows an example of.
"""

from __future__ import annotations

import inspect
import os
import random
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeAlias, overload

from ...agents import Agent, Run, RunResult, System
from ...agents.run_stream import RunStream
from ...agents.trace import printable
from ...providers import Connections, Provider
from ..plan import Plan
from .copies import Copies
from .meter import Meter
from .recorder import Recorder

Function: TypeAlias = "Callable[[Iteration], Awaitable[object]]"
Setup: TypeAlias = "Callable[[], AbstractAsyncContextManager[Any]]"


class BadWorkload(Exception):
    """A workload cannot be had, or not be set up; the text says why, in one line."""


class Workload:
    """What is run under load. Made by `workload`; calling it calls its function.

    Attributes:
        name: what it is called.
        about: what it does, in a line.
        function: the coroutine function of an `Iteration`.
        setup: gives an async context manager that is around the whole test; its value is each iteration's `shared`.
        width: how many requests to the model one iteration makes at the same time, at most.
    """

    __slots__ = ("about", "function", "name", "setup", "width")

    def __init__(
        self,
        function: Function,
        *,
        name: str | None = None,
        about: str | None = None,
        setup: Setup | None = None,
        width: int = 1,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"a workload is a coroutine function of an Iteration (async def), not {function!r}")
        try:
            inspect.signature(function).bind(None)
        except TypeError:
            raise TypeError(f"workload {function.__name__!r} must take one argument, the Iteration") from None
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name= takes a text, not {name!r}")
        if setup is not None and not callable(setup):
            raise TypeError(f"setup= takes a function that gives an async context manager, not {setup!r}")
        if not isinstance(width, int) or isinstance(width, bool):
            raise TypeError(f"width= takes a whole number of requests, not {width!r}")
        if width < 1:
            raise ValueError(f"width= must be at least 1, not {width!r}")
        self.function = function
        self.name = printable(name or function.__name__)
        self.about = printable(about if about is not None else (inspect.getdoc(function) or "").partition("\n")[0])
        self.setup: Setup = setup if setup is not None else _no_setup
        self.width = width

    def __call__(self, it: Iteration) -> Awaitable[object]:
        return self.function(it)

    def __repr__(self) -> str:
        return f"<workload {self.name!r}>"


def _no_setup() -> AbstractAsyncContextManager[None]:
    return nullcontext()


@overload
def workload(function: Function, /) -> Workload: ...


@overload
def workload(
    *, name: str | None = None, setup: Setup | None = None, width: int = 1
) -> Callable[[Function], Workload]: ...


def workload(
    function: Function | None = None, /, *, name: str | None = None, setup: Setup | None = None, width: int = 1
) -> Workload | Callable[[Function], Workload]:
    """Make a workload of a coroutine function: ``@workload`` or ``@workload(setup=…)``.

    Args:
        name: what reports call it (default: the function's name).
        setup: a function without arguments that gives an async context manager. It is entered before the first
            iteration and left after the last one; what it gives is each iteration's `shared` (default: None).
        width: how many requests to the model one iteration makes at the same time, at most (default 1); so many
            connections are allowed for each iteration in flight.

    Raises:
        TypeError: no coroutine function of one argument, or an option of a wrong type.
        ValueError: `width` is below 1.
    """

    def make(function: Function) -> Workload:
        return Workload(function, name=name, setup=setup, width=width)

    return make if function is None else make(function)


class Surroundings:
    """What all iterations of a test share.

    Args:
        system: where runs live.
        provider: the model, measured.
        recorder: what is told.
        seed: of the test.
        simulated: whether the simulated model is asked.
        streams: whether `Iteration.run` streams.
        connections: those of the event loop, to look at.
    """

    def __init__(
        self,
        system: System,
        provider: Provider,
        recorder: Recorder,
        seed: int,
        *,
        simulated: bool = False,
        streams: bool = False,
        connections: Connections | None = None,
    ) -> None:
        self.system = system
        self.provider = provider
        self.recorder = recorder
        self.seed = seed
        self.simulated = simulated
        self.streams = streams
        self.connections = connections
        self.copies = Copies(provider, recorder)
        self.shared: Any = None


class Iteration:
    """One call of a workload's function.

    Attributes:
        number: which one, from 0, in the order of arrival.
        shared: what the workload's `setup` gives.
        status: ``completed``, or how the last of its agents' runs ended that did not complete.
    """

    __slots__ = ("_meter", "_random", "_surroundings", "number", "shared", "status")

    def __init__(self, number: int, surroundings: Surroundings, meter: Meter) -> None:
        self.number = number
        self.shared: Any = surroundings.shared
        self.status = "completed"
        self._surroundings = surroundings
        self._meter = meter
        self._random: random.Random | None = None

    @property
    def random(self) -> random.Random:
        """A random generator that depends on the test's seed and the iteration's number alone."""
        if self._random is None:
            self._random = random.Random(f"{self._surroundings.seed}:{self.number}")
        return self._random

    @property
    def model(self) -> Provider:
        """The model of the test, measured; for requests without an agent, and for agents made in the function."""
        return self._surroundings.provider

    @property
    def simulated(self) -> bool:
        """Whether the simulated model is asked, rather than a real one."""
        return self._surroundings.simulated

    def agent(self, agent: Agent[Any, Any]) -> Agent[Any, Any]:
        """The agent as it is but for its model: that of the test, measured. Its subagents and handoffs too.

        `run` and `stream` do this by themselves. An agent that the code of a tool runs has to be asked for here.
        """
        return self._surroundings.copies.of(agent)

    def prompt(self, words: str, plan: Plan | None = None) -> str:
        """What to ask: the words, and for the simulated model the `Plan` that it follows."""
        return plan.prompt(words) if plan is not None and self._surroundings.simulated else words

    async def run(self, agent: Agent[Any, Any], prompt: Any = None, **options: Any) -> RunResult[Any]:
        """Run an agent to its end, with the model of the test.

        Where the test streams, the answer is streamed and read, piece by piece.

        Args:
            agent: the agent; a copy of it is run, see `agent`.
            prompt, options: those of `Agent.run`.

        Raises:
            AgentError, ProviderError: as `Agent.run` does.
        """
        around, meter = self._surroundings, self._meter
        copy = around.copies.of(agent)
        options.setdefault("system", around.system)
        meter.begin_run(around.recorder.now())
        try:
            if around.streams:
                options.pop("on_limit", None)
                async with copy.stream(prompt, **options) as run:
                    async for _ in run.text():
                        pass
                    result = await run.result()
            else:
                result = await copy.run(prompt, **options)
        finally:
            meter.end_run(around.recorder.now())
        if result.status != "completed":
            self.status = result.status
        return result

    def stream(self, agent: Agent[Any, Any], prompt: Any = None, **options: Any) -> _Streamed:
        """Run an agent and follow it: ``async with it.stream(agent, "…") as run: async for text in run.text(): …``.

        The arguments are those of `run`, and ``on_exit=`` as of `Agent.stream`.
        """
        options.setdefault("system", self._surroundings.system)
        return _Streamed(self, self._surroundings.copies.of(agent).stream(prompt, **options))


class _Streamed:
    """The block of a streamed run; the meter counts it."""

    __slots__ = ("_it", "_run", "_stream")

    def __init__(self, it: Iteration, stream: RunStream[Any]) -> None:
        self._it = it
        self._stream = stream
        self._run: Run[Any] | None = None

    async def __aenter__(self) -> Run[Any]:
        it = self._it
        self._run = await self._stream.__aenter__()
        it._meter.begin_run(it._surroundings.recorder.now())
        return self._run

    async def __aexit__(self, *exc_info: Any) -> None:
        it = self._it
        try:
            await self._stream.__aexit__(*exc_info)
        finally:
            it._meter.end_run(it._surroundings.recorder.now())
            assert self._run is not None
            if self._run.status not in ("completed", "running"):
                it.status = self._run.status


def in_a_line(error: BaseException) -> str:
    """What has gone wrong in somebody's code, in a line."""
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": "))


def where(error: BaseException) -> str:
    """The line of a user's file that raised, in brackets; nothing where only ours and Python's own are to blame."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (
            not os.path.realpath(frame.filename).startswith(os.path.realpath(ours))
            and "importlib" not in frame.filename
        ):
            return f" ({frame.filename}:{frame.lineno})"
    return ""
