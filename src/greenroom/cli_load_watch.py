"""How a load test is watched and ended from a terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from .cli_loop import Interrupted
from .load.tester import Progress as Stand
from .load.tester.progress import line_of

T = TypeVar("T")

#: Seconds between two lines where standard error is no terminal, and between two pictures where it is one. A picture
#: takes milliseconds, which are the tester's own.
PLAIN_INTERVAL = 2.0
LIVE_INTERVAL = 0.5


def run_stoppable(command: Callable[..., Awaitable[T]], backend: str) -> tuple[T, int]:
    """Run `command` with ``until=`` an event, which the first SIGINT or SIGTERM sets.

    Args:
        command: a coroutine function.
        backend: ``asyncio``, ``uvloop`` or ``trio``.

    Returns:
        What it returns, and the signal, 0 for none.

    Raises:
        Interrupted: a second signal came; the command was cancelled and has ended.
    """
    options = {"use_uvloop": True} if backend == "uvloop" else {}
    name = "asyncio" if backend == "uvloop" else backend
    return anyio.run(partial(_run, command), backend=name, backend_options=options)


async def _run(command: Callable[..., Awaitable[T]]) -> tuple[T, int]:
    until = anyio.Event()
    results: list[T] = []
    failure: Exception | None = None
    received: list[int] = []

    async def watch() -> None:
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for number in signals:
                    received.append(number)
                    if len(received) > 1:
                        group.cancel_scope.cancel()
                        return
                    print("greenroom: ending the test; once more to end at once", file=sys.stderr, flush=True)
                    until.set()
        except (NotImplementedError, RuntimeError, ValueError):
            pass  # an event loop of Windows, or another thread: Ctrl-C is what it always was

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            results.append(await command(until=until))
        except Exception as error:
            failure = error  # it leaves bare, not wrapped in this group
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not results:
        raise Interrupted(received[-1])
    return results[0], received[0] if received else 0


@contextmanager
def watching() -> Generator[Callable[[Stand], None]]:
    """What shows how a test goes: a bar and a line on a terminal, else a plain line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _seldom(PLAIN_INTERVAL, lambda stand: print(line_of(stand), file=sys.stderr, flush=True), at_once=False)
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    task = bar.add_task("load", total=1.0)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def draw(stand: Stand) -> None:
            bar.update(task, completed=stand.share, description=stand.phase)
            live.update(Group(bar, Text(line_of(stand), style="dim")), refresh=True)

        yield _seldom(LIVE_INTERVAL, draw, at_once=True)


def _seldom(interval: float, show: Callable[[Stand], None], *, at_once: bool) -> Callable[[Stand], None]:
    """`show`, called at most once in so many seconds; the first time at once, or an interval after the beginning."""
    shown = 0.0 if not at_once else -interval  # seconds of the test

    def watch(stand: Stand) -> None:
        nonlocal shown
        if stand.at - shown >= interval:
            shown = stand.at
            # Whoever read it may have gone, which must not cost the test.
            with suppress(OSError):
                show(stand)

    return watch
