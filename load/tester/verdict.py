"""What a load report says in one sentence: for who has five seconds.

Only what the figures themselves show is judged: whether the test came to its end, whether runs failed, whether
something makes the figures doubtful. Whether a latency is good is for the reader to say, who knows what it is for.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .results import LoadReport
from .units import number, seconds, share

#: Share of failed runs above which a test has gone badly.
BAD = 0.01
#: Runs below which nothing is said of the slowest hundredth.
FEW = 100

#: Outcomes of runs that came to an end of their own.
ENDED = ("completed", "failed", "limited", "stopped")


class Verdict(msgspec.Struct, frozen=True):
    """How a test went.

    Attributes:
        tone: ``good``, ``caution`` (read on before you use the figures) or ``bad`` (they are mostly of failures, or of
            nothing).
        headline: the most important thing, in a few words.
        words: the figures that most readers come for, in a sentence or two.
    """

    tone: Literal["good", "caution", "bad"]
    headline: str
    words: str


def judge(report: LoadReport) -> Verdict:
    """How the test went."""
    ended = sum(report.runs.get(name, 0) for name in ENDED)
    failed = report.runs.get("failed", 0)
    interrupted = report.ended_by == "interrupted"
    stop = f"Interrupted after {seconds(report.seconds)}" if interrupted else ""
    if not ended:
        nothing = "No run ended in the measured window"
        return Verdict("bad", f"{stop}: {nothing[0].lower()}{nothing[1:]}" if stop else nothing, _unfinished(report))
    words = " ".join(each for each in (_pace(report), _spread(report)) if each)
    if failed:
        headline = f"{share(report.failures)} of runs failed ({number(failed)} of {number(ended)})"
        tone = "bad" if report.failures > BAD else "caution"
        return Verdict(tone, f"{stop}. {headline}" if stop else headline, words)
    completed = report.runs.get("completed", 0)
    all_well = (
        f"{_runs(ended)} ended, none failed"
        if completed != ended
        else f"All {number(ended)} runs completed"
        if ended > 1
        else "One run, completed"
    )
    if interrupted:
        return Verdict("caution", f"{stop}, none failed", words)
    if report.warnings:
        which = "the warning" if len(report.warnings) == 1 else f"the {len(report.warnings)} warnings"
        return Verdict("caution", f"{all_well}, but read {which} first", words)
    return Verdict("good", all_well, words)


def _pace(report: LoadReport) -> str:
    at_once = f"at most {number(report.peak_in_flight)} at once"
    return f"{number(report.runs_per_second)} runs ended per second, {at_once}."


def _spread(report: LoadReport) -> str:
    spread = report.run_latency
    if spread is None:
        return ""
    if spread.count == 1:
        return f"It took {seconds(spread.maximum)}."
    if spread.count < FEW:
        return f"Half of them took at most {seconds(spread.p50)}, the slowest {seconds(spread.maximum)}."
    return f"Half of them took at most {seconds(spread.p50)}, 99 of 100 at most {seconds(spread.p99)}."


def _unfinished(report: LoadReport) -> str:
    begun = report.runs.get("cut", 0)
    waiting = report.runs.get("never_begun", 0)
    if not begun and not waiting:
        return "None had begun."
    return f"{_runs(begun)} had begun, {number(waiting)} waited to begin."


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{number(count)} runs"
