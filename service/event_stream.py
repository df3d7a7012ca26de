"""An answer that goes on: pieces as they come, a sign of life where none comes, and an end when the client has gone.

ASGI tells that a client has gone to whoever listens, so something listens all the time, whatever the version of the
protocol. While the client does not take what was sent, nothing is fetched: what comes meanwhile is for the source of
the pieces to bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from anyio import create_task_group, move_on_after
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.types import Message, Receive, Scope, Send

#: Seconds without anything to send after which a stream shows that it lives.
KEEP_ALIVE = 15.0
#: What shows it, in server-sent events: a comment.
COMMENT = b": keep-alive\n\n"
#: What shows it among lines of JSON: an empty one.
EMPTY_LINE = b"\n"

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"

_NONE_YET: Final = b""


class PieceStream:
    """The answer.

    Args:
        next_piece: waits for the next piece, and gives None at the end. Cancelling it must lose nothing.
        media_type, status, headers: of the answer.
        around: entered when the answer begins, left when it is over or its client has gone.
        keep_alive: what is sent where no piece comes for `every` seconds; None to send nothing.
        every: seconds.
    """

    def __init__(
        self,
        next_piece: Callable[[], Awaitable[bytes | None]],
        *,
        media_type: str,
        around: AbstractContextManager[object],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        keep_alive: bytes | None = COMMENT,
        every: float = KEEP_ALIVE,
    ) -> None:
        self._next_piece = next_piece
        self._around = around
        self._status = status
        self._keep_alive = keep_alive
        self._every = every
        self.headers = {
            "Content-Type": f"{media_type}; charset=utf-8" if media_type == SSE else media_type,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # a proxy that collects pieces would hold them back
            **(headers or {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        start = {"type": "http.response.start", "status": self._status, "headers": raw}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        with self._around:
            await while_connected(receive, partial(self._write, start, send))

    async def _write(self, start: Message, send: Send) -> None:
        try:
            await self._write_all(start, send)
        except OSError:
            pass  # the client has gone: newer servers say it here

    async def _write_all(self, start: Message, send: Send) -> None:
        await send(start)
        while True:
            # asyncio cancels only who waits, and who is woken at each turn of the loop never waits when that is looked
            # at: a client that has gone would be told of, and its run go on.
            await checkpoint_if_cancelled()
            piece: bytes | None = _NONE_YET
            with move_on_after(self._every):
                piece = await self._next_piece()
            if piece is None:
                break
            piece = piece or self._keep_alive
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def while_connected(receive: Receive, work: Callable[[], Awaitable[None]]) -> bool:
    """Do some work until it is done or the client has gone, in which case it is cancelled. Its error leaves bare.

    Returns:
        Whether the client is still there.
    """
    failure: Exception | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        group.cancel_scope.cancel()

    async with create_task_group() as group:
        group.start_soon(watch)
        try:
            await work()
        except Exception as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return not gone
