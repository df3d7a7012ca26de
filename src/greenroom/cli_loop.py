"""One event loop for one command, ended in order by Ctrl-C on asyncio and on trio.

A signal cancels the command's scope, so that everything in it is closed in order: runs, connections, the simulated
server. A second signal finds the usual treatment again. Where signals cannot be received (an event loop of Windows, a
thread that is not the main one) Ctrl-C is the plain `KeyboardInterrupt` that it always was.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

T = TypeVar("T")


class Interrupted(Exception):
    """A signal ended the command; `status` is what the process should exit with, `by_key` whether it was Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        self.status = 128 + number
        self.by_key = number == signal.SIGINT


def run_interruptible(command: Callable[[], Awaitable[T]], backend: str) -> T:
    """Run `command` to its end and return what it returns.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGHUP came; the command was cancelled and has ended.
    """
    return anyio.run(partial(_run, command), backend=backend)


def _ending() -> list[signal.Signals]:
    """What ends a command. That its terminal has gone does not, where `nohup` or the like has it ignored."""
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    heeds = hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([hangup] if hangup is not None and heeds else [])]


async def _run(command: Callable[[], Awaitable[T]]) -> T:
    results: list[T] = []
    failure: Exception | None = None
    received = 0

    async def watch() -> None:
        nonlocal received
        try:
            with anyio.open_signal_receiver(*_ending()) as signals:
                async for number in signals:
                    received = number
                    group.cancel_scope.cancel()
                    return
        except (NotImplementedError, RuntimeError, ValueError):
            pass  # see above

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            results.append(await command())
        except Exception as error:
            failure = error  # it leaves bare, not wrapped in this group
        group.cancel_scope.cancel()
    if received:
        raise Interrupted(received)
    if failure is not None:
        raise failure
    return results[0]
