"""The command line: ``greenroom demo``, ``run``, ``runs``, ``load`` and ``serve``.

A thin skin: it reads arguments, starts an event loop, and turns what comes back into lines and an exit status. 0 is
success; 1 says that what was asked for went wrong; 2 that it could not be understood; 130 that it was interrupted. An
error is one line on standard error, never a traceback.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError, UnusedCliTokensError
from cyclopts.validators import Number

from . import __version__
from .cli_demo import run_crash_demo, run_demo
from .cli_live import is_possible
from .cli_load import load
from .cli_loop import Interrupted
from .cli_run import Answering, Misuse, answer
from .cli_runs import runs
from .cli_serve import serve
from .journal import BadRecord, JournalError
from .load.demo import LATENCY

Backend = Literal["asyncio", "trio"]
Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=Number(gte=1))]

app = App(
    name="greenroom",
    help="Run LLM agents as supervised actors, on asyncio or trio.",
    version=f"greenroom {__version__}",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command(runs)
app.command(load)
app.command(serve)


@app.command
def demo(
    *,
    runs: Count = 1_000,
    backend: Backend = "asyncio",
    faults: Share = 0.05,
    seed: int = 1,
    latency: str = LATENCY,
    crash: Annotated[bool, Parameter(negative=())] = False,
    kills: Count | None = None,
    live: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run many agents at once against a simulated model, with faults, and account for every one.

    Args:
        runs: Agent runs; each makes three model requests, a tenth of them start three subagents.
        backend: The event loop.
        faults: Share of requests (0 to 1) that fail: 429, 500, reset, stall.
        seed: Another seed is another model: other faults and delays.
        latency: Of the simulated model: median, 99th percentile, and time between streamed pieces.
        crash: Kill the process of all runs in the middle, have another one go on with them, and account for every run,
            model call and effect.
        kills: With --crash: how many processes are killed, one after the other; by default one.
        live: Show the supervision tree in the terminal, with keys that kill an actor and stop a run.
    """
    if live and (crash or not is_possible()):
        raise Misuse("--live and --crash are two demos" if crash else "--live needs a terminal to draw on")
    if crash:
        return run_crash_demo(runs=runs, kills=kills or 1, backend=backend, faults=faults, seed=seed, latency=latency)
    if kills is not None:
        raise Misuse("--kills says how often --crash kills; give both")
    return run_demo(runs=runs, backend=backend, faults=faults, seed=seed, latency=latency, live=live)


@app.command
def run(
    prompt: str | None = None,
    /,
    *,
    model: str = "openai:gpt-5-mini",
    base_url: str | None = None,
    key_variable: str | None = None,
    tools: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    mcp: Annotated[list[str] | None, Parameter(negative=())] = None,
    workspace: str | None = None,
    allow: str | None = None,
    yes: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    instructions: str | None = None,
    conversation: str | None = None,
    journal: str | None = None,
    backend: Backend = "asyncio",
    limit_turns: Count = 50,
) -> int:
    """Run one agent: with a prompt for one answer on standard output, without one for a conversation on the terminal.

    Args:
        prompt: What to ask; also from a pipe.
        model: vendor:model, or with --base-url any name; `simulated` needs no key.
        base_url: Another endpoint than the vendor's. It gets no key, unless --key-variable says which.
        key_variable: The environment variable that holds the key.
        tools: Functions that the model may call, as module:function.
        mcp: An MCP server: its command line, or its URL. May be repeated.
        workspace: A folder that the model may read.
        allow: What else it may do there: shell,edit_file.
        yes: Approve every call.
        instructions: The system prompt.
        conversation: Its id: it is kept, and goes on where it was.
        journal: The file to keep it in.
        backend: The event loop.
        limit_turns: Model replies to one prompt, at most.
    """
    asked = Answering(
        prompt=prompt,
        model=model,
        base_url=base_url,
        key_variable=key_variable,
        tools=tuple(tools or ()),
        mcp=tuple(mcp or ()),
        workspace=workspace,
        allow=allow,
        yes=yes,
        instructions=instructions,
        conversation=conversation,
        journal=journal,
        turns=limit_turns,
    )
    return answer(asked, backend)


def main() -> NoReturn:
    """The console command; ends the process with its status."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  # whoever started us has closed it
        # Or what is written there would go to standard output.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a model may say what the terminal cannot show
    sys.exit(status_of(sys.argv[1:]))


def status_of(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit status."""
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.__stdout__ is not None:  # it is None where whoever started us has closed it
            sys.stdout.flush()
        return status or 0
    except CycloptsError as error:
        return _complain(_misread(error, arguments), 2)
    except Misuse as error:
        return _complain(str(error), 2)
    except (JournalError, BadRecord) as error:
        return _complain(" ".join(str(error).split()), 1)
    except Interrupted as interruption:
        return _complain(str(interruption), interruption.status)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        _give_up_output()  # whoever read it has gone
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT) or error.filename is not None:
            raise
        _give_up_output()
        return _complain(f"the output cannot be written: {error.strerror}", 1)


def _misread(error: CycloptsError, arguments: list[str]) -> str:
    """What could not be read of a command line, and what to do."""
    words = " ".join(str(error).split())
    is_run = arguments[:1] == ["run"]
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        words = f"nothing takes {', '.join(map(repr, error.unused_tokens))}"
        return f"{words}: put the whole prompt in quotes" if is_run else words
    if isinstance(error, UnknownOptionError) and is_run:
        given = error.token.value or error.token.keyword or ""
        return f"{words} A prompt that begins with - stands behind -- and in quotes." if _is_prose(given) else words
    return words


def _is_prose(given: str) -> bool:
    return given == "-" or " " in given.strip()


def _give_up_output() -> None:
    """The interpreter must not fail at it once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(words: str, status: int) -> int:
    try:
        print(f"greenroom: {words}", file=sys.stderr)
    except OSError:
        _give_up_output()  # the terminal has gone; the status still says it
    return status
