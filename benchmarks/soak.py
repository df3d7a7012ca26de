"""Does anything grow? 200,000 runs of every kind in one process, with faults, crashes and stops at random.

Run: python benchmarks/soak.py [--runs 200000] [--backend asyncio|trio] [--journal memory|sqlite] [--seed 1] [--json]

The model is the simulated server, in a process of its own; some of its answers are 429, 500, a reset or silence. Runs
are followed, left half way, stopped, cancelled, limited, crash in the code around them, have tools that fail or are
late (in threads too), subagents and conversations (`soak_workload.py`). All live in one System.

They come in laps. After each, when no run is at work, memory, objects by type, tasks, threads, descriptors, connections
and the sizes of registries are looked at (`soak_samples.py`). The first fifth of the laps is the warm-up. Behind it no
series may grow beyond its bound (`soak_slope.py`). Each run that was begun has to have ended once. Where one of these
does not hold, it is printed, and the exit status is 1. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import anyio
from soak_samples import Samples, probes_of
from soak_slope import FEWEST, Slope
from soak_workload import ASKS, KINDS, NAMES, WEIGHTS, Errand, Soaked, Workshop, crash_actors, crashing

from greenroom import System
from greenroom.actors.dead_letters import KEPT as LETTERS
from greenroom.agents import events, talks
from greenroom.agents.events import TERMINAL
from greenroom.load import Faults, Latency, simulated_server
from greenroom.providers import OpenAIChat, Timeouts
from greenroom.providers.http import shared_connections

JournalKind = Literal["memory", "sqlite"]
FAULTS = Faults(rate_limit=0.002, server_error=0.01, reset=0.01, stall=0.002, retry_after=0.02)
LATENCY = Latency.parse("4ms-15ms+500us")
#: A stall costs `idle`; it must be longer than a busy event loop takes for one round.
TIMEOUTS = Timeouts(connect=10.0, first_byte=5.0, idle=0.5, total=30.0)
WARM_UP = 0.2
#: Seconds after which runs that have not ended never will.
PATIENCE = 30.0


class Account:
    """Every run, from its beginning to its end; of those that have ended only their number is kept.

    Attributes:
        asked: runs that were asked for.
        kinds: how they ended, as told to who asked for them, by kind.
        begun: runs that said they had begun, subagents and those beside their parents among them.
        ended: how runs said they had ended.
        unbegun: how those of them did that had not begun: what is stopped before its turn only ends.
        open: ids of those that have begun and not ended.
        wrong: runs that began, or ended, twice.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.kinds = {name: Counter[str]() for name in KINDS}
        self.begun = 0
        self.ended: Counter[str] = Counter()
        self.unbegun: Counter[str] = Counter()
        self.open: set[str] = set()
        self.wrong = 0
        self._over: set[str] = set()

    def hear(self, event: Any) -> None:
        """Told of each event of all runs."""
        run_id: str = event.run_id
        if isinstance(event, events.RunStarted):
            self.begun += 1
            self.wrong += run_id in self.open or run_id in self._over
            self.open.add(run_id)
        elif isinstance(event, TERMINAL):
            how = event.type.removeprefix("run.")
            self.ended[how] += 1
            self.wrong += run_id in self._over
            self.unbegun[how] += run_id not in self.open and run_id not in self._over
            self.open.discard(run_id)
            self._over.add(run_id)

    def lap_over(self) -> None:
        """No run is at work: whatever comes is of others."""
        self._over.clear()

    @property
    def outcomes(self) -> Counter[str]:
        """How the runs that were asked for have ended."""
        return sum(self.kinds.values(), Counter[str]())

    def disagreements(self) -> list[str]:
        """What does not add up."""
        told, said = self.outcomes.total(), self.ended.total()
        odd = {how: count for how, count in self.unbegun.items() if count and how != "stopped"}
        found = [
            f"{self.asked} runs were asked for, and {told} ended" if self.asked != told else "",
            f"{self.begun} runs began, and {said - self.unbegun.total()} of them said that they ended"
            if self.begun != said - self.unbegun.total()
            else "",
            f"runs that had not begun: {_counts(Counter(odd))}" if odd else "",
            f"{self.wrong} runs began or ended twice" if self.wrong else "",
            f"{len(self.open)} runs never ended: {', '.join(sorted(self.open)[:5])}" if self.open else "",
        ]
        return [each for each in found if each]


