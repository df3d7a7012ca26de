"""Instruments: entered and left around the work, in its own task, whatever becomes of the work."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import (
    Agent,
    LimitExceeded,
    Limits,
    ModelRetry,
    Retry,
    SqliteJournal,
    Supervision,
    System,
    deny_all,
    tool,
)
from greenroom.agents import Sources
from greenroom.agents.instruments import Instruments
from greenroom.providers import Fallback, InvalidRequest, Overloaded, Scripted, Usage, call
from greenroom.providers.notices import GateOpened, listening
from greenroom.telemetry import Instrument, ModelSpan, RunSpan, ToolSpan
from greenroom.testing import interrupt_everywhere, run

pytestmark = pytest.mark.anyio

current: ContextVar[tuple[str, ...]] = ContextVar("current", default=())


class Recorder(Instrument):
    """Keeps every span, what was open around it, and whether each block was left where it was entered."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.ended: list[tuple[str, Any]] = []
        self.above: dict[str, tuple[str, ...]] = {}

    @contextmanager
    def _block(self, name: str, span: Any) -> Generator[None]:
        self.above[name] = current.get()
        token = current.set((*current.get(), name))
        self.open.append(name)
        yield
        self.open.remove(name)
        self.ended.append((name, span))
        current.reset(token)  # raises in another context

    def run(self, span: RunSpan) -> Any:
        return self._block(f"run {span.agent}", span)

    def model_call(self, span: ModelSpan) -> Any:
        return self._block(f"model {span.agent} {span.turn}", span)

    def tool_call(self, span: ToolSpan) -> Any:
        return self._block(f"tool {span.tool}", span)

    def spans(self, kind: type) -> list[Any]:
        return [span for _, span in self.ended if isinstance(span, kind)]

    def only(self, kind: type) -> Any:
        (span,) = self.spans(kind)
        return span


async def search(words: str) -> str:
    """Search."""
    await checkpoint()
    return f"found {words}"


def helper(*lines: Any, name: str = "helper", tools: Any = (search,), **options: Any) -> Agent[Any, Any]:
    return Agent(name, Scripted(*lines, usage=Usage(10, 2)), tools=tools, **options)


def on_both(scenario: Any) -> None:
    """Play a scenario in virtual time."""
    for name in ("asyncio", "trio"):
        run(scenario, backend=name)


# -- what spans say


async def test_each_span_has_what_is_known_before_and_after() -> None:
    recorder = Recorder()
    agent = helper([call("search", words="x")], "Done.", description="Helps.")
    async with System(instruments=[recorder]) as system:
        result = await system.start(agent, "Go", user_id="u", conversation_id="c")
        result = await result.result()
    assert [name for name, _ in recorder.ended] == ["model helper 1", "tool search", "model helper 2", "run helper"]
    life = recorder.only(RunSpan)
    assert (life.run_id, life.path, life.parent_id, life.call_id) == (result.run_id, (result.run_id,), None, None)
    assert (life.agent, life.description, life.provider, life.model) == ("helper", "Helps.", "scripted", "scripted")
    assert (life.user_id, life.conversation_id, life.prompt[0].text) == ("u", "c", "Go")
    assert (life.status, life.result, life.error, life.restarts) == ("completed", result, None, 0)
    assert life.usage.total_tokens == result.usage.total_tokens
    assert life.usage.input_tokens == 20
    first, second = recorder.spans(ModelSpan)
    assert (first.turn, second.turn, first.conversation_id, first.user_id) == (1, 2, "c", "u")
    assert second.reply.message.text == "Done."
    assert first.request.messages[0].text == "Go"
    assert (first.tries, first.cancelled, first.error, first.streamed, first.first_chunk) == (
        1,
        False,
        None,
        False,
        None,
    )
    done = recorder.only(ToolSpan)
    assert (done.tool, done.call_id, done.description, done.turn) == ("search", "call_1", "Search.", 1)
    assert (done.call.arguments, done.result.content, done.cause) == ({"words": "x"}, "found x", None)
    assert (done.tries, done.outlived, done.user_id, done.conversation_id) == (1, False, "u", "c")


