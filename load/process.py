"""The simulated model server as a process of its own, started and ended from asyncio or trio.

    async with simulated_server(faults=Faults.of(0.05), latency=Latency.parse("50ms-200ms")) as server:
        ...server.base_url...
        print(await server.stats())

A process of its own, so that its processor time is not the client's. It ends with its standard input: closing
that pipe is the orderly way, and the system does it for a parent that was killed, so no server outlives who
started it. It has a session of its own, so Ctrl-C at the terminal reaches the parent alone, which then closes
it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from .faults import Faults
from .latency import Latency
from .script import Habits
from .server import Options
from .stats import Stats

_START_TIMEOUT = 30.0
_STATS_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0


class _Listening(msgspec.Struct, frozen=True):
    port: int


class SimulatedServer(msgspec.Struct, frozen=True):
    """A running simulated server.

    Attributes:
        host: its address.
        port: its TCP port.
        pid: the id of its process.
    """

    host: str
    port: int
    pid: int

    @property
    def base_url(self) -> str:
        """What an OpenAI client calls its base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}/v1"

    async def stats(self) -> Stats:
        """What the server has counted so far.

        Raises:
            OSError: the server is gone.
            TimeoutError: it does not answer within 10 seconds.
        """
        return msgspec.json.decode(await self._get("/stats"), type=Stats)

    async def answers(self) -> dict[str, list[int]]:
        """How many whole answers each turn of each run got, by the run's key.

        Raises:
            OSError: the server is gone.
            TimeoutError: it does not answer within 10 seconds.
        """
        return msgspec.json.decode(await self._get("/answers"), type=dict[str, list[int]])

    async def _get(self, path: str) -> bytes:
        request = f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n"
        answer = bytearray()
        with anyio.fail_after(_STATS_TIMEOUT):
            async with await anyio.connect_tcp(self.host, self.port) as stream:
                await stream.send(request.encode())
                try:
                    while True:
                        answer += await stream.receive()
                except anyio.EndOfStream:
                    pass
        return bytes(answer.partition(b"\r\n\r\n")[2])


@asynccontextmanager
async def simulated_server(
    *,
    faults: Faults | None = None,
    latency: Latency | None = None,
    habits: Habits | None = None,
    seed: int = 0,
    port: int = 0,
) -> AsyncGenerator[SimulatedServer]:
    """Start a simulated server on 127.0.0.1, and end it with the block.

    Args:
        faults: rates of injected failures; default none.
        latency: time to respond; default `Latency()`: 50 ms median, 200 ms at the 99th percentile.
        habits: what the model does without a plan; default one turn of one tool call.
        seed: another seed is another model: other ids, faults and delays.
        port: default 0, a free one.

    Raises:
        RuntimeError: the process ended before it listened; its own words are on standard error.
        TimeoutError: it did not listen within 30 seconds.
    """
    options = Options(
        port=port,
        seed=seed,
        faults=faults or Faults(),
        latency=latency or Latency(),
        habits=habits or Habits(),
        until_eof=True,
    )
    process = await _open(options)
    try:
        with anyio.fail_after(_START_TIMEOUT):
            listening = await _read_port(process)
        yield SimulatedServer(options.host, listening, process.pid)
    finally:
        await _end(process)


async def _open(options: Options) -> Process:
    command = [sys.executable, "-P", "-m", "greenroom.load", msgspec.json.encode(options).decode()]
    if sys.platform == "win32":
        group = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        group = 0
    # Standard error stays the parent's: a crash of the server must not be silent.
    return await anyio.open_process(command, stderr=None, creationflags=group, start_new_session=os.name == "posix")


async def _read_port(process: Process) -> int:
    assert process.stdout is not None
    try:
        line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1024)
    except (anyio.IncompleteRead, anyio.EndOfStream):
        status = await process.wait()
        raise RuntimeError(f"the simulated server ended before it listened (exit status {status})") from None
    return msgspec.json.decode(line, type=_Listening).port


async def _end(process: Process) -> None:
    """End the process within a bounded time, whatever happens to the caller, and release its pipes."""
    assert process.stdin is not None
    with anyio.CancelScope(shield=True):
        await process.stdin.aclose()
        with anyio.move_on_after(_STOP_TIMEOUT) as patience:
            await process.wait()
        if patience.cancelled_caught:
            process.kill()
        await process.aclose()
