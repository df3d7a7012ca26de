"""Conversations: runs one after the other, in one process or several."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from weakref import ref

import anyio
import pytest

from greenroom import (
    Agent,
    AgentError,
    Conversation,
    ConversationBusy,
    Limits,
    MemoryJournal,
    RunExists,
    System,
    SystemDraining,
    UnknownOption,
    tool,
)
from greenroom.journal import Claim, JournalError
from greenroom.providers import ModelReply, ModelRequest, Provider, Scripted, assistant, call
from greenroom.testing import run as play

pytestmark = pytest.mark.anyio


class Echo(Provider):
    """Says how many messages it was given, and the last one."""

    name, model = "echo", "echo-1"

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gate: anyio.Event | None = None

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer."""
        if self.gate is not None:
            await self.gate.wait()
        self.asked.append(len(request.messages))
        return ModelReply(assistant(f"{len(request.messages)}: {request.messages[-1].text}"))


def echo() -> Agent[Any, str]:
    return Agent("echo", Echo())


async def test_a_conversation_goes_on_from_what_was_said() -> None:
    """Each run has the conversation so far for its history."""
    async with System() as system:
        chat = system.conversation(echo(), "c1")
        assert str(await chat.ask("one")) == "1: one"
        assert str(await chat.ask("two")) == "3: two"
        assert [message.text for message in chat.messages] == ["one", "1: one", "two", "3: two"]
        again = system.conversation(echo(), "c1")
        assert str(await again.ask("three")) == "5: three"
        assert len(chat.messages) == 6


async def test_runs_of_a_conversation_are_known_as_such() -> None:
    """They carry its id, and ids that tell their order."""
    heard: list[Any] = []
    async with System() as system:
        chat = system.conversation(echo(), "a/b", user_id="u1", on_event=heard.append)
        first, second = await chat.ask("one"), await chat.ask("two")
    assert [first.run_id, second.run_id] == ["a%2Fb.1", "a%2Fb.2"]
    assert {(event.conversation_id, event.user_id) for event in heard} == {("a/b", "u1")}


async def test_who_asks_meanwhile_waits_for_their_turn() -> None:
    """Nothing is answered from a history that is about to change."""
    answers: list[str] = []

    async def ask(prompt: str) -> None:
        answers.append(str(await system.conversation(agent, "c1").ask(prompt)))

    agent = echo()
    async with System() as system:
        chat = system.conversation(agent, "c1")
        async with anyio.create_task_group() as group:
            for prompt in "abc":
                group.start_soon(ask, prompt)
        assert sorted(answer.partition(":")[0] for answer in answers) == ["1", "3", "5"]
        assert len(chat.messages) == 6


async def test_what_is_sent_goes_to_the_run_at_work_or_begins_one() -> None:
    """Nobody has to wait for an answer."""
    model = Echo()
    model.gate = anyio.Event()
    done = anyio.Event()

    def hear(event: Any) -> None:
        if event.type == "run.completed":
            done.set()

    async with System() as system:
        chat = system.conversation(Agent("echo", model), "c1", on_event=hear)
        chat.send("one")
        while chat.run is None:
            await anyio.lowlevel.checkpoint()
        chat.send("two")
        model.gate.set()
        await done.wait()
        await chat.load()
        assert sorted(m.text for m in chat.messages if m.role == "user") == ["one", "two"]
        assert chat.messages[-1].text.endswith(": two")


async def test_an_idle_conversation_lies_in_the_journal_and_thaws(tmp_path: Path) -> None:
    """It costs no memory; the next message reads what was said, in this process or another."""
    file = tmp_path / "runs.db"
    async with System(journal=file) as system:
        chat = system.conversation(echo(), "c1")
        await chat.ask("one")
        talk = ref(chat._talk)
        del chat
        gc.collect()
        assert talk() is None
        chat = system.conversation(echo(), "c1")
        assert str(await chat.ask("two")) == "3: two"
    async with System(journal=file) as system:
        chat = system.conversation(echo(), "c1")
        assert len(await chat.load()) == 4
        assert str(await chat.ask("three")) == "5: three"


async def test_two_processes_do_not_answer_from_the_same_place(tmp_path: Path) -> None:
    """The second one reads what the first has added, and goes on behind it."""
    file = tmp_path / "runs.db"
    async with System(journal=file, name="a") as one, System(journal=file, name="b") as two:
        here, there = one.conversation(echo(), "c1"), two.conversation(echo(), "c1")
        assert str(await here.ask("a")) == "1: a"
        assert str(await there.ask("b")) == "3: b"
        assert str(await here.ask("c")) == "5: c"


