"""What a crash demo found, as the lines of a table."""

from __future__ import annotations

from .crash_account import Account, Life
from .crash_orders import TURNS
from .demo_crash import CrashReport
from .report import versions


def crash_rows(report: CrashReport) -> list[tuple[str, str]]:
    """The table: label and value of each line."""
    found, lives = report.account, report.lives
    failed = {status: number for status, number in sorted(found.statuses.items()) if status not in ("completed", "lost")}
    words = ", ".join(f"{status} {number:,}" for status, number in failed.items())
    in_flight = ", ".join(f"{life.unfinished:,}" for life in lives[1:])
    return [
        ("runs", f"{found.runs:,}" + (f" ({in_flight} in flight when their process was killed)" if in_flight else "")),
        ("killed", _kills(found, lives)),
        ("resumed", _resumed(lives)),
        ("completed", f"{found.statuses['completed']:,}"),
        ("not completed", f"{sum(failed.values()):,}" + (f" ({words})" if words else "")),
        ("lost", f"{found.lost:,}"),
        ("doubled", f"{found.doubled:,}"),
        ("model calls", f"{found.recorded:,} recorded, {found.repeated:,} of them repeated"),
        (
            "in flight",
            f"{found.asked_again:,} model calls, asked again ({found.answered_twice:,} had been answered, and not recorded)",
        ),
        ("", f"{found.in_flight:,} tool calls"),
        ("safe tools", f"{found.calls['safe']:,} calls, run {found.requests['safe']:,} times"),
        (
            "keyed tools",
            f"{found.calls['keyed']:,} calls, {found.effects['keyed']:,} effects "
            f"({found.requests['keyed'] - found.effects['keyed']:,} repeated requests, known by their key)",
        ),
        (
            "never tools",
            f"{found.calls['never']:,} calls, {found.effects['never']:,} effects "
            f"({found.unknown:,} of unknown outcome, and the model was told: {found.took_effect:,} had theirs)",
        ),
        ("requests, server", f"{report.server.requests:,} (ok {report.server.ok:,}; {found.tries:,} tries failed)"),
        ("counts", "journal, server and effects agree" if not found.disagreements else "DO NOT AGREE"),
        ("journal", f"{report.journal / max(found.runs, 1):,.0f} bytes per run; the file {report.file / 1e6:.1f} MB"),
        ("duration", f"{report.seconds:.1f} s"),
        ("backend", f"{report.backend}, on {versions(report.backend)}"),
    ]


def _kills(found: Account, lives: tuple[Life, ...]) -> str:
    marks = [f"{life.answers:,}" for life in lives if life.answers is not None]
    if not marks:
        return "0 processes"
    return f"{len(marks)} process{'es' if len(marks) > 1 else ''}, after {', '.join(marks)} of {found.runs * TURNS:,} answers"


def _resumed(lives: tuple[Life, ...]) -> str:
    later = lives[1:]
    if not later:
        return "0"
    counts = ", ".join(f"{life.runs:,} of {life.unfinished:,}" for life in later)
    seconds, gap = max(life.seconds for life in later), max(life.gap for life in later)
    at_most = "at most " if len(later) > 1 else ""
    return f"{counts} in {at_most}{seconds:.2f} s ({at_most}{gap:.1f} s after the kill)"
