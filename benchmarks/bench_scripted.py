"""What does the runtime cost of a run, where no byte goes over a wire?

Run: python benchmarks/bench_scripted.py [--backend asyncio|trio] [--in-flight 100] [--runs 2000] [--json]

A run is three requests and three tool calls (two side by side, then one), like that of `bench_run.py`. The model
answers at once, from memory, so all that is counted is the runtime: the run's task and its tools' tasks, the checks of
arguments, the journal, the bookkeeping of use and limits.

- *task groups by hand* is the least that does the same thing in the same tasks: a task for the run, a task group with a
  task for each tool call. It checks nothing, records nothing, and cannot be stopped, watched or restarted.
- *journal in a file* has `SqliteJournal`'s default, group commit, in a temporary folder.
- *followed* has a reader of all events, so the replies are streamed.
- *two subagents* is a run with two calls of an agent side by side, each of one request, then the answer: four requests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import anyio
from runner import Contender, main

from greenroom import Agent, System, tool
from greenroom.providers import ModelReply, ModelRequest, Provider, Usage, assistant, call

ANSWER = "It is warm in Tokyo and in Oslo."
USAGE = Usage(100, 20, 120)
Once = Callable[[], Awaitable[str]]


class Instant(Provider):
    """Gives the reply of the turn, at once: `turns`, then the answer."""

    name = model = "instant"

    def __init__(self, *turns: list[Any]) -> None:
        replies = [assistant(tool_calls=turn) for turn in turns] + [assistant(ANSWER)]
        self._replies = [ModelReply(reply, usage=USAGE) for reply in replies]

    async def complete(self, request: ModelRequest) -> ModelReply:
        return self._replies[sum(message.role == "assistant" for message in request.messages)]


@tool
async def weather(city: str) -> str:
    """Current weather in a city."""
    return f"{city}: 21 degrees, clear"


@tool
async def convert(celsius: float) -> str:
    """Degrees Celsius in Fahrenheit."""
    return f"{celsius * 9 / 5 + 32:.0f} F"


TURNS = (
    [call("weather", city="Tokyo"), call("weather", city="Oslo")],
    [call("convert", celsius=21.0)],
)
AGENT = Agent("weather", Instant(*TURNS), tools=[weather, convert])
BELOW = Agent("below", Instant())
ABOVE = Agent("above", Instant([call("below", prompt="a"), call("below", prompt="b")]), tools=[BELOW])


@asynccontextmanager
async def by_hand(_: int) -> AsyncGenerator[Once]:
    model, tools = Instant(*TURNS), {"weather": weather.function, "convert": convert.function}

    async def once() -> str:
        said: list[str] = []

        async def act(name: str, arguments: dict[str, Any], results: list[str]) -> None:
            results.append(await tools[name](**arguments))

        async def loop() -> None:
            replies = iter(model._replies)  # the least: it does not look for its place either
            while calls := (reply := next(replies)).message.tool_calls:
                results: list[str] = []
                async with anyio.create_task_group() as group:
                    for each in calls:
                        group.start_soon(act, each.name, each.arguments, results)
                said.extend(results)
            said.append(reply.message.text)

        async with anyio.create_task_group() as group:
            group.start_soon(loop)
        return said[-1]

    yield once


@asynccontextmanager
async def alone(_: int) -> AsyncGenerator[Once]:
    async def once() -> str:
        return (await AGENT.run("Weather?")).output

    yield once


@asynccontextmanager
async def inside(in_flight: int) -> AsyncGenerator[Once]:
    async with System(max_running=in_flight), alone(in_flight) as once:
        yield once


@asynccontextmanager
async def recorded(in_flight: int) -> AsyncGenerator[Once]:
    with TemporaryDirectory() as folder:
        async with System(max_running=in_flight, journal=str(Path(folder, "runs.db"))), alone(in_flight) as once:
            yield once


@asynccontextmanager
async def start(in_flight: int) -> AsyncGenerator[Once]:
    async with System(max_running=in_flight) as system:

        async def once() -> str:
            return (await (await system.start(AGENT, "Weather?")).result()).output

        yield once


@asynccontextmanager
async def followed(in_flight: int) -> AsyncGenerator[Once]:
    async with System(max_running=in_flight) as system:

        async def once() -> str:
            run = await system.start(AGENT, "Weather?")
            async for _ in run:
                pass
            return (await run.result()).output

        yield once


@asynccontextmanager
async def subagents(in_flight: int) -> AsyncGenerator[Once]:
    async with System(max_running=in_flight):

        async def once() -> str:
            return (await ABOVE.run("Weather?")).output

        yield once


def contender(name: str, place: Callable[[int], Any]) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        runs, in_flight = options["runs"], min(options["in_flight"], options["runs"])
        numbers = iter(range(runs))
        async with place(in_flight) as once:

            async def work() -> None:
                for _ in numbers:
                    assert await once() == ANSWER

            cpu = process_time()
            async with anyio.create_task_group() as group:
                for _ in range(in_flight):
                    group.start_soon(work)
            return {"CPU ms per run": (process_time() - cpu) / runs * 1e3}

    return Contender(name, measure)


CONTENDERS = [
    contender("task groups by hand", by_hand),
    contender("agent.run", alone),
    contender("agent.run in a System", inside),
    contender("agent.run, journal in a file", recorded),
    contender("system.start", start),
    contender("system.start, followed", followed),
    contender("agent.run, two subagents", subagents),
]

if __name__ == "__main__":
    main(
        "CPU time of a run without a wire: three requests, three tool calls",
        CONTENDERS,
        baseline="task groups by hand",
        repeats=5,
        runs=2_000,
        in_flight=100,
    )
