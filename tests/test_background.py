"""Runs in the background of a run: how they are followed, counted, bounded, ended, handed over, and taken up again."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from greenroom import (
    Agent,
    Allow,
    Chronicle,
    Deny,
    LimitExceeded,
    Limits,
    MemoryJournal,
    Run,
    RunContext,
    RunResult,
    System,
    WouldDeadlock,
    tool,
    wait_all,
    wait_any,
)
from greenroom import journal as journal_records
from greenroom.agents import events
from greenroom.agents.events import TERMINAL
from greenroom.agents.tool_batch import ToolBatch
from greenroom.providers import ToolCall
from greenroom.testing import Interruption, explore, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import COST, PRICES, USED, Lines, RecordingJournal, check_told, virtual

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])

#: Seconds that a helper works.
WORK = 10.0


def helper(*lines: Any, name: str = "helper", seconds: float = WORK, **options: Any) -> Agent[Any, Any]:
    """An agent that takes its time."""
    return Agent(name, Lines(*(lines or ("found",)), seconds=seconds), prices=PRICES, **options)


def boss(*lines: Any, tools: Any, name: str = "boss", **options: Any) -> Agent[Any, Any]:
    """An agent that has others work for it."""
    return Agent(name, Lines(*lines), tools=tools, prices=PRICES, **options)


def spawner(agent: Agent[Any, Any], number: int = 1, *, replay: Any = "safe", **options: Any) -> Any:
    """A tool that starts so many runs and goes on."""

    @tool(name="spawn", replay=replay)
    async def spawn(context: RunContext[Any]) -> str:
        """Spawn."""
        runs = [await context.spawn(agent, f"Work {index}", **options) for index in range(number)]
        return ", ".join(run.id for run in runs)

    return spawn


@tool(replay="safe")
async def collect(context: RunContext[Any]) -> str:
    """Collect."""
    done = await wait_all(*context.children)
    return ", ".join([f"{run.id}: {(await run.result()).output}" for run in done])


@tool(replay="safe")
async def nap(context: RunContext[Any]) -> str:
    """Sleep for a second."""
    await context.sleep(1.0)
    return "slept"


def text_of(result: RunResult[Any], tool: str) -> list[str]:
    """What a tool has told the model."""
    return [each.content for message in result.messages for each in message.tool_results if each.name == tool]


# -- at work


@each_backend
def test_children_work_while_their_parent_goes_on(backend: str) -> None:
    """The tool returns at once; another one collects what has come of them. They work side by side."""

    async def scenario() -> None:
        agent = boss(["spawn"], ["nap"], ["collect"], "The end.", tools=[spawner(helper(), 3), nap, collect])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            result = await run.result()
            assert anyio.current_time() < WORK + 1
            assert text_of(result, "spawn") == ["r.1.0.1, r.1.0.2, r.1.0.3"]
            assert text_of(result, "collect") == ["r.1.0.1: found, r.1.0.2: found, r.1.0.3: found"]
            assert result.usage.input_tokens == 7 * (USED.input_tokens or 0)
            assert result.cost == pytest.approx(7 * COST)
            told = await check_told(journal, result)
            assert set(told.spawned) == told.returned == {"r.1.0.1", "r.1.0.2", "r.1.0.3"}
            whole = await system.chronicle("r")
            assert [child.run_id for child in whole.children] == ["r.1.0.1", "r.1.0.2", "r.1.0.3"]
            assert str(whole.trace()).count("agent helper") == 3

    play(scenario, backend=backend)


@each_backend
def test_the_first_to_end(backend: str) -> None:
    """`wait_any` tells which; the others work on, and have their status."""

    async def scenario() -> None:
        quick, slow = helper("quick", seconds=1.0), helper("slow", seconds=100.0)
        seen: list[Any] = []

        async def work(context: RunContext[Any]) -> str:
            """Work."""
            runs = [await context.spawn(slow, "a"), await context.spawn(quick, "b")]
            assert [run.status for run in context.children] == ["running", "running"]
            first = await wait_any(*runs)
            seen.extend([run.status for run in context.children])
            assert first == [runs[1]]
            runs[0].stop(reason="enough")
            seen.append((await runs[0].result()).reason)
            return str((await first[0].result()).output)

        result = await boss(["work"], "The end.", tools=[work]).run("Go")
        assert seen == ["running", "completed", "enough"]
        assert text_of(result, "work") == ["quick"]

    play(scenario, backend=backend)


@each_backend
def test_events_and_tree(backend: str) -> None:
    """A child is heard in its parent's stream, with its path, and seen in the tree below it; each has one end."""

    async def scenario() -> None:
        heard: list[Any] = []
        agent = boss(["spawn"], ["nap"], ["collect"], "The end.", tools=[spawner(helper()), nap, collect])
        async with System(sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", on_event=heard.append)
            await anyio.sleep(0.5)
            (below,) = [node for node in run.tree().children if node.kind == "run"]
            assert (below.name, below.detail["agent"]) == ("r.1.0.1", "helper")
            assert "r.1.0.1" in str(system.tree())
            assert system.find("r.1.0.1") is None
            followed = [event async for event in run]
        assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
        of_child = [event for event in followed if event.run_id == "r.1.0.1"]
        assert {event.path for event in of_child} == {("r", "r.1.0.1")}
        assert {event.parent_id for event in of_child} == {"r"}
        assert of_child[0].type == "run.started"
        assert [event.run_id for event in heard if isinstance(event, TERMINAL)] == ["r.1.0.1", "r"]

    play(scenario, backend=backend)


@each_backend
def test_what_a_child_is_given(backend: str) -> None:
    """For whom it works, and with what, it has from its parent, unless it is given something else."""

    async def scenario() -> None:
        seen: list[Any] = []

        async def look(context: RunContext[Any]) -> str:
            """Look."""
            seen.append((context.deps, context.user_id, context.conversation_id, context.tags))
            return "seen"

        async def spawn(context: RunContext[Any]) -> str:
            """Spawn."""
            runs = [await context.spawn(looker, "a")]
            runs.append(await context.spawn(looker, "b", deps="other", user_id="u2", tags=["t"]))
            for run in runs:
                await run.result()
            return "done"

        looker = helper(["look"], "done", tools=[look], seconds=0.001)
        await boss(["spawn"], "End", tools=[spawn]).run("Go", deps="mine", user_id="u1", conversation_id="c1")
        assert sorted(seen) == [("mine", "u1", "c1", ()), ("other", "u2", "c1", ("t",))]

    play(scenario, backend=backend)


@each_backend
def test_a_child_that_waits_for_its_parent(backend: str) -> None:
    """It would wait for ever, so the tool that does is told."""

    async def scenario() -> None:
        runs: list[Run[Any]] = []
        caught: list[BaseException] = []

        async def wait_for_boss() -> str:
            """Wait."""
            try:
                await runs[0].result()
            except WouldDeadlock as error:
                caught.append(error)
            return "told"

        agent = boss(
            ["spawn"],
            ["collect"],
            "End",
            tools=[spawner(helper(["wait_for_boss"], "x", tools=[wait_for_boss])), collect],
        )
        async with System() as system:
            runs.append(await system.start(agent, "Go"))
            await runs[0].result()
        assert len(caught) == 1

    play(scenario, backend=backend)


@each_backend
def test_a_call_that_waits_gives_its_place_up(backend: str) -> None:
    """Scenario 67: a child that needs the place of the very call that waits for it gets it."""

    async def scenario() -> None:
        @tool(limit=1, replay="safe")
        async def single(context: RunContext[Any], below: bool) -> str:
            """One at a time."""
            if not below:
                return "alone"
            run = await context.spawn(inner, "Go")
            done = await wait_any(run)
            assert done == [run]
            return str((await run.result()).output)

        inner = helper([("single", {"below": False})], "done", tools=[single], seconds=0.001)
        agent = boss([("single", {"below": True})], "The end.", tools=[single])
        with anyio.fail_after(5):
            result = await agent.run("Go")
        assert text_of(result, "single") == ["done"]
        async with System(max_tools=1) as system:
            with anyio.fail_after(5):
                result = await (await system.start(agent, "Go")).result()
        assert text_of(result, "single") == ["done"]

    play(scenario, backend=backend)


@each_backend
def test_bad_arguments(backend: str) -> None:
    """One clear line each; nothing has begun then."""

    async def scenario() -> None:
        caught: list[str] = []

        async def spawn(context: RunContext[Any]) -> str:
            """Spawn."""
            good: Any = helper()
            for arguments in ({"agent": "x"}, {"orphan": "kill"}, {"prompt": None}, {"nope": 1}, {"user_id": ""}):
                given: dict[str, Any] = {"agent": good, "prompt": "x", **arguments}
                try:
                    await context.spawn(given.pop("agent"), given.pop("prompt"), **given)
                except (TypeError, ValueError) as error:
                    caught.append(f"{type(error).__name__}: {error}")
            try:
                await context.spawn(good, "x", orphan="detach")
            except RuntimeError as error:
                caught.append(str(error))
            assert context.children == ()
            return "done"

        await boss(["spawn"], "End", tools=[spawn]).run("Go")
        assert len(caught) == 6
        assert caught[0].startswith("TypeError: spawn() takes an agent first")
        assert caught[1] == "ValueError: orphan='kill' is not one of 'stop', 'detach', 'adopt'"
        assert "prompt" in caught[2]
        assert "nope" in caught[3]
        assert "user_id" in caught[4]
        assert "needs a System" in caught[5]

    play(scenario, backend=backend)


def test_outside_a_tool_call() -> None:
    """There is nothing that it could work for."""

    async def instructions(context: RunContext[Any]) -> str:
        try:
            await context.spawn(helper(), "x")
        except RuntimeError as error:
            return str(error)
        raise AssertionError

    async def scenario() -> None:
        model = Lines("done")
        asked: list[Any] = []
        complete = model.complete

        async def note(request: Any) -> Any:
            asked.append(request.instructions)
            return await complete(request)

        model.complete = note  # type: ignore[method-assign]
        await Agent("a", model, instructions=instructions).run("Go")
        assert asked == ["spawn() is for tool calls; there is none here"]

    play(scenario)


# -- ends


@each_backend
@pytest.mark.parametrize("how", ["completes", "stopped", "limited", "fails", "cancelled", "killed"])
def test_a_child_ends_with_its_run(backend: str, how: str) -> None:
    """However that ends: first the leaves, each with its true reason, and what they have used is in the journal."""

    async def scenario() -> None:
        lines: dict[str, tuple[Any, ...]] = {
            "completes": (["spawn"], ["nap"], "End"),
            "limited": (["spawn"], ["nap"], ["nap"], ["nap"]),
            "fails": (["spawn"], ["nap"], ValueError("no")),
        }
        heard: list[Any] = []
        inner = helper(["nap"], "x", tools=[nap], name="inner", seconds=0.6)
        middle = helper(["spawn"], "found", name="middle", tools=[spawner(inner)], seconds=0.6)
        agent = boss(
            *lines.get(how, (["spawn"], ["nap"], ["nap"], ["nap"], ["nap"], "End")),
            tools=[spawner(middle, 2), nap],
            limits=Limits(turns=3 if how == "limited" else 50),
        )
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual(), on_event=heard.append) as system:
            if how == "cancelled":
                with anyio.move_on_after(2.5):
                    await agent.run("Go", run_id="r")
            else:
                run = await system.start(agent, "Go", run_id="r")
                if how == "stopped":
                    await anyio.sleep(2.5)
                    run.stop()
                if how == "killed":
                    await anyio.sleep(2.5)
                    run._cell.kill()
                await wait_any(run)
                result = run._cell.result
                assert result is not None
                await check_told(journal, result)
            assert system.tree().children == ()
            assert anyio.current_time() < 4
            ends = [event for event in heard if isinstance(event, TERMINAL)]
            assert ends[-1].run_id == "r"
            for path in {event.path for event in heard}:
                places = {each.path: place for place, each in enumerate(ends)}
                assert all(places[path[:length]] >= places[path] for length in range(1, len(path)))
            for listed in await journal.runs():
                story = Chronicle(await journal.read(listed.run_id))
                if how == "killed":  # nobody has asked for its end: somebody can go on with it
                    assert story.standing != "unfinished"
                    continue
                assert story.standing in {"completed", "stopped", "limited", "failed"}
                if story.standing == "stopped" and listed.run_id != "r":
                    assert story.reason in {"abandoned", "cancelled"}
            whole = await system.chronicle("r")
            if how != "killed":
                assert whole.usage == sum((own_usage(each) for each in _all(whole)), start=type(USED)())

    play(scenario, backend=backend)


