"""Scenarios 84 to 91 for every wire format, over real TCP: whatever a provider, a gateway or the network does to an
answer, it ends as the right answer or as a typed error, in time, with no tool run twice and no text shown twice.

The answers are those of the strict fakes; `wire.serve` plays them with a fault. What is the same for every format
(connections, proxies, keys that cannot be sent) is in test_http.py.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import msgspec
import pytest
from msgspec import structs

from greenroom import Agent, RunResult, tool
from greenroom.events import ModelRetrying, ModelTextDelta
from greenroom.providers import (
    AuthError,
    BadResponse,
    ConnectionFailed,
    Message,
    ModelReply,
    ModelRequest,
    Overloaded,
    Provider,
    ProviderError,
    RateLimited,
    Retry,
    Stalled,
    StreamInterrupted,
    TextDelta,
    ThinkingDelta,
    Timeouts,
    ToolCallDelta,
    call,
    user,
)
from greenroom.testing import FORMATS, Refused, Said, StrictServer, Unfinished
from greenroom.testing.fakes import Format
from greenroom.testing.fakes.failures import failure, reworded

from .wire import Answer, Ending, Framing, Seen, Server, serve

pytestmark = pytest.mark.anyio

#: One name for each wire format; the vendors that share Chat Completions differ in what they refuse only.
FAMILIES = sorted(FORMATS.keys() - {"deepseek", "mistral", "perplexity"})
STREAMED = pytest.mark.parametrize("streamed", [False, True])
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
REQUEST = ModelRequest([user("How is the weather?")], tools=[{"name": "weather"}, {"name": "fare"}])
SAID = Said("Łódź: snow — 🎭!", [call("weather", city="Łódź 🎭"), call("fare")], "Where is it?", (11, 7))
QUICK = Retry(attempts=3, base=0.001, max_delay=0.002)
SSE = "text/event-stream"


# Playing an answer of a fake with a fault.


Change = Callable[[list[bytes]], Sequence[bytes]]


def unchanged(pieces: list[bytes]) -> list[bytes]:
    return pieces


class Stage:
    """A server on loopback with the answers of one fake, and our provider connected to it."""

    def __init__(self, family: str, server: Server, format: Format, **timeouts: float | None) -> None:
        self.family = family
        self.server = server
        self.format = format
        self.provider: Any = format.provider(server.url, "some-model")
        self.provider.timeouts = Timeouts(**timeouts)


def answer(
    format: Format,
    seen: Seen,
    said: Said,
    change: Change = unchanged,
    *,
    ending: Ending = "keep",
    framing: Framing = "chunked",
    headers: dict[str, str] | None = None,
) -> Answer:
    """What the fake says, with `change` applied to its wire events, or to the one piece of a whole answer."""
    if format.wants_stream(seen.target, seen.json):
        kind, pieces = format.stream_type, format.stream(said, seen.json)
    else:
        kind, pieces = "application/json", [format.answer(said, seen.json)]
    return Answer(change(pieces), 200, {"content-type": kind, **(headers or {})}, framing, ending)


def refused(made: Refused, headers: dict[str, str] | None = None) -> Answer:
    """A failure as it goes on the wire."""
    body = made.body if isinstance(made.body, bytes) else json.dumps(made.body).encode()
    every = {"content-type": "application/json", **made.headers, **(headers or {})}
    return Answer([body], made.status, every, "length")


Line = Callable[[Format, Seen], Answer]


@asynccontextmanager
async def stage(family: str, *lines: Line, **timeouts: float | None) -> AsyncIterator[Stage]:
    """A stage whose server answers with `lines` in order, the last one again and again."""
    format, left = FORMATS[family](), list(lines)

    def script(seen: Seen) -> Answer:
        line = left.pop(0) if len(left) > 1 else left[0]
        return line(format, seen)

    async with serve(script=script) as server:
        yield Stage(family, server, format, **timeouts)


def says(said: Said = SAID, change: Change = unchanged, **options: Any) -> Line:
    return lambda fake, seen: answer(fake, seen, said, change, **options)


def plays(made: Answer) -> Line:
    return lambda fake, seen: made


def fails(family: str, status: int, headers: dict[str, str] | None = None) -> Line:
    return plays(refused(failure(family, status), headers))


async def ask(provider: Provider, streamed: bool) -> ModelReply:
    """The reply, whole or streamed; what was shown must be what the reply holds."""
    if not streamed:
        return await provider.complete(REQUEST)
    text = thinking = ""
    calls: dict[int, str] = {}
    async with provider.stream(REQUEST) as stream:
        async for event in stream:
            match event:
                case TextDelta():
                    text += event.text
                case ThinkingDelta():
                    thinking += event.text
                case ToolCallDelta():
                    calls[event.index] = calls.get(event.index, "") + event.arguments
                case _:
                    pass
    message = stream.reply.message
    assert (text, thinking) == (message.text, message.thinking or "")
    assert [json.loads(calls[index] or "{}") for index in sorted(calls)] == [
        item.arguments for item in message.tool_calls
    ]
    return stream.reply


async def attempt(provider: Provider, streamed: bool) -> ModelReply | ProviderError:
    """The reply or the error."""
    try:
        return await ask(provider, streamed)
    except ProviderError as error:
        return error


def essence(reply: ModelReply) -> Any:
    """What must not depend on how the bytes came."""
    message, usage = reply.message, reply.usage
    calls = [(item.name, item.arguments) for item in message.tool_calls]
    counted = None if usage is None else (usage.input_tokens, usage.output_tokens)
    return message.text, message.thinking, calls, reply.stop_reason, counted


async def whole(family: str, streamed: bool = True, said: Said = SAID) -> Any:
    """The essence of the undisturbed answer."""
    async with stage(family, says(said)) as on:
        got = essence(await ask(on.provider, streamed))
    assert got[0] == said.text
    assert got[2] == [(item.name, item.arguments) for item in said.tool_calls]
    return got


# Agents.


class Ran:
    """How often the tools ran."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def tools(self) -> list[Any]:
        @tool
        async def weather(city: str) -> str:
            """The weather in a city."""
            self.calls.append(f"weather {city}")
            return "snow"

        @tool
        async def fare() -> str:
            """What it costs."""
            self.calls.append("fare")
            return "9"

        return [weather, fare]


