"""Following a run: events, readers at their own pace, hooks, observers."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, Hooks, RunContext, RunSnapshot, System, events
from greenroom.agents.hooks import HOOKS
from greenroom.agents.readers import DELTA_BOUND, KEPT, READER_BOUND, EventLog, ReaderDetached, TextReader
from greenroom.providers import InvalidRequest, Scripted, StreamInterrupted, Usage, call

pytestmark = pytest.mark.anyio


def text(seq: int, text: str, run_id: str = "r", turn: int = 1) -> events.ModelTextDelta:
    return events.ModelTextDelta(seq=seq, time=0.0, run_id=run_id, path=(run_id,), turn=turn, text=text)


def progress(seq: int) -> events.ToolProgress:
    return events.ToolProgress(seq=seq, time=0.0, run_id="r", path=("r",), call_id="c", tool="t", progress=seq)


def done(seq: int, text: str, turn: int) -> events.RunCompleted:
    facts: dict[str, Any] = {"agent": "a", "reason": "answer", "usage": Usage(), "text": text}
    return events.RunCompleted(seq=seq, time=0.0, run_id="r", path=("r",), turn=turn, **facts)


async def read_all(reader: Any) -> list[Any]:
    return [event async for event in reader]


async def weather(city: str) -> str:
    """Weather."""
    return "sunny"


async def test_events_tell_the_story_in_order() -> None:
    """Their types are dotted names; sequence numbers start at 1 and have no holes."""
    heard: list[Any] = []
    agent = Agent("helper", Scripted([call("weather", city="x")], "Fine."), tools=[weather])
    await agent.run("Go", on_event=heard.append, user_id="u", conversation_id="c")
    assert [event.type for event in heard if not event.type.endswith("_delta")] == [
        "run.started",
        "turn.started",
        "model.started",
        "model.completed",
        "tool.started",
        "tool.completed",
        "turn.ended",
        "turn.started",
        "model.started",
        "model.completed",
        "turn.ended",
        "run.completed",
    ]
    assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
    assert {(event.user_id, event.conversation_id) for event in heard} == {("u", "c")}
    assert [event.turn for event in heard if event.type == "turn.ended"] == [1, 2]


async def test_an_event_shows_itself_as_a_line_a_dictionary_and_json() -> None:
    """And is read back by its type."""
    heard: list[Any] = []
    await Agent("helper", Scripted("Hi.")).run("Go", on_event=heard.append)
    for event in heard:
        assert event.type in str(event)
        assert "\n" not in str(event)
        assert event.to_dict()["type"] == event.type
        assert json.loads(event.to_json()) == json.loads(msgspec.json.encode(event.to_dict()))
        assert msgspec.json.decode(event.to_json(), type=events.AnyEvent) == event


async def test_progress_of_a_tool_reaches_observers_in_order() -> None:
    """From the loop and from a thread."""

    async def steps(context: RunContext[None]) -> str:
        """Step."""
        context.emit({"step": 1})
        await checkpoint()
        context.emit({"step": 2})
        await checkpoint()
        return "done"

    def thread_steps(context: RunContext[None]) -> str:
        """Step in a thread."""
        context.emit("from a thread")
        return "done"

    heard: list[Any] = []
    agent = Agent("helper", Scripted([call("steps")], [call("thread_steps")], "ok"), tools=[steps, thread_steps])
    await agent.run("Go", on_event=heard.append)
    assert [event.progress for event in heard if event.type == "tool.progress"] == [
        {"step": 1},
        {"step": 2},
        "from a thread",
    ]


async def test_a_reader_may_come_late_and_go_on_from_a_sequence() -> None:
    """Lifecycle events are kept; `since` leaves out what has been seen."""
    async with System() as system:
        run = await system.start(Agent("helper", Scripted("Hi.")), "Go")
        await run.result()
        everything = await read_all(run.events())
        assert everything[0].type == "run.started"
        later = await read_all(run.events(since=everything[1].seq))
        assert later == everything[2:]


async def test_what_is_no_longer_kept_is_announced() -> None:
    """To whoever comes late, and to whoever goes on from where a reader was detached."""
    log = EventLog()
    slow = log.follow(0)
    log.publish(text(1, "x"))
    for seq in range(2, READER_BOUND + 2 * KEPT):
        log.publish(progress(seq))
    log.end(None)
    last = READER_BOUND + 2 * KEPT - 1
    with pytest.raises(ReaderDetached) as caught:
        await read_all(slow)
    since = caught.value.since
    gap, *rest = await read_all(log.follow(since))
    assert [event.seq for event in rest] == list(range(last - KEPT + 1, last + 1))
    assert (gap.type, gap.seq, gap.count) == ("events.dropped", last - KEPT, last - KEPT - since)
    gap, *rest = await read_all(log.follow(0))
    assert (gap.type, gap.count, len(rest)) == ("events.dropped", last - 1 - KEPT, KEPT)  # deltas are never kept
    for since in (last - KEPT, last - 3, last):
        read = await read_all(log.follow(since))
        assert [event.seq for event in read] == list(range(since + 1, last + 1))


async def test_readers_that_were_forgotten_do_not_gather() -> None:
    """A page that is opened again and again leaves nothing behind in a run that lasts for days."""
    log = EventLog()
    for _ in range(3):
        log.follow(0)
        TextReader(log, "r")
    assert not log.followed
    reader = log.follow(0)
    assert log.followed
    assert len(log._readers) == 1
    log.drop(reader)
    log.publish(text(1, "x"))
    assert not reader._buffer
    assert log._readers == ()


async def test_a_run_that_nobody_missed_anything_of_announces_no_gap() -> None:
    log = EventLog()
    for seq in range(1, KEPT + 1):
        log.publish(progress(seq))
    log.end(None)
    assert [event.seq for event in await read_all(log.follow(0))] == list(range(1, KEPT + 1))


async def test_readers_raise_the_runs_error_after_the_last_event() -> None:
    """Iterating to the end cannot miss a failure."""
    async with System() as system:
        run = await system.start(Agent("helper", Scripted(InvalidRequest("bad"))), "Go")
        seen: list[str] = []
        with pytest.raises(InvalidRequest, match="bad"):
            async for event in run:
                seen.append(event.type)
        assert seen[-1] == "run.failed"
        with pytest.raises(InvalidRequest):
            await anext(run.text())
        with pytest.raises(InvalidRequest):
            await run.result()


async def test_a_slow_reader_gets_merged_text_and_no_hole() -> None:
    """Deltas beyond the bound are merged into the one before."""
    log = EventLog()
    reader = log.follow(0)
    for seq in range(1, 2 * DELTA_BOUND):
        log.publish(text(seq, "x"))
    log.end(None)
    read = await read_all(reader)
    assert len(read) == DELTA_BOUND
    assert "".join(event.text for event in read) == "x" * (2 * DELTA_BOUND - 1)


async def test_deltas_that_cannot_be_merged_are_dropped_and_counted() -> None:
    """The gap is announced where it is; lifecycle events stay."""
    log = EventLog()
    reader = log.follow(0)
    for seq in range(1, DELTA_BOUND + 1):
        log.publish(text(seq, "x", turn=seq))
    log.publish(text(1001, "a", turn=1001))
    log.publish(text(1002, "b", turn=1002))
    log.publish(progress(1003))
    log.end(None)
    tail = (await read_all(reader))[DELTA_BOUND:]
    assert [(type(event).__name__, event.seq) for event in tail] == [("EventsDropped", 1002), ("ToolProgress", 1003)]
    assert tail[0].count == 2


async def test_lifecycle_events_take_no_room_from_deltas() -> None:
    """A reader that is behind with other events still gets all text, merged beyond the bound."""
    log = EventLog()
    reader = log.follow(0)
    for seq in range(1, DELTA_BOUND + 50):
        log.publish(progress(seq))
    for seq in range(1001, 1001 + 2 * DELTA_BOUND):
        log.publish(text(seq, "x"))
    log.end(None)
    read = await read_all(reader)
    assert "".join(event.text for event in read if event.type == "model.text_delta") == "x" * 2 * DELTA_BOUND
    assert not [event for event in read if event.type == "events.dropped"]


async def test_after_a_gap_deltas_come_again_as_soon_as_there_is_room() -> None:
    """Though the buffer has stayed long all the time, with other events."""
    log = EventLog()
    reader = log.follow(0)
    for seq in range(1, DELTA_BOUND + 1):
        log.publish(text(seq, "x", turn=seq))
    log.publish(text(1001, "lost", turn=1001))
    for seq in range(1002, 1102):
        log.publish(progress(seq))
    assert (await anext(reader)).seq == 1
    for seq in (2001, 2002, 2003):
        log.publish(text(seq, "y", turn=1001))
    log.end(None)
    read = await read_all(reader)
    assert [event.count for event in read if event.type == "events.dropped"] == [1]
    assert (read[-1].seq, read[-1].text) == (2003, "yyy")


async def test_a_reader_far_behind_with_gaps_stays_bounded() -> None:
    """The marks of gaps count, too."""
    log = EventLog()
    reader = log.follow(0)
    for seq in range(1, DELTA_BOUND + 1):
        log.publish(text(seq, "x", turn=seq))
    for seq in range(1001, 1001 + 2 * READER_BOUND, 2):
        log.publish(progress(seq))
        log.publish(text(seq + 1, "x", turn=seq))
    read = 0
    with pytest.raises(ReaderDetached):
        async for _ in reader:
            read += 1
    assert read == READER_BOUND


async def test_a_text_reader_loses_nothing_however_slow() -> None:
    """Neither other events, nor those of other runs, nor their number come between it and its text."""
    log = EventLog()
    reader = TextReader(log, "r")
    said = []
    for seq in range(READER_BOUND + 10):
        log.publish(progress(seq))
        log.publish(text(seq, "no", run_id="other"))
        if seq % 20 == 0:
            said.append(f"<{seq}>")
            log.publish(text(seq, said[-1], turn=1 + seq // 5000))
    log.end(None)
    pieces = await read_all(reader)
    assert "".join(pieces) == "".join(said)
    assert len(pieces) <= DELTA_BOUND + 1


async def test_a_waiting_text_reader_may_be_cancelled_and_shared() -> None:
    """Cancelling one wait loses nothing; two that wait are both woken."""
    log = EventLog()
    reader = TextReader(log, "r")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(reader)
    got: list[str] = []

    async def take() -> None:
        got.append(await anext(reader))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            log.publish(text(1, "a"))
            log.publish(text(2, "b"))
    assert sorted(got) == ["a", "b"]


async def test_a_text_reader_that_comes_late_gets_the_answer_whole() -> None:
    """During a call that nobody followed at its start, and after the end; the text of earlier turns is gone."""
    asked, answer = anyio.Event(), anyio.Event()

    async def last(request: Any) -> str:
        asked.set()
        await answer.wait()
        return "It is sunny."

    model = Scripted(["Let me see. ", call("weather", city="x")], last)
    async with System() as system:
        run = await system.start(Agent("helper", model, tools=[weather]), "Go")
        await asked.wait()
        during = run.text()
        answer.set()
        assert await read_all(during) == ["It is sunny."]
        assert await read_all(run.text()) == ["It is sunny."]


async def test_text_that_was_streamed_is_not_given_again_at_the_end() -> None:
    """Of several turns, each piece comes once."""
    model = Scripted(["Let me see. ", call("weather", city="x")], "It is sunny.")
    async with System() as system:
        run = await system.start(Agent("helper", model, tools=[weather]), "Go")
        assert "".join(await read_all(run.text())) == "Let me see. It is sunny."


async def test_a_text_reader_that_comes_in_the_middle_begins_with_what_was_shown() -> None:
    """Given that text, it goes on from there without a hole."""
    log = EventLog()
    log.publish(text(1, "Hello ", turn=2))
    reader = TextReader(log, "r", "Hello ", 2)
    log.publish(text(2, "world", turn=2))
    log.publish(done(3, "Hello world", turn=2))
    log.end(None)
    assert await read_all(reader) == ["Hello ", "world"]


class Crashing(Scripted):
    """Breaks down, not as a provider should, in the middle of its first streamed reply."""

    def __init__(self, *lines: Any, after: int) -> None:
        super().__init__(*lines, chunk=6)
        self.after = after

    def stream(self, request: Any) -> Any:
        stream = super().stream(request)
        if len(self.requests) == 0:
            plain = type(stream).__anext__
            seen = 0

            class Breaking(type(stream)):  # type: ignore[misc]
                async def __anext__(breaking) -> Any:
                    nonlocal seen
                    seen += 1
                    if seen > self.after:
                        raise OSError("provider bug")
                    return await plain(breaking)

            return Breaking(self, request)
        return stream


@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
async def test_a_restarted_answer_is_not_shown_twice(chunk: int) -> None:
    """What the new attempt repeats is left out, however it is cut into pieces."""
    model = Crashing("Hello world, it is me", "Hello world, it is me", after=2)
    async with System() as system:
        run = await system.start(Agent("helper", model), "Go")
        reader = run.text()
        assert await anext(reader) == "Hello "
        model._chunk = chunk
        rest = await read_all(reader)
        assert "Hello " + "".join(rest) == "Hello world, it is me"
        assert (await run.result()).output == "Hello world, it is me"
        assert run._cell.restarts == 1


@pytest.mark.parametrize("second", ["Howdy, world", "Hello", [call("weather", city="x")]])
async def test_a_restarted_answer_that_differs_fails_the_run(second: Any) -> None:
    """Other text, less text, or none: what was shown cannot be taken back."""
    model = Crashing("Hello world, it is me", second, "never", "never", after=2)
    shown = []
    async with System() as system:
        run = await system.start(Agent("helper", model, tools=[weather]), "Go")
        with pytest.raises(StreamInterrupted, match="differs from the text"):
            async for piece in run.text():
                shown.append(piece)
    assert "".join(shown) == "Hello world,"
    assert len(model.requests) == 2


async def test_a_reader_far_behind_is_detached_and_can_come_back() -> None:
    """Memory stays bounded; the error names the sequence to go on from."""
    log = EventLog()
    reader = log.follow(0)
    for seq in range(1, READER_BOUND + 2):
        log.publish(progress(seq))
    seen = []
    with pytest.raises(ReaderDetached) as caught:
        async for event in reader:
            seen.append(event.seq)
    assert caught.value.since == seen[-1] == READER_BOUND
    again = log.follow(caught.value.since)
    log.end(None)
    assert [event.seq for event in await read_all(again)] == [READER_BOUND + 1]


async def test_a_waiting_reader_is_woken_and_may_be_cancelled() -> None:
    """Cancelling one wait loses nothing."""
    log = EventLog()
    reader = log.follow(0)
    with anyio.move_on_after(0.01):
        await anext(reader)
    log.publish(text(1, "x"))
    assert (await anext(reader)).seq == 1


async def test_hooks_hear_their_events() -> None:
    """Sync and async, in the four forms."""
    heard: list[str] = []

    async def note(event: Any) -> None:
        await checkpoint()
        heard.append(event.type)

    class Mine(Hooks):
        def on_tool_start(self, event: events.ToolStarted) -> None:
            heard.append(f"mine {event.tool}")

    hooks: list[Any] = [Mine(), Hooks(on_run_start=note), {"on_run_end": note, "on_tool_end": note}]
    agent = Agent("helper", Scripted([call("weather", city="x")], "ok"), tools=[weather], hooks=hooks)
    await agent.run("Go")
    assert heard == ["run.started", "mine weather", "tool.completed", "run.completed"]


async def test_an_observer_that_raises_is_logged_and_never_fatal(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a hook nor `on_event` can break a run."""

    def broken(event: Any) -> None:
        raise ValueError("observer bug")

    agent = Agent("helper", Scripted("ok"), hooks={"on_run_start": broken})
    assert (await agent.run("Go", on_event=broken)).output == "ok"
    assert "observer bug" in caplog.text


