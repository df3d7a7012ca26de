"""What does one agent run cost, against a loop written by hand over the same connections?

Run: python benchmarks/bench_run.py [--backend asyncio|trio] [--in-flight 1000] [--runs 2000] [--json]

A run is three requests over real HTTP and three tool calls (two side by side, then one). The model is the simulated
server, in a process of its own, with 50 ms of latency; it says afterwards how many requests, calls and conversations
it has seen, and a repeat in which one of them is missing or doubled fails. `--in-flight` runs go on at any time.

- *httpx by hand* is the loop that people write: an `httpx.AsyncClient`, JSON written and read with msgspec, no errors
  read, no tool checked, no record kept. The client is given our free-list transport: with its own it costs ten times
  as much. It is the baseline.
- *transport by hand* is the same without the client, and without deadlines: the floor.
- *OpenAIChat by hand* is the same loop over our provider: what remains above it is the agent's.
- *agent.run*, gathered: outside any System, inside an open one; and *system.start*, which gives a handle to each run.
- *followed* has a reader of all events, so the model's replies are streamed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from time import perf_counter, process_time
from typing import Any

import anyio
import httpx
import msgspec
from runner import Contender, main

from greenroom import Agent, System
from greenroom.load import Call, Latency, Plan, SimulatedServer, Turn, simulated_server
from greenroom.providers import Message, ModelRequest, OpenAIChat, tool_result, tool_spec, user
from greenroom.providers.http import FreeListTransport, shared_connections

ANSWER = "It is warm in Tokyo and in Oslo, and 21 degrees are 70 in Fahrenheit."
PLAN = Plan(
    turns=(
        Turn((Call("weather", {"city": "Tokyo"}), Call("weather", {"city": "Oslo"}))),
        Turn((Call("convert", {"celsius": 21.0}),)),
    ),
    answer=ANSWER,
)
INSTRUCTIONS = "You are a weather assistant. Use the tools; answer in one sentence."
Once = Callable[[str], Awaitable[str]]


async def weather(city: str) -> str:
    """Current weather in a city.

    Args:
        city: the city's name.
    """
    return f"{city}: 21 degrees, clear"


async def convert(celsius: float) -> str:
    """Degrees Celsius in Fahrenheit.

    Args:
        celsius: the temperature.
    """
    return f"{celsius * 9 / 5 + 32:.0f} F"


TOOLS: dict[str, Any] = {"weather": weather, "convert": convert}


def model_of(server: SimulatedServer) -> OpenAIChat:
    return OpenAIChat("simulated", base_url=server.base_url, api_key="none")


def agent_of(server: SimulatedServer) -> Agent[Any, str]:
    return Agent("weather", model_of(server), instructions=INSTRUCTIONS, tools=list(TOOLS.values()))


# -- the contenders: each is a context that gives a function from a prompt to the answer


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Function
    type: str = "function"


class _Said(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None
    role: str = "assistant"


class _Choice(msgspec.Struct):
    message: _Said


class _Answer(msgspec.Struct):
    choices: list[_Choice]


@asynccontextmanager
async def transport_by_hand(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    """No client, no provider: three requests and three calls with nothing in between."""
    url = httpx.URL(f"{server.base_url}/chat/completions")
    headers = [
        (b"host", f"{server.host}:{server.port}".encode()),
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer none"),
    ]
    encode, decode, arguments = msgspec.json.encode, msgspec.json.Decoder(_Answer).decode, msgspec.json.decode
    tools = _tools_in_json()

    async def once(prompt: str) -> str:
        messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
        while True:
            body = encode({"model": "simulated", "messages": messages, "tools": tools})
            request = httpx.Request("POST", url, headers=headers, content=body)
            response = await transport.handle_async_request(request)
            assert response.status_code == 200
            said = decode(b"".join([chunk async for chunk in response.stream])).choices[0].message
            if not said.tool_calls:
                return said.content or ""
            messages.append(said)
            for call in said.tool_calls:
                text = await TOOLS[call.function.name](**arguments(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})

    async with FreeListTransport(limit=in_flight) as transport:
        yield once


@asynccontextmanager
async def httpx_by_hand(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    """The client that everybody knows, over connections that scale."""
    url = f"{server.base_url}/chat/completions"
    encode, decode, arguments = msgspec.json.encode, msgspec.json.Decoder(_Answer).decode, msgspec.json.decode
    tools = _tools_in_json()

    async def once(prompt: str) -> str:
        messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
        while True:
            response = await client.post(
                url, content=encode({"model": "simulated", "messages": messages, "tools": tools})
            )
            assert response.status_code == 200
            said = decode(response.content).choices[0].message
            if not said.tool_calls:
                return said.content or ""
            messages.append(said)
            for call in said.tool_calls:
                text = await TOOLS[call.function.name](**arguments(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})

    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    transport = FreeListTransport(limit=in_flight)
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=60) as client:
        yield once


def _tools_in_json() -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": s.name, "description": s.description, "parameters": s.parameters}}
        for s in map(tool_spec, TOOLS.values())
    ]


@asynccontextmanager
async def provider_by_hand(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    """The provider, and a loop around it."""
    model = model_of(server)
    specs = [tool_spec(each) for each in TOOLS.values()]

    async def once(prompt: str) -> str:
        messages: list[Message] = [user(prompt)]
        while True:
            reply = await model.complete(ModelRequest(messages, tools=specs, instructions=INSTRUCTIONS))
            calls = reply.message.tool_calls
            if not calls:
                return reply.message.text
            messages.append(reply.message)
            for call in calls:
                messages.append(tool_result(call.id or "", await TOOLS[call.name](**(call.arguments or {}))))

    async with shared_connections(in_flight):
        yield once


@asynccontextmanager
async def run_alone(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:  # noqa: ARG001 - none to set
    """`agent.run` with nothing around it: its runs share connections among themselves."""
    agent = agent_of(server)

    async def once(prompt: str) -> str:
        return (await agent.run(prompt)).output

    yield once


@asynccontextmanager
async def run_inside(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    """`agent.run` while a System is open."""
    async with System(max_running=in_flight), run_alone(server, in_flight) as once:
        yield once


@asynccontextmanager
async def start(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    """A run in the System's own group, and a handle to wait with."""
    agent = agent_of(server)
    async with System(max_running=in_flight) as system:

        async def once(prompt: str) -> str:
            return (await (await system.start(agent, prompt)).result()).output

        yield once