async def run(on: Stage, ran: Ran, *, watched: bool = False, shown: list[str] | None = None) -> RunResult[str]:
    """One run of an agent with both tools; retries are quick."""
    agent = Agent("traveller", on.provider, tools=ran.tools(), retry=QUICK)
    if not watched:
        return await agent.run("How is the weather?")
    async with agent.stream("How is the weather?") as watching:
        async for event in watching.events():
            if isinstance(event, ModelTextDelta) and shown is not None:
                shown.append(event.text)
        return await watching.result()


# Rate limits (scenario 84).


NOW = datetime.now(UTC).replace(microsecond=0)
DATE = format_datetime(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=30), usegmt=True), "date": DATE}, 30.0),
        ({"retry-after": format_datetime(NOW - timedelta(hours=1), usegmt=True), "date": DATE}, 0.0),
        ({"retry-after": "999999999"}, 999999999.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Mon, 32 Foo 2026 99:99:99 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
@STREAMED
@EVERY_FAMILY
async def test_how_long_to_wait(family: str, streamed: bool, headers: dict[str, str], expected: float | None) -> None:
    """Scenario 84: Retry-After in all of its forms."""
    async with stage(family, fails(family, 429, headers)) as on:
        with pytest.raises(RateLimited) as caught:
            await ask(on.provider, streamed)
        assert caught.value.retry_after == expected
        assert caught.value.retryable
        assert caught.value.status == 429


@pytest.mark.parametrize("wait", ["0", "999999999", "soon"])
@EVERY_FAMILY
async def test_a_wait_is_bounded_and_visible(family: str, wait: str) -> None:
    """Scenario 84: not longer than the cap of the caller, whatever the provider asks for."""
    retries: list[Any] = []
    async with stage(family, fails(family, 529, {"retry-after": wait}), says(Said("Fine."))) as on:
        agent = Agent("a", on.provider, retry=QUICK)
        if wait == "999999999":
            # The gate of the account honours it, for a minute; whoever does not want to wait may leave.
            with anyio.move_on_after(0.1) as patience:
                await agent.run("x")
            assert patience.cancelled_caught
            assert len(on.server.requests) == 1
            return
        result = await agent.run("x", on_event=lambda event: retries.append(event))
    seen = [event for event in retries if isinstance(event, ModelRetrying)]
    assert result.text == "Fine."
    assert [event.attempt for event in seen] == [1]
    assert seen[0].delay <= QUICK.max_delay


@EVERY_FAMILY
async def test_attempts_are_bounded(family: str) -> None:
    """Scenario 84: three tries, then the provider's own error."""
    async with stage(family, fails(family, 503)) as on:
        with pytest.raises(Overloaded):
            await run(on, Ran())
        assert len(on.server.requests) == 3


# Statuses (scenario 85).


@pytest.mark.parametrize(
    ("status", "tried_again"),
    [
        *((status, False) for status in (400, 401, 403, 404, 413, 422)),
        *((status, True) for status in (408, 500, 502, 503, 504, 529)),
    ],
)
@EVERY_FAMILY
async def test_what_is_tried_again(family: str, status: int, tried_again: bool) -> None:
    """Scenario 85: failures of the server are, faults of the request are not."""
    async with stage(family, fails(family, status), says(Said("Fine."))) as on:
        if tried_again:
            assert (await run(on, Ran())).text == "Fine."
            assert len(on.server.requests) == 2
            return
        with pytest.raises(AuthError if status in (401, 403) else ProviderError) as caught:
            await run(on, Ran())
        assert len(on.server.requests) == 1
        assert caught.value.status == status
        assert caught.value.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html"),
        (b"upstream connect error", "text/plain"),
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b'"busy"', "application/json"),
        (b'{"error": 7}', "application/json"),
        (b'{"error": {"message": {"a": [1]}, "code": 1.5, "type": [], "status": {}}}', "application/json"),
        (b'{"message": null, "__type": 3, "type": "error", "error": null}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xfe\x00", "application/octet-stream"),
        (b"x" * 200_000, "text/plain"),
    ],
)
@STREAMED
@EVERY_FAMILY
async def test_a_failure_in_any_shape(family: str, streamed: bool, body: bytes, kind: str) -> None:
    """Scenario 85: a gateway's 502 is not in the provider's words."""
    async with stage(family, plays(Answer([body], 502, {"content-type": kind}, "length"))) as on:
        with pytest.raises(Overloaded) as caught:
            await ask(on.provider, streamed)
    assert caught.value.retryable
    assert len(str(caught.value)) < 1500