def test_every_hook_is_a_keyword_and_hears_something() -> None:
    """The table and the signature agree."""
    for name, heard in HOOKS.items():
        assert getattr(Hooks(**{name: print}), name) is print
        assert heard


async def test_secrets_of_a_provider_are_in_no_event() -> None:
    """INV5: neither events nor results nor reprs hold a key."""
    from greenroom.providers import OpenAIChat

    provider = OpenAIChat("m", base_url="http://127.0.0.1:9/v1", api_key="sk-secret")
    heard: list[Any] = []
    agent = Agent("helper", provider, retry=None)
    with pytest.raises(Exception, match="connection") as caught:
        await agent.run("Go", on_event=heard.append)
    shown = " ".join([repr(agent), repr(provider), str(caught.value), repr(caught.value), *map(str, heard)])
    assert "sk-secret" not in shown


@pytest.mark.parametrize(
    "follow", [lambda log: log.follow(0), lambda log: TextReader(log, "r")], ids=["events", "text"]
)
async def test_a_reader_that_is_woken_at_each_turn_of_the_loop_can_be_cancelled(follow: Any) -> None:
    log = EventLog()
    reader = follow(log)
    reading = anyio.CancelScope()
    read = 0

    async def publish() -> None:
        for seq in range(1, 201):
            log.publish(text(seq, "w "))
            await checkpoint()

    async def read_on() -> None:
        nonlocal read
        with reading:
            async for _ in reader:
                read += 1

    async with anyio.create_task_group() as group:
        group.start_soon(publish)
        group.start_soon(read_on)
        for _ in range(50):
            await checkpoint()
        reading.cancel()
    assert read < 100


async def test_a_snapshot_says_how_far_a_run_is() -> None:
    """Of the turn at hand; what it says was in the events up to its number."""
    agent = Agent("helper", Scripted([call("weather", city="x")], "Fine, and dry."), tools=[weather])
    said = ""
    found: list[tuple[RunSnapshot, RunSnapshot]] = []

    def look(event: Any) -> None:
        nonlocal said
        if isinstance(event, events.ModelTextDelta):
            said += event.text
            found.append((run.snapshot(), RunSnapshot(said, event.seq)))

    async with System() as system:
        run = await system.start(agent, "Go", on_event=look)
        assert run.snapshot().text == ""
        await run.result()
        assert said == "Fine, and dry."
        assert [now for now, _ in found] == [so_far for _, so_far in found] != []
        assert run.snapshot().text == ""