def _all(story: Chronicle) -> list[Chronicle]:
    return [story, *[each for child in story.children for each in _all(child)]]


def own_usage(story: Chronicle) -> Any:
    """What the model calls of one run have used."""
    used = type(USED)()
    for record in story.records:
        if isinstance(record, journal_records.Replied):
            used += USED
    return used


@each_backend
def test_a_child_that_heeds_nothing(backend: str) -> None:
    """The run above ends all the same; what it had used counts, what it uses later does not."""

    async def scenario() -> None:
        go = anyio.Event()

        async def stubborn() -> str:
            """Do not heed."""
            with anyio.CancelScope(shield=True):
                await go.wait()
            return "late"

        child = helper(["stubborn"], "late", tools=[stubborn], seconds=0.001)
        agent = boss(["spawn"], ["nap"], "End", tools=[spawner(child), nap])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual(), grace=1.0) as system:
            run = await system.start(agent, "Go", run_id="r")
            result = await run.result()
            assert anyio.current_time() < 10
            assert result.usage == USED + USED + USED + USED
            await check_told(journal, result)
            go.set()

    play(scenario, backend=backend)


# -- limits


@each_backend
def test_limits_hold_for_the_tree(backend: str) -> None:
    """Scenario 93: requests of children count with those of the run above, while they work in the background."""

    async def scenario() -> None:
        worker = helper(["nap"], ["nap"], ["nap"], "found", tools=[nap], seconds=0.1)
        agent = boss(["spawn"], ["collect"], "End", tools=[spawner(worker, 2), collect], limits=Limits(requests=6))
        result = await agent.run("Go", on_limit="return")
        asked: Any = worker.provider
        assert (result.status, len(asked.asked)) == ("limited", 4)
        assert result.usage == USED + USED + USED + USED + USED + USED

    play(scenario, backend=backend)


