"""A service with a run at one kind of step. A program imports this module and calls `begin`.

It says "at it" when the step has begun, writes the ids of the processes that work to the file ``processes``, and says
in the end how the program went on. Environment: ``FOLDER`` is where it works, ``SIGNALS`` has it heed signals,
``DRAIN`` is its time for that, ``SECONDS`` how long a step takes.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio

from greenroom import Agent, Retry, RunContext, System, SystemDraining, tool
from greenroom.providers import ModelReply, ModelRequest, Overloaded, Provider, assistant, call

FOLDER = Path(os.environ.get("FOLDER", "."))
#: Seconds that a step takes.
SECONDS = float(os.environ.get("SECONDS", "0.3"))


def say(*words: Any) -> None:
    """To whoever has started us."""
    print(*words, flush=True)


def at_it() -> None:
    """The step has begun. Once."""
    try:
        os.close(os.open(FOLDER / "at it", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    with open(FOLDER / "processes", "a") as file:
        file.write(f"{os.getpid()}\n")


async def work() -> str:
    """Work in the event loop."""
    at_it()
    await anyio.sleep(SECONDS)
    return "worked"


def thread() -> str:
    """Work in a thread."""
    at_it()
    time.sleep(min(SECONDS, 2))
    return "worked"


@tool(where="process")
def process() -> str:
    """Work in a process."""
    at_it()
    time.sleep(SECONDS)
    return "worked"


@tool(replay="safe")
async def nap(context: RunContext[Any]) -> str:
    """Sleep."""
    at_it()
    await context.sleep(SECONDS)
    return "rested"


@tool(replay="safe", needs_approval=True)
async def ship() -> str:
    """Ship."""
    return "shipped"


class Model(Provider):
    """Calls the tool that the prompt names, or does what it names itself; then answers."""

    name = "model"
    model = "m"

    async def complete(self, request: ModelRequest) -> ModelReply:
        if request.messages[-1].role == "tool":
            return ModelReply(assistant("Done."))
        step = request.messages[0].text
        if step in ("model", "stream"):
            at_it()
            await anyio.sleep(SECONDS)
            return ModelReply(assistant("Done."))
        if step == "retry":
            if (FOLDER / "at it").exists():
                return ModelReply(assistant("Done."))
            at_it()
            raise Overloaded("busy", retry_after=SECONDS)
        arguments = {"prompt": "work"} if step == "expert" else {}
        return ModelReply(assistant(tool_calls=[call(step, **arguments)]))


TOOLS = [work, thread, process, nap, ship]
EXPERT = Agent("expert", Model(), tools=TOOLS)
AGENT = Agent("helper", Model(), tools=[*TOOLS, EXPERT], retry=Retry(base=0.0))

#: All kinds of step.
STEPS = ("model", "retry", "work", "thread", "process", "nap", "ship", "expert")


async def main(step: str) -> None:
    """Have a run at work."""
    signals = "SIGNALS" in os.environ
    drain = os.environ.get("DRAIN")
    options: dict[str, Any] = {"signals": signals, "drain_timeout": float(drain) if drain else None}
    async with System(journal=FOLDER / "runs.db", **options) as system:
        run = await system.start(AGENT, step, run_id="r", on_event=hear)
        try:
            while not (FOLDER / "at it").exists():
                await anyio.sleep(0.005)
            await anyio.sleep(0.02)
            say("at it")
            while signals and system.interrupted_by is None:
                await anyio.sleep(0.005)
            if signals:
                try:
                    await system.start(AGENT, step)
                    say("new work was taken")
                except SystemDraining:
                    say("new work was refused")
            await run.result()
            await anyio.sleep_forever()
        finally:
            say("the block ends")
    say("behind the block", system.interrupted_by.name if system.interrupted_by else None)


def hear(event: Any) -> None:
    """An approval is asked for: that is a step too."""
    if event.type == "approval.requested":
        at_it()


def begin(backend: str, step: str) -> None:
    """Run the service to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits an ignored one
    try:
        anyio.run(main, step, backend=backend)
    except KeyboardInterrupt:
        say("interrupted")
    say("the end")
