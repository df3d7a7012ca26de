"""Whose turn it is in a conversation: runs one after the other, however they are begun, in one process or several."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import (
    Agent,
    Chronicle,
    ConversationBusy,
    LimitExceeded,
    Limits,
    MemoryJournal,
    RunContext,
    SqliteJournal,
    System,
    SystemClosed,
    SystemDraining,
    WouldDeadlock,
    tool,
    wait_all,
)
from greenroom.agents.run_cell import RunCell
from greenroom.providers import ModelReply, ModelRequest, Overloaded, Provider, Scripted, assistant
from greenroom.testing import Interruption, explore, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, virtual

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Echo(Provider):
    """Says how many messages it was given, and the last one."""

    name, model = "echo", "echo-1"

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer."""
        await anyio.sleep(self.seconds)
        return ModelReply(assistant(f"{len(request.messages)}: {request.messages[-1].text}"))


def echo(seconds: float = 1.0) -> Agent[Any, str]:
    return Agent("echo", Echo(seconds))


def refuse_to_start(cell: RunCell, group: Any) -> None:
    """In the place of `RunCell.start_in`."""
    raise RuntimeError("not today")


def check_whole(messages: Any) -> None:
    """Each call has its result, before anything else is said."""
    asked = [call.id for message in messages for call in message.tool_calls]
    answered = [each.call_id for message in messages for each in message.tool_results]
    assert asked == answered


# -- going on


@each_backend
def test_every_way_to_begin_goes_on(backend: str) -> None:
    """With a journal that lasts, the id of the conversation is all that is needed."""

    async def scenario() -> None:
        agent, journal = echo(), MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            one = await agent.run("one", conversation_id="c1")
            two = await (await system.start(agent, "two", conversation_id="c1")).result()
            async with agent.stream("three", conversation_id="c1") as run:
                three = await run.result()
            four = await system.conversation(agent, "c1").ask("four")
            assert [str(each) for each in (one, two, three, four)] == ["1: one", "3: two", "5: three", "7: four"]
            assert [each.run_id for each in (one, two, three, four)] == ["c1.1", "c1.2", "c1.3", "c1.4"]
        async with System(journal=journal, sources=virtual()) as system:  # another process
            five = await agent.run("five", conversation_id="c1")
            assert (str(five), five.run_id) == ("9: five", "c1.5")
            other = await agent.run("one", conversation_id="c2")
            assert (str(other), other.run_id) == ("1: one", "c2.1")

    play(scenario, backend=backend)


@each_backend
def test_a_history_or_a_name_says_otherwise(backend: str) -> None:
    """Who says what was before, or how the run is called, is taken at their word."""

    async def scenario() -> None:
        agent = echo()
        async with System(journal=MemoryJournal(keep=True), sources=virtual()):
            first = await agent.run("one", conversation_id="c1")
            again = await agent.run("two", conversation_id="c1", history=())
            assert str(again) == "1: two"
            named = await agent.run("three", conversation_id="c1", run_id="mine")
            assert (str(named), named.run_id) == ("1: three", "mine")
            other = await agent.run("four", history=first, conversation_id="c1")
            assert str(other) == "3: four"
            assert str(await agent.run("five", conversation_id="c1")) == "3: five"

    play(scenario, backend=backend)


@each_backend
def test_without_a_lasting_journal(backend: str) -> None:
    """Only a handle goes on: a System in memory does not keep what nobody has asked it to keep."""

    async def scenario() -> None:
        agent = echo()
        async with System(sources=virtual()) as system:
            assert str(await agent.run("one", conversation_id="c1")) == "1: one"
            assert str(await agent.run("two", conversation_id="c1")) == "1: two"
            chat = system.conversation(agent, "c1")
            assert str(await chat.ask("three")) == "1: three"
            assert str(await system.conversation(agent, "c1").ask("four")) == "3: four"
        assert str(await agent.run("five", conversation_id="c1")) == "1: five"

    play(scenario, backend=backend)