@each_backend
def test_too_many_and_too_deep(backend: str) -> None:
    """`children` and `depth` refuse before anything is begun."""

    async def scenario() -> None:
        refused: list[str] = []

        @tool
        async def spawn(context: RunContext[Any]) -> str:
            """Spawn."""
            try:
                await context.spawn(helper(seconds=0.1), "x")
            except LimitExceeded as error:
                refused.append(error.limit)
            return "done"

        agent = boss(["spawn", "spawn", "spawn"], ["collect"], "End", tools=[spawn, collect])
        result = await agent.run("Go", limits=Limits(children=2))
        assert refused == ["children"]
        assert len(text_of(result, "collect")[0].split(",")) == 2
        refused.clear()
        await agent.run("Go", limits=Limits(depth=0))
        assert refused == ["depth"] * 3

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("orphan", ["adopt", "detach"])
def test_limits_hold_for_who_outlives_its_run(backend: str, orphan: Any) -> None:
    """What was left of requests, depth and time goes with it."""

    async def scenario() -> None:
        refused: list[str] = []

        @tool
        async def deeper(context: RunContext[Any]) -> str:
            """Spawn."""
            try:
                await context.spawn(helper(), "x")
            except LimitExceeded as error:
                refused.append(error.limit)
            return "done"

        worker = helper(["deeper"], *[["nap"]] * 20, tools=[nap, deeper], seconds=0.1)
        agent = boss(["spawn"], "End", tools=[spawner(worker, orphan=orphan)])
        async with System(sources=virtual()) as system:
            bounds = [Limits(requests=5), Limits(wall_time=4.0), Limits(depth=1)]
            for number, (limits, name) in enumerate(zip(bounds, ["requests", "wall_time", None], strict=True)):
                run = await system.start(agent, "Go", run_id=f"r{number}", limits=limits)
                await run.result()
                child = system.find(f"r{number}.1.0.1")
                assert child is not None
                began = anyio.current_time()
                if name is None:
                    await anyio.sleep(1)
                    child.stop()
                    await child.result()
                else:
                    with pytest.raises(LimitExceeded) as caught:
                        await child.result()
                    assert caught.value.limit == name
                assert anyio.current_time() - began < 4.1
            assert refused == ["depth"]

    play(scenario, backend=backend)


