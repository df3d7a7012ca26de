"""How much memory do many runs in flight take, do all of them end, and how soon can all be stopped?

Run: python benchmarks/bench_in_flight.py [--backend asyncio|trio] [--in-flight 10000] [--json]

A run is that of `bench_run.py`: three requests over real HTTP, three tool calls. The model is the simulated server, in
a process of its own. Linux only (/proc).

- A plain row: all of them wait for their model, which has been asked and answers none. They were begun one at each turn
  of the event loop. *KiB* is the resident memory of the process then, less that before, divided by their number; one
  run before them has made what only a first one makes. Then all are stopped at once: *stop* is the time until each has
  its result (``stopped``) and the server sees no connection any more. By hand that is the cancellation of a task group,
  whose tasks have no result to give.
- *to the end*: all are begun at once, the model answers after two seconds (`--latency-ms`), and all come to their end.
  *KiB* is the greatest resident memory on the way, less that before, divided by their number: the tasks that open all
  the connections at the same time, whole histories, and what the collector has not yet taken are in it. *peak MB* is
  that of the whole process.

*transport by hand* is the connection and a loop with nothing around it, *OpenAIChat by hand* the same over our
provider: what a run takes beyond them is the agent's. `system.start` is stopped by a `StopToken`; *System closed* by
the end of its block. Each *agent.run in a System* is awaited by a task of its own, which is in the figure.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from bench_idle import resident
from bench_run import ANSWER, PLAN, agent_of, provider_by_hand, run_inside, start, transport_by_hand
from runner import Contender, main

from greenroom import Run, StopToken, System
from greenroom.actors import raise_descriptor_limit
from greenroom.load import Latency, SimulatedServer, simulated_server

#: Seconds after which the model answers those that do not come to their end.
NEVER = 3_600.0
Place = Callable[[SimulatedServer, int], AbstractAsyncContextManager[Any]]


def prompts(count: int) -> list[str]:
    return [PLAN.prompt(f"Run {number}: weather?") for number in range(count)]


@asynccontextmanager
async def server_after_one(place: Place, seconds: float) -> AsyncGenerator[SimulatedServer]:
    """A server that answers after so many seconds, once a run at another one has made what a first run makes."""
    async with simulated_server(latency=Latency(0.0, 0.0)) as quick, place(quick, 1) as once:
        assert await once(PLAN.prompt("The first run: weather?")) == ANSWER
    async with simulated_server(latency=Latency(seconds, seconds)) as server:
        yield server


async def all_asked(server: SimulatedServer, count: int) -> None:
    while (await server.stats()).in_flight < count:
        await anyio.sleep(0.1)


async def none_connected(server: SimulatedServer) -> None:
    while (await server.stats()).connections_open > 1:  # the one that asks
        await anyio.sleep(0.02)


def each(before: int, count: int) -> float:
    """KiB of each, since `before` bytes."""
    return (resident() - before) / count / 1024


class Clock:
    """What has passed since it was started. The peak of resident memory begins anew with it."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._wall, self._cpu = perf_counter(), process_time()

    def figures(self, what: str) -> dict[str, float]:
        return {f"{what}, s": perf_counter() - self._wall, f"{what}, CPU s": process_time() - self._cpu}


def by_hand(name: str, place: Place) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        count = options["in_flight"]
        raise_descriptor_limit(count)
        async with server_after_one(place, NEVER) as server, place(server, count) as once:
            figures: dict[str, float] = {}
            asked, clock, before = prompts(count), Clock(), resident()
            async with anyio.create_task_group() as group:
                for prompt in asked:
                    group.start_soon(once, prompt)
                    await checkpoint()
                await all_asked(server, count)
                figures["KiB"] = each(before, count)
                clock.restart()
                group.cancel_scope.cancel()
            await none_connected(server)
            return figures | clock.figures("stop")

    return Contender(name, measure)