@each_backend
def test_what_never_began_is_forgotten(backend: str) -> None:
    """In memory, too: no number is given twice, and the next run goes on from what was said before."""

    async def scenario() -> None:
        agent = echo()
        heard: list[Any] = []
        async with System(sources=virtual(), on_event=heard.append) as system:
            chat = system.conversation(agent, "c1")
            await chat.ask("one")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(RunCell, "start_in", refuse_to_start)
                for _ in range(3):
                    with pytest.raises(RuntimeError, match="not today"):
                        await chat.ask("never")
            result = await chat.ask("two")
            assert (str(result), result.run_id) == ("3: two", "c1.2")

    play(scenario, backend=backend)


def test_from_blocking_code(tmp_path: Path) -> None:
    """`run` of a System in a thread, from several threads: one answer after the other."""
    agent = echo(0.0)
    answers: list[str] = []

    def ask(number: int) -> None:
        answers.append(str(system.run(agent, f"n{number}", conversation_id="c1")))

    with System.in_thread(journal=tmp_path / "runs.db") as system:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answer.partition(":")[0] for answer in answers) == ["1", "3", "5", "7", "9"]


# -- turns


@each_backend
def test_first_come_first_served(backend: str) -> None:
    """Whoever asks while an answer is under way waits, in order, and goes on from there."""

    async def scenario() -> None:
        agent = echo()
        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append(str(await agent.run(f"n{number}", conversation_id="c1")))

        async with (
            System(journal=MemoryJournal(keep=True), sources=virtual()),
            anyio.create_task_group() as group,
        ):
            for number in range(5):
                group.start_soon(ask, number)
                await anyio.wait_all_tasks_blocked()
        assert answers == [f"{2 * number + 1}: n{number}" for number in range(5)]

    play(scenario, backend=backend)


@each_backend
def test_who_would_not_wait_is_refused(backend: str) -> None:
    """`when_busy="refuse"`: at once, naming the run that has the turn; nothing is written."""

    async def scenario() -> None:
        agent, journal = echo(), MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "one", conversation_id="c1")
            for ask in (
                agent.run("two", conversation_id="c1", when_busy="refuse"),
                system.start(agent, "two", conversation_id="c1", when_busy="refuse"),
                system.conversation(agent, "c1", when_busy="refuse").ask("two"),
                system.conversation(agent, "c1").ask("two", when_busy="refuse"),
            ):
                with pytest.raises(ConversationBusy, match=r"c1\.1"):
                    await ask
            assert anyio.current_time() == 0.0
            assert len(await journal.runs()) == 1
            await run.result()
            assert str(await agent.run("two", conversation_id="c1", when_busy="refuse")) == "3: two"
            wrong: Any = "never"
            with pytest.raises(ValueError, match="when_busy='never' is not one of 'wait', 'refuse'"):
                await agent.run("x", conversation_id="c1", when_busy=wrong)

    play(scenario, backend=backend)


@each_backend
def test_a_tool_that_would_wait_for_itself(backend: str) -> None:
    """A tool that starts a run of its own conversation is told so; so is one of a run that was recovered."""

    async def scenario() -> None:
        caught: list[str] = []

        @tool(replay="safe")
        async def ask(context: RunContext[Any]) -> str:
            """Ask."""
            await context.sleep(1.0)
            try:
                await systems[-1].start(agent, "again", conversation_id="c1")
            except WouldDeadlock as error:
                caught.append(str(error))
            return "told"

        systems: list[System] = []
        agent = Agent("a", Lines(["ask"], "done"), tools=[ask])
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            systems.append(system)
            run = await system.start(agent, "Go", conversation_id="c1")
            await anyio.sleep(0.5)
            crashed = journal.after(len(journal.written))
            await run.result()
        async with System(journal=crashed, sources=virtual()) as system:
            systems.append(system)
            (run,) = await system.recover([agent])
            with anyio.fail_after(10):
                await run.result()
        assert caught == ["a tool of run 'c1.1' would wait for its end: it is of the same conversation"] * 2

    play(scenario, backend=backend)


