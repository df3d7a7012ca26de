"""How long does ``import greenroom`` take, against what it is made of?

Run: python benchmarks/bench_import.py [--json]

Each repeat is a fresh interpreter with warm files. Its own start is taken off; what it loads by itself is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping

from runner import Contender, main

PROBE = """
import json, sys, time
modules, cpu, wall = len(sys.modules), time.process_time(), time.perf_counter()
{code}
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({{"CPU ms": cpu * 1e3, "wall ms": wall * 1e3, "modules": len(sys.modules) - modules}}))
"""


def importing(*names: str) -> Callable[[Mapping[str, int]], Awaitable[dict[str, float]]]:
    code = PROBE.format(code=f"import {', '.join(names)}")

    async def measure(_options: Mapping[str, int]) -> dict[str, float]:
        done = subprocess.run([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    return measure


if __name__ == "__main__":
    main(
        "Time of an import",
        [
            Contender("greenroom", importing("greenroom"), ("asyncio",)),
            Contender("what it needs", importing("anyio", "httpx", "httpcore", "msgspec"), ("asyncio",)),
            Contender("and anyio's backends", importing("greenroom", "anyio._backends._asyncio", "trio"), ("asyncio",)),
            Contender("httpx", importing("httpx"), ("asyncio",)),
            Contender("anyio", importing("anyio"), ("asyncio",)),
            Contender("msgspec", importing("msgspec"), ("asyncio",)),
        ],
        baseline="httpx",
        repeats=10,
    )