async def stopped_by_token(options: Mapping[str, int]) -> dict[str, float]:
    count, token = options["in_flight"], StopToken()
    async with server_after_one(start, NEVER) as server, System(max_running=count) as system:
        before = resident()
        runs = await _start(system, server, count, token)
        figures = {"KiB": each(before, count)}
        clock = Clock()
        token.stop()
        ended = [(await run.result()).status for run in runs]
        await none_connected(server)
        assert ended == ["stopped"] * count, ended
        return figures | clock.figures("stop")


async def system_closed(options: Mapping[str, int]) -> dict[str, float]:
    count = options["in_flight"]
    async with server_after_one(start, NEVER) as server:
        async with System(max_running=count) as system:
            before = resident()
            runs = await _start(system, server, count, None)
            figures = {"KiB": each(before, count)}
            clock = Clock()
        await none_connected(server)
        assert [run.status for run in runs] == ["stopped"] * count
        return figures | clock.figures("stop")


async def _start(system: System, server: SimulatedServer, count: int, token: StopToken | None) -> Sequence[Run[str]]:
    agent = agent_of(server)
    runs = [await system.start(agent, prompt, stop=token) for prompt in prompts(count)]
    await all_asked(server, count)
    return runs


def to_the_end(name: str, place: Place) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        count = options["in_flight"]
        raise_descriptor_limit(count)
        async with server_after_one(place, options["latency_ms"] / 1e3) as server, place(server, count) as once:
            asked, before = prompts(count), resident()

            async def work(prompt: str) -> None:
                assert await once(prompt) == ANSWER

            clock = Clock()
            async with anyio.create_task_group() as group:
                for prompt in asked:
                    group.start_soon(work, prompt)
            return await _ended(server, count, before, clock)

    return Contender(f"{name}, to the end", measure)


async def started_to_the_end(options: Mapping[str, int]) -> dict[str, float]:
    count = options["in_flight"]
    async with server_after_one(start, options["latency_ms"] / 1e3) as server, System(max_running=count) as system:
        agent, asked, before = agent_of(server), prompts(count), resident()
        runs: list[Run[str]] = []

        async def begin(prompt: str) -> None:
            runs.append(await system.start(agent, prompt))

        clock = Clock()
        async with anyio.create_task_group() as group:
            for prompt in asked:
                group.start_soon(begin, prompt)
        assert all([(await run.result()).output == ANSWER for run in runs])
        return await _ended(server, count, before, clock)


async def _ended(server: SimulatedServer, count: int, before: int, clock: Clock) -> dict[str, float]:
    """The figures of runs that have come to their end, and the server's word that they have."""
    taken, peak = clock.figures("all"), _peak()
    stats = await server.stats()
    assert (stats.requests, stats.ok, stats.tool_calls) == (3 * count, 3 * count, 3 * count), stats
    assert (stats.conversations_finished, stats.runs_finished) == (count, count), stats
    figures = {"KiB": (peak - before) / count / 1024, "peak MB": peak / 1e6}
    # A machine so busy that connecting takes longer than ten seconds opens some of them again.
    return figures | taken | {"requests at once": stats.in_flight_max, "connections": stats.connections - 1}


def _peak() -> int:
    """The greatest resident memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


CONTENDERS = [
    by_hand("transport by hand", transport_by_hand),
    by_hand("OpenAIChat by hand", provider_by_hand),
    Contender("system.start", stopped_by_token),
    Contender("system.start, System closed", system_closed),
    to_the_end("transport by hand", transport_by_hand),
    to_the_end("OpenAIChat by hand", provider_by_hand),
    Contender("system.start, to the end", started_to_the_end),
    to_the_end("agent.run in a System", run_inside),
]

if __name__ == "__main__":
    main(
        "Memory of one run in flight, and the end of all of them",
        CONTENDERS,
        baseline="transport by hand",
        repeats=1,
        warm_up=0,
        rounds=1,
        in_flight=1_000,
        latency_ms=2_000,
    )
