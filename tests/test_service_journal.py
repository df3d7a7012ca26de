"""The service on a journal that outlives it: what is over stays readable, and what is not goes on at the next start."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, RunContext, System, tool
from greenroom.providers import ModelRequest, Scripted, call
from greenroom.service import Origin, Service
from greenroom.testing import backend

from .asgi import Asgi, frames

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Time jumps where nothing else can go on."""
    return backend(request.param)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "runs.db")


async def think(_: ModelRequest) -> str:
    """A model that takes its time."""
    await anyio.sleep(100)
    return "I have thought."


@tool(replay="safe")
async def look(context: RunContext[str]) -> str:
    """Look."""
    await anyio.sleep(50)
    return f"seen by {context.deps}"


def helper(*lines: Any, name: str = "helper") -> Agent[Any, str]:
    return Agent(name, Scripted(*(lines or ["Hello, you."] * 99)), tools=[look])


@asynccontextmanager
async def serving(file: str, *agents: Agent[Any, str], **options: Any) -> AsyncIterator[Asgi]:
    """One life of the service on this file, and a client of it."""
    async with Service(agents or [helper()], system=System(journal=file), **options) as service:
        yield Asgi(service)


async def ended(client: Asgi, run_id: str) -> dict[str, Any]:
    """A run, once it has ended."""
    await client.get(f"/runs/{run_id}/events")
    return (await client.get(f"/runs/{run_id}")).json


async def test_runs_of_a_former_life_stay_readable(file: str) -> None:
    """As they were, with their conversation and their end as an event."""
    asked = {"prompt": "Hi", "tags": ["t"], "metadata": {"a": 1}, "user_id": "u", "run_id": "one"}
    async with serving(file) as client:
        before = (await client.post("/runs?wait=9", asked, idempotency_key="k")).json
        said = (await client.get("/runs/one/messages")).json
    async with serving(file) as client:
        after = (await client.get("/runs/one")).json
        assert {**after, "started_at": "", "ended_at": ""} == {**before, "started_at": "", "ended_at": ""}
        assert (await client.get("/runs/one/messages")).json == said
        assert [each["id"] for each in (await client.get("/runs?status=completed")).json["runs"]] == ["one"]
        [event] = frames((await client.get("/runs/one/events", last_event_id="000000.5")).body)
        told = json.loads(event["data"])
        assert (event["event"], told["text"], told["run_id"]) == ("run.completed", "Hello, you.", "one")
        for known in ({"last_event_id": event["id"]}, {"last_event_id": "000000.end"}):
            assert (await client.get("/runs/one/events", **known)).status == 204  # else a browser asks for ever
        assert (await client.get(f"/runs/one/events?since={event['id']}")).status == 204
        for other in (f"{client.app.era}.1", "1", "000000.1"):
            assert (await client.get("/runs/one/events", last_event_id=other)).status == 200
        [line] = (await client.get("/runs/one/events", accept="application/x-ndjson")).body.splitlines()
        assert json.loads(line) == told
        for target, body in (("messages", {"message": "a"}), ("pause", None), ("approvals/c", {"approved": True})):
            answer = await client.post(f"/runs/one/{target}", body)
            assert (answer.status, answer.error[0]) == (409, "run_ended")
        stopped = await client.post("/runs/one/stop")
        assert (stopped.status, stopped.json) == (200, after)
        again = await client.post("/runs", {"prompt": "Hi", "run_id": "one"})
        assert (again.status, again.error) == (409, ("run_exists", "run_id"))