@EVERY_FAMILY
async def test_a_post_that_may_have_been_processed(family: str) -> None:
    """Scenario 85: the connection ends before the answer. A completion is safe to ask for again, and visibly so."""
    retries: list[Any] = []
    async with stage(family, plays(Answer(before_head="fin")), says(Said("Fine."))) as on:
        agent = Agent("a", on.provider, retry=QUICK)
        result = await agent.run("x", on_event=lambda event: retries.append(event))
        assert (result.text, len(on.server.requests)) == ("Fine.", 2)
    assert [event.kind for event in retries if isinstance(event, ModelRetrying)] == ["interrupted"]


@STREAMED
@EVERY_FAMILY
async def test_a_key_never_shows(family: str, streamed: bool) -> None:
    """Scenario 97: not even when the provider repeats it."""

    def echo(format: Format, seen: Seen) -> Answer:
        held = " ".join([*seen.headers.values(), seen.target])
        made = failure(family, 401)
        return refused(Refused(401, reworded(made.body, f"wrong: {held}"), {"x-request-id": "req-7"}))

    async with stage(family, echo) as on:
        secret = on.provider._current_key()
        with pytest.raises(AuthError) as caught:
            await ask(on.provider, streamed)
    if secret:
        assert any(secret in value for seen in on.server.requests for value in (*seen.headers.values(), seen.target))
        assert secret not in f"{caught.value!s}{caught.value!r}{caught.value.args}{caught.value.message}"


# Errors inside a success (scenario 86).


def as_event(family: str, format: Format) -> bytes:
    """The provider's "overloaded" inside a stream."""
    body = json.dumps(failure(family, 503).body).encode()
    if format.stream_type == SSE:
        event = {"anthropic": b"event: error\n", "openai-responses": b"event: error\n"}.get(family, b"")
        if family == "openai-responses":
            body = b'{"type":"error","code":"server_error","message":"The server had an error.","param":null}'
        return event + b"data: " + body + b"\n\n"
    if "ndjson" in format.stream_type:
        return body + b"\n"
    return exception("serviceUnavailableException", body)


def exception(name: str, payload: bytes) -> bytes:
    """An exception in AWS's framing: lengths and checksums in front, three headers, the payload, a checksum."""
    named = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2) + value.encode()
        for key, value in named.items()
    )
    message = (16 + len(headers) + len(payload)).to_bytes(4) + len(headers).to_bytes(4)
    message += zlib.crc32(message).to_bytes(4) + headers + payload
    return message + zlib.crc32(message).to_bytes(4)


@STREAMED
@EVERY_FAMILY
async def test_an_error_body_with_status_200(family: str, streamed: bool) -> None:
    """Scenario 86: as JSON, whatever was asked for."""
    made = Answer([json.dumps(failure(family, 503).body).encode()], 200, {"content-type": "application/json"}, "length")
    async with stage(family, plays(made)) as on:
        with pytest.raises(ProviderError) as caught:
            await ask(on.provider, streamed)
    assert not isinstance(caught.value, StreamInterrupted)


@pytest.mark.parametrize("at", [0, 1, 3])
@EVERY_FAMILY
async def test_an_error_inside_a_stream(family: str, at: int) -> None:
    """Scenario 86: before or amid the answer, it is the provider's error and keeps what had come."""
    said = Said("A long answer, in some pieces.")

    def line(format: Format, seen: Seen) -> Answer:
        error = as_event(family, format)
        return answer(format, seen, said, lambda pieces: [*pieces[:at], error])

    async with stage(family, line) as on:
        with pytest.raises(ProviderError) as caught:
            await ask(on.provider, True)
    error = caught.value
    assert type(error) in (Overloaded, RateLimited)
    assert error.retryable
    if error.partial is not None:
        assert error.partial.partial
        assert said.text.startswith(error.partial.text)


