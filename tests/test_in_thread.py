"""A System in a thread of its own, for code that does not await."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import (
    Actor,
    Agent,
    LimitExceeded,
    Limits,
    RestartLimit,
    RunContext,
    RunEnded,
    RunResult,
    StaleApproval,
    System,
    SystemClosed,
    SystemDraining,
    ThreadSystem,
    UnknownOption,
    Usage,
    WouldDeadlock,
    tool,
)
from greenroom.agents import system_thread
from greenroom.agents.in_thread import SystemKeywords
from greenroom.journal import JournalError
from greenroom.providers import InvalidRequest, ModelRequest, Scripted, call

BACKENDS = ("asyncio", "trio")
ANSWER = 10.0  # seconds that nothing here needs


@pytest.fixture(params=BACKENDS)
def system(request: pytest.FixtureRequest) -> Iterator[ThreadSystem]:
    with System.in_thread(backend=request.param) as system:
        yield system


def echo(count: int = 200, **options: Any) -> Agent[Any, str]:
    """Says what it is asked; for "bad" it fails, for "hang" it hangs."""

    async def reply(request: ModelRequest) -> str:
        said = request.messages[-1].text
        if said == "bad":
            raise InvalidRequest("bad")
        if said == "hang":
            await anyio.sleep_forever()
        return said

    return Agent("echo", Scripted(*[reply] * count, usage=Usage(input_tokens=1, total_tokens=1)), **options)


# -- runs


def test_a_run_gives_its_result_and_raises_its_errors(system: ThreadSystem) -> None:
    assert system.run(echo(), "Hi").output == "Hi"
    with pytest.raises(InvalidRequest) as caught:
        system.run(echo(), "bad")
    assert caught.value.result is not None
    with pytest.raises(LimitExceeded):
        system.run(echo(), "Hi", limits=Limits(turns=0))
    assert system.run(echo(), "Hi", limits=Limits(turns=0), on_limit="return").status == "limited"
    with pytest.raises(TypeError, match="limits= takes"):
        system.run(echo(), "Hi", limits=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"start\(\) takes an agent first"):
        system.start("Hi")  # type: ignore[arg-type]


def test_an_error_has_a_short_traceback(system: ThreadSystem) -> None:
    """The caller's line, and a few of ours; the same again for the next who asks."""
    run = system.start(echo(), "bad")
    for _ in range(3):
        with pytest.raises(InvalidRequest) as caught:
            run.result(ANSWER)
        assert len(caught.traceback) <= 7
        assert caught.traceback[0].path == Path(__file__)


def test_map_keeps_the_order_and_collects_or_raises(system: ThreadSystem) -> None:
    found = system.map(echo(), ["a", "bad", "c"], concurrency=2)
    assert [str(each) for each in found] == ["a", "bad", "c"]
    assert isinstance(found[1], InvalidRequest)
    with pytest.raises(InvalidRequest):
        system.map(echo(), ["hang", "bad"], on_error="raise")
    with pytest.raises(TypeError, match="map takes a list of prompts, not one str"):
        system.map(echo(), "a")
    with pytest.raises(ValueError, match="concurrency"):
        system.map(echo(), ["a"], concurrency=0)


def test_prompts_are_read_in_the_thread_of_who_gives_them(system: ThreadSystem) -> None:
    """What makes them may block, and may work there alone."""
    threads: list[int] = []

    def prompts() -> Iterator[str]:
        threads.append(threading.get_ident())
        yield "a"

    assert len(system.map(echo(), prompts())) == 1
    with system.as_completed(echo(), prompts()) as results:
        assert len(list(results)) == 1
    assert set(threads) == {threading.get_ident()}


