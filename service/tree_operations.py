"""The whole tree: once, and as it changes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace
from starlette.requests import Request
from starlette.types import ASGIApp

from ..actors import Node
from .event_stream import SSE, PieceStream
from .operations import json_answer
from .problems import draining

if TYPE_CHECKING:
    from ..agents.system import System
    from .app import Service


async def tree(service: Service, _: Request) -> ASGIApp:
    """The tree of the System at this moment."""
    return json_answer(tree_of(service, service.system))


def tree_of(service: Service, system: System) -> Node:
    """The tree of a service's System, with a root that is ``draining`` while it is open and takes no new runs."""
    root = system.tree()
    return replace(root, state="draining") if root.state == "open" and service.is_draining else root


async def watch(service: Service, _: Request) -> ASGIApp:
    """The tree, and then what changes in it, until the System has closed."""
    if service.is_closing:
        raise draining()
    watching = _Watching(service)
    return PieceStream(watching.next_piece, media_type=SSE, around=nullcontext(), every=service.keep_alive)


class _Watching:
    """One who watches."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tree = service.tree_watch
        self._version = 0

    async def next_piece(self) -> bytes | None:
        """What has changed; None where the service ends."""
        service = self._service
        while True:
            if self._version:
                await anyio.sleep(service.tree_interval)
            is_last = service.is_closing  # the look behind it sees how everything has ended
            self._version, piece = self._tree.read(self._version)
            if piece:
                return piece
            if is_last:
                return None