# -- orphans


@each_backend
@pytest.mark.parametrize("orphan", ["adopt", "detach"])
@pytest.mark.parametrize("how", ["completes", "stopped", "cancelled"])
def test_the_system_gets_it(backend: str, orphan: Any, how: str) -> None:
    """At the top there is nobody above: it is the System's, is found there, and comes to its end."""

    async def scenario() -> None:
        heard: list[Any] = []
        all_heard: list[Any] = []
        agent = boss(["spawn"], ["nap"], "End", tools=[spawner(helper(), orphan=orphan), nap])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual(), on_event=all_heard.append) as system:
            if how == "cancelled":
                with anyio.move_on_after(0.5):
                    await agent.run("Go", run_id="r", on_event=heard.append)
            else:
                run = await system.start(agent, "Go", run_id="r", on_event=heard.append)
                await anyio.sleep(0.5)
                if how == "stopped":
                    run.stop()
                result = await run.result()
                await check_told(journal, result)
                (handle,) = run._cell.background.runs.values() if run._cell.background is not None else ()
                assert handle.status == "running"
            assert (await story_of(journal, "r")).ended is not None
            child = system.find("r.1.0.1")
            assert child is not None
            assert "r.1.0.1" in str(system.tree())
            last = heard[-1]
            assert (last.run_id, last.type) == ("r", "run.completed" if how == "completes" else "run.stopped")
            assert [event.heir for event in heard if isinstance(event, events.AgentAdopted)] == [None]
            before = len(heard)
            assert (await child.result()).output == "found"
            assert len(heard) == before
            assert all_heard[-1].run_id == "r.1.0.1"
            story = await story_of(journal, "r.1.0.1")
            assert (story.standing, story.began.parent_id, story.usage) == ("completed", None, USED)
            assert len([event for event in all_heard if isinstance(event, TERMINAL)]) == 2

    play(scenario, backend=backend)


async def story_of(journal: MemoryJournal, run_id: str) -> Chronicle:
    """What the journal says."""
    return Chronicle(await journal.read(run_id))


@each_backend
def test_the_run_above_gets_it(backend: str) -> None:
    """Adopted: it goes on below the grandparent, counts there, is heard there, and its handle is in the children."""

    async def scenario() -> None:
        heard: list[Any] = []
        middle = helper(["spawn"], "asked", name="middle", tools=[spawner(helper(), orphan="adopt")], seconds=0.1)
        agent = boss([("middle", {"prompt": "?"})], ["collect"], "End", tools=[middle, collect])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", on_event=heard.append)
            result = await run.result()
            assert text_of(result, "collect") == ["r.1.0.1.1.0.1: found"]
            assert result.usage == USED + USED + USED + USED + USED + USED
            await check_told(journal, result)
            story = await story_of(journal, "r.1.0.1")
            assert story.usage == USED + USED
        assert [event.heir for event in heard if isinstance(event, events.AgentAdopted)] == ["r"]
        ends = [event.run_id for event in heard if isinstance(event, TERMINAL)]
        assert ends == ["r.1.0.1", "r.1.0.1.1.0.1", "r"]

    play(scenario, backend=backend)


