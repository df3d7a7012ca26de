"""Validators: what they say about an answer, while a run is stopped, sent to, cancelled, and after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

from greenroom import (
    Agent,
    MemoryJournal,
    ModelRetry,
    OutputInvalid,
    RunContext,
    RunResult,
    System,
    ValidatorFailed,
    tool,
)
from greenroom.actors import StrayCancellation
from greenroom.agents.validators import REFUSED
from greenroom.journal import Checked, Checking, Happened, Replied, Said, Sent, decode
from greenroom.providers import Scripted, ToolCall, call
from greenroom.testing import run as play

from .crashes.memory import PRICES, Lines, RecordingJournal, check_told, virtual
from .test_interruptions import after, check_history, steps_of

pytestmark = pytest.mark.anyio
backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@dataclass
class Number:
    number: int


def even(output: Number) -> None:
    if output.number % 2:
        raise ModelRetry("use an even number")


def number(value: int) -> str:
    return f'{{"number": {value}}}'


def called(value: int) -> list[ToolCall]:
    return [call("final_answer", number=value)]


def helper(*lines: Any, validators: Any = even, **options: Any) -> tuple[Agent[Any, Any], Scripted]:
    model = Scripted(*lines)
    return Agent("helper", model, output=Number, validators=validators, **options), model


def last_told(model: Scripted) -> str:
    last = model.requests[-1].messages[-1]
    return last.tool_results[0].content if last.role == "tool" else last.text


# -- what they say


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_a_hint_goes_back_alone(mode: Any) -> None:
    """Within output_retries, in either way of asking."""
    line = number if mode == "native" else called
    agent, model = helper(line(1), line(2), output_mode=mode)
    result = await agent.run("Go")
    assert (result.output, last_told(model)) == (Number(2), "use an even number")
    check_history(result.messages)


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_hints_have_an_end(mode: Any) -> None:
    """The run fails with the last one; what was read wrong counts too."""
    line = number if mode == "native" else called
    agent, _ = helper("?", line(1), line(3), output_mode=mode, output_retries=2)
    with pytest.raises(OutputInvalid, match="refused by a validator: use an even number") as caught:
        await agent.run("Go")
    assert isinstance(caught.value.__cause__, Exception)
    assert isinstance(caught.value.__cause__.__cause__, ModelRetry)
    assert caught.value.result is not None
    check_history(caught.value.result.messages)


async def test_they_are_asked_in_order_and_hand_on_what_they_make() -> None:
    """Sync and async, with the context where they take it; None leaves the output as it is."""
    heard: list[Any] = []

    def first(output: Number) -> Number:
        heard.append(output)
        return replace(output, number=output.number + 1)

    async def second(output: Number, context: RunContext[str]) -> None:
        await checkpoint()
        heard.append((output, context.deps, context.run_id, context.call_id))

    class Third:
        def __call__(self, output: Number, context: RunContext[str]) -> Number:
            heard.append(output)
            return Number(100)

    agent, _ = helper(number(1), validators=[first, second, Third()])
    result = await agent.run("Go", deps="mine", run_id="r")
    assert heard == [Number(1), (Number(2), "mine", "r", None), Number(2)]
    assert (result.output, result.text) == (Number(100), number(1))


async def test_text_is_checked_too() -> None:
    def short(text: str) -> str | None:
        if len(text) > 5:
            raise ModelRetry
        return text.upper()

    model = Scripted("far too long", "short")
    result = await Agent("helper", model, validators=short).run("Go")
    assert (result.output, last_told(model)) == ("SHORT", REFUSED)


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_one_that_raises_fails_the_run(mode: Any) -> None:
    """At once: the model is not asked again, and the code is not restarted."""

    async def broken(output: Number) -> None:
        raise KeyError("table")

    agent, model = helper(number(1) if mode == "native" else called(1), validators=broken, output_mode=mode)
    with pytest.raises(ValidatorFailed, match="validator 'broken' could not judge the answer: KeyError: 'table'") as it:
        await agent.run("Go")
    assert (it.value.validator, type(it.value.__cause__), len(model.requests)) == ("broken", KeyError, 1)
    assert it.value.result is not None
    assert it.value.result.status == "failed"
    check_history(it.value.result.messages)


async def test_one_that_says_true_is_told_what_to_write() -> None:
    """As predicates do; it would become the output otherwise."""
    agent, _ = helper(number(2), validators=lambda output: output.number == 2)
    with pytest.raises(ValidatorFailed, match="return None to accept"):
        await agent.run("Go")
    yes = Agent("helper", Scripted('{"result": false}'), output=bool, validators=lambda output: not output)
    assert (await yes.run("Go")).output is True


async def test_a_judge_may_be_an_agent() -> None:
    """Its run is one of its own, and its answer is waited for."""
    judge = Agent("judge", Scripted('{"result": true}'), output=bool)

    async def ask(output: Number) -> None:
        if (await judge.run(f"Is {output.number} nice?")).output:
            raise ModelRetry("not so nice")

    agent, model = helper(number(1), number(2), validators=ask)
    with pytest.raises(Exception, match="script has 1 replies"):
        await agent.run("Go")
    assert last_told(model) == "not so nice"


class Yields:
    def __call__(self) -> None: ...


def yields(output: Any) -> Any:
    yield output


def keyword(output: Any, *, limit: int) -> None: ...


@pytest.mark.parametrize(
    ("validators", "words"),
    [
        (None, "not None"),
        ("even", "takes a function or a list"),
        (3, "takes a function or a list"),
        ([even, 3], "takes functions of the output, not 3"),
        ([Number], "takes functions of the output"),
        (lambda: None, "must take the output, or the output and the RunContext"),
        (lambda a, b, c: None, "must take the output"),
        (keyword, "must take the output"),
        (Yields(), "must take the output"),
        (yields, "remove the yield"),
    ],
)
def test_what_is_no_validator(validators: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Agent("helper", Scripted(), validators=validators)


# -- meanwhile


def held(gate: anyio.Event, entered: anyio.Event) -> Callable[..., Any]:
    async def wait(output: Any) -> None:
        entered.set()
        await gate.wait()
        even(output)

    return wait


@pytest.mark.parametrize("mode", ["native", "tool"])
@pytest.mark.parametrize(
    ("stop", "status"), [("now", "stopped"), ("after_tools", "completed"), ("after_turn", "completed")]
)
async def test_a_stop_during_a_check(mode: Any, stop: Any, status: str) -> None:
    """A stop now cuts it; a gentle one waits for what it says."""
    gate, entered = anyio.Event(), anyio.Event()
    line = number(2) if mode == "native" else called(2)
    agent, _ = helper(line, validators=held(gate, entered), output_mode=mode)
    journal = MemoryJournal(keep=True)
    async with System(journal=journal) as system:
        run = await system.start(agent, "Go")
        await entered.wait()
        run.stop(stop)
        if stop != "now":
            gate.set()
        result = await run.result()
    assert result.status == status
    check_history(result.messages)
    await check_told(journal, result)


@backends
def test_a_stop_now_cuts_a_check_at_once(backend: Any) -> None:
    """It does not wait for its grace to be over."""

    async def main() -> None:
        entered = anyio.Event()
        agent, _ = helper(number(2), validators=held(anyio.Event(), entered))
        async with System() as system:
            run = await system.start(agent, "Go")
            await entered.wait()
            began = anyio.current_time()
            assert (await run.stop()).status == "stopped"
            assert anyio.current_time() - began < 1.0

    play(main, backend=backend)


async def test_a_refusal_after_a_gentle_stop_ends_the_run() -> None:
    gate, entered = anyio.Event(), anyio.Event()
    agent, model = helper(number(1), number(2), validators=held(gate, entered))
    async with agent.stream("Go") as run:
        await entered.wait()
        run.stop("after_turn")
        gate.set()
        result = await run.result()
    assert (result.status, len(model.requests)) == ("stopped", 1)


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_a_message_during_a_check(mode: Any) -> None:
    """The run goes on behind the answer that was accepted."""
    gate, entered = anyio.Event(), anyio.Event()
    line = number if mode == "native" else called
    agent, model = helper(line(2), line(4), validators=held(gate, entered), output_mode=mode)
    journal = MemoryJournal(keep=True)
    async with System(journal=journal) as system:
        run = await system.start(agent, "Go")
        await entered.wait()
        letter = run.send("And now?")
        gate.set()
        await letter
        result = await run.result()
    assert (result.output, len(model.requests)) == (Number(4), 2)
    await check_told(journal, result)


async def test_a_cancelled_caller_cancels_the_check() -> None:
    gate, entered = anyio.Event(), anyio.Event()
    agent, _ = helper(number(2), validators=held(gate, entered))
    async with anyio.create_task_group() as group:
        group.start_soon(agent.run, "Go")
        await entered.wait()
        group.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stray_cancellation_in_a_validator_fails_the_run() -> None:
    """Nobody has cancelled it, and nothing is given out. What was said and used so far is not lost."""

    async def stray(output: Any) -> None:
        raise asyncio.CancelledError

    agent, _ = helper(number(2), validators=stray)
    with pytest.raises(ValidatorFailed, match="stray") as caught:
        await agent.run("Go")
    assert isinstance(caught.value.__cause__, StrayCancellation)
    assert caught.value.result is not None
    assert caught.value.result.messages[-1].role == "assistant"


class Scene:
    """A run with two answers that are sent back: one in text, one by the output tool, beside another call."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

        async def pause() -> str:
            """Pause."""
            await checkpoint()
            return "paused"

        async def judge(output: Number) -> Number | None:
            await checkpoint()
            await checkpoint()
            even(output)
            return replace(output, number=8) if output.number == 6 else None

        script = Scripted(number(1), [call("pause"), *called(3)], [call("pause"), *called(6)])
        options: dict[str, Any] = {"output_mode": "tool", "output_retries": 3, "tools": [pause]}
        self.agent: Agent[Any, Any] = Agent("helper", script, output=Number, validators=judge, **options)


