"""Several runs at once: `race`, `quorum`, `wait_any` and `wait_all`."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import (
    Agent,
    AgentError,
    NoneCompleted,
    NoQuorum,
    Run,
    StopToken,
    System,
    WouldDeadlock,
    quorum,
    race,
    tool,
    wait_all,
    wait_any,
)
from greenroom.actors import StrayCancellation
from greenroom.providers import InvalidRequest, ModelRequest, Scripted, call
from greenroom.testing import Interruption, explore, interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")


def both(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In virtual time, with nothing left behind, on both backends."""
    for backend in BACKENDS:
        run(scenario, backend=backend)


async def after(seconds: float, value: Any, ends: list[Any] | None = None) -> Any:
    """Return `value`, or raise it."""
    try:
        await anyio.sleep(seconds)
    except BaseException:
        if ends is not None:
            ends.append(value)
        raise
    if isinstance(value, BaseException):
        raise value
    return value


def slow(seconds: float, answer: str) -> Callable[[ModelRequest], Coroutine[Any, Any, str]]:
    """A line of a script that takes its time."""
    return lambda _request: after(seconds, answer)


def helper(*lines: Any, **options: Any) -> Agent[Any, str]:
    return Agent("helper", Scripted(*lines), **options)


# -- race


def test_the_first_that_completes_wins_and_the_others_have_ended() -> None:
    async def scenario() -> None:
        told: list[str] = []
        careful = helper(slow(60, "late"))
        winner = await race(
            careful.run("Q", on_event=lambda event: told.append(event.type)), helper(slow(1, "soon")).run("Q")
        )
        assert winner.output == "soon"
        assert anyio.current_time() == 1
        assert told[-1] == "run.stopped"

    both(scenario)


def test_a_loss_does_not_end_the_race() -> None:
    """Neither an error nor a run that was stopped or limited wins."""

    async def scenario() -> None:
        token = StopToken()
        token.stop()
        limited = helper([call("gone")], tool_retries=9).with_(name="limited")
        winner = await race(
            helper(InvalidRequest("bad")).run("Q"),
            helper("never").run("Q", stop=token),
            after(1, ValueError("plain")),
            limited.run("Q", on_limit="return"),
            helper(slow(5, "right")).run("Q"),
        )
        assert winner.output == "right"

    both(scenario)


def test_all_lost_is_one_error_with_every_cause_in_order() -> None:
    """Scenario 49: the group has a leaf for each, whatever the order of their ends."""

    async def scenario() -> None:
        token = StopToken()
        token.stop(reason="budget")
        with pytest.raises(NoneCompleted, match="none of 3 completed") as caught:
            await race(
                after(3, ValueError("last")),
                helper("never").run("Q", stop=token, run_id="r1"),
                helper(InvalidRequest("bad")).run("Q"),
            )
        late, stopped, failed = caught.value.exceptions
        assert (type(late), type(failed)) == (ValueError, InvalidRequest)
        assert type(stopped) is AgentError
        assert str(stopped) == "run 'r1' of 'helper' is stopped (budget)"
        assert stopped.result is not None
        assert stopped.result.status == "stopped"
        part = caught.value.subgroup(ValueError)
        assert type(part) is NoneCompleted

    both(scenario)


def test_one_alone_that_loses_is_a_group_of_one() -> None:
    async def scenario() -> None:
        with pytest.raises(NoneCompleted) as caught:
            await race(after(0, KeyError("only")))
        assert [type(each) for each in caught.value.exceptions] == [KeyError]

    both(scenario)


def test_ties_are_decided_by_the_order_of_the_arguments() -> None:
    """In every order of tasks."""

    async def scenario() -> None:
        assert await race(after(1, "a"), after(1, "b"), after(1, "c")) == "a"
        assert await race(after(1, ValueError()), after(1, "b"), after(1, "c")) == "b"
        assert await quorum(after(1, "a"), after(1, "b"), after(1, "c"), need=2) == ["a", "b"]
        assert await quorum(after(2, "a"), after(1, "b"), after(2, "c"), need=2) == ["a", "b"]
        with pytest.raises(NoneCompleted) as caught:
            await race(after(1, KeyError()), after(1, ValueError()), after(0, IndexError()))
        assert [type(each) for each in caught.value.exceptions] == [KeyError, ValueError, IndexError]

    explore(scenario, seeds=range(30))