@each_backend
def test_subagents_take_no_part(backend: str) -> None:
    """They know for whom they work, in which conversation and with what; it goes on without what they have said."""

    async def scenario() -> None:
        seen: list[Any] = []

        async def look(context: RunContext[Any]) -> str:
            """Look."""
            seen.append((context.deps, context.user_id, context.conversation_id, context.run_id))
            return "seen"

        expert = Agent("expert", Lines(["look"], "expertise"), tools=[look])

        async def nested(context: RunContext[Any]) -> str:
            """Ask."""
            return str((await expert.run("?")).output)

        async def spawn(context: RunContext[Any]) -> str:
            """Ask."""
            return str((await (await context.spawn(expert, "?")).result()).output)

        model = Lines([("expert", {"prompt": "?"}), "nested", "spawn"], "one", "two")
        agent = Agent("a", model, tools=[expert, nested, spawn])
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual(), require=("user_id", "conversation_id")):
            one = await agent.run("Go", deps="d", user_id="u", conversation_id="c1")
            two = await agent.run("Go", user_id="u", conversation_id="c1")
        assert sorted(seen) == [("d", "u", "c1", f"c1.1.1.{place}.1") for place in range(3)]
        assert (one.run_id, two.run_id, two.output) == ("c1.1", "c1.2", "two")
        assert len(two.messages) == len(one.messages) + 2

    play(scenario, backend=backend)


# -- ends


@each_backend
@pytest.mark.parametrize("how", ["fails", "limited", "stopped", "cancelled", "waiting", "killed"])
def test_it_goes_on_whatever_came_before(backend: str, how: str) -> None:
    """The next run begins with a history that is whole."""

    async def scenario() -> None:
        @tool(needs_approval=how == "waiting")
        async def work() -> str:
            """Work."""
            await anyio.sleep(10)
            return "worked"

        agent = Agent("a", Lines(["work"], Overloaded("no"), "done", "done", "done"), tools=[work], retry=None)
        journal = MemoryJournal(keep=how != "killed")
        async with System(journal=journal, sources=virtual()) as system:
            chat = system.conversation(agent, "c1")
            with anyio.CancelScope() as scope, anyio.move_on_after(0.5 if how == "cancelled" else 100):
                try:
                    if how in ("fails", "limited"):
                        await chat.ask("one", limits=Limits(turns=1 if how == "limited" else 9))
                    elif how == "waiting":
                        await agent.run("one", conversation_id="c1")
                    elif how == "cancelled":
                        await chat.ask("one")
                    else:
                        run = await system.start(agent, "one", conversation_id="c1") if how == "stopped" else None
                        if run is None:
                            chat.send("one")
                            await anyio.sleep(0.5)
                            assert chat.run is not None
                            chat.run._cell.kill()
                        else:
                            await anyio.sleep(0.5)
                            run.stop()
                except (LimitExceeded, Overloaded):
                    pass
            assert not scope.cancel_called
            if how in ("fails", "limited"):
                assert anyio.current_time() > 10
            second = Agent("b", Echo())
            answer = await system.conversation(second, "c1").ask("two")
            check_whole(answer.messages)
            assert answer.messages[0].text == "one"
            assert str(answer).endswith(": two")
            assert answer.run_id == "c1.2"

    play(scenario, backend=backend)