async def count_steps() -> int:
    async def undisturbed() -> None:
        scene = Scene()
        async with System() as system:
            result = await (await system.start(scene.agent, "Go")).result()
        assert result.output == Number(8)

    return await steps_of(undisturbed) + 5


@pytest.mark.parametrize("act", ["now", "after_tools", "after_turn", "kill"])
async def test_interrupted_at_every_step(act: Any) -> None:
    """One outcome with a valid history, and the journal says the same."""
    for step in range(await count_steps()):
        scene = Scene()
        before = len(anyio.get_running_tasks())
        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            run = await system.start(scene.agent, "Go")
            await after(step, run._cell.kill if act == "kill" else partial(run.stop, act))
            with anyio.fail_after(10):
                result = await run.result()
        check_history(result.messages)
        await check_told(journal, result)
        assert result.status in ("stopped", "completed"), step
        assert result.output == Number(8) or result.status == "stopped"
        assert len(anyio.get_running_tasks()) == before


async def test_cancelled_at_every_step() -> None:
    for step in range(await count_steps()):
        scene = Scene()
        before = len(anyio.get_running_tasks())
        with anyio.fail_after(10), anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(after, step, scope.cancel)
                await scene.agent.run("Go")
                group.cancel_scope.cancel()
        assert len(anyio.get_running_tasks()) == before


