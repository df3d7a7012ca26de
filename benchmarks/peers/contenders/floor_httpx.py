# /// script
# requires-python = ">=3.11"
# dependencies = ["httpx==0.28.1", "msgspec==0.22.0", "trio==0.35.0", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "by hand: httpx"
# kind = "floor"
# backends = ["asyncio", "uvloop", "trio"]
# ///
"""httpx as it comes, with its bounds raised: one client, as many connections as there are runs in flight.

Connections are kept for a minute: passes are so slow here that the usual 5 seconds would close them in between.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
from by_hand import asking
from contender import Ask, Options, serve


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    limits = httpx.Limits(
        max_connections=options.in_flight, max_keepalive_connections=options.in_flight, keepalive_expiry=60.0
    )
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    url = f"{options.base_url}/chat/completions"
    # No timeout: with all connections in one pool a request waits longer than 5 seconds for its turn.
    async with httpx.AsyncClient(limits=limits, headers=headers, timeout=None) as client:

        async def send(body: bytes) -> bytes:
            return (await client.post(url, content=body)).raise_for_status().content

        async def send_streaming(body: bytes) -> AsyncIterator[bytes]:
            async with client.stream("POST", url, content=body) as response:
                async for piece in response.raise_for_status().aiter_bytes():
                    yield piece

        yield asking(options, send, send_streaming)


if __name__ == "__main__":
    serve(service)