def test_cancelling_the_caller_cancels_all() -> None:
    async def scenario() -> None:
        ends: list[Any] = []
        with anyio.move_on_after(5) as scope:
            await race(after(60, "a", ends), after(60, "b", ends))
        assert scope.cancelled_caught
        with anyio.move_on_after(5) as scope:
            await quorum(after(60, "c", ends), after(60, "d", ends), need=1)
        assert scope.cancelled_caught
        assert sorted(ends) == ["a", "b", "c", "d"]

    both(scenario)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_must_stop_the_process_passes_through_bare(error: type[BaseException], backend: str) -> None:
    """Scenario 49."""

    async def main() -> None:
        await race(after(0, error()), anyio.sleep(60))

    with pytest.raises(error):
        anyio.run(main, backend=backend)


def test_what_losers_raise_while_they_are_cancelled_is_dropped() -> None:
    """Also a group of their clean-up's errors and their cancellation."""

    async def scenario() -> None:
        async def rude() -> str:
            try:
                await anyio.sleep(60)
            finally:
                raise ValueError("in the clean-up")
            return ""

        async def ruder() -> str:
            try:
                await anyio.sleep(60)
            except BaseException as error:
                raise BaseExceptionGroup("both", [error, ValueError("too")]) from None
            return ""

        async def deaf() -> str:
            try:
                await anyio.sleep(60)
            except anyio.get_cancelled_exc_class():
                return "too late"
            return ""

        assert await race(rude(), ruder(), deaf(), after(1, "won")) == "won"
        with anyio.move_on_after(1) as scope:
            await race(rude(), ruder(), deaf())
        assert scope.cancelled_caught

    both(scenario)


def test_a_future_that_somebody_cancelled_is_a_loss() -> None:
    """It must neither hang the race nor cancel it."""

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        with pytest.raises(NoneCompleted) as caught:
            await race(future)
        assert isinstance(caught.value.exceptions[0], StrayCancellation)
        done = asyncio.get_running_loop().create_future()
        done.set_result(3)
        assert await race(done, done.get_loop().create_future()) == 3

    asyncio.run(main())


def test_in_a_tool_the_runs_are_subagents() -> None:
    """Nobody passes anything along."""

    async def scenario() -> None:
        fast, careful = helper(slow(1, "fast")), helper(slow(9, "careful"))
        seen: list[tuple[str, str | None]] = []

        async def ask() -> str:
            """Ask both."""
            return (await race(careful.run("Q"), fast.run("Q"))).text

        def told(event: Any) -> None:
            if event.type.startswith("run."):
                seen.append((event.type, event.parent_id))

        outer = Agent("outer", Scripted([call("ask")], "Done."), tools=[ask])
        result = await outer.run("Go", run_id="top", on_event=told)
        assert result.messages[-2].tool_results[0].content == "fast"
        below = [type for type, parent in seen if parent == "top"]
        assert below == ["run.started", "run.started", "run.completed", "run.stopped"]

    both(scenario)


def test_a_tool_has_its_place_again_before_it_goes_on() -> None:
    """The losers that were cut short must not let two calls of one place run at once."""

    async def scenario() -> None:
        running = most = 0

        @tool(limit=1)
        async def ask() -> str:
            """Ask."""
            nonlocal running, most
            await race(helper(slow(1, "a")).run("Q"), helper(slow(9, "b")).run("Q"))
            running += 1
            most = max(most, running)
            await anyio.sleep(5)
            running -= 1
            return "ok"

        async with System():
            outer = Agent("outer", Scripted([call("ask"), call("ask")], "Done."), tools=[ask])
            await outer.run("Go")
        assert most == 1

    both(scenario)


