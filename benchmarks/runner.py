"""What the benchmarks share: each contender in a process of its own, CPU time, and ratios within one run.

    python benchmarks/bench_tell.py                          every contender on both backends, as a table
    python benchmarks/bench_tell.py --json                   the same as JSON, every repeat in it
    python benchmarks/bench_tell.py --backend trio --only ask --count 1000
    uv run --with uvloop benchmarks/bench_run.py --backend uvloop              asyncio's contenders on another loop
    python benchmarks/bench_tell.py --contender "raw stream" --backend trio    in this process, for a profiler

A file passes its question, its contenders and its numeric options to `main`. A contender measures one repeat and
returns its figures, the one to compare first.

Contenders take turns for several rounds, so that another load on the machine hits all of them, and the best repeat is
what is compared: noise only ever adds. Counts of what must not happen are compared by their worst repeat. Nothing is
logged.

Where Erlang is installed, it gets a row of its own in the tables that have a counterpart there, see `bench_erlang.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import platform
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from bench_erlang import ABSENT, erlang_figures

BACKENDS = ("asyncio", "trio")
#: What `--backend` may name besides, with anyio's backend and its options.
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "trio": ("trio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}
LIBRARIES = ("greenroom", "anyio", "trio", "httpx", "httpcore", "h11", "msgspec")


class Contender(NamedTuple):
    """One way of doing the thing. `measure` gets the options by name and does one repeat."""

    name: str
    measure: Callable[[Mapping[str, int]], Awaitable[dict[str, float]]]
    backends: tuple[str, ...] = BACKENDS


def main(
    question: str,
    contenders: Sequence[Contender],
    *,
    baseline: str,
    repeats: int = 5,
    warm_up: int = 1,
    rounds: int = 2,
    worst: bool = False,
    erlang: Mapping[str, str] | None = None,
    libraries: Sequence[str] = (),
    **options: int,
) -> None:
    """Run the benchmark that the command line asks for.

    Args:
        question: the first line of the table.
        contenders: in the order of the table.
        baseline: the name of the contender that the others are divided by, on the same backend.
        repeats: measured repeats in each process.
        warm_up: repeats before them that are not counted.
        rounds: how often each contender gets a process.
        worst: compare the worst repeat, in every column: for counts of what must not happen.
        erlang: rows that Erlang adds: their names, and what `bench_erlang.py` calls them.
        libraries: what only this benchmark compares with; its versions are printed where it is installed.
        options: numeric options and their defaults, given to `measure`.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--backend", choices=(*LOOPS, "both"), default="both")
    parser.add_argument("--contender", help="run this one here and print its figures")
    parser.add_argument("--only", default="", help="only contenders with this in their name; the baseline always runs")
    parser.add_argument("--repeats", type=int, default=repeats, help="measured repeats in each process")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each contender gets a process")
    parser.add_argument("--json", action="store_true")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, dest=name)
    arguments = parser.parse_args()
    chosen = {name: getattr(arguments, name) for name in options}
    if arguments.contender is not None:
        logging.getLogger("greenroom").setLevel(logging.CRITICAL)  # crashes and dead letters are no news here
        contender = next(each for each in contenders if each.name == arguments.contender)
        backend, how = LOOPS[arguments.backend if arguments.backend in LOOPS else contender.backends[0]]
        measured = anyio.run(
            _repeat, contender, warm_up, arguments.repeats, chosen, backend=backend, backend_options=how
        )
        print(json.dumps(measured))
        return
    backends = BACKENDS if arguments.backend == "both" else (arguments.backend,)
    rows = _compare(
        [
            (backend, each)
            for backend in backends
            for each in contenders
            if LOOPS[backend][0] in each.backends and (arguments.only in each.name or each.name == baseline)
        ],
        arguments,
        chosen,
    )
    figure = next(iter(rows[0]["repeats"][0]))
    rows += [
        {"backend": "Erlang", "contender": name, "repeats": [{figure: value} for value in found]}
        for name, subject in (erlang or {}).items()
        if arguments.only in name and (found := erlang_figures(subject, arguments.rounds))
    ]
    about = {
        "question": question,
        "date": datetime.now(UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {**{name: importlib.metadata.version(name) for name in LIBRARIES}, **_versions(libraries)},
        "options": {**chosen, "repeats": arguments.repeats, "rounds": arguments.rounds},
        "baseline": baseline,
    }
    if arguments.json:
        print(json.dumps({**about, "rows": rows}, indent=1))
        return
    print(_table(about, rows, worst))
    if erlang and ABSENT:
        print(f"\n{ABSENT}")


def _versions(libraries: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in libraries:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


async def _repeat(
    contender: Contender, warm_up: int, repeats: int, options: Mapping[str, int]
) -> list[dict[str, float]]:
    return [await contender.measure(options) for _ in range(warm_up + repeats)][warm_up:]


def _compare(
    pairs: Sequence[tuple[str, Contender]], arguments: argparse.Namespace, options: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The figures of all rounds, contender by contender."""
    rows: list[dict[str, Any]] = [
        {"backend": backend, "contender": each.name, "repeats": []} for backend, each in pairs
    ]
    for _ in range(arguments.rounds):
        for row in rows:
            print(f"  {row['backend']}: {row['contender']}", file=sys.stderr, flush=True)
            row["repeats"] += in_process(sys.argv[0], row["contender"], row["backend"], arguments.repeats, options)
    return rows


def in_process(
    file: str | Path, contender: str, backend: str, repeats: int | None, options: Mapping[str, int]
) -> list[dict[str, float]]:
    """The repeats of one contender of one file, in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why on standard error.
    """
    command = [sys.executable, str(file), "--contender", contender, "--backend", backend]
    command += ["--repeats", str(repeats)] if repeats is not None else []
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _table(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], worst: bool) -> str:
    figures: list[str] = []  # the columns, in the order in which contenders named them
    for row in rows:
        figures += [name for name in row["repeats"][0] if name not in figures]
    first = figures[0]
    pick, middle = (max, max) if worst else (min, statistics.median)
    best = {(row["backend"], row["contender"]): pick(each[first] for each in row["repeats"]) for row in rows}
    lines = [["", first, "median", f"x {about['baseline']}", *figures[1:]]]
    for row in rows:
        backend, name, repeats = row["backend"], row["contender"], row["repeats"]
        base = best.get((backend, about["baseline"]))
        lines.append(
            [
                f"{name} ({backend})",
                _short(best[backend, name]),
                _short(statistics.median(each[first] for each in repeats)),
                f"{best[backend, name] / base:.2f}" if base else "-",
                *[
                    _short(middle(each[figure] for each in repeats)) if figure in repeats[0] else "-"
                    for figure in figures[1:]
                ],
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    head = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about["options"].items())
    text = [about["question"], f"{about['date']}, {about['python']}; {head}", options, ""]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *[cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)],
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