async def test_a_subagent_lies_in_the_tool_call_that_it_works_for_three_levels_deep() -> None:
    recorder = Recorder()
    inner = helper([call("search", words="x")], "3", name="inner")
    middle = helper([call("inner", prompt="?")], "2", name="middle", tools=[inner])
    outer = helper([call("middle", prompt="?")], "1", name="outer", tools=[middle])
    async with System(instruments=[recorder]):
        await outer.run("Go")
    assert recorder.above["tool search"] == ("run outer", "tool middle", "run middle", "tool inner", "run inner")
    assert recorder.above["model inner 2"] == ("run outer", "tool middle", "run middle", "tool inner", "run inner")
    assert recorder.above["model outer 2"] == ("run outer",)
    spans = {span.agent: span for span in recorder.spans(RunSpan)}
    assert spans["inner"].parent_id == spans["middle"].run_id
    assert spans["inner"].path == (spans["outer"].run_id, spans["middle"].run_id, spans["inner"].run_id)
    assert spans["middle"].call_id == "call_1"


async def test_the_caller_of_a_run_is_around_it() -> None:
    recorder = Recorder()
    async with System(instruments=[recorder]) as system:
        current.set(("request",))
        await helper("Done.").run("Go")
        await (await system.start(helper("Done.", name="started"), "Go")).result()
    assert recorder.above == {
        "run helper": ("request",),
        "model helper 1": ("request", "run helper"),
        "run started": ("request",),
        "model started 1": ("request", "run started"),
    }
    assert current.get() == ("request",)


async def test_a_tool_and_its_thread_see_what_an_instrument_has_set() -> None:
    seen: list[tuple[str, ...]] = []

    async def here() -> str:
        """Look."""
        seen.append(current.get())
        return ""

    def there() -> str:
        """Look."""
        seen.append(current.get())
        return ""

    async with System(instruments=[Recorder()]):
        await helper([call("here")], [call("there")], "Done.", tools=[here, there]).run("Go")
    assert seen == [("run helper", "tool here"), ("run helper", "tool there")]


async def test_a_model_is_asked_inside_its_span() -> None:
    seen: list[tuple[str, ...]] = []
    async with System(instruments=[Recorder()]):
        await helper(lambda request: seen.append(current.get()) or "Done.").run("Go")
    assert seen == [("run helper", "model helper 1")]


async def test_one_span_covers_all_tries_of_a_model_call() -> None:
    recorder = Recorder()
    script = (Overloaded("busy"), Overloaded("busy"), "Done.")
    async with System(instruments=[recorder]):
        await helper(*script, retry=Retry(attempts=3, base=0.0)).run("Go")
    span = recorder.only(ModelSpan)
    assert (span.tries, span.error, span.reply.message.text) == (3, None, "Done.")


def test_seconds_are_those_of_the_event_loop() -> None:
    async def slow() -> str:
        """Sleep."""
        await anyio.sleep(60)
        return "slept"

    async def scenario() -> None:
        recorder = Recorder()
        script = (Overloaded("busy", retry_after=30.0), [call("slow")], "Done.")
        async with System(instruments=[recorder], sources=Sources(chance=lambda: 0.0)):
            await helper(*script, tools=[slow], retry=Retry(attempts=2)).run("Go")
        first, second = recorder.spans(ModelSpan)
        assert (first.seconds, second.seconds) == (30.0, 0.0)
        assert recorder.only(ToolSpan).seconds == 60.0
        assert recorder.only(RunSpan).seconds == 90.0

    on_both(scenario)


async def test_a_model_call_that_fails_says_with_what() -> None:
    recorder = Recorder()
    async with System(instruments=[recorder]):
        with pytest.raises(InvalidRequest) as caught:
            await helper(InvalidRequest("no")).run("Go")
    span, life = recorder.only(ModelSpan), recorder.only(RunSpan)
    assert (span.error, span.reply, span.cancelled) == (caught.value, None, False)
    assert (life.status, life.error) == ("failed", caught.value)


async def test_a_limit_against_a_model_call_is_its_error() -> None:
    recorder = Recorder()
    async with System(instruments=[recorder]):
        with pytest.raises(LimitExceeded):
            await helper([call("search", words="x")], "Done.", limits=Limits(requests=1)).run("Go")
    first, second = recorder.spans(ModelSpan)
    assert first.error is None
    assert isinstance(second.error, LimitExceeded)
    assert recorder.only(RunSpan).status == "limited"


async def test_a_fallback_says_who_has_answered() -> None:
    class Second(Scripted):
        name = "second"

    recorder = Recorder()
    first = Scripted(Overloaded("busy"), "First.")
    agent = Agent("helper", Fallback([first, Second("Done.")]))
    async with System(instruments=[recorder]):
        await agent.run("Go")
    assert (recorder.only(ModelSpan).provider, recorder.only(ModelSpan).answered_by) == ("fallback", "second")


