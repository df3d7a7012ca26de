"""A process that has runs at work: ``python owner.py FOLDER BACKEND NUMBER``.

Its models answer once there is a file ``go`` in the folder. It says "ready" when all of them were asked, and in the
end how its runs ended, with their numbers.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from greenroom import Agent, System
from greenroom.providers import ModelReply, ModelRequest, Provider, assistant


class Patient(Provider):
    """Answers once it may."""

    name = "patient"
    model = "m"

    def __init__(self, go: Path | None) -> None:
        self.go = go
        self.asked = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.asked += 1
        while self.go is not None and not self.go.exists():
            await anyio.sleep(0.01)
        return ModelReply(assistant("The former owner's." if self.go is not None else "The new owner's."))


def helper(go: Path | None) -> Agent[Any, str]:
    """Whose runs they are."""
    return Agent("helper", Patient(go))


async def main(folder: Path, number: int) -> None:
    """Have the runs at work, until they end."""
    ends: Counter[str] = Counter()
    terminal: Counter[str] = Counter()
    agent = helper(folder / "go")

    def hear(event: Any) -> None:
        if event.type in ("run.completed", "run.stopped", "run.failed", "run.limited"):
            terminal[event.type] += 1

    async def wait(run: Any) -> None:
        try:
            ends[(await run.result()).status] += 1
        except Exception as error:
            ends[type(error).__name__] += 1

    async with System(journal=folder / "runs.db") as system, anyio.create_task_group() as group:
        for index in range(number):
            group.start_soon(wait, await system.start(agent, "Go", run_id=f"r{index}", on_event=hear))
        while agent.provider.asked < number:  # type: ignore[attr-defined]
            await anyio.sleep(0.001)
        print("ready", flush=True)
    print(sorted(ends.items()), sorted(terminal.items()), flush=True)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[3]), backend=sys.argv[2])
