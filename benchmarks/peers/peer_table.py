"""From turns to a table: pure functions.

The figure of a contender is its best pass, because noise only ever adds; the spread beside it shows how much there was.
Ratios are of best passes, of one table. A contender that could not be measured, or whose figure does not count, keeps
its row and says why.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from peer_turn import Turn

KIB, MIB = 1024, 1024 * 1024


class Row(msgspec.Struct, frozen=True):
    """What is known of one contender.

    Attributes:
        title: its name, way and backend.
        kind: peer, floor or ours.
        version: of the compared package; empty when it could not be asked.
        turns: one for each round in which it was measured.
        problem: why a turn is missing; empty when none is.
    """

    title: str
    kind: str
    version: str = ""
    turns: tuple[Turn, ...] = ()
    problem: str = ""

    @property
    def costs(self) -> list[float]:
        """CPU ms per run, of each pass."""
        return [each.cpu / each.runs * 1e3 for turn in self.turns for each in turn.passes]

    @property
    def complaints(self) -> list[str]:
        """Why its figures do not count; empty when they do."""
        found = [each for turn in self.turns for each in turn.complaints]
        return list(dict.fromkeys(found + ([self.problem] if self.problem else [])))


class About(msgspec.Struct, frozen=True):
    """What the head of a table says."""

    question: str
    date: str
    python: str
    machine: str
    options: dict[str, str]


COLUMNS = (
    "contender",
    "version",
    "runs",
    "CPU ms per run",
    "spread",
    "x greenroom",
    "x httpx on our transport",
    "new connections",
    "start s",
    "RSS MB",
    "KiB per run in flight",
    "valid",
)


def kib_per_run(turn: Turn, in_flight: int) -> float | None:
    """Memory that the first pass took beyond that of the service at rest, for each run in flight; None: not known."""
    first = turn.passes[0]
    if not turn.ready.rss or not first.rss:
        return None
    return max(0, first.rss - turn.ready.rss) / KIB / min(in_flight, first.runs)


def cells(row: Row, in_flight: int, greenroom: Row | None, floor: Row | None) -> list[str]:
    """One line of the table."""
    costs, found = row.costs, row.complaints
    valid = f"no: {'; '.join(found)}" if found else "yes"
    if not costs:
        return [row.title, row.version or "-", *["-"] * (len(COLUMNS) - 3), valid]
    best = min(costs)

    def against(other: Row | None) -> str:
        return f"{best / min(other.costs):.2f}" if other and other.costs else "-"

    memory = [each for turn in row.turns if (each := kib_per_run(turn, in_flight)) is not None]
    peak = max(each.rss for turn in row.turns for each in turn.passes)
    return [
        row.title,
        row.version,
        f"{min(each.runs for turn in row.turns for each in turn.passes):,}",
        f"{best:.2f}",
        f"{best:.2f}-{max(costs):.2f}",
        against(greenroom),
        against(floor),
        f"{max(count for turn in row.turns for count in turn.connections):,}",
        f"{min(turn.ready.start for turn in row.turns):.2f}",
        f"{peak / MIB:.0f}" if peak else "-",
        f"{min(memory):.0f}" if memory else "-",
        valid,
    ]


def in_order(rows: Sequence[Row], in_flight: int, by_memory: bool) -> list[Row]:
    """The cheapest first; who has no figure comes last."""

    def cost(row: Row) -> float:
        if by_memory:
            return min([each for t in row.turns if (each := kib_per_run(t, in_flight)) is not None], default=1e12)
        return min(row.costs, default=1e12)

    return sorted(rows, key=cost)


def table(
    about: About,
    rows: Sequence[Row],
    *,
    in_flight: int,
    greenroom: Row | None = None,
    floor: Row | None = None,
    by_memory: bool = False,
    markdown: bool = False,
) -> str:
    """The whole, as text or as Markdown.

    Args:
        about: its head.
        rows: in any order.
        in_flight: as asked for.
        greenroom: the row that `x greenroom` divides by.
        floor: the row that `x httpx on our transport` divides by.
        by_memory: sort by memory per run in flight instead of CPU.
        markdown: as in a README.
    """
    lines = [cells(row, in_flight, greenroom, floor) for row in in_order(rows, in_flight, by_memory)]
    options = ", ".join(f"{name} {value}" for name, value in about.options.items())
    head = [about.question, f"{about.date}, {about.python}, {about.machine}", options, ""]
    if markdown:
        rule = [":---", ":---", *["---:"] * (len(COLUMNS) - 3), ":---"]
        return "\n".join([*head, *("| " + " | ".join(each) + " |" for each in (COLUMNS, rule, *lines))])
    widths = [max(len(line[column]) for line in (COLUMNS, *lines)) for column in range(len(COLUMNS))]
    for line in (COLUMNS, *lines):
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[2:-1], widths[2:-1], strict=True)]
        head.append("  ".join([*left, *right, line[-1]]))
    return "\n".join(head)
