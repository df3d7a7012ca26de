"""Toolsets: opened at the first use, in one task, supervised, shared as they say, and closed whatever happens."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio import get_current_task
from anyio.lowlevel import checkpoint

from greenroom import Agent, RunContext, System, Tool, ToolFailed, Toolkit, Toolset, ToolsetFailed, events
from greenroom.agents.keepers import IDLE, PATIENCE, TRIES
from greenroom.agents.machine import StopMode
from greenroom.agents.toolset import Scope
from greenroom.providers import ModelReply, ModelRequest, Provider, Scripted, assistant, call
from greenroom.testing import interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "greenroom")


class Counter(Toolset):
    """One tool, `count`, that says how often it has been called since it was opened; `broken` ends what is open."""

    def __init__(
        self,
        name: str = "counter",
        scope: Scope = "run",
        *,
        fails: Callable[[int], BaseException | None] | None = None,
        **rules: Any,
    ) -> None:
        self.name = name
        self.scope: Scope = scope  # type: ignore[misc]
        self._fails = fails
        self._rules = rules
        self.opened = 0
        self.open_now = 0
        self.closed_in: list[bool] = []
        self.broken: anyio.Event | None = None
        self.kit: Toolkit | None = None
        self.close_takes = 0.0
        self.open_takes = 0.0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Toolkit]:
        self.opened += 1
        number, task, calls = self.opened, get_current_task().id, 0
        error = self._fails(number) if self._fails is not None else None
        await anyio.sleep(self.open_takes)
        if error is not None:
            raise error
        broken = self.broken = anyio.Event()

        async def count() -> str:
            nonlocal calls
            await checkpoint()
            if broken.is_set():
                raise ToolFailed(f"number {number} is closed")
            calls += 1
            return f"{number}:{calls}"

        async def watch() -> None:
            await broken.wait()
            raise ConnectionError(f"number {number} broke")

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                self.open_now += 1
                self.kit = Toolkit([Tool(count, **self._rules)])
                try:
                    yield self.kit
                finally:
                    self.open_now -= 1
                    self.closed_in.append(get_current_task().id == task)
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(self.close_takes)
                group.cancel_scope.cancel()
        finally:
            broken.set()


class Asks(Provider):
    """Calls `count` in every turn but the last, and answers with the results."""

    name, model = "test", "asks"

    def __init__(self, turns: int = 2, *, between: Callable[[int], Any] | None = None) -> None:
        self._turns = turns
        self._between = between
        self.offered: list[list[str]] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        results = [result.content for message in request.messages for result in message.tool_results]
        self.offered.append([spec.name for spec in request.tools])
        if self._between is not None and (wait := self._between(len(results))) is not None:
            await wait
        if len(results) < self._turns:
            return ModelReply(assistant(tool_calls=[call("count")]))
        return ModelReply(assistant(" ".join(map(str, results))))


# -- open and close


@backends
@pytest.mark.parametrize("inside", [True, False], ids=["system", "alone"])
def test_each_run_has_its_own_and_closes_it(backend: str, inside: bool) -> None:
    counter = Counter()
    agent = Agent("a", Asks(), tools=[counter])

    async def scenario() -> list[str]:
        outputs: list[str] = []

        async def one() -> None:
            outputs.append((await agent.run("Go")).output)

        async def three() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(one)

        if inside:
            async with System() as system:
                await three()
                assert counter.open_now == 0
                assert system.tree().children == ()
        else:
            await three()
        return outputs

    assert sorted(play(scenario, backend=backend)) == ["1:1 1:2", "2:1 2:2", "3:1 3:2"]
    assert (counter.opened, counter.open_now, counter.closed_in) == (3, 0, [True] * 3)


@backends
def test_one_of_the_system_is_shared_until_its_end(backend: str) -> None:
    counter = Counter(scope="system")

    async def scenario() -> None:
        async with System() as system:
            agents = [Agent(f"a{number}", Asks(1), tools=[counter]) for number in range(50)]
            runs = [await system.start(agent, "Go") for agent in agents]
            said = sorted([(await run.result()).output for run in runs], key=lambda text: int(text[2:]))
            assert said == [f"1:{number}" for number in range(1, 51)]
            [node] = system.tree().children
            assert (node.name, node.kind, node.state) == ("counter", "toolset", "running")
            assert counter.open_now == 1
        assert (counter.opened, counter.closed_in) == (1, [True])

    play(scenario, backend=backend)


@backends
def test_outside_a_system_a_run_has_one_that_would_be_shared(backend: str) -> None:
    counter = Counter(scope="system")

    async def scenario() -> None:
        assert (await Agent("a", Asks(), tools=[counter]).run("Go")).output == "1:1 1:2"
        assert counter.open_now == 0

    play(scenario, backend=backend)


@backends
def test_what_nobody_uses_is_closed_after_a_while_and_opened_again(backend: str) -> None:
    counter = Counter(scope="system")

    async def scenario() -> None:
        async with System() as system:
            slow = Agent("slow", Asks(between=lambda results: anyio.sleep(2 * IDLE)), tools=[counter])
            await slow.run("Go")
            assert counter.opened == 1  # a run that takes long uses it all the while
            await anyio.sleep(IDLE - 1)
            await Agent("a", Asks(), tools=[counter]).run("Go")
            await anyio.sleep(IDLE - 1)
            assert (counter.opened, counter.open_now) == (1, 1)
            await anyio.sleep(2)
            assert counter.open_now == 0
            assert system.tree().children == ()
            assert (await Agent("a", Asks(), tools=[counter]).run("Go")).output == "2:1 2:2"

    play(scenario, backend=backend)


@backends
def test_tools_that_change_are_offered_at_the_next_turn(backend: str) -> None:
    counter = Counter()

    def more(results: int) -> None:
        async def late() -> None: ...

        assert counter.kit is not None
        if results == 0:
            counter.kit.tools = (*counter.kit.tools, Tool(late))

    provider = Asks(between=more)
    play(lambda: Agent("a", provider, tools=[counter]).run("Go"), backend=backend)
    assert provider.offered == [["count"], ["count", "late"], ["count", "late"]]


@backends
def test_an_agent_that_takes_over_brings_its_own(backend: str) -> None:
    first, second = Counter("first"), Counter("second")
    expert = Agent("expert", Asks(2), tools=[second])
    desk = Agent("desk", Scripted(call("transfer_to_expert")), tools=[first, expert.as_handoff()])

    async def scenario() -> Any:
        return await desk.run("Go")

    result = play(scenario, backend=backend)
    assert result.output.endswith("1:1")
    assert (first.opened, second.opened, first.open_now, second.open_now) == (1, 1, 0, 0)


@backends
def test_a_subagent_has_its_own(backend: str) -> None:
    counter = Counter()
    inner = Agent("inner", Asks(1), tools=[counter])
    outer = Agent("outer", Scripted(call("inner", prompt="Go"), "Done."), tools=[counter, inner])

    async def scenario() -> None:
        async with System():
            assert (await outer.run("Go")).output == "Done."
        assert (counter.opened, counter.open_now) == (2, 0)

    play(scenario, backend=backend)


def test_arguments_of_tools_with_context() -> None:
    class Notes(Toolset):
        name = "notes"

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[Toolkit]:
            async def who(context: RunContext[str]) -> str:
                return context.deps

            yield Toolkit([Tool(who)])

    agent = Agent("a", Scripted(call("who"), "Done."), tools=[Notes()], deps_type=str)
    result = play(lambda: agent.run("Go", deps="Ada"))
    [done] = [each for message in result.messages for each in message.tool_results]
    assert done.content == "Ada"


# -- what goes wrong


@backends
@pytest.mark.parametrize("scope", ["run", "system"])
def test_one_that_does_not_open_fails_the_run_and_says_why(backend: str, scope: Scope) -> None:
    counter = Counter(scope=scope, fails=lambda number: OSError("no such program") if number == 1 else None)

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Asks(), tools=[counter])
            run = await system.start(agent, "Go")
            with pytest.raises(ToolsetFailed, match="toolset 'counter' could not be opened: OSError: no such program"):
                await run.result()
            assert run.status == "failed"
            assert counter.opened == 1
            # The next one tries anew.
            assert (await agent.run("Go")).output == "2:1 2:2"

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("scope", ["run", "system"])
def test_one_that_breaks_is_opened_again_and_the_next_call_works(
    backend: str, scope: Scope, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter(scope=scope)

    def breaks(results: int) -> Any:
        if results == 1:
            assert counter.broken is not None
            counter.broken.set()
        return anyio.sleep(0.01)

    async def scenario() -> None:
        async with System():
            agent = Agent("a", Asks(3, between=breaks), tools=[counter])
            result = await agent.run("Go")
            # The call of the turn in which it broke is told; the turn after it has the new one.
            assert result.output == "1:1 number 1 is closed 2:1"

    play(scenario, backend=backend)
    assert counter.open_now == 0
    assert "is opened again in 0.1 s: ConnectionError: number 1 broke" in caplog.text


@backends
def test_one_that_does_not_come_back_is_given_up_and_runs_go_on_with_what_they_have(backend: str) -> None:
    counter = Counter(scope="system", fails=lambda number: OSError("gone") if number > 1 else None)
    at: list[float] = []

    async def scenario() -> None:
        async with System() as system:

            def breaks(results: int) -> Any:
                at.append(anyio.current_time())
                if results == 1:
                    assert counter.broken is not None
                    counter.broken.set()
                return anyio.sleep(0.01)

            agent = Agent("a", Asks(2, between=breaks), tools=[counter])
            result = await agent.run("Go")
            assert result.output == "1:1 number 1 is closed"
            assert at[-1] - at[-2] == pytest.approx(PATIENCE, abs=0.1)
            await anyio.sleep(200)
            assert counter.opened == 1 + TRIES
            assert system.tree().children == ()
            with pytest.raises(ToolsetFailed, match="OSError: gone"):
                await agent.run("Go")

    play(scenario, backend=backend)


@backends
def test_a_run_tells_its_observers_what_was_opened_lost_and_opened_again(backend: str) -> None:
    async def scenario() -> None:
        counter = Counter(scope="system")
        heard: list[str] = []

        def note(event: events.Event) -> None:
            if isinstance(event, events.ToolsetOpened):
                heard.append(f"{event.toolset} opened, again {event.again}")
            elif isinstance(event, events.ToolsetLost):
                heard.append(f"{event.toolset} lost: {event.error}")

        async def breaks(results: int) -> None:
            if results == 1:
                assert counter.broken is not None
                counter.broken.set()
                await anyio.sleep(0.01)

        async with System(on_event=note) as system:
            await Agent("a", Asks(3, between=breaks), tools=[counter]).run("Go", system=system)
            assert heard == [
                "counter opened, again 0",
                "counter lost: ConnectionError: number 1 broke",
                "counter opened, again 1",
            ]
            del heard[:]
            await Agent("b", Asks(1), tools=[counter]).run("Go", system=system)
            assert heard == ["counter opened, again 1"]

    play(scenario, backend=backend)


@backends
def test_a_name_that_comes_to_be_taken_ends_no_run(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        counter = Counter()

        async def ours() -> str:
            return "ours"

        async def changes(results: int) -> None:
            if results == 1:
                assert counter.kit is not None
                counter.kit.tools = (Tool(ours), *counter.kit.tools)

        agent = Agent("a", Asks(2, between=changes), tools=[ours, counter])
        assert (await agent.run("Go")).output == "1:1 1:2"

    play(scenario, backend=backend)
    [warning] = [record.getMessage() for record in caplog.records]
    assert "keeps the tools that it had: toolset 'counter' has a tool called 'ours'" in warning


@backends
def test_two_tools_of_one_name_are_refused_with_the_remedy(backend: str) -> None:
    async def count() -> int:
        return 1

    one, other = Counter("one"), Counter("other")
    for tools, words in (
        ([one, other], "toolset 'other' has a tool called 'count', as toolset 'one' has: give the toolset a prefix"),
        ([count, one], "toolset 'one' has a tool called 'count', as the agent has: give the toolset a prefix"),
    ):
        agent = Agent("a", Asks(), tools=tools)
        with pytest.raises(ToolsetFailed, match=words):
            play(lambda agent=agent: agent.run("Go"), backend=backend)
    assert (one.open_now, other.open_now) == (0, 0)


@backends
@pytest.mark.parametrize(
    ("kit", "words"),
    [
        (None, r"could not be opened: TypeError: open\(\) must yield a Toolkit, not None"),
        ("tools", r"is no use: the tools of its Toolkit must be a tuple of Tool, not \['no tool'\]"),
    ],
)
def test_what_is_no_toolkit_is_refused(backend: str, kit: Any, words: str) -> None:
    class Wrong(Toolset):
        name = "wrong"

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[Any]:
            made = Toolkit()
            made.tools = ["no tool"]  # type: ignore[assignment]
            yield made if kit is not None else kit

    with pytest.raises(ToolsetFailed, match=words):
        play(lambda: Agent("a", Asks(), tools=[Wrong()]).run("Go"), backend=backend)


def test_names_of_toolsets_are_text_and_differ() -> None:
    with pytest.raises(ValueError, match="two toolsets are called 'counter': give one of them another name="):
        Agent("a", Asks(), tools=[Counter(), Counter()])
    with pytest.raises(TypeError, match="a toolset needs a name, not None"):
        Agent("a", Asks(), tools=[Counter(None)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tools= takes a list: write tools=\[counter\]"):
        Agent("a", Asks(), tools=Counter())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Counter is a class"):
        Agent("a", Asks(), tools=[Counter])  # type: ignore[list-item]


# -- stops


@backends
@pytest.mark.parametrize("takes", [0.0, 3.0, 20.0], ids=["at once", "in time", "too long"])
def test_a_stop_closes_it_and_waits_no_longer_than_the_grace(backend: str, takes: float) -> None:
    counter = Counter()
    counter.close_takes = takes

    async def scenario() -> None:
        async with System(grace=5) as system:
            agent = Agent("a", Asks(between=lambda results: anyio.sleep(1000)), tools=[counter])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            assert counter.open_now == 1
            began = anyio.current_time()
            result = await run.stop()
            assert (result.status, result.reason) == ("stopped", "user")
            assert anyio.current_time() - began == pytest.approx(min(takes, 5.0), abs=0.3)
            assert counter.open_now == 0

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("scope", ["run", "system"])
def test_what_is_still_being_opened_holds_up_no_stop(backend: str, scope: Scope) -> None:
    counter = Counter(scope=scope)
    counter.open_takes = 1000.0

    async def scenario() -> None:
        async with System(grace=5) as system:
            run = await system.start(Agent("a", Asks(), tools=[counter]), "Go")
            await anyio.sleep(1)
            began = anyio.current_time()
            assert (await run.stop()).status == "stopped"
        assert anyio.current_time() - began < 0.1

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("scope", ["run", "system"])
def test_however_a_run_ends_nothing_stays_open(backend: str, scope: Scope) -> None:
    """Cancelled at every step: by its caller's scope, in a System and outside one."""

    for inside in (True, False):

        async def scenario(interruption: Any, inside: bool = inside) -> None:
            counter = Counter(scope=scope)
            agent = Agent("a", Asks(), tools=[counter])

            async def body() -> None:
                with anyio.CancelScope() as scope:
                    interruption.arm(scope.cancel)
                    await agent.run("Go")

            if inside:
                async with System():
                    await body()
                    if counter.scope == "run":
                        assert counter.open_now == 0
            else:
                await body()
            assert counter.open_now == 0
            assert all(counter.closed_in)

        assert interrupt_everywhere(scenario, backend=backend, limit=200) > 10


