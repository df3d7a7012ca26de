"""What every contender does, whatever it is made of: the loop around its runs, and the figures.

A contender is a script with its dependencies in its head (PEP 723). It says how one run is asked for, and hands over
to `serve` (coroutines) or `serve_threads` (a library that blocks):

    @asynccontextmanager
    async def service(options: Options) -> AsyncGenerator[Ask]:
        agent = ...                                        # what a service would make once
        async def ask(prompt: str) -> Said: ...
        yield ask

    if __name__ == "__main__":
        serve(service)

`compare.py` starts it with its `Options` as JSON in the first argument and talks with it in lines:

1. The contender makes its service, does two runs one after the other, then one wave of as many as there are to be in
   flight: lazy imports are over, connections are open. It prints a line, the `Ready` figures.
2. For each line that it reads it does one measured pass and prints a line, the `Pass` figures. Between the two lines
   nobody else talks to the server, so the server's counts tell what the pass did.
3. It ends with its standard input, or is ended.

A pass is a closed loop: `in_flight` workers take the next prompt from one list until it is empty. CPU time is
`process_time`, of all threads of the process. The tools are the same for all, see `weather_tools.py`.

Standard library only, so that it works in everybody's environment. Libraries print what they like: standard output is
theirs no more, it leads to standard error.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import asdict, dataclass
from time import process_time
from typing import Any, NamedTuple, TextIO

try:
    import resource
except ImportError:  # not on Windows
    resource = None

from costs import Measured, Pass, forget_peak, memory


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to do, from `compare.py`.

    Attributes:
        base_url: of the server, what OpenAI clients call by this name; no slash at the end.
        plan: the line that tells the simulated model what to do; it goes into each prompt.
        answer: what each run has to answer.
        runs: at most so many in a measured pass.
        in_flight: so many at any time.
        stream: read the final answer piece by piece.
        backend: asyncio, uvloop or trio; threads, where the contender has them.
        variant: which of the ways that the script knows, in its own words.
        first: the number of the first run, no run of the same server having had it.
        budget: seconds that a pass should take; who is slow does fewer runs, but never below `in_flight`.
        packages: whose versions to tell.
        cpu: the processor to stay on; None for any.
    """

    base_url: str
    plan: str
    answer: str
    runs: int
    in_flight: int
    stream: bool = False
    backend: str = "asyncio"
    variant: str = ""
    first: int = 0
    budget: float = 10.0
    packages: Sequence[str] = ()
    cpu: int | None = None


class Said(NamedTuple):
    """The answer of one run, and in how many pieces of text it came if it was streamed."""

    text: str
    pieces: int = 0


Ask = Callable[[str], Awaitable[Said]]
AskThread = Callable[[str], Said]


@dataclass
class Ready:
    """What the contender is, and what it took to get there.

    Attributes:
        runs: in a measured pass.
        start: seconds of processor time from the start of the process until a first run could be asked for.
        rss: resident memory after two runs, in bytes; 0 where the system does not say.
        versions: of `Options.packages`.
    """

    runs: int
    start: float
    rss: int
    versions: dict[str, str]


def serve(service: Callable[[Options], AbstractAsyncContextManager[Ask]]) -> None:
    """Be a contender whose runs are coroutines, on the backend that the options name."""
    options, out = _begin()

    async def main() -> None:
        async with service(options) as ask:
            started = process_time()
            crowd = _in_a_nursery if options.backend == "trio" else _in_a_task_group
            numbers = _prompts(options)

            async def go(runs: int, in_flight: int) -> Pass:
                found = Pass(runs)
                prompts = iter([next(numbers) for _ in range(runs)])

                async def work() -> None:
                    for prompt in prompts:
                        try:
                            said = await ask(prompt)
                        except Exception as error:
                            _failed(found, error)
                        else:
                            _look(found, said, options)

                with Measured(found):
                    await crowd(min(in_flight, runs), work)
                return found

            first = [_sound(await go(1, 1)) for _ in range(2)]
            rss = _rest()
            wave = _sound(await go(_first_wave(options, first[-1]), options.in_flight))
            ready = _ready(options, started, rss, wave)
            _tell(out, ready)
            # Nothing else is to happen on this loop between two passes, so a read that blocks it is right.
            while sys.stdin.readline():
                _tell(out, await go(ready.runs, options.in_flight))

    _run(main, options.backend)