async def test_what_is_unfinished_goes_on(file: str) -> None:
    """Drained in one life, recovered in the next, with what its tools depend on; who follows it follows on."""
    asked = {"prompt": "Hi", "user_id": "ann", "metadata": {"a": 1}, "stream": True, "run_id": "one"}

    def deps_for(origin: Origin) -> str:
        assert dict(origin.metadata) == {"a": 1}
        return origin.user_id or ""

    async with serving(file, helper([call("look")], think), deps_for=deps_for) as client:
        async with client.stream("POST", "/runs", asked, idempotency_key="k") as stream:
            await anyio.sleep(1)
            async with anyio.create_task_group() as group:
                group.start_soon(client.app.system.drain, 1_000)
                found = frames(await stream.rest())
        assert found[-1]["event"] == "run.stopped"
        assert (await client.get("/runs/one")).json["status"] == "stopped"
    async with serving(file, helper("I have looked."), deps_for=deps_for) as client:
        view = (await client.get("/runs/one")).json
        assert (view["status"], view["user_id"], view["metadata"]) == ("running", "ann", {"a": 1})
        again = await client.post("/runs", asked, idempotency_key="k")
        assert again.status == 200
        rest = frames(again.body)
        assert [rest[0]["event"], rest[-1]["event"]] == ["run.recovered", "run.completed"]
        after = frames((await client.get("/runs/one/events", last_event_id=found[-1]["id"])).body)
        assert [each["id"] for each in after] == [each["id"] for each in rest if "delta" not in each["event"]]
        said = (await client.get("/runs/one/messages")).json["messages"]
    assert said[2]["parts"][0]["content"] == "seen by ann"


async def test_a_run_that_nobody_works_on(file: str) -> None:
    """It has not ended, but its agent is not here: that is said, and nothing is done to it."""
    async with serving(file, helper(think, name="gone")) as client:
        await client.post("/runs", {"prompt": "Hi", "run_id": "one"})
        await client.app.system.drain(0)
    async with serving(file, helper()) as client:
        assert (await client.get("/runs/one")).json["status"] == "suspended"
        for method, target, body in (
            ("GET", "events", None),
            ("POST", "stop", None),
            ("POST", "messages", {"message": "a"}),
            ("POST", "answers/q", {"text": "a"}),
        ):
            answer = await client.ask(method, f"/runs/one/{target}", body)
            assert (answer.status, answer.error[0]) == (409, "not_at_work")


async def test_recovery_can_be_left_to_others(file: str) -> None:
    async with serving(file, helper(think)) as client:
        await client.post("/runs", {"prompt": "Hi", "run_id": "one"})
        await client.app.system.drain(0)
    async with serving(file, recover=False) as client:
        assert (await client.get("/runs/one")).json["status"] == "suspended"
    async with System(journal=file) as system, Service(helper(), system=system) as service:
        assert (await Asgi(service).get("/runs/one")).json["status"] == "suspended"


@pytest.mark.parametrize("conversation", [None, "c1"])
async def test_a_key_is_known_in_the_next_life(file: str, conversation: str | None) -> None:
    """The run that it has started is the answer, however long ago that was; another request is refused."""
    asked: dict[str, Any] = {"prompt": "Hi", "conversation_id": conversation}
    async with serving(file) as client:
        first = (await client.post("/runs?wait=9", asked, idempotency_key="k")).json
        await client.post("/runs?wait=9", asked)
    async with serving(file) as client:
        again = await client.post("/runs", asked, idempotency_key="k")
        assert (again.status, again.json["id"], again.json["output"]) == (200, first["id"], "Hello, you.")
        assert again.headers["idempotent-replayed"] == "true"
        other = await client.post("/runs", {**asked, "prompt": "Ho"}, idempotency_key="k")
        assert (other.status, other.error[0]) == (422, "key_reused")
        assert len((await client.get("/runs")).json["runs"]) == 2
        new = await client.post("/runs?wait=9", asked, idempotency_key="other")
        assert new.status == 201


async def test_a_key_that_is_sent_many_times_at_once(file: str) -> None:
    """While the first request is being written down, the others wait for it."""
    async with serving(file) as client:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await client.post("/runs", {"prompt": "Hi"}, idempotency_key="k")).status)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask)
        assert sorted(statuses) == [200] * 9 + [201]
        assert len((await client.get("/runs")).json["runs"]) == 1


async def test_a_key_that_is_sent_to_two_servers_at_once(file: str) -> None:
    """One of them starts the run, and both give it; another service on the file has agents of its own."""
    async with serving(file) as one, serving(file) as two, serving(file, helper(name="other")) as other:
        answers: list[Any] = []

        async def ask(client: Asgi) -> None:
            answers.append(await client.post("/runs", {"prompt": "Hi"}, idempotency_key="k"))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, one)
            group.start_soon(ask, two)
        assert sorted(each.status for each in answers) == [200, 201]
        assert answers[0].json["id"] == answers[1].json["id"]
        refused = await other.post("/runs", {"prompt": "Hi"}, idempotency_key="k")
        assert (refused.status, refused.error) == (422, ("key_reused", "Idempotency-Key"))


