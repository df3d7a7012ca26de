"""The workloads that come with the load tester.

Each is a function of its options that gives a `Workload`. The simulated model is told by a plan what to do, so there
the shape is exact; a real model is asked for the same in plain words, and the report counts what it did.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import anyio.lowlevel

from ...agents import Agent, tool
from ...providers import Retry, Scripted
from ..plan import Call, Plan, Turn
from .workloads import Iteration, Workload

#: The model of the agents below; each is run as a copy with the model of the test.
_NOBODY = Scripted()
_RETRY = Retry(attempts=4, base=0.1, max_delay=2.0)
_ANSWER = "Everything is in order, and whoever asked will hear from us again tomorrow."
#: Some words of filling; about four characters make a token.
_FILLING = "It was written down in the ledger, and the ledger was put back on its shelf. "

#: The most that an option takes: beyond it the tester would be busy with its own prompts.
MOST: Mapping[str, int] = {"steps": 1_000, "subagents": 1_000, "tokens": 10_000_000, "pieces": 100_000}


@tool(timeout=30, replay="safe")
async def look_up(item: int) -> dict[str, int]:
    """Look up how many of an item are in stock."""
    await anyio.lowlevel.checkpoint()
    return {"item": item, "in_stock": item % 7 + 1}


_CHAT = Agent("chat", _NOBODY, retry=_RETRY)
_CLERK = Agent("clerk", _NOBODY, tools=[look_up], retry=_RETRY, instructions="You look things up before you answer.")
_ASSISTANT = Agent("assistant", _NOBODY, retry=_RETRY, description="Answers one question in a sentence.")
_LEADER = Agent(
    "leader",
    _NOBODY,
    tools=[_ASSISTANT],
    retry=_RETRY,
    instructions="You ask the assistant about each part of a question, all at the same time, and then sum up.",
)


def chat() -> Workload:
    """One question, one answer: 1 request."""

    async def ask(it: Iteration) -> None:
        words = f"Question {it.number}: name a colour, and say in one sentence what it goes well with."
        await it.run(_CHAT, it.prompt(words, Plan(answer=_ANSWER)))

    return Workload(ask, name="chat", about="One question, one answer: 1 request.")


def tools(steps: int = 3) -> Workload:
    """An agent calls a tool several times, one call after the other, and then answers."""

    async def work(it: Iteration) -> None:
        items = [(it.number + step) % 1_000 for step in range(steps)]
        listed = ", ".join(map(str, items))
        words = f"Order {it.number}: look up item {listed}, one after the other, and then answer in one sentence."
        turns = tuple(Turn((Call("look_up", {"item": item}),)) for item in items)
        await it.run(_CLERK, it.prompt(words, Plan(turns, _ANSWER)))

    about = f"An agent with {steps} tool calls, one after the other: {steps + 1} requests."
    return Workload(work, name="tools", about=about)


def fanout(subagents: int = 3) -> Workload:
    """An agent starts several subagents at the same time, and then answers."""

    async def lead(it: Iteration) -> None:
        words = f"Matter {it.number}: ask the assistant, at the same time, for {subagents} facts about a colour."
        calls = tuple(Call("assistant", {"prompt": _part(it, part)}) for part in range(1, subagents + 1))
        await it.run(_LEADER, it.prompt(words, Plan((Turn(calls),), _ANSWER)))

    about = f"An agent with {subagents} subagents at the same time: {subagents + 2} requests."
    return Workload(lead, name="fanout", about=about, width=subagents)


def _part(it: Iteration, part: int) -> str:
    return Plan(answer=_ANSWER).prompt(f"Matter {it.number}, part {part}: name a fact about a colour.")


def context(tokens: int = 8_000) -> Workload:
    """One question with a long text before it."""
    filling = (_FILLING * (tokens * 4 // len(_FILLING) + 1))[: tokens * 4]

    async def read(it: Iteration) -> None:
        # The number comes first, so that no endpoint has the beginning in a cache.
        words = f"Record {it.number}. {filling}\nSay in one sentence what was put back."
        await it.run(_CHAT, it.prompt(words, Plan(answer=_ANSWER)))

    return Workload(read, name="context", about=f"One question with about {tokens:,} input tokens: 1 request.")


def stream(pieces: int = 60) -> Workload:
    """One answer that is streamed, and read piece by piece as it comes."""
    answer = " ".join(f"word{number % 10}" for number in range(pieces))

    async def follow(it: Iteration) -> None:
        words = f"Question {it.number}: write about {pieces} words on a colour of your choice."
        async with it.stream(_CHAT, it.prompt(words, Plan(answer=answer, chunks=pieces))) as run:
            async for _ in run.text():
                pass
            await run.result()

    return Workload(follow, name="stream", about=f"One answer in {pieces} pieces, read as they come: 1 request.")


#: What there is, by name.
BUILT_IN: Mapping[str, Callable[..., Workload]] = {
    "chat": chat,
    "tools": tools,
    "fanout": fanout,
    "context": context,
    "stream": stream,
}


def options_of(name: str) -> tuple[str, ...]:
    """The options that a workload takes."""
    return tuple(inspect.signature(BUILT_IN[name]).parameters)


def built_in(name: str, options: Mapping[str, int]) -> Workload:
    """The workload of a name.

    Raises:
        ValueError: there is none, or it does not take an option, or not that value; the message says what there is.
    """
    if name not in BUILT_IN:
        raise ValueError(f"there is no workload {name!r}: there are {', '.join(BUILT_IN)}, or a file.py")
    for option, value in options.items():
        if option not in options_of(name):
            owners = [each for each in BUILT_IN if option in options_of(each)]
            hint = f"{option} is an option of {' and '.join(owners)}" if owners else f"there is no option {option!r}"
            raise ValueError(f"workload {name} takes no {option}: {hint}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{option} must be a whole number, 1 or more, not {value!r}")
        if value > MOST[option]:
            raise ValueError(f"{option} must be at most {MOST[option]:,}, not {value:,}")
    return BUILT_IN[name](**options)
