"""Connections, deadlines and wrong answers, over real TCP on both backends."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.providers import (
    AuthError,
    BadResponse,
    ConnectionFailed,
    ContextOverflow,
    InvalidRequest,
    ModelRequest,
    OpenAIChat,
    Overloaded,
    ProviderError,
    RateLimited,
    Stalled,
    StreamInterrupted,
    TextDelta,
    Timeouts,
    shared_connections,
    user,
)
from greenroom.providers.http import FreeListTransport, shared_ssl_context

from .wire import Answer, Seen, Server, completion, delta, events, json_answer, serve, sse_answer

pytestmark = pytest.mark.anyio

REQUEST = ModelRequest([user("hello")])
KEY = "sk-planted-secret-0123456789"
HELLO = events(delta(content="hel"), delta(content="lo"), delta("stop"))


def model(server: Server, **options: Any) -> OpenAIChat:
    return OpenAIChat("m", base_url=server.url + "/v1", api_key=KEY, **options)


async def read(provider: OpenAIChat) -> None:
    """Read one streamed answer to its end."""
    async with provider.stream(REQUEST) as stream:
        async for _ in stream:
            pass


async def test_the_request_on_the_wire() -> None:
    async with serve(json_answer(completion())) as server:
        reply = await model(server, headers={"X-Team": "blue"}).complete(REQUEST)
    (seen,) = server.requests
    assert reply.message.text == "hello"
    assert seen.target == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["x-team"] == "blue"
    assert seen.headers["host"] == server.url.removeprefix("http://")
    assert seen.json == {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def test_one_connection_serves_calls_and_streams() -> None:
    async with serve(
        script=lambda seen: sse_answer(HELLO) if b'"stream"' in seen.body else json_answer(completion())
    ) as server:
        async with shared_connections() as connections, model(server) as provider:
            for _ in range(3):
                await provider.complete(REQUEST)
                async with provider.stream(REQUEST) as stream:
                    assert [event async for event in stream]
            figures = connections.statistics()
            assert (figures.opened, figures.reused, figures.idle, figures.leased) == (1, 5, 1, 0)
        assert server.connections == 1


async def test_connections_close_with_their_last_user() -> None:
    async with serve(json_answer(completion())) as server:
        async with shared_connections() as outer:
            async with shared_connections(limit=900) as inner:
                assert inner is outer
                await model(server).complete(REQUEST)
            assert outer.statistics().idle == 1
            assert outer.statistics().limit == 900
        assert outer.statistics().idle == 0
        async with shared_connections() as later:
            assert later is not outer


async def test_a_thousand_users_share_a_few_connections() -> None:
    async with serve(json_answer(completion())) as server:
        provider = model(server)
        async with shared_connections(limit=20) as connections, anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(provider.complete, REQUEST)
        assert len(server.requests) == 1000
        assert server.connections <= 20
        assert connections.users == 0


def test_two_event_loops_never_share() -> None:
    seen: list[object] = []

    async def main() -> None:
        async with shared_connections() as connections:
            seen.append(connections)

    anyio.run(main, backend="asyncio")
    anyio.run(main, backend="trio")
    assert seen[0] is not seen[1]


def test_one_ssl_context_for_the_process() -> None:
    assert shared_ssl_context() is shared_ssl_context()


async def test_a_users_own_client_is_used_and_not_closed() -> None:
    async with serve(sse_answer(HELLO)) as server, httpx.AsyncClient(headers={"x-mine": "1"}) as client:
        provider = model(server, client=client)
        async with provider, provider.stream(REQUEST) as stream:
            async for _ in stream:
                break
        async with provider.stream(REQUEST) as stream:
            assert len([event async for event in stream]) == 2
        assert not client.is_closed
        assert server.requests[0].headers["x-mine"] == "1"
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    gc.collect()


async def test_a_stale_connection_is_replaced_once() -> None:
    """A server may close an idle connection at the very moment of the next request."""
    answers = [json_answer(completion()), Answer(before_head="fin"), json_answer(completion("again"))]
    async with serve(*answers) as server, model(server) as provider:
        await provider.complete(REQUEST)
        assert (await provider.complete(REQUEST)).message.text == "again"
        assert [seen.connection for seen in server.requests] == [1, 1, 2]


async def test_a_fresh_connection_is_not_retried() -> None:
    async with serve(Answer(before_head="rst"), json_answer(completion())) as server, model(server) as provider:
        with pytest.raises(StreamInterrupted):
            await provider.complete(REQUEST)
        assert len(server.requests) == 1


async def test_nothing_is_sent_again_after_a_byte_of_the_answer() -> None:
    cut = Answer([b"{"], 200, {"content-length": "50"}, "length", "rst")
    async with serve(json_answer(completion()), cut, json_answer(completion())) as server, model(server) as provider:
        await provider.complete(REQUEST)
        with pytest.raises(StreamInterrupted):
            await provider.complete(REQUEST)
        assert len(server.requests) == 2


async def test_leaving_a_stream_early_closes_its_connection() -> None:
    started = sse_answer(events(delta(content="one"), done=False), "stall")
    async with serve(started, json_answer(completion())) as server, shared_connections(limit=1) as connections:
        async with model(server).stream(REQUEST) as stream:
            async for _ in stream:
                break
        figures = connections.statistics()
        assert (figures.leased, figures.idle) == (0, 0)
        await model(server).complete(REQUEST)
    gc.collect()


async def test_a_body_that_goes_on_after_its_end_costs_only_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.providers.http.call.DRAIN_TIMEOUT", 0.02)
    async with serve(sse_answer(HELLO, "stall"), json_answer(completion())) as server, model(server) as provider:
        async with provider.stream(REQUEST) as stream:
            assert len([event async for event in stream]) == 2
        assert stream.reply.message.text == "hello"
        await provider.complete(REQUEST)
        assert server.connections == 2


async def test_reading_rules_of_a_stream() -> None:
    async with (
        serve(sse_answer(events(delta(content="one"), done=False), "stall")) as server,
        model(server) as provider,
    ):
        async with provider.stream(REQUEST) as stream:
            with pytest.raises(RuntimeError, match="read to their end"):
                _ = stream.reply
            async for _ in stream:
                break
        with pytest.raises(RuntimeError, match="block had ended"):
            await anext(stream)
    cut = sse_answer(events(delta(content="one"), done=False), "fin")
    async with serve(cut) as server, model(server) as provider, provider.stream(REQUEST) as stream:
        assert await anext(stream) == TextDelta("one")
        with pytest.raises(StreamInterrupted):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):  # its error is told once
            await anext(stream)


# Deadlines.


@pytest.mark.parametrize(
    ("answer", "timeouts", "word"),
    [
        (Answer(before_head="stall"), Timeouts(first_byte=0.05), "first_byte"),
        (Answer(before_head="stall"), Timeouts(total=0.05), "total"),
        (sse_answer(HELLO[:20], "stall"), Timeouts(idle=0.05), "idle"),
        (sse_answer(HELLO[:20], "stall"), Timeouts(total=0.05), "total"),
    ],
)
async def test_silence_ends_in_time(answer: Answer, timeouts: Timeouts, word: str) -> None:
    """Scenario 89."""
    async with serve(answer) as server, shared_connections() as connections:
        with pytest.raises(Stalled, match=word) as caught:
            await read(model(server, timeouts=timeouts))
        assert caught.value.provider == "openai"
        assert caught.value.retryable
        assert connections.statistics().leased == 0


async def test_comments_are_not_progress() -> None:
    """Scenario 89: keep-alive comments do not hold a silent stream open."""

    async def drip(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            try:
                while True:
                    await stream.send(b": keep-alive\n\n")
                    await anyio.sleep(0.01)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, drip)
        provider = OpenAIChat("m", base_url=f"http://127.0.0.1:{port}", timeouts=Timeouts(idle=0.1))
        with pytest.raises(Stalled, match="idle"):
            await read(provider)
        tasks.cancel_scope.cancel()


async def test_waiting_for_a_connection_is_bounded_by_total() -> None:
    async with serve(Answer(before_head="stall")) as server, shared_connections(limit=1):
        slow, quick = model(server), model(server, timeouts=Timeouts(total=0.05))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow.complete, REQUEST)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Stalled, match="total"):
                await quick.complete(REQUEST)
            tasks.cancel_scope.cancel()


def test_timeouts_are_checked() -> None:
    with pytest.raises(ValueError, match="idle"):
        Timeouts(idle=0)


# Wrong answers (scenario 91).


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer([b"<html>no</html>"], 200, {"content-type": "text/html"}, "length"), BadResponse, "<html>no</html>"),
        (Answer([], 200, {"content-type": "application/json"}, "length"), BadResponse, "an empty body"),
        (Answer([b"{}"], 200, {"content-encoding": "gzip"}, "length"), BadResponse, "not encoded as it says"),
        (Answer([b"{}"], 200, {"content-encoding": "br"}, "length"), BadResponse, "not asked for"),
        (Answer([], 307, {"location": "http://other.example/v1"}, "length"), BadResponse, "not followed"),
        (Answer([], 204, {}, "length"), BadResponse, "status 204"),
        (Answer([b"<h1>oops</h1>"], 502, {"content-type": "text/html"}, "length"), Overloaded, "<h1>oops</h1>"),
        (Answer([b'{"detail":"busy"}'], 503, {}, "length"), Overloaded, "busy"),
        (Answer([b"Internal Server Error"], 500, {"content-type": "text/plain"}, "length"), Overloaded, "Internal"),
        (Answer([b'{"error":"no"}'], 529, {}, "length"), Overloaded, "no"),
        (Answer([b'{"object":"error","message":"bad"}'], 422, {}, "length"), InvalidRequest, "bad"),
        (Answer([b'{"error":{"message":"slow"}}'], 429, {"retry-after": "7"}, "length"), RateLimited, "slow"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_wrong_answers(answer: Answer, kind: type[ProviderError], message: str, streaming: bool) -> None:
    answer = Answer(answer.pieces, answer.status, {"x-request-id": "req-1", **answer.headers}, answer.framing)
    async with serve(answer) as server, shared_connections() as connections:
        with pytest.raises(kind, match=message) as caught:
            await (read(model(server)) if streaming else model(server).complete(REQUEST))
        assert type(caught.value) is kind
        assert caught.value.provider == "openai"
        assert caught.value.request_id == "req-1"
        assert connections.statistics().leased == 0
        assert all(seen.headers["host"] == server.url.removeprefix("http://") for seen in server.requests)


LIMITED = b'{"error":{"message":"slow"}}'


@pytest.mark.parametrize(
    "broken",
    [
        Answer([b"<html>" + b"x" * 300_000], framing="length"),
        Answer([b'{"err'], framing="chunked", ending="fin"),
        Answer([b'{"err'], framing="chunked", ending="rst"),
        Answer([b'{"err'], framing="chunked", ending="stall"),
        Answer([LIMITED], headers={"content-encoding": "gzip"}, framing="length"),
        Answer([gzip.compress(LIMITED)[:-9]], headers={"content-encoding": "gzip"}, framing="length"),
        Answer([LIMITED], headers={"content-encoding": "br"}, framing="length"),
        Answer([b"\xef\xbb\xbf" + LIMITED], framing="length"),
    ],
    ids=["long", "cut", "reset", "stalled", "packed falsely", "packed and cut", "packed otherwise", "marked"],
)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RateLimited), (503, Overloaded), (500, Overloaded), (401, AuthError), (400, InvalidRequest)],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_failure_is_what_its_status_says_whatever_its_body(
    broken: Answer, status: int, kind: type[ProviderError], streaming: bool
) -> None:
    """The class, the time to wait and the id stand in front of the body, which is for the message only."""
    head = {"retry-after": "2", "x-request-id": "req-1", **broken.headers}
    answer = Answer(broken.pieces, status, head, broken.framing, broken.ending)
    async with serve(answer) as server, shared_connections() as connections:
        provider = model(server, timeouts=Timeouts(idle=0.05))
        with pytest.raises(ProviderError) as caught:
            await (read(provider) if streaming else provider.complete(REQUEST))
        error = caught.value
        assert (type(error), error.status, error.retry_after, error.request_id) == (kind, status, 2.0, "req-1")
        assert error.retryable is (status in (429, 500, 503))
        assert provider.frozen_for > 0 or status not in (429, 503)
        assert connections.statistics().leased == 0
        unread = broken.ending != "keep" or len(broken.pieces[0]) > 300_000 or "br" in broken.headers.values()
        assert not (unread and connections.statistics().idle), "the connection still holds the body"


async def test_a_mark_before_a_body_is_none_of_it() -> None:
    whole = b"\xef\xbb\xbf" + json.dumps(completion()).encode()
    too_long = b'\xef\xbb\xbf{"error": {"message": "no", "code": "context_length_exceeded"}}'
    async with serve(Answer([whole], 200, {"content-type": "application/json"}, "length")) as server:
        assert (await model(server).complete(REQUEST)).message.text == "hello"
        await read(model(server))
    async with serve(Answer([whole], 200, {"content-type": "text/event-stream"}, "length")) as server:
        await read(model(server))
    async with serve(Answer([too_long], 400, {}, "length")) as server:
        with pytest.raises(ContextOverflow):
            await model(server).complete(REQUEST)


@pytest.mark.parametrize(
    ("status", "advice", "retryable"), [(400, "true", True), (429, "false", False), (429, "x", True)]
)
async def test_whether_to_try_again_as_the_provider_says_itself(status: int, advice: str, retryable: bool) -> None:
    async with serve(json_answer({"error": {"message": "no"}}, status, {"x-should-retry": advice})) as server:
        provider = model(server)
        with pytest.raises(ProviderError) as caught:
            await provider.complete(REQUEST)
        assert caught.value.retryable is retryable
        assert (provider.frozen_for > 0) is (status == 429 and retryable), "no use in keeping others back"


async def test_a_wait_that_is_told_twice_is_the_longer_one() -> None:
    async with serve(json_answer({}, 429, {"retry-after": "3, 7"})) as server:
        with pytest.raises(RateLimited) as caught:
            await model(server).complete(REQUEST)
        assert caught.value.retry_after == 7.0


async def test_a_packed_answer_is_unpacked() -> None:
    body = gzip.compress(json.dumps(completion()).encode())
    packed = Answer([body], 200, {"content-type": "application/json", "content-encoding": "gzip"}, "length")
    async with serve(packed) as server:
        assert (await model(server).complete(REQUEST)).message.text == "hello"


async def test_a_bomb_is_refused() -> None:
    body = gzip.compress(b" " * (64 * 1024 * 1024))
    packed = Answer([body], 200, {"content-type": "application/json", "content-encoding": "gzip"}, "length")
    async with serve(packed) as server:
        with pytest.raises(BadResponse):
            await model(server).complete(REQUEST)


async def test_a_server_that_ignores_stream_and_one_that_always_streams() -> None:
    async with serve(json_answer(completion("whole"))) as server:
        async with model(server).stream(REQUEST) as stream:
            assert len([event async for event in stream]) == 1
        assert stream.reply.message.text == "whole"
    async with serve(sse_answer(HELLO)) as server:
        assert (await model(server).complete(REQUEST)).message.text == "hello"


async def test_a_stream_that_calls_itself_json() -> None:
    answer = Answer([HELLO], 200, {"content-type": "application/json"})
    async with serve(answer) as server, model(server).stream(REQUEST) as stream:
        assert [event async for event in stream]
        assert stream.reply.message.text == "hello"


async def test_an_error_body_behind_a_stream_content_type() -> None:
    """Scenario 86."""
    body = b'{"error": {"message": "no credit", "code": "insufficient_quota"}}'
    async with serve(sse_answer(body)) as server:
        with pytest.raises(ProviderError, match="no credit") as caught:
            await read(model(server))
        assert not caught.value.retryable


async def test_nobody_listens() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()
    with pytest.raises(ConnectionFailed, match="no connection") as caught:
        await OpenAIChat("m", base_url=f"http://127.0.0.1:{port}").complete(REQUEST)
    assert caught.value.retryable
    assert caught.value.provider == "openai"


async def test_a_plain_server_behind_https() -> None:
    async with serve(json_answer(completion())) as server:
        secure = OpenAIChat("m", base_url=server.url.replace("http:", "https:"), timeouts=Timeouts(connect=0.05))
        with pytest.raises(ConnectionFailed):
            await secure.complete(REQUEST)


async def test_proxies_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(json_answer(completion("by proxy")), sse_answer([HELLO[:150], HELLO[150:]])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        provider = OpenAIChat("m", base_url="http://model.invalid/v1")
        assert (await provider.complete(REQUEST)).message.text == "by proxy"
        assert proxy.requests[0].target == "http://model.invalid/v1/chat/completions"
        async with provider.stream(REQUEST) as stream:
            async for _ in stream:
                break
    gc.collect()


# Keys (scenario 97).


async def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    provider = OpenAIChat("m")
    with pytest.raises(AuthError, match="OPENAI_API_KEY"):
        await provider.complete(REQUEST)
    with pytest.raises(AuthError, match="OPENAI_API_KEY"):
        async with provider.stream(REQUEST):
            pass


async def test_no_key_is_sent_to_a_server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with serve(json_answer(completion())) as server:
        await OpenAIChat("m", base_url=server.url).complete(REQUEST)
        assert "authorization" not in server.requests[0].headers


async def test_a_key_never_shows() -> None:
    echo = json_answer({"error": {"message": f"Incorrect API key {KEY}", "code": f"bad {KEY}"}}, 401)
    async with serve(echo) as server:
        provider = model(server, headers={"x-token": "another-secret-value"})
        with pytest.raises(AuthError) as caught:
            await provider.complete(REQUEST)
    shown = f"{caught.value!s} {caught.value!r} {caught.value.args} {caught.value.message} {provider!r}"
    assert KEY not in shown
    assert "[key]" in shown


async def test_white_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(*[json_answer(completion())] * 2) as server:
        await OpenAIChat("m", base_url=server.url, api_key=f" {KEY}\r\n").complete(REQUEST)
        monkeypatch.setenv("SOME_KEY", f"{KEY}\n")
        await OpenAIChat("m", base_url=server.url, key_variable="SOME_KEY").complete(REQUEST)
        assert [seen.headers["authorization"] for seen in server.requests] == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\0x", f"{KEY}\u2603x", f"{KEY}\x7fx"])
async def test_a_key_that_cannot_be_sent_is_never_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\0" not in key:
        monkeypatch.setenv("SOME_KEY", key)
        with pytest.raises(AuthError, match="from SOME_KEY holds a character"):
            await OpenAIChat("m", base_url="http://localhost", key_variable="SOME_KEY").complete(REQUEST)
    with pytest.raises(AuthError, match="from api_key= holds a character") as caught:
        await OpenAIChat("m", base_url="http://localhost", api_key=key).complete(REQUEST)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None


async def test_a_key_shows_in_no_field_of_an_error() -> None:
    told = {"message": f"m {KEY}", "code": f"c {KEY}", "type": f"t {KEY}", "param": f"p {KEY}"}
    async with serve(json_answer({"error": told}, 401, {"x-request-id": f"r {KEY}"})) as server:
        with pytest.raises(AuthError) as caught:
            await model(server).complete(REQUEST)
    error = caught.value
    fields = [error.message, error.code, error.error_type, error.param, error.request_id]
    assert fields == ["m [key]", "c [key]", "t [key]", "p [key]", "r [key]"]
    assert KEY not in "".join(traceback.format_exception(error))


SECRET = "q7Zk4PmX92LwTb8Rc1Vd"


@pytest.mark.parametrize(
    ("options", "tail"),
    [
        ({"headers": {"Ocp-Apim-Subscription": SECRET}}, ""),
        ({"headers": {"X-Pass": "3f2b8c1e-9a4d-4e6f-8b7a-0c1d2e3f4a5b"}}, ""),
        ({"headers": {"X-Auth": f"Basic {SECRET}"}}, ""),
        ({}, f"?api-key={SECRET}"),
        ({}, "?code=a%2Bb%2Fc123456789012345%3D"),
        ({"signer": lambda _: {"Authorization": f"Bearer {SECRET}"}}, ""),
        ({"signer": lambda _: {"X-Amz-Security-Token": SECRET}}, ""),
    ],
    ids=["a header", "a header with a uuid", "a scheme", "the query", "an encoded query", "a token", "a signature"],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_whatever_was_sent_as_a_proof_does_not_show(options: dict[str, Any], tail: str, streaming: bool) -> None:
    """By whatever name it went: a server that quotes the request quotes all of it."""
    kept = {"3f2b8c1e-9a4d-4e6f-8b7a-0c1d2e3f4a5b", SECRET, "a%2Bb%2Fc123456789012345%3D", "a+b/c123456789012345="}

    def quote(seen: Seen) -> Answer:
        told = " ".join([seen.target, unquote(seen.target), *seen.headers.values()])
        return json_answer({"error": {"message": f"what is this: {told}"}}, 400)

    async with serve(script=quote) as server:
        provider = OpenAIChat("m", base_url=f"{server.url}/v1{tail}", **options)
        with pytest.raises(InvalidRequest) as caught:
            await (read(provider) if streaming else provider.complete(REQUEST))
        shown = "".join(traceback.format_exception(caught.value)) + repr(provider) + repr(provider.account)
        assert "[key]" in shown
        assert not [secret for secret in kept if secret in shown]
        assert server.url.removeprefix("http://") in str(caught.value), "what is no secret stays"


async def test_what_a_provider_may_talk_about_stays() -> None:
    named = {"OpenAI-Organization": "org-A1b2C3d4E5f6G7h8I9j0K1l2", "anthropic-beta": "context1m20250807a1b2c3"}
    refused = {"error": {"message": f"no {' '.join(named.values())} in 2024-10-21"}}
    async with serve(json_answer(refused, 400)) as server:
        provider = OpenAIChat("m", base_url=f"{server.url}/v1?api-version=2024-10-21", headers=named)
        with pytest.raises(
            InvalidRequest, match="no org-A1b2C3d4E5f6G7h8I9j0K1l2 context1m20250807a1b2c3 in 2024-10-21"
        ):
            await provider.complete(REQUEST)


# Wrong arguments.


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: OpenAIChat(""), ValueError, "the model's name"),
        (lambda: OpenAIChat(3), TypeError, "the model's name"),
        (lambda: OpenAIChat("m", client=3), TypeError, "client= must be an httpx.AsyncClient, not int"),
        (lambda: OpenAIChat("m", client=httpx.AsyncClient), TypeError, "the class AsyncClient itself"),
        (lambda: OpenAIChat("m", client=httpx.Client()), TypeError, "not Client"),
        (lambda: OpenAIChat("m", timeouts=3), TypeError, r"timeouts= must be Timeouts\(…\), not int"),
        (lambda: OpenAIChat("m", quirks={}), TypeError, r"quirks= must be Quirks\(…\), not dict"),
        (lambda: OpenAIChat("m", headers=[("a", "b")]), TypeError, "headers= must be a dictionary of strings"),
        (lambda: OpenAIChat("m", headers={"a": 3}), TypeError, "'a' is given a value of type int"),
        (lambda: OpenAIChat("m", headers={"a b": "c"}), ValueError, "'a b' is no name of a header"),
        (lambda: OpenAIChat("m", headers={"x-key": "secret\nsecret"}), ValueError, "the value of 'x-key' holds"),
        (lambda: OpenAIChat("m", api_key=b"secret"), TypeError, "api_key= must be a string, not bytes"),
        (lambda: OpenAIChat("m", base_url=3), TypeError, "base_url must be a string"),
        (lambda: OpenAIChat("m", base_url="http://h:99999/v1"), ValueError, "base_url must be like"),
        (lambda: OpenAIChat("m", base_url="http://h:port/v1"), ValueError, "base_url must be like"),
        (lambda: OpenAIChat("m", base_url="http://[::1/v1"), ValueError, "base_url must be like"),
        (lambda: OpenAIChat("m", base_url="localhost:8000"), ValueError, "base_url must be like"),
        (lambda: OpenAIChat("m", base_url="http://me:secret@h/v1"), ValueError, "must not hold a user"),
        (lambda: OpenAIChat("m", base_url="http://me:secret@h:99999"), ValueError, "base_url must be like"),
        (lambda: OpenAIChat("m", base_url="me:secret@h"), ValueError, "base_url must be like"),
        (lambda: Timeouts(connect="3"), ValueError, r"Timeouts\(connect=\)"),  # type: ignore[arg-type]
        (lambda: Timeouts(idle=True), ValueError, r"Timeouts\(idle=\)"),
    ],
)
def test_a_wrong_argument_is_one_line(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("tail", ["/v1/chat/completions", "/v1/chat/completions/", "/v1/", " "])
async def test_a_url_with_the_path_of_the_call(tail: str) -> None:
    async with serve(json_answer(completion())) as server:
        await OpenAIChat("m", base_url=server.url + tail).complete(REQUEST)
        assert server.requests[0].target == ("/v1" if "v1" in tail else "") + "/chat/completions"


# Cancellation.


async def test_first_come_first_served() -> None:
    order: list[int] = []
    gate = anyio.Event()

    async with serve(json_answer(completion())) as server, shared_connections(limit=1) as connections:
        provider = model(server)

        async def hold(*, task_status: TaskStatus[None]) -> None:
            async with provider.stream(REQUEST):
                task_status.started()
                await gate.wait()

        async def wait(number: int) -> None:
            await provider.complete(REQUEST)
            order.append(number)

        async with anyio.create_task_group() as tasks:
            await tasks.start(hold)
            for number in range(5):
                tasks.start_soon(wait, number)
                await anyio.wait_all_tasks_blocked()
            assert connections.statistics().waiting == 5
            gate.set()
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("handed", [False, True])
async def test_native_cancellation_in_the_tick_of_the_hand_over(handed: bool) -> None:
    """A waiter that was given the slot and cancelled in the same tick gives it back."""
    async with serve(json_answer(completion())) as server, shared_connections(limit=1) as connections:
        provider = model(server)
        async with provider.stream(REQUEST) as stream:
            waiter = asyncio.ensure_future(provider.complete(REQUEST))
            while not connections.statistics().waiting:
                await asyncio.sleep(0)
            if not handed:
                waiter.cancel()
            [event async for event in stream]
        if handed:
            waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert (await provider.complete(REQUEST)).message.text == "hello"
        assert connections.statistics().leased == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("again", [0, 1, 2, 3])
async def test_native_cancellation_twice_at_every_step(streaming: bool, again: int) -> None:
    """A second cancellation, which may fall into the closing after the first, loses no slot either."""
    answer = sse_answer([HELLO[:30], HELLO[30:90], HELLO[90:]]) if streaming else json_answer(completion())
    async with serve(answer) as server, shared_connections(limit=1) as connections:
        provider = model(server)
        for steps in range(40):
            task = asyncio.ensure_future(read(provider) if streaming else provider.complete(REQUEST))  # type: ignore[arg-type]
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            for _ in range(again):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            figures = connections.statistics()
            assert (figures.leased, figures.waiting) == (0, 0), steps
            assert connections.users == 1
        with anyio.fail_after(5):
            await read(provider) if streaming else await provider.complete(REQUEST)
    gc.collect()


async def _step_cancelled(server: Server, steps: int, streaming: bool) -> bool:
    """Run one call and cancel it after so many turns of the scheduler; True when it ended by itself."""
    provider = model(server)
    ended = False

    async def call() -> None:
        nonlocal ended
        if streaming:
            async with provider.stream(REQUEST) as stream:
                async for _ in stream:
                    await checkpoint()
        else:
            await provider.complete(REQUEST)
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for _ in range(steps):
            await checkpoint()
        tasks.cancel_scope.cancel()
    return ended


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancellation_at_every_step_loses_no_slot(streaming: bool) -> None:
    answer = sse_answer([HELLO[:30], HELLO[30:90], HELLO[90:]]) if streaming else json_answer(completion())
    async with serve(answer) as server, shared_connections(limit=1) as connections:
        for steps in range(60):
            await _step_cancelled(server, steps, streaming)
            figures = connections.statistics()
            assert (figures.leased, figures.waiting) == (0, 0)
            assert figures.idle <= 1
        with anyio.fail_after(5):
            await model(server, timeouts=Timeouts(total=5)).complete(REQUEST) if not streaming else None
    gc.collect()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=12), limit=st.integers(1, 3))
def test_a_crowd_with_random_cancellations(plan: list[tuple[int, bool]], limit: int) -> None:
    """Whoever is cancelled whenever, every slot comes back and the others are served."""

    async def main() -> None:
        def script(seen: Seen) -> Answer:
            return sse_answer([HELLO[:40], HELLO[40:]]) if b'"stream"' in seen.body else json_answer(completion())

        async with serve(script=script) as server, shared_connections(limit=limit) as connections:
            async with anyio.create_task_group() as tasks:
                for steps, streaming in plan:
                    tasks.start_soon(_step_cancelled, server, steps, streaming)
            figures = connections.statistics()
            assert (figures.leased, figures.waiting) == (0, 0)
            assert figures.idle <= limit
            with anyio.fail_after(5):
                assert (await model(server).complete(REQUEST)).message.text == "hello"

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)


async def test_idle_connections_of_another_host_make_room() -> None:
    async with (
        serve(json_answer(completion())) as one,
        serve(json_answer(completion())) as two,
        shared_connections(limit=1) as connections,
    ):
        await model(one).complete(REQUEST)
        await model(two).complete(REQUEST)
        await model(one).complete(REQUEST)
        assert connections.statistics().opened == 3
        assert connections.statistics().idle == 1


async def test_an_expired_connection_is_not_used_again() -> None:
    async with serve(json_answer(completion())) as server:
        transport = FreeListTransport(limit=2, idle_expiry=0.0)
        async with httpx.AsyncClient(transport=transport) as client:
            provider = model(server, client=client)
            await provider.complete(REQUEST)
            await checkpoint()
            await provider.complete(REQUEST)
            assert transport.statistics().opened == 2
            assert transport.statistics().idle == 1


async def test_a_closed_transport_tells_its_waiters() -> None:
    async with serve(Answer(before_head="stall")) as server:
        transport = FreeListTransport(limit=1)
        failures: list[BaseException] = []

        async def call() -> None:
            try:
                await transport.handle_async_request(httpx.Request("POST", server.url))
            except httpx.TransportError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
            await anyio.wait_all_tasks_blocked()
            assert len(failures) == 1
            tasks.cancel_scope.cancel()
        assert transport.statistics().leased == 0


async def test_a_transport_can_be_a_fake() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=HELLO)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
        OpenAIChat("m", api_key=KEY, client=client).stream(REQUEST) as stream,
    ):
        assert len([event async for event in stream]) == 2