def test_a_streamed_call_says_when_its_first_piece_came() -> None:
    async def late(_: Any) -> str:
        await anyio.sleep(5)
        return "Done."

    async def scenario() -> None:
        recorder = Recorder()
        async with System(instruments=[recorder]), helper(late).stream("Go") as events:
            assert "".join([piece async for piece in events.text()]) == "Done."
        span = recorder.only(ModelSpan)
        assert (span.streamed, span.first_chunk, span.seconds) == (True, 5.0, 5.0)

    on_both(scenario)


async def test_the_wait_at_a_gate_is_added_up() -> None:
    def waited(request: Any) -> Any:
        listener: Any = listening.get()
        listener.note(GateOpened("scripted", "scripted", 1.5))
        return "Done." if len(provider.requests) == 2 else Overloaded("busy")

    provider = Scripted(*[waited] * 2)
    recorder = Recorder()
    async with System(instruments=[recorder]):
        await Agent("helper", provider, retry=Retry(attempts=2, base=0.0)).run("Go")
    assert recorder.only(ModelSpan).gate_wait == 3.0


def test_a_tool_call_says_why_it_did_not_return() -> None:
    def failing() -> str:
        """Fail."""
        raise ValueError("no")

    def unsure() -> str:
        """Ask for more."""
        raise ModelRetry("which?")

    @tool(timeout=5)
    async def slow() -> str:
        """Sleep."""
        await anyio.sleep(60)
        return ""

    @tool(timeout=5)
    async def deaf() -> str:
        """Swallow the timeout."""
        try:
            await anyio.sleep(60)
        except BaseException:
            return "never mind"
        return ""

    @tool(retries=1)
    async def flaky() -> str:
        """Fail once."""
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("no")
        return "fine"

    tries: list[int] = []

    async def scenario() -> None:
        tries.clear()
        recorder = Recorder()
        names = ("failing", "unsure", "slow", "deaf", "flaky")
        agent = helper([call(name) for name in names], "Done.", tools=[failing, unsure, slow, deaf, flaky])
        async with System(instruments=[recorder], sources=Sources(chance=lambda: 0.0)):
            await agent.run("Go")
        spans = {span.tool: span for span in recorder.spans(ToolSpan)}
        assert {name: span.cause for name, span in spans.items()} == {
            "failing": "failed",
            "unsure": "invalid",
            "slow": "timed_out",
            "deaf": "timed_out",
            "flaky": None,
        }
        assert spans["failing"].result.content == "ValueError: no"
        assert (spans["slow"].result, spans["deaf"].result) == (None, None)
        assert (spans["flaky"].tries, spans["slow"].tries) == (2, 1)

    on_both(scenario)


async def test_a_stopped_run_says_so_in_all_its_spans() -> None:
    recorder = Recorder()
    entered = anyio.Event()

    async def slow() -> str:
        """Sleep."""
        entered.set()
        await anyio.sleep_forever()
        return ""

    async with System(instruments=[recorder]) as system:
        run = await system.start(helper([call("slow")], "Done.", tools=[slow]), "Go")
        with anyio.fail_after(10):
            await entered.wait()
        await run.stop(reason="user")
    assert (recorder.only(ToolSpan).cause, recorder.only(ToolSpan).result) == ("cancelled", None)
    life = recorder.only(RunSpan)
    assert (life.status, life.result.reason, life.error) == ("stopped", "user", None)

    async with System(instruments=[recorder]) as system:
        asked = anyio.Event()

        async def silent(_: Any) -> str:
            asked.set()
            await anyio.sleep_forever()
            return ""

        run = await system.start(helper(silent), "Go")
        with anyio.fail_after(10):
            await asked.wait()
        await run.stop()
    assert recorder.spans(ModelSpan)[-1].cancelled


async def test_a_call_whose_thread_goes_on_has_outlived(tmp_path: Path) -> None:
    entered, leave = anyio.Event(), threading.Event()
    recorder = Recorder()

    def stubborn() -> str:
        """Wait."""
        anyio.from_thread.run_sync(entered.set)
        leave.wait(10)
        return ""

    async with System(instruments=[recorder]) as system:
        run = await system.start(helper([call("stubborn")], "Done.", tools=[stubborn]), "Go")
        with anyio.fail_after(10):
            await entered.wait()
        await run.stop()
        assert (recorder.only(ToolSpan).outlived, recorder.only(ToolSpan).cause) == (True, "cancelled")
        leave.set()


