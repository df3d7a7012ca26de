"""Following a run: events, readers at their own pace, hooks, observers."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, Hooks, RunContext, System, events
from greenroom.agents.hooks import HOOKS
from greenroom.agents.readers import DELTA_BOUND, READER_BOUND, EventLog, ReaderDetached
from greenroom.providers import InvalidRequest, Scripted, call

pytestmark = pytest.mark.anyio


def text(seq: int, text: str, run_id: str = "r", turn: int = 1) -> events.ModelTextDelta:
    return events.ModelTextDelta(seq=seq, time=0.0, run_id=run_id, path=(run_id,), turn=turn, text=text)


def progress(seq: int) -> events.ToolProgress:
    return events.ToolProgress(seq=seq, time=0.0, run_id="r", path=("r",), call_id="c", tool="t", progress=seq)


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
        log.publish(progress(seq))
    log.publish(text(1001, "a", turn=1))
    log.publish(text(1002, "b", turn=2))
    log.publish(progress(1003))
    log.end(None)
    tail = (await read_all(reader))[DELTA_BOUND:]
    assert [(type(event).__name__, event.seq) for event in tail] == [("EventsDropped", 1002), ("ToolProgress", 1003)]
    assert tail[0].count == 2


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
