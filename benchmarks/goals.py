"""Are the goals met? Runs what they need from the other files, and prints one table.

Run: python benchmarks/goals.py [--backend asyncio|trio] [--only ask] [--rounds 2] [--json]

A ratio is between two contenders of one file, on one backend, in one run: CPU time, best repeat. What is no ratio is
a count, of which the worst repeat counts, or memory. Each contender has processes of its own, and they take turns.
Takes about seven minutes on a quiet machine. Exits with 1 when a goal is not met.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench_erlang import ABSENT, SUBJECTS, run_erlang
from runner import BACKENDS, in_process

HERE = Path(__file__).parent
BURST = {"count": 10_000, "in_flight": 10_000}
WAVES = {"count": 10_000, "in_flight": 2_000}


class Case(NamedTuple):
    """One contender of one file, with the options it is run with. `column` is the figure that counts: the first one."""

    file: str
    contender: str
    options: tuple[tuple[str, int], ...] = ()
    column: str | None = None

    def figure(self, repeat: Mapping[str, float]) -> float:
        """What counts of one repeat."""
        return next(iter(repeat.values())) if self.column is None else repeat[self.column]


class Goal(NamedTuple):
    """At most `limits` (asyncio, trio) times the `baseline` of the same file; without one, at most that much.

    `unit` is what a figure that is no ratio is counted in; `backends` are where there is such a thing; `column` is the
    figure's name, where it is not the first one.
    """

    what: str
    limits: tuple[float, float]
    file: str
    contender: str
    baseline: str | None = None
    unit: str = ""
    options: Mapping[str, int] = {}
    backends: Sequence[str] = BACKENDS
    column: str | None = None

    def cases(self) -> list[Case]:
        """What has to be run for it."""
        options = tuple(self.options.items())
        names = [self.contender] if self.baseline is None else [self.contender, self.baseline]
        return [Case(self.file, name, options, self.column) for name in names]

    def limit(self, backend: str) -> float:
        return self.limits[BACKENDS.index(backend)]

    def said(self) -> str:
        """The goal in words."""
        limits = [f"{limit:g}" for limit in dict.fromkeys(self.limits)]
        unit = self.unit if self.baseline is None else f"x {self.baseline}"
        return f"<= {' / '.join(limits)} {unit}" if any(self.limits) else f"0 {unit}"


def ratio(what: str, limit: float, file: str, contender: str, baseline: str, **options: int) -> Goal:
    return Goal(what, (limit, limit), file, contender, baseline, options=options)


def none_of(what: str, unit: str, file: str, contender: str, *backends: str, **options: int) -> Goal:
    return Goal(what, (0, 0), file, contender, unit=unit, options=options, backends=backends or BACKENDS)


BY_HAND, MODEL = "by hand", ("bench_provider.py", "OpenAIChat")
RUN, HTTPX = ("bench_run.py", "agent.run in a System"), "httpx by hand"
TO_THE_END, MANY = ("bench_in_flight.py", "system.start, to the end"), {"in_flight": 10_000}
STREAM, PING_PONG, NESTED = "anyio stream", "anyio.Event ping-pong", "nested cancel, each a cleanup"
ONE_MESSAGE, NOTHING = "actor, one message", "tg.start_soon, nothing"

GOALS = [
    ratio("tell, bounded mailbox of 1,024", 0.25, "bench_tell.py", "tell", STREAM),
    ratio("ask", 1.5, "bench_ask.py", "ask", PING_PONG),
    ratio("ask with timeout", 2.5, "bench_ask.py", "ask with timeout", PING_PONG),
    ratio("supervised start, message, end: 10,000 at once", 1.5, "bench_spawn.py", ONE_MESSAGE, NOTHING, **BURST),
    ratio("supervised start, message, end: waves of 2,000", 1.5, "bench_spawn.py", ONE_MESSAGE, NOTHING, **WAVES),
    ratio("crash, restart, next answer", 2, "bench_restart.py", "crash, restart, next answer", "ask, no crash"),
    Goal("idle actor, 100,000 of them", (7, 6), "bench_idle.py", "actor", unit="KiB", options={"count": 100_000}),
    ratio("stop of a tree of 10,000, every cleanup run", 2, "bench_stop.py", "stop, each a cleanup", NESTED),
    ratio("fan-in, 1,000 tasks x 200 messages", 0.75, "bench_fan_in.py", "tell, from tasks", STREAM),
    ratio("fan-in, 1,000 actors x 200 messages", 0.75, "bench_fan_in.py", "tell, from actors", STREAM),
    none_of("stop, behind a full mailbox", "messages before it", "bench_control.py", "stop"),
    none_of("a death, behind a full mailbox", "messages before it", "bench_control.py", "death of a monitored actor"),
    none_of("1,000 rounds of cancelled scopes: mailbox", "wrong", "bench_cancel.py", "mailbox, by scope"),
    none_of("1,000 rounds of cancelled scopes: actor", "wrong", "bench_cancel.py", "actor, by scope"),
    none_of("1,000 rounds of Task.cancel: mailbox", "wrong", "bench_cancel.py", "mailbox, by Task.cancel", "asyncio"),
    none_of("1,000 rounds of Task.cancel: actor", "wrong", "bench_cancel.py", "actor, by Task.cancel", "asyncio"),
    ratio("three model calls, 100 in flight", 1.15, *MODEL, BY_HAND, in_flight=100),
    ratio("three model calls, 1,000 in flight", 1.15, *MODEL, BY_HAND, in_flight=1_000, runs=2_000),
    ratio("three model calls, streamed in 60 pieces", 1.3, *MODEL, BY_HAND, chunks=60, runs=300),
    ratio("run, without a wire", 5.8, "bench_scripted.py", "agent.run in a System", "task groups by hand"),
    ratio("run, 100 in flight", 1.35, *RUN, HTTPX, in_flight=100),
    ratio("run, streamed in 60 pieces, all events", 1.5, "bench_stream.py", "system.start, followed", HTTPX),
    ratio("run, streamed in 60 pieces, text()", 1.5, "bench_stream.py", "agent.stream, text()", HTTPX),
    Goal("model call in flight, 4,000 of them", (36, 36), "bench_provider_memory.py", "OpenAIChat", unit="KiB"),
    Goal("run in flight, of 1,000 to their end", (45, 45), *TO_THE_END, unit="KiB"),
    Goal("10,000 runs to their end, resident", (500, 500), *TO_THE_END, unit="MB", options=MANY, column="peak MB"),
    Goal("10,000 runs stopped", (2, 2), "bench_in_flight.py", "system.start", unit="s", options=MANY, column="stop, s"),
]


def measure(goals: Sequence[Goal], backends: Sequence[str], rounds: int) -> dict[tuple[str, Case], list[float]]:
    """The figure that counts, of every repeat of everything that the goals need. What is no ratio is run once."""
    figures: dict[tuple[str, Case], list[float]] = {}
    for turn in range(rounds):
        ran: set[tuple[str, Case]] = set()
        for goal in goals:
            for key in [(backend, case) for backend in backends for case in goal.cases()]:
                if key in ran or key[0] not in goal.backends or (turn and goal.baseline is None):
                    continue
                ran.add(key)
                backend, case = key
                print(f"  {backend}: {case.file}: {case.contender}", file=sys.stderr, flush=True)
                repeats = in_process(HERE / case.file, case.contender, backend, None, dict(case.options))
                figures.setdefault(key, []).extend(map(case.figure, repeats))
    return figures


def figure(goal: Goal, backend: str, figures: Mapping[tuple[str, Case], Sequence[float]]) -> float | None:
    """What is compared with the goal's limit; None where there is no such thing."""
    if backend not in goal.backends:
        return None
    own, *baseline = [figures[backend, case] for case in goal.cases()]
    return min(own) / min(baseline[0]) if baseline else max(own)


