"""A stop signal that is polled: a file that anybody may create, also another process."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import anyio

from greenroom import Agent, RunContext
from greenroom.providers import ModelRequest, Scripted, ToolCall, call


async def count_stars(sector: int) -> int:
    """Count the stars of a sector."""
    await anyio.sleep(0.05)
    return 1000 + sector


def next_sector(request: ModelRequest) -> ToolCall:
    """The model: it never has enough."""
    return call("count_stars", sector=len(request.messages) // 2)


agent = Agent("astronomer", Scripted(*[next_sector] * 1000), tools=[count_stars])


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        signal = Path(folder, "stop")

        async def stop_when(_: RunContext) -> bool:
            return await anyio.Path(signal).exists()

        threading.Timer(0.3, signal.touch).start()  # what somebody else does
        result = await agent.run("How many stars are there?", stop_when=stop_when, stop_poll=0.1)

    print(f"{result.status}, because of {result.reason}, after {len(result.messages) // 2} turns")
    print("the call that was cut short:", result.messages[-1].tool_results[0].content)


if __name__ == "__main__":
    anyio.run(main)