def test_results_as_they_come(system: ThreadSystem) -> None:
    with system.as_completed(echo(), ["hang", "b", "bad"], concurrency=3) as results:
        first, second = next(results), next(results)
        assert sorted([first[0], second[0]]) == [1, 2]
    with system.as_completed(echo(), ["a", "b"], concurrency=1) as results:
        assert [(index, str(result)) for index, result in results] == [(0, "a"), (1, "b")]
        with pytest.raises(StopIteration):
            next(results)
    with (
        pytest.raises(InvalidRequest),
        system.as_completed(echo(), ["bad", "hang"], on_error="raise") as results,
    ):
        next(results)
    assert system.tree().children == ()
    with pytest.raises(RuntimeError, match="is a block"):
        next(system.as_completed(echo(), ["a"]))
    with pytest.raises(TypeError, match="as_completed takes a list"):
        system.as_completed(echo(), "a")


# -- handles


def test_a_handle_waits_looks_and_stops(system: ThreadSystem) -> None:
    run = system.start(echo(), "hang", run_id="r1", user_id="ann")
    assert (run.id, run.status) == ("r1", "running")
    with pytest.raises(TimeoutError, match=r"run.result\(\) has waited for 0.01 s"):
        run.result(timeout=0.01)
    assert run.status == "running"
    assert run.tree().name == "r1"
    found = system.find("r1")
    assert found is not None
    result = found.stop(reason="enough").result(ANSWER)
    assert (result.status, result.reason, run.status) == ("stopped", "enough", "stopped")
    assert system.find("r1") is None
    assert repr(run) == "<ThreadRun r1: stopped>"


def test_a_handle_sends_pauses_and_resumes(system: ThreadSystem) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def wait() -> str:
        """Wait."""
        reached.set()
        go_on.wait(ANSWER)
        return "waited"

    agent = Agent("helper", Scripted([call("wait")], "done"), tools=[wait])
    run = system.start(agent, "Go")
    reached.wait(ANSWER)
    letter = run.send("And this")
    run.pause()
    run.resume()
    go_on.set()
    result = run.result(ANSWER)
    assert letter.delivered
    assert [message.text for message in result.messages if message.role == "user"] == ["Go", "And this"]
    with pytest.raises(RunEnded):
        run.send("too late")


def test_a_handle_approves_and_denies(system: ThreadSystem) -> None:
    @tool(needs_approval=True)
    async def delete(name: str) -> str:
        """Delete."""
        return f"deleted {name}"

    model = Scripted([call("delete", name="a"), call("delete", name="b")], "done")
    agent = Agent("helper", model, tools=[delete])
    run = system.start(agent, "Go")
    first, second = islice((event.call_id for event in run if event.type == "approval.requested"), 2)
    assert {each.call_id for each in run.pending} == {first, second}
    names = {each.call_id: each.arguments["name"] for each in run.pending}
    run.approve(first)
    run.deny(second, "not that one")
    results = [each.content for message in run.result(ANSWER).messages for each in message.tool_results]
    assert sorted(results) == [f"deleted {names[first]}", "denied: not that one"]
    with pytest.raises(StaleApproval):
        run.approve(first)


# -- streams


def test_a_stream_is_followed_from_its_first_step(system: ThreadSystem) -> None:
    """Whatever the loop does meanwhile: no delta is lost."""
    agent = Agent("helper", Scripted("a streamed answer", "and another one", chunk=4))
    with system.stream(agent, "Go") as run:
        events = list(run)
        assert "".join(event.text for event in events if event.type == "model.text_delta") == "a streamed answer"
        assert events[-1].type == "run.completed"
        assert run.result().output == "a streamed answer"
    with system.stream(agent, "Go") as run:
        assert "".join(run.text()) == "and another one"


def test_only_what_happens_is_followed(system: ThreadSystem) -> None:
    """Without the answers as they grow; and how far a run is, its snapshot says."""
    agent = Agent("helper", Scripted("a streamed answer", chunk=4))
    with system.stream(agent, "Go") as run:
        seen = [event.type for event in run.events(deltas=False)]
        assert (seen[0], seen[-1]) == ("run.started", "run.completed")
        assert "model.text_delta" not in seen
        assert run.snapshot().seq >= len(seen)


