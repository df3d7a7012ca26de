"""A shell that stays: one process for all commands of a run.

The working directory and variables go on from one command to the next, and so do jobs in the background. The shell
reads its commands from a pipe, and says over another one, which the commands do not have, how each has ended, with a
word that is new each time: nothing that a command prints can look like its end. What the jobs print is read between the
commands too, since a pipe that nobody reads stops whoever writes.

One command runs at a time. A command that does not end in time, or is given up, takes the shell with it, since nobody
could tell what state it is in; the next one begins in a new shell and says so.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex

import anyio
from anyio.abc import TaskGroup

from ...actors.exits import sole
from ...loops import RunningLoop
from .command import Command
from .output import Output
from .paths import Refused
from .running import Outcome, Tell, Terms, follow, how_it_ended, start, survivors_of, words_of

#: Bytes that are kept of what came over the pipe for ends.
_MOST_STATUS = 4096
#: Bytes that jobs may print between two commands. Then they wait for the next: one without end would keep us busy.
MOST_BETWEEN = 100_000_000


class Reader:
    """Reads what a shell prints for as long as it lives, from a descriptor of its own.

    Attributes:
        output: where it goes.
        command: set while a command runs.
    """

    def __init__(self, shell: Command, output: Output) -> None:
        self._shell = shell
        self._scope = anyio.CancelScope()
        self.output = output
        self.command = anyio.Event()

    async def run(self) -> None:
        """Read until nobody can print any more, or it is stopped."""
        if self._scope.cancel_called:  # and the shell's own descriptor is closed
            return
        fd = os.dup(self._shell.output)
        try:
            with self._scope:
                while data := await self._shell.read(fd):
                    self.output.feed(data)
                    if self.output.count > MOST_BETWEEN:
                        await self.command.wait()
        finally:
            os.close(fd)

    def stop(self) -> None:
        """Read no more. To be called before anything is awaited once the shell's own descriptor is closed."""
        self._scope.cancel()


class Said:
    """What the shell says of one command, a line when it begins and a line when it has ended.

    Args:
        word: how these lines begin.

    Attributes:
        has_begun: whether it has.
        code: its exit status; None before it has ended.
    """

    def __init__(self, word: str) -> None:
        self._word = word
        self._heard = b""
        self.has_begun = False
        self.code: int | None = None

    def line(self, text: str) -> str:
        """What the shell reads for a command.

        After an unterminated quote bash takes no word for a reserved one before the next line, so there is an empty
        one. The space keeps a command that begins with a dash from being an option, "command" keeps an error from
        ending a plain sh and passes by functions of these names, and what is in braces is not shown by "set -x".
        """
        begins = f"\n{{ command printf '%s\\n' {self._word} >&9; }} 2>/dev/null; "
        ends = f"{{ command printf '%s %s\\n' {self._word} \"$?\" >&9; }} 2>/dev/null\n"
        return f"{begins}command eval {shlex.quote(f' {text}')} </dev/null 9>&-; {ends}"

    def hear(self, data: bytes) -> None:
        """Take what has come over the pipe."""
        *lines, rest = (self._heard + data).split(b"\n")
        self._heard = rest[-_MOST_STATUS:]
        for line in lines:
            match line.split():
                case [word] if word == self._word.encode():
                    self.has_begun = True
                case [word, code] if word == self._word.encode():
                    self.code = int(code)
                case _:
                    pass