@each_backend
def test_a_drain_while_somebody_waits(backend: str) -> None:
    """Who waits for a turn is refused, when it comes; the run at work is suspended and goes on elsewhere."""

    async def scenario() -> None:
        @tool(replay="safe")
        async def nap(context: RunContext[Any]) -> str:
            """Sleep."""
            await context.sleep(1.0)
            return "slept"

        agent = Agent("a", Lines(["nap"], "done"), tools=[nap])
        journal = MemoryJournal(keep=True)
        refused: list[str] = []

        async def ask() -> None:
            try:
                await agent.run("two", conversation_id="c1")
            except SystemDraining:
                refused.append("run")

        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent, "one", conversation_id="c1")
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(ask)
                await anyio.sleep(0.5)
                drained = await system.drain()
            assert refused == ["run"] * 3
            assert drained.suspended == ("c1.1",)
        async with System(journal=journal, sources=virtual()) as system:
            with pytest.raises(ConversationBusy, match=r"c1\.1"):
                await agent.run("two", conversation_id="c1")
            assert [run.id for run in await system.recover([agent])] == ["c1.1"]
            with pytest.raises(ConversationBusy, match=r"c1\.1"):
                await agent.run("two", conversation_id="c1", when_busy="refuse")
            result = await Agent("echo", Echo()).run("two", conversation_id="c1")
            assert (str(result), result.run_id) == ("5: two", "c1.2")

    play(scenario, backend=backend)


@each_backend
def test_the_end_of_a_system_while_somebody_waits(backend: str) -> None:
    """Nobody hangs, and nothing is written for those who did not get their turn."""

    async def scenario() -> None:
        agent, journal = echo(100.0), MemoryJournal(keep=True)
        refused: list[type[BaseException]] = []

        async def ask() -> None:
            try:
                await agent.run("two", conversation_id="c1")
            except (SystemClosed, ConversationBusy) as error:
                refused.append(type(error))

        async with anyio.create_task_group() as group, System(journal=journal, sources=virtual()) as system:
            await system.start(agent, "one", conversation_id="c1")
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
        assert refused == [SystemClosed]
        assert len(await journal.runs()) == 1

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_the_turn_is_never_lost(backend: str, how: str) -> None:
    """Whenever one of those who wait or work is cut short, the next has its turn and a history that is whole."""

    async def scenario(interruption: Interruption) -> None:
        @tool
        async def work() -> str:
            """Work."""
            await anyio.sleep(1)
            return "worked"

        agent = Agent("a", Lines(["work"], *["done"] * 9), tools=[work])
        journal = MemoryJournal(keep=True)
        scope = anyio.CancelScope()
        runs: list[Any] = []

        async def second() -> None:
            with scope:
                if how == "cancel":
                    await agent.run("two", conversation_id="c1")
                else:
                    runs.append(await system.start(agent, "two", conversation_id="c1"))
                    await wait_all(runs[0])

        async def third() -> None:
            await agent.run("three", conversation_id="c1")

        async with System(journal=journal, sources=virtual(), grace=1.0) as system:
            async with anyio.create_task_group() as group:
                first = await system.start(agent, "one", conversation_id="c1")
                group.start_soon(second)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(third)
                interruption.arm(scope.cancel if how == "cancel" else lambda: (runs or [first])[0].stop())
            with anyio.fail_after(30):
                last = await agent.run("four", conversation_id="c1")
            check_whole(last.messages)
            texts = [message.text for message in last.messages if message.role == "user"]
            assert [text for text in texts if text != "two"] == ["one", "three", "four"]
            assert len(await journal.runs()) == int(last.run_id.removeprefix("c1."))
            assert not system.talks._live or all(talk.run is None for talk in system.talks._live.values())
            queue = system.stage.queue
            assert queue is not None
            assert (queue._booked, queue.waiting) == (0, 0)

    assert interrupt_everywhere(scenario, backend=backend) > 20


