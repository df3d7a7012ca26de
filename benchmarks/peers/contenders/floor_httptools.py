# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio==4.16.0", "httptools==0.9.0", "msgspec==0.22.0", "trio==0.35.0", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "by hand: anyio + httptools"
# kind = "floor"
# backends = ["asyncio", "uvloop", "trio"]
# ///
"""The least: one socket for each run in flight, and a parser in C."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import httptools
from by_hand import asking, host_and_path, request_head
from contender import Ask, Options, serve


class Response:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.done = False

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.done = True


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    address, _ = host_and_path(options)
    host, _, port = address.partition(":")
    idle: list[anyio.abc.SocketStream] = []

    async def send_streaming(body: bytes) -> AsyncIterator[bytes]:
        stream = idle.pop() if idle else await anyio.connect_tcp(host, int(port))
        await stream.send(request_head(options, len(body)) + body)
        response = Response()
        parser = httptools.HttpResponseParser(response)
        while not response.done:
            parser.feed_data(await stream.receive())
            pieces, response.body = response.body, []
            for piece in pieces:
                yield piece
        assert parser.get_status_code() == 200
        idle.append(stream)

    async def send(body: bytes) -> bytes:
        return b"".join([piece async for piece in send_streaming(body)])

    yield asking(options, send, send_streaming)
    for stream in idle:
        await stream.aclose()


if __name__ == "__main__":
    serve(service)