class Report:
    """What a soak has found.

    Attributes:
        account, samples: what was counted, and looked at.
        leaks: the series that grow, per 1,000 runs.
        disagreements: what does not add up.
        cpu, wall: seconds, without the warm-up.
    """

    def __init__(self, account: Account, samples: Samples, warm_up: int, cpu: float, wall: float) -> None:
        self.account = account
        self.samples = samples
        self.warm_up = warm_up
        self.slopes = samples.slopes(warm_up)
        self.leaks = samples.leaks(warm_up)
        self.disagreements = account.disagreements()
        self.cpu, self.wall = cpu, wall

    @property
    def is_sound(self) -> bool:
        """Whether every run is accounted for and nothing grows."""
        return not self.leaks and not self.disagreements


async def soak(
    *,
    runs: int,
    lap: int,
    in_flight: int,
    seed: int = 1,
    journal: JournalKind = "memory",
    keep: Callable[[Any], object] | None = None,
    watch: Callable[[Samples], object] | None = None,
) -> Report:
    """Soak.

    Args:
        runs: how many, of which the first fifth is the warm-up.
        lap: runs between two looks.
        in_flight: runs at once.
        seed: another seed is another mixture, of runs and of faults.
        journal: where runs are written down; a file is in a temporary folder.
        keep: called with each result.
        watch: called after each look.

    Raises:
        ValueError: too few laps to tell a growth from chance.
        TimeoutError: runs did not end.
    """
    laps = runs // lap
    warm_up = int(laps * WARM_UP)
    if laps - warm_up < FEWEST:
        raise ValueError(f"{runs} runs in laps of {lap} are too few: {FEWEST} laps behind the warm-up are needed")
    account = Account()
    with _journal(journal) as where:
        async with (
            simulated_server(faults=FAULTS, latency=LATENCY, seed=seed) as server,
            shared_connections() as connections,
            System(max_running=max(in_flight * 3 // 4, 1), on_event=account.hear, journal=where) as system,
        ):
            shop = Workshop(OpenAIChat("simulated", base_url=server.base_url, api_key="none", timeouts=TIMEOUTS))
            place = Soaked(system, shop, keep)
            group = await system.spawn(crashing(1_000), name="group")
            await crash_actors(system, group, late=LETTERS)
            if not system.stage.journal.survives:
                await _fill_conversations(place, in_flight)
            samples = Samples(laps, probes_of(system, connections, group))
            cpu, wall = process_time(), perf_counter()
            for number in range(laps):
                if number == warm_up:
                    cpu, wall = process_time(), perf_counter()
                await crash_actors(system, group)
                await _lap(place, account, seed, range(number * lap, number * lap + lap), in_flight)
                with anyio.fail_after(PATIENCE):
                    while len(system.pool) or account.open or shop.in_threads or connections.statistics().leased:
                        await anyio.sleep(0.005)
                account.lap_over()
                samples.take(number * lap + lap)
                if watch is not None:
                    watch(samples)
            cpu, wall = process_time() - cpu, perf_counter() - wall
    return Report(account, samples, warm_up, cpu, wall)


async def _lap(place: Soaked, account: Account, seed: int, numbers: range, in_flight: int) -> None:
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            errand = Errand(seed, number, NAMES, WEIGHTS)
            account.asked += 1
            ended = await KINDS[errand.kind][0](place, errand)
            account.kinds[errand.kind][ended] += 1

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(work)


async def _fill_conversations(place: Soaked, in_flight: int) -> None:
    """Have as many conversations as are kept in memory: to wait until the runs have made them would take too long."""
    left = iter(range(talks.KEPT))

    async def work() -> None:
        for number in left:
            for _ in range(ASKS):
                await place.say(f"before-{number}", number)

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(work)


@contextmanager
def _journal(kind: JournalKind) -> Generator[Path | None]:
    if kind == "memory":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="greenroom-soak-") as folder:
        yield Path(folder) / "runs.db"


def table(report: Report, *, types: int = 12) -> str:
    """The report as text: how the runs ended, and the series, of the types of objects those that grow most."""
    account, samples = report.account, report.samples
    series = samples.series
    first, last = report.warm_up, samples.taken - 1
    measured = samples.runs[last] - (samples.runs[first - 1] if first else 0)
    cpu, garbage = report.cpu / measured * 1e3, samples.garbage / account.asked
    unbegun = account.unbegun.total()
    lines = [
        f"{account.asked} runs asked for: {_counts(account.outcomes)}",
        f"{account.begun} begun, subagents among them, {unbegun} ended before that: {_counts(account.ended)}",
        f"{cpu:.2f} ms of CPU and {garbage:.1f} objects of cyclic garbage per run",
        "",
        f"{'after the warm-up':44}{'first':>12}{'last':>12}{'per 1,000 runs':>16}{'99.9 %':>22}{'bound':>9}",
    ]
    objects = [name for name in series if name not in samples.named]
    objects.sort(key=lambda name: -report.slopes[name].guess if name in report.slopes else 0.0)
    shown = [*samples.named, *[name for name in objects if name in report.slopes][:types]]
    for name in [*shown, *[name for name in report.leaks if name not in shown]]:
        slope = report.slopes.get(name, Slope(0.0, 0.0, 0.0))
        between = f"{slope.low:.3g} to {slope.high:.3g}"
        line = f"{name:44}{series[name][first]:12,.0f}{series[name][last]:12,.0f}{slope.guess:16.3g}{between:>22}"
        lines.append(f"{line}{samples.bound(name).rate:9g}{'  GROWS' if name in report.leaks else ''}")
    lines += ["", *report.disagreements]
    verdict = "nothing grows, and every run has ended once" if report.is_sound else "NOT SOUND"
    return "\n".join([*lines, verdict])


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def as_json(report: Report) -> str:
    """Everything that was counted."""
    account, samples = report.account, report.samples
    return json.dumps(
        {
            "sound": report.is_sound,
            "disagreements": report.disagreements,
            "leaks": {name: slope._asdict() for name, slope in report.leaks.items()},
            "asked": account.asked,
            "kinds": account.kinds,
            "begun": account.begun,
            "ended": account.ended,
            "unbegun": account.unbegun,
            "cpu_seconds": report.cpu,
            "wall_seconds": report.wall,
            "warm_up": report.warm_up,
            "runs": list(samples.runs[: samples.taken]),
            "series": {name: list(series[: samples.taken]) for name, series in samples.series.items()},
        },
        indent=1,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Does anything grow?")
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument("--lap", type=int, default=0, help="runs between two looks (default: a hundredth)")
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--journal", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("greenroom").setLevel(logging.CRITICAL)  # crashes and dead letters are no news here

    def watch(samples: Samples) -> None:
        memory = samples.series["resident, KiB"][samples.taken - 1] / 1_024
        runs = samples.runs[samples.taken - 1]
        print(f"  {runs:,.0f} runs, {memory:.1f} MiB", file=sys.stderr, flush=True)

    async def run() -> Report:
        return await soak(
            runs=arguments.runs,
            lap=arguments.lap or max(arguments.runs // 100, 50),
            in_flight=arguments.in_flight,
            seed=arguments.seed,
            journal=arguments.journal,
            watch=watch,
        )

    report = anyio.run(run, backend=arguments.backend)
    print(as_json(report) if arguments.json else table(report))
    return 0 if report.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