# -- quorum


def test_a_quorum_is_the_first_that_complete_in_the_order_of_the_arguments() -> None:
    async def scenario() -> None:
        ends: list[Any] = []
        found = await quorum(after(3, "a"), after(9, "b", ends), after(1, KeyError()), after(2, "d"), need=2)
        assert found == ["a", "d"]
        assert ends == ["b"]
        assert anyio.current_time() == 3

    both(scenario)


def test_a_quorum_that_agrees() -> None:
    """Keys need no hash, and one that is not equal to itself agrees with itself."""

    async def scenario() -> None:
        answers = [{"city": "Oslo"}, {"city": "Rome"}, {"city": "Oslo"}]
        agents = [helper(slow(index, str(index))) for index in range(4)]
        found = await quorum(
            *(each.run("Q") for each in agents[:3]), need=2, agree=lambda result: answers[int(result.output)]
        )
        assert [result.output for result in found] == ["0", "2"]
        nan = float("nan")
        assert await quorum(after(0, nan), after(0, nan), need=2, agree=lambda each: each) == [nan, nan]

    both(scenario)


def test_a_quorum_ends_as_soon_as_it_cannot_be_reached() -> None:
    """With what there was, and why; those that are still at work are cancelled."""

    async def scenario() -> None:
        ends: list[Any] = []
        with pytest.raises(NoQuorum, match=r"3 are needed, which can no longer be: 1 of 4 completed$") as caught:
            await quorum(after(2, KeyError("x")), after(9, "b", ends), after(1, "c"), after(3, ValueError()), need=3)
        assert anyio.current_time() == 3
        error = caught.value
        assert (error.need, error.results, ends) == (3, ["c"], ["b"])
        assert [type(cause) for cause in error.causes] == [KeyError, ValueError]
        assert isinstance(error.__cause__, ExceptionGroup)
        assert error.__cause__.exceptions == error.causes

    both(scenario)


def test_a_quorum_that_cannot_agree() -> None:
    async def scenario() -> None:
        ends: list[Any] = []
        with pytest.raises(NoQuorum, match="2 of 3 completed, with 2 different answers") as caught:
            await quorum(after(1, "a"), after(9, "b", ends), after(2, "c"), need=3, agree=str)
        assert (caught.value.results, caught.value.causes, caught.value.__cause__) == (["a", "c"], (), None)
        assert ends == ["b"]
        assert anyio.current_time() == 2

    both(scenario)


def test_what_agree_raises_ends_all_and_is_raised() -> None:
    async def scenario() -> None:
        ends: list[Any] = []

        def agree(_value: object) -> None:
            raise LookupError("in agree")

        with pytest.raises(LookupError, match="in agree"):
            await quorum(after(1, "a"), after(9, "b", ends), need=2, agree=agree)
        assert ends == ["b"]

    both(scenario)


# -- arguments


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda a, b: race(a, 3, b), TypeError, "argument 2 is 3"),
        (lambda a, b: race([a, b]), TypeError, "write race(*runs)"),
        (lambda a, b: race(a, b, a), ValueError, "argument 3 is there twice"),
        (lambda a, b: race(race(a, b), None), TypeError, "argument 2 is None"),
        (lambda a, b: race(a, b, helper("x").stream("Q")), TypeError, "<stream of agent 'helper'"),
        (lambda a, b: race(a, b, after), TypeError, "takes awaitables such as agent.run(…)"),
        (lambda a, b: quorum(a, b, need=0), ValueError, "from 1 to 2"),
        (lambda a, b: quorum(a, b, need=3), ValueError, "from 1 to 2, the number of runs, not 3"),
        (lambda a, b: quorum(a, b, need=True), TypeError, "a whole number, not True"),
        (lambda a, b: quorum(a, b, need=1, agree=after), TypeError, "a plain function"),
        (lambda a, b: quorum(a, b, need=1, agree="output"), TypeError, "a plain function of a result, not 'output'"),
    ],
)
def test_bad_arguments_are_refused_at_once_and_no_coroutine_is_left(
    wrong: Callable[[Any, Any], Any], kind: type[Exception], words: str
) -> None:
    """Warnings are errors: one that nobody awaited would be one."""
    with pytest.raises(kind) as caught:
        wrong(helper("x").run("Q"), after(0, 1)).close()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"race\(\) takes at least one awaitable"):
        race()
    with pytest.raises(ValueError, match=r"quorum\(\) takes at least one awaitable"):
        quorum(need=1)