# Cut streams (scenarios 87 and 88).


CUTS: list[tuple[Ending, Framing]] = [("fin", "chunked"), ("rst", "chunked"), ("keep", "chunked"), ("keep", "close")]


async def wire_events(family: str) -> list[bytes]:
    """The wire events of the undisturbed answer."""
    taken: list[bytes] = []

    def take(pieces: list[bytes]) -> list[bytes]:
        taken[:] = pieces
        return pieces

    async with stage(family, says(SAID, take)) as on:
        await ask(on.provider, True)
    return taken


def check_cut(outcome: ModelReply | ProviderError, expected: Any, *allowed: type[ProviderError]) -> bool:
    """An interruption that keeps what came, or else all of the answer; True for an interruption."""
    if isinstance(outcome, ModelReply):
        assert essence(outcome)[:3] == expected[:3]
        return False
    assert type(outcome) in (StreamInterrupted, *allowed)
    if outcome.partial is not None:
        assert outcome.partial.partial
        assert SAID.text.startswith(outcome.partial.text)
        assert all(item.arguments is None for item in outcome.partial.tool_calls)
    return True


@pytest.mark.parametrize(("ending", "framing"), CUTS)
@EVERY_FAMILY
async def test_a_cut_stream_is_no_success(family: str, ending: Ending, framing: Framing) -> None:
    """Scenario 87: behind any event, by any end."""
    expected, count = await whole(family), len(await wire_events(family))
    interrupted = 0
    for at in range(count):
        async with stage(family, says(SAID, lambda pieces, at=at: pieces[:at], ending=ending, framing=framing)) as on:
            outcome = await attempt(on.provider, True)
        interrupted += check_cut(outcome, expected, *([BadResponse] if at == 0 else []))
    assert interrupted >= count - 4


