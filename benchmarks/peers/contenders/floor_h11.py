# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio==4.16.0", "h11==0.16.0", "msgspec==0.22.0", "trio==0.35.0", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "by hand: anyio + h11"
# kind = "floor"
# backends = ["asyncio", "uvloop", "trio"]
# ///
"""One socket for each run in flight, and the parser in Python that httpx uses too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import h11
from by_hand import asking, host_and_path
from contender import Ask, Options, serve


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    address, path = host_and_path(options)
    host, _, port = address.partition(":")
    idle: list[tuple[anyio.abc.SocketStream, h11.Connection]] = []
    fixed = [("Host", address), ("Content-Type", "application/json"), ("Authorization", "Bearer none")]

    async def send_streaming(body: bytes) -> AsyncIterator[bytes]:
        if idle:
            stream, http = idle.pop()
        else:
            stream, http = await anyio.connect_tcp(host, int(port)), h11.Connection(h11.CLIENT)
        head = h11.Request(method="POST", target=path, headers=[*fixed, ("Content-Length", str(len(body)))])
        await stream.send((http.send(head) or b"") + (http.send(h11.Data(data=body)) or b""))
        http.send(h11.EndOfMessage())
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive())
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                assert isinstance(event, h11.Response)
                assert event.status_code == 200
        http.start_next_cycle()
        idle.append((stream, http))

    async def send(body: bytes) -> bytes:
        return b"".join([piece async for piece in send_streaming(body)])

    yield asking(options, send, send_streaming)
    for stream, _ in idle:
        await stream.aclose()


if __name__ == "__main__":
    serve(service)