def serve_threads(service: Callable[[Options], AbstractContextManager[AskThread]]) -> None:
    """Be a contender whose runs block: a thread for each that is in flight."""
    options, out = _begin()
    with service(options) as ask:
        started = process_time()
        numbers = _prompts(options)
        mutex = threading.Lock()

        def go(runs: int, in_flight: int) -> Pass:
            found = Pass(runs)
            prompts = iter([next(numbers) for _ in range(runs)])

            def work(_: int) -> None:
                while True:
                    with mutex:
                        prompt = next(prompts, None)
                    if prompt is None:
                        return
                    try:
                        said = ask(prompt)
                    except Exception as error:
                        with mutex:
                            _failed(found, error)
                    else:
                        with mutex:
                            _look(found, said, options)

            workers = min(in_flight, runs)
            with Measured(found), ThreadPoolExecutor(workers) as pool:
                list(pool.map(work, range(workers)))
            return found

        first = [_sound(go(1, 1)) for _ in range(2)]
        rss = _rest()
        wave = _sound(go(_first_wave(options, first[-1]), options.in_flight))
        ready = _ready(options, started, rss, wave)
        _tell(out, ready)
        while sys.stdin.readline():
            _tell(out, go(ready.runs, options.in_flight))


def _begin() -> tuple[Options, TextIO]:
    """The options, and where figures go; from here on standard output is standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if resource is not None:  # many runs in flight are many connections
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = Options(**json.loads(sys.argv[1]))
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    return options, out


def _prompts(options: Options) -> Iterator[str]:
    number = options.first
    while True:
        yield f"Run {number}: what is the weather?\n{options.plan}"
        number += 1


def _sound(found: Pass) -> Pass:
    """What goes wrong before anything is measured ends the contender."""
    if found.reason:
        raise SystemExit(found.reason)
    return found


def _rest() -> int:
    """Resident memory of the service at rest, from where its highest is counted; 0 where the system does not say."""
    return memory("VmRSS") if forget_peak() else 0


def _first_wave(options: Options, single: Pass) -> int:
    """How many runs the first wave has: as many as are to be in flight, if the budget allows it."""
    return max(1, min(options.in_flight, _affordable(options, single)))


def _ready(options: Options, started: float, rss: int, wave: Pass) -> Ready:
    """What is told before the first pass; a pass has as many runs as the budget allows, never below `in_flight`."""
    runs = max(min(options.runs, _affordable(options, wave)), min(options.in_flight, options.runs))
    return Ready(runs, started, rss, {name: importlib.metadata.version(name) for name in options.packages})


def _affordable(options: Options, found: Pass) -> int:
    return int(options.budget * found.runs / max(found.cpu, 1e-6))


def _look(found: Pass, said: Said, options: Options) -> None:
    found.pieces += said.pieces
    if said.text != options.answer:
        found.wrong += 1
        found.reason = found.reason or f"answered {said.text[:200]!r}"


def _failed(found: Pass, error: Exception) -> None:
    found.failed += 1
    found.reason = found.reason or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


async def _in_a_task_group(count: int, work: Callable[[], Awaitable[None]]) -> None:
    async def one() -> None:
        await work()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


async def _in_a_nursery(count: int, work: Callable[[], Awaitable[None]]) -> None:
    import trio  # only where it is asked for

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(work)


def _run(main: Callable[[], Any], backend: str) -> None:
    if backend == "trio":
        import trio

        trio.run(main)
    elif backend == "uvloop":
        with asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
            runner.run(main())
    else:
        asyncio.run(main())


def _tell(out: TextIO, figures: Pass | Ready) -> None:
    print(json.dumps(asdict(figures)), file=out, flush=True)