async def test_a_conversation_whose_last_run_has_not_ended_is_busy(tmp_path: Path) -> None:
    """It is not answered beside a run that another process has, or that waits to be recovered."""
    model = Echo()
    model.gate = anyio.Event()
    file = tmp_path / "runs.db"
    agent = Agent("echo", model)
    async with System(journal=file) as system:
        system.conversation(agent, "c1").send("one")
        while system.find("c1.1") is None:
            await anyio.lowlevel.checkpoint()
    model.gate.set()
    async with System(journal=file) as system:
        chat = system.conversation(agent, "c1")
        with pytest.raises(ConversationBusy, match=r"'c1\.1'.*recover"):
            await chat.ask("two")
        await system.recover([agent])
        assert str(await chat.ask("two")) == "3: two"


async def test_a_conversation_goes_on_from_an_error_and_from_a_stop() -> None:
    """What was said until then is part of it."""

    @tool
    async def look() -> str:
        """Look."""
        return "seen"

    model = Scripted([call("look")], "fine")
    async with System() as system:
        chat: Conversation[str] = system.conversation(Agent("a", model, tools=[look]), "c1")
        with pytest.raises(AgentError):
            await chat.ask("one", limits=Limits(turns=1))
        assert [m.role for m in chat.messages] == ["user", "assistant", "tool"]
        assert str(await chat.ask("two")) == "fine"


async def test_who_gives_up_asking_stops_the_run() -> None:
    """The next one goes on from what it had come to."""
    model = Echo()
    model.gate = anyio.Event()
    async with System() as system:
        chat = system.conversation(Agent("echo", model), "c1")
        async with anyio.create_task_group() as group:
            group.start_soon(chat.ask, "one")
            while chat.run is None:
                await anyio.lowlevel.checkpoint()
            run = chat.run
            group.cancel_scope.cancel()
        model.gate.set()
        assert str(await chat.ask("two")) == "2: two"
        assert (await run.result()).reason == "abandoned"


async def test_a_pruned_conversation_still_counts_on() -> None:
    """Numbers are read from the ids that are left."""
    now = [1000.0]
    journal = MemoryJournal(keep=True, clock=lambda: now[0])
    async with System(journal=journal) as system:
        chat = system.conversation(echo(), "c1")
        await chat.ask("one")
        now[0] = 2000.0
        await chat.ask("two")
        assert await journal.prune(before=1500.0) == 1
    async with System(journal=journal) as system:
        result = await system.conversation(echo(), "c1").ask("three")
        assert (result.run_id, str(result)) == ("c1.3", "5: three")


async def test_an_id_that_another_run_has_taken_is_an_error() -> None:
    """A run that only looks like one of the conversation: nobody waits for it to go away."""
    async with System(journal=MemoryJournal(keep=True)) as system:
        run = await system.start(echo(), "one", run_id="c1.1")
        await run.result()
        with pytest.raises(RunExists, match=r"'c1\.1'"):
            await system.conversation(echo(), "c1").ask("two")


class Slow(MemoryJournal):
    """Takes a second to make an entry durable."""

    async def durable(self, claim: Claim) -> None:
        await anyio.sleep(1)
        await super().durable(claim)


@pytest.mark.parametrize("half_seconds", range(14))
def test_what_is_sent_at_any_moment_is_answered(half_seconds: int, anyio_backend: str) -> None:
    """Also while the run that answered stores its end: then it begins another one."""

    async def scenario() -> None:
        async with System(journal=Slow(keep=True)) as system:
            chat = system.conversation(echo(), "c1")

            async def send() -> None:
                await anyio.sleep(half_seconds / 2)
                chat.send("two")

            async with anyio.create_task_group() as group:
                group.start_soon(send)
                await chat.ask("one")
            await anyio.sleep(30)
            assert chat.run is None
            said = await chat.load()
            assert sorted(message.text for message in said if message.role == "user") == ["one", "two"]
            assert said[-1].role == "assistant"

    play(scenario, backend=anyio_backend)


@pytest.mark.parametrize("moment", ["run.started", "turn.started", "model.completed", "turn.ended", "run.completed"])
def test_what_an_observer_sends_is_answered(moment: str, anyio_backend: str) -> None:
    """Whatever it has just heard of."""
    heard: list[Any] = []

    def hear(event: Any) -> None:
        if event.type == moment and not heard:
            heard.append(event)
            chat.send("two")
            heard.append("sent")

    async def scenario() -> None:
        nonlocal chat
        async with System() as system:
            chat = system.conversation(echo(), "c1", on_event=hear)
            await chat.ask("one")
            await anyio.sleep(10)
            assert heard[1:] == ["sent"]
            said = await chat.load()
            assert sorted(message.text for message in said if message.role == "user") == ["one", "two"]
            assert said[-1].role == "assistant"

    chat: Any = None
    play(scenario, backend=anyio_backend)


