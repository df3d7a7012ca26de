"""What happens in a soak: runs of every kind, and how each is taken to its end.

A run's kind, and every random choice in it, follow from the seed and its number, so that a soak can be repeated as far
as the clock lets it. Each of `KINDS` takes one run from its beginning to its end and returns in one word how that was:
its status, or ``cancelled`` where whoever waited for it was.

Actors that are no runs are crashed beside them (`Crashing`): their restarts, dead letters and late answers are kept in
places that must not grow either.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from greenroom import (
    Actor,
    Agent,
    AgentError,
    ChildSpec,
    Context,
    Limits,
    MailboxClosed,
    ProviderError,
    Retry,
    Run,
    RunContext,
    RunEnded,
    Supervision,
    Supervisor,
    System,
    tool,
)
from greenroom.actors import ActorError
from greenroom.load import Call, Plan, Turn
from greenroom.providers import Provider

RETRY = Retry(attempts=3, base=0.01, max_delay=0.1)
#: What a tool may take, and what one takes that does not heed it.
SOON, LATE = 0.02, 0.04
#: Runs of one conversation, and which share of all runs has one.
ASKS, TALKING = 2, 1 / 20
ANSWER = "That is all that can be said about it, and it is said in as many words as a stream needs to be left half way."
#: The kinds whose agent crashes in the code around it, and how often.
CRASHES = {"crash": 1, "crash, for good": 3}


class Errand:
    """One run: its number, its kind, its dice. Given to its tools."""

    def __init__(self, seed: int, number: int, names: list[str], weights: list[float]) -> None:
        self.dice = random.Random(f"{seed}:{number}")
        self.number = number
        self.kind = self.dice.choices(names, weights)[0]
        #: How often the code around it is still to crash.
        self.crashes = CRASHES.get(self.kind, 0)

    def prompt(self) -> str:
        """What is asked, with the plan that the simulated model follows."""
        special = _CALLS.get(self.kind, ("look",))
        first = Turn((Call("look", {"item": self.number}), Call("count", {"item": self.number})))
        second = Turn(tuple([Call(name, {"item": self.number}) for name in special]))
        return Plan((first, second), ANSWER, chunks=12).prompt(f"errand {self.number}")


#: What the model calls in its second turn, where that is not the usual.
_CALLS = {
    "tool fails": ("fail", "fail_in_thread", "look"),
    "tool is late": ("late", "late_in_thread"),
    "subagents": ("ask", "ask"),
    "background": ("leave_behind", "adopt_out"),
}


class Workshop:
    """The agents of all runs, and what they count.

    Attributes:
        agent, talker: the one that most runs are of, and the one of conversations.
        in_threads: functions of tools that are at work in threads, given up or not.
    """

    def __init__(self, provider: Provider) -> None:
        self.in_threads = 0
        self.talker = Agent("talker", provider, retry=RETRY)
        self.agent = self._agent(provider)

    def _agent(self, provider: Provider) -> Agent[Any, str]:
        clerk_plan = Plan((Turn((Call("look", {"item": 1}),)),), "Done.")

        @tool
        async def look(item: int) -> dict[str, int]:
            """Look at an item."""
            await anyio.lowlevel.checkpoint()
            return {"item": item, "seen": item % 7}

        @tool
        def count(item: int) -> str:
            """Count an item, in a thread."""
            return f"{item % 90} of them"

        @tool
        async def fail(item: int) -> str:
            """Fail."""
            raise ConnectionError(f"nobody answers for {item}")

        @tool
        def fail_in_thread(item: int) -> str:
            """Fail in a thread."""
            raise ConnectionError(f"nobody answers for {item}")

        @tool(timeout=SOON)
        async def late(item: int) -> str:
            """Take too long."""
            await anyio.sleep_forever()
            return str(item)

        @tool(timeout=SOON)
        def late_in_thread(item: int) -> str:
            """Take too long in a thread, which goes on."""
            self.in_threads += 1
            time.sleep(LATE)
            self.in_threads -= 1
            return str(item)

        @tool
        async def ask(item: int) -> str:
            """Ask a clerk."""
            return (await clerk.run(clerk_plan.prompt(f"part of {item}"))).output

        @tool
        async def leave_behind(context: RunContext[Errand], item: int) -> str:
            """Have a clerk work that is stopped with this run."""
            await context.spawn(clerk, clerk_plan.prompt(f"beside {item}"))
            return "begun"

        @tool
        async def adopt_out(context: RunContext[Errand], item: int) -> str:
            """Have a clerk work that outlives this run."""
            await context.spawn(clerk, clerk_plan.prompt(f"behind {item}"), orphan="adopt")
            return "begun"

        def instructions(context: RunContext[Errand]) -> str:
            if context.deps.crashes:
                context.deps.crashes -= 1
                raise RuntimeError("the instructions could not be loaded")
            return "You run errands."

        clerk = Agent("clerk", provider, tools=[look], retry=RETRY)
        return Agent(
            "errands",
            provider,
            instructions=instructions,
            tools=[look, count, fail, fail_in_thread, late, late_in_thread, ask, leave_behind, adopt_out],
            deps_type=Errand,
            retry=RETRY,
            supervision=Supervision(intensity=2),
        )


class Soaked:
    """Where the runs are, and what is done with what they give: `keep` is called with each result."""

    def __init__(self, system: System, shop: Workshop, keep: Callable[[Any], object] | None) -> None:
        self.system = system
        self.agent = shop.agent
        self._talker = shop.talker
        self._keep = keep

    async def say(self, conversation: str, number: int) -> str:
        """Say something in a conversation, and return how that run has ended."""
        chat = self.system.conversation(self._talker, conversation)
        return await self.outcome(chat.ask(Plan(answer="Good day.").prompt(f"greeting {number}")))

    async def start(self, errand: Errand, **options: Any) -> Run[str]:
        return await self.system.start(self.agent, errand.prompt(), deps=errand, **options)

    async def outcome(self, ending: Awaitable[Any]) -> str:
        """How a run has ended, given what waits for its result."""
        try:
            result = await ending
        except (AgentError, ProviderError) as error:
            result = error.result
        assert result is not None
        if self._keep is not None:
            self._keep(result)
        return result.status


Kind: TypeAlias = Callable[[Soaked, Errand], Awaitable[str]]


async def _plain(place: Soaked, errand: Errand) -> str:
    return await place.outcome((await place.start(errand)).result())


async def _awaited(place: Soaked, errand: Errand) -> str:
    return await place.outcome(place.agent.run(errand.prompt(), deps=errand))


async def _read(place: Soaked, errand: Errand) -> str:
    async with place.agent.stream(errand.prompt(), deps=errand) as run:
        try:
            async for _ in run.text():
                pass
        except (AgentError, ProviderError):
            pass  # the run's own, which its result raises again
        return await place.outcome(run.result())


async def _left(place: Soaked, errand: Errand) -> str:
    """Followed by somebody who has seen enough, and leaves."""
    pieces = errand.dice.randrange(1, 10)
    async with place.agent.stream(errand.prompt(), deps=errand) as run:
        try:
            async for _ in run.text():
                pieces -= 1
                if not pieces:
                    break
        except (AgentError, ProviderError):
            pass
    return await place.outcome(run.result())


async def _forgotten(place: Soaked, errand: Errand) -> str:
    """Followed by a reader who is forgotten in the middle."""
    run = await place.start(errand)
    events = errand.dice.randrange(1, 12)
    try:
        async for _ in run.events():
            events -= 1
            if not events:
                break
    except (AgentError, ProviderError):
        pass
    return await place.outcome(run.result())


async def _stopped(place: Soaked, errand: Errand) -> str:
    run = await place.start(errand)
    await anyio.sleep(errand.dice.uniform(0, 0.05))
    mode: Any = errand.dice.choice(("now", "after_tools", "after_turn"))
    run.stop(mode, grace=errand.dice.choice((None, 0, 0.01)))
    return await place.outcome(run.result())


async def _cancelled(place: Soaked, errand: Errand) -> str:
    with anyio.move_on_after(errand.dice.uniform(0, 0.05)):
        return await place.outcome(place.agent.run(errand.prompt(), deps=errand))
    return "cancelled"


async def _limited(place: Soaked, errand: Errand) -> str:
    return await place.outcome((await place.start(errand, limits=Limits(turns=1, children=2))).result())


async def _told(place: Soaked, errand: Errand) -> str:
    """Sent a message while it works, or too late."""
    run = await place.start(errand)
    await anyio.sleep(errand.dice.uniform(0, 0.05))
    try:
        run.send("And be quick about it.", errand.dice.choice(("asap", "idle")))
    except RunEnded:
        pass
    return await place.outcome(run.result())


async def _talk(place: Soaked, errand: Errand) -> str:
    return await place.say(f"talk-{int(errand.number * TALKING) // ASKS}", errand.number)


#: By name: what it does, and how often it is among the runs.
KINDS: dict[str, tuple[Kind, float]] = {
    "plain": (_plain, 20),
    "awaited": (_awaited, 10),
    "read": (_read, 10),
    "left": (_left, 8),
    "forgotten": (_forgotten, 5),
    "stopped": (_stopped, 12),
    "cancelled": (_cancelled, 8),
    "limited": (_limited, 3),
    "told": (_told, 4),
    "talk": (_talk, 100 * TALKING),
    "tool fails": (_plain, 4),
    "tool is late": (_plain, 2),
    "subagents": (_plain, 3),
    "background": (_plain, 3),
    "crash": (_plain, 2),
    "crash, for good": (_plain, 1),
}
NAMES, WEIGHTS = list(KINDS), [weight for _, weight in KINDS.values()]


class Crashing(Actor):
    """Does as it is told: crashes, is silent for a while, or answers."""

    async def receive(self, message: Any, context: Context) -> Any:
        if message == "crash":
            raise RuntimeError("as it was told")
        if message == "wait":
            await anyio.sleep(SOON)
        return message


def crashing(intensity: int) -> Supervisor:
    """A group whose child crashes once in each lap."""
    return Supervisor([ChildSpec("worker", Crashing, restart="permanent")], intensity=intensity, period=0.5)


async def crash_actors(system: System, group: Any, late: int = 1) -> None:
    """A crash, a restart, an answer that comes too late; a group that is begun and ended, and dead letters for it."""
    worker = group.child("worker")
    assert worker is not None
    await worker.tell("crash")
    with anyio.move_on_after(SOON / 4):
        await worker.ask("wait")
    while True:
        try:
            assert await worker.ask("answer", timeout=5.0) == "answer"
            break
        except ActorError:
            await anyio.lowlevel.checkpoint()  # asked what was crashing
    other = await system.spawn(crashing(3))
    child = other.child("worker")
    assert child is not None
    await child.tell("crash")
    await other.stop()
    try:
        await child.tell("too late")
    except MailboxClosed:
        pass
    for _ in range(late):
        system.send_after(0, child, "too late")