@pytest.mark.parametrize("ending", ["fin", "rst", "keep"])
@EVERY_FAMILY
async def test_a_stream_cut_inside_an_event(family: str, ending: Ending) -> None:
    """Scenario 87: between any two bytes; half an event is no answer, even where the body ends as its framing said."""
    expected, data = await whole(family), b"".join(await wire_events(family))
    for at in range(1, len(data), max(1, len(data) // 40)):
        async with stage(family, says(SAID, lambda pieces, at=at: [b"".join(pieces)[:at]], ending=ending)) as on:
            outcome = await attempt(on.provider, True)
        check_cut(outcome, expected, *([BadResponse] if ending == "keep" else []))


@EVERY_FAMILY
async def test_a_whole_answer_that_is_cut(family: str) -> None:
    """Scenario 87: JSON in one piece, ended too early in any way."""
    for ending, framing in (*CUTS, ("fin", "length")):
        headers = {"content-length": "100000"} if framing == "length" else {}
        line = says(SAID, lambda pieces: [pieces[0][:-5]], ending=ending, framing=framing, headers=headers)
        async with stage(family, line) as on:
            with pytest.raises((StreamInterrupted, BadResponse)):
                await ask(on.provider, False)


@pytest.mark.parametrize("watched", [False, True])
@EVERY_FAMILY
async def test_a_cut_stream_runs_no_tool(family: str, watched: bool) -> None:
    """Scenario 88: complete-looking calls of a cut answer do not run; the calls of the second try run once."""
    silent = Said("", SAID.tool_calls)

    def cut(pieces: list[bytes]) -> list[bytes]:
        return pieces[: len(pieces) * 2 // 3] if len(pieces) > 1 else [pieces[0][: len(pieces[0]) * 2 // 3]]

    ran = Ran()
    async with stage(family, says(silent, cut, ending="fin"), says(silent), says(Said("Fine."))) as on:
        result = await run(on, ran, watched=watched)
        assert result.text == "Fine."
        assert sorted(ran.calls) == ["fare", "weather Łódź 🎭"]
        assert len(on.server.requests) == 3


@EVERY_FAMILY
async def test_text_is_not_shown_twice(family: str) -> None:
    """Scenario 88: an attempt that has shown text is not tried again, and the run keeps what was shown."""
    said = Said("One two three four five six seven eight.")
    shown: list[str] = []
    cut = says(said, lambda pieces: pieces[: (len(pieces) + 1) // 2], ending="fin")
    async with stage(family, cut, says(said)) as on:
        with pytest.raises(StreamInterrupted) as caught:
            await run(on, Ran(), watched=True, shown=shown)
        assert len(on.server.requests) == 1
    text = "".join(shown)
    assert text
    assert said.text.startswith(text)
    assert caught.value.result.messages[-1].text == text
    assert caught.value.result.messages[-1].partial


@EVERY_FAMILY
async def test_an_unwatched_answer_is_asked_for_again(family: str) -> None:
    """Scenario 88: nobody saw the first one."""
    said = Said("One two three four five six seven eight.")
    cut = says(said, lambda pieces: [pieces[0][:-9]], ending="fin")
    async with stage(family, cut, says(said)) as on:
        assert (await run(on, Ran())).text == said.text
        assert len(on.server.requests) == 2


# Silence and slowness (scenario 89).


@EVERY_FAMILY
async def test_every_wait_has_a_deadline_by_default(family: str) -> None:
    """Scenario 89."""
    provider: Any = FORMATS[family]().provider("http://localhost", "m")
    assert all(isinstance(getattr(provider.timeouts, name), float) for name in Timeouts.__struct_fields__)


@STREAMED
@EVERY_FAMILY
async def test_silence_ends(family: str, streamed: bool) -> None:
    """Scenario 89: before the answer, and amid it."""
    async with stage(family, plays(Answer(before_head="stall")), first_byte=0.05) as on:
        with pytest.raises(Stalled, match="first_byte"):
            await ask(on.provider, streamed)
    half = says(SAID, lambda pieces: [b"".join(pieces)[: len(b"".join(pieces)) // 2]], ending="stall")
    async with stage(family, half, idle=0.05) as on:
        with pytest.raises(Stalled, match="idle"):
            await ask(on.provider, streamed)


@asynccontextmanager
async def dripping(family: str, pause: float, prefix: bytes = b"", repeat: bytes = b"") -> AsyncIterator[Any]:
    """A provider whose server sends its stream byte by byte with pauses, or `repeat` for ever; it never ends."""
    format = FORMATS[family]()

    async def drip(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive()
            head, _, body = data.partition(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            size = int(found[1]) if found else 0
            while len(body) < size:
                body += await stream.receive()
            target, asked = head.split(b" ")[1].decode(), json.loads(body)
            streamed = format.wants_stream(target, asked)
            kind = format.stream_type if streamed else "application/json"
            said = b"".join(format.stream(SAID, asked)) if streamed else format.answer(SAID, asked)
            try:
                await stream.send(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n".encode())
                for index in range(10_000):
                    await stream.send(repeat or said[index : index + 1])
                    await anyio.sleep(pause)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, drip)
        yield format.provider(url, "some-model")
        tasks.cancel_scope.cancel()


@STREAMED
@EVERY_FAMILY
async def test_slow_bytes_end(family: str, streamed: bool) -> None:
    """Scenario 89: a byte now and then is ended by the total deadline, and in a stream by the idle one: half an event
    is no progress."""
    async with dripping(family, 0.01) as provider:
        provider.timeouts = Timeouts(total=0.15, idle=None)
        with pytest.raises(Stalled, match="total"):
            await ask(provider, streamed)
    if streamed:
        async with dripping(family, 0.01) as provider:
            provider.timeouts = Timeouts(idle=0.06)
            with pytest.raises(Stalled, match="idle"):
                await ask(provider, streamed)


#: What keeps a connection open and says nothing, by framing; AWS's has none.
HEARTBEATS = {
    SSE: [b": keep-alive\n\n", b"\n", b"event: ping\n\n", b": PROCESSING\r\n\r\n"],
    "application/x-ndjson": [b"\n"],
}


@pytest.mark.parametrize(
    ("family", "beat"),
    [(family, beat) for family in FAMILIES for beat in HEARTBEATS.get(FORMATS[family]().stream_type, ())],
)
async def test_heartbeats_are_not_progress(family: str, beat: bytes) -> None:
    """Scenario 89: they do not keep a silent stream open."""
    async with dripping(family, 0.005, repeat=beat) as provider:
        provider.timeouts = Timeouts(idle=0.08)
        with pytest.raises(Stalled, match="idle"):
            await ask(provider, True)


# The same answer in other bytes (scenario 90).


def by_bytes(pieces: list[bytes]) -> list[bytes]:
    data = b"".join(pieces)
    return [data[at : at + 1] for at in range(len(data))]


def in_one(pieces: list[bytes]) -> list[bytes]:
    return [b"".join(pieces)]


def by_sevens(pieces: list[bytes]) -> list[bytes]:
    data = b"".join(pieces)
    return [data[at : at + 7] for at in range(0, len(data), 7)]


def replaced(old: bytes, new: bytes) -> Change:
    return lambda pieces: [b"".join(pieces).replace(old, new)]


def with_mark(pieces: list[bytes]) -> list[bytes]:
    return [b"\xef\xbb\xbf", *pieces]


def with_comments(pieces: list[bytes]) -> list[bytes]:
    return [b": hello\n\n", *(part for piece in pieces for part in (piece, b": keep-alive\n\n", b":\n"))]


def with_strange_fields(pieces: list[bytes]) -> list[bytes]:
    return [b"retry: 10\nid: 7\nfoo: bar\nfoo\n" + piece for piece in pieces]


def with_strange_events(pieces: list[bytes]) -> list[bytes]:
    odd = b"event: vendor.notice\ndata: hello there\n\nevent: vendor.empty\ndata:\n\n"
    return [part for piece in pieces for part in (odd, piece)]


def in_lines(pieces: list[bytes]) -> list[bytes]:
    return [re.sub(rb"data: \{", b"data: {\ndata:", piece) for piece in pieces]


def without_space(pieces: list[bytes]) -> list[bytes]:
    return [piece.replace(b"data: ", b"data:").replace(b"event: ", b"event:") for piece in pieces]


def without_last_blank(pieces: list[bytes]) -> list[bytes]:
    return [b"".join(pieces).rstrip(b"\n")]


ANY_FRAMING: dict[str, Change] = {"one byte chunks": by_bytes, "one chunk": in_one, "seven byte chunks": by_sevens}
LINES: dict[str, Change] = {
    "crlf": replaced(b"\n", b"\r\n"),
    "a mark": with_mark,
    "no last newline": without_last_blank,
}
EVENTS: dict[str, Change] = {
    "cr": replaced(b"\n", b"\r"),
    "comments": with_comments,
    "strange fields": with_strange_fields,
    "strange events": with_strange_events,
    "data in lines": in_lines,
    "no space": without_space,
}
VARIATIONS = [
    (family, name)
    for family in FAMILIES
    for name in (
        *ANY_FRAMING,
        *(LINES if "amazon" not in FORMATS[family]().stream_type else ()),
        *(EVENTS if FORMATS[family]().stream_type == SSE else ()),
    )
]


@pytest.mark.parametrize(("family", "name"), VARIATIONS)
async def test_the_same_stream_in_other_bytes(family: str, name: str) -> None:
    """Scenario 90: boundaries, line ends, marks, comments and what is unknown change nothing."""
    change = {**ANY_FRAMING, **LINES, **EVENTS}[name]
    expected = await whole(family)
    async with stage(family, says(SAID, change)) as on:
        assert essence(await ask(on.provider, True)) == expected


@pytest.mark.parametrize("name", ["one byte chunks", "one chunk"])
@EVERY_FAMILY
async def test_the_same_whole_answer_in_other_bytes(family: str, name: str) -> None:
    """Scenario 90: JSON in pieces, with split characters."""
    async with stage(family, says(SAID, ANY_FRAMING[name])) as on:
        assert essence(await ask(on.provider, False)) == await whole(family, False)


HUGE = 50 * 1024 * 1024


@EVERY_FAMILY
async def test_an_event_of_50_megabytes(family: str) -> None:
    """Scenario 90: a typed error, and no more memory than the bound of an event allows."""
    block = b"x" * 65536

    def endless(pieces: list[bytes]) -> list[bytes]:
        # The first event without its end, and where a length stands in front of it, with that length.
        size = HUGE.to_bytes(4) + b"\0\0\0\0"
        start = pieces[0].rstrip(b"\n") if pieces[0].endswith(b"\n") else size + zlib.crc32(size).to_bytes(4)
        return [start, *[block] * (HUGE // len(block))]

    async with stage(family, says(SAID, endless)) as on:
        tracemalloc.start()
        try:
            with pytest.raises(BadResponse, match="larger than"):
                await ask(on.provider, True)
            assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
        finally:
            tracemalloc.stop()


@EVERY_FAMILY
async def test_an_answer_without_end(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 90: small events for ever do not fill the memory either."""
    monkeypatch.setattr("greenroom.providers.endpoint.MAX_STREAM", 200_000)
    said = Said("word " * 2000)

    def endless(pieces: list[bytes]) -> list[bytes]:
        return [*pieces[:-12], *pieces[-30:-12] * 2000]

    async with stage(family, says(said, endless)) as on:
        with pytest.raises(BadResponse, match="longer than 200000 bytes") as caught:
            await ask(on.provider, True)
    assert caught.value.partial is not None


# Any value in any place (scenario 91), without a network.


HOSTILE: list[Any] = [
    None,
    True,
    3,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "\u2028",
    [],
    [None],
    [[1]],
    {},
    {"a": None},
    {"type": 3},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON value, itself included."""
    yield path
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with another one in one place."""
    if not path:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


def check_usable(dialect: Any, message: Message | None) -> None:
    """It can be kept in a journal and sent back, whatever is in it."""
    if message is not None:
        msgspec.json.encode(message)
        dialect.encode(ModelRequest([user("x"), message, user("y")]), stream=True)


@pytest.mark.parametrize("family", sorted(FORMATS))
def test_any_value_in_a_whole_answer(family: str) -> None:
    """A reply or a typed error, never anything else."""
    format = FORMATS[family]()
    dialect: Any = format.provider("http://localhost", "some-model")._dialect
    body = json.loads(format.answer(SAID, asked(dialect, stream=False)))
    for path in places(body):
        for new in HOSTILE:
            try:
                reply = dialect.decode(json.dumps(with_value(body, path, new)).encode())
            except ProviderError as error:
                str(error)
                continue
            check_usable(dialect, reply.message)
            msgspec.json.encode(reply)


@pytest.mark.parametrize("family", sorted(FORMATS))
def test_any_value_in_a_stream(family: str) -> None:
    """In any event, what follows it as it was."""
    format = FORMATS[family]()
    dialect: Any = format.provider("http://localhost", "some-model")._dialect
    framer = dialect.framer()
    events = [event for piece in format.stream(SAID, asked(dialect, stream=True)) for event in framer.feed(piece)]
    for index, event in enumerate(events):
        try:
            held = json.loads(event.data)
        except ValueError:
            continue
        for path in places(held):
            for new in HOSTILE:
                data = json.dumps(with_value(held, path, new)).encode()
                decoder = dialect.decoder()
                try:
                    for each in (*events[:index], structs.replace(event, data=data), *events[index + 1 :]):
                        msgspec.json.encode(decoder.feed(each))
                    reply = decoder.finish(clean=True)
                except ProviderError as error:
                    str(error)
                else:
                    check_usable(dialect, reply.message)
                check_usable(dialect, decoder.partial())


@pytest.mark.parametrize("family", sorted(FORMATS))
def test_any_value_in_an_error(family: str) -> None:
    """The error says what can be said."""
    dialect: Any = FORMATS[family]().provider("http://localhost", "some-model")._dialect
    for status in (400, 429, 503):
        made = failure(family, status)
        for path in places(made.body):
            for new in HOSTILE:
                body = json.dumps(with_value(made.body, path, new)).encode()
                error = dialect.read_error(status, made.headers, body, now=0.0)
                told = (error.code, error.error_type, error.param, error.request_id)
                assert all(each is None or isinstance(each, str) for each in told)
                assert str(error)
                assert error.status == status


def asked(dialect: Any, *, stream: bool) -> Any:
    """A request's body, which some fakes look at for their answer."""
    return {"model": "some-model", **json.loads(dialect.encode(REQUEST, stream=stream).body)}


# Wrong shapes (scenario 91).


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"<!doctype html><p>Sign in</p>", {"content-type": "text/html; charset=utf-8"}, "Sign in"),
        (b"", {"content-type": "application/json"}, None),
        (b"", {}, None),
        (b"{}", {"content-type": "application/json"}, None),
        (b"[]", {"content-type": "application/json"}, None),
        (b"null", {"content-type": "application/json"}, None),
        (b'"hello"', {"content-type": "application/json"}, None),
        (b"hello", {"content-type": "text/plain"}, None),
        (b"{", {"content-type": "application/json"}, None),
        (b"[" * 50_000, {"content-type": "application/json"}, None),
        (b"\xff\xfe{}", {"content-type": "application/json"}, None),
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip"}, "not encoded as it says"),
        (gzip.compress(b"{}", mtime=0)[:-6], {"content-type": "application/json", "content-encoding": "gzip"}, None),
        (b"{}", {"content-type": "application/json", "content-encoding": "zstd"}, "not asked for"),
    ],
)
@STREAMED
@EVERY_FAMILY
async def test_a_success_of_the_wrong_shape(
    family: str, streamed: bool, body: bytes, headers: dict[str, str], words: str | None
) -> None:
    """Scenario 91: a typed error that names provider and request."""
    if family == "gemini" and body == b"{}" and words is None and "content-encoding" not in headers:
        return  # Gemini's own answer when it says nothing, as it was recorded
    made = Answer([body], 200, {"x-request-id": "req-9", **headers}, "length")
    async with stage(family, plays(made)) as on:
        with pytest.raises((BadResponse, StreamInterrupted), match=words) as caught:
            await ask(on.provider, streamed)
        assert caught.value.provider == on.provider.name
        assert caught.value.request_id == "req-9"
        assert len(str(caught.value)) < 1500


OTHER_NAMES = ["text/plain", "application/octet-stream", "application/json", "", "Text/Event-Stream;charset=UTF-8"]


@pytest.mark.parametrize("kind", OTHER_NAMES)
@EVERY_FAMILY
async def test_a_stream_under_another_name(family: str, kind: str) -> None:
    """Scenario 91: gateways rename content types; a stream that is one is read."""
    expected = await whole(family)
    async with stage(family, says(SAID, headers={"content-type": kind})) as on:
        assert essence(await ask(on.provider, True)) == expected


@pytest.mark.parametrize("kind", OTHER_NAMES)
@STREAMED
@EVERY_FAMILY
async def test_a_whole_answer_under_another_name(family: str, streamed: bool, kind: str) -> None:
    """Scenario 91: whether it was asked for or not."""
    expected = await whole(family, False)
    made = FORMATS[family]()

    def line(fake: Format, seen: Seen) -> Answer:
        return Answer([made.answer(SAID, seen.json)], 200, {"content-type": kind}, "length")

    async with stage(family, line) as on:
        outcome = await attempt(on.provider, streamed)
        if streamed and kind != "application/json" and "amazon" in made.stream_type:
            # Its framing has checksums: text is told from a stream at once, and refused.
            assert type(outcome) is BadResponse
            return
        assert isinstance(outcome, ModelReply)
        assert essence(outcome) == expected


@EVERY_FAMILY
async def test_a_stream_for_who_asked_for_a_whole_answer(family: str) -> None:
    """Scenario 91: servers that always stream."""
    expected = await whole(family)
    made = FORMATS[family]()
    pieces = await wire_events(family)
    async with stage(family, plays(Answer(pieces, 200, {"content-type": made.stream_type}))) as on:
        assert essence(await ask(on.provider, False)) == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@STREAMED
@EVERY_FAMILY
async def test_a_redirect_is_not_followed(family: str, streamed: bool, status: int) -> None:
    """Scenario 91: the key is not taken to another host."""
    async with serve(Answer([b"{}"])) as elsewhere:
        moved = Answer([], status, {"location": f"{elsewhere.url}/v1/messages"}, "length")
        async with stage(family, plays(moved)) as on:
            with pytest.raises(BadResponse, match="redirects") as caught:
                await ask(on.provider, streamed)
            assert not caught.value.retryable
        assert (elsewhere.requests, elsewhere.connections) == ([], 0)


# No connection (scenario 91).


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody vouches for, with its key."""
    folder = tmp_path_factory.mktemp("certificate")
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(folder / "both.pem"), "-out", str(folder / "cert.pem")]
    try:
        subprocess.run(["openssl", "req", *kind, *name, *files], check=True, capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    (folder / "both.pem").write_bytes((folder / "both.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return folder / "both.pem"


def elsewhere(family: str, url: str, **timeouts: float | None) -> Any:
    """A provider of this family for any URL."""
    provider: Any = FORMATS[family]().provider(url, "some-model")
    provider.timeouts = Timeouts(**timeouts)
    return provider


@STREAMED
@EVERY_FAMILY
async def test_a_certificate_that_nobody_vouches_for(family: str, streamed: bool, certificate: Path) -> None:
    """Scenario 91: refused, not tried again, and nothing is sent."""
    received: list[bytes] = []

    async def listen(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            received.append(await stream.receive())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = tcp.extra(anyio.abc.SocketAttribute.local_port)
    listener = QuietListener(tcp, context)
    async with tcp, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, listen)
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate") as caught:
            await ask(elsewhere(family, f"https://localhost:{port}"), streamed)
        tasks.cancel_scope.cancel()
    assert not caught.value.retryable
    assert received == []


class QuietListener(anyio.streams.tls.TLSListener):
    """Says nothing of handshakes that fail: they are meant to."""

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: anyio.abc.AnyByteStream) -> None:  # noqa: ARG004
        await anyio.aclose_forcefully(stream)


@EVERY_FAMILY
async def test_a_name_that_does_not_exist(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 91: a typed error that says which."""

    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailed, match=r"model\.invalid") as caught:
        await ask(elsewhere(family, "http://model.invalid"), False)
    assert caught.value.retryable
    assert caught.value.provider


@EVERY_FAMILY
async def test_nobody_takes_the_connection(family: str) -> None:
    """Scenario 91: a host that does not answer costs `connect` seconds; here its queue of connections is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            provider = elsewhere(family, f"http://127.0.0.1:{full.getsockname()[1]}", connect=0.05)
            with pytest.raises(ConnectionFailed, match=r"connect=0\.05") as caught:
                await ask(provider, False)
            assert caught.value.retryable
        finally:
            for each in waiting:
                each.close()


@EVERY_FAMILY
async def test_a_run_gets_over_a_lost_connection(family: str) -> None:
    """Scenario 87: an answer in one piece is cut, the next try has it."""
    async with StrictServer(family, [Unfinished(Said("lost"), "close"), 503, "Fine."]) as server:
        result = await Agent("a", server.provider("some-model"), retry=QUICK).run("x")
        assert (result.text, server.refusals, len(server.requests)) == ("Fine.", [], 3)
