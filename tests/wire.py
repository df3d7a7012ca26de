"""A server on loopback that plays prepared answers, byte by byte: real TCP, and full control of chunks and endings.

Each request takes the next `Answer`. An answer is a head, pieces of a body, and how it ends: kept open for the next
request, closed (FIN), reset (RST) or silent for ever.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import anyio.abc

Ending = Literal["keep", "fin", "rst", "stall"]
Framing = Literal["chunked", "length", "close"]


@dataclass
class Answer:
    """What is sent for one request. `pieces` are sent one by one; with ``chunked`` framing each is a chunk of its own.

    An `ending` other than ``keep`` comes after the pieces and *instead of* the end of a chunked body.
    """

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    framing: Framing = "chunked"
    ending: Ending = "keep"
    before_head: Ending = "keep"


@dataclass
class Seen:
    """A request as the server read it; header names are in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server."""

    url: str
    requests: list[Seen] = field(default_factory=list[Seen])
    connections: int = 0
    open_connections: int = 0
    kill_idle: bool = False


Script = Callable[[Seen], Answer]


def json_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A JSON body in one piece."""
    return Answer(
        [json.dumps(body).encode()], status, {"content-type": "application/json", **(headers or {})}, "length"
    )


def sse_answer(data: bytes | Iterable[bytes], ending: Ending = "keep", framing: Framing = "chunked") -> Answer:
    """An event stream, from bytes already framed as events."""
    pieces = [data] if isinstance(data, bytes) else list(data)
    return Answer(pieces, 200, {"content-type": "text/event-stream"}, framing, ending)


def events(*chunks: Any, done: bool = True) -> bytes:
    """Bytes of an event stream with these JSON objects as its events."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    """A chat completion chunk with one delta."""
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def completion(text: str = "hello", **more: Any) -> dict[str, Any]:
    """A whole chat completion."""
    message = {"role": "assistant", "content": text, **more}
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


@asynccontextmanager
async def serve(*answers: Answer, script: Script | None = None) -> AsyncIterator[Server]:
    """Serve `answers` in order (the last one again and again), or what `script` returns for each request."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    server = Server(f"http://127.0.0.1:{port}")
    left = list(answers)

    def next_answer(seen: Seen) -> Answer:
        if script is not None:
            return script(seen)
        return left.pop(0) if len(left) > 1 else left[0]

    async def connection(stream: anyio.abc.SocketStream) -> None:
        server.connections += 1
        server.open_connections += 1
        number = server.connections
        buffer = bytearray()
        try:
            async with stream:
                while True:
                    seen = await _read_request(stream, buffer, number)
                    if seen is None:
                        return
                    server.requests.append(seen)
                    if not await _send(stream, next_answer(seen)) or server.kill_idle:
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            server.open_connections -= 1

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, connection)
        try:
            yield server
        finally:
            tasks.cancel_scope.cancel()


async def _read_request(stream: anyio.abc.SocketStream, buffer: bytearray, number: int) -> Seen | None:
    async def more() -> bool:
        try:
            buffer.extend(await stream.receive())
        except anyio.EndOfStream:
            return False
        return True

    while b"\r\n\r\n" not in buffer:
        if not await more():
            return None
    head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = int(headers.get("content-length", "0"))
    buffer[:] = rest
    while len(buffer) < size:
        if not await more():
            return None
    body = bytes(buffer[:size])
    del buffer[:size]
    return Seen(first.split(" ")[1], headers, body, number)


async def _send(stream: anyio.abc.SocketStream, answer: Answer) -> bool:
    """Send one answer; False when the connection is to be closed."""
    if answer.before_head != "keep":
        return await _end(stream, answer.before_head)
    headers = dict(answer.headers)
    match answer.framing:
        case "chunked":
            headers["transfer-encoding"] = "chunked"
        case "length":
            headers.setdefault("content-length", str(sum(map(len, answer.pieces))))
        case "close":
            headers["connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    await stream.send("\r\n".join([*lines, "", ""]).encode())
    for piece in answer.pieces:
        if piece:
            await stream.send(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.framing == "chunked" else piece)
    if answer.ending != "keep":
        return await _end(stream, answer.ending)
    if answer.framing == "chunked":
        await stream.send(b"0\r\n\r\n")
    return answer.framing != "close"


async def _end(stream: anyio.abc.SocketStream, ending: Ending) -> bool:
    if ending == "stall":
        # Only the client's own end can end this.
        try:
            while True:
                await stream.receive()
        except anyio.EndOfStream:
            return False
    if ending == "rst":
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False
