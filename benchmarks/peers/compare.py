"""What does one agent run cost, in greenroom, in other libraries, and written by hand?

Run: uv run python benchmarks/peers/compare.py [--in-flight 1000] [--stream | --memory] [--only NAME] [--markdown]

A run is three requests over real HTTP and three tool calls (two in one turn, then one). The model is the simulated
server, one process for all contenders. Each contender is a script in `contenders/` with an environment of its own,
which uv makes when it is not there yet; contenders take turns. README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec
from peer_scripts import BACKENDS, Contender, Script, Unusable, interpreter, read_scripts, rows_of
from peer_table import About, Row, table
from peer_turn import Turn, Unmeasured, take_turn

from greenroom.load import Call, Latency, Plan, SimulatedServer, simulated_server
from greenroom.load import Turn as PlannedTurn

#: Pieces of text in a streamed answer, and the seconds between two.
CHUNKS, GAP = 60, 0.001
PLAN = Plan(
    turns=(
        PlannedTurn((Call("weather", {"city": "Tokyo"}), Call("weather", {"city": "Oslo"}))),
        PlannedTurn((Call("convert", {"celsius": 21.0}),)),
    ),
    # The result of the last call is in the answer, so nobody can give it who has not made the call.
    answer="It is warm in Tokyo and in Oslo, and 21 degrees Celsius are {result} there.",
    chunks=CHUNKS,
)
ANSWER = PLAN.answer.replace("{result}", "70 F")
#: The rows that others are divided by.
GREENROOM, FLOOR = "with_greenroom.py", "floor_httpx_free_list.py"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured, from the command line.

    Attributes:
        runs: in a pass, at most.
        in_flight: at any time.
        stream: the answer comes in pieces, and each is read.
        repeats: passes in a process.
        rounds: processes of each contender.
        budget: seconds that a pass should take.
        timeout: seconds that one process may take.
        latency: seconds of the model, constant.
        pin: keep the server on one processor and contenders on another.
    """

    runs: int
    in_flight: int
    stream: bool
    repeats: int
    rounds: int
    budget: float
    timeout: float
    latency: float
    pin: bool


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="only contenders with this in their name")
    parser.add_argument("--backend", action="append", choices=BACKENDS, default=[], help="default: see README.md")
    parser.add_argument("--in-flight", type=_count, help="runs at any time; default 100, with --memory 1000")
    parser.add_argument("--runs", type=_count, help="runs in a pass, at most; default 3 x in flight, with --memory 1 x")
    parser.add_argument("--repeats", type=_count, default=2, help="measured passes in a process")
    parser.add_argument("--rounds", type=_count, default=2, help="processes of each contender")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of a pass, for who is slow")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of a process")
    parser.add_argument("--no-pin", action="store_true", help="let server and contender run on any processor")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--markdown", action="store_true")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--stream", action="store_true", help=f"the answer comes in {CHUNKS} pieces, and each is read")
    mode.add_argument("--memory", action="store_true", help="slow model, all runs in flight at once; sorted by memory")
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def question_of(asked: argparse.Namespace) -> Question:
    in_flight = asked.in_flight or (1_000 if asked.memory else 100)
    return Question(
        runs=max(asked.runs or (in_flight if asked.memory else 3 * in_flight), in_flight),
        in_flight=in_flight,
        stream=asked.stream,
        repeats=1 if asked.memory else asked.repeats,
        rounds=asked.rounds,
        budget=asked.budget,
        timeout=asked.timeout,
        latency=0.5 if asked.memory else 0.05,
        pin=not asked.no_pin,
    )


def main() -> None:
    asked = arguments()
    question = question_of(asked)
    chosen = chosen_of(rows_of(read_scripts(), asked.backend, asked.stream), asked.only)
    rows = anyio.run(compare, chosen, question)
    about = About(
        "CPU time of one agent run: three requests, three tool calls"
        + (f", the answer in {CHUNKS} pieces" if question.stream else ""),
        datetime.now(UTC).date().isoformat(),
        f"{platform.python_implementation()} {platform.python_version()}",
        machine(),
        {
            "in flight": f"{question.in_flight:,}",
            "latency": f"{question.latency * 1e3:.0f} ms",
            "passes": f"{question.repeats} in each of {question.rounds} processes",
        },
    )
    ours, floor = (
        next((row for each, row in zip(chosen, rows, strict=True) if each.script.path.name == name), None)
        for name in (GREENROOM, FLOOR)
    )
    print(
        table(
            about,
            rows,
            in_flight=question.in_flight,
            greenroom=ours,
            floor=floor,
            by_memory=asked.memory,
            markdown=asked.markdown,
        )
    )
    if asked.json:
        whole = {**msgspec.to_builtins(about), "question": msgspec.to_builtins(question), "rows": rows}
        asked.json.write_text(json.dumps(msgspec.to_builtins(whole), indent=1) + "\n", encoding="utf-8")


