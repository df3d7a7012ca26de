"""What a crash demo found, as the lines of a table."""

from __future__ import annotations

from .crash_account import Account, Life
from .crash_orders import TURNS
from .demo_crash import CrashReport
from .report import versions


def crash_rows(report: CrashReport) -> list[tuple[str, str]]:
    """The table: label and value of each line."""
    found, lives, server = report.account, report.lives, report.server
    calls, effects, requests = found.calls, found.effects, found.requests
    answered = f"{found.answered_twice:,} had been answered, and not recorded"
    repeats = f"{requests['keyed'] - effects['keyed']:,} repeated requests, known by their key"
    unknown = f"{found.unknown:,} of unknown outcome, and the model was told: {found.took_effect:,} had theirs"
    file = f"the file {report.file / 1e6:.1f} MB"
    return [
        ("runs", _runs(found, lives)),
        ("killed", _kills(found, lives)),
        ("resumed", _resumed(lives)),
        ("completed", f"{found.statuses['completed']:,}"),
        ("not completed", _not_completed(found)),
        ("lost", f"{found.lost:,}"),
        ("doubled", f"{found.doubled:,}"),
        ("model calls", f"{found.recorded:,} recorded, {found.repeated:,} of them repeated"),
        ("in flight", f"{found.asked_again:,} model calls, asked again ({answered})"),
        ("", f"{found.in_flight:,} tool calls"),
        ("safe tools", f"{calls['safe']:,} calls, run {requests['safe']:,} times"),
        ("keyed tools", f"{calls['keyed']:,} calls, {effects['keyed']:,} effects ({repeats})"),
        ("never tools", f"{calls['never']:,} calls, {effects['never']:,} effects ({unknown})"),
        ("requests, server", f"{server.requests:,} (ok {server.ok:,}; {found.tries:,} tries failed)"),
        ("counts", "journal, server and effects agree" if not found.disagreements else "DO NOT AGREE"),
        ("journal", f"{report.journal / max(found.runs, 1):,.0f} bytes per run; {file}"),
        ("duration", f"{report.seconds:.1f} s"),
        ("backend", f"{report.backend}, on {versions(report.backend)}"),
    ]


def _runs(found: Account, lives: tuple[Life, ...]) -> str:
    in_flight = ", ".join(f"{life.unfinished:,}" for life in lives[1:])
    return f"{found.runs:,}" + (f" ({in_flight} in flight when their process was killed)" if in_flight else "")


def _kills(found: Account, lives: tuple[Life, ...]) -> str:
    marks = [f"{life.answers:,}" for life in lives if life.answers is not None]
    if not marks:
        return "0 processes"
    word = "processes" if len(marks) > 1 else "process"
    return f"{len(marks)} {word}, after {', '.join(marks)} of {found.runs * TURNS:,} answers"


def _resumed(lives: tuple[Life, ...]) -> str:
    later = lives[1:]
    if not later:
        return "0"
    counts = ", ".join(f"{life.runs:,} of {life.unfinished:,}" for life in later)
    seconds, gap = max(life.seconds for life in later), max(life.gap for life in later)
    at_most = "at most " if len(later) > 1 else ""
    return f"{counts} in {at_most}{seconds:.2f} s ({at_most}{gap:.1f} s after the kill)"


def _not_completed(found: Account) -> str:
    others = {each: number for each, number in sorted(found.statuses.items()) if each not in ("completed", "lost")}
    words = ", ".join(f"{each} {number:,}" for each, number in others.items())
    return f"{sum(others.values()):,}" + (f" ({words})" if words else "")
