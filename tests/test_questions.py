"""What tools ask the user: who may answer, until when, and what becomes of the question and its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from greenroom import (
    Agent,
    Allow,
    Drained,
    MemoryJournal,
    PendingQuestion,
    Run,
    RunContext,
    SqliteJournal,
    StaleQuestion,
    System,
    tool,
)
from greenroom.agents import tool_batch
from greenroom.agents.questions import NOBODY
from greenroom.journal import AnsweredQuestion, Happened, Questioned, decode
from greenroom.providers import Scripted, call
from greenroom.testing import Interruption, explore, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, check_told, story, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@tool(replay="safe")
async def pay(context: RunContext[Any]) -> str:
    """Pay from an account."""
    return f"paid from {await context.ask_user('Which account?')}"


@tool(replay="safe")
async def move(context: RunContext[Any]) -> str:
    """Move from one place to another."""
    source = await context.ask_user("From where?")
    return f"moved from {source} to {await context.ask_user('Where to?')}"


@tool(replay="safe")
async def hurry(context: RunContext[Any]) -> str:
    """Ask, but not for long."""
    try:
        return await context.ask_user("Well?", timeout=60)
    except TimeoutError as error:
        return str(error)


@tool
async def once(context: RunContext[Any]) -> str:
    """Ask, in a call that must not run twice."""
    return await context.ask_user("Now?")


@tool(replay="safe")
async def look() -> str:
    """Look."""
    await anyio.sleep(1)
    return "seen"


TOOLS = [pay, move, hurry, once, look]


def helper(*lines: Any, name: str = "helper", **options: Any) -> Agent[Any, str]:
    return Agent(name, Lines(*lines), **{"tools": TOOLS, **options})


def told(result: Any) -> list[str]:
    return [each.content for message in result.messages for each in message.tool_results]


async def asked(run: Run[Any], number: int = 1) -> PendingQuestion:
    """The latest of so many open questions, once there are as many."""
    while len(run.questions) < number:
        assert run.status == "running", "it has ended without asking"
        await anyio.sleep(0.001)
    return run.questions[number - 1]


async def answer_all(run: Run[Any], answers: dict[str, str]) -> None:
    """Answer each question by its text, as it comes."""
    async for event in run:
        if event.type == "message.asked":
            run.answer(event.question_id, answers[event.question])


# -- by handle


@backends
def test_a_tool_waits_for_the_answer_while_the_others_go_on(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with System(sources=virtual()) as system:
            run = await system.start(helper(["pay", "look"], "Done."), "Go", run_id="r", on_event=heard.append)
            question = await asked(run)
            moment = datetime.fromtimestamp(1000.001, UTC)
            assert question == PendingQuestion("r.1.0.q1", "r", ("r",), "c0-0", "pay", "Which account?", moment)
            await anyio.sleep(5)
            assert [event.tool for event in heard if event.type == "tool.completed"] == ["look"]
            run.answer("r.1.0.q1", "savings")
            assert run.questions == ()
            result = await run.result()
        assert told(result) == ["paid from savings", "seen"]
        [said, ended] = [event for event in heard if event.type in ("message.asked", "message.answered")]
        assert (said.question_id, said.call_id, said.tool, said.question) == (
            "r.1.0.q1",
            "c0-0",
            "pay",
            "Which account?",
        )
        assert (ended.question_id, ended.outcome, ended.text) == ("r.1.0.q1", "answered", "savings")

    play(scenario, backend=backend)


@backends
def test_two_questions_one_after_the_other(backend: str) -> None:
    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["move"], "Done."), "Go", run_id="r")
            run.answer((await asked(run)).question_id, "here")
            second = await asked(run)
            assert (second.question_id, second.question) == ("r.1.0.q2", "Where to?")
            run.answer(second.question_id, "there")
            assert told(await run.result()) == ["moved from here to there"]

    play(scenario, backend=backend)


@backends
def test_several_tools_and_several_questions_of_one_tool_at_once(backend: str) -> None:
    async def scenario() -> None:
        @tool
        async def both(context: RunContext[Any]) -> str:
            """Ask two things at once."""
            answers: dict[str, str] = {}

            async def ask(text: str) -> None:
                answers[text] = await context.ask_user(text)

            async with anyio.create_task_group() as group:
                group.start_soon(ask, "a")
                group.start_soon(ask, "b")
            return answers["a"] + answers["b"]

        async with System() as system:
            agent = helper(["both", "pay", "pay"], "Done.", tools=[both, pay])
            run = await system.start(agent, "Go", run_id="r")
            await asked(run, 4)
            assert len({each.question_id for each in run.questions}) == 4
            for each in reversed(run.questions):
                known = {"a": "1", "b": "2"}
                run.answer(each.question_id, known.get(each.question, each.question_id))
            assert told(await run.result()) == ["12", "paid from r.1.1.q1", "paid from r.1.2.q1"]

    play(scenario, backend=backend)


@backends
def test_one_answer_counts_whoever_gives_it(backend: str) -> None:
    """From many threads, one is taken; the others hear that they are late."""

    async def scenario() -> None:
        outcomes: list[str] = []
        late: list[StaleQuestion] = []
        async with System() as system:
            run = await system.start(helper(["pay"], "Done."), "Go")
            id = (await asked(run)).question_id

            def answer(text: str) -> None:
                try:
                    run.answer(id, text)
                    outcomes.append(text)
                except StaleQuestion as error:
                    late.append(error)

            threads = [threading.Thread(target=answer, args=(str(number),)) for number in range(8)]
            for thread in threads:
                thread.start()
            result = await run.result()
            for thread in threads:
                thread.join()
        assert told(result) == [f"paid from {outcomes[0]}"]
        assert (len(outcomes), len(late)) == (1, 7)
        assert {error.question_id for error in late} == {id}
        assert "\n" not in str(late[0])

    play(scenario, backend=backend, virtual_time=False)


@backends
def test_stale_answers_are_refused(backend: str) -> None:
    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["pay"], "Done."), "Go")
            with pytest.raises(StaleQuestion):
                run.answer("nothing", "x")
            id = (await asked(run)).question_id
            other = await system.start(helper(["pay"], "Done."), "Go")
            await asked(other)
            with pytest.raises(StaleQuestion, match=f"in run {other.id!r}, no question {id!r} is open"):
                other.answer(id, "x")
            run.answer(id, "")
            with pytest.raises(StaleQuestion):
                run.answer(id, "again")
            assert told(await run.result()) == ["paid from "]
            with pytest.raises(StaleQuestion):
                run.answer(id, "after the end")
            await other.stop()

    play(scenario, backend=backend)


@backends
def test_a_subagent_does_not_answer_for_the_run_above(backend: str) -> None:
    async def scenario() -> None:
        expert = helper(["pay"], "Expertise.", name="expert")
        boss = helper(["move", ("expert", {"prompt": "?"})], "Done.", tools=[move, expert])
        async with System() as system:
            run = await system.start(boss, "Go", run_id="r")
            await asked(run, 2)
            own = next(each for each in run.questions if each.run_id == "r")
            below: Run[Any] = Run(run._cell.subruns()[0])
            assert [each.tool for each in below.questions] == ["pay"]
            with pytest.raises(StaleQuestion):
                below.answer(own.question_id, "x")
            assert own in run.questions
            await run.stop()

    play(scenario, backend=backend)


@backends
def test_wrong_answers_are_one_line_and_leave_the_question_open(backend: str) -> None:
    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["pay"], "Done."), "Go")
            id = (await asked(run)).question_id
            for bad in (None, 5, b"x", ["x"], True):
                answer: Callable[..., None] = run.answer
                with pytest.raises(TypeError, match=r"answer\(text=\) takes text, not "):
                    answer(id, bad)
                with pytest.raises(TypeError, match="answer\\(question_id=\\) takes"):
                    answer(bad, "x")
            assert [each.question_id for each in run.questions] == [id]
            run.answer(id, "fine")
            await run.result()

    play(scenario, backend=backend)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None,), TypeError, "ask_user(question) takes text, not None"),
        ((" ",), ValueError, "ask_user(question) takes a question, not ' '"),
        (("?", 0), ValueError, "ask_user(timeout=) must be above 0 seconds"),
        (("?", "1"), ValueError, "ask_user(timeout=) must be above 0 seconds"),
    ],
)
@backends
def test_wrong_questions_are_one_line(arguments: Any, error: type[Exception], words: str, backend: str) -> None:
    async def scenario() -> None:
        @tool
        async def ask(context: RunContext[Any]) -> str:
            """Ask."""
            ask_user: Callable[..., Any] = context.ask_user
            with pytest.raises(error) as caught:
                ask_user(arguments[0], timeout=arguments[1] if len(arguments) > 1 else None)
            return str(caught.value)

        [text] = told(await helper(["ask"], "Done.", tools=[ask]).run("Go"))
        assert text.startswith(words)
        assert "\n" not in text

    play(scenario, backend=backend)


@backends
def test_the_handle_of_a_root_and_a_conversation_answer_for_all_below(backend: str) -> None:
    async def scenario() -> None:
        boss = helper([("expert", {"prompt": "?"})], "Done.", tools=[helper(["pay"], "Expertise.", name="expert")])
        async with System() as system:
            run = await system.start(boss, "Go", run_id="r")
            question = await asked(run)
            assert (question.run_id, question.path, question.question_id) == (
                "r.1.0.1",
                ("r", "r.1.0.1"),
                "r.1.0.1.1.0.q1",
            )
            found = system.find("r")
            assert found is not None
            assert found.questions == (question,)
            found.answer(question.question_id, "x")
            assert told(await run.result()) == ["Expertise."]

            chat = system.conversation(helper(["pay"], "Done."), "c")
            assert chat.questions == ()
            with pytest.raises(StaleQuestion, match="in conversation 'c', no question 'x' is open"):
                chat.answer("x", "y")
            with pytest.raises(TypeError):
                chat.answer("x", 5)  # type: ignore[arg-type]
            chat.send("Go")
            while not chat.questions:
                await anyio.sleep(0.001)
            chat.answer(chat.questions[0].question_id, "savings")
            while chat.run is not None:
                await anyio.sleep(0.001)
            assert "paid from savings" in [each.content for message in chat.messages for each in message.tool_results]

    play(scenario, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_blocking_code_answers(backend: Any) -> None:
    with System.in_thread(backend=backend) as system:
        run = system.start(helper(["pay"], "Done."), "Go")
        for event in run:
            if event.type == "message.asked":
                break
        [question] = run.questions
        run.answer(question.question_id, "savings")
        assert told(run.result(10)) == ["paid from savings"]
        chat = system.conversation(helper("Done."), "c")
        assert chat.questions == ()
        with pytest.raises(StaleQuestion):
            chat.answer("x", "y")


@backends
def test_hooks_hear_of_it(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with System() as system:
            run = await system.start(helper(["pay"], "Done.", hooks={"on_question": heard.append}), "Go")
            await answer_all(run, {"Which account?": "x"})
            await run.result()
        assert [each.type for each in heard] == ["message.asked", "message.answered"]

    play(scenario, backend=backend)


# -- nobody there


@backends
def test_with_nobody_to_answer_the_call_fails_at_once(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        agent = helper(
            [("helper2", {"prompt": "?"}), "pay"], "Done.", tools=[pay, helper(["pay"], "x", name="helper2")]
        )
        result = await agent.run("Go")
        assert told(result) == ["x", NOBODY]
        # Outside any System nobody finds the run by its id, whoever hears of it.
        result = await agent.run("Go", on_event=heard.append)
        assert told(result) == ["x", NOBODY]
        assert [event.type for event in heard if "message" in event.type] == []
        async with System() as system:
            assert told(await agent.run("Go", system=system)) == ["x", NOBODY]

    play(scenario, backend=backend)


@backends
def test_who_hears_of_it_in_a_system_finds_the_run(backend: str) -> None:
    async def scenario() -> None:
        async with System() as system:

            def answer(event: Any) -> None:
                if event.type == "message.asked":
                    run = system.find(event.path[0])
                    assert run is not None
                    run.answer(event.question_id, "found")

            result = await helper(["pay"], "Done.").run("Go", on_event=answer)
        assert told(result) == ["paid from found"]

    play(scenario, backend=backend)


@backends
def test_only_async_tools_ask(backend: str) -> None:
    """A plain function runs in a thread, and outside a call there is nobody who could wait."""

    async def scenario() -> None:
        texts: list[str] = []

        def plain(context: RunContext[Any]) -> str:
            """Ask from a thread."""
            context.ask_user("?")
            return "not reached"

        def instruct(context: RunContext[Any]) -> str:
            with pytest.raises(RuntimeError, match="ask_user\\(\\) is for tool calls"):
                context.ask_user("?")
            texts.append("asked")
            return "Help."

        agent = helper(["plain"], "Done.", tools=[plain], instructions=instruct)
        async with System() as system:
            result = await (await system.start(agent, "Go")).result()
        assert told(result) == ["RuntimeError: ask_user() waits in the event loop: make the tool 'plain' an async def"]
        assert texts

    play(scenario, backend=backend)


@backends
def test_a_policy_may_ask(backend: str) -> None:
    """Before the call begins; what it hears decides."""

    async def scenario() -> None:
        async def policy(call: Any, context: RunContext[Any]) -> Any:
            answer = await context.ask_user("May I?")
            return Allow() if answer == "yes" else None

        async with System() as system:
            run = await system.start(helper(["look"], "Done.", policy=policy), "Go")
            await answer_all(run, {"May I?": "yes"})
            assert told(await run.result()) == ["seen"]

    play(scenario, backend=backend)


# -- the end of a wait


@backends
def test_a_question_expires(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with System(sources=virtual()) as system:
            run = await system.start(helper(["hurry"], "Done."), "Go", on_event=heard.append)
            question = await asked(run)
            assert question.expires_at is not None
            assert (question.expires_at - question.asked_at).total_seconds() == pytest.approx(60)
            result = await run.result()
            assert anyio.current_time() == pytest.approx(60, abs=0.1)
            with pytest.raises(StaleQuestion):
                run.answer(question.question_id, "late")
        assert told(result) == ["nobody has answered the question within 60 s"]
        assert [event.outcome for event in heard if event.type == "message.answered"] == ["expired"]

    play(scenario, backend=backend)


@backends
def test_the_timeout_of_the_tool_withdraws_the_question(backend: str) -> None:
    async def scenario() -> None:
        @tool(timeout=5)
        async def ask(context: RunContext[Any]) -> str:
            """Ask."""
            return await context.ask_user("?")

        heard: list[Any] = []
        async with System() as system:
            run = await system.start(helper(["ask"], "Done.", tools=[ask]), "Go", on_event=heard.append)
            result = await run.result()
        assert told(result) == ["timed out after 5 s"]
        assert [event.outcome for event in heard if event.type == "message.answered"] == ["withdrawn"]

    play(scenario, backend=backend)


@backends
def test_a_tool_that_waits_no_longer_withdraws_its_question_and_goes_on(backend: str) -> None:
    async def scenario() -> None:
        @tool
        async def ask(context: RunContext[Any]) -> str:
            """Ask for a moment."""
            with anyio.move_on_after(1):
                return await context.ask_user("?")
            await anyio.sleep(10)
            return "went on"

        heard: list[Any] = []
        async with System(sources=virtual()) as system:
            run = await system.start(helper(["ask"], "Done.", tools=[ask]), "Go", on_event=heard.append)
            id = (await asked(run)).question_id
            await anyio.sleep(2)
            assert run.questions == ()
            with pytest.raises(StaleQuestion):
                run.answer(id, "late")
            [ended] = [event for event in heard if event.type == "message.answered"]
            assert (ended.outcome, ended.time) == ("withdrawn", pytest.approx(1001, abs=0.01))
            assert told(await run.result()) == ["went on"]

    play(scenario, backend=backend)


@backends
def test_a_stop_withdraws_the_question_at_once(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        async with System() as system:
            run = await system.start(helper(["pay"], "Done."), "Go", on_event=heard.append)
            id = (await asked(run)).question_id
            stopping = run.stop()
            assert run.questions == ()
            with pytest.raises(StaleQuestion):
                run.answer(id, "late")
            result = await stopping
        assert (result.status, told(result)) == (
            "stopped",
            ["cancelled: the run was stopped before this call finished"],
        )
        assert [event.outcome for event in heard if event.type == "message.answered"] == ["withdrawn"]

    play(scenario, backend=backend)


@pytest.mark.parametrize("mode", ["after_tools", "after_turn"])
@backends
def test_a_gentle_stop_lets_the_tool_have_its_answer(mode: Any, backend: str) -> None:
    """It is at work: what it has begun, it may finish."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["move"], "Done."), "Go")
            question = await asked(run)
            stopping = run.stop(mode)
            await anyio.sleep(5)
            run.answer(question.question_id, "here")
            run.answer((await asked(run)).question_id, "there")
            result = await stopping
        assert (result.status, told(result)) == ("stopped", ["moved from here to there"])

    play(scenario, backend=backend)