def chosen_of(contenders: Sequence[Contender], only: Sequence[str]) -> list[Contender]:
    """Those whose title has one of the words, and the two that all others are divided by."""
    bases = [next((each for each in contenders if each.script.path.name == name), None) for name in (GREENROOM, FLOOR)]
    return [each for each in contenders if not only or each in bases or any(word in each.title for word in only)]


async def compare(contenders: Sequence[Contender], question: Question) -> list[Row]:
    """Install all, then measure in rounds; a row for each contender, in their order."""
    pythons = await _install({each.script.path: each.script for each in contenders})
    turns: dict[str, list[Turn]] = {each.title: [] for each in contenders}
    problems: dict[str, str] = {}
    latency = Latency(question.latency, question.latency, GAP if question.stream else 0.0)
    async with simulated_server(latency=latency) as server:
        first_cpu, last_cpu = _processors(question.pin)
        if first_cpu is not None:
            os.sched_setaffinity(server.pid, {first_cpu})
        number = 0
        for _ in range(question.rounds):
            for each in contenders:
                python = pythons[each.script.path]
                if isinstance(python, Unusable):
                    problems[each.title] = str(python)
                    continue
                if each.title in problems:
                    continue
                _note(each.title)
                number += 1
                try:
                    turns[each.title].append(await measure(each, python, server, question, number, last_cpu))
                except Unmeasured as error:
                    problems[each.title] = str(error)
    return [_row(each, turns[each.title], problems.get(each.title, "")) for each in contenders]


async def measure(
    contender: Contender, python: Path, server: SimulatedServer, question: Question, number: int, cpu: int | None
) -> Turn:
    """One turn; `number` tells it from the server's other turns."""
    script = contender.script
    options = {
        "base_url": server.base_url,
        "plan": PLAN.prompt(),
        "answer": ANSWER,
        "runs": question.runs,
        "in_flight": question.in_flight,
        "stream": question.stream,
        "backend": contender.backend,
        "variant": contender.variant,
        "first": number * 10_000_000,
        "budget": question.budget,
        "packages": script.packages,
        "cpu": cpu,
    }
    return await take_turn(
        [python, script.path, json.dumps(options)],
        server,
        repeats=question.repeats,
        timeout=question.timeout,
        pieces=CHUNKS if question.stream else None,
        # Peers may open as many as they like, there is a column for it.
        bound=None if script.peer.kind == "peer" else question.in_flight,
        answers_by_call=script.peer.answers_by_call,
        environment=script.peer.environment,
    )


async def _install(scripts: Mapping[Path, Script]) -> dict[Path, Path | Unusable]:
    """The Python of each script, or why there is none."""
    found: dict[Path, Path | Unusable] = {}
    for path, script in scripts.items():
        _note(f"environment of {path.name}")
        try:
            found[path] = await anyio.to_thread.run_sync(interpreter, script)
        except Unusable as error:
            found[path] = error
    return found


def _row(contender: Contender, turns: Sequence[Turn], problem: str) -> Row:
    package = contender.script.packages[0]
    version = turns[0].ready.versions.get(package, "") if turns else ""
    return Row(contender.title, contender.script.peer.kind, version, tuple(turns), problem)


def _processors(pin: bool) -> tuple[int | None, int | None]:
    """The server's and the contender's, where there are two and the system lets us choose."""
    allowed = sorted(os.sched_getaffinity(0)) if pin and hasattr(os, "sched_getaffinity") else []
    return (allowed[0], allowed[-1]) if len(allowed) > 1 else (None, None)


def machine() -> str:
    """For example `Linux, 2 cores, AMD EPYC`."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{platform.system()}, {os.cpu_count()} cores, {model}"


def _note(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
