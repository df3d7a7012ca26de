"""The simulated model server: its parts as functions, and the whole as a process spoken to in raw bytes."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute, SocketStream
from hypothesis import given
from hypothesis import strategies as st

from greenroom.load import Call, Faults, Habits, Latency, Plan, SimulatedServer, Stats, Turn, simulated_server
from greenroom.load.http1 import BadRequest, Incoming, Request, RequestReader
from greenroom.load.model import SimulatedModel
from greenroom.load.plan import find_plan
from greenroom.load.script import cut, make_up

pytestmark = pytest.mark.anyio

AT_ONCE = Latency(0.0, 0.0)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["C", "F"]},
            },
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
THREE_TURNS = Plan(
    turns=(
        Turn((Call("weather", {"city": "Tokyo", "deep": [[1], [2]]}),)),
        Turn((Call("weather", {"city": "Paris"}), Call("clock"))),
        Turn((Call(),), text="One more."),
    ),
    answer="All said: {result}. " + "word " * 60,
    chunks=60,
)


# ---------------------------------------------------------------- a client in raw bytes


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The decoded events of a stream, which must end with [DONE]."""
        assert self.body.endswith(b"data: [DONE]\n\n")
        return [json.loads(event.removeprefix(b"data: ")) for event in self.body.split(b"\n\n")[:-2]]


