"""What does a followed run cost whose answer is streamed, against a loop written by hand?

Run: python benchmarks/bench_stream.py [--backend asyncio|trio] [--in-flight 100] [--runs 300] [--chunks 60]

A run is three requests and three tool calls over real HTTP, all streamed; the answer comes in `--chunks` pieces, 1 ms
apart, and the caller gets each of them. The simulated server, in a process of its own, counts requests, calls and
connections; a repeat in which one is missing or doubled fails, and so does one that merged two pieces.

- *transport by hand*: our transport under httpx's interface, server-sent events split at empty lines, msgspec; no
  deadlines, no errors read, no record kept.
- *httpx by hand*: the same loop with ``httpx.AsyncClient`` around our transport, read line by line.
- *provider.stream*: our provider, and a loop around it. What remains above it is the agent's.
- *agent.stream, text()*: the answer's text. *system.start, followed*: every event of the run.

With uvloop, which greenroom does not need: uv run --with uvloop python benchmarks/bench_stream.py --backend uvloop
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from bench_provider import Once, by_hand, headers_for, measured, provider, read_stream, talk
from bench_run import agent_of
from runner import Contender, main

from greenroom import System
from greenroom.events import ModelTextDelta
from greenroom.load import SimulatedServer
from greenroom.providers.http import FreeListTransport


@asynccontextmanager
async def httpx_by_hand(server: SimulatedServer, in_flight: int, streams: bool) -> AsyncGenerator[Once]:
    """The client that most loops by hand use, without its own pool."""
    url, headers = f"{server.base_url}/chat/completions", headers_for(server)

    async def lines(response: httpx.Response) -> AsyncIterator[bytes]:
        async for line in response.aiter_lines():
            if line:
                yield line.encode() + b"\n\n"

    async def ask(body: dict[str, Any]) -> Any:
        async with client.stream("POST", url, headers=headers, content=msgspec.json.encode(body)) as response:
            assert response.status_code == 200
            return await read_stream(lines(response))

    async def once(prompt: str) -> tuple[str, int]:
        return await talk(prompt, streams, ask)

    async with httpx.AsyncClient(transport=FreeListTransport(limit=in_flight), timeout=None) as client:
        yield once


@asynccontextmanager
async def text(server: SimulatedServer, in_flight: int, streams: bool) -> AsyncGenerator[Once]:
    """A run in the System, whose text is read."""
    assert streams
    agent = agent_of(server)

    async def once(prompt: str) -> tuple[str, int]:
        async with agent.stream(prompt) as run:
            pieces = [piece async for piece in run.text()]
        return "".join(pieces), len(pieces)

    async with System(max_running=in_flight):
        yield once


@asynccontextmanager
async def followed(server: SimulatedServer, in_flight: int, streams: bool) -> AsyncGenerator[Once]:
    """A run in the System, all of whose events are read."""
    assert streams
    agent = agent_of(server)

    async with System(max_running=in_flight) as system:

        async def once(prompt: str) -> tuple[str, int]:
            run = await system.start(agent, prompt)
            pieces = 0
            async for event in run:
                pieces += type(event) is ModelTextDelta
            return (await run.result()).output, pieces

        yield once


def contender(name: str, place: Any) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        return await measured(place, options["runs"], options["in_flight"], options["chunks"], True)

    return Contender(name, measure)


CONTENDERS = [
    contender("transport by hand", by_hand),
    contender("httpx by hand", httpx_by_hand),
    contender("provider.stream", provider),
    contender("agent.stream, text()", text),
    contender("system.start, followed", followed),
]

if __name__ == "__main__":
    main(
        "CPU time of one streamed run: three requests, three tool calls, every piece of the answer delivered",
        CONTENDERS,
        baseline="httpx by hand",
        repeats=3,
        libraries=("uvloop",),
        runs=300,
        in_flight=100,
        chunks=60,
    )