async def test_a_damaged_run_refuses_no_other_conversation(tmp_path: Path) -> None:
    """Scenario 76: healthy and new ones go on; that of the damaged run does not begin anew as if nothing were said."""
    file = tmp_path / "runs.db"
    async with System(journal=file) as system:
        for id in ("c1", "c2"):
            await system.conversation(echo(), id).ask("one")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET size = 1 WHERE id = 'c1.1'")
    async with System(journal=file) as system:
        assert str(await system.conversation(echo(), "c2").ask("two")) == "3: two"
        assert str(await system.conversation(echo(), "c3").ask("one")) == "1: one"
        with pytest.raises(JournalError, match=r"run 'c1\.1'"):
            await system.conversation(echo(), "c1").ask("two")


async def test_options_are_checked() -> None:
    """In one line that names the remedy."""
    async with System() as system:
        wrong: Any = system.conversation
        with pytest.raises(UnknownOption, match="did you mean 'user_id'"):
            wrong(echo(), "c1", userid="u")
        with pytest.raises(ValueError, match="must not be empty"):
            wrong(echo(), "")
        with pytest.raises(ValueError, match="text that UTF-8 can hold"):
            wrong(echo(), "\ud800")
        with pytest.raises(TypeError, match="takes an agent first"):
            wrong("c1", echo())
        with pytest.raises(UnknownOption, match="ask"):
            wrong_ask: Any = system.conversation(echo(), "c1").ask
            await wrong_ask("x", run_idd="x")


async def test_what_cannot_work_is_refused_where_it_is_given() -> None:
    """Not later, in a log line."""
    async with System() as system:
        wrong: Any = system.conversation
        with pytest.raises(TypeError, match="tags= takes a list of texts"):
            wrong(echo(), "c1", tags="x")
        with pytest.raises(TypeError, match="limits= takes Limits"):
            wrong(echo(), "c1", limits=3)
        send: Any = system.conversation(echo(), "c1").send
        with pytest.raises(TypeError, match="a prompt is text"):
            send(5)


async def test_nothing_is_asked_while_the_system_drains() -> None:
    """It says so, whatever the last run has come to."""
    async with System() as system:
        chat = system.conversation(echo(), "c1")
        await chat.ask("one")
        await system.drain(0)
        with pytest.raises(SystemDraining):
            await chat.ask("two")


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancellation_that_only_asyncio_knows_of_stops_the_run(times: int) -> None:
    """A task that is cancelled by itself, as asyncio's web servers and timeouts do it; no scope of ours is."""

    async def scenario() -> None:
        async with System() as system:
            chat = system.conversation(Agent("helper", Scripted(forever, "Here.")), "c1")
            async with asyncio.TaskGroup() as group:
                task = group.create_task(chat.ask("Hi"))
                await anyio.wait_all_tasks_blocked()
                run = chat.run
                assert run is not None
                for _ in range(times):
                    task.cancel()
            assert task.cancelled()
            result = await run.result()
            assert (result.status, result.reason) == ("stopped", "abandoned")
            with anyio.fail_after(1):
                assert (await chat.ask("Again")).text == "Here."

    play(scenario, backend="asyncio")


@pytest.mark.anyio
async def test_who_would_not_wait_hears_that_the_run_is_here() -> None:
    async with System() as system:
        chat = system.conversation(Agent("helper", Scripted(forever)), "c1")
        async with anyio.create_task_group() as group:
            group.start_soon(chat.ask, "Hi")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ConversationBusy) as caught:
                await chat.ask("Hello?", when_busy="refuse")
            assert str(caught.value) == (
                "run 'c1.1' of conversation 'c1' is at work here: when_busy='wait' waits for it"
            )
            assert caught.value.run_id == "c1.1"
            group.cancel_scope.cancel()


async def forever(_request: ModelRequest) -> str:
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_conversation_is_used_where_its_system_lives() -> None:
    """Elsewhere it refuses, and nothing of its System is disturbed."""
    refused: list[str] = []

    async with System() as system:
        chat = system.conversation(echo(), "c1")

        async def elsewhere() -> None:
            for function in (lambda: chat.ask("Hi"), chat.load):
                with pytest.raises(RuntimeError) as caught:
                    await function()
                refused.append(str(caught.value))
            in_a_thread()

        def in_a_thread() -> None:
            with pytest.raises(RuntimeError) as caught:
                chat.send("Hi")
            refused.append(str(caught.value))

        await anyio.to_thread.run_sync(in_a_thread)
        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere))
        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend="trio"))
        assert str(await chat.ask("Hi")) == "1: Hi"
    assert ["System 'system' lives in another event loop" in each for each in refused[1:3]] == [True] * 2
    sends = [refused[0], refused[3], refused[6]]
    assert all(each.startswith("conversation.send() belongs to the system's event loop") for each in sends)
    assert len(refused) == 7
