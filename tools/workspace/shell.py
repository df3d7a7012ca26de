"""The tool `shell`: what a model may ask for, what it is told it may, and what it is told of a command's end."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ...agents import ModelRetry, RunContext, ToolFailed
from .paths import Refused
from .running import Outcome, Tell, Terms

#: Bytes of a command: what the system takes for one argument, less a little.
LONGEST = 100_000


def shell_with(
    run: Callable[[str, float, Tell | None], Awaitable[Outcome]], terms: Terms, *, stays: bool
) -> Callable[..., Coroutine[Any, Any, str]]:
    """The function of the tool.

    Args:
        run: runs a command for so many seconds, and tells what it prints meanwhile.
        terms: what commands run under.
        stays: whether the shell stays for the next command.
    """

    async def shell(command: str, timeout: float | None = None, context: RunContext[Any] | None = None) -> str:
        """Run a command.

        Args:
            command: the command line, or several lines.
            timeout: seconds after which it is ended.
        """
        seconds = read_timeout(timeout, terms.timeout, terms.longest)
        check_command(command)
        try:
            outcome = await run(command, seconds, context.emit if context is not None else None)
        except OSError as error:
            raise ToolFailed(f"the command could not be started: {error.strerror or error}") from None
        except Refused as error:
            raise ToolFailed(str(error)) from None
        if outcome.ended is None:
            after = f"timed out after {seconds:g} s, and was ended with all that it had started"
            raise ToolFailed(report(outcome, after + ("; the next command begins in a new shell" if stays else "")))
        return report(outcome, outcome.ended)

    return shell


def describe(program: str, *, timeout: float, longest: float, stays: bool) -> str:
    """What a model is told about the tool."""
    kind = (
        "All commands run in one shell, one at a time, so its working directory and variables stay; what runs in the "
        "background goes on until the shell ends."
        if stays
        else "Each command runs in a shell of its own, in the folder of the workspace; what it leaves running in the "
        "background is ended with it."
    )
    return (
        f"Run a command with {os.path.basename(program)}, and get what it prints and how it ended. {kind} Standard "
        f"input is empty. A command is ended after {timeout:g} seconds, unless timeout says otherwise, at most "
        f"{longest:g}."
    )


def check_command(command: str) -> None:
    """Refuse what cannot be run.

    Raises:
        ModelRetry: the text says what to write.
    """
    if not command.strip():
        raise ModelRetry("the command is empty")
    if "\0" in command:
        raise ModelRetry("the command has a NUL character in it: leave it out")
    try:
        length = len(command.encode())
    except UnicodeEncodeError:
        raise ModelRetry("the command has half a surrogate pair in it: leave it out") from None
    if length > LONGEST:
        raise ModelRetry(f"the command has {length:,} bytes, at most {LONGEST:,} can be run: write a file and run that")


def read_timeout(timeout: float | None, usual: float, longest: float) -> float:
    """Seconds that a command has: what was asked for, or the usual ones.

    Raises:
        ModelRetry: they are none, or too many.
    """
    if timeout is None:
        return usual
    if not 0 < timeout <= longest:
        raise ModelRetry(f"timeout must be above 0 and at most {longest:g} seconds, not {timeout:g}")
    return timeout


def report(outcome: Outcome, ended: str) -> str:
    """What a model is told about a command."""
    text = outcome.text
    if text and not text.endswith("\n"):
        text += "\n"
    return f"{text}[{'; '.join((ended, *outcome.notes))}]"