# -- after a crash


@tool(replay="safe")
async def look() -> str:
    """Look."""
    return "seen"


def judged(asked: list[int], mode: Any = "native") -> Agent[Any, Any]:
    """An agent whose answers are refused, taken beside another call, and changed."""

    async def judge(output: Number) -> Number | None:
        asked.append(output.number)
        await anyio.sleep(0.01)
        even(output)
        return replace(output, number=output.number * 10)

    if mode == "native":
        lines: list[Any] = [number(1), ["look"], number(3), number(4)]
    else:
        answers = [("final_answer", {"number": each}) for each in (1, 3, 4)]
        lines = [[answers[0]], ["look", answers[1]], [answers[2]]]
    options: dict[str, Any] = {"output_retries": 3, "output_mode": mode, "tools": [look], "prices": PRICES}
    return Agent("helper", Lines(*lines), output=Number, validators=judge, **options)


async def begin(agent: Agent[Any, Any], journal: MemoryJournal, *letters: str) -> RunResult[Any]:
    async with System(journal=journal, sources=virtual()) as system:
        run = await system.start(agent, "Go", run_id="r")
        for letter in letters:
            run.send(letter, "idle")
        return await run.result()


async def go_on(agent: Agent[Any, Any], journal: MemoryJournal) -> RunResult[Any] | None:
    async with System(journal=journal, sources=virtual()) as system:
        recovery = await system.recover([agent], max_claims=1_000)
        assert not recovery.left
        for run in recovery:
            result = await run.result()
            await check_told(journal, result)
            return result
    return None


