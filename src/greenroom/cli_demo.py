"""``greenroom demo``: the demos of the room `load`, their progress on standard error, a table on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .cli_live import LiveDemo
from .cli_loop import run_interruptible
from .load import Latency
from .load.crash_report import crash_rows
from .load.demo import demo
from .load.demo_crash import demo_crash
from .load.report import rows
from .load.tally import Tally

#: Seconds between two lines of progress where standard error is no terminal.
PLAIN_INTERVAL = 2.0
#: Lines about what is not accounted for; where everything is wrong, more of them say nothing.
COMPLAINTS = 20


def run_demo(*, runs: int, backend: str, faults: float, seed: int, latency: str, live: bool = False) -> int:
    """Run the demo and show it, with `live` also while it lives; returns the exit status: 1 if anything is not
    accounted for.
    """
    pace = read_latency(latency)
    if pace is None:
        return 2
    beside = LiveDemo(runs, backend, Console()) if live else None
    with nullcontext() if live else progress(runs) as watch:
        work = partial(demo, runs=runs, faults=faults, seed=seed, latency=pace, watch=watch, beside=beside)
        try:
            report = run_interruptible(work, backend)
        except (OSError, RuntimeError) as error:
            # The server cannot be started, or the system gives out too few descriptors: the message says which.
            print(f"greenroom: {error}", file=sys.stderr)
            return 1
    show("greenroom demo", rows(report))
    complain(report.disagreements)
    return 1 if report.disagreements or report.tally.lost else 0


def run_crash_demo(*, runs: int, kills: int, backend: str, faults: float, seed: int, latency: str) -> int:
    """Run the crash demo and show it; returns the exit status: 1 if anything is not accounted for."""
    pace = read_latency(latency)
    if pace is None:
        return 2
    work = partial(
        demo_crash, runs=runs, kills=kills, faults=faults, seed=seed, latency=pace, backend=backend, tell=_say
    )
    try:
        report = run_interruptible(work, backend)
    except (OSError, RuntimeError) as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return 1
    show("greenroom demo --crash", crash_rows(report))
    complain(report.account.disagreements)
    return 1 if report.account.disagreements or report.account.statuses["completed"] != runs else 0


def read_latency(latency: str) -> Latency | None:
    """What ``--latency`` says; None, and a line on standard error, where that cannot be understood."""
    try:
        return Latency.parse(latency)
    except ValueError as error:
        print(f"greenroom: --latency: {error}", file=sys.stderr)
        return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def complain(disagreements: Sequence[str]) -> None:
    """Name what is not accounted for."""
    for line in disagreements[:COMPLAINTS]:
        print(f"greenroom: not accounted for: {line}", file=sys.stderr)
    if len(disagreements) > COMPLAINTS:
        print(f"greenroom: not accounted for: {len(disagreements) - COMPLAINTS:,} more", file=sys.stderr)


def show(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """Print the table."""
    table = Table(box=SIMPLE_HEAD, show_header=False, title=title, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in lines:
        table.add_row(label, value)
    if sys.stdout.isatty():
        Console(highlight=False, markup=False).print(table)
        return
    # A pipe has no width of its own; who reads it wants one line for each row, and no blanks at its end.
    console = Console(highlight=False, markup=False, width=120)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextmanager
def progress(runs: int) -> Generator[Callable[[Tally], None]]:
    """What shows the counts while the demo goes on: a bar on a terminal, else a plain line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(runs)
        return
    columns = (
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=runs)

        def watch(tally: Tally) -> None:
            bar.update(task, completed=tally.said.total(), description=_brief(tally), refresh=True)

        yield watch


def _plain(runs: int) -> Callable[[Tally], None]:
    last = time.monotonic() - PLAIN_INTERVAL

    def watch(tally: Tally) -> None:
        nonlocal last
        if tally.begun and time.monotonic() - last >= PLAIN_INTERVAL:
            last = time.monotonic()
            print(f"{tally.said.total():,} of {runs:,} runs ended, {_brief(tally)}", file=sys.stderr, flush=True)

    return watch


def _brief(tally: Tally) -> str:
    return (
        f"{tally.in_flight:,} in flight, {tally.attempts:,} requests, {tally.tools_started:,} tool calls, "
        f"{tally.retries:,} retries, {tally.run_crashes:,} crashes"
    )