class Client:
    """One connection that keeps what it has read beyond a response."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def ask(self, body: dict[str, Any], **options: Any) -> Answer:
        await self.stream.send(post(body, **options))
        return await self.answer()

    async def answer(self) -> Answer:
        with anyio.fail_after(10):
            head = await self._until(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self._until(b"\r\n"), 16):
                    body += await self._exactly(size)
                    assert await self._exactly(2) == b"\r\n"
                assert await self._exactly(2) == b"\r\n"
            else:
                body = await self._exactly(int(headers["content-length"]))
            return Answer(int(first.split()[1]), headers, body)

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self.buffer += await self.stream.receive()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    async def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.buffer += await self.stream.receive()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found


async def until_error(stream: SocketStream) -> tuple[bytes, Exception]:
    """All that comes until the connection ends, and how it ends."""
    seen = b""
    while True:
        try:
            seen += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as end:
            return seen, end


def post(body: dict[str, Any], *, close: bool = False) -> bytes:
    raw = json.dumps(body).encode()
    connection = "close" if close else "keep-alive"
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Connection: {connection}\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


@asynccontextmanager
async def connected(server: SimulatedServer) -> AsyncIterator[Client]:
    async with await anyio.connect_tcp(server.host, server.port) as stream:
        yield Client(stream)


def chat(*messages: Any, tools: Any = (WEATHER, CLOCK), **more: Any) -> dict[str, Any]:
    spoken = [{"role": "user", "content": text} if isinstance(text, str) else text for text in messages]
    body = {"model": "simulated", "messages": spoken, **more}
    return {**body, "tools": list(tools)} if tools else body


def results(message: dict[str, Any], content: str = "sunny") -> list[dict[str, Any]]:
    return [{"role": "tool", "tool_call_id": call["id"], "content": content} for call in message["tool_calls"]]


def folded(events: list[Any]) -> dict[str, Any]:
    """The message that the pieces of a stream make."""
    content, calls = "", dict[int, Any]()
    for event in events:
        for choice in event["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    calls[call["index"]] = {
                        "id": call["id"],
                        "type": "function",
                        "function": call["function"],
                    }
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    message: dict[str, Any] = {"role": "assistant", "content": content or None}
    return {**message, "tool_calls": list(calls.values())} if calls else message


async def play(client: Client, plan: Plan, *, stream: bool, user: str) -> list[Any]:
    """A whole conversation; returns its messages."""
    messages: list[Any] = [{"role": "user", "content": plan.prompt("Go.")}]
    while True:
        answer = await client.ask(chat(*messages, stream=stream, user=user))
        assert answer.status == 200, answer.body
        message = folded(answer.events) if stream else answer.json["choices"][0]["message"]
        message.pop("refusal", None)
        messages.append(message)
        if "tool_calls" not in message:
            return messages
        messages += results(message)


def outcomes(stats: Stats) -> int:
    ended = stats.ok + stats.rate_limited + stats.server_errors + stats.resets + stats.stalled
    return ended + stats.refused + stats.aborted + stats.in_flight


# ---------------------------------------------------------------- conversations


async def test_a_planned_conversation_plain_and_streaming() -> None:
    """Plain and streamed conversations over three turns say the same, on one connection."""
    async with simulated_server(latency=AT_ONCE) as server, connected(server) as client:
        plain = await play(client, THREE_TURNS, stream=False, user="run-1")
        streamed = await play(client, THREE_TURNS, stream=True, user="run-1")
        stats = await server.stats()
    calls = [[call["function"] for call in m["tool_calls"]] for m in plain if "tool_calls" in m]
    assert [[call["name"] for call in turn] for turn in calls] == [
        ["weather"],
        ["weather", "clock"],
        ["weather"],
    ]
    assert json.loads(calls[0][0]["arguments"]) == {"city": "Tokyo", "deep": [[1], [2]]}
    assert json.loads(calls[2][0]["arguments"]) == {"city": "text", "unit": "C"}
    assert plain[-3]["content"] == "One more."
    assert plain[-1]["content"] == THREE_TURNS.answer.replace("{result}", "sunny")
    assert streamed == plain
    assert stats.requests == stats.ok == outcomes(stats) == 8
    assert (stats.conversations_started, stats.conversations_finished) == (2, 2)
    assert (stats.runs_started, stats.runs_finished, stats.tool_calls) == (1, 1, 8)
    assert stats.connections == 2
    assert (stats.connections_open, stats.in_flight, stats.in_flight_max) == (2, 0, 1)
    assert stats.bytes_in > 0
    assert stats.bytes_out > 0


async def test_a_stream_has_the_pieces_asked_for_and_usage_on_request() -> None:
    plan = Plan(answer="word " * 60, chunks=60)
    async with (
        simulated_server(latency=Latency(0.0, 0.0, per_chunk=0.0005)) as server,
        connected(server) as client,
    ):
        answer = await client.ask(chat(plan.prompt(), stream=True, stream_options={"include_usage": True}))
        plain = await client.ask(chat(plan.prompt()))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.events
    assert [event["choices"][0]["delta"].get("content") for event in events[1:61]] == ["word "] * 60
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == plain.json["usage"]


async def test_habits_call_offered_tools_and_quote_the_last_result() -> None:
    habits = Habits(turns=1, calls=2)
    async with simulated_server(latency=AT_ONCE, habits=habits) as server, connected(server) as client:
        first = (await client.ask(chat("What is it like?"))).json["choices"][0]
        asked = [
            {"role": "user", "content": "What is it like?"},
            first["message"],
            *results(first["message"]),
        ]
        second = (await client.ask(chat(*asked))).json["choices"][0]
        echo = (await client.ask(chat("Hello", tools=()))).json["choices"][0]
        again = [*asked, second["message"], {"role": "user", "content": "And now?"}]
        third = (await client.ask(chat(*again))).json["choices"][0]
    assert [call["function"]["name"] for call in first["message"]["tool_calls"]] == ["weather", "clock"]
    assert first["finish_reason"] == third["finish_reason"] == "tool_calls"
    assert second["message"]["content"] == "The tool said: sunny"
    assert echo["message"]["content"] == "You said: Hello"


async def test_other_paths() -> None:
    async with simulated_server(latency=AT_ONCE) as server, connected(server) as client:
        statuses: list[int] = []
        for line in (
            "GET /v1/models",
            "GET /nowhere",
            "GET /v1/chat/completions",
            "POST /stats",
            "GET /stats",
        ):
            await client.stream.send(f"{line} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            answer = await client.answer()
            assert answer.headers["content-type"] == "application/json"
            statuses.append(answer.status)
        assert answer.json["other"] == 5
    assert statuses == [200, 404, 405, 405, 200]


# ---------------------------------------------------------------- refusals

CALLING = {
    "role": "assistant",
    "tool_calls": [{"id": i, "type": "function", "function": {"name": "clock", "arguments": "{}"}} for i in "ab"],
}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "12:00"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (chat("hi", CALLING, result("a")), "response messages: b"),
        (chat("hi", CALLING, result("a"), "well?", result("b")), "response messages: b"),
        (chat("hi", CALLING, result("a"), result("a"), result("b")), "answered before"),
        (chat("hi", CALLING, result("a"), result("b"), result("c")), "no such call"),
        (chat("hi", result("a")), "no such call"),
        (chat("hi", CALLING), "response messages: a, b"),
        (chat("hi", {"role": "assistant", "content": "ho"}), "last message"),
        (chat({"role": "system", "content": "ho"}), "last message"),
        (chat({"role": "wizard", "content": "ho"}), "wizard"),
        (chat({"role": "user"}), "content"),
        (chat({"role": "assistant"}, "hi"), "content"),
        (chat({"role": "assistant", "content": "", "tool_calls": []}, "hi"), "tool_calls"),
        (chat(), "length"),
        (chat("hi", temprature=1), "temprature"),
        (chat("hi", tools=(), tool_choice="auto"), "tool_choice"),
        (chat("hi", tool_choice="sometimes"), "tool_choice"),
        (chat("hi", stream_options={"include_usage": True}), "stream_options"),
        (chat("hi", tools=(CLOCK, CLOCK)), "unique"),
        (chat('[[plan {"turn":[]}]]'), "turn"),
        (chat('Go.\n[[plan {"answer":"x"}'), "ends with"),
    ],
)
def test_refuses_what_a_real_provider_refuses(body: dict[str, Any], says: str) -> None:
    """Scenarios of strict histories: unmatched calls and results, unknown roles and fields."""
    performance = SimulatedModel().perform(json.dumps(body).encode())
    head, _, error = performance.parts[0].partition(b"\r\n\r\n")
    assert performance.outcome == "refused"
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(error)["error"]["type"] == "invalid_request_error"
    assert says in json.loads(error)["error"]["message"]


async def test_a_refusal_is_counted_and_leaves_the_connection_usable() -> None:
    async with simulated_server(latency=AT_ONCE) as server, connected(server) as client:
        refused = await client.ask(chat("hi", CALLING))
        await client.stream.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n{{{")
        broken = await client.answer()
        good = await client.ask(chat("hi"))
        stats = await server.stats()
    assert (refused.status, broken.status, good.status) == (400, 400, 200)
    assert (stats.refused, stats.ok, outcomes(stats)) == (2, 1, stats.requests)


# ---------------------------------------------------------------- faults


async def test_rate_limit_says_when_to_come_back() -> None:
    async with simulated_server(faults=Faults(rate_limit=1.0, retry_after=0.25), latency=AT_ONCE) as server:
        async with connected(server) as client:
            answer = await client.ask(chat("hi"))
        stats = await server.stats()
    assert answer.status == 429
    assert answer.headers["retry-after"] == "0.25"
    assert answer.headers["retry-after-ms"] == "250"
    assert answer.json["error"]["code"] == "rate_limit_exceeded"
    assert (stats.rate_limited, stats.conversations_started) == (1, 0)


async def test_server_error() -> None:
    async with simulated_server(faults=Faults(server_error=1.0), latency=AT_ONCE) as server:
        async with connected(server) as client:
            answer = await client.ask(chat("hi", stream=True))
        stats = await server.stats()
    assert (answer.status, answer.json["error"]["type"]) == (500, "server_error")
    assert (stats.server_errors, stats.requests) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_reset_is_a_real_reset_in_the_middle(stream: bool) -> None:
    async with simulated_server(faults=Faults(reset=1.0), latency=AT_ONCE) as server:
        async with connected(server) as client:
            await client.stream.send(post(chat("one two three", tools=(), stream=stream)))
            with anyio.fail_after(10):
                seen, end = await until_error(client.stream)
        stats = await server.stats()
    assert seen.startswith(b"HTTP/1.1 200 OK")
    assert not seen.endswith((b"0\r\n\r\n", b"}"))
    assert isinstance(end, anyio.BrokenResourceError), "an ordinary close is EndOfStream"
    assert (stats.resets, stats.conversations_finished) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_stall_begins_and_goes_silent(stream: bool) -> None:
    seen = b""
    async with simulated_server(faults=Faults(stall=1.0), latency=AT_ONCE) as server:
        async with connected(server) as client:
            await client.stream.send(post(chat("one two three", tools=(), stream=stream)))
            with anyio.fail_after(10):
                seen += await client.stream.receive()
            with anyio.move_on_after(0.1) as patience:
                while True:
                    seen += await client.stream.receive()
            assert patience.cancelled_caught
        stats = await server.stats()
    assert seen.startswith(b"HTTP/1.1 200 OK")
    assert not seen.endswith((b"0\r\n\r\n", b"}"))
    assert (stats.stalled, stats.aborted, stats.in_flight, outcomes(stats)) == (1, 0, 0, 1)


async def test_a_client_that_leaves_early_is_counted() -> None:
    async with simulated_server(latency=Latency(3600.0, 3600.0)) as server:
        async with connected(server) as client:
            await client.stream.send(post(chat("hi")))
            with anyio.fail_after(10):
                while not (await server.stats()).in_flight:
                    pass
        with anyio.fail_after(10):
            while not (stats := await server.stats()).aborted:
                pass
    assert (stats.aborted, stats.in_flight, stats.in_flight_max, outcomes(stats)) == (1, 0, 1, stats.requests)


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"rate_limit": 1.5}, "rate_limit"),
        ({"stall": -0.1}, "stall"),
        ({"reset": float("nan")}, "reset"),
        ({"reset": 0.6, "stall": 0.6}, "sum"),
        ({"retry_after": -1.0}, "retry_after"),
        ({"in_a_row": -1}, "in_a_row"),
    ],
)
def test_faults_are_validated(rates: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Faults(**rates)
    with pytest.raises(ValueError, match="total"):
        Faults.of(1.01)


def test_faults_cover_their_share() -> None:
    faults = Faults.of(0.2)
    drawn = [faults.choose((n + 0.5) / 1000) for n in range(1000)]
    assert [drawn.count(kind) for kind in ("rate_limit", "server_error", "reset", "stall")] == [50] * 4
    assert drawn.count(None) == 800
    assert Faults.of(1.0).choose(1 - 2**-53) == "stall"
    assert Faults(stall=1.0).choose(1 - 2**-53) == "stall"
    assert Faults(stall=1.0, in_a_row=2).choose(0.5, attempt=2) is None


# ---------------------------------------------------------------- determinism


def performances(order: list[int], seed: int) -> dict[tuple[int, int], tuple[str, float, bytes]]:
    """Three attempts of each of these runs, in this order."""
    model = SimulatedModel(seed, Faults.of(0.5), Latency(0.05, 0.2))
    found: dict[tuple[int, int], tuple[str, float, bytes]] = {}
    attempts: dict[int, int] = {}
    for run in order:
        attempt = attempts[run] = attempts.get(run, -1) + 1
        made = model.perform(json.dumps(chat("Go.", user=f"run-{run}")).encode())
        found[run, attempt] = (made.outcome, made.delay, b"".join(made.parts))
    return found


def test_the_seed_decides_and_the_order_of_arrival_does_not() -> None:
    order = [run for run in range(40) for _ in range(3)]
    interleaved = [run for _ in range(3) for run in reversed(range(40))]
    assert performances(order, 1) == performances(interleaved, 1)
    assert performances(order, 1) != performances(order, 2)
    first = performances(order, 1)
    assert len({outcome for outcome, _, _ in first.values()}) == 5
    assert any(first[run, 0][0] != first[run, 1][0] for run in range(40)), "another attempt is another draw"


async def test_two_servers_of_one_seed_answer_with_the_same_bytes() -> None:
    bodies: list[list[Any]] = []
    for _ in range(2):
        async with simulated_server(seed=7, latency=AT_ONCE) as server, connected(server) as client:
            bodies.append(await play(client, THREE_TURNS, stream=False, user="run-1"))
    assert bodies[0] == bodies[1]


# ---------------------------------------------------------------- the script


def message_of(*messages: Any, **more: Any) -> dict[str, Any]:
    performance = SimulatedModel().perform(json.dumps(chat(*messages, **more)).encode())
    assert performance.outcome == "ok", performance.parts
    return json.loads(performance.parts[0].partition(b"\r\n\r\n")[2])["choices"][0]["message"]


def test_a_message_into_a_planned_run_does_not_start_the_plan_again() -> None:
    prompt = THREE_TURNS.prompt("Go.")
    first = message_of(prompt)
    second = message_of(prompt, first, *results(first), "Also check Paris.")
    assert [call["function"]["name"] for call in second["tool_calls"]] == ["weather", "clock"]


def test_a_plan_is_over_with_its_answer_and_a_new_one_begins_anew() -> None:
    old = Plan(answer="Done.").prompt()
    done = message_of(old)
    assert done["content"] == "Done."
    assert message_of(old, done, "Thanks", tools=())["content"] == "You said: Thanks"
    assert message_of(old, done, Plan(answer="New.").prompt())["content"] == "New."


def test_dropped_history_does_not_throw_the_model_back() -> None:
    prompt = THREE_TURNS.prompt()
    first = message_of(prompt)
    second = message_of(prompt, first, *results(first))
    third = message_of(prompt, second, *results(second))  # the first turn has been dropped
    assert third["content"] == "One more."


def test_options_that_bind_the_model() -> None:
    prompt = THREE_TURNS.prompt()
    first = message_of(prompt)
    second = message_of(prompt, first, *results(first), parallel_tool_calls=False)
    assert [call["function"]["name"] for call in second["tool_calls"]] == ["weather"]
    assert message_of(prompt, tool_choice="none")["content"].startswith("All said: .")
    assert message_of(prompt, tools=())["content"].startswith("All said: .")
    named = {"type": "function", "function": {"name": "clock"}}
    forced = message_of(Plan().prompt(), tool_choice=named)["tool_calls"]
    assert [call["function"] for call in forced] == [{"name": "clock", "arguments": "{}"}]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shaped = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert message_of("Count", tools=(), response_format=shaped)["content"] == '{"n":1}'


def test_arguments_that_are_not_json_are_sent_as_written() -> None:
    plan = Plan(turns=(Turn((Call("nowhere", '{"city":'),)),))
    function = message_of(plan.prompt())["tool_calls"][0]["function"]
    assert function == {"name": "nowhere", "arguments": '{"city":'}


def test_made_up_values_follow_their_schema() -> None:
    schema = {
        "$defs": {"Point": {"properties": {"x": {"type": "number", "minimum": 5}}, "required": ["x"]}},
        "type": "object",
        "properties": {
            "at": {"$ref": "#/$defs/Point"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "or": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "kind": {"const": "k"},
            "left": {"type": ["integer", "null"]},
            "optional": {"type": "string"},
        },
        "required": ["at", "tags", "or", "kind", "left"],
    }
    assert make_up(schema) == {"at": {"x": 5}, "tags": ["text", "text"], "or": True, "kind": "k", "left": 1}
    endless = {"$ref": "#"}
    assert make_up(endless) is None


@given(st.text(min_size=1), st.none() | st.integers(1, 100))
def test_cutting_loses_nothing(text: str, chunks: int | None) -> None:
    pieces = cut(text, chunks)
    assert "".join(pieces) == text
    assert all(pieces)
    if chunks is not None:
        assert len(pieces) == min(chunks, len(text))


@given(st.text(), st.text(min_size=1))
def test_a_plan_survives_its_prompt(text: str, answer: str) -> None:
    plan = Plan(turns=(Turn((Call("t", {"text": text}),)),), answer=answer)
    assert find_plan(plan.prompt("Please.\nNow.")) == plan
    assert find_plan(plan.prompt() + "\nThat was all.") == plan


def test_latency() -> None:
    assert Latency.parse("50ms") == Latency(0.05, 0.05)
    assert Latency.parse("50ms-200ms") == Latency(0.05, 0.2)
    assert Latency.parse("1s - 2.5s + 500us") == Latency(1.0, 2.5, 0.0005)
    assert Latency.parse("0") == AT_ONCE
    drawn = Latency(0.05, 0.2)
    assert drawn.draw(0.5) == pytest.approx(0.05)
    assert drawn.draw(0.99) == pytest.approx(0.2)
    for wrong in ("", "fast", "50ms-", "200ms-50ms", "50 minutes", "-1s"):
        with pytest.raises(ValueError, match="not a latency"):
            Latency.parse(wrong)
    with pytest.raises(ValueError, match="median"):
        Latency(-1.0)


# ---------------------------------------------------------------- HTTP

SIZED = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /b HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;note=1\r\nhello\r\nA\r\n\r\n\r\nworld\r\r\n0\r\nSum: 1\r\n\r\n"
)
EMPTY = b"\r\nGET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
OLD = b"GET /d HTTP/1.0\r\n\r\n"
MALFORMED = [
    (b"HELLO\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n\r\n", 400),
    (b"GET / HTTP/1.1\n\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 400 + b"\r\n\r\n", 431),
]


def read(data: bytes, cuts: list[int]) -> list[Incoming]:
    reader = RequestReader(head_limit=256, body_limit=1024)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [found for a, b in pairwise(edges) for found in reader.feed(data[a:b])]


@given(
    st.lists(st.sampled_from([SIZED, CHUNKED, EMPTY, OLD]), max_size=4),
    st.sampled_from([b"", *(data for data, _ in MALFORMED)]) | st.binary(max_size=40),
    st.lists(st.integers(0, 700), max_size=30),
)
def test_any_chunking_gives_the_same_requests(good: list[bytes], tail: bytes, cuts: list[int]) -> None:
    data = b"".join(good) + tail
    whole = read(data, [])
    assert read(data, cuts) == whole
    assert read(data, list(range(len(data)))) == whole
    assert sum(isinstance(found, Request) for found in whole) >= len(good)


def test_requests_are_read() -> None:
    assert read(SIZED + CHUNKED + EMPTY + OLD, []) == [
        Request("POST", "/a", b"hello", True),
        Request("POST", "/b", b"hello\r\n\r\nworld\r", True),
        Request("GET", "/c", b"", False),
        Request("GET", "/d", b"", False),
    ]


@pytest.mark.parametrize(("data", "status"), MALFORMED)
def test_malformed_requests_are_refused_once(data: bytes, status: int) -> None:
    found = read(SIZED + data + SIZED, [])
    assert [type(item) for item in found] == [Request, BadRequest]
    assert isinstance(found[1], BadRequest)
    assert found[1].status == status


async def test_pipelined_requests_are_answered_in_order() -> None:
    bodies = [chat(f"number {n}", tools=(), stream=n % 2 == 1) for n in range(100)]
    async with simulated_server(latency=Latency(0.0005, 0.002)) as server, connected(server) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.stream.send, b"".join([post(body) for body in bodies]))
            for n in range(100):
                answer = await client.answer()
                message = folded(answer.events) if n % 2 else answer.json["choices"][0]["message"]
                assert message["content"] == f"You said: number {n}"
        stats = await server.stats()
    assert (stats.ok, stats.in_flight_max, stats.runs_finished) == (100, 1, 100)


async def test_malformed_and_oversized_requests_over_the_wire() -> None:
    too_long = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"
    async with simulated_server(latency=AT_ONCE) as server:
        for data, status in ((b"NONSENSE\r\n\r\n", 400), (too_long, 413), (b"x" * 20_000, 431)):
            async with connected(server) as client:
                await client.stream.send(data)
                answer = await client.answer()
                assert (answer.status, answer.headers["connection"]) == (status, "close")
        stats = await server.stats()
    assert (stats.malformed, stats.requests) == (3, 0)


async def test_connection_close_is_honoured() -> None:
    async with simulated_server(latency=AT_ONCE) as server, connected(server) as client:
        assert (await client.ask(chat("hi"), close=True)).status == 200
        with pytest.raises(anyio.EndOfStream), anyio.fail_after(10):
            await client.stream.receive()


# ---------------------------------------------------------------- the process


async def test_the_server_ends_with_its_block_and_leaves_nothing() -> None:
    async with simulated_server() as server, connected(server) as client:
        assert client.stream.extra(SocketAttribute.remote_port) == server.port
    with pytest.raises(OSError):  # noqa: PT011
        await server.stats()
    gc.collect()  # a pipe left open would warn, and warnings are errors here


async def test_a_cancelled_block_still_ends_the_server() -> None:
    with anyio.CancelScope() as scope:
        async with simulated_server() as server:
            scope.cancel()
            await anyio.sleep_forever()
    with pytest.raises(OSError):  # noqa: PT011
        await server.stats()


async def test_a_port_that_is_taken_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError, match="before it"):
        async with simulated_server(port=taken.getsockname()[1]):
            raise AssertionError
    assert "cannot listen" in capfd.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
async def test_an_interrupt_does_not_end_the_server(capfd: pytest.CaptureFixture[str]) -> None:
    async with simulated_server() as server:
        os.kill(server.pid, signal.SIGINT)
        assert (await server.stats()).requests == 0
    assert capfd.readouterr().err == ""


PARENT = """
import anyio
from greenroom.load import simulated_server

async def main():
    async with simulated_server() as server:
        print(server.port, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
async def test_no_server_outlives_a_killed_parent() -> None:
    command = [sys.executable, "-P", "-c", PARENT]
    async with await anyio.open_process(command, stdin=None) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        with anyio.fail_after(30):
            port = int(await parent.stdout.receive())
            async with await anyio.connect_tcp("127.0.0.1", port):
                parent.kill()
                # The server has inherited this pipe from its parent: it ends when the last of them has.
                with pytest.raises(anyio.EndOfStream):
                    await parent.stderr.receive()
    with pytest.raises(OSError):  # noqa: PT011
        await anyio.connect_tcp("127.0.0.1", port)
