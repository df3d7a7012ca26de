"""What a listing of all runs says: which there are, and which of them may be forgotten. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..journal import Damaged, Listed
from .frames import Frame, Unreadable, listed, read_meta


class Found(NamedTuple):
    """The last message of a run, without its body.

    Attributes:
        sequence: in the stream.
        subject: where.
        text: the header that says what it is.
    """

    sequence: int
    subject: str
    text: str | None


class Known(NamedTuple):
    """The runs that there are, in the order in which they began.

    Attributes:
        found: their last messages.
        listed: what these say; of each the one at the same place.
        damage: that at least one says nothing that can be read.
    """

    found: Sequence[Found]
    listed: Sequence[Listed]
    damage: Damaged | None


def known_runs(found: Iterable[Found], path: str) -> Known:
    """What these last messages say. A run that has no whole entry yet is none."""
    damage: Damaged | None = None
    runs: list[tuple[int, Found, Listed]] = []
    for each in found:
        try:
            frame = Frame(each.sequence, read_meta(each.text), b"")
        except Unreadable as error:
            damage = damage or Damaged(f"{error} (message {each.sequence} of {each.subject})", path=path)
            continue
        if frame.meta.length:
            runs.append((frame.born, each, listed(frame)))
    runs.sort(key=lambda run: run[0])
    return Known([each for _, each, _ in runs], [each for _, _, each in runs], damage)


def old_families(runs: Sequence[Listed], before: float) -> tuple[list[int], list[int]]:
    """The runs whose families ended before a moment: those that are subagents, and those that are not, by their places.

    Whoever forgets subagents first leaves no subagent without its run, whenever it is interrupted.

    Args:
        runs: all of them, in the order in which they began. A subagent is younger than the run that it works for.
        before: seconds since 1970.
    """
    roots: dict[str, str] = {}
    kept: set[str] = set()
    for run in runs:
        root = roots[run.run_id] = run.run_id if run.parent_id is None else roots.get(run.parent_id, run.run_id)
        if not run.finished or (root == run.run_id and run.changed_at >= before):
            kept.add(root)
    old = [place for place, run in enumerate(runs) if roots[run.run_id] not in kept]
    below = [place for place in old if roots[runs[place].run_id] != runs[place].run_id]
    return below, [place for place in old if roots[runs[place].run_id] == runs[place].run_id]
