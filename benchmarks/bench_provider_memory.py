"""How much memory does a model call in flight take: connection, request, task and all?

Run: python benchmarks/bench_provider_memory.py [--backend asyncio|trio] [--in-flight 4000] [--json]

With the SDK, which greenroom does not need: uv run --with openai python benchmarks/bench_provider_memory.py

`--in-flight` calls wait for the simulated server, which has all of them and has answered none. Resident memory of the
process then, less that before (after a first call), divided by their number. What was imported is not counted. Linux
only (/proc).

- *by hand* is one request over our transport; *OpenAIChat* is `complete`, *streamed* is `stream`.
- *openai SDK* is `AsyncOpenAI` without a limit on connections, else 3,000 of 4,000 calls would wait in its pool.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx
import msgspec
from bench_idle import resident
from bench_run import INSTRUCTIONS, TOOLS, model_of
from runner import Contender, main

from greenroom.actors import raise_descriptor_limit
from greenroom.load import Latency, Plan, SimulatedServer, simulated_server
from greenroom.providers import ModelRequest, tool_spec, user
from greenroom.providers.http import FreeListTransport, shared_connections

try:
    import openai
except ImportError:
    openai = None

#: Makes one call and waits for its answer.
Once = Callable[[], Awaitable[object]]
PROMPT = Plan(answer="Done.").prompt("What about the weather?")


@asynccontextmanager
async def by_hand(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    url = httpx.URL(f"{server.base_url}/chat/completions")
    said = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": PROMPT}]

    async def once() -> bytes:
        request = httpx.Request("POST", url, content=msgspec.json.encode({"model": "simulated", "messages": said}))
        response = await transport.handle_async_request(request)
        return b"".join([chunk async for chunk in response.stream])

    async with FreeListTransport(limit=in_flight) as transport:
        yield once


@asynccontextmanager
async def complete(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    model = model_of(server)
    specs = [tool_spec(each) for each in TOOLS.values()]

    async def once() -> object:
        return await model.complete(ModelRequest([user(PROMPT)], tools=specs, instructions=INSTRUCTIONS))

    async with shared_connections(in_flight):
        yield once


@asynccontextmanager
async def streamed(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    model = model_of(server)
    specs = [tool_spec(each) for each in TOOLS.values()]

    async def once() -> object:
        async with model.stream(ModelRequest([user(PROMPT)], tools=specs, instructions=INSTRUCTIONS)) as stream:
            return [event async for event in stream]

    async with shared_connections(in_flight):
        yield once


@asynccontextmanager
async def sdk(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    assert openai is not None
    limits: Any = openai.DEFAULT_CONNECTION_LIMITS.__class__(max_connections=None, max_keepalive_connections=in_flight)
    said: Any = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": PROMPT}]

    async def once() -> object:
        return await client.chat.completions.create(model="simulated", messages=said)

    async with (
        openai.DefaultAsyncHttpxClient(limits=limits) as http,
        openai.AsyncOpenAI(
            base_url=server.base_url, api_key="none", max_retries=0, timeout=600.0, http_client=http
        ) as client,
    ):
        yield once


def contender(name: str, place: Callable[[SimulatedServer, int], AbstractAsyncContextManager[Once]]) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        return await _measure(place, options["in_flight"])

    return Contender(name, measure)


async def _measure(place: Any, in_flight: int) -> dict[str, float]:
    raise_descriptor_limit(in_flight)
    async with (
        simulated_server(latency=Latency(0.0, 0.0)) as quick,
        simulated_server(latency=Latency(600.0, 600.0)) as slow,
    ):
        async with place(quick, 1) as once:
            await once()
        async with place(slow, in_flight) as once, anyio.create_task_group() as group:
            before = resident()
            for _ in range(in_flight):
                group.start_soon(_swallow, once)
            while (await slow.stats()).in_flight < in_flight:
                await anyio.sleep(0.1)
            figures = {"KiB": (resident() - before) / in_flight / 1024}
            group.cancel_scope.cancel()
    return figures


async def _swallow(once: Once) -> None:
    with contextlib.suppress(Exception):  # those of a client whose calls are cut off at the end
        await once()


CONTENDERS = [
    contender("by hand", by_hand),
    contender("OpenAIChat", complete),
    contender("OpenAIChat, streamed", streamed),
    *([contender("openai SDK", sdk)] if openai is not None else []),
]

if __name__ == "__main__":
    main(
        "Memory of one model call in flight",
        CONTENDERS,
        baseline="by hand",
        repeats=1,
        warm_up=0,
        libraries=("openai",),
        in_flight=4_000,
    )
