"""Following a run over HTTP: its events in both forms, coming back, slow readers, and clients that go away."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, RunContext, tool
from greenroom.agents.readers import DELTA_BOUND, KEPT, READER_BOUND
from greenroom.providers import InvalidRequest, ModelRequest, Scripted, call
from greenroom.service import Service
from greenroom.service.event_stream import PieceStream
from greenroom.testing import backend

from .asgi import Asgi, frames

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Time jumps where nothing else can go on."""
    return backend(request.param)


async def think(_: ModelRequest) -> str:
    """A model that takes its time."""
    await anyio.sleep(100)
    return "I have thought."


@tool
async def count(context: RunContext[None], to: int) -> str:
    """Count."""
    for number in range(to):
        context.emit(number)
        if number % 100 == 0:
            await checkpoint()
    return "counted"


@asynccontextmanager
async def serving(*lines: Any, **options: Any) -> AsyncIterator[Asgi]:
    """A service of one agent, and a client of it."""
    async with Service(Agent("helper", Scripted(*(lines or ["Hello, you."] * 9)), tools=[count]), **options) as service:
        yield Asgi(service)


async def start(client: Asgi, **options: Any) -> str:
    """A run; gives its id."""
    return (await client.post("/runs", {"prompt": "Hi", **options})).json["id"]


def lines(text: bytes) -> list[dict[str, Any]]:
    """NDJSON."""
    return [json.loads(line) for line in text.splitlines() if line]


LIFE = ["run.started", "turn.started", "model.started", "model.completed", "turn.ended", "run.completed"]


# -- the two forms


async def test_server_sent_events() -> None:
    """Each has its type, its place and itself; the stream ends with the run."""
    async with serving() as client:
        answer = await client.post("/runs", {"prompt": "Hi"}, accept="text/event-stream")
        era = client.app.era
    assert answer.status == 201
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    found = frames(answer.body)
    told = [json.loads(frame["data"]) for frame in found]
    assert [frame["event"] for frame in found] == [each["type"] for each in told]
    assert [frame["id"] for frame in found] == [f"{era}.{each['seq']}" for each in told]
    assert [each["type"] for each in told if not each["type"].endswith("_delta")] == LIFE
    assert "".join(each.get("text", "") for each in told if each["type"] == "model.text_delta") == "Hello, you."


async def test_lines_of_json() -> None:
    """The same, and text from models cannot break a line."""
    async with serving("a\nb\r\n\u2028c\n\ndata: x") as client:
        answer = await client.post("/runs", {"prompt": "Hi"}, accept="application/x-ndjson")
    assert answer.headers["content-type"] == "application/x-ndjson"
    told = lines(answer.body)
    assert len(told) == answer.body.count(b"\n")
    assert told[-1]["text"] == "a\nb\r\n\u2028c\n\ndata: x"


async def test_text_from_models_cannot_forge_an_event() -> None:
    async with serving("x\n\nevent: run.failed\ndata: {}\n\n\r\rid: 7") as client:
        found = frames((await client.post("/runs", {"prompt": "Hi", "stream": True})).body)
    assert [frame["event"] for frame in found if not frame["event"].endswith("_delta")] == LIFE


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/html, Text/Event-Stream;q=0.9, */*", "text/event-stream; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/json, text/event-stream", "application/json"),
        ("*/*", "application/json"),
    ],
)
async def test_the_client_says_which_form(accept: str, form: str) -> None:
    async with serving() as client:
        assert (await client.post("/runs", {"prompt": "Hi"}, accept=accept)).headers["content-type"] == form


async def test_a_run_that_fails_ends_its_stream() -> None:
    """Its last event says why; the answer is whole."""
    async with serving(InvalidRequest("no such model")) as client:
        found = frames((await client.post("/runs", {"prompt": "Hi", "stream": True})).body)
    assert found[-1]["event"] == "run.failed"
    assert "no such model" in json.loads(found[-1]["data"])["error"]


async def test_without_deltas() -> None:
    async with serving(think) as client:
        run = await start(client)
        found = frames((await client.get(f"/runs/{run}/events?deltas=false")).body)
        assert [frame["event"] for frame in found] == LIFE
        assert (await client.get(f"/runs/{run}/events?deltas=no")).status == 422


async def test_a_look_at_the_headers_only() -> None:
    """HEAD of a stream ends at once."""
    async with serving(think) as client:
        run = await start(client)
        for target in (f"/runs/{run}/events", "/tree/events"):
            answer = await client.ask("HEAD", target)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_signs_of_life() -> None:
    """After so long a silence, and again; never between events that come."""
    async with serving(think) as client:
        run = await start(client)
        async with client.stream("GET", f"/runs/{run}/events") as stream:
            await stream.piece()
            for number in range(1, 4):
                assert await stream.piece() == b": keep-alive\n\n"
                assert anyio.current_time() == 15 * number
        async with client.stream("GET", f"/runs/{run}/events", accept="application/x-ndjson") as stream:
            await stream.piece()
            assert await stream.piece() == b"\n"


# -- coming back


