"""What does a model call cost through the provider alone, against a loop written by hand and the vendor's own SDK?

Run: python benchmarks/bench_provider.py [--backend asyncio|trio] [--in-flight 1000] [--runs 2000] [--chunks 60]

With the SDK, which greenroom does not need: uv run --with openai python benchmarks/bench_provider.py

A run is three requests over real HTTP, and what its three tool calls give is put into the conversation by hand: no
agent. `--chunks` streams: the final answer comes in so many pieces, 1 ms apart, and every piece is read. The simulated
server counts requests and connections; a repeat in which a request is missing or doubled fails, and so does one in
which a contender of ours opened more connections than it has runs in flight.

- *by hand* is the floor: JSON written and read with msgspec, server-sent events split at empty lines, our transport
  under httpx's interface; no deadlines, no errors read.
- *OpenAIChat* is `complete`, or `stream` with `--chunks`.
- *openai SDK* is `AsyncOpenAI` as it comes, without retries and with a longer timeout.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from time import perf_counter, process_time
from typing import Any

import anyio
import httpx
import msgspec
from bench_run import INSTRUCTIONS, TOOLS, model_of
from runner import Contender, main

from greenroom.load import Call, Latency, Plan, SimulatedServer, Turn, simulated_server
from greenroom.providers import Message, ModelReply, ModelRequest, TextDelta, tool_result, tool_spec, user
from greenroom.providers.http import FreeListTransport, shared_connections

try:
    import openai
except ImportError:
    openai = None

ANSWER = "It is warm in Tokyo and in Oslo, and 21 degrees are 70 in Fahrenheit. " * 4
TURNS = (
    Turn((Call("weather", {"city": "Tokyo"}), Call("weather", {"city": "Oslo"}))),
    Turn((Call("convert", {"celsius": 21.0}),)),
)
#: From a prompt to the answer and the number of its pieces.
Once = Callable[[str], Awaitable[tuple[str, int]]]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str = ""


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None
    index: int | msgspec.UnsetType = msgspec.UNSET  # of a fragment; no server wants it back
    type: str = "function"


class _Said(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None
    role: str = "assistant"


class _Choice(msgspec.Struct):
    message: _Said | None = None
    delta: _Said | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Answer).decode
_SCHEMAS = [
    {"type": "function", "function": {"name": s.name, "description": s.description, "parameters": s.parameters}}
    for s in map(tool_spec, TOOLS.values())
]


async def _use(name: str, arguments: str) -> str:
    return await TOOLS[name](**msgspec.json.decode(arguments))


#: From the body of a request to what the model said and the number of its pieces.
Ask = Callable[[dict[str, Any]], Awaitable[tuple[_Said, int]]]


async def talk(prompt: str, streams: bool, ask: Ask) -> tuple[str, int]:
    """The loop by hand: three requests, and what the tools give, with nothing in between."""
    messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
    while True:
        body = {"model": "simulated", "messages": messages, "tools": _SCHEMAS}
        if streams:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        said, pieces = await ask(body)
        if not said.tool_calls:
            return said.content or "", pieces
        messages.append(said)
        for call in said.tool_calls:
            text = await _use(call.function.name or "", call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


def headers_for(server: SimulatedServer) -> list[tuple[bytes, bytes]]:
    return [
        (b"host", f"{server.host}:{server.port}".encode()),
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer none"),
    ]


@asynccontextmanager
async def by_hand(server: SimulatedServer, in_flight: int, streams: bool) -> AsyncGenerator[Once]:
    """No client, no provider."""
    url, headers = httpx.URL(f"{server.base_url}/chat/completions"), headers_for(server)

    async def ask(body: dict[str, Any]) -> tuple[_Said, int]:
        request = httpx.Request("POST", url, headers=headers, content=msgspec.json.encode(body))
        response = await transport.handle_async_request(request)
        assert response.status_code == 200
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return await (read_stream(response.stream) if streams else read_whole(response.stream))

    async def once(prompt: str) -> tuple[str, int]:
        return await talk(prompt, streams, ask)

    async with FreeListTransport(limit=in_flight) as transport:
        yield once


async def read_whole(chunks: AsyncIterable[bytes]) -> tuple[_Said, int]:
    said = _decode(b"".join([chunk async for chunk in chunks])).choices[0].message
    assert said is not None
    return said, 1


async def read_stream(chunks: AsyncIterable[bytes]) -> tuple[_Said, int]:
    """Server-sent events, split at empty lines."""
    texts: list[str] = []
    calls: list[_Call] = []
    rest = b""
    async for chunk in chunks:
        *events, rest = (rest + chunk).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                continue
            for choice in _decode(event[6:]).choices:
                delta = choice.delta
                if delta is None:
                    continue
                if delta.content:
                    texts.append(delta.content)
                for call in delta.tool_calls or ():
                    if call.id is not None:
                        calls.append(_Call(call.function, call.id))
                    else:
                        calls[call.index].function.arguments += call.function.arguments
    return _Said("".join(texts), calls or None), len(texts)


@asynccontextmanager
async def provider(server: SimulatedServer, in_flight: int, streams: bool) -> AsyncGenerator[Once]:
    """The provider, and a loop around it."""
    model = model_of(server)
    specs = [tool_spec(each) for each in TOOLS.values()]

    async def streamed(request: ModelRequest) -> tuple[ModelReply, int]:
        pieces = 0
        async with model.stream(request) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    pieces += 1
        return stream.reply, pieces

    async def once(prompt: str) -> tuple[str, int]:
        messages: list[Message] = [user(prompt)]
        while True:
            request = ModelRequest(messages, tools=specs, instructions=INSTRUCTIONS)
            reply, pieces = await streamed(request) if streams else (await model.complete(request), 1)
            calls = reply.message.tool_calls
            if not calls:
                return reply.message.text, pieces
            messages.append(reply.message)
            for call in calls:
                messages.append(tool_result(call.id or "", await _use(call.name, call.raw)))

    async with shared_connections(in_flight):
        yield once


@asynccontextmanager
async def sdk(server: SimulatedServer, in_flight: int, streams: bool) -> AsyncGenerator[Once]:  # noqa: ARG001 - its own
    """The vendor's SDK, and a loop around it."""
    assert openai is not None

    async def whole(options: dict[str, Any]) -> tuple[dict[str, Any], int]:
        answer = await client.chat.completions.create(**options)
        return answer.choices[0].message.model_dump(exclude_none=True), 1

    async def streamed(options: dict[str, Any]) -> tuple[dict[str, Any], int]:
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        usage = {"include_usage": True}
        async for chunk in await client.chat.completions.create(**options, stream=True, stream_options=usage):
            for choice in chunk.choices:
                if choice.delta.content:
                    texts.append(choice.delta.content)
                for call in choice.delta.tool_calls or ():
                    if call.id is not None:
                        calls.append(call.model_dump(exclude={"index"}))
                    else:
                        calls[call.index]["function"]["arguments"] += call.function.arguments
        said: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
        return said | ({"tool_calls": calls} if calls else {}), len(texts)

    async def once(prompt: str) -> tuple[str, int]:
        messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
        while True:
            options: dict[str, Any] = {"model": "simulated", "messages": messages, "tools": _SCHEMAS}
            said, pieces = await (streamed(options) if streams else whole(options))
            calls = said.get("tool_calls")
            if not calls:
                return said["content"], pieces
            messages.append(said)
            for call in calls:
                text = await _use(call["function"]["name"], call["function"]["arguments"])
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})

    # Its five seconds for connecting are too few for a thousand at once.
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=600.0) as client:
        yield once


