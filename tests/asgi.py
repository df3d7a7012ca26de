"""A client that calls an ASGI application in the same event loop, on asyncio and trio, and can go away in the middle.

What the application sends is taken when the test asks for it: an answer that nobody reads keeps the application
waiting, as a connection does whose buffers are full.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import anyio


class Answered:
    """An answer, whole."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str | None]:
        """The type of the error, and the parameter that is to blame."""
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"type", "message", "param"}
        return self.json["error"]["type"], self.json["error"]["param"]

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:300]!r}>"


class Streamed:
    """An answer that goes on."""

    def __init__(self, status: int, headers: dict[str, str], pieces: Any) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces

    async def piece(self) -> bytes:
        """The next piece; empty at the end."""
        try:
            return await self._pieces.receive()
        except anyio.EndOfStream:
            return b""

    async def rest(self) -> bytes:
        """All that is to come."""
        found = []
        while piece := await self.piece():
            found.append(piece)
        return b"".join(found)

    async def until(self, event: str) -> list[dict[str, str]]:
        """The server-sent events up to the first of this type, and what came with it."""
        found: list[dict[str, str]] = []
        while all(frame["event"] != event for frame in found):
            piece = await self.piece()
            assert piece, f"the stream ended without {event}: {found}"
            found += frames(piece)
        return found


def frames(text: bytes) -> list[dict[str, str]]:
    """Server-sent events as their fields; comments are left out."""
    blocks = text.decode().split("\n\n")
    assert blocks.pop() == "", "a frame is not whole"
    return [
        {name: value.removeprefix(" ") for name, _, value in (line.partition(":") for line in block.split("\n"))}
        for block in blocks
        if not block.startswith(":")
    ]


class Asgi:
    """A client of an application, with headers for every request."""

    def __init__(self, app: Any, **headers: str) -> None:
        self.app = app
        self.headers = {"host": "localhost", **headers}

    async def get(self, target: str, **headers: str) -> Answered:
        """GET."""
        return await self.ask("GET", target, **headers)

    async def post(self, target: str, body: Any = None, **headers: str) -> Answered:
        """POST; a body that is no bytes is sent as JSON."""
        return await self.ask("POST", target, body, **headers)

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answered:
        """A request, and the whole of its answer."""
        async with self.stream(method, target, body, **headers) as streamed:
            return Answered(streamed.status, streamed.headers, await streamed.rest())

    @asynccontextmanager
    async def stream(self, method: str, target: str, body: Any = None, **headers: str) -> AsyncIterator[Streamed]:
        """A request, and its answer piece by piece. The client goes away at the end of the block."""
        path, _, query = target.partition("?")
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = dict(self.headers)
        if body is not None:
            sent |= {"content-type": "application/json", "content-length": str(len(content))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value],
        }
        gone = anyio.Event()
        asked = False
        give, take = anyio.create_memory_object_stream[bytes](0)
        begun = anyio.Event()
        start: dict[str, Any] = {}

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": content, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                begun.set()
            elif not gone.is_set():
                if message["body"]:
                    try:
                        await give.send(message["body"])
                    except anyio.BrokenResourceError:
                        pass  # the client has gone meanwhile
                if not message.get("more_body", False):
                    give.close()

        failure: Exception | None = None

        async def work() -> None:
            nonlocal failure
            try:
                await self.app(scope, receive, send)
            except Exception as error:
                failure = error  # it leaves bare, not wrapped in this group
            finally:
                give.close()
                begun.set()

        with give, take:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await begun.wait()
                with take:
                    found = {name.decode(): value.decode("latin-1") for name, value in start.get("headers", ())}
                    yield Streamed(start.get("status", 0), found, take)
                gone.set()
        if failure is not None:
            raise failure
