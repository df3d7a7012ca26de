"""The way to a server that is a process of ours: lines, each of which is one JSON-RPC message.

What comes is bounded: a line by `MOST_MESSAGE`, and nothing is read ahead of the session. What is no message is left
out, and said once. Its standard error is read all the time and forgotten, but for the last lines.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import ObjectSendStream
from anyio.lowlevel import checkpoint

from .incoming import encoded, message_of
from .link import MOST_MESSAGE, Link, MCPServerError, Outbox, load
from .server_process import Command, ServerProcess

#: Lines that are for nobody, after which others have a turn.
BREATHER = 100

_log = logging.getLogger("greenroom.mcp")


class Lines:
    """Bytes, as they come, to lines.

    Raises:
        ValueError: a line is longer than `most` bytes.
    """

    __slots__ = ("_most", "_pieces", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, without their ends."""
        *complete, rest = data.split(b"\n")
        for line in complete:
            yield b"".join([*self._pieces, line])
            self._pieces.clear()
            self._size = 0
        self._size += len(rest)
        if self._size > self._most:
            raise ValueError(f"a line of more than {self._most} bytes")
        self._pieces.append(rest)


@asynccontextmanager
async def process_streams(command: Command, link: Link) -> AsyncGenerator[tuple[Any, Outbox]]:
    """Start a server, and end it with the block. Gives what the SDK reads from and writes into.

    Raises:
        MCPServerError: it cannot be started.
    """
    process = _started(command, link)
    outbox = Outbox(link)
    arrived, incoming = anyio.create_memory_object_stream[Any](0)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_listen, process, link)
            group.start_soon(_send, process, outbox, link)
            group.start_soon(receive_lines, process, arrived, link)
            try:
                yield incoming, outbox
            finally:
                group.cancel_scope.cancel()
    finally:
        try:
            await process.end()
        finally:
            for each in (outbox, outbox.waiting, arrived, incoming):
                each.close()


def _started(command: Command, link: Link) -> ServerProcess:
    try:
        return ServerProcess(command)
    except OSError as error:
        program = command.words[0]
        if isinstance(error, FileNotFoundError) and command.cwd is not None and not os.path.isdir(command.cwd):
            raise MCPServerError(link.sentence(f"cannot be started: there is no folder {command.cwd!r}")) from None
        if isinstance(error, FileNotFoundError):
            raise MCPServerError(link.sentence(f"cannot be started: there is no command {program!r}")) from None
        raise MCPServerError(link.sentence(f"cannot be started: {program!r}: {error.strerror}")) from None
    except ValueError as error:  # a byte 0 in a word or in the environment
        raise MCPServerError(link.sentence(f"cannot be started: {error}")) from None


async def _send(process: ServerProcess, outbox: Outbox, link: Link) -> None:
    try:
        async for item in outbox.waiting:
            await process.write(encoded(item.message) + b"\n")
    except OSError:  # it has died, or does not read any more, which comes to the same
        _say_goodbye(process, link)


async def receive_lines(process: ServerProcess, arrived: ObjectSendStream[Any], link: Link) -> None:
    """Pass on the messages of a server until its output ends."""
    wrap = load("mcp.shared.message").SessionMessage
    lines = Lines(MOST_MESSAGE)
    left_out = 0
    try:
        while piece := await process.read(process.stdout):
            for line in lines.feed(piece):
                try:
                    message = message_of(line) if line else None
                except ValueError:
                    message = None
                    if link.is_strange(line):
                        _log.warning("%s", link.sentence("writes something else than messages"))
                if message is not None:
                    await arrived.send(wrap(message))
                    continue
                left_out += 1
                if left_out % BREATHER == 0:
                    await checkpoint()  # others go on while somebody writes nothing but junk
    except ValueError:
        link.end(f"sent a message of more than {MOST_MESSAGE // 1024**2} MiB")
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the session has ended: what comes now is for nobody
    else:
        _say_goodbye(process, link)
    await arrived.aclose()  # which gives up the calls in flight


def _say_goodbye(process: ServerProcess, link: Link) -> None:
    """Say how it has ended, with the last that it wrote."""
    why = process.epitaph()
    link.heard(process.drain(process.stderr))
    link.end(why)


async def _listen(process: ServerProcess, link: Link) -> None:
    """Read its standard error all the time, or it could not go on."""
    while piece := await process.read(process.stderr):
        link.heard(piece)