async def test_coming_back_where_one_was() -> None:
    """With the id that was told last, nothing is told twice and nothing is missing."""
    async with serving(think) as client:
        run = await start(client)
        async with client.stream("GET", f"/runs/{run}/events") as stream:
            found = frames(await stream.piece())
        rest = frames((await client.get(f"/runs/{run}/events", last_event_id=found[-1]["id"])).body)
        whole = frames((await client.get(f"/runs/{run}/events")).body)
    assert [frame for frame in [*found, *rest] if "delta" not in frame["event"]] == whole
    assert [frame["event"] for frame in whole] == LIFE


async def test_where_to_go_on_from() -> None:
    """A number, an id, an id of a former process (all that there is), or none of them."""
    async with serving() as client:
        run = await start(client)
        whole = frames((await client.get(f"/runs/{run}/events")).body)
        era = client.app.era
        for query, headers, wanted in (
            ("?since=1", {}, whole[1:]),
            (f"?since={era}.1", {}, whole[1:]),
            ("?since=1", {"last_event_id": f"{era}.3"}, whole[1:]),
            ("", {"last_event_id": "abcdef.3"}, whole),
            ("", {"last_event_id": "of somebody else"}, whole),
            ("?since=0", {}, whole),
        ):
            answer = await client.get(f"/runs/{run}/events{query}", **headers)
            assert frames(answer.body) == wanted, (query, headers)
        for since in ("x", "-1", "1.5x", "9" * 20, "٣"):
            answer = await client.get(f"/runs/{run}/events?since={since}")
            assert (answer.status, answer.error[1]) == (422, "since")


async def test_nothing_more_to_come() -> None:
    """A browser that comes back for a run that is over is told to stay away."""
    async with serving() as client:
        run = await start(client)
        last = frames((await client.get(f"/runs/{run}/events")).body)[-1]
        answer = await client.get(f"/runs/{run}/events", last_event_id=last["id"])
        assert (answer.status, answer.body) == (204, b"")


async def test_a_gap_is_announced() -> None:
    """Who comes late to a long run is told how much is not kept any more."""
    async with serving([call("count", to=KEPT + 500)], "Done.") as client:
        run = await start(client)
        await client.post(f"/runs/{run}/stop?wait=100", {"mode": "after_turn"})
        told = lines((await client.get(f"/runs/{run}/events", accept="application/x-ndjson")).body)
    assert told[0]["type"] == "events.dropped"
    assert told[0]["count"] > 500
    assert len(told) == KEPT + 1
    assert [each["seq"] for each in told[1:]] == list(range(told[0]["seq"] + 1, told[0]["seq"] + 1 + KEPT))


async def test_a_slow_reader_of_an_answer() -> None:
    """Costs a bounded number of events; the answer that it reads late is whole, or says what is missing."""
    words = [f"word{number} " for number in range(5_000)]
    async with (
        serving("".join(words)) as client,
        client.stream("POST", "/runs", {"prompt": "Hi", "stream": True}) as stream,
    ):
        await anyio.wait_all_tasks_blocked()
        assert (await client.get("/runs")).json["runs"][0]["status"] == "completed"
        told = [json.loads(frame["data"]) for frame in frames(await stream.rest())]
    assert len(told) <= DELTA_BOUND + 20
    assert "".join(each["text"] for each in told if each["type"] == "model.text_delta") == "".join(words)
    assert told[-1]["type"] == "run.completed"


async def test_a_reader_that_is_too_slow_goes_on_later() -> None:
    """It is detached, follows again from where it was, and hears what is missing."""
    async with (
        serving([call("count", to=READER_BOUND + 3_000)], "Done.") as client,
        client.stream("POST", "/runs", {"prompt": "Hi", "stream": True}) as stream,
    ):
        await anyio.wait_all_tasks_blocked()
        told = [json.loads(frame["data"]) for frame in frames(await stream.rest())]
    dropped = [each for each in told if each["type"] == "events.dropped"]
    assert len(dropped) == 1
    seqs = [each["seq"] for each in told]
    assert seqs == sorted(set(seqs))
    assert told[-1]["type"] == "run.completed"


# -- clients that go away


async def test_a_run_goes_on_without_its_client() -> None:
    """As it does where nothing else is said: whoever comes back finds it."""
    async with serving(think) as client:
        async with client.stream("POST", "/runs", {"prompt": "Hi", "stream": True}) as stream:
            run = json.loads(frames(await stream.piece())[0]["data"])["run_id"]
        assert client.app.meter.streams == 0
        assert (await client.get(f"/runs/{run}")).json["status"] == "running"
        found = frames((await client.get(f"/runs/{run}/events")).body)
        assert found[-1]["event"] == "run.completed"


async def test_a_run_ends_with_its_client() -> None:
    """Where the service says so, and nobody else follows it."""
    async with serving(think, on_disconnect="stop") as client:
        async with client.stream("POST", "/runs", {"prompt": "Hi", "stream": True}) as stream:
            run = json.loads(frames(await stream.piece())[0]["data"])["run_id"]
        await client.get(f"/runs/{run}/events")
        done = (await client.get(f"/runs/{run}")).json
    assert (done["status"], done["reason"]) == ("stopped", "abandoned")
    assert anyio.current_time() == 0


