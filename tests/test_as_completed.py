"""`Agent.as_completed`: one run per prompt, each result as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from greenroom import Agent, RunResult, System, SystemClosed, UnknownOption, tool
from greenroom.providers import InvalidRequest, ModelRequest, Scripted, call
from greenroom.testing import Interruption, explore, interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")


def both(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In virtual time, with nothing left behind, on both backends."""
    for backend in BACKENDS:
        run(scenario, backend=backend)


def sleeper(count: int = 20, ends: list[str] | None = None) -> Agent[Any, str]:
    """Sleeps as many seconds as it is told, and says how long; for "bad" it fails."""

    async def reply(request: ModelRequest) -> str:
        said = request.messages[-1].text
        if said == "bad":
            raise InvalidRequest("bad")
        try:
            await anyio.sleep(float(said))
        finally:
            if ends is not None:
                ends.append(said)
        return said

    return Agent("sleeper", Scripted(*[reply] * count))


def test_results_come_as_runs_end_with_the_index_of_their_prompt() -> None:
    async def scenario() -> None:
        found: list[Any] = []
        async with sleeper().as_completed(["3", "1", "2"]) as results:
            async for index, result in results:
                assert isinstance(result, RunResult)
                found.append((index, result.output, anyio.current_time()))
        assert found == [(1, "1", 1.0), (2, "2", 2.0), (0, "3", 3.0)]

    both(scenario)


def test_ties_come_in_the_order_of_the_prompts() -> None:
    """In every order of tasks, also where one who is slow finds several."""

    async def scenario() -> None:
        async with sleeper().as_completed(["2", "1", "1", "1", "2"]) as results:
            assert [index async for index, _ in results] == [1, 2, 3, 0, 4]
        async with sleeper().as_completed(["3", "2", "1"]) as results:
            await anyio.sleep(9)
            assert [index async for index, _ in results] == [0, 1, 2]

    explore(scenario, seeds=range(20))


def test_errors_stand_in_the_place_of_results() -> None:
    async def scenario() -> None:
        async with sleeper().as_completed(["bad", "1"], concurrency=1) as results:
            found = [(index, type(result)) async for index, result in results]
        assert found == [(0, InvalidRequest), (1, RunResult)]

    both(scenario)


def test_an_error_may_be_raised_when_its_turn_comes() -> None:
    """It leaves the block bare, and ends the others."""

    async def scenario() -> None:
        ends: list[str] = []
        found: list[str] = []
        with pytest.raises(InvalidRequest):
            async with sleeper(ends=ends).as_completed(["60", "bad", "0"], on_error="raise") as results:
                async for _, result in results:
                    found.append(result.output)
        assert anyio.current_time() == 0
        assert ends == ["0", "60"]

    both(scenario)


def test_leaving_the_block_early_ends_what_is_left_and_reads_no_further() -> None:
    async def scenario() -> None:
        ends: list[str] = []
        told: list[str] = []
        prompts = (each for each in ["1", "50", "60", "70"])
        agent = sleeper(ends=ends)
        async with agent.as_completed(
            prompts, concurrency=3, on_event=lambda event: told.append(event.type)
        ) as results:
            async for _, result in results:
                assert isinstance(result, RunResult)
                assert result.output == "1"
                break
        assert anyio.current_time() == 1
        assert sorted(ends) == ["1", "50", "60"]
        assert told.count("run.stopped") == told.count("run.started") - 1
        with pytest.raises(RuntimeError, match="has ended, and its runs with it"):
            await anext(results)

    both(scenario)


def test_prompts_are_read_as_runs_begin() -> None:
    """Also where there is no end to them; the consumer does not hold runs up."""

    async def scenario() -> None:
        read = 0

        def prompts() -> Iterator[str]:
            nonlocal read
            while True:
                read += 1
                yield "1"

        async with sleeper(100).as_completed(prompts(), concurrency=3) as results:
            await anyio.wait_all_tasks_blocked()
            assert read == 4  # three at work, one that waits for a place
            await anyio.sleep(2.5)
            assert read == 10
            assert [(await anext(results))[0] for _ in range(6)] == [0, 1, 2, 3, 4, 5]
        assert read == 10

    both(scenario)


def test_an_error_of_the_prompts_comes_after_the_runs_that_had_begun() -> None:
    async def scenario() -> None:
        def prompts() -> Iterator[str]:
            yield "5"
            yield "1"
            raise LookupError("no more")

        found: list[int] = []
        with pytest.raises(LookupError, match="no more"):
            async with sleeper().as_completed(prompts()) as results:
                async for index, _ in results:
                    found.append(index)
        assert found == [1, 0]

    both(scenario)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_in_the_prompts_leaves_bare(backend: str) -> None:
    def prompts() -> Iterator[str]:
        yield "60"
        raise KeyboardInterrupt

    async def main() -> None:
        async with sleeper().as_completed(prompts()) as results:
            async for _ in results:
                pass

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend=backend)