@backends
def test_a_stop_at_every_step_leaves_nothing_open(backend: str) -> None:
    async def scenario(interruption: Any) -> None:
        counter = Counter()
        async with System() as system:
            run = await system.start(Agent("a", Asks(), tools=[counter]), "Go")
            interruption.arm(run.stop)
            result = await run.result()
            assert result.status in ("completed", "stopped")
            assert counter.open_now == 0
        assert all(counter.closed_in)

    assert interrupt_everywhere(scenario, backend=backend, limit=200) > 10


# -- from the journal


@backends
@pytest.mark.parametrize("entries", range(1, 9))
def test_a_run_that_died_goes_on_with_tools_that_are_opened_anew(backend: str, entries: int) -> None:
    async def scenario() -> None:
        journal = RecordingJournal()
        counter = Counter()
        agent = Agent("a", Asks(), tools=[counter])
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(agent, "Go", run_id="r")).result()
        if entries >= len(journal.written):
            return
        async with System(journal=journal.after(entries), sources=virtual(), agents=[agent]) as system:
            [run] = (await system.recover()).runs
            result = await run.result()
            assert result.status == "completed"
            said = [each.content for message in result.messages for each in message.tool_results]
            assert len(said) == 2
            assert not any("there is no tool" in str(text) for text in said)
        assert counter.open_now == 0

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("entries", range(1, 10))
def test_a_run_that_was_handed_over_goes_on_with_the_tools_of_the_one_who_has_it(backend: str, entries: int) -> None:
    async def scenario() -> None:
        journal = RecordingJournal()
        counter = Counter(replay="safe")
        second = Agent("second", Lines("", ["count", "count"], "Done."), tools=[counter], parallel_tools=1)
        first = Agent("first", Lines(["over"]), tools=[second.as_handoff(name="over")])
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(first, "Go", run_id="r")).result()
        if entries >= len(journal.written):
            return
        async with System(journal=journal.after(entries), sources=virtual(), agents=[first]) as system:
            [run] = (await system.recover()).runs
            result = await run.result()
            assert (result.status, result.agent) == ("completed", "second")
            said = [each.content for message in result.messages for each in message.tool_results][1:]
            assert [text.partition(":")[2] for text in said] in (["1", "2"], ["1", "1"])

    play(scenario, backend=backend)