async def test_a_client_that_goes_away_in_a_flood() -> None:
    """The stream ends, though it is woken at each turn of the loop and never waits when that is looked at."""
    woken, gone = anyio.Event(), anyio.Event()
    given = 0

    async def next_piece() -> bytes | None:
        nonlocal given, woken
        woken = anyio.Event()
        await woken.wait()
        given += 1
        return b"w" if given < 1_000 else None

    async def flood() -> None:
        while True:
            woken.set()
            await checkpoint()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        if given == 3:
            gone.set()

    stream = PieceStream(next_piece, media_type="text/plain", around=nullcontext())
    async with anyio.create_task_group() as group:
        group.start_soon(flood)
        await stream({"type": "http", "method": "GET"}, receive, send)
        group.cancel_scope.cancel()
    assert given < 100


async def test_a_run_ends_with_the_last_of_its_followers() -> None:
    """Not as long as anybody else follows it."""
    async with serving(think, on_disconnect="stop") as client:
        begun, leaves = anyio.Event(), anyio.Event()

        async def begin() -> None:
            async with client.stream("POST", "/runs", {"prompt": "Hi", "stream": True, "run_id": "one"}) as stream:
                await stream.piece()
                begun.set()
                await leaves.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(begin)
            await begun.wait()
            async with client.stream("GET", "/runs/one/events") as stream:
                await stream.piece()
                leaves.set()
                await anyio.sleep(5)
                assert (await client.get("/runs/one")).json["status"] == "running"
        await client.get("/runs/one/events")
        assert (await client.get("/runs/one")).json["reason"] == "abandoned"


async def test_who_only_looked_ends_nothing() -> None:
    """A run that was started without a stream belongs to nobody's connection."""
    async with serving(think, on_disconnect="stop") as client:
        run = await start(client)
        async with client.stream("GET", f"/runs/{run}/events") as stream:
            await stream.piece()
        await anyio.sleep(5)
        assert (await client.get(f"/runs/{run}")).json["status"] == "running"


async def test_a_wait_that_is_over_ends_nothing() -> None:
    """Its client has an answer, and is there."""
    async with serving(think, on_disconnect="stop") as client:
        run = (await client.post("/runs?wait=5", {"prompt": "Hi"})).json["id"]
        await anyio.sleep(1)
        assert (await client.get(f"/runs/{run}")).json["status"] == "running"


async def test_a_client_that_goes_away_while_it_waits() -> None:
    async with serving(think, on_disconnect="stop") as client:
        parts = [{"type": "http.request", "body": b'{"prompt": "Hi", "run_id": "left"}'}]

        async def receive() -> Any:
            if parts:
                return parts.pop()
            await anyio.sleep(5)
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            await checkpoint()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/runs", "query_string": b"wait=50", "headers": headers}
        await client.app(scope, receive, send)
        assert anyio.current_time() == 5
        await client.get("/runs/left/events")
        assert (await client.get("/runs/left")).json["reason"] == "abandoned"


async def test_a_send_that_fails_is_a_client_that_has_gone() -> None:
    """Newer servers say it so."""
    async with serving(think, on_disconnect="stop") as client:

        async def receive() -> Any:
            if not sent:
                return {"type": "http.request", "body": b'{"prompt": "Hi", "stream": true, "run_id": "left"}'}
            return await anyio.sleep_forever()

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                raise OSError("gone")

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/runs", "query_string": b"", "headers": headers}
        await client.app(scope, receive, send)
        assert client.app.meter.streams == 0
        await client.get("/runs/left/events")
        assert (await client.get("/runs/left")).json["reason"] == "abandoned"


@pytest.mark.parametrize("policy", ["continue", "stop"])
async def test_five_hundred_clients_of_whom_half_leave(policy: str) -> None:
    """Nothing of those who left stays, their runs follow the policy, and the others hear the end."""
    clients = 500
    async with serving(*[think] * clients, on_disconnect=policy, keep=0) as client:
        ends: list[str] = []

        async def follow(number: int) -> None:
            async with client.stream(
                "POST", "/runs", {"prompt": "Hi", "stream": True, "run_id": f"r{number}"}
            ) as stream:
                await stream.piece()
                if number % 2:
                    await anyio.sleep(10)
                    return
                ends.append(frames(await stream.rest())[-1]["event"])

        async with anyio.create_task_group() as group:
            for number in range(clients):
                group.start_soon(follow, number)
            await anyio.sleep(50)
            assert client.app.meter.streams == clients // 2
            at_work = len(client.app.system.pool)
            assert at_work == (clients if policy == "continue" else clients // 2)
        assert ends == ["run.completed"] * (clients // 2)
        assert client.app.meter.streams == 0
        await client.get("/metrics")
        stopped = client.app.meter.ended["helper", "stopped"]
        assert stopped == (0 if policy == "continue" else clients // 2)
        cells = [weakref.ref(each.run._cell) for each in client.app.known]
        await start(client, run_id="last")  # which has the others let go of
        gc.collect()
        assert sum(cell() is not None for cell in cells) <= 1
