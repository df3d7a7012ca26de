"""Runs a command in the folder of a workspace, to its end or to the end of its time.

A command has a clean environment, an empty standard input, and a time. What it prints, on standard output and error in
the order in which it came, is kept as far as a model reads. When it ends, for whatever reason, all that it has started
ends with it: see `guard`.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import anyio
from msgspec import Struct

from ...loops import RunningLoop
from .command import Command
from .output import Output
from .root import Root

#: Is given what a command prints, as text, a piece at a time.
Tell: TypeAlias = Callable[[str], Any]

#: Seconds between two such pieces.
PAUSE = 0.5
#: What is passed on of our own environment; the rest may be keys.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")


class Terms(Struct, frozen=True):
    """What commands run under.

    Attributes:
        root: the workspace's folder, which they begin in.
        environment: all of their environment.
        timeout: seconds for a command that asks for none, and those that it may ask for.
        grace: seconds between SIGTERM and SIGKILL.
        most: bytes that are kept of what one prints.
    """

    root: Root
    environment: Mapping[str, str]
    timeout: float
    longest: float
    grace: float
    most: int

    def __repr__(self) -> str:  # the environment may have keys in it
        return f"Terms(timeout={self.timeout:g}, longest={self.longest:g}, grace={self.grace:g}, most={self.most})"


class Outcome(Struct, frozen=True):
    """How a command came out.

    Attributes:
        text: what it has printed.
        ended: how it has ended; None where its time was over before.
        notes: what else the model should know.
    """

    text: str
    ended: str | None
    notes: tuple[str, ...] = ()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of commands: a few variables of ours that are no secrets, and those that were given."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed, "TERM": "dumb", **more}


def find_shell(path: str) -> str:
    """The shell that commands are for: bash where there is one, for that is what models write; else sh."""
    return shutil.which("bash", path=path) or "/bin/sh"


def start(loop: RunningLoop, argv: list[str], terms: Terms, *, talks: bool = False) -> Command:
    """Start a program in the folder of the workspace."""
    folder = terms.root.duplicate()
    try:
        return Command(loop, argv, folder=folder, environment=terms.environment, grace=terms.grace, talks=talks)
    finally:
        os.close(folder)


async def run_once(
    loop: RunningLoop, program: str, terms: Terms, text: str, seconds: float, tell: Tell | None = None
) -> Outcome:
    """Run a command in a shell of its own, for so many seconds at most."""
    return await run_command(loop, [program, "-c", "--", text], terms, seconds, tell)


async def run_command(
    loop: RunningLoop, argv: list[str], terms: Terms, seconds: float, tell: Tell | None = None
) -> Outcome:
    """Run a program to its end, for so many seconds at most, and `tell` what it prints meanwhile.

    Raises:
        OSError: it cannot be started.
        Refused: the workspace is closed.
    """
    output = Output(terms.most)
    command = start(loop, argv, terms)
    try:
        with anyio.move_on_after(seconds) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(command.collect, output)
                if tell is not None:
                    group.start_soon(follow, output, tell)
                await command.gone()
                group.cancel_scope.cancel()
    finally:
        await command.end(output)
    told = command.told
    notes = survivors_of(told.survived)
    if told.left:
        notes = (f"{_processes(told.left)} that it had left running {'were' if told.left > 1 else 'was'} ended", *notes)
    return Outcome(output.text(), how_it_ended(command, scope.cancelled_caught), notes)


async def follow(output: Output, tell: Tell) -> None:
    """Tell what comes, every so often. What comes last is in the result alone, and so is all that ends soon."""
    while True:
        await anyio.sleep(PAUSE)
        if news := output.news():
            tell(news)


def how_it_ended(command: Command, timed_out: bool) -> str | None:
    """How a command came to its end, in words; None where its time was over."""
    if command.by_itself:
        return words_of(command.told.exit, command.told.signal)
    return (
        None if timed_out else "it has killed the process that watches over it, and was ended with what could be found"
    )


def words_of(code: int | None, number: int | None) -> str:
    """How a command has ended, by its exit status or the signal that has ended it."""
    if code is not None or number is None:
        return f"exit status {code}"
    try:
        return f"ended by signal {number} ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return f"ended by signal {number}"


def _processes(count: int) -> str:
    return f"{count} processes" if count > 1 else "a process"


def survivors_of(pids: tuple[int, ...]) -> tuple[str, ...]:
    """What is said of processes that could not be killed."""
    return (f"could not be killed: {', '.join(map(str, pids))}",) if pids else ()