@each_backend
def test_a_stop_of_all_ends_at_the_system(backend: str) -> None:
    """One that outlives a run whose run above ends too goes to the System at once, and nothing else is left."""

    async def scenario() -> None:
        @tool
        async def clean_up() -> str:
            """Take a moment to stop."""
            try:
                await anyio.sleep(100)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.5)
            return "never"

        heard: list[Any] = []
        inner = helper(name="inner")
        tools = [spawner(inner, orphan="adopt"), clean_up]
        middle = helper(["spawn"], ["clean_up"], name="middle", tools=tools, seconds=0.1)
        agent = boss(["spawn"], ["nap"], "End", tools=[spawner(middle), nap])
        async with System(sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", on_event=heard.append)
            await anyio.sleep(0.5)
            assert (await run.stop()).status == "stopped"
            assert [cell.name for cell in system.pool.cells()] == ["r.1.0.1.1.0.1"]
        assert [event.heir for event in heard if isinstance(event, events.AgentAdopted)] == [None]

    play(scenario, backend=backend)


@each_backend
def test_a_policy_goes_with_it(backend: str) -> None:
    """Guards of the run that has ended still judge: also what begins below it later."""

    async def scenario() -> None:
        def judge(call: ToolCall, context: RunContext[Any]) -> Any:
            return Deny("not today") if call.name == "nap" else Allow()

        told: list[str] = []

        @tool
        async def note(text: str) -> str:
            """Note."""
            told.append(text)
            return "noted"

        inner = helper(["nap"], "end", name="inner", tools=[nap], seconds=1.0)
        worker = helper([("inner", {"prompt": "?"})], ["nap"], "end", tools=[nap, inner], seconds=1.0)
        agent = boss(["spawn"], "End", tools=[spawner(worker, orphan="detach")])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", policy=judge)
            await run.result()
            child = system.find("r.1.0.1")
            assert child is not None
            result = await child.result()
            assert text_of(result, "nap") == ["denied: not today"] or "not today" in text_of(result, "nap")[0]
            below = await story_of(journal, "r.1.0.1.1.0.1")
            assert any("not today" in each.content for message in below.messages for each in message.tool_results)
            assert (await story_of(journal, "r.1.0.1")).began.guarded

    play(scenario, backend=backend)


@each_backend
def test_a_question_outlives_the_run_above(backend: str) -> None:
    """What a child had asked before it was handed over is answered through its own handle."""

    async def scenario() -> None:
        @tool(needs_approval=True)
        async def ship() -> str:
            """Ship."""
            return "shipped"

        worker = helper(["ship"], ["ship"], "found", tools=[ship], seconds=0.1)
        agent = boss(["spawn"], ["nap"], "End", tools=[spawner(worker, orphan="detach"), nap])
        async with System(sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(0.5)
            (asked,) = run.pending
            assert asked.run_id == "r.1.0.1"
            await run.result()
            child = system.find("r.1.0.1")
            assert child is not None
            assert child.pending == (asked,)
            child.approve(asked.call_id)
            await anyio.sleep(0.5)
            (again,) = child.pending
            child.deny(again.call_id, "enough")
            result = await child.result()
            assert text_of(result, "ship") == ["shipped", "denied: enough"]
            assert (run.pending, child.pending) == ((), ())

    play(scenario, backend=backend)


@each_backend
def test_the_timeout_of_the_call_is_not_that_of_the_child(backend: str) -> None:
    """It works for the run: the time of that holds for it, the time of the call that began it does not."""

    async def scenario() -> None:
        seen: list[float | None] = []

        @tool
        async def look(context: RunContext[Any]) -> str:
            """Look."""
            seen.append(context.deadline)
            return "seen"

        worker = helper(["look"], "found", tools=[look], seconds=0.1)

        @tool(timeout=5)
        async def spawn(context: RunContext[Any]) -> str:
            """Spawn."""
            seen.append(context.deadline)
            await (await context.spawn(worker, "x")).result()
            return "done"

        agent = boss(["spawn"], "End", tools=[spawn])
        async with System(sources=virtual()):
            await agent.run("Go")
            began = anyio.current_time()
            await agent.run("Go", limits=Limits(wall_time=3.0))
        assert seen[1] is None
        assert seen[0] == pytest.approx(5.0, abs=0.1)
        assert seen[2:] == [began + 3.0] * 2

    play(scenario, backend=backend)


@each_backend
def test_a_system_that_closes(backend: str) -> None:
    """An orphan at work then is stopped like any run."""

    async def scenario() -> None:
        agent = boss(["spawn"], "End", tools=[spawner(helper(), orphan="detach")])
        later = boss(["spawn"], ["nap"], "End", tools=[spawner(helper(), orphan="detach"), nap])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(agent, "Go", run_id="r")).result()
            child = system.find("r.1.0.1")
            await system.start(later, "Go", run_id="s")
            await anyio.sleep(0.5)
        assert child is not None
        assert (await child.result()).reason == "system"
        for run_id in ("r.1.0.1", "s", "s.1.0.1"):  # each can be recovered
            assert (await story_of(journal, run_id)).standing == "suspended", run_id

    play(scenario, backend=backend)


@each_backend
def test_a_pause_does_not_hold_who_has_left(backend: str) -> None:
    """A run that is paused, and ends in its last step, leaves nobody behind who waits for a resume."""

    async def scenario() -> None:
        worker = helper(["nap"], "found", tools=[nap], seconds=0.3)
        slow = Agent("boss", Lines(["spawn"], "End", seconds=0.5), tools=[spawner(worker, orphan="detach")])
        async with System(sources=virtual()) as system:
            run = await system.start(slow, "Go", run_id="r")
            await anyio.sleep(0.6)
            run.pause()
            await anyio.sleep(0.3)
            assert [node.state for node in run.tree().children] == ["paused"]
            assert (await run.result()).output == "End"
            child = system.find("r.1.0.1")
            assert child is not None
            with anyio.fail_after(10):
                assert (await child.result()).output == "found"

    play(scenario, backend=backend)


@each_backend
def test_nothing_is_begun_below_a_run_that_is_over(backend: str) -> None:
    """A task that a tool has left behind is told so."""

    async def scenario() -> None:
        told: list[str] = []

        async with anyio.create_task_group() as group:

            async def late(context: RunContext[Any]) -> None:
                await anyio.sleep(5)
                try:
                    await context.spawn(helper(), "x")
                except RuntimeError as error:
                    told.append(str(error))

            @tool
            async def leave(context: RunContext[Any]) -> str:
                """Leave something behind."""
                group.start_soon(late, context)
                return "left"

            await boss(["leave"], "End", tools=[leave]).run("Go", run_id="r")
        assert told == ["run 'r' is over, and begins no more subagents"]

    play(scenario, backend=backend)


# -- somewhere else


def family(*, limits: Limits | None = None, orphan: Any = "stop", replay: Any = "safe") -> list[Agent[Any, Any]]:
    """A run with a child that has one, and a long step of its own meanwhile. The first is the boss."""
    inner = helper(["nap"], "deep", name="inner", tools=[nap], seconds=0.7)
    middle = helper(["spawn"], ["collect"], "asked", name="middle", tools=[spawner(inner), collect], seconds=0.2)
    spawn = spawner(middle, orphan=orphan, replay=replay)
    agent = boss(["spawn", "nap"], ["nap"], ["collect"], "End", tools=[spawn, nap, collect], limits=limits)
    return [agent, middle, inner]


@each_backend
@pytest.mark.parametrize("limits", [None, Limits(requests=50, children=10)])
def test_a_crash_anywhere(backend: str, limits: Limits | None) -> None:
    """Whatever was written last: the children go on with their parent, and all that is counted is counted once."""

    async def record() -> RecordingJournal:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(family(limits=limits)[0], "Go", run_id="r")
            assert (await run.result()).output == "End"
        return journal

    async def go_on(journal: RecordingJournal, number: int) -> None:
        agents = family(limits=limits)
        crashed = journal.after(number)
        async with System(journal=crashed, sources=virtual()) as system:
            recovery = await system.recover(agents, max_claims=1_000)
            assert not recovery.left
            if not recovery.runs:
                return
            (run,) = recovery
            assert run.id == "r"
            result = await run.result()
            assert result.output == "End"
            assert text_of(result, "collect") == ["r.1.0.1: asked"]
            assert result.usage == (await whole_usage(crashed)), f"after {number} entries"
            told = await check_told(crashed, result)
            assert told.returned == {"r.1.0.1"}
            if limits is not None:
                # Of a request that was under way it is known only that there was one.
                assert run._cell.spending.ledger is not None
                lost = sum(getattr(record, "asking", False) for record in await all_records(crashed))
                assert run._cell.spending.ledger.used.requests == 9 + lost
                assert run._cell.spending.ledger.used.children == 2
            asked = [each for agent in agents for each in agent.provider.asked]  # type: ignore[attr-defined]
            written = sum(isinstance(record, journal_records.Replied) for record in await all_records(crashed))
            assert written == 9
            assert len(asked) <= 9

    journal = play(record, backend=backend)
    for number in range(1, len(journal.written)):
        play(go_on, journal, number, backend=backend)


async def all_records(journal: MemoryJournal) -> list[Any]:
    """The records of all runs."""
    stories = [await story_of(journal, listed.run_id) for listed in await journal.runs()]
    return [record for story in stories for record in story.records]


async def whole_usage(journal: MemoryJournal) -> Any:
    """What the replies of all runs have used."""
    stories = [Chronicle(await journal.read(listed.run_id)) for listed in await journal.runs()]
    return sum((own_usage(story) for story in stories), start=type(USED)())


@each_backend
def test_handles_after_a_crash(backend: str) -> None:
    """Those that had ended say their result once more; those that were at work go on; both are in the children."""

    async def scenario() -> None:
        quick, slow = helper("quick", name="quick", seconds=0.1), helper("slow", name="slow", seconds=50.0)

        @tool(replay="safe", name="spawn")
        async def spawn(context: RunContext[Any]) -> str:
            """Spawn."""
            await context.spawn(quick, "a")
            await context.spawn(slow, "b", run_id="mine")
            return "spawned"

        agent = boss(["spawn"], ["nap"], ["nap"], ["collect"], "End", tools=[spawn, nap, collect])
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(1.5)
            crashed = journal.after(len(journal.written))
        async with System(journal=crashed, sources=virtual()) as system:
            (run,) = await system.recover([agent, quick, slow])
            await anyio.sleep(0.1)
            assert run._cell.background is not None
            assert {child.id: child.status for child in run._cell.background.runs.values()} == {
                "r.1.0.1": "completed",
                "mine": "running",
            }
            result = await run.result()
            assert text_of(result, "collect") == ["r.1.0.1: quick, mine: slow"]
            assert result.usage == await whole_usage(crashed)
            await check_told(crashed, result)

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("run_id", [None, "mine"])
def test_a_call_of_unknown_outcome_takes_its_children_along(backend: str, run_id: str | None) -> None:
    """It does not run again, so nobody knows of them: they end, and what they have used counts. But not an orphan."""

    async def scenario() -> None:
        @tool(name="spawn")
        async def spawn(context: RunContext[Any]) -> str:
            """Spawn."""
            await context.spawn(helper(["nap"], "x", tools=[nap], seconds=0.5), "a", run_id=run_id)
            await context.spawn(keeper, "b", orphan="detach")
            quick = await context.spawn(brief, "c")
            await quick.result()
            await anyio.sleep(20)
            return "spawned"

        keeper, brief = helper(name="keeper"), helper("brief", name="brief", seconds=0.1)
        agent = boss(["spawn"], "End", tools=[spawn])
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(1.0)
            crashed = journal.after(len(journal.written))
        async with System(journal=crashed, sources=virtual()) as system:
            recovery = await system.recover([agent, keeper, brief, helper(tools=[nap])])
            assert {run.id for run in recovery} == {"r", next(each.id for each in recovery if each.id != "r")}
            by_id = {run.id: run for run in recovery}
            result = await by_id.pop("r").result()
            assert "outcome unknown" in text_of(result, "spawn")[0]
            (orphan,) = by_id.values()
            assert (await orphan.result()).output == "found"
            await check_told(crashed, result)
            lost = await story_of(crashed, run_id or "r.1.0.1")
            assert (lost.standing, lost.reason) == ("stopped", "abandoned")
            assert result.usage == USED + USED + USED + USED  # two of its own, one of the lost, one of the brief
            assert result.cost is None or result.cost == pytest.approx(4 * COST)

    play(scenario, backend=backend)


@each_backend
def test_an_agent_that_is_not_known(backend: str) -> None:
    """Its run ends with a word in the log, and what it has used counts."""

    async def scenario() -> None:
        agents = family()
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agents[0], "Go", run_id="r")
            await anyio.sleep(0.5)
            crashed = journal.after(len(journal.written))
        async with System(journal=crashed, sources=virtual()) as system:
            (run,) = await system.recover(agents[:1])
            result = await run.result()
            assert result.output == "End"
            assert text_of(result, "collect") == [
                "ValueError: wait_all() takes at least one run: wait_all(first, second)"
            ]
            assert result.usage == await whole_usage(crashed)
            await check_told(crashed, result)
            for run_id in ("r.1.0.1", "r.1.0.1.1.0.1"):
                assert (await story_of(crashed, run_id)).standing == "stopped"

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("moment", [0.1, 0.3, 0.5, 1.0, 1.2, 2.0, 2.5])
def test_drained_and_recovered(backend: str, moment: float) -> None:
    """Children are suspended with their parent, and go on with it. A call that waits for them is no reason to wait."""

    async def scenario() -> None:
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(family()[0], "Go", run_id="r")
            await anyio.sleep(moment)
            drained = await system.drain(30)
            assert anyio.current_time() < moment + 3
            assert drained.cut == ()
        async with System(journal=journal, sources=virtual()) as system:
            recovery = await system.recover(family())
            if not recovery.runs:
                assert drained.ended == ("r",)
                return
            (run,) = recovery
            result = await run.result()
            assert result.output == "End"
            assert text_of(result, "collect") == ["r.1.0.1: asked"]
            assert result.cost == pytest.approx(9 * COST)
            assert result.usage == await whole_usage(journal)
            await check_told(journal, result)

    play(scenario, backend=backend)


