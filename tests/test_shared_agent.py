"""One agent, shared by many runs at once, in one event loop and in several: nothing of one gets into another."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, Limits, MemoryJournal, RunContext, System
from greenroom.providers import Message, ModelReply, ModelRequest, Provider, Usage, assistant, call

TURNS = 5
CONVERSATIONS = 200

#: What code around a run may set.
color: ContextVar[str] = ContextVar("color", default="none")


class Clerk(Provider):
    """Asks the tool what it knows, then says that and what it was asked; uses as many tokens as there are messages."""

    name, model = "clerk", "clerk-1"

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer."""
        await checkpoint()
        messages = request.messages
        used = Usage(len(messages), 1)
        if messages[-1].role == "tool":
            (result,) = messages[-1].tool_results
            asked = [message.text for message in messages if message.role == "user"][-1]
            return ModelReply(assistant(f"{asked}: {result.content}"), usage=used)
        return ModelReply(assistant(tool_calls=[call("whoami")]), usage=used)


async def whoami(context: RunContext[Any]) -> str:
    """Say who this is for."""
    before = (context.deps, context.user_id, context.conversation_id, context.run_id, dict(context.metadata))
    await checkpoint()
    context.deps["calls"] += 1
    assert before[1:] == (context.user_id, context.conversation_id, context.run_id, dict(context.metadata))
    return f"{context.user_id} {context.conversation_id} {context.run_id} {context.metadata['n']} {color.get()}"


def said(instructions_seen: list[str]) -> Any:
    """Instructions that depend on the run."""

    def instructions(context: RunContext[Any]) -> str:
        instructions_seen.append(context.user_id or "")
        return f"You work for {context.user_id}."

    return instructions


def expected(name: str, turns: int) -> Iterator[tuple[str, str]]:
    """What is said in a conversation, by role."""
    for turn in range(1, turns + 1):
        prompt = f"{name} asks {turn}"
        yield "user", prompt
        yield "assistant", ""
        yield "tool", ""
        yield "assistant", f"{prompt}: u{name} {name} {name}.{turn} {name} {name}"


def check(messages: tuple[Message, ...], name: str) -> None:
    """All that was said, and nothing that was said elsewhere."""
    assert [(message.role, message.text) for message in messages] == list(expected(name, TURNS))


async def talk(agent: Agent[Any, str], system: System, name: str, door: int) -> None:
    """One conversation, by one of the ways to begin a run."""
    color.set(name)
    deps = {"calls": 0}
    heard: list[Any] = []
    options: dict[str, Any] = {"user_id": f"u{name}", "metadata": {"n": name}, "on_event": heard.append}
    result: Any = None
    for turn in range(1, TURNS + 1):
        prompt = f"{name} asks {turn}"
        if door == 0:
            result = await system.conversation(agent, name, deps=deps, **options).ask(prompt)
        elif door == 1:
            result = await agent.run(prompt, deps=deps, conversation_id=name, **options)
        elif door == 2:
            run = await system.start(agent, prompt, deps=deps, conversation_id=name, **options)
            result = await run.result()
        else:
            async with agent.stream(prompt, deps=deps, conversation_id=name, **options) as run:
                result = await run.result()
        known = 4 * (turn - 1)
        assert (result.usage.input_tokens, result.usage.output_tokens) == (known + 1 + known + 3, 2)
        assert (result.run_id, result.agent) == (f"{name}.{turn}", "clerk")
    check(result.messages, name)
    assert deps == {"calls": TURNS}
    assert {event.user_id for event in heard} == {f"u{name}"}
    assert {event.conversation_id for event in heard} == {name}
    assert {event.run_id for event in heard} == {f"{name}.{turn}" for turn in range(1, TURNS + 1)}


def test_many_conversations_in_two_event_loops() -> None:
    """200 conversations of five turns each on one agent, through every door, half of them in another thread."""
    seen: list[str] = []
    agent: Agent[Any, str] = Agent("clerk", Clerk(), tools=[whoami], instructions=said(seen))
    errors: list[BaseException] = []

    def live(backend: str, part: int) -> None:
        async def serve() -> None:
            async with System(journal=MemoryJournal(keep=True), max_running=50) as system:
                async with anyio.create_task_group() as group:
                    for number in range(CONVERSATIONS // 2):
                        group.start_soon(talk, agent, system, f"{part}-{number}", number % 4)
                assert len(await system.stage.journal.runs()) == TURNS * CONVERSATIONS // 2
                assert system.stage.queue is not None
                assert (system.stage.queue._booked, system.stage.queue._free) == (0, 50)
                assert len(system.pool) == 0

        try:
            anyio.run(serve, backend=backend)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=live, args=(backend, part)) for part, backend in enumerate(("asyncio", "trio"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert len(seen) == 2 * TURNS * CONVERSATIONS
    assert len(set(seen)) == CONVERSATIONS


@pytest.mark.anyio
async def test_an_agent_keeps_nothing_of_its_runs() -> None:
    """What a run makes of its history, its deps and its metadata stays with it."""
    agent: Agent[Any, str] = Agent("clerk", Clerk(), tools=[whoami])
    results = []
    async with System(), anyio.create_task_group() as group:

        async def one(name: str) -> None:
            color.set(name)
            results.append(
                await agent.run(
                    name,
                    deps={"calls": 0},
                    user_id=f"u{name}",
                    conversation_id=name,
                    run_id=name,
                    metadata={"n": name},
                )
            )

        for number in range(50):
            group.start_soon(one, str(number))
    for result in results:
        name = result.run_id
        assert result.output == f"{name}: u{name} {name} {name} {name} {name}"
        assert result.usage == Usage(4, 2)
        assert len(result.messages) == 4


def test_a_run_goes_by_its_own_limits_whoever_begins_meanwhile() -> None:
    """Runs begin in several threads: another may come between any two lines."""
    agent, ours, theirs = Agent("clerk", Clerk()), Limits(turns=3), Limits(turns=7)

    def between(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            sys.settrace(None)
            assert agent.rules(theirs).turns == 7
            sys.settrace(between)
        return between if frame.f_code is Agent.rules.__code__ else None

    before = sys.gettrace()
    for _ in range(2):
        sys.settrace(between)
        try:
            rules = agent.rules(ours)
        finally:
            sys.settrace(before)
        assert rules.turns == 3
