"""Programs that are killed: runs with everything in them that a crash may fall into.

A program begins in an empty folder and goes on in one that is not empty. Beside the journal it keeps there what a crash
must not take back: who was asked what (`asked`), which tool ran with which key (`done`), and a sink that takes each key
once. What a life found in the journal before it did anything is in `found`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from greenroom import Agent, Chronicle, Retry, RunContext, RunEnded, SqliteJournal, System, tool
from greenroom.agents.sources import Sources
from greenroom.journal import Happened, Sent
from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    Overloaded,
    Price,
    Prices,
    Provider,
    ToolCall,
    Usage,
    assistant,
)
from greenroom.testing import CrashingJournal, crash_point

FOLDER = Path()

#: What one reply has used.
USED = Usage(input_tokens=10, output_tokens=2)
PRICES = Prices({"m": Price(input=1.0, output=1.0)})


class Number(msgspec.Struct, frozen=True):
    """A typed answer."""

    number: int


# -- what outlives a process


def note(file: str, *words: Any) -> None:
    """Add a line, whole or not at all."""
    with open(FOLDER / file, "ab", buffering=0) as lines:
        lines.write(msgspec.json.encode(words) + b"\n")


def noted(folder: Path, file: str) -> list[list[Any]]:
    """The lines."""
    path = folder / file
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def sink(key: str) -> None:
    """What takes each key once: a file for each."""
    (FOLDER / "sink").mkdir(exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(FOLDER / "sink" / key, os.O_CREAT | os.O_EXCL))


def sunk(folder: Path) -> list[str]:
    """The keys that the sink has taken."""
    return sorted(os.listdir(folder / "sink")) if (folder / "sink").exists() else []


# -- tools


async def _act(context: RunContext[None], name: str) -> str:
    crash_point(f"{name}: before its effect")
    if name == "pay":
        sink(context.idempotency_key)
    note("done", name, context.idempotency_key)
    crash_point(f"{name}: after its effect")
    await anyio.lowlevel.checkpoint()
    return f"{name} done"


@tool
async def charge(context: RunContext[None]) -> str:
    """Not twice."""
    return await _act(context, "charge")


@tool(replay="keyed")
async def pay(context: RunContext[None]) -> str:
    """With the same key."""
    return await _act(context, "pay")


@tool(replay="safe")
async def look(context: RunContext[None]) -> str:
    """As often as you like."""
    return await _act(context, "look")


@tool(replay="safe", needs_approval=True)
async def ship(context: RunContext[None]) -> str:
    """When somebody has agreed."""
    return await _act(context, "ship")


@tool(replay="safe")
async def nap(context: RunContext[None]) -> str:
    """Sleep for a little while."""
    await context.sleep(0.001)
    return await _act(context, "nap")


TOOLS = [charge, pay, look, ship, nap]


# -- a model that says what its script says at this place of the conversation


class Model(Provider):
    """Plays `lines` by the number of replies that a conversation has, in whatever process. Notes what it is asked.

    A line that is a number is how often it is overloaded before it plays the line behind it.
    """

    name = "fake"
    model = "m"

    def __init__(self, who: str, *lines: Any) -> None:
        self.who = who
        self.lines = lines

    async def complete(self, request: ModelRequest) -> ModelReply:
        turn = sum(message.role == "assistant" for message in request.messages)
        first = _first(request.messages)
        key = f"{self.who}/{first}/{turn}"
        line, refusals = self.lines[turn], 0
        if isinstance(line, tuple):
            refusals, line = line
        times = sum(asked == [key] for asked in noted(FOLDER, "asked")) if refusals else 0
        note("asked", key)
        crash_point(f"{key}: asked")
        await anyio.lowlevel.checkpoint()
        if times < refusals:
            raise Overloaded("busy")
        crash_point(f"{key}: answers")
        if isinstance(line, str):
            return ModelReply(assistant(line), "stop", USED, self.model, None, "stop")
        calls = [
            _called(f"c{turn}-{place}", *(each if isinstance(each, tuple) else (each, {})), first)
            for place, each in enumerate(line)
        ]
        return ModelReply(assistant(tool_calls=calls), "tool_calls", USED, self.model, None, "tool_calls")


def _called(id: str, name: str, arguments: dict[str, Any], first: str) -> ToolCall:
    """A call. A question mark stands for the conversation's first message, so that a subagent's begins with it too."""
    arguments = {name: first if value == "?" else value for name, value in arguments.items()}
    return ToolCall(id, name, arguments, msgspec.json.encode(arguments).decode())


def _first(messages: Sequence[Message]) -> str:
    return next(message.text for message in messages if message.role == "user")


def agent(name: str, *lines: Any, **options: Any) -> Agent[Any, Any]:
    """An agent with a script."""
    options = {"tools": TOOLS, **options}
    return Agent(name, Model(name, *lines), prices=PRICES, retry=Retry(base=0.0005), **options)


# -- the cases


#: A subagent.
EXPERT = agent("expert", ["charge", "pay"], "expertise")


@tool(replay="safe")
async def spawn(context: RunContext[None], prompt: str) -> str:
    """Have the expert work in the background."""
    await context.spawn(EXPERT, prompt)
    return "spawned"


@tool(replay="safe")
async def collect(context: RunContext[None]) -> str:
    """Wait for what works in the background."""
    return ", ".join([str((await run.result()).output) for run in context.children])


#: Whom a conversation is handed over to, after its first turn.
DESK = agent("desk", None, ["charge", "pay"], "The end.")

#: The agents, by what is special about their runs.
CASES: dict[str, Agent[Any, Any]] = {
    "parallel": agent("parallel", ["charge", "pay", "look"], "The end."),
    "turns": agent("turns", ["charge"], ["pay"], ["look"], "The end."),
    "subagent": agent("subagent", [("expert", {"prompt": "?"}), "look"], "The end.", tools=[*TOOLS, EXPERT]),
    "output": agent("output", "seven", ["look"], '{"number": "?"}', '{"number": 7}', output=Number, output_retries=2),
    "approval": agent("approval", ["ship", "look"], "The end."),
    "send": agent("send", ["look"], "The answer.", "And another.", "The end."),
    "retry": agent("retry", (2, ["look"]), (1, "The end.")),
    "refused": agent("refused", [("nobody", {}), ("look", {"x": 1})], ["look"], "The end."),
    "sleep": agent("sleep", ["nap", "nap"], "The end."),
    "background": agent(
        "background", [("spawn", {"prompt": "?"}), "look"], ["collect"], "The end.", tools=[*TOOLS, spawn, collect]
    ),
    "handoff": agent("handoff", ["transfer_to_desk", "look"], tools=[*TOOLS, DESK.as_handoff()]),
}

#: What is sent into them.
LETTERS = {"send": ["first", "second"]}


def play(folder: str, case: str, backend: str) -> Any:
    """One life of the run of a case."""
    return _live(folder, {"boss": case}, backend, "none")


def crowd(folder: str, number: int, backend: str, durability: str) -> Any:
    """One life of so many runs, of all cases."""
    names = list(CASES)
    runs = [(names[index % len(names)], index) for index in range(number)]
    return _live(folder, {f"{case}-{index}": case for case, index in runs}, backend, durability)


def _live(folder: str, wanted: dict[str, str], backend: str, durability: Any) -> Any:
    global FOLDER
    FOLDER = Path(folder)
    return anyio.run(_perform, wanted, durability, backend=backend)


async def _perform(wanted: dict[str, str], durability: Any) -> Any:
    """Go on with what is there and begin what is missing; what came of all."""
    journal = CrashingJournal(SqliteJournal(FOLDER / "runs.db", durability=durability))
    async with System(journal=journal, sources=Sources(prefix="x")) as system:
        stories = {each.run_id: Chronicle(await journal.read(each.run_id)) for each in await journal.runs()}
        facts = {run_id: found(story) for run_id, story in stories.items()}
        note("lives", {"asked": len(noted(FOLDER, "asked")), "done": len(noted(FOLDER, "done")), "runs": facts})
        ended: dict[str, Any] = {}
        async with anyio.create_task_group() as group:
            if stories:
                recovery = await system.recover([*CASES.values(), EXPERT], max_claims=1_000_000)
                assert not recovery.left
                assert not recovery.parked
                assert not recovery.changed
                for run in recovery:
                    sent = sum(isinstance(record, Sent) for record in stories[run.id].records)
                    late = LETTERS.get(wanted[run.id], [])[sent:]
                    if late:
                        note("lost", run.id)  # they come at another moment now, perhaps behind an answer
                    _send(run, late)
                    group.start_soon(_attend, run, ended)
            for run_id, case in wanted.items():
                if run_id not in stories:
                    run = await system.start(CASES[case], f"Go: {run_id}", run_id=run_id)
                    _send(run, LETTERS.get(case, []))
                    group.start_soon(_attend, run, ended)
        told = {each.run_id: await story_of(journal, each.run_id) for each in await journal.runs()}
        for run_id, said in ended.items():
            assert told[run_id] == said, f"the journal says {told[run_id]}, the result {said}"
        return told


def _send(run: Any, letters: Sequence[str]) -> None:
    try:
        for letter in letters:
            run.send(letter, "idle")
    except RunEnded:
        note("lost", run.id)  # the crash came before it was written down, and the run was quicker this time


async def _attend(run: Any, ended: dict[str, Any]) -> None:
    async for event in run.events():
        if event.type == "approval.requested":
            crash_point("before it is approved")
            run.approve(event.call_id)
    result = await run.result()
    ended[run.id] = outcome(result.messages, result.usage, result.cost, result.status, result.reason)


def found(story: Chronicle) -> dict[str, Any]:
    """What a life finds of a run. Whether it was asking may change while a pause between two tries ends."""
    now = time.time()
    return {
        "turns": story.turns,
        "happened": sorted({record.result["call_id"] for record in story.records if isinstance(record, Happened)}),
        "at_work": sorted(story.at_work),
        "asking": [story.ended is None and story.was_asking(moment) for moment in (now, now + 60)],
        "standing": story.standing,
    }


def outcome(messages: Sequence[Message], usage: Usage, cost: float | None, status: str, reason: str) -> dict[str, Any]:
    """What came of a run, as JSON has it."""
    return msgspec.to_builtins(
        {
            "messages": list(messages),
            "usage": usage,
            "cost": None if cost is None else round(cost, 9),
            "status": status,
            "reason": reason,
        }
    )


async def story_of(journal: Any, run_id: str) -> dict[str, Any]:
    """The same from the journal."""
    story = Chronicle(await journal.read(run_id))
    return outcome(story.messages, story.usage, story.cost, story.standing, story.reason)