def test_any_order_of_tasks(seeds: range) -> None:
    """Five who ask at the same time, through every door: five answers, each from where the one before has come to."""

    async def scenario() -> None:
        agent, journal = echo(), MemoryJournal(keep=True)
        answers: list[str] = []

        async def ask(number: int) -> None:
            match number % 3:
                case 0:
                    result = await agent.run("x", conversation_id="c1")
                case 1:
                    result = await (await system.start(agent, "x", conversation_id="c1")).result()
                case _:
                    result = await system.conversation(agent, "c1").ask("x")
            answers.append(str(result))

        async with System(journal=journal, sources=virtual()) as system:
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(ask, number)
            assert sorted(answers) == ["1: x", "3: x", "5: x", "7: x", "9: x"]
            assert [each.run_id for each in await journal.runs()] == [f"c1.{number}" for number in range(1, 6)]

    explore(scenario, seeds=list(seeds)[:50])


# -- two processes


def test_two_systems_on_one_file(tmp_path: Path) -> None:
    """Two that answer at the same time do not answer from the same place."""
    path = tmp_path / "runs.db"
    answers: list[str] = []

    def live(backend: str) -> None:
        async def talk() -> None:
            agent = echo(0.0)
            async with System(journal=SqliteJournal(path)):
                for _ in range(10):
                    while True:
                        try:
                            answers.append(str(await agent.run("x", conversation_id="c1")))
                            break
                        except ConversationBusy:  # the other one is at work
                            await anyio.sleep(0.001)

        anyio.run(talk, backend=backend)

    threads = [threading.Thread(target=live, args=(backend,)) for backend in ("asyncio", "trio")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(answer.partition(":")[0]) for answer in answers) == list(range(1, 41, 2))


# -- what a System hears and requires


@each_backend
def test_a_system_hears_all_runs(backend: str) -> None:
    """In order, subagents too; whoever fails is logged and disturbs nobody; nothing is streamed for it."""

    async def scenario() -> None:
        heard: list[Any] = []
        later: list[Any] = []

        def fail(event: Any) -> None:
            raise RuntimeError("no")

        async def slow(event: Any) -> None:
            await anyio.sleep(0.001)
            later.append(event)

        expert = Agent("expert", Lines("expertise"))
        agent = Agent("a", Lines([("expert", {"prompt": "?"})], "done"), tools=[expert])
        async with System(sources=virtual(), on_event=[heard.append, fail, slow]) as system:
            run = await system.start(agent, "Go", run_id="r")
            await run.result()
            await agent.run("Go", run_id="s")
        for run_id in ("r", "s"):
            ours = [event for event in heard if event.path[0] == run_id]
            assert [event.seq for event in ours] == list(range(1, len(ours) + 1))
            assert [event for event in later if event.path[0] == run_id] == ours
            assert {event.run_id for event in ours} == {run_id, f"{run_id}.1.0.1"}
            assert not any("delta" in event.type for event in ours)

    play(scenario, backend=backend)


@each_backend
def test_a_story_of_a_conversation(backend: str) -> None:
    """The journal lists its runs by the conversation, in order."""

    async def scenario() -> None:
        agent, journal = echo(), MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()):
            for _ in range(3):
                await agent.run("x", conversation_id="c1", user_id="u")
            listed = await journal.runs(conversation_id="c1")
            stories = [Chronicle(await journal.read(each.run_id)) for each in listed]
        assert [len(story.messages) for story in stories] == [2, 4, 6]

    play(scenario, backend=backend)


@pytest.mark.anyio
async def test_runs_of_a_map_are_no_conversation(tmp_path: Path) -> None:
    """They are begun side by side: the id is their label, and the conversation goes on without them."""
    agent = Agent("a", Scripted(*["yes"] * 5))
    async with System(journal=tmp_path / "runs.db"):
        first = await agent.run("one", conversation_id="c1")
        mapped = await agent.map(["x", "y", "z"], conversation_id="c1", on_error="raise")
        assert [(len(each.messages), each.conversation_id) for each in mapped] == [(2, "c1")] * 3
        second = await agent.run("two", conversation_id="c1")
    assert (first.run_id, second.run_id, len(second.messages)) == ("c1.1", "c1.2", 4)
