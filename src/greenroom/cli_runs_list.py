"""``greenroom runs list``: the runs in a journal's file, one line each.

A run that cannot be read is listed too, as damaged, and said to be so on standard error. The table is set for 80
columns, or those of the terminal; where the reader is a program, no id is shortened.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import get_args

import msgspec

from .agents import Archive, Chronicle
from .agents.trace import printable, shortened, tokens_in
from .cli_runs_find import (
    Status,
    columns_of_terminal,
    complain,
    everything_in,
    is_at_work,
    line_for,
    local,
    print_json,
    status,
)
from .journal import BadRecord, Damaged, Listed


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the list."""

    run_id: str
    agent: str | None
    status: Status
    reason: str
    turns: int | None
    tokens: int | None
    cost: float | None
    started_at: datetime
    changed_at: datetime
    seconds: float
    resumptions: int | None
    entries: int
    bytes: int
    parent_id: str | None
    conversation_id: str | None
    user_id: str | None
    process: int | None


async def list_runs(
    file: str,
    *,
    everything: bool,
    statuses: Sequence[Status],
    conversation_id: str | None,
    subagents: bool,
    limit: int,
    as_json: bool,
) -> int:
    """Print the list; returns the exit status: 1 if a run is damaged."""
    async with Archive(file) as archive:
        listed, damage = await everything_in(archive)
        complaints = [str(damage)] if damage is not None else []
        rows: list[Row] = []
        others = 0
        ended = everything or any(each not in _UNFINISHED for each in statuses)
        for each in reversed(listed):
            if (each.parent_id is not None and not subagents) or (
                conversation_id is not None and each.conversation_id != conversation_id
            ):
                continue
            if len(rows) == limit or (each.finished and not ended):
                others += 1
                continue
            row, complaint = await _row(archive, each)
            if complaint is not None:
                complaints.append(complaint)
            if not statuses or row.status in statuses:
                rows.append(row)
            else:
                others += 1
    if as_json:
        print_json(rows)
    elif rows:
        print("\n".join(_table(rows)))
    else:
        print("no runs" if not others else "no such runs" if ended or conversation_id else "no unfinished runs")
    sys.stdout.flush()
    if others and not as_json:
        how = "raise --limit" if len(rows) == limit else "drop --status" if statuses else "--all shows them"
        print(f"{others:,} {'more' if rows else 'others'} not shown: {how}", file=sys.stderr)
    return complain(complaints)


_UNFINISHED = ("running", "interrupted", "suspended", "paused", "parked")
assert set(_UNFINISHED) < set(get_args(Status))


async def _row(archive: Archive, listed: Listed) -> tuple[Row, str | None]:
    try:
        chronicle = Chronicle(await archive.read(listed.run_id))
    except (Damaged, BadRecord, msgspec.ValidationError) as error:
        return _make_row(listed, None), line_for(error, listed.run_id)
    return _make_row(listed, chronicle), None


def _make_row(listed: Listed, chronicle: Chronicle | None) -> Row:
    began = chronicle.began if chronicle is not None else None
    at_work = chronicle is not None and is_at_work(listed, chronicle)
    until = time.time() if at_work else listed.changed_at
    return Row(
        run_id=listed.run_id,
        agent=began.agent if began is not None else None,
        status=status(listed, chronicle) if chronicle is not None else "damaged",
        reason=chronicle.reason if chronicle is not None else "",
        turns=chronicle.turns if chronicle is not None else None,
        tokens=tokens_in(chronicle.usage) if chronicle is not None else None,
        cost=chronicle.cost if chronicle is not None else None,
        started_at=local(listed.created_at),
        changed_at=local(listed.changed_at),
        seconds=max(0.0, until - listed.created_at),
        resumptions=chronicle.resumptions if chronicle is not None else None,
        entries=listed.length,
        bytes=listed.size,
        parent_id=listed.parent_id,
        conversation_id=listed.conversation_id,
        user_id=began.user_id if began is not None else None,
        process=listed.owner.pid if listed.owner is not None and at_work else None,
    )


def _table(rows: Sequence[Row]) -> list[str]:
    cells = [("ID", "AGENT", "STATUS", "TURNS", "TOKENS", "STARTED", "TOOK")]
    for row in rows:
        tokens = f"{row.tokens:,}" if row.tokens is not None else "-"
        turns = str(row.turns) if row.turns is not None else "-"
        started = f"{row.started_at:%Y-%m-%d %H:%M}"
        cells.append((row.run_id, row.agent or "-", row.status, turns, tokens, started, _brief(row.seconds)))
    cells = [tuple(printable(cell) for cell in line) for line in cells]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    room = columns_of_terminal()
    if room is not None:
        for column, least in ((1, 8), (0, 15)):  # agents are shortened before ids
            excess = sum(widths) + 2 * (len(widths) - 1) - room
            if excess > 0:
                widths[column] = max(least, widths[column] - excess)
    return ["  ".join(_set(cell, width, at) for at, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in cells]  # fmt: skip


def _set(cell: str, width: int, column: int) -> str:
    cell = shortened(cell, width)
    return cell.rjust(width) if column in (3, 4, 6) else cell.ljust(width)


def _brief(seconds: float) -> str:
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d{hours % 24}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s"
