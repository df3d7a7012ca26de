"""A tool that is stopped: before it has begun, while it runs, and when it will not be; whatever runs around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from greenroom import Agent, StopToken, System, Tool, tool
from greenroom.providers import Scripted, call
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
#: Options of a tool that runs in a scope of its own, and of one that does not.
RULES = pytest.mark.parametrize("rules", [{}, {"timeout": 60}, {"limit": 1}], ids=["plain", "timeout", "governed"])


def causes(result: Any) -> list[str | None]:
    return [each.cause for message in result.messages for each in message.tool_results]


@RULES
@BACKENDS
def test_a_tool_that_has_not_begun_at_a_stop_never_begins(backend: Any, rules: dict[str, Any]) -> None:
    """Stopped at every step of the run: also where the tool's task is made and has had no turn yet."""
    cut: list[int] = []

    async def scenario(interruption: Interruption) -> None:
        stopped = False
        begun: list[bool] = []

        @tool(**rules)
        async def work() -> str:
            """Work."""
            begun.append(stopped)
            await anyio.sleep(1)
            return "done"

        async with System() as system:
            run = await system.start(Agent("a", Scripted([call("work"), call("work")], "Done."), tools=[work]), "Go")

            def stop() -> None:
                nonlocal stopped
                stopped = True
                run.stop("now")

            interruption.arm(stop)
            result = await run.result()
        assert True not in begun
        cut.append(causes(result).count("cancelled") - (len(begun) - causes(result).count(None)))

    interrupt_everywhere(scenario, backend=backend)
    assert max(cut) > 0, "no stop came before a tool had begun"


def stubborn(swallow: Callable[[], Awaitable[Any]], **rules: Any) -> Tool[..., Any]:
    """A tool that does this about its cancellation, and says that all went well."""

    @tool(**rules)
    async def work() -> str:
        """Work."""
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            await swallow()
        return "all is well"

    return work


async def nothing() -> None: ...


@RULES
@BACKENDS
def test_a_tool_that_swallows_the_end_of_its_run_has_not_succeeded(backend: Any, rules: dict[str, Any]) -> None:
    """Nobody asked the tool to stop: the task of its run was cancelled, and its own with it."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")], "Done."), tools=[stubborn(nothing, **rules)])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            tools = [*run._cell.batch.cells.values()] if run._cell.batch is not None else []
            run._cell.kill()
            result = await run.result()
        assert causes(result) == ["cancelled"]
        assert [each.result and each.result.cause for each in tools] == ["cancelled"]

    play(scenario, backend=backend)


@BACKENDS
def test_a_ladder_stands_although_the_caller_is_cancelled(backend: Any) -> None:
    """The run that heeds neither the stop nor the cancellation is given up when its grace is over."""

    async def deaf() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(600)

    async def scenario() -> None:
        heard: list[tuple[str, float]] = []
        token = StopToken()
        agent = Agent("a", Scripted([call("work")], "Done."), tools=[stubborn(deaf)])

        async def caller() -> None:
            await agent.run("Go", stop=token, on_event=lambda event: heard.append((event.type, anyio.current_time())))

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await anyio.sleep(1)
            token.stop(grace=5)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        assert ("tool.outlived", 6.1) in [(kind, round(at, 3)) for kind, at in heard]
        assert (heard[-1][0], round(heard[-1][1], 3)) == ("run.stopped", 6.1)

    play(scenario, backend=backend)