async def test_restarts_are_counted_and_the_run_is_one_span() -> None:
    crashes = [ValueError("instructions"), None]

    def instructions(_: Any) -> str:
        crash = crashes.pop(0)
        if crash is not None:
            raise crash
        return "Help."

    recorder = Recorder()
    async with System(instruments=[recorder]):
        await helper("Done.", instructions=instructions, supervision=Supervision(intensity=2)).run("Go")
    assert recorder.only(RunSpan).restarts == 1


async def test_a_suspended_run_says_that_it_goes_on_elsewhere(tmp_path: Path) -> None:
    asked = anyio.Event()
    recorder = Recorder()

    async def silent(_: Any) -> str:
        asked.set()
        await anyio.sleep_forever()
        return ""

    async with SqliteJournal(tmp_path / "runs.db") as journal:
        async with System(instruments=[recorder], journal=journal) as system:
            await system.start(helper(silent), "Go", run_id="r")
            with anyio.fail_after(10):
                await asked.wait()
        assert recorder.only(RunSpan).status == "suspended"
        async with System(instruments=[recorder], journal=journal) as system:
            recovery = await system.recover([helper("Done.")])
            await recovery.runs[0].result()
    assert [(span.run_id, span.status) for span in recorder.spans(RunSpan)] == [("r", "suspended"), ("r", "completed")]


async def test_a_denied_call_never_ran_and_has_no_span() -> None:
    recorder = Recorder()
    async with System(instruments=[recorder]):
        await helper([call("search", words="x")], "Done.", policy=deny_all()).run("Go")
    assert recorder.spans(ToolSpan) == []


async def test_runs_outside_any_system_have_no_instruments() -> None:
    recorder = Recorder()
    async with System(instruments=[recorder]):
        pass
    await helper("Done.").run("Go")
    assert recorder.ended == []


async def test_without_instruments_nothing_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("a span was made for nobody")

    for kind in ("RunSpan", "ModelSpan", "ToolSpan"):
        monkeypatch.setattr(f"greenroom.agents.spans.{kind}", never)
    agent = helper([call("search", words="x")], "Done.", [call("search", words="x")], "Done.")
    async with System(instruments=[]):
        assert (await agent.run("Go")).output == "Done."
    assert (await agent.run("Go")).output == "Done."


async def test_a_run_that_comes_from_another_thread_has_its_callers_context() -> None:
    recorder = Recorder()

    def work() -> None:
        with System.in_thread(instruments=[recorder]) as system:
            current.set(("view",))
            assert system.run(helper("Done."), "Go").output == "Done."

    await anyio.to_thread.run_sync(work)
    assert recorder.above == {"run helper": ("view",), "model helper 1": ("view", "run helper")}
    assert recorder.only(RunSpan).status == "completed"


async def test_a_handoff_goes_on_in_the_same_span() -> None:
    recorder = Recorder()
    second = helper("Done.", name="second")
    first = helper([call("transfer_to_second")], name="first", tools=[second.as_handoff()])
    async with System(instruments=[recorder]):
        result = await first.run("Go")
    assert result.output == "Done."
    assert [name for name, _ in recorder.ended if not name.startswith("tool")] == [
        "model first 1",
        "model second 2",
        "run first",
    ]


# -- entering and leaving