def test_an_answer_is_followed_as_it_grows(system: ThreadSystem) -> None:
    agent = Agent("helper", Scripted('{"result": [1, 2, 3]}', chunk=1), output=list[int])
    with system.stream(agent, "Go") as run:
        grown = list(run.objects())
    assert grown[-1] == [1, 2, 3]


def test_a_question_is_answered(system: ThreadSystem) -> None:
    async def ask(context: RunContext) -> str:
        """Ask."""
        return await context.ask_user("Which?")

    run = system.start(Agent("helper", Scripted([call("ask")], "ok"), tools=[ask]), "Go")
    next(event for event in run if event.type == "message.asked")
    (question,) = run.questions
    run.answer(question.question_id, "that one")
    assert run.result(ANSWER).messages[-2].tool_results[0].content == "that one"


def test_leaving_a_stream_early_stops_the_run(system: ThreadSystem) -> None:
    with system.stream(echo(), "hang") as run:
        assert next(iter(run)).type == "run.started"
    assert (run.status, run.result().reason) == ("stopped", "abandoned")
    with pytest.raises(LookupError, match="mine"), system.stream(echo(), "hang", on_exit="wait") as run:
        raise LookupError("mine")
    assert run.result().reason == "abandoned"
    with system.stream(echo(), "Hi", on_exit="wait") as run:
        pass
    assert run.status == "completed"
    with system.stream(echo(), "hang", on_exit="detach") as run:
        pass
    assert run.status == "running"


def test_what_a_stream_cannot_begin_is_raised_at_its_block(system: ThreadSystem) -> None:
    with pytest.raises(ValueError, match="on_exit"), system.stream(echo(), "Hi", on_exit="now"):  # type: ignore[arg-type]
        raise AssertionError
    with system.stream(echo(), "hang", run_id="r1"):
        with pytest.raises(ValueError, match="r1"), system.stream(echo(), "Hi", run_id="r1"):
            raise AssertionError
        assert system.run(echo(), "Hi").output == "Hi"


def test_a_stream_raises_the_error_of_the_run_after_its_last_event(system: ThreadSystem) -> None:
    seen: list[str] = []
    with system.stream(echo(), "bad") as run, pytest.raises(InvalidRequest):
        for event in run:
            seen.append(event.type)
    assert seen[-1] == "run.failed"


def test_several_threads_may_read_and_a_reader_may_be_dropped(system: ThreadSystem) -> None:
    agent = Agent("helper", Scripted("x" * 4000, chunk=1))
    with system.stream(agent, "Go") as run:
        events = run.events()
        next(events)
        for _ in range(50):
            next(run.events())  # dropped at once, while the run publishes
        with ThreadPoolExecutor(3) as pool:
            found = [each for part in pool.map(lambda _: list(events), range(3)) for each in part]
        assert run.result().output == "x" * 4000
    ids = [event.seq for event in found]
    assert len(ids) == len(set(ids))


def test_a_reader_that_is_forgotten_leaves_the_log_in_the_loop(system: ThreadSystem) -> None:
    """Its log has it weakly, and must not lose it in another thread, in the middle of a look at all of them."""
    with system.stream(echo(), "hang") as run:
        events = run.events()
        reader: Any = events._reader  # type: ignore[attr-defined]
        del events
        system.tree()  # behind whatever was asked of the loop before
        assert reader not in [known() for known in reader.log._readers]


# -- conversations, and the rest of a System