@backends
def test_an_approved_call_runs_although_nothing_was_open_yet(backend: str) -> None:
    async def scenario() -> None:
        counter = Counter(needs_approval=True)
        waiting = await Agent("a", Asks(1), tools=[counter]).run("Go")
        assert [each.tool for each in waiting.pending] == ["count"]
        answers = {each.call_id: True for each in waiting.pending}
        result = await Agent("a", Asks(1), tools=[counter]).run(history=waiting.messages, approvals=answers)
        assert result.output == "2:1"
        assert counter.open_now == 0

    play(scenario, backend=backend)


@backends
def test_approved_calls_of_tools_that_do_not_open_fail_the_run_and_still_wait(backend: str) -> None:
    async def scenario() -> None:
        counter = Counter(needs_approval=True, fails=lambda number: OSError("gone") if number == 2 else None)
        agent = Agent("a", Asks(1), tools=[counter])
        waiting = await agent.run("Go")
        answers = {each.call_id: True for each in waiting.pending}
        with pytest.raises(ToolsetFailed, match="OSError: gone"):
            await agent.run(history=waiting.messages, approvals=answers)
        assert (await agent.run(history=waiting.messages, approvals=answers)).output == "3:1"

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("mode", ["now", "after_turn"])
def test_a_stop_while_it_is_opened_to_go_on_tells_each_call_the_truth(backend: str, mode: StopMode) -> None:
    async def scenario() -> None:
        journal = RecordingJournal()
        counter = Counter(replay="safe")
        agent = Agent("a", Lines(["count", "count"], "Done."), tools=[counter], parallel_tools=1)
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(agent, "Go", run_id="r")).result()
        counter.open_takes = 3.0
        async with System(journal=journal.after(2), sources=virtual(), agents=[agent]) as system:
            [run] = (await system.recover()).runs
            await anyio.sleep(1)
            began = anyio.current_time()
            result = await run.stop(mode)
            said = [each.content for message in result.messages for each in message.tool_results]
            assert result.status == "stopped"
            if mode == "now":
                begun, fresh = said
                assert begun.startswith("outcome unknown")
                assert fresh == "cancelled: the run was stopped before this call finished"
                assert anyio.current_time() - began < 0.1
            else:
                assert said == ["2:1", "2:2"]

    play(scenario, backend=backend)


@backends
def test_a_run_whose_tools_cannot_be_opened_when_it_goes_on_says_so_and_can_be_recovered_again(backend: str) -> None:
    async def scenario() -> None:
        journal = RecordingJournal()
        counter = Counter(fails=lambda number: OSError("gone") if number == 2 else None)
        agent = Agent("a", Asks(), tools=[counter])
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(agent, "Go", run_id="r")).result()
        journal = journal.after(4)
        async with System(journal=journal, sources=virtual(), agents=[agent]) as system:
            [run] = (await system.recover()).runs
            with pytest.raises(ToolsetFailed, match="OSError: gone"):
                await run.result()
            assert (await system.chronicle("r")).standing == "suspended"
        async with System(journal=journal, sources=virtual(), agents=[agent]) as system:
            [run] = (await system.recover()).runs
            assert (await run.result()).status == "completed"
        assert counter.opened == 3

    play(scenario, backend=backend)