async def test_a_subagent_is_a_part_of_its_run(file: str) -> None:
    """It can be read; who wants to follow it or to reach into it is told which run to turn to."""
    boss = Agent("boss", Scripted([call("helper", prompt="Go")], "Done."), tools=[helper(think)])
    async with serving(file, boss) as client:
        run = (await client.post("/runs?wait=1", {"prompt": "Hi"})).json["id"]
        [tool_node] = (await client.get(f"/runs/{run}/tree")).json["children"]
        [below] = [each["name"] for each in tool_node["children"]]
        assert (await client.get(f"/runs/{below}")).json["parent_id"] == run
        for answer in (await client.get(f"/runs/{below}/events"), await client.post(f"/runs/{below}/stop")):
            assert (answer.status, answer.error[0]) == (409, "not_at_work")
            assert f"is a part of run {run!r}" in answer.json["error"]["message"]
        assert (await ended(client, run))["status"] == "completed"
        done = (await client.get(f"/runs/{below}")).json
        assert (done["status"], done["output"]) == ("completed", "I have thought.")


async def test_a_conversation_goes_on(file: str) -> None:
    """In the next life too. While its last run is at work, another one is refused."""
    model = Scripted("Two.", think)
    asked = {"prompt": "A", "conversation_id": "c/1"}
    async with serving(file, helper("One.")) as client:
        first = (await client.post("/runs?wait=9", asked)).json
    async with serving(file, Agent("helper", model)) as client:
        second = (await client.post("/runs?wait=9", {**asked, "prompt": "B"})).json
        third = await client.post("/runs", {**asked, "prompt": "C"})
        busy = await client.post("/runs", {**asked, "prompt": "D"})
        assert (busy.status, busy.error) == (409, ("conversation_busy", "conversation_id"))
        assert (await client.get(third.headers["location"])).json["id"] == third.json["id"]
    assert [message.text for message in model.requests[0].messages] == ["A", "One.", "B"]
    assert len({first["id"], second["id"], third.json["id"]}) == 3


async def test_the_list_of_a_file(file: str) -> None:
    """Page by page, over lives; subagents are not in it, and what cannot be read does not hide the rest."""
    boss = Agent("boss", Scripted([call("helper", prompt="Go")], "Done."), tools=[helper()])
    async with serving(file, boss, helper()) as client:
        ids = [(await client.post("/runs?wait=9", {"prompt": "Hi", "agent": "boss"})).json["id"]]
        for _ in range(5):
            ids.append((await client.post("/runs?wait=9", {"prompt": "Hi", "agent": "helper"})).json["id"])
    async with serving(file, boss, helper(*["Hello."] * 9)) as client:
        for _ in range(2):
            ids.append((await client.post("/runs?wait=9", {"prompt": "Hi", "agent": "helper"})).json["id"])
        seen: list[str] = []
        cursor = None
        while cursor is not None or not seen:
            page = (await client.get("/runs?limit=3" + (f"&cursor={cursor}" if cursor else ""))).json
            assert len(page["runs"]) <= 3
            seen += [run["id"] for run in page["runs"]]
            cursor = page["cursor"]
        assert seen == ids[::-1]
        assert [each["id"] for each in (await client.get("/runs?agent=boss")).json["runs"]] == [ids[0]]


async def test_a_run_that_is_damaged(file: str) -> None:
    """It is listed as what it is, and hides no other; to look at it says that it cannot be read."""
    async with serving(file) as client:
        ids = [(await client.post("/runs?wait=9", {"prompt": "Hi"})).json["id"] for _ in range(3)]
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute(
        "UPDATE entries SET bytes = x'00' WHERE sequence = 1 AND run = (SELECT number FROM runs WHERE id = ?)", [ids[1]]
    )
    connection.close()
    async with serving(file) as client:
        listed = (await client.get("/runs")).json["runs"]
        assert [(each["id"], each["status"]) for each in listed] == [
            (ids[2], "completed"),
            (ids[1], "damaged"),
            (ids[0], "completed"),
        ]
        for target in ("", "/messages", "/events"):
            answer = await client.get(f"/runs/{ids[1]}{target}")
            assert (answer.status, answer.error[0]) == (500, "damaged")
            assert file not in answer.body.decode()
