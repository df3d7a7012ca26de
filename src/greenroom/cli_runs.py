"""``greenroom runs``: the runs in a journal's file.

What looks at them only reads the file, so it may be used beside a service that works with it. What changes them opens
it as a System does.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Annotated, Literal, TypeAlias

from cyclopts import App, Parameter
from cyclopts.validators import Number

from .cli_loop import run_interruptible
from .cli_run import Misuse
from .cli_runs_find import Status
from .cli_runs_list import list_runs
from .cli_runs_show import show_run, tail_run
from .cli_runs_work import prune_runs, resume_runs, stop_run

Flag: TypeAlias = Annotated[bool, Parameter(negative=(), show_default=False)]

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

runs = App(name="runs", help="Look at the runs in a journal's file, go on with them, end them.")


@runs.command(name="list")
def list_(
    file: str,
    /,
    *,
    all: Flag = False,
    status: Annotated[list[Status] | None, Parameter(consume_multiple=True, negative=())] = None,
    conversation: str | None = None,
    subagents: Flag = False,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 50,
    json: Flag = False,
) -> int:
    """List the runs that have not ended, newest first.

    Args:
        file: The journal.
        all: Also those that have ended.
        status: Only those that stand so; several may be named.
        conversation: Only those of this conversation.
        subagents: Also the runs that work for another one.
        limit: How many at most.
        json: As JSON.
    """
    listing = partial(
        list_runs,
        file,
        everything=all,
        statuses=status or (),
        conversation_id=conversation,
        subagents=subagents,
        limit=limit,
        as_json=json,
    )
    return run_interruptible(listing, "asyncio")


@runs.command
def show(file: str, id: str, /, *, json: Flag = False, messages: Flag = False) -> int:
    """Show what happened in a run, subagents included.

    Args:
        file: The journal.
        id: The run, or how its id begins.
        json: As JSON.
        messages: The conversation instead, in full.
    """
    return run_interruptible(partial(show_run, file, id, as_json=json, messages=messages), "asyncio")


@runs.command
def tail(file: str, id: str, /) -> int:
    """Show what happened in a run, and what happens, until it ends.

    Args:
        file: The journal.
        id: The run, or how its id begins.
    """
    return run_interruptible(partial(tail_run, file, id), "asyncio")


@runs.command(usage="Usage: greenroom runs resume FILE ID... --agents MODULE:AGENT... [OPTIONS]")
def resume(
    file: str,
    /,
    *ids: str,
    agents: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> int:
    """Go on with runs whose process has ended, or that are parked.

    Their answers are printed. Ctrl-C lets them finish the step at hand, and they
    can be resumed again. What needs dependencies or a policy is for a program to
    resume, with system.recover().

    Args:
        file: The journal.
        ids: The runs, or how their ids begin.
        agents: Whose runs they are, each as module:agent, from the current directory or installed.
        backend: The event loop.
    """
    return resume_runs(file, ids, agents, backend)


@runs.command
def stop(file: str, id: str, /, *, reason: str = "user", force: Flag = False) -> int:
    """End a run that nobody has at work, with its subagents.

    Args:
        file: The journal.
        id: The run, or how its id begins.
        reason: Is written down as why it ended.
        force: Also where a process has it at work; that process is told at the run's next step.
    """
    if not reason.strip():
        raise Misuse("--reason: must not be empty")
    return run_interruptible(partial(stop_run, file, id, reason, force), "asyncio")


@runs.command
def prune(file: str, /, *, older_than: str) -> int:
    """Forget runs that have ended, with their subagents.

    Args:
        file: The journal.
        older_than: How long ago they ended at least: a number of s, m, h, d or w, such as 30d.
    """
    return run_interruptible(partial(prune_runs, file, seconds_in(older_than)), "asyncio")


def seconds_in(text: str) -> float:
    """The seconds that a text such as ``30d`` means.

    Raises:
        Misuse: it means none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else math.inf
    if not math.isfinite(seconds):
        raise Misuse(f"--older-than: {text!r} is no length of time; write a number of s, m, h, d or w, such as 30d")
    return seconds
