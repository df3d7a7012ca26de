"""The same run, interrupted at every step by everything that can interrupt it.

The scenario has all that a run can be busy with: a streamed reply, a retry, parallel tools in the loop and in a
thread, a subagent with a tool of its own, hooks. It is first run undisturbed to count its steps, then once per step
and kind of interruption. Whatever the moment, there is one outcome, one last event, a valid history, and nothing is
left running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, MemoryJournal, Retry, System
from greenroom.agents.events import TERMINAL
from greenroom.journal import Claim
from greenroom.providers import Message, Overloaded, Scripted, call

from .crashes.memory import check_told

pytestmark = pytest.mark.anyio


class Scene:
    """One fresh copy of the scenario."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.told: list[Any] = []

        async def pause() -> str:
            """Pause."""
            for _ in range(3):
                await checkpoint()
            return "paused"

        def block() -> str:
            """Block."""
            return "blocked"

        async def tell(event: Any) -> None:
            await checkpoint()
            self.told.append(event)

        expert = Agent("expert", Scripted([call("pause")], "expertise"), tools=[pause])
        script = Scripted(
            Overloaded("busy"),
            ["Let me see.", call("pause"), call("block"), call("expert", prompt="?")],
            [call("pause"), call("nope")],
            "All done.",
        )
        self.agent = Agent(
            "boss",
            script,
            tools=[pause, block, expert],
            retry=Retry(base=0.0),
            hooks={"on_tool_end": tell, "on_run_end": tell},
        )

    def last_events(self) -> list[Any]:
        return [event for event in self.heard if isinstance(event, TERMINAL) and event.parent_id is None]

    def check_events(self) -> None:
        assert len(self.last_events()) == 1
        assert len([event for event in self.told if isinstance(event, TERMINAL)]) <= 1
        sequence = [event.seq for event in self.heard]
        assert sequence == sorted(set(sequence))
        started = {event.run_id for event in self.heard if event.type == "run.started"}
        ended = [event.run_id for event in self.heard if isinstance(event, TERMINAL)]
        assert len(ended) == len(set(ended))
        assert started <= set(ended)


def check_history(messages: tuple[Message, ...]) -> None:
    asked = [call.id for message in messages for call in message.tool_calls]
    answered = [result.call_id for message in messages for result in message.tool_results]
    assert asked == answered


async def steps_of(scenario: Callable[[], Awaitable[Any]]) -> int:
    """How many rounds of the scheduler an undisturbed run takes."""
    steps = 0
    done = False

    async def count() -> None:
        nonlocal steps
        while not done:
            steps += 1
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await scenario()
        done = True
    return steps


async def after(steps: int, act: Callable[[], Any]) -> None:
    """Do something at a certain round of the scheduler."""
    for _ in range(steps):
        await checkpoint()
    act()


async def count_steps() -> int:
    async def undisturbed() -> None:
        scene = Scene()
        async with System() as system:
            run = await system.start(scene.agent, "Go", on_event=scene.heard.append)
            result = await run.result()
        assert result.output == "All done."
        check_history(result.messages)
        scene.check_events()

    # A thread's round trip takes as many rounds as it likes; what matters is to reach past the end.
    return min(await steps_of(undisturbed) + 10, 250)


@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
async def test_stopped_at_every_step(mode: Any) -> None:
    """One outcome, stopped or completed, with a valid history."""
    for step in range(await count_steps()):
        scene = Scene()
        before = len(anyio.get_running_tasks())
        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            run = await system.start(scene.agent, "Go", on_event=scene.heard.append)
            await after(step, partial(run.stop, mode))
            with anyio.fail_after(10):
                result = await run.result()
        await check_told(journal, result)
        assert result.status in ("stopped", "completed"), step
        check_history(result.messages)
        scene.check_events()
        assert len(anyio.get_running_tasks()) == before


async def test_cancelled_by_a_scope_at_every_step() -> None:
    """The caller's scope catches its own cancellation, and the run says that it ended."""
    for step in range(await count_steps()):
        scene = Scene()
        before = len(anyio.get_running_tasks())
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:
                    group.start_soon(after, step, scope.cancel)
                    await scene.agent.run("Go", on_event=scene.heard.append)
        if scene.heard:
            scene.check_events()
        assert len(anyio.get_running_tasks()) == before


async def test_killed_at_every_step() -> None:
    """A killed run still has one outcome; those who wait for it get it, and its journal has what was known by then."""
    for step in range(await count_steps()):
        scene = Scene()
        before = len(anyio.get_running_tasks())
        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            run = await system.start(scene.agent, "Go", on_event=scene.heard.append)
            await after(step, run._cell.kill)
            with anyio.fail_after(10):
                result = await run.result()
        check_history(result.messages)
        await check_told(journal, result)
        assert result.status in ("stopped", "completed")
        assert len(anyio.get_running_tasks()) == before


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_natively_cancelled_at_every_step(times: int) -> None:
    """`Task.cancel`, once and twice: the task ends as cancelled, or had its result already."""
    for step in range(await count_steps()):
        scene = Scene()
        before = len(asyncio.all_tasks())
        task = asyncio.create_task(scene.agent.run("Go", on_event=scene.heard.append))
        await after(step, task.cancel)
        if times == 2:
            await after(1, task.cancel)
        try:
            result = await asyncio.wait_for(task, 10)
            check_history(result.messages)
        except asyncio.CancelledError:
            assert task.cancelled()
        if scene.heard:
            scene.check_events()
        assert len(asyncio.all_tasks()) == before


async def test_a_system_closed_at_every_step() -> None:
    """Leaving the block stops the run; its handle has the result."""
    for step in range(0, await count_steps(), 3):
        scene = Scene()
        before = len(anyio.get_running_tasks())
        async with System() as system:
            run = await system.start(scene.agent, "Go", on_event=scene.heard.append)
            await after(step, lambda: None)
        result = await run.result()
        assert result.reason in ("system", "answered")
        check_history(result.messages)
        scene.check_events()
        assert len(anyio.get_running_tasks()) == before


class Cancelling(MemoryJournal):
    """Cancels the task that waits for a run's end to be durable."""

    def __init__(self) -> None:
        super().__init__(keep=True)
        self.ended = False

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        """Keep it."""
        self.ended = final
        return super().append(claim, entry, final=final, sequence=sequence)

    async def durable(self, claim: Claim) -> None:
        """Wait, natively cancelled where it is the end."""
        if self.ended:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_run_is_what_its_journal_says_also_when_its_last_wait_is_cancelled() -> None:
    """The end is written: whoever cancels the run's task behind its back then changes nothing about it."""
    journal = Cancelling()
    async with System(journal=journal) as system:
        run = await system.start(Agent("a", Scripted("fine")), "Go")
        result = await run.result()
        assert (result.status, result.output) == ("completed", "fine")
        await check_told(journal, result)