def verdict(goal: Goal, reached: Mapping[str, float | None]) -> str:
    """Whether the goal is met, or where it is not."""
    missed = [name for name, value in reached.items() if value is not None and value > goal.limit(name)]
    known = [name for name, value in reached.items() if value is not None]
    return "-" if not known else "met" if not missed else "NOT MET" if missed == known else f"NOT MET on {missed[0]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Are the goals met?")
    parser.add_argument("--backend", choices=(*BACKENDS, "both"), default="both")
    parser.add_argument("--only", default="", help="only goals with this in their name")
    parser.add_argument("--rounds", type=int, default=2, help="how often each contender gets a process")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    backends = BACKENDS if arguments.backend == "both" else (arguments.backend,)
    goals = [goal for goal in GOALS if arguments.only in goal.what]
    figures = measure(goals, backends, arguments.rounds)
    rows: list[dict[str, Any]] = []
    for goal in goals:
        reached = {backend: figure(goal, backend, figures) for backend in backends}
        rows.append({"what": goal.what, "goal": goal.said(), **reached, "verdict": verdict(goal, reached)})
    subjects = SUBJECTS if not arguments.only else ()
    erlang = {name: min(found) for name, found in run_erlang(subjects, 3).items() if found}
    if arguments.json:
        print(json.dumps({"goals": rows, "erlang": erlang}, indent=1))
    else:
        print(table(rows, backends))
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in erlang.items())
        if subjects:
            print(f"\n{ABSENT or f'Erlang/OTP, CPU us (idle: KiB): {told}'}")
    return any(row["verdict"].startswith("NOT") for row in rows)


def table(rows: Sequence[Mapping[str, Any]], backends: Sequence[str]) -> str:
    """The rows as text."""
    lines = [["", "goal", *backends, ""]]
    for row in rows:
        numbers = ["-" if row[each] is None else f"{row[each]:.3g}" for each in backends]
        lines.append([row["what"], row["goal"], *numbers, row["verdict"]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)


if __name__ == "__main__":
    sys.exit(main())
