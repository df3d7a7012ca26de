"""What a run has written down that is cut off to go on elsewhere, and what it leaves behind: neither too little nor
anything."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

import anyio
import pytest

from greenroom import Agent, AgentError, ModelRetry, Run, System, tool
from greenroom.agents.run_cell import RunCell
from greenroom.journal import Said
from greenroom.providers import InvalidRequest, ModelReply, ModelRequest, Provider, ProviderError, Scripted, call
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, check_told, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@tool(replay="safe")
async def wait() -> str:
    """Wait."""
    await anyio.sleep(5)
    return "waited"


@backends
def test_a_run_is_killed_while_tools_run(backend: Any) -> None:
    """The calls run once more where it goes on: none of them has an outcome in the journal."""

    async def scenario(interruption: Interruption) -> None:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            agent = Agent("helper", Lines(["wait", "wait"], "Done."), tools=[wait])
            run = await system.start(agent, "Go", run_id="r")
            interruption.arm(run._cell.kill)
            result = await run.result()
        await check_told(journal, result)

    interrupt_everywhere(scenario, backend=backend)


@backends
def test_a_refusal_is_written_although_the_run_goes_on_elsewhere(backend: Any) -> None:
    """It is not a part of the step that is cut short, and nobody is to be asked for it again."""

    async def scenario() -> None:
        journal = RecordingJournal()
        runs: list[Run[Any]] = []

        def refuse(_: str) -> None:
            runs[0].pause()
            raise ModelRetry("in one word")

        async with System(journal=journal, sources=virtual()) as system:
            runs.append(await system.start(Agent("helper", Scripted("One two."), validators=refuse), "Go", run_id="r"))
            async for event in runs[0].events():
                if event.type == "run.paused":
                    break
            await system.drain()
            result = await runs[0].result()
        told = await check_told(journal, result)
        assert told.standing == "suspended"
        assert "in one word" in told.messages[-1].text
        assert any(isinstance(record, Said) for record in told.records)

    play(scenario, backend=backend)


@backends
def test_a_run_that_has_ended_is_no_work_for_the_collector(backend: Any) -> None:
    """With subagents and limits: nothing of it refers back to it."""

    async def scenario() -> None:
        below = Agent("below", Scripted("Yes."))
        agent = Agent("above", Scripted([call("below", prompt="?"), call("wait")], "Done."), tools=[below, wait])
        async with System():
            await agent.run("Go")
            assert [each for each in gc.get_objects() if isinstance(each, RunCell)] == []

    gc.collect()
    gc.disable()
    try:
        play(scenario, backend=backend)
    finally:
        gc.enable()


class Broken(Provider):
    """Fails for good."""

    name = model = "broken"

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise InvalidRequest("no", provider=self.name)


@tool
async def fail() -> str:
    """Fail."""
    raise RuntimeError("a bug")


@backends
@pytest.mark.parametrize(
    "agent",
    [
        Agent("helper", Broken()),
        Agent("helper", Scripted([call("fail")], "Done."), tools=[fail]),
    ],
    ids=["model", "tool"],
)
@pytest.mark.parametrize("how", ["run", "start"])
def test_a_run_that_fails_is_no_work_for_the_collector(backend: Any, agent: Agent[Any, str], how: str) -> None:
    """An error that is kept holds, in its traceback, the frames that it came through. Those of a crash stay, for who
    has to mend it."""

    async def scenario() -> None:
        async with System() as system:
            with suppress(AgentError, ProviderError):
                await (agent.run("Go") if how == "run" else (await system.start(agent, "Go")).result())
            await anyio.wait_all_tasks_blocked()
            assert [each for each in gc.get_objects() if isinstance(each, RunCell)] == []

    gc.collect()
    gc.disable()
    try:
        play(scenario, backend=backend)
    finally:
        gc.enable()