class Session:
    """The shell of one run, started with its first command: see `opened`."""

    def __init__(self, loop: RunningLoop, program: str, terms: Terms, group: TaskGroup) -> None:
        self._loop = loop
        self._program = program
        self._terms = terms
        self._group = group
        self._turn = anyio.Lock()
        self._shell: tuple[Command, Reader] | None = None
        self._is_closed = False
        #: Of the command that runs.
        self._scope = anyio.CancelScope()

    async def run(self, text: str, seconds: float, tell: Tell | None = None) -> Outcome:
        """Run a command in the shell, after those before it.

        Args:
            text: the command.
            seconds: the time that it has.
            tell: is given what it prints, a piece at a time.

        Raises:
            OSError: the shell cannot be started.
            Refused: the workspace is closed.
        """
        async with self._turn:
            notes: tuple[str, ...] = ()
            output = Output(self._terms.most)
            if self._shell is not None:
                *_, reader = self._shell
                outcome = await self._run(text, seconds, tell, notes)
                if outcome is not None:
                    return outcome
                # The shell had ended since the command before: its job, or somebody else, had killed it.
                notes = ("the shell had ended since the command before",)
                output = reader.output
            self._start(output)
            outcome = await self._run(text, seconds, tell, (*notes, "it ran in a new shell"))
            return outcome or Outcome(output.text(), "the shell has ended before the command began", notes)

    def _start(self, output: Output) -> None:
        if self._is_closed:
            raise Refused("the workspace is closed")
        flags = ["--noprofile", "--norc"] if self._program.endswith("bash") else []
        shell = start(self._loop, [self._program, *flags], self._terms, talks=True)
        reader = Reader(shell, output)
        self._shell = shell, reader
        self._group.start_soon(reader.run)

    async def _run(self, text: str, seconds: float, tell: Tell | None, notes: tuple[str, ...]) -> Outcome | None:
        """Run a command in the shell that there is; None where it has ended before the command began."""
        assert self._shell is not None
        shell, reader = self._shell
        output = reader.output
        said = Said(token_hex(16))
        reader.command.set()
        try:
            with anyio.move_on_after(seconds) as scope:
                self._scope = scope
                await self._ask(shell, text, said, output, tell)
        finally:
            if said.code is None:
                await self._end()
        if said.code is not None:
            shell.drain(output)
            reader.output, reader.command = Output(self._terms.most), anyio.Event()
            return Outcome(output.text(), words_of(said.code, None), notes)
        if not said.has_begun and not scope.cancelled_caught:
            return None
        ended = how_it_ended(shell, scope.cancelled_caught)
        if ended is not None:
            notes = (*notes, "that was the end of the shell too: the next command begins in a new one")
        return Outcome(output.text(), ended, (*notes, *survivors_of(shell.told.survived)))

    async def _ask(self, shell: Command, text: str, said: Said, output: Output, tell: Tell | None) -> None:
        """Have the shell run a command, until it has said the exit status or has ended."""
        async with anyio.create_task_group() as group:

            async def hear_status() -> None:
                await self._hear(shell, said)
                if said.code is not None:  # else it ends, which its guard will say
                    group.cancel_scope.cancel()

            async def hear_end() -> None:
                await shell.ended()
                group.cancel_scope.cancel()

            if tell is not None:
                group.start_soon(follow, output, tell)
            group.start_soon(hear_status)
            group.start_soon(hear_end)
            try:
                await shell.write(said.line(text).encode())
            except BrokenPipeError:  # the same
                pass
        if said.code is None:
            said.hear(shell.last_words())

    async def _hear(self, shell: Command, said: Said) -> None:
        with self._loop.outside:
            while said.code is None and (data := await shell.read(shell.status)):
                said.hear(data)

    async def _end(self) -> None:
        """End the shell with all that it has started."""
        if self._shell is not None:
            (shell, reader), self._shell = self._shell, None
            try:
                await shell.end(reader.output)
            finally:  # its descriptor is its own, so nothing has to wait for it
                reader.stop()

    async def close(self) -> None:
        """End the shell with all that it has started.

        What closes the workspace cancels the command that runs, too, in one order or the other; it has the shell until
        it has ended it.
        """
        self._is_closed = True
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            async with self._turn:
                await self._end()


@asynccontextmanager
async def opened(loop: RunningLoop, program: str, terms: Terms) -> AsyncGenerator[Session]:
    """A session for the length of the block, which ends its shell."""
    try:
        async with anyio.create_task_group() as group:
            session = Session(loop, program, terms, group)
            try:
                yield session
            finally:
                await session.close()
    except BaseExceptionGroup as errors:  # what left the block leaves it as it was
        error = sole(errors)
        raise error from error.__cause__