def test_an_error_of_the_block_leaves_bare_when_the_runs_have_ended() -> None:
    async def scenario() -> None:
        ends: list[str] = []
        with pytest.raises(LookupError, match="mine"):
            async with sleeper(ends=ends).as_completed(["60"]) as results:
                await anyio.wait_all_tasks_blocked()
                assert results is not None
                raise LookupError("mine")
        assert ends == ["60"]

    both(scenario)


def test_cancelling_the_block_ends_the_runs_and_no_prompts_is_no_result() -> None:
    async def scenario() -> None:
        ends: list[str] = []
        with anyio.move_on_after(3) as scope:
            async with sleeper(ends=ends).as_completed(["60", "70"]) as results:
                async for _ in results:
                    pass
        assert scope.cancelled_caught
        assert sorted(ends) == ["60", "70"]
        async with sleeper().as_completed([]) as results:
            assert [each async for each in results] == []

    both(scenario)


def test_several_tasks_may_take_results_and_none_twice() -> None:
    async def scenario() -> None:
        found: list[int] = []

        async def take() -> None:
            async for index, _ in results:
                found.append(index)
                await anyio.sleep(0.1)

        block = sleeper().as_completed([str(n % 3) for n in range(9)], concurrency=9)
        async with block as results, anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(take)
        assert sorted(found) == list(range(9))

    explore(scenario, seeds=range(10))


def test_in_a_tool_the_runs_are_subagents_and_the_tool_has_its_place_again() -> None:
    async def scenario() -> None:
        parents: list[str | None] = []
        running = most = 0
        below = sleeper()

        @tool(limit=1)
        async def ask() -> str:
            """Ask."""
            nonlocal running, most
            async with below.as_completed(["1", "50"]) as results:
                await anext(results)
            running += 1
            most = max(most, running)
            await anyio.sleep(5)
            running -= 1
            return "ok"

        def told(event: Any) -> None:
            if event.type == "run.started":
                parents.append(event.parent_id)

        async with System():
            outer = Agent("outer", Scripted([call("ask"), call("ask")], "Done."), tools=[ask])
            await outer.run("Go", run_id="top", on_event=told)
        assert parents == [None, *["top"] * 4]
        assert most == 1

    both(scenario)


def test_options_are_shared_and_refused_at_once() -> None:
    agent = sleeper()
    for wrong, kind, words in [
        (lambda: agent.as_completed("1"), TypeError, "write agent.as_completed([…])"),
        (lambda: agent.as_completed(["1"], concurrency=0), ValueError, "at least 1"),
        (lambda: agent.as_completed(["1"], concurrency=True), TypeError, "whole number"),
        (lambda: agent.as_completed(["1"], on_error="ignore"), ValueError, "'collect', 'raise'"),
        (lambda: agent.as_completed(["1"], run_id="r"), TypeError, "as_completed takes no run_id="),
        (lambda: agent.as_completed(["1"], max_concurrency=3), UnknownOption, "write concurrency=3"),
        (lambda: agent.as_completed(["1"], limits=3), TypeError, "limits="),
    ]:
        with pytest.raises(kind) as caught:
            wrong()  # type: ignore[no-untyped-call]
        assert words in str(caught.value)


def test_wrong_uses_are_told() -> None:
    async def scenario() -> None:
        block = sleeper().as_completed(["0"])
        with pytest.raises(TypeError, match="is a block"):
            async for _ in block:
                pass
        with pytest.raises(TypeError, match="without await"):
            await block
        with pytest.raises(TypeError, match="asynchronous block"), block:
            pass
        async with block as results:
            assert [index async for index, _ in results] == [0]
        with pytest.raises(RuntimeError, match="entered once"):
            async with block:
                pass
        system = System()
        with pytest.raises(SystemClosed):
            async with sleeper().as_completed(["0"], system=system):
                pass

    both(scenario)


async def disturbed(interruption: Interruption) -> None:
    """Whenever the block is cancelled, no run is left; undisturbed it has all results."""
    found: list[int] = []
    ends: list[str] = []
    with anyio.CancelScope() as scope:
        interruption.arm(scope.cancel)
        async with sleeper(ends=ends).as_completed(["2", "1", "0"], concurrency=2) as results:
            async for index, _ in results:
                found.append(index)
    assert scope.cancelled_caught or found == [1, 0, 2] or found == [1, 2, 0], found


def test_a_cancellation_at_any_step_leaves_nothing() -> None:
    interrupt_everywhere(disturbed)