@backends
@pytest.mark.parametrize("mode", ["native", "tool"])
def test_a_run_goes_on_from_each_of_its_entries(mode: Any, backend: Any) -> None:
    """A refusal is not asked for again, a check that was cut is made again, a reply is not asked for again. What it
    comes to, and what it has cost, is the same.
    """

    async def main() -> None:
        asked: list[int] = []
        journal = RecordingJournal()
        whole = await begin(judged(asked, mode), journal)
        assert (whole.output, asked) == (Number(40), [1, 3, 4])
        await check_told(journal, whole)
        records = [[type(record) for record in decode(written.entry)] for written in journal.written]
        assert sum(Checking in each for each in records) == 3
        for place in range(1, len(journal.written)):
            again: list[int] = []
            agent = judged(again, mode)
            result = await go_on(agent, journal.after(place))
            assert result is not None
            assert (result.output, result.messages, result.usage) == (whole.output, whole.messages, whole.usage)
            known = [record for each in journal.written[:place] for record in decode(each.entry)]
            refused = [each for each in known if isinstance(each, Said) or (isinstance(each, Happened) and _bad(each))]
            assert again == asked[len(refused) :], place
            provider: Any = agent.provider
            assert len(provider.asked) == TURNS[mode] - sum(isinstance(each, Replied) for each in known), place
            if Checking in records[place - 1]:
                assert result.cost == pytest.approx(whole.cost), place  # nothing was asked when it died

    play(main, backend=backend)


def _bad(happened: Happened) -> bool:
    return happened.result["content"] == "use an even number"


#: Replies of the whole run.
TURNS = {"native": 4, "tool": 3}


@backends
@pytest.mark.parametrize("mode", ["native", "tool"])
def test_an_answer_that_was_accepted_and_gone_on_from(mode: Any, backend: Any) -> None:
    """A message follows it: the validators are not asked about it once more."""

    async def main() -> None:
        def made(asked: list[int]) -> Agent[Any, Any]:
            def judge(output: Number) -> None:
                asked.append(output.number)

            lines: list[Any] = [number(2), number(4)]
            if mode == "tool":
                lines = [[("final_answer", {"number": each})] for each in (2, 4)]
            return Agent("helper", Lines(*lines), output=Number, validators=judge, output_mode=mode, prices=PRICES)

        asked: list[int] = []
        journal = RecordingJournal()
        whole = await begin(made(asked), journal, "And now?")
        assert (whole.output, asked) == (Number(4), [2, 4])
        for place in range(1, len(journal.written)):
            again: list[int] = []
            result = await go_on(made(again), journal.after(place))
            assert result is not None
            passed = [record for each in journal.written[:place] for record in decode(each.entry)]
            accepted = sum(isinstance(record, Checked) for record in passed)
            if any(isinstance(record, Sent) for record in passed):
                assert (result.output, result.messages) == (whole.output, whole.messages), place
                assert again == asked[accepted:], place

    play(main, backend=backend)