@backends
def test_a_pause_waits_for_it(backend: str) -> None:
    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["pay"], "Done."), "Go")
            question = await asked(run)
            run.pause()
            await anyio.sleep(1)
            assert run.tree().state == "pausing"
            run.answer(question.question_id, "x")
            await anyio.sleep(1)
            assert run.tree().state == "paused"
            run.resume()
            assert told(await run.result()) == ["paid from x"]

    play(scenario, backend=backend)


@backends
def test_a_killed_run_says_how_its_question_ended(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            run = await system.start(helper(["pay"], "Done."), "Go", on_event=heard.append)
            await asked(run)
            run._cell.kill()
            result = await run.result()
        await check_told(journal, result)
        assert run.questions == ()
        assert [event.outcome for event in heard if event.type == "message.answered"] == ["withdrawn"]

    play(scenario, backend=backend)


@backends
def test_an_answer_that_was_taken_is_not_lost_to_a_deadline(backend: str) -> None:
    """It is in the journal before the tool goes on, also when time was over before the loop heard of it."""

    async def scenario() -> None:
        seen: list[list[str]] = []
        journal = RecordingJournal()

        @tool(replay="safe")
        async def ask(context: RunContext[Any]) -> str:
            """Ask."""
            text = await context.ask_user("?", timeout=5)
            seen.append([type(each).__name__ for each in (await story(journal, "r")).records])
            return text

        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(helper(["ask"], "Done.", tools=[ask]), "Go", run_id="r")
            id = (await asked(run)).question_id
            questions = run._cell.questions
            assert questions is not None
            late = questions.answer("r", id, "in time")  # as a thread does, before the loop hears of it
            await anyio.sleep(6)
            late.tell()
            result = await run.result()
        assert told(result) == ["in time"]
        assert seen[0][-1] == "AnsweredQuestion"
        answers = [each for each in (await story(journal, "r")).records if isinstance(each, AnsweredQuestion)]
        assert len(answers) == 1

    play(scenario, backend=backend)


# -- another try, a crash, another process


@backends
def test_another_try_has_the_answers_that_were_given(backend: str) -> None:
    """What has no answer is asked anew."""

    async def scenario() -> None:
        tries: list[int] = []

        @tool(retries=3)
        async def ask(context: RunContext[Any]) -> str:
            """Ask, and fail."""
            tries.append(context.attempt)
            first = await context.ask_user("first?")
            if context.attempt == 1:
                raise ValueError("no luck")
            return first + await context.ask_user("second?", timeout=10)

        heard: list[Any] = []
        async with System(sources=virtual()) as system:
            agent = helper(["ask"], "Done.", tools=[ask])
            run = await system.start(agent, "Go", run_id="r", on_event=heard.append)
            run.answer((await asked(run)).question_id, "1")
            await asked(run)
            await anyio.sleep(12)
            again = await asked(run)
            await anyio.sleep(5)  # it has all its time once more
            run.answer(again.question_id, "2")
            assert told(await run.result()) == ["12"]
        assert tries == [1, 2, 3]
        questions = [(event.question, event.question_id) for event in heard if event.type == "message.asked"]
        assert questions == [("first?", "r.1.0.q1"), ("second?", "r.1.0.q2"), ("second?", "r.1.0.q2")]

    play(scenario, backend=backend)


async def dies_at(agent: Agent[Any, Any], moment: float, answers: dict[str, str]) -> RecordingJournal:
    """The journal of a run whose process dies at this moment, with some of its questions answered."""
    journal = RecordingJournal()
    async with System(journal=journal, sources=virtual()) as system:
        run = await system.start(agent, "Go", run_id="r")

        async def answer() -> None:
            async for event in run:
                if event.type == "message.asked" and event.question in answers:
                    run.answer(event.question_id, answers[event.question])

        with anyio.move_on_after(moment):
            await answer()
        return journal.after(len(journal.written))


@backends
def test_after_a_crash_the_answers_are_there_and_the_open_question_is_asked_again(backend: str) -> None:
    async def scenario() -> None:
        agent = helper(["move"], "Done.")
        died = await dies_at(agent, 10, {"From where?": "here"})
        heard: list[Any] = []
        async with System(journal=died, sources=virtual()) as system:
            [run] = await system.recover([agent], on_event=heard.append)
            question = await asked(run)
            assert (question.question_id, question.question) == ("r.1.0.q2", "Where to?")
            run.answer(question.question_id, "there")
            result = await run.result()
        assert told(result) == ["moved from here to there"]
        assert [event.question for event in heard if event.type == "message.asked"] == ["Where to?"]
        chronicle = await check_told(died, result)
        assert [each.number for each in chronicle.records if isinstance(each, Questioned)] == [1, 2]
        assert [each.text for each in chronicle.records if isinstance(each, AnsweredQuestion)] == ["here", "there"]
        text = str(chronicle.trace())
        assert "asks the user" in text
        assert "the user answers" in text

    play(scenario, backend=backend)


@pytest.mark.parametrize(("away", "rest"), [(0.0, 50.0), (30.0, 20.0), (500.0, 0.0)])
@backends
def test_the_time_for_an_answer_goes_on(away: float, rest: float, backend: str) -> None:
    async def scenario() -> None:
        agent = helper(["hurry"], "Done.")
        died = await dies_at(agent, 10.002, {})
        await anyio.sleep(away)
        began = anyio.current_time()
        async with System(journal=died, sources=virtual()) as system:
            [run] = await system.recover([agent])
            result = await run.result()
            assert anyio.current_time() - began == pytest.approx(rest, abs=0.01)
        assert told(result) == ["nobody has answered the question within 60 s"]
        await check_told(died, result)

    play(scenario, backend=backend)


@backends
def test_an_answer_is_for_the_question_it_was_given_to(backend: str) -> None:
    """A tool that asks something else today does not take yesterday's answer for it."""

    async def scenario() -> None:
        texts = ["Red?"]

        @tool(replay="safe")
        async def ask(context: RunContext[Any]) -> str:
            """Ask."""
            first = await context.ask_user(texts[0])
            await anyio.sleep(100)
            return first

        agent = helper(["ask"], "Done.", tools=[ask])
        died = await dies_at(agent, 10, {"Red?": "yes"})
        texts[0] = "Blue?"
        async with System(journal=died, sources=virtual()) as system:
            [run] = await system.recover([agent])
            question = await asked(run)
            assert (question.question_id, question.question) == ("r.1.0.q2", "Blue?")
            run.answer(question.question_id, "no")
            assert told(await run.result()) == ["no"]

    play(scenario, backend=backend)


@backends
def test_an_answer_is_for_one_turn(backend: str) -> None:
    """Providers repeat ids: the next call of that id asks anew, also after a crash."""

    async def scenario() -> None:
        def script() -> Agent[Any, str]:
            same = [msgspec.structs.replace(call("pay"), id="same")]
            return Agent("helper", Scripted(same, same, "Done."), tools=[pay])

        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(script(), "Go", run_id="r")
            first = await asked(run)
            run.answer(first.question_id, "a")
            second = await asked(run)
            assert (first.question_id, second.question_id) == ("r.1.0.q1", "r.2.0.q1")
            written = len(journal.written)
            assert isinstance(decode(journal.written[-1].entry)[-1], Questioned)
            run.answer(second.question_id, "b")
            assert told(await run.result()) == ["paid from a", "paid from b"]
        for died in (journal.after(written), journal.after(written - 1)):
            agent = Agent("helper", Scripted("Done."), tools=[pay])
            async with System(journal=died, sources=virtual()) as system:
                [run] = await system.recover([agent])
                run.answer((await asked(run)).question_id, "c")
                assert told(await run.result()) == ["paid from a", "paid from c"]

    play(scenario, backend=backend)


@backends
def test_a_call_that_must_not_run_twice_does_not_ask_twice(backend: str) -> None:
    async def scenario() -> None:
        agent = helper(["once"], "Done.")
        died = await dies_at(agent, 10, {})
        async with System(journal=died, sources=virtual()) as system:
            [run] = await system.recover([agent])
            result = await run.result()
        assert told(result)[0].startswith("outcome unknown")
        await check_told(died, result)

    play(scenario, backend=backend)


@backends
def test_a_crash_of_the_run_asks_again_only_what_is_open(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tool_batch.ToolBatch._ended
    crashes = [RuntimeError("bug")]

    async def crash_once(batch: Any, cell: Any) -> Any:
        effects = await done(batch, cell)
        if crashes and cell.tool.name == "look":
            raise crashes.pop()
        return effects

    monkeypatch.setattr(tool_batch.ToolBatch, "_ended", crash_once)

    async def scenario() -> None:
        heard: list[Any] = []
        async with System() as system:
            run = await system.start(helper(["move", "look"], "Done."), "Go", on_event=heard.append)
            run.answer((await asked(run)).question_id, "here")
            await anyio.sleep(5)
            assert "run.restarted" in [event.type for event in heard]
            run.answer((await asked(run)).question_id, "there")
            assert told(await run.result()) == ["moved from here to there", "seen"]
        questions = [event.question for event in heard if event.type == "message.asked"]
        assert questions == ["From where?", "Where to?", "Where to?"]

    crashes[:] = [RuntimeError("bug")]
    play(scenario, backend=backend)


@backends
def test_recovery_from_a_file(backend: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = helper(["move"], "Done.")
        path = tmp_path / "journal.db"
        async with System(journal=SqliteJournal(path)) as system:
            run = await system.start(agent, "Go", run_id="r")
            run.answer((await asked(run)).question_id, "here")
            await asked(run)
        async with System(journal=SqliteJournal(path)) as system:
            [run] = await system.recover([agent])
            run.answer((await asked(run)).question_id, "there")
            result = await run.result()
            assert (await system.chronicle("r")).messages == tuple(result.messages)
        assert told(result) == ["moved from here to there"]

    play(scenario, backend=backend, virtual_time=False)


# -- a drain


@backends
def test_a_run_whose_only_work_is_a_question_is_suspended(backend: str) -> None:
    """Whether it was asked before the drain or is asked while a drain goes on."""

    async def scenario() -> None:
        for early in (True, False):
            journal = RecordingJournal()

            @tool(replay="safe")
            async def ask(context: RunContext[Any], early: bool = early) -> str:
                """Ask, now or later."""
                await anyio.sleep(0 if early else 10)
                return await context.ask_user("?")

            agent = helper(["ask"], "Done.", tools=[ask])
            async with System(journal=journal, sources=virtual()) as system:
                run = await system.start(agent, "Go", run_id="r")
                await anyio.sleep(5)
                began = anyio.current_time()
                assert await system.drain(100) == Drained(suspended=("r",))
                assert anyio.current_time() - began == pytest.approx(0 if early else 5, abs=0.1)
                await check_told(journal, await run.result())
            async with System(journal=journal, sources=virtual()) as system:
                [run] = await system.recover([agent])
                run.answer((await asked(run)).question_id, "x")
                assert told(await run.result()) == ["x"]

    play(scenario, backend=backend)


@backends
def test_a_drain_waits_for_a_call_that_must_not_run_twice(backend: str) -> None:
    async def scenario() -> None:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(helper(["once", "pay"], "Done."), "Go", run_id="r")
            await asked(run, 2)
            async with anyio.create_task_group() as group:

                async def answer() -> None:
                    await anyio.sleep(20)
                    once = next(each for each in run.questions if each.tool == "once")
                    run.answer(once.question_id, "now")

                group.start_soon(answer)
                began = anyio.current_time()
                assert await system.drain(100) == Drained(suspended=("r",))
                assert anyio.current_time() - began == pytest.approx(20, abs=0.1)
        told_so_far = await story(journal, "r")
        outcomes = [each.result["content"] for each in told_so_far.records if isinstance(each, Happened)]
        assert outcomes == ["now"]

    play(scenario, backend=backend)


@backends
def test_an_answer_as_the_drain_begins_is_not_lost(backend: str) -> None:
    """Taken is taken: the call that runs again elsewhere has it."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["move"], "Done.")
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            question = await asked(run)
            run.answer(question.question_id, "here")
            run._cell.request_stop("system")
            await run.result()
        async with System(journal=journal, sources=virtual()) as system:
            [run] = await system.recover([agent])
            assert (await asked(run)).question == "Where to?"
            run.answer(run.questions[0].question_id, "there")
            assert told(await run.result()) == ["moved from here to there"]

    play(scenario, backend=backend)


# -- whatever the moment


def check_events(heard: list[Any]) -> None:
    """Each question is asked once and ends once, and the run's end is the last event."""
    opened = [event.question_id for event in heard if event.type == "message.asked"]
    ended = [event.question_id for event in heard if event.type == "message.answered"]
    assert sorted(opened) == sorted(ended)
    assert len(set(opened)) == len(opened)
    assert heard[-1].type in ("run.completed", "run.stopped")


@pytest.mark.parametrize("how", ["stop", "after_tools", "kill", "system"])
@backends
def test_interrupted_at_every_step(how: str, backend: str) -> None:
    """One outcome, a valid history, a journal that tells it, and no question left open."""

    async def scenario(interruption: Interruption) -> None:
        heard: list[Any] = []
        journal = RecordingJournal()
        expert = helper(["pay"], "Expertise.", name="expert")
        agent = helper(["move", ("expert", {"prompt": "?"})], "Done.", tools=[move, expert])
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", on_event=heard.append)
            acts: dict[str, Callable[[], Any]] = {
                "stop": run.stop,
                "after_tools": partial(run.stop, "after_tools"),
                "kill": run._cell.kill,
                "system": partial(run._cell.request_stop, "system"),
            }
            interruption.arm(acts[how])
            answered: dict[str, str] = {}
            async with anyio.create_task_group() as group:

                async def answer() -> None:
                    while True:
                        for each in run.questions:
                            run.answer(each.question_id, each.question)
                            answered[each.question_id] = each.question
                        await anyio.sleep(0.01)

                group.start_soon(answer)
                result = await run.result()
                group.cancel_scope.cancel()
            assert run.questions == ()
        calls = [each.id for message in result.messages for each in message.tool_calls]
        assert calls == [each.call_id for message in result.messages for each in message.tool_results]
        check_events(heard)
        if how == "kill":
            return  # what ends in the same moment may be written or not
        chronicle = await check_told(journal, result)
        if chronicle.standing == "suspended":
            assert how == "system"
            written = {each.text for each in chronicle.records if isinstance(each, AnsweredQuestion)}
            assert {answered[id] for id in answered if id.startswith("r.1.0.q")} <= written
        if result.status == "completed":
            assert told(result)[0] == "moved from From where? to Where to?"

    interrupt_everywhere(scenario, backend=backend)


def test_in_every_order_of_tasks() -> None:
    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["move", "pay"], "Done."), "Go")
            other = await system.start(helper(["pay"], "Done."), "Go")
            async with anyio.create_task_group() as group:
                group.start_soon(answer_all, run, {"From where?": "a", "Where to?": "b", "Which account?": "c"})
                group.start_soon(answer_all, other, {"Which account?": "d"})
            assert told(await run.result()) == ["moved from a to b", "paid from c"]
            assert told(await other.result()) == ["paid from d"]

    explore(scenario, seeds=50)


@backends
def test_from_every_prefix_to_the_same_end(backend: str) -> None:
    """Die after each entry, go on, and come to the same conversation."""

    async def finish(run: Run[Any]) -> Any:
        answers = {"From where?": "a", "Where to?": "b", "Which account?": "c"}
        async with anyio.create_task_group() as group:

            async def answer() -> None:
                while True:
                    for each in run.questions:
                        run.answer(each.question_id, answers[each.question])
                    await anyio.sleep(0.01)

            group.start_soon(answer)
            result = await run.result()
            group.cancel_scope.cancel()
        return result

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["move", "look"], ["pay"], "Done.")
        async with System(journal=journal, sources=virtual()) as system:
            expected = await finish(await system.start(agent, "Go", run_id="r"))
        await check_told(journal, expected)
        assert told(expected) == ["moved from a to b", "seen", "paid from c"]
        for number in range(1, len(journal.written)):
            again = journal.after(number)
            async with System(journal=again, sources=virtual()) as system:
                [run] = await system.recover([agent], max_claims=1_000)
                result = await finish(run)
            assert result.messages == expected.messages, number
            await check_told(again, result)

    play(scenario, backend=backend)
