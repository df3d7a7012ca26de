"""A shell that stays: one process for all commands of a run.

The working directory and variables go on from one command to the next, and so do jobs in the background. The shell
reads its commands from a pipe, and says over another one, which the commands do not have, how each has ended, with a
word that is new each time: nothing that a command prints can look like its end.

One command runs at a time. A command that does not end in time, or is given up, takes the shell with it, since nobody
could tell what state it is in; the next one begins in a new shell and says so.
"""

from __future__ import annotations

import shlex
from secrets import token_hex

import anyio

from ...loops import RunningLoop
from .command import Command
from .output import Output
from .running import Outcome, Terms, how_it_ended, start, survivors_of, words_of

#: Bytes that are kept of what came over the pipe for ends.
_MOST_STATUS = 4096


class Session:
    """The shell of one run, started with its first command. Close it in the task group that it was made in."""

    def __init__(self, loop: RunningLoop, program: str, terms: Terms) -> None:
        self._loop = loop
        self._program = program
        self._terms = terms
        self._turn = anyio.Lock()
        self._shell: Command | None = None
        #: Of the command that runs.
        self._scope = anyio.CancelScope()

    async def run(self, text: str, seconds: float) -> Outcome:
        """Run a command in the shell, after those before it.

        Raises:
            OSError: the shell cannot be started.
            Refused: the workspace is closed.
        """
        async with self._turn:
            output = Output(self._terms.most)
            notes: tuple[str, ...] = ()
            if self._shell is None:
                flags = ["--noprofile", "--norc"] if self._program.endswith("bash") else []
                self._shell = start(self._loop, [self._program, *flags], self._terms, talks=True)
                notes = ("it ran in a new shell",)
            shell = self._shell
            code: int | None = None
            try:
                with anyio.move_on_after(seconds) as scope:
                    self._scope = scope
                    code = await self._ask(shell, text, output)
            finally:
                if code is None:
                    self._shell = None
                    await shell.end(output)
            if code is not None:
                shell.drain(output)
                return Outcome(output.text(), words_of(code, None), notes)
            ended = how_it_ended(shell, scope.cancelled_caught)
            if ended is not None:
                notes = (*notes, "that was the end of the shell too: the next command begins in a new one")
            return Outcome(output.text(), ended, (*notes, *survivors_of(shell.told.survived)))

    async def _ask(self, shell: Command, text: str, output: Output) -> int | None:
        """Have the shell run a command; its exit status, or None where the shell has ended."""
        word = token_hex(16)
        line = f"{{ eval {shlex.quote(text)}\n}} </dev/null 9>&-; printf '%s %s\\n' {word} \"$?\" >&9\n"
        code: int | None = None
        async with anyio.create_task_group() as group:

            async def hear_status() -> None:
                nonlocal code
                code = await self._status(shell, word)
                if code is not None:  # else it ends, which its guard will say
                    group.cancel_scope.cancel()

            async def hear_end() -> None:
                await shell.ended()
                group.cancel_scope.cancel()

            group.start_soon(shell.collect, output)
            group.start_soon(hear_status)
            group.start_soon(hear_end)
            try:
                await shell.write(line.encode())
            except BrokenPipeError:  # the same
                pass
        return code

    async def _status(self, shell: Command, word: str) -> int | None:
        heard = b""
        with self._loop.outside:
            while data := await shell.read(shell.status):
                heard = (heard + data)[-_MOST_STATUS:]
                for line in heard.split(b"\n")[:-1]:
                    if line.startswith(word.encode()):
                        return int(line.split()[1])
        return None

    async def close(self) -> None:
        """End the shell with all that it has started.

        What closes the workspace cancels the command that runs, too, in one order or the other; it has the shell until
        it has ended it.
        """
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if self._shell is not None:
                    await self._shell.end()
                    self._shell = None
