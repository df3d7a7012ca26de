# /// script
# requires-python = ">=3.11"
# dependencies = ["greenroom", "httpx==0.28.1", "msgspec==0.22.0", "trio==0.35.0", "uvloop==0.23.0"]
#
# [tool.uv.sources]
# greenroom = { path = "../../..", editable = true }
#
# [tool.peer]
# name = "by hand: httpx on our transport"
# kind = "floor"
# backends = ["asyncio", "uvloop", "trio"]
# ///
"""The same client as in `floor_httpx.py`, and the connections that greenroom has under it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
from by_hand import asking
from contender import Ask, Options, serve

from greenroom.providers.http import FreeListTransport


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    transport = FreeListTransport(limit=options.in_flight)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    url = f"{options.base_url}/chat/completions"
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=None) as client:

        async def send(body: bytes) -> bytes:
            return (await client.post(url, content=body)).raise_for_status().content

        async def send_streaming(body: bytes) -> AsyncIterator[bytes]:
            async with client.stream("POST", url, content=body) as response:
                async for piece in response.raise_for_status().aiter_bytes():
                    yield piece

        yield asking(options, send, send_streaming)


if __name__ == "__main__":
    serve(service)
