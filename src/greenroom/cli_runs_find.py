"""What the commands of ``greenroom runs`` share: finding a run by what was typed, how it stands, how it is printed.

What a model or a tool has said is printed without the characters that would move a terminal's cursor.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

import msgspec

from .agents import Archive, Chronicle
from .agents.trace import printable
from .cli_run import Misuse
from .journal import Damaged, Listed

#: How a run stands: unfinished ones are at work, or their process has died; the others say themselves.
Status: TypeAlias = Literal[
    "running",
    "interrupted",
    "suspended",
    "paused",
    "parked",
    "completed",
    "stopped",
    "limited",
    "waiting",
    "failed",
    "damaged",
]
#: Standings of runs that will do nothing more unless somebody has them go on.
AT_REST = ("suspended", "parked")

#: Ids that are named where several were possible.
NAMED = 3


# -- finding


async def find(archive: Archive, given: str) -> Listed:
    """The run with this id, or the only one whose id begins so; a subagent counts where nothing else does.

    Raises:
        Misuse: there is none, or there are several.
        Damaged: it may be there, but cannot be found.
    """
    listed, damage = await everything_in(archive)
    for each in listed:
        if each.run_id == given:
            return each
    if damage is not None and (damage.run_id is None or damage.run_id == given):
        raise damage
    begin_so = [each for each in listed if given and each.run_id.startswith(given)]
    found = [each for each in begin_so if each.parent_id is None] or begin_so
    if len(found) == 1:
        return found[0]
    if found:
        named = printable(", ".join(each.run_id for each in found[:NAMED]))
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise Misuse(f"several runs begin with {given!r}: {named}{more}")
    near = get_close_matches(given, [each.run_id for each in listed], NAMED)
    hint = (
        f"did you mean {printable(' or '.join(near))}?" if near else "`greenroom runs list --all` shows what there is"
    )
    raise Misuse(f"{archive.path} has no run {given!r}; {hint}")


async def everything_in(archive: Archive) -> tuple[Sequence[Listed], Damaged | None]:
    """The runs that can be listed, and what is wrong with another."""
    try:
        return await archive.runs(), None
    except Damaged as error:
        return error.others, error


def is_at_work(listed: Listed, chronicle: Chronicle) -> bool:
    """Whether a process that runs has it."""
    owner = listed.owner
    return owner is not None and not listed.finished and chronicle.standing not in AT_REST and owner.is_running


def status(listed: Listed, chronicle: Chronicle) -> Status:
    """How a run stands."""
    if is_at_work(listed, chronicle):
        return "running"
    if chronicle.paused and chronicle.standing in ("unfinished", "suspended"):
        return "paused"
    return "interrupted" if chronicle.standing == "unfinished" else chronicle.standing


# -- printing


def complain(complaints: Sequence[str]) -> int:
    """One line each on standard error; returns the exit status."""
    for words in complaints:
        print(f"greenroom: {printable(' '.join(words.split()))}", file=sys.stderr)
    return 1 if complaints else 0


def print_json(value: Any) -> None:
    """A value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def columns_of_terminal() -> int | None:
    """The width of the terminal that is written to; None where it is none, and the reader is a program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def local(at: float) -> datetime:
    """A moment, in the time of this place."""
    return datetime.fromtimestamp(at).astimezone()


def line_for(error: BaseException, run_id: str) -> str:
    """What is wrong with a run, as a line that names it."""
    words = str(error)
    return words if repr(run_id) in words else f"run {run_id!r}: {words}"
