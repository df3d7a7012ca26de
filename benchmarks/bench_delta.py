"""What does one streamed delta cost on its way to the reader, layer by layer?

Run: python benchmarks/bench_delta.py [--backend asyncio|trio] [--deltas 1000] [--streams 10] [--gap-ms 2] [--json]

The simulated server streams an answer of `--deltas` pieces to each of `--streams` at once, one piece every `--gap-ms`,
so that each piece is a read of its own, as with a real model; `--gap-ms 0` sends all at once, which leaves the
parsing. The two lowest layers need no server: they read the same bytes from memory, one event at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import process_time

import anyio
import httpx
from runner import Contender, main

from greenroom import Agent
from greenroom.events import ModelTextDelta
from greenroom.load import Latency, Plan, SimulatedServer, simulated_server
from greenroom.providers import ModelRequest, OpenAIChat, TextDelta, user
from greenroom.providers.dialects.openai_chat import ChatDialect
from greenroom.providers.framing.sse import SSEParser
from greenroom.providers.http import FreeListTransport

#: Reads one whole answer; returns the number of text deltas.
Reader = Callable[[SimulatedServer, str], Awaitable[int]]


def prompt_of(deltas: int) -> str:
    return Plan(answer="word " * deltas, chunks=deltas).prompt()


async def body(server: SimulatedServer, prompt: str) -> list[bytes]:
    """The pieces of one answer as the transport hands them out."""
    encoded = ChatDialect("simulated").encode(ModelRequest([user(prompt)]), stream=True)
    request = httpx.Request("POST", f"{server.base_url}{encoded.path}", content=encoded.body)
    async with FreeListTransport(limit=1) as transport:
        response = await transport.handle_async_request(request)
        return [chunk async for chunk in response.stream]


async def from_transport(server: SimulatedServer, prompt: str) -> int:
    return len(await body(server, prompt))


async def from_provider(server: SimulatedServer, prompt: str) -> int:
    model = OpenAIChat("simulated", base_url=server.base_url, api_key="none")
    async with model.stream(ModelRequest([user(prompt)])) as events:
        return len([event async for event in events if isinstance(event, TextDelta)])


async def from_text(server: SimulatedServer, prompt: str) -> int:
    async with agent_of(server).stream(prompt) as run:
        return len([piece async for piece in run.text()])


async def from_events(server: SimulatedServer, prompt: str) -> int:
    async with agent_of(server).stream(prompt) as run:
        return len([event async for event in run if isinstance(event, ModelTextDelta)])


def agent_of(server: SimulatedServer) -> Agent[None, str]:
    return Agent("talker", OpenAIChat("simulated", base_url=server.base_url, api_key="none"))


def streamed(name: str, reader: Reader) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        deltas, streams = options["deltas"], options["streams"]
        prompt, seen = prompt_of(deltas), 0

        async def read() -> None:
            nonlocal seen
            got = await reader(server, prompt)
            seen += got

        async with simulated_server(latency=Latency(0.0, 0.0, options["gap_ms"] / 1e3)) as server:
            began = process_time()
            async with anyio.create_task_group() as group:
                for _ in range(streams):
                    group.start_soon(read)
            spent = process_time() - began
        assert seen >= deltas * streams, f"{seen} deltas of {deltas * streams}"
        return {"CPU us per delta": spent / (deltas * streams) * 1e6}

    return Contender(name, measure)


def parsed(name: str, parse: Callable[[list[bytes]], int]) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        deltas, streams = options["deltas"], options["streams"]
        async with simulated_server(latency=Latency(0.0, 0.0)) as server:
            whole = b"".join(await body(server, prompt_of(deltas)))
        chunks = [event + b"\n\n" for event in whole.split(b"\n\n") if event]
        began = process_time()
        seen = sum([parse(chunks) for _ in range(streams)])
        spent = process_time() - began
        assert seen >= deltas * streams, f"{seen} deltas of {deltas * streams}"
        return {"CPU us per delta": spent / (deltas * streams) * 1e6}

    return Contender(name, measure)


def parse_events(chunks: list[bytes]) -> int:
    parser = SSEParser()
    return sum([len(parser.feed(chunk)) for chunk in chunks])


def parse_deltas(chunks: list[bytes]) -> int:
    parser, decoder = SSEParser(), ChatDialect("simulated").decoder()
    seen = 0
    for chunk in chunks:
        for event in parser.feed(chunk):
            seen += len(decoder.feed(event))
    assert decoder.finish(clean=True).message.text
    return seen


if __name__ == "__main__":
    main(
        "CPU time of one streamed delta",
        [
            parsed("SSE parsed", parse_events),
            parsed("SSE parsed and decoded", parse_deltas),
            streamed("bytes of the transport", from_transport),
            streamed("provider.stream", from_provider),
            streamed("agent.stream, text()", from_text),
            streamed("agent.stream, all events", from_events),
        ],
        baseline="bytes of the transport",
        repeats=3,
        deltas=500,
        streams=10,
        gap_ms=2,
    )