@pytest.mark.anyio
async def test_a_race_that_never_began_closes_what_it_was_given() -> None:
    """Closed, or cancelled before its first step."""
    race(after(0, 1), helper("x").run("Q")).close()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await race(after(0, 1), helper("x").run("Q"))
    gc.collect()


def test_a_task_that_is_cancelled_before_it_begins_closes_what_it_was_given() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(quorum(after(0, 1), helper("x").run("Q"), need=1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()

    asyncio.run(main())


@pytest.mark.anyio
async def test_a_handle_is_no_awaitable_and_the_message_says_what_to_do() -> None:
    async with System() as system:
        handle = await system.start(helper("x"), "Q")
        with pytest.raises(TypeError, match=r"give it run.result\(\), or use wait_any"):
            race(handle)  # type: ignore[arg-type]
        assert (await race(handle.result())).output == "x"


# -- an interruption at every step


async def disturbed_race(interruption: Interruption) -> None:
    """Whenever it is cancelled, nothing is left; undisturbed it has its winner."""
    ends: list[str] = []

    async def one(name: str, steps: int) -> str:
        try:
            for _ in range(steps):
                await checkpoint()
            return name
        finally:
            ends.append(name)

    with anyio.CancelScope() as scope:
        interruption.arm(scope.cancel)
        assert await race(one("a", 6), one("b", 3), helper(slow(5, "c")).run("Q")) == "b"
    assert len(ends) in ((0, 2) if scope.cancelled_caught else (2,))


def test_a_race_that_is_cancelled_at_any_step_leaves_nothing() -> None:
    interrupt_everywhere(disturbed_race)


# -- waiting for handles


def test_waiting_for_any_gives_those_that_have_ended_however_they_did() -> None:
    async def scenario() -> None:
        async with System() as system:
            fails = await system.start(helper(slow(1, "x"), output=int, output_retries=0), "Q")
            works = await system.start(helper(slow(60, "x")), "Q")
            stopped = await system.start(helper(slow(60, "x")), "Q")
            stopped.stop()
            await stopped.result()
            assert await wait_any(works, stopped, fails) == [stopped]
            assert await wait_any(works, fails) == [fails]
            assert fails.status == "failed"
            assert anyio.current_time() == 1
            assert await wait_all(works, stopped, fails) == [works, stopped, fails]
            assert anyio.current_time() == 60

    both(scenario)


def test_runs_that_end_at_the_same_moment_are_told_together() -> None:
    async def scenario() -> None:
        async with System() as system:
            runs = [await system.start(helper(slow(1, "x")), "Q") for _ in range(3)]
            assert await wait_any(*runs) == runs

    explore(scenario, seeds=range(10))


def test_cancelling_the_wait_leaves_the_runs_alone() -> None:
    async def scenario() -> None:
        async with System() as system:
            runs = [await system.start(helper(slow(10, "x")), "Q") for _ in range(2)]
            for wait in (wait_any, wait_all):
                with anyio.move_on_after(1) as scope:
                    await wait(*runs)
                assert scope.cancelled_caught
            assert [each.status for each in runs] == ["running", "running"]
            assert not runs[0]._cell._watchers
            await wait_all(*runs)
            assert [each.status for each in runs] == ["completed", "completed"]

    both(scenario)


def test_a_tool_that_waits_for_its_own_run_is_told() -> None:
    async def scenario() -> None:
        handles: list[Run[Any]] = []
        errors: list[BaseException] = []

        async def wait() -> str:
            """Wait."""
            for function in (wait_any, wait_all):
                try:
                    await function(*handles)
                except WouldDeadlock as error:
                    errors.append(error)
            return "ok"

        async with System() as system:
            handles.append(await system.start(Agent("outer", Scripted([call("wait")], "ok"), tools=[wait]), "Q"))
            await handles[0].result()
        assert len(errors) == 2

    both(scenario)


@pytest.mark.anyio
async def test_what_is_no_handle_is_refused() -> None:
    for function in (wait_any, wait_all):
        with pytest.raises(ValueError, match="takes at least one run"):
            await function()
        with pytest.raises(TypeError, match=r"argument 1 is <agent\.run"):
            await function(helper("x").run("Q"))  # type: ignore[type-var]
    async with System() as system:
        handle = await system.start(helper("x"), "Q")

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another thread"):
                await wait_any(handle)

        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere))