# -- measuring

Place = Callable[[SimulatedServer, int, bool], AbstractAsyncContextManager[Once]]


def contender(name: str, place: Place, *, ours: bool = True) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        return await measured(place, options["runs"], options["in_flight"], options["chunks"], ours)

    return Contender(name, measure)


async def measured(place: Place, runs: int, in_flight: int, chunks: int, ours: bool) -> dict[str, float]:
    in_flight = min(in_flight, runs)
    plan = Plan(turns=TURNS, answer=ANSWER, chunks=chunks or None)
    prompts = iter([plan.prompt(f"Run {number}: weather?") for number in range(runs)])
    async with AsyncExitStack() as stack:
        latency = Latency(0.05, 0.05, 0.001 if chunks else 0.0)
        server = await stack.enter_async_context(simulated_server(latency=latency))
        once = await stack.enter_async_context(place(server, in_flight, bool(chunks)))

        async def work() -> None:
            for prompt in prompts:
                text, pieces = await once(prompt)
                assert text == ANSWER
                assert pieces == (chunks or 1)

        cpu, wall = process_time(), perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(work)
        figures = {"CPU ms per run": (process_time() - cpu) / runs * 1e3, "wall s": perf_counter() - wall}
        stats = await server.stats()
        assert (stats.requests, stats.ok, stats.tool_calls) == (3 * runs, 3 * runs, 3 * runs), stats
        assert (stats.conversations_finished, stats.runs_finished) == (runs, runs), stats
        connections = stats.connections - 1  # the last one asked for the statistics
        assert connections <= in_flight or not ours, stats
        figures["connections"] = connections
        figures["server CPU ms"] = stats.cpu_seconds / runs * 1e3
    return figures


CONTENDERS = [
    contender("by hand", by_hand),
    contender("OpenAIChat", provider),
    *([contender("openai SDK", sdk, ours=False)] if openai is not None else []),
]

if __name__ == "__main__":
    main(
        "CPU time of three model calls: through the provider, by hand, and through the vendor's SDK",
        CONTENDERS,
        baseline="by hand",
        repeats=3,
        libraries=("openai",),
        runs=1_000,
        in_flight=100,
        chunks=0,
    )