class Opaque:
    """No JSON says what it is."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


@backends
@pytest.mark.parametrize("kind", ["written", "opaque", "refused"])
@pytest.mark.parametrize("mode", ["native", "tool"])
def test_the_answer_of_a_subagent_that_is_over(kind: str, mode: Any, backend: Any) -> None:
    """Its parent asks once more: it gets what the validators had made of the answer. What could not be written they
    make again; if they refuse it now, nothing is asked.
    """

    async def main() -> None:
        def family(asked: list[int]) -> tuple[Agent[Any, Any], Lines]:
            def judge(output: Number) -> Any:
                asked.append(output.number)
                if kind == "refused" and len(asked) > 1:
                    raise ModelRetry("not any more")
                return Number(70) if kind == "written" else Opaque(70)

            line: Any = number(7) if mode == "native" else [("final_answer", {"number": 7})]
            expert = Agent("expert", Lines(line), output=Number, validators=judge, output_mode=mode, prices=PRICES)

            @tool(replay="safe")
            async def ask() -> str:
                """Ask the expert."""
                result = await expert.run("?")
                return str(result.output.number)

            provider: Any = expert.provider
            return Agent("boss", Lines(["ask"], "Done."), tools=[ask], prices=PRICES), provider

        asked: list[int] = []
        journal = RecordingJournal()
        boss, _ = family(asked)
        await begin(boss, journal)
        ended = next(place for place, each in enumerate(journal.written) if each.final)
        again: list[int] = [7] if kind == "refused" else []
        boss, expert = family(again)
        result = await go_on(boss, journal.after(ended + 1))
        assert result is not None
        told = [each.content for message in result.messages for each in message.tool_results]
        if kind == "refused":
            assert "not any more" in told[0]
        else:
            assert told == ["70"]
        assert expert.asked == []
        assert again == {"written": [], "opaque": [7], "refused": [7, 7]}[kind]

    play(main, backend=backend)


@backends
def test_a_crash_of_the_run_beside_a_check(backend: Any) -> None:
    """The run starts again in its process: the answer is not asked for again, and the check is made again."""

    async def main() -> None:
        asked: list[int] = []

        class Breaks(MemoryJournal):
            broken = False

            async def durable(self, claim: Any) -> None:
                if not self.broken and Checking in [type(each) for each in decode(self.last)]:
                    self.broken = True
                    raise RuntimeError("bug")
                await super().durable(claim)

            last = b""

            def append(self, claim: Any, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
                self.last = entry
                return super().append(claim, entry, final=final, sequence=sequence)

        def judge(output: Number) -> None:
            asked.append(output.number)

        agent = Agent("helper", Lines(number(2)), output=Number, validators=judge, prices=PRICES)
        result = await begin(agent, Breaks(keep=True))
        provider: Any = agent.provider
        assert (result.output, asked, provider.asked) == (Number(2), [2], [0])

    play(main, backend=backend)


async def test_what_is_written_of_an_output() -> None:
    """As JSON that makes the same; what has no such JSON is None."""
    agent, _ = helper()
    assert agent.write_output(Number(3)) == '{"number":3}'
    assert agent.write_output(Opaque(3)) is None
    assert agent.write_output({"number": 3}) is None
    text: Agent[Any, Any] = Agent("helper", Scripted())
    assert (text.write_output("x"), text.write_output(3)) == ("x", None)
    assert msgspec.json.decode(agent.write_output(Number(3)) or "") == {"number": 3}