@pytest.mark.anyio
async def test_a_wrong_option_names_the_right_one_and_closes_what_was_given() -> None:
    """A coroutine that nobody awaits would complain."""
    wrong: Any
    for function, options, words in (
        (quorum, {"ned": 2}, r"quorum\(\) has no option 'ned': did you mean 'need'\?"),
        (quorum, {}, "need"),
        (quorum, {"need": "x"}, r"quorum\(need=\) takes a whole number"),
        (race, {"timeout": 2}, r"race\(\) has no option 'timeout': write with anyio\.fail_after\(2\)"),
        (race, {"runs": []}, r"race\(\) has no option 'runs'"),
    ):
        wrong = function
        given = [after(1, "a"), after(1, "b")]
        with pytest.raises(TypeError, match=words):
            wrong(*given, **options)
        assert [inspect.getcoroutinestate(each) for each in given] == [inspect.CORO_CLOSED] * 2
    for wrong in (wait_any, wait_all):
        with pytest.raises(TypeError, match="has no option 'timeout': write with anyio"):
            wrong(timeout=2)


def test_subagents_are_numbered_in_the_order_in_which_they_are_asked_for() -> None:
    """A call that runs once more finds them by their numbers; on trio, tasks begin in an order of chance."""
    names = [f"p{number}" for number in range(6)]

    async def mapped(agent: Agent[Any, str]) -> None:
        await agent.map(names)

    async def completed(agent: Agent[Any, str]) -> None:
        async with agent.as_completed(names) as results:
            assert len([each async for each in results]) == len(names)

    async def agreed(agent: Agent[Any, str]) -> None:
        await quorum(*[agent.run(name) for name in names], need=len(names))

    async def grouped(agent: Agent[Any, str]) -> None:
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(agent.run, name)

    async def with_a_bad_one(agent: Agent[Any, str]) -> None:
        wrong: list[Any] = [*names[:2], 3, *names[2:]]
        results = await agent.map(wrong)
        assert isinstance(results[2], TypeError)

    def outer(way: Callable[[Agent[Any, str]], Any], numbers: dict[str, str]) -> Agent[Any, str]:
        def answer(request: ModelRequest) -> str:
            return request.messages[-1].text

        def told(event: Any) -> None:
            numbers[event.text] = event.run_id.rpartition(".")[2]

        leaf = Agent("leaf", Scripted(*[answer] * len(names)), hooks={"on_run_end": told})

        @tool
        async def fan() -> str:
            """Ask all."""
            await way(leaf)
            return "ok"

        return Agent("outer", Scripted([call("fan")], "ok"), tools=[fan])

    for way in (mapped, completed, agreed, grouped, with_a_bad_one):
        for backend in BACKENDS:
            for seed in range(5):
                numbers: dict[str, str] = {}
                asked = outer(way, numbers)
                run(lambda asked=asked: asked.run("Go"), backend=backend, seed=seed)
                wanted = [1, 2, 4, 5, 6, 7] if way is with_a_bad_one else range(1, 7)
                assert numbers == {name: str(number) for name, number in zip(names, wanted, strict=True)}, way
