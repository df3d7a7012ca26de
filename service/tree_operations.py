"""The whole tree: once, and as it changes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
from starlette.requests import Request
from starlette.types import ASGIApp

from .event_stream import SSE, PieceStream
from .operations import json_answer

if TYPE_CHECKING:
    from .app import Service


async def tree(service: Service, _: Request) -> ASGIApp:
    """The tree of the System at this moment."""
    return json_answer(service.system.tree())


async def watch(service: Service, _: Request) -> ASGIApp:
    """The tree, and then what changes in it."""
    watching = _Watching(service)
    return PieceStream(watching.next_piece, media_type=SSE, around=nullcontext(), every=service.keep_alive)


class _Watching:
    """One who watches."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._version = 0

    async def next_piece(self) -> bytes | None:
        """What has changed; None where the service ends."""
        service = self._service
        while not service.is_closing:
            if self._version:
                await anyio.sleep(service.tree_interval)
            self._version, piece = service.tree_watch.read(self._version)
            if piece:
                return piece
        return None