def test_a_conversation_goes_on(system: ThreadSystem) -> None:
    chat = system.conversation(echo(), "c1", user_id="ann")
    assert chat.ask("Hello").output == "Hello"
    chat.ask("Again")
    assert [message.text for message in chat.messages] == ["Hello", "Hello", "Again", "Again"]
    assert (chat.id, chat.run) == ("c1", None)
    heard = threading.Event()
    other = system.conversation(echo(), "c2", on_event=lambda event: event.type == "run.completed" and heard.set())
    other.send("Hi")
    assert heard.wait(ANSWER)
    other.load()
    assert [message.text for message in other.messages] == ["Hi", "Hi"]
    with pytest.raises(TypeError, match=r"ask\(\) has no option"):
        chat.ask("Hi", max_turns=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("backend", BACKENDS)
def test_drain_and_recover_with_a_file(backend: Any, tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    @tool(replay="safe")
    def wait() -> str:
        """Wait."""
        reached.set()
        go_on.wait(ANSWER)
        return "waited"

    file = tmp_path / "runs.db"
    with System.in_thread(backend=backend, journal=file) as system:
        run = system.start(Agent("helper", Scripted([call("wait")]), tools=[wait]), "Go", run_id="r1")
        reached.wait(ANSWER)
        with ThreadPoolExecutor(1) as pool:
            drained = pool.submit(system.drain, ANSWER)
            go_on.set()
            assert drained.result().suspended == ("r1",)
        with pytest.raises(SystemDraining):
            system.run(echo(), "Hi")
        assert run.status == "stopped"
    with System.in_thread(backend=backend, journal=file) as system:
        recovery = system.recover([Agent("helper", Scripted("done"), tools=[wait])])
        assert [run.result(ANSWER).output for run in recovery.runs] == ["done"]
        assert (recovery.parked, recovery.left) == ({}, {})
        assert system.chronicle("r1").messages[-1].text == "done"


# -- threads


def test_any_thread_may_call_at_once(system: ThreadSystem) -> None:
    agent = echo()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: system.run(agent, str(number)), range(100)))
    assert [result.output for result in results] == [str(number) for number in range(100)]
    assert len({result.run_id for result in results}) == 100


def test_an_agent_is_shared_by_loops_threads_and_runs() -> None:
    """Two Systems of different kinds and `run_sync`, all at once: nobody's deps, history, usage or ids mix."""
    asked: dict[str, set[str]] = {}

    @tool
    def who(context: RunContext[str]) -> str:
        """Say for whom this is."""
        asked.setdefault(context.deps, set()).add(context.run_id)
        return context.deps

    async def reply(request: ModelRequest) -> Any:
        await anyio.lowlevel.checkpoint()
        last = request.messages[-1]
        return last.tool_results[0].content if last.tool_results else [call("who")]

    model = Scripted(*[reply] * 2000, usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2))
    agent = Agent("shared", model, tools=[who], deps_type=str)
    results: dict[str, RunResult[str]] = {}

    def work(where: str, run: Callable[..., RunResult[str]]) -> None:
        for number in range(12):
            name = f"{where}-{number}"
            first = run(agent, f"1 {name}", deps=name)
            results[name] = run(agent, f"2 {name}", deps=name, history=first)

    def sync(agent: Agent[Any, str], prompt: str, **options: Any) -> RunResult[str]:
        return agent.run_sync(prompt, **options)

    with System.in_thread(backend="asyncio") as one, System.in_thread(backend="trio") as two:
        works = [("a", one.run), ("b", two.run), ("c", sync), ("d", one.run), ("e", two.run)]
        with ThreadPoolExecutor(5) as pool:
            for done in [pool.submit(work, *each) for each in works]:
                done.result()
    assert len(results) == 60
    for name, result in results.items():
        assert result.output == name
        assert [message.text for message in result.messages if message.role == "user"] == [f"1 {name}", f"2 {name}"]
        assert {each.content for message in result.messages for each in message.tool_results} == {name}
        assert result.usage.total_tokens == 4
        assert len(asked[name]) == 2
    assert len({id for ids in asked.values() for id in ids}) == 120


CITY: ContextVar[str] = ContextVar("city", default="nowhere")