@each_backend
def test_an_orphan_is_drained_too(backend: str) -> None:
    """One that becomes the System's while it drains is held like the others, and accounted for."""

    async def scenario() -> None:
        worker = helper(["nap"], "found", tools=[nap], seconds=0.1)
        agent = Agent("boss", Lines(["spawn"], "End", seconds=1.0), tools=[spawner(worker, orphan="detach")])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(1.5)
            drained = await system.drain()
            assert (drained.ended, drained.suspended, drained.cut) == (("r",), ("r.1.0.1",), ())
        async with System(journal=journal, sources=virtual()) as system:
            (run,) = await system.recover([agent, worker])
            assert (await run.result()).output == "found"

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("orphan", ["adopt", "detach"])
def test_an_orphan_is_a_run_of_its_own(backend: str, orphan: Any) -> None:
    """After a crash it is recovered by itself, whatever became of its parent; a call that runs again finds it."""

    async def record() -> RecordingJournal:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(family(orphan=orphan)[0], "Go", run_id="r")
            assert (await run.result()).output == "End"
            await system.pool.wait_empty()
        return journal

    async def go_on(journal: RecordingJournal, number: int) -> None:
        crashed = journal.after(number)
        async with System(journal=crashed, sources=virtual()) as system:
            recovery = await system.recover(family(orphan=orphan), max_claims=1_000)
            assert not recovery.left
            await system.pool.wait_empty()
            for run in recovery:
                assert (await run.result()).output in {"End", "asked"}
                await check_told(crashed, await run.result())
            ids = {listed.run_id for listed in await crashed.runs()}
            assert ids <= {"r", "r.1.0.1", "r.1.0.1.1.0.1"}
            for run_id in ids:
                assert (await story_of(crashed, run_id)).standing == "completed"

    journal = play(record, backend=backend)
    for number in range(1, len(journal.written)):
        play(go_on, journal, number, backend=backend)


