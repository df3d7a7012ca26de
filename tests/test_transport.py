"""The connection under our transport: what it reads, what it sends again, and when it is used again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import httpx
import pytest

from greenroom.providers import (
    BadResponse,
    ModelRequest,
    OpenAIChat,
    Stalled,
    StreamInterrupted,
    Timeouts,
    shared_connections,
    user,
)
from greenroom.providers.http import FreeListTransport
from greenroom.providers.http.request import written
from greenroom.providers.http.wire import Wire

pytestmark = pytest.mark.anyio

REQUEST = ModelRequest([user("hello")])
BODY = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@asynccontextmanager
async def saying(*packets: bytes, pause: float = 0.0) -> AsyncIterator[str]:
    """A server that says the same bytes to every request, packet by packet."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                while True:
                    await stream.receive()
                    for packet in packets:
                        await stream.send(packet)
                        await anyio.sleep(pause)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


async def ask(url: str, **timeouts: float) -> str:
    model = OpenAIChat("m", base_url=url, timeouts=Timeouts(**timeouts))
    return (await model.complete(REQUEST)).message.text


async def test_an_answer_that_is_announced_first() -> None:
    async with saying(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD + BODY) as url:
        assert await ask(url) == "hi"
    async with saying(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD[:20], HEAD[20:] + BODY[:5], BODY[5:]) as url:
        assert await ask(url) == "hi"


async def test_bytes_behind_an_answer_are_no_answer_to_the_next_request() -> None:
    """Whoever used that connection again would read somebody else's answer, and be one behind for ever."""
    async with saying(HEAD + BODY + HEAD + BODY.replace(b"hi", b"no")) as url, shared_connections() as connections:
        assert [await ask(url), await ask(url), await ask(url)] == ["hi"] * 3
        assert connections.statistics().opened == 3
        assert (connections.statistics().idle, connections.statistics().leased) == (0, 0)


async def test_a_server_that_closes_after_its_answer_is_not_asked_again_there() -> None:
    head = HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with saying(head + BODY) as url, shared_connections() as connections:
        assert [await ask(url), await ask(url)] == ["hi", "hi"]
        assert (connections.statistics().opened, connections.statistics().idle) == (2, 0)


async def test_a_head_that_drips_is_bounded_by_the_first_byte() -> None:
    """A byte now and then is not an answer."""
    packets = [bytes([byte]) for byte in HEAD]
    async with saying(*packets, pause=0.01) as url, shared_connections() as connections:
        with pytest.raises(Stalled, match="first_byte"):
            await ask(url, first_byte=0.1)
        assert connections.statistics().leased == 0


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", BadResponse),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BadResponse),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, BadResponse),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", BadResponse),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", StreamInterrupted),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n",
            BadResponse,
        ),
    ],
)
async def test_what_is_not_http_is_a_typed_error_and_costs_the_connection(said: bytes, error: type[Exception]) -> None:
    async with saying(said) as url, shared_connections() as connections:
        with pytest.raises(error) as caught:
            await ask(url)
        assert type(caught.value) is error, "who speaks something else will do so again: no use in another try"
        assert (connections.statistics().idle, connections.statistics().leased) == (0, 0)


async def test_names_of_headers_have_no_case() -> None:
    plain = (HEAD + BODY).replace(b"content-type: application/json", b"Content-Type: text/event-stream")
    stream = plain.replace(BODY, b"data: " + BODY.replace(b"message", b"delta") + b"\n\n")
    stream = stream.replace(b"content-length: %d" % len(BODY), b"CONTENT-LENGTH: %d" % (len(BODY) + 6))
    async with saying(stream) as url:
        assert await ask(url) == "hi"


async def test_headers_that_come_twice_are_joined() -> None:
    head = HEAD.replace(b"200 OK", b"429 No").replace(b"\r\n\r\n", b"\r\nX-Request-Id: a\r\nx-request-id: b\r\n\r\n")
    async with saying(head + BODY) as url:
        with pytest.raises(Exception, match="request id a, b"):
            await ask(url)


async def test_an_httpx_client_over_our_transport() -> None:
    async with saying(HEAD + BODY) as url:
        transport = FreeListTransport(limit=2)
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(2):
                answer = await client.post(url, content=pieces())
                assert (answer.status_code, answer.content, answer.http_version) == (200, BODY, "HTTP/1.1")
            assert (await client.get(url)).headers["content-type"] == "application/json"
        assert (transport.statistics().opened, transport.statistics().reused) == (1, 2)


async def pieces() -> AsyncIterator[bytes]:
    yield b"one, "
    yield b"two"


async def test_a_request_that_asks_for_the_end_of_its_connection_gets_it() -> None:
    async with saying(HEAD + BODY) as url:
        transport = FreeListTransport(limit=1)
        async with httpx.AsyncClient(transport=transport, headers={"connection": "close"}) as client:
            assert [(await client.post(url)).content for _ in range(2)] == [BODY, BODY]
        assert (transport.statistics().opened, transport.statistics().reused) == (2, 0)


async def test_what_cannot_be_sent_is_refused_and_costs_no_slot() -> None:
    """A line break in a value would be a header of whoever chose the value."""
    async with saying(HEAD + BODY) as url:
        transport = FreeListTransport(limit=1)
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(httpx.LocalProtocolError, match="not of HTTP"):
                await client.post(url, headers=[(b"x", b"a\r\ny: z")])
            with pytest.raises(httpx.LocalProtocolError, match="length"):
                await client.post(url, headers={"content-length": "3"}, content=b"four")
            assert (await client.post(url)).content == BODY
        assert (transport.statistics().opened, transport.statistics().leased) == (1, 0)


async def test_nothing_is_sent_again_after_half_a_head() -> None:
    """The server has begun to answer, so it has acted on the request."""
    asked = 0

    async def answer(stream: anyio.abc.SocketStream) -> None:
        nonlocal asked
        async with stream:
            for said in (HEAD + BODY, HEAD[:20]):
                await stream.receive()
                asked += 1
                await stream.send(said)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks, shared_connections() as connections:
        tasks.start_soon(listener.serve, answer)
        assert await ask(url) == "hi"
        with pytest.raises(StreamInterrupted, match="without an answer"):
            await ask(url)
        assert asked == 2
        assert (connections.statistics().idle, connections.statistics().leased) == (0, 0)
        tasks.cancel_scope.cancel()


class HalfClosed(anyio.abc.ByteStream):
    """A connection whose server has answered without reading, and takes nothing more."""

    async def send(self, item: bytes) -> None:
        raise anyio.BrokenResourceError

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return HEAD + BODY

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_an_answer_before_the_request_was_read_is_read_and_is_the_last() -> None:
    """A waiter that was handed such a connection would ask in vain."""
    connection = Wire(HalfClosed())
    request = written("POST", b"/", [(b"host", b"models.example"), (b"content-length", b"2")], b"hi")
    assert (await connection.request(request)).status == 200
    assert (await connection.read(), await connection.read()) == (BODY, None)
    assert not connection.renew()
