"""One contender's turn: its process, its measured passes, and whether the server saw what should have happened.

The contender says what it did; the server counts what it saw, between two lines to the contender. `complaints` puts
both beside each other, and a figure counts only where there is none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from greenroom.load import SimulatedServer, Stats

_LINE = 65_536
#: Requests and tool calls of one run.
REQUESTS = TOOL_CALLS = 3


class Ready(msgspec.Struct, frozen=True):
    """What a contender says of itself before it is measured, see `contenders/contender.py`."""

    runs: int
    start: float
    rss: int
    versions: dict[str, str]


class Pass(msgspec.Struct, frozen=True):
    """What a contender says of one measured pass, see `contenders/contender.py`."""

    runs: int
    cpu: float
    wall: float
    tool_calls: int
    wrong: int
    failed: int
    pieces: int
    reason: str
    rss: int


class Turn(msgspec.Struct, frozen=True):
    """One turn's figures.

    Attributes:
        ready: what came first.
        passes: those that were measured.
        connections: that the server accepted in each pass.
        complaints: what was not as it should be, each in one line; of all passes.
    """

    ready: Ready
    passes: tuple[Pass, ...]
    connections: tuple[int, ...]
    complaints: tuple[str, ...]


class Unmeasured(Exception):
    """A contender ended or took too long before it was measured; the text says why, in one line."""


def complaints(
    before: Stats,
    after: Stats,
    said: Pass,
    *,
    pieces: int | None = None,
    bound: int | None = None,
    answers_by_call: bool = False,
) -> list[str]:
    """What was not as it should be in one pass; empty when it is valid.

    Args:
        before: the server's counts.
        after: the same, after the pass.
        said: what the contender says it did.
        pieces: of text in each streamed answer; None, not streamed.
        bound: on new connections; None for no bound.
        answers_by_call: each run's answer is one more tool call, so the server sees no conversation finish.
    """
    runs = said.runs

    def served(name: str) -> int:
        return getattr(after, name) - getattr(before, name)

    wanted = [
        ("requests at the server", served("requests"), REQUESTS * runs),
        ("requests answered to the end", served("ok"), REQUESTS * runs),
        ("tool calls asked for", served("tool_calls"), (TOOL_CALLS + answers_by_call) * runs),
        ("tool calls made", said.tool_calls, TOOL_CALLS * runs),
        ("conversations finished", served("conversations_finished"), 0 if answers_by_call else runs),
        ("right answers", runs - said.wrong - said.failed, runs),
    ]
    if pieces is not None:
        wanted.append(("pieces of text", said.pieces, pieces * runs))
    found = [f"{count:,} {what} instead of {right:,}" for what, count, right in wanted if count != right]
    # The server tells runs apart by a checksum of 32 bits of their prompt, so two of very many may look the same.
    if (different := served("runs_started")) < runs * 0.99:
        found.append(f"{different:,} different runs at the server instead of {runs:,}")
    if bound is not None and (opened := new_connections(before, after)) > bound:
        found.append(f"{opened:,} connections for at most {bound:,} runs in flight")
    if found and said.reason:
        found.append(said.reason)
    return found


def new_connections(before: Stats, after: Stats) -> int:
    """Connections that the contender opened between two looks at the counts, the second of which was one itself."""
    return after.connections - before.connections - 1


async def take_turn(
    command: Sequence[str | Path],
    server: SimulatedServer,
    *,
    repeats: int,
    timeout: float,
    pieces: int | None = None,
    bound: int | None = None,
    answers_by_call: bool = False,
    environment: dict[str, str] | None = None,
) -> Turn:
    """Start a contender, let it get ready, measure its passes, end it.

    Args:
        command: the interpreter, the script and its options as JSON.
        server: that the options name.
        repeats: measured passes.
        timeout: seconds for all of it.
        pieces, bound, answers_by_call: see `complaints`.
        environment: variables besides ours.

    Raises:
        Unmeasured: it ended or took too long; nothing of its process is left.
    """
    with tempfile.TemporaryFile() as stderr:
        try:
            with anyio.fail_after(timeout):
                async with _started(command, stderr, environment or {}) as (process, lines):
                    ready = msgspec.json.decode(await lines.receive_until(b"\n", _LINE), type=Ready)
                    passes: list[Pass] = []
                    opened: list[int] = []
                    found: list[str] = []
                    for _ in range(repeats):
                        before = await server.stats()
                        await _go(process)
                        said = msgspec.json.decode(await lines.receive_until(b"\n", _LINE), type=Pass)
                        after = await server.stats()
                        passes.append(said)
                        opened.append(new_connections(before, after))
                        found += complaints(
                            before, after, said, pieces=pieces, bound=bound, answers_by_call=answers_by_call
                        )
                    return Turn(ready, tuple(passes), tuple(opened), tuple(dict.fromkeys(found)))
        except TimeoutError:
            raise Unmeasured(f"took more than {timeout:.0f} s") from None
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, msgspec.DecodeError):
            raise Unmeasured(_last_words(stderr)) from None


async def _go(process: Process) -> None:
    assert process.stdin is not None
    await process.stdin.send(b"go\n")


@asynccontextmanager
async def _started(
    command: Sequence[str | Path], stderr: IO[bytes], environment: dict[str, str]
) -> AsyncGenerator[tuple[Process, BufferedByteReceiveStream]]:
    # The server is here, whatever proxies there may be for others; and nobody's own folder of packages interferes.
    ours = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONNOUSERSITE": "1"}
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(part) for part in command]
    process = await anyio.open_process(
        words, stdin=PIPE, stdout=PIPE, stderr=stderr, env=inherited | ours | environment
    )
    try:
        assert process.stdout is not None
        yield process, BufferedByteReceiveStream(process.stdout)
    finally:
        # Contenders with threads or atexit reports may take their time, and have nothing more to tell.
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


def _last_words(stderr: IO[bytes]) -> str:
    """The line in which the contender says why it ended, on its standard error."""
    stderr.seek(0)
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:300] if lines else "it ended and said nothing"