class Named(Instrument):
    """Writes down when it is entered and left."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    @contextmanager
    def tool_call(self, span: ToolSpan) -> Generator[None]:
        self.told.append(f"enter {self.name}")
        yield
        self.told.append(f"leave {self.name}")


class Raising(Instrument):
    """Raises at one moment."""

    def __init__(self, moment: str, error: Callable[[], BaseException]) -> None:
        self.moment, self.error = moment, error

    def tool_call(self, span: ToolSpan) -> Any:
        if self.moment == "call":
            raise self.error()
        return self._block() if self.moment != "nothing" else None

    @contextmanager
    def _block(self) -> Generator[None]:
        if self.moment == "enter":
            raise self.error()
        yield
        raise self.error()


async def test_instruments_are_left_in_the_opposite_order() -> None:
    told: list[str] = []
    async with System(instruments=[Named("a", told), Instrument(), Raising("nothing", ValueError), Named("b", told)]):
        await helper([call("search", words="x")], "Done.").run("Go")
    assert told == ["enter a", "enter b", "leave b", "leave a"]


@pytest.mark.parametrize("moment", ["call", "enter", "leave"])
@pytest.mark.parametrize("error", [partial(ValueError, "SECRET"), asyncio.CancelledError, GeneratorExit])
async def test_an_instrument_that_raises_is_logged_once_and_skipped(
    moment: str, error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    instruments = [Named("a", told), Raising(moment, error), Named("b", told)]
    async with System(instruments=instruments):
        result = await helper([call("search", words=str(n)) for n in range(3)], "Done.").run("Go")
    assert result.output == "Done."
    assert sorted(told) == sorted(["enter a", "enter b", "leave a", "leave b"] * 3)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    name = error.func.__name__ if isinstance(error, partial) else error.__name__  # type: ignore[attr-defined]
    assert record.getMessage() == f"an instrument failed at tool_call and is skipped there (Raising): {name}"
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("moment", ["call", "enter", "leave"])
def test_an_interrupt_passes_and_leaves_what_was_entered(moment: str) -> None:
    told: list[str] = []
    instruments = Instruments([Named("a", told), Raising(moment, KeyboardInterrupt)])
    span: Any = None
    with pytest.raises(KeyboardInterrupt):
        instruments.leave("tool_call", instruments.enter("tool_call", span))
    assert told == ["enter a", "leave a"]


def scene(recorder: Recorder) -> Agent[Any, Any]:
    """An agent whose runs are busy with everything that has a span."""

    def block() -> str:
        """Block."""
        return "blocked"

    expert = helper([call("search", words="x")], "expertise", name="expert")
    script = (
        Overloaded("busy"),
        ["Let me see.", call("search", words="y"), call("block"), call("expert", prompt="?")],
        "All done.",
    )
    return helper(*script, name="boss", tools=[search, block, expert], retry=Retry(base=0.0))


@pytest.mark.parametrize("how", ["stop", "kill", "cancel", "native"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_is_entered_is_left_in_its_own_context_wherever_it_is_cut(how: str, backend: Any) -> None:
    if how == "native" and backend == "trio":
        pytest.skip("only asyncio cancels tasks")

    async def scenario(interruption: Any) -> None:
        recorder = Recorder()
        failed: list[str] = []
        watch = logging.Handler()
        watch.emit = lambda record: failed.append(record.getMessage()) if "instrument" in record.getMessage() else None
        logging.getLogger("greenroom").addHandler(watch)
        task: Any = asyncio.current_task() if how == "native" else None
        try:
            async with System(instruments=[recorder], sources=Sources(chance=lambda: 0.0)) as system:
                if how in ("stop", "kill"):
                    run = await system.start(scene(recorder), "Go")
                    interruption.arm(run.stop if how == "stop" else partial(run.stop, grace=0.0))
                    await run.result()
                elif how == "cancel":
                    with anyio.CancelScope() as scope:
                        interruption.arm(scope.cancel)
                        await scene(recorder).run("Go")
                else:
                    interruption.arm(task.cancel)
                    await scene(recorder).run("Go")
        except asyncio.CancelledError:
            task.uncancel()
        finally:
            logging.getLogger("greenroom").removeHandler(watch)
        assert recorder.open == []
        assert failed == []
        assert current.get() == ()
        assert set(recorder.above) == {name for name, _ in recorder.ended}
        if not interruption.fired:
            assert len(recorder.ended) == 10

    assert interrupt_everywhere(scenario, backend=backend) > 10


async def test_thousands_of_runs_leave_nothing_behind() -> None:
    count = 0

    class Counting(Instrument):
        @contextmanager
        def run(self, span: RunSpan) -> Generator[None]:
            nonlocal count
            count += 1
            yield
            count -= 1

        @contextmanager
        def model_call(self, span: ModelSpan) -> Generator[None]:
            nonlocal count
            count += 1
            yield
            count -= 1

    agent = Agent("helper", Scripted(*["Done."] * 2_000))
    async with System(instruments=[Counting()]):
        await agent.map(["Go"] * 2_000, concurrency=200)
        assert count == 0
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, RunSpan | ModelSpan | ToolSpan)] == []


# -- arguments


@pytest.mark.parametrize("wrong", [Instrument, [Instrument], [print], "x", Instrument(), None, {Instrument()}])
def test_what_is_no_list_of_instruments_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^instruments= takes a list of instruments"):
        System(instruments=wrong)