@asynccontextmanager
async def followed(server: SimulatedServer, in_flight: int) -> AsyncGenerator[Once]:
    """A run in the System, all of whose events are read."""
    agent = agent_of(server)
    async with System(max_running=in_flight) as system:

        async def once(prompt: str) -> str:
            run = await system.start(agent, prompt)
            async for _ in run:
                pass
            return (await run.result()).output

        yield once


# -- measuring


def contender(
    name: str, place: Callable[[SimulatedServer, int], AbstractAsyncContextManager[Once]], *, limit: int | None = None
) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        return await _measure(place, options["runs"], options["in_flight"], limit)

    return Contender(name, measure)


async def _measure(place: Any, runs: int, in_flight: int, limit: int | None) -> dict[str, float]:
    in_flight = min(in_flight, runs)
    prompts = iter([PLAN.prompt(f"Run {number}: weather?") for number in range(runs)])
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(simulated_server(latency=Latency(0.05, 0.05)))
        once: Once = await stack.enter_async_context(place(server, in_flight))

        async def work() -> None:
            for prompt in prompts:
                assert await once(prompt) == ANSWER

        cpu, wall = process_time(), perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(work)
        figures = {"CPU ms per run": (process_time() - cpu) / runs * 1e3, "wall s": perf_counter() - wall}
        stats = await server.stats()
        assert (stats.requests, stats.ok, stats.tool_calls) == (3 * runs, 3 * runs, 3 * runs), stats
        assert (stats.conversations_finished, stats.runs_finished) == (runs, runs), stats
        allowed = in_flight if limit is None else min(in_flight, limit)
        connections = stats.connections - 1  # the last one asked for the statistics
        # Outside a System, connections are closed whenever no run is left: with few in flight that happens in between.
        assert connections <= allowed or (limit is not None and in_flight < 10), stats
        figures["connections"] = connections
        figures["server CPU ms"] = stats.cpu_seconds / runs * 1e3
    return figures


CONTENDERS = [
    contender("httpx by hand", httpx_by_hand),
    contender("transport by hand", transport_by_hand),
    contender("OpenAIChat by hand", provider_by_hand),
    contender("agent.run", run_alone, limit=500),
    contender("agent.run in a System", run_inside),
    contender("system.start", start),
    contender("system.start, followed", followed),
]

if __name__ == "__main__":
    main(
        "CPU time of one agent run: three requests, three tool calls",
        CONTENDERS,
        baseline="httpx by hand",
        repeats=3,
        runs=1_000,
        in_flight=100,
    )
