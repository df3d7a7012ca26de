"""What does a tool call cost as a child actor, against a bare await and a task group?

Run: python benchmarks/bench_tool_call.py [--backend asyncio|trio] [--count 4000] [--json]

CPU time of one call, with 1, 10 and 100 calls in each reply of the model. The tool takes one argument and returns a
short text after one checkpoint. The model is in this process and its own time is not counted: what is, is from a reply
to the next request, divided by its calls. So with one call per reply a whole turn of the run is in the figure, see
*turn without a call*.

- *await tool()* is the floor: one after the other, arguments given, nothing checked, nothing written down.
- *task group* starts one task for each call; *to_thread* one call of anyio's for each, in a task.
- *agent* is a run: arguments read and checked, journal, one task and one cancel scope for each call, steps watched.
- *agent with a policy*, *hook*, *limit*, *lock*, *retries* has that one thing more; nothing waits. Of *agent, thread*
  the tool runs in a thread. Processes have a file of their own, `bench_process_tool.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import process_time
from typing import Any

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint
from runner import Contender, main

from greenroom import Agent, Allow, Limits, System, Tool
from greenroom.providers import ModelReply, ModelRequest, Provider, assistant, call

#: Calls in one reply.
WIDTHS = (1, 10, 100)
#: Replies in one run: how long a conversation gets is not what is measured.
REPLIES = 20
TEXT = "It rains in Oslo."


async def weather(city: str) -> str:
    """The weather in a city."""
    await checkpoint()
    return f"It rains in {city}."


def weather_of(city: str) -> str:
    """The weather in a city."""
    return f"It rains in {city}."


class Model(Provider):
    """Asks for so many calls in each reply, and takes the time in between."""

    name, model = "bench", "bench"

    def __init__(self, width: int) -> None:
        calls = [call("weather", city="Oslo") for _ in range(width)]
        message = assistant(tool_calls=calls) if width else assistant(TEXT)
        self._reply = ModelReply(message, "tool_calls" if width else "pause")
        self._left = REPLIES
        self._since = 0.0
        self.seconds = 0.0

    async def complete(self, request: ModelRequest) -> ModelReply:
        now = process_time()
        if self._since:
            self.seconds += now - self._since
        results = [result.content for message in request.messages for result in message.tool_results]
        assert all(result == TEXT for result in results), results
        if not self._left:
            return ModelReply(assistant("done"), "stop")
        self._left -= 1
        self._since = process_time()
        return self._reply


async def _run(tool: Tool[..., Any], width: int, **options: Any) -> float:
    model = Model(width)
    # The same call again and again: counted, as in any run, but never too often.
    agent = Agent("bench", model, tools=[tool], limits=Limits(turns=None), stuck_after=1_000_000, **options)
    assert (await agent.run("Go")).output == "done"
    return model.seconds


def _times(count: int, width: int) -> int:
    """How many runs there are for so many calls."""
    return max(1, count // REPLIES // width)


def agent(function: Callable[..., Any] = weather, **options: Any) -> Contender:
    """A run whose tool has these options."""
    rules = {name: options.pop(name) for name in ("limit", "lock", "retries", "where") if name in options}
    name = options.pop("called")

    async def measure(chosen: Mapping[str, int]) -> dict[str, float]:
        figures: dict[str, float] = {}
        async with System():
            for width in WIDTHS:
                tool = Tool(function, name="weather", **rules)
                seconds = [await _run(tool, width, **options) for _ in range(_times(chosen["count"], width) + 1)]
                figures[_figure(width)] = sum(seconds[1:]) / (len(seconds) - 1) / REPLIES / width * 1e6
        return figures

    return Contender(name, measure)


async def turn_without_a_call(options: Mapping[str, int]) -> dict[str, float]:
    tool = Tool(weather)
    async with System():
        seconds = [await _run(tool, 0) for _ in range(_times(options["count"], 1) + 1)]
    return {_figure(1): sum(seconds[1:]) / (len(seconds) - 1) / REPLIES * 1e6}


async def bare_await(options: Mapping[str, int]) -> dict[str, float]:
    async def once(width: int) -> None:
        for _ in range(width):
            assert await weather("Oslo") == TEXT

    return await _each(once, options["count"])


async def task_group(options: Mapping[str, int]) -> dict[str, float]:
    async def once(width: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(width):
                group.start_soon(weather, "Oslo")

    return await _each(once, options["count"])


async def threads_of_anyio(options: Mapping[str, int]) -> dict[str, float]:
    limiter = anyio.CapacityLimiter(64)

    async def one() -> None:
        assert await to_thread.run_sync(weather_of, "Oslo", limiter=limiter) == TEXT

    async def once(width: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(width):
                group.start_soon(one)

    return await _each(once, options["count"])


async def _each(once: Callable[[int], Any], count: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for width in WIDTHS:
        await once(width)
        times = max(2, count // width)
        began = process_time()
        for _ in range(times):
            await once(width)
        figures[_figure(width)] = (process_time() - began) / times / width * 1e6
    return figures


def _figure(width: int) -> str:
    return f"us, {width} at once"


async def _heard(_event: Any) -> None:
    return None


CONTENDERS = [
    Contender("await tool()", bare_await),
    Contender("task group", task_group),
    Contender("turn without a call", turn_without_a_call),
    agent(called="agent"),
    agent(called="agent with a policy", policy=lambda _call, _context: Allow()),
    agent(called="agent with a hook", hooks={"on_tool_end": _heard}),
    agent(called="agent with a limit", limit=1_000),
    agent(called="agent with a lock", lock=lambda _arguments: object()),
    agent(called="agent with retries", retries=2),
    Contender("to_thread", threads_of_anyio),
    agent(weather_of, called="agent, thread"),
]

if __name__ == "__main__":
    main("CPU time of one tool call", CONTENDERS, baseline="task group", repeats=3, count=4_000)