def test_a_tool_sees_the_callers_context_variables(system: ThreadSystem) -> None:
    async def where() -> str:
        """Say where."""
        return CITY.get()

    CITY.set("Oslo")
    result = system.run(Agent("helper", Scripted([call("where")], "ok"), tools=[where]), "Go")
    CITY.set("nowhere")
    assert result.messages[-2].tool_results[0].content == "Oslo"


@pytest.mark.anyio
async def test_code_in_another_event_loop_may_call(system: ThreadSystem) -> None:
    """Of either kind: it blocks that loop, and the run lives in the System's."""
    assert system.run(echo(), "Hi").output == "Hi"
    with system.stream(echo(), "Ho") as run:
        assert list(run)[-1].type == "run.completed"


# -- tools that call back


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_blocking_call_in_a_tool_makes_a_subagent(backend: Any) -> None:
    """With a single place for runs too; each way in."""
    parents: list[tuple[str, str | None]] = []
    below = echo()

    def ask() -> str:
        """Ask."""
        one = system.run(below, "run").text
        two = [str(each) for each in system.map(below, ["map"])]
        with system.stream(below, "stream") as run:
            three = "".join(run.text())
            assert run.result().output == "stream"
        with system.as_completed(below, ["completed"]) as results:
            four = [str(result) for _, result in results]
        return " ".join([one, *two, three, *four])

    def told(event: Any) -> None:
        if event.type == "run.started":
            parents.append((event.agent, event.parent_id))

    with System.in_thread(backend=backend, max_running=1, max_tools=1) as system:
        agent = Agent("outer", Scripted([call("ask")], "ok"), tools=[ask])
        result = system.run(agent, "Go", run_id="top", on_event=told)
    assert result.messages[-2].tool_results[0].content == "run map stream completed"
    assert parents == [("outer", None), *[("echo", "top")] * 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tool_that_would_wait_for_another_run_is_refused(backend: Any) -> None:
    """A run that waits for its turn never gets it from one that waits for it."""
    refused: list[str] = []

    def ask() -> str:
        """Ask."""
        run = system.start(echo(), "Hi", run_id="other")
        chat = system.conversation(echo(), "c1")
        for wrong in (
            run.result,
            run.events().__next__,
            run.text().__next__,
            lambda: chat.ask("Hi"),
            chat.load,
            system.drain,
            system.close,
        ):
            try:
                wrong()
            except WouldDeadlock as error:
                refused.append(str(error))
        return "ok"

    with System.in_thread(backend=backend, max_running=1) as system:
        agent = Agent("outer", Scripted([call("ask")], "ok"), tools=[ask])
        assert system.run(agent, "Go", run_id="top").text == "ok"
    assert len(refused) == 7
    assert refused[0] == (
        "run.result() in a tool of run 'top' may wait for what waits for that run to end: "
        "system.run(…) makes a subagent of it, for which a tool may wait"
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_whether_a_tool_may_wait_does_not_depend_on_luck(backend: Any) -> None:
    """Also a run that has ended is refused to it, unless it says that it does not wait."""
    said: list[str] = []

    def ask() -> str:
        """Ask."""
        run = system.start(echo(), "Hi")
        while run.status == "running" or run._run._cell.exit is None:
            time.sleep(0.001)
        try:
            said.append(str(run.result()))
        except WouldDeadlock as error:
            said.append(type(error).__name__)
        said.append(str(run.result(timeout=0)))
        at_work = system.start(echo(), "hang")
        try:
            at_work.result(timeout=0)
        except TimeoutError as error:
            said.append(str(error))
        at_work.stop()
        return "ok"

    with System.in_thread(backend=backend) as system:
        assert system.run(Agent("outer", Scripted([call("ask")], "ok"), tools=[ask]), "Go").text == "ok"
    assert said == ["WouldDeadlock", "Hi", "run.result() has waited for 0 s"]


def test_what_is_given_wrongly_is_answered_with_the_remedy(system: ThreadSystem) -> None:
    given: Any = "helper"
    for name, function in {
        "system.run(agent, prompt)": system.run,
        "system.start(agent, prompt)": system.start,
        "system.stream(agent, prompt)": system.stream,
        "system.map(agent, prompts)": system.map,
        "system.as_completed(agent, prompts)": system.as_completed,
        "system.conversation(agent, id)": system.conversation,
    }.items():
        with pytest.raises(TypeError) as caught:
            function(given, "x")
        method = function.__name__
        assert str(caught.value) == f"{method}() takes an agent first: {name}, not 'helper'"
    here: dict[str, Any] = {"system": system}
    for function in (system.run, system.start, system.stream, system.map, system.as_completed):
        with pytest.raises(UnknownOption) as refused:
            function(echo(), "x", **here)
        method = function.__name__
        remedy = f"write system.{method}(…), whose runs live in that System"
        assert str(refused.value) == f"ThreadSystem.{method}() has no option 'system': {remedy}"
    with pytest.raises(TypeError, match=r"with one in a thread, write system\.run\(agent, …\)"):
        echo().run("x", **here)


def test_how_long_to_wait_and_what_to_follow_are_checked(system: ThreadSystem) -> None:
    run = system.start(echo(), "hang")
    wait: Any = run.result
    follow: Any = run.events
    for timeout, kind in (("x", TypeError), (True, TypeError), (float("nan"), ValueError), (-1, ValueError)):
        with pytest.raises(kind, match=r"run\.result\(timeout=\) takes seconds"):
            wait(timeout=timeout)
    for since, error in (("x", TypeError), (None, TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)):
        with pytest.raises(error, match=r"events\(since=\) takes the sequence number of an event"):
            follow(since)
    assert run.stop().result().status == "stopped"


def test_a_blocking_call_in_the_loop_is_refused(system: ThreadSystem) -> None:
    """In a tool that is a coroutine function, and in an observer."""
    refused: list[str] = []

    def wrong(*_: object) -> None:
        for function in (lambda: system.run(echo(), "Hi"), system.tree, system.close, system.drain):
            try:
                function()
            except WouldDeadlock as error:
                refused.append(str(error))

    async def ask() -> str:
        """Ask."""
        wrong()
        return "ok"

    agent = Agent("outer", Scripted([call("ask")], "ok"), tools=[ask])
    system.run(agent, "Go", on_event=lambda event: event.type == "run.started" and wrong())
    assert len(refused) == 8
    assert refused[0].startswith("system.run() blocks, and this is the event loop of System 'system'")


# -- the end


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_end_of_the_block_ends_runs_in_order_and_answers_who_waits(backend: Any) -> None:
    """As that of a System: with a result that says so."""
    cleaned = threading.Event()

    async def reply(_request: ModelRequest) -> str:
        waiting.set()
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.set()
        return ""

    waiting = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        with System.in_thread(backend=backend) as system:
            blocked = pool.submit(system.run, Agent("helper", Scripted(reply)), "Go")
            waiting.wait(ANSWER)
            run = system.start(echo(), "hang")
            reading = pool.submit(lambda: [event.type for event in run])
            assert run.status == "running"
        assert blocked.result(ANSWER).reason == "system"
        assert reading.result(ANSWER)[-1] == "run.stopped"
    assert cleaned.is_set()
    assert run.result().reason == "system"
    assert list(run.events())[-1].type == "run.stopped"
    assert list(run.text()) == []
    assert not system.is_open


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_of_the_block_leaves_bare_when_all_has_ended(backend: Any) -> None:
    with pytest.raises(LookupError, match="mine"), System.in_thread(backend=backend) as system:
        run = system.start(echo(), "hang")
        raise LookupError("mine")
    assert run.result().reason == "system"


class Tidy(Actor):
    """Says when it ends."""

    def __init__(self, ends: list[str]) -> None:
        self.ends = ends

    async def started(self, context: Any) -> None:
        pass

    async def stopping(self, context: Any, exit: Any) -> None:
        self.ends.append("actor")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("error", "order"), [(LookupError, ["run", "actor"]), (KeyboardInterrupt, ["actor", "run"])])
def test_an_interrupt_in_the_block_ends_all_at_once(backend: Any, error: type[BaseException], order: list[str]) -> None:
    """As in that of a System: after another error, actors end when the runs have ended."""
    ends: list[str] = []
    begun = threading.Event()

    async def reply(_request: ModelRequest) -> str:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(30):
                    await anyio.lowlevel.checkpoint()
            ends.append("run")
        return ""

    with pytest.raises(error), System.in_thread(backend=backend) as system:
        run = system.start(Agent("helper", Scripted(reply)), "Go")
        system._thread.call("test", lambda: system._system.spawn(lambda: Tidy(ends)))
        begun.wait(ANSWER)
        raise error
    assert run.status == "stopped"
    assert ends == order


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_outside_the_block_are_refused(backend: Any) -> None:
    system = System.in_thread(backend=backend, name="blocking")
    with pytest.raises(SystemClosed, match=r"'blocking' is not open: use it as `with System\.in_thread"):
        system.run(echo(), "Hi")
    system.close()
    assert system.open() is system
    with pytest.raises(SystemClosed, match="opened once"):
        system.open()
    system.close()
    system.close()
    for late in (lambda: system.run(echo(), "Hi"), system.tree, lambda: system.map(echo(), ["a"]), system.drain):
        with pytest.raises(SystemClosed, match="'blocking' has ended"):
            late()
    assert repr(system) == "<ThreadSystem 'blocking': not open>"


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_opening_raises_is_raised_here(backend: Any, tmp_path: Path) -> None:
    file = tmp_path / "no.db"
    file.write_text("this is no journal, and no database at all" * 100)
    with pytest.raises(JournalError):
        System.in_thread(backend=backend, journal=file).open()
    with pytest.raises(TypeError, match="max_running takes a whole number"):
        System.in_thread(backend=backend, max_running="3")  # type: ignore[arg-type]


class Faulty(Actor):
    """Crashes whenever it is started."""

    async def receive(self, message: Any, context: Any) -> None:
        raise LookupError("faulty")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_system_that_gives_up_says_so_to_who_calls_and_to_the_block(backend: Any) -> None:
    with pytest.raises(RestartLimit), System.in_thread(backend=backend, intensity=0) as system:
        thread = system._thread

        async def give_up() -> None:
            ref = await system._system.spawn(Faulty)
            await ref.tell(1)
            await anyio.sleep_forever()

        with pytest.raises(SystemClosed) as caught:
            thread.call("test", give_up)
        assert isinstance(caught.value.__cause__, RestartLimit)
        with pytest.raises(SystemClosed) as caught:
            system.run(echo(), "Hi")
        assert isinstance(caught.value.__cause__, RestartLimit)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exit_in_a_run_is_raised_at_who_asked_for_it(backend: Any) -> None:
    """And ends the loop, so that everybody else is told."""

    async def leave(_request: ModelRequest) -> str:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught, System.in_thread(backend=backend) as system:
        begun = threading.Event()
        other = system.start(echo(), "hang", on_event=lambda event: event.type == "model.started" and begun.set())
        begun.wait(ANSWER)
        system.run(Agent("helper", Scripted(leave)), "Go")
    assert caught.value.code == 3
    assert other.status != "running"
    for _ in range(20):  # calls may come at any moment of the collapse
        with pytest.raises(SystemExit), System.in_thread(backend=backend) as system:
            run = system.start(Agent("helper", Scripted(leave)), "Go")
            with suppress(SystemClosed):
                run.result(ANSWER)
        assert run.status != "running"
    gc.collect()


def test_a_fork_is_told(system: ThreadSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no such thread, and would wait for ever."""
    pid = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(system_thread.os, "getpid", lambda: pid + 1)
        with pytest.raises(RuntimeError, match=f"lives in process {pid}, of which this one is a fork"):
            system.run(echo(), "Hi")
        assert not system.is_open
        system.close()
    assert system.run(echo(), "Hi").output == "Hi"


# -- interrupts


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Sends this process Ctrl-C."""
    if sys.platform == "win32":
        pytest.skip("POSIX signals")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_run_that_is_waited_for(system: ThreadSystem, interrupt: Callable[[], None]) -> None:
    ends: list[str] = []

    async def reply(_request: ModelRequest) -> str:
        interrupt()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cleaned up")
        return ""

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        system.run(Agent("helper", Scripted(reply)), "Go", on_event=lambda event: told.append(event.type))
    assert ends == ["cleaned up"]
    assert told[-1] == "run.stopped"
    assert system.tree().children == ()
    assert system.run(echo(), "Hi").output == "Hi"


def test_an_interrupt_of_a_wait_leaves_the_run_alone(system: ThreadSystem, interrupt: Callable[[], None]) -> None:
    go_on = threading.Event()

    def wait() -> str:
        """Wait."""
        go_on.wait(ANSWER)
        return "waited"

    def interrupt_who_waits() -> None:
        while not system._thread._waiting:
            time.sleep(0.001)
        interrupt()

    run = system.start(Agent("helper", Scripted([call("wait")], "done"), tools=[wait]), "Go")
    other = threading.Thread(target=interrupt_who_waits)
    with pytest.raises(KeyboardInterrupt):
        other.start()
        run.result()
    other.join()
    assert run.status == "running"
    events = run.events()
    go_on.set()
    assert list(events)[-1].type == "run.completed"
    assert run.result().output == "done"


PROGRAM = """
    import atexit, signal, sys
    import anyio
    from greenroom import Agent, System
    from greenroom.providers import Scripted

    signal.signal(signal.SIGINT, signal.default_int_handler)
    backend, way = sys.argv[1:]

    async def reply(request):
        try:
            print("ready", flush=True)
            await anyio.sleep_forever()
        finally:
            print("cleaned up", flush=True)

    agent = Agent("helper", Scripted(reply))
    if way == "atexit":
        system = System.in_thread(backend=backend).open()
        atexit.register(system.close)
        with system.stream(agent, "Go", on_exit="detach") as run:
            for event in run:
                if event.type == "model.started":
                    break
    else:
        try:
            with System.in_thread(backend=backend) as system:
                system.run(agent, "Go")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("way", ["block", "atexit"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_program_ends_in_order(backend: str, way: str) -> None:
    """By Ctrl-C in a block, and at its end without one."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-X", "dev", "-W", "error", "-c", textwrap.dedent(PROGRAM), backend, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if way == "block":
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    expected = ["cleaned up", "interrupted"] if way == "block" else ["ready", "cleaned up"]
    assert out.split() == " ".join(expected).split()


# -- arguments


def test_it_takes_the_options_of_a_system() -> None:
    taken = set(inspect.signature(System.__init__).parameters) - {"self", "signals"}
    assert set(SystemKeywords.__annotations__) == taken


def test_wrong_options_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="backend='curio'"):
        System.in_thread(backend="curio")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="in_thread takes no signals="):
        System.in_thread(signals=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'max_runing': did you mean 'max_running'"):
        System.in_thread(max_runing=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"with `with System.in_thread\(\) as system:`"), System():
        pass


@pytest.mark.anyio
async def test_a_system_in_a_thread_is_no_asynchronous_block() -> None:
    wrong: Any = System.in_thread()
    with pytest.raises(
        TypeError, match=r"opened with `with System\.in_thread\(\) as system:`; where there is an event"
    ):
        async with wrong:
            pass