@each_backend
def test_a_restart_in_place_keeps_children_alive(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code around the run fails: its children do not notice, and the call that runs again finds them."""

    async def scenario(number: int) -> bool:
        left = iter([True])
        seen = 0
        ended = ToolBatch._ended

        async def fail(batch: ToolBatch, cell: Any) -> Any:
            nonlocal seen
            if batch._run.name == "r":
                seen += 1
                if seen == number and next(left, False):
                    raise RuntimeError("our own code has failed")
            return await ended(batch, cell)

        with monkeypatch.context() as patch:
            patch.setattr(ToolBatch, "_ended", fail)
            journal = MemoryJournal(keep=True)
            heard: list[Any] = []
            async with System(journal=journal, sources=virtual(), on_event=heard.append) as system:
                run = await system.start(family()[0], "Go", run_id="r")
                result = await run.result()
            assert result.output == "End"
            assert text_of(result, "collect") == ["r.1.0.1: asked"]
            assert [event.run_id for event in heard if event.type == "run.started"] == ["r", "r.1.0.1", "r.1.0.1.1.0.1"]
            assert result.usage == await whole_usage(journal)
            await check_told(journal, result)
        return next(left, None) is None

    number = 1
    while play(scenario, number, backend=backend):
        number += 1
    assert number > 4


@each_backend
def test_a_restart_in_place_loses_no_child_of_a_lost_call(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome of the call is unknown, but its child is at work here, and goes on."""

    async def scenario() -> None:
        @tool
        async def spawn(context: RunContext[Any]) -> str:
            """Spawn, and be busy."""
            await context.spawn(helper(["nap"], "found", tools=[nap], seconds=2.0), "x")
            await anyio.sleep(5)
            return "spawned"

        left = iter([True])
        ended = ToolBatch._ended

        async def fail(batch: ToolBatch, cell: Any) -> Any:
            if batch._run.name == "r" and next(left, False):
                raise RuntimeError("our own code has failed")
            return await ended(batch, cell)

        journal = MemoryJournal(keep=True)
        with monkeypatch.context() as patch:
            patch.setattr(ToolBatch, "_ended", fail)
            async with System(journal=journal, sources=virtual()) as system:
                agent = boss(["spawn", "nap"], ["collect"], "End", tools=[spawn, nap, collect])
                run = await system.start(agent, "Go", run_id="r")
                result = await run.result()
        assert "outcome unknown" in text_of(result, "spawn")[0]
        assert text_of(result, "collect") == ["r.1.0.1: found"]
        assert run._cell.restarts == 1
        assert result.usage == await whole_usage(journal)
        await check_told(journal, result)

    play(scenario, backend=backend)


# -- every step


class Scene:
    """A run with children of all kinds, and theirs."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.journal = MemoryJournal(keep=True)
        inner = helper(["nap"], "deep", name="inner", tools=[nap], seconds=0.7)
        middle = helper(["spawn"], ["collect"], "asked", name="middle", tools=[spawner(inner), collect], seconds=0.2)
        keeper = helper("kept", name="keeper", seconds=2.0)

        @tool(replay="safe", name="spawn_both")
        async def spawn_both(context: RunContext[Any]) -> str:
            """Spawn."""
            await context.spawn(middle, "a")
            await context.spawn(keeper, "b", orphan="adopt")
            return "spawned"

        self.agent = boss(["spawn_both"], ["nap"], ["collect"], "End", tools=[spawn_both, nap, collect])

    async def check(self, result: RunResult[Any]) -> None:
        """One end for each, in order; the journal tells the same as the result; all histories are whole."""
        await check_told(self.journal, result)
        ends = [event.run_id for event in self.heard if isinstance(event, TERMINAL)]
        assert len(ends) == len(set(ends))
        started = {event.run_id for event in self.heard if event.type == "run.started"}
        assert started <= set(ends)
        for run_id in ends:
            if run_id.startswith("r.1.0.1"):
                assert ends.index(run_id) < ends.index("r")
        for listed in await self.journal.runs():
            story = Chronicle(await self.journal.read(listed.run_id))
            assert story.standing != "unfinished"
            if story.ended is None:
                continue
            asked = [call.id for message in story.messages for call in message.tool_calls]
            answered = [each.call_id for message in story.messages for each in message.tool_results]
            assert asked == answered


@each_backend
@pytest.mark.parametrize("how", ["stop", "kill", "cancel"])
def test_interrupted_at_every_step(backend: str, how: str) -> None:
    """Scenarios 45, 55: whatever the moment, nothing is left, and nothing is counted twice or lost."""

    async def scenario(interruption: Interruption) -> None:
        scene = Scene()
        async with System(journal=scene.journal, sources=virtual(), on_event=scene.heard.append) as system:
            if how == "cancel":
                with anyio.CancelScope() as scope:
                    interruption.arm(scope.cancel)
                    await scene.agent.run("Go", run_id="r")
                await system.pool.wait_empty()
                if interruption.fired and await scene.journal.read("r"):
                    story = await story_of(scene.journal, "r")
                    assert story.ended is not None
                return
            run = await system.start(scene.agent, "Go", run_id="r")
            interruption.arm(run.stop if how == "stop" else run._cell.kill)
            with anyio.fail_after(60):
                await wait_all(run)
                await system.pool.wait_empty()
            assert run._cell.result is not None
            await scene.check(run._cell.result)

    assert interrupt_everywhere(scenario, backend=backend) > 30


def test_in_many_orders(seeds: range) -> None:
    """What comes of it does not depend on the order of tasks."""

    async def scenario() -> None:
        scene = Scene()
        async with System(journal=scene.journal, sources=virtual(), on_event=scene.heard.append) as system:
            run = await system.start(scene.agent, "Go", run_id="r")
            result = await run.result()
            assert result.output == "End"
            assert result.usage.input_tokens == 10 * (4 + 3 + 2 + 1)
            await scene.check(result)

    explore(scenario, seeds=list(seeds)[:50])
