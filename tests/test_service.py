"""The service: what each of its addresses does, on both backends, called as an ASGI application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from greenroom import Agent, Limits, RunContext, System, tool
from greenroom.providers import InvalidRequest, ModelRequest, Scripted, ToolCall, call
from greenroom.service import Origin, Service
from greenroom.testing import Interruption, backend, interrupt_everywhere

from .asgi import Answered, Asgi, frames
from .openai_exchange import Trickle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Time jumps where nothing else can go on."""
    return backend(request.param)


async def think(request: ModelRequest) -> str:
    """A model that takes its time."""
    await anyio.sleep(100)
    return "I have thought."


class Opening:
    """What opens a connection."""

    async def __call__(self, _: Origin) -> str:
        return "a connection"


def helper(*lines: Any, name: str = "helper", **options: Any) -> Agent[Any, Any]:
    return Agent(name, Scripted(*(lines or ["Hello, you."] * 9)), **options)


@asynccontextmanager
async def serving(*agents: Agent[Any, Any], **options: Any) -> AsyncIterator[Asgi]:
    """A service that is open, and a client of it."""
    async with Service(list(agents) or [helper()], **options) as service:
        yield Asgi(service)


async def ended(client: Asgi, run_id: str) -> dict[str, Any]:
    """A run, once it has ended."""
    await client.get(f"/runs/{run_id}/events")
    return (await client.get(f"/runs/{run_id}")).json


# -- starting


async def test_a_run_is_started_and_read() -> None:
    async with serving() as client:
        answer = await client.post("/runs", {"prompt": "Hi", "metadata": {"a": [1]}, "tags": ["t"], "user_id": "u"})
        assert answer.status == 201
        run = answer.json
        assert answer.headers["location"] == f"/runs/{run['id']}"
        assert (run["status"], run["agent"], run["output"], run["ended_at"]) == ("running", "helper", None, None)
        done = await ended(client, run["id"])
    assert (done["status"], done["reason"], done["output"], done["turn"]) == ("completed", "answered", "Hello, you.", 1)
    assert (done["metadata"], done["tags"], done["user_id"]) == ({"a": [1]}, ["t"], "u")
    assert done["ended_at"] >= done["started_at"]


async def test_a_run_that_is_waited_for() -> None:
    """For its end; or as long as was said, and then it goes on."""
    async with serving(helper(think, "Short.")) as client:
        short = (await client.post("/runs?wait=10", {"prompt": "Hi"})).json
        assert anyio.current_time() == 10
        assert short["status"] == "running"
        done = (await client.post("/runs?wait=10", {"prompt": "Hi"})).json
        assert (done["status"], done["output"]) == ("completed", "Short.")
        assert (await ended(client, short["id"]))["output"] == "I have thought."


async def test_a_run_that_fails() -> None:
    """It was started all the same; its end says what went wrong."""
    async with serving(helper(InvalidRequest("no such model"))) as client:
        answer = await client.post("/runs?wait=10", {"prompt": "Hi"})
    assert answer.status == 201
    assert (answer.json["status"], answer.json["output"]) == ("failed", None)
    assert "no such model" in answer.json["error"]


class Place(msgspec.Struct):
    """A place."""

    name: str


async def test_a_typed_answer() -> None:
    async with serving(helper('{"name": "Rome"}', output=Place)) as client:
        run = (await client.post("/runs?wait=10", {"prompt": "Where?"})).json
        [agent] = (await client.get("/agents")).json["agents"]
    assert run["output"] == {"name": "Rome"}
    assert agent["output_schema"]["properties"]["name"] == {"type": "string"}


async def test_messages_are_taken_in_both_shapes_and_given_back() -> None:
    model = Scripted("First.", "Second.")
    async with serving(Agent("helper", model)) as client:
        asked = [
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": "C"},
        ]
        run = (await client.post("/runs?wait=10", {"messages": asked})).json
        kept = (await client.get(f"/runs/{run['id']}/messages")).json["messages"]
        assert [message["role"] for message in kept] == ["user", "assistant", "user", "assistant"]
        await client.post("/runs?wait=10", {"messages": [*kept, {"role": "user", "content": "D"}]})
    assert [message.text for message in model.requests[1].messages] == ["A", "B", "C", "First.", "D"]


async def test_messages_of_a_run_at_work() -> None:
    async with serving(helper(think)) as client:
        run = (await client.post("/runs", {"prompt": "Hi"})).json
        [message] = (await client.get(f"/runs/{run['id']}/messages")).json["messages"]
    assert message["parts"] == [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 422, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, 422, "prompt"),
        ({"prompt": ""}, 422, "prompt"),
        ({"prompt": 1}, 422, "prompt"),
        ({"prompt": "a", "agent": "nobody"}, 404, "agent"),
        ({"prompt": "a", "agnt": "helper"}, 422, "agnt"),
        ({"prompt": "a", "run_id": "../x"}, 422, "run_id"),
        ({"prompt": "a", "run_id": "x\n"}, 422, "run_id"),
        ({"prompt": "a", "limits": {"turns": -1}}, 422, "limits.turns"),
        ({"prompt": "a", "limits": {"turn": 1}}, 422, "limits.turn"),
        ({"prompt": "a", "metadata": {"greenroom.key": 1}}, 422, "metadata"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "user"}]}, 422, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "a"}]}, 422, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": "a", "parts": [{"type": "text", "text": "b"}]}]},
            422,
            "messages[0]",
        ),
        (b"{", 400, None),
        (b"\xff", 400, None),
        (b'{"prompt": "a", "metadata": {"a": ' + b"[" * 100_000, 400, None),
        (b'{"prompt": "a", "metadata": {"a": ' + b'[{"]\\"}":' * 40 + b"1" + b"}]" * 40 + b"}}", 400, None),
        (b'"\\ud800"', 400, None),
        (b"1", 422, None),
    ],
)
async def test_what_cannot_be_started(body: Any, status: int, param: str | None) -> None:
    """The answer names the field, and nothing is started."""
    async with serving() as client:
        answer = await client.post("/runs", body)
        assert (answer.status, answer.error[1]) == (status, param), answer
        assert (await client.get("/runs")).json["runs"] == []


async def test_a_body_is_no_deeper_than_it_can_be_read_again() -> None:
    """Brackets in its texts are none, and neither are those beside each other."""
    async with serving() as client:
        given: list[Any] = [{"a": "[{" * 500}, {"a": [[{}]] * 500}, {'"[': "\\"}]
        for metadata in given:
            assert (await client.post("/runs?wait=9", {"prompt": "a", "metadata": metadata})).status == 201
        coded = await client.post("/runs", {"prompt": "a"}, content_encoding="gzip")
        assert (coded.status, coded.error) == (415, ("unsupported_media_type", "Content-Encoding"))


@pytest.mark.parametrize("wait", ["", "-1", "nan", "inf", "1e9", "1_0", "\u0663", " 1", "1.1.1", "1" * 40])
async def test_a_wait_that_is_none(wait: str) -> None:
    async with serving() as client:
        answer = await client.post(f"/runs?wait={quote(wait)}", {"prompt": "a"})
        assert (answer.status, answer.error[1]) == (422, "wait")


async def test_a_parameter_that_nobody_knows_is_named() -> None:
    """Instead of being left out of account: a misspelt `wait` would not wait."""
    async with serving() as client:
        answer = await client.post("/runs?wiat=5", {"prompt": "a"})
        assert (answer.status, answer.error) == (422, ("invalid_request", "wiat"))
        assert "it takes wait" in answer.body.decode()
        assert (await client.get("/health?verbose=1")).status == 422


async def test_half_a_character() -> None:
    """Of a model that gives one: its run can be followed to its end, and the list be read."""
    async with serving(helper("a\ud800b \ud83d\ude00", "c\udfff")) as client:
        answer = await client.post("/runs", {"prompt": "Hi", "stream": True})
        [end] = [json.loads(each["data"]) for each in frames(answer.body) if each["event"] == "run.completed"]
        assert end["text"] == "a\ufffdb \U0001f600"
        assert (await client.post("/runs?wait=9", {"prompt": "Hi"})).json["output"] == "c\ufffd"
        listed = (await client.get("/runs")).json["runs"]
    assert [each["text"] for each in listed] == ["c\ufffd", "a\ufffdb \U0001f600"]


async def test_an_answer_as_far_as_it_has_come() -> None:
    """Where somebody follows it: the text so far, and the pieces behind its number, are the answer."""
    answer = "One two three, and so on."
    asked = {"prompt": "Hi", "run_id": "one"}
    async with serving(Agent("helper", Trickle([answer[:8], 10.0, answer[8:]]))) as client:
        async with client.stream("POST", "/runs", asked, accept="text/event-stream") as stream:
            await stream.until("model.text_delta")
            run = (await client.get("/runs/one")).json
            assert run["text"] == answer[:8]
            assert (await client.get("/runs")).json["runs"] == [run]
            late = [json.loads(frame["data"]) for frame in frames(await stream.rest())]
        pieces = [each["text"] for each in late if each["type"] == "model.text_delta" and each["seq"] > run["seq"]]
        assert run["text"] + "".join(pieces) == answer
        assert min(each["seq"] for each in late) == run["seq"] + 1
        done = (await client.get("/runs/one")).json
    assert (done["text"], done["seq"]) == (answer, None)


async def test_which_agent() -> None:
    async with serving(helper(name="a"), helper(name="b")) as client:
        unknown = await client.post("/runs", {"prompt": "Hi", "agent": "c"})
        assert (unknown.status, unknown.error) == (404, ("not_found", "agent"))
        assert unknown.json["error"]["message"] == "there is no agent 'c', only: a, b"
        answer = await client.post("/runs", {"prompt": "Hi"})
        assert (answer.status, answer.error) == (422, ("invalid_request", "agent"))
        assert (await client.post("/runs", {"prompt": "Hi", "agent": "b"})).json["agent"] == "b"
        assert [each["name"] for each in (await client.get("/agents")).json["agents"]] == ["a", "b"]


async def test_limits_can_only_be_lowered() -> None:
    """A client's bound counts where it is the lower one, and the agent's otherwise."""
    agent = helper(*[[call("look")]] * 9, tools=[look], limits=Limits(turns=3), stuck_after=None)
    async with serving(agent) as client:
        for asked, turns in ((1, 1), (100, 3)):
            run = (await client.post("/runs?wait=10", {"prompt": "Hi", "limits": {"turns": asked}})).json
            assert (run["status"], run["reason"], run["turn"]) == ("limited", "turns", turns)


async def look() -> str:
    """Look."""
    return "seen"


async def test_what_tools_depend_on() -> None:
    """A function says it, of whom the run works for."""
    told: list[Origin] = []

    def deps_for(origin: Origin) -> str:
        told.append(origin)
        return f"the key of {origin.user_id}"

    @tool
    async def show(context: RunContext[str]) -> str:
        """Show."""
        return context.deps

    agent = helper([call("show")], "Done.", tools=[show])
    async with serving(agent, deps_for=deps_for) as client:
        asked = {"prompt": "Hi", "user_id": "ann", "metadata": {"plan": "pro"}}
        run = (await client.post("/runs?wait=10", asked, idempotency_key="k")).json
        said = (await client.get(f"/runs/{run['id']}/messages")).json["messages"]
    assert said[2]["parts"][0]["content"] == "the key of ann"
    assert [(each.agent, each.user_id, dict(each.metadata)) for each in told] == [("helper", "ann", {"plan": "pro"})]


async def test_a_full_system_is_busy() -> None:
    system = System(max_running=1, max_queued=0)
    async with serving(helper(think), system=system) as client:
        assert (await client.post("/runs", {"prompt": "Hi"})).status == 201
        answer = await client.post("/runs", {"prompt": "Hi"})
    assert (answer.status, answer.error[0], answer.headers["retry-after"]) == (503, "busy", "1")


async def test_a_draining_service_starts_nothing() -> None:
    """And says so; what is there can be looked at, and runs come to their end."""
    async with serving(helper(think)) as client:
        run = (await client.post("/runs", {"prompt": "Hi"})).json
        assert (await client.get("/ready")).status == 200
        async with anyio.create_task_group() as group:
            group.start_soon(client.app.system.drain, 1_000)
            await anyio.sleep(1)
            for answer in (await client.post("/runs", {"prompt": "Hi"}), await client.get("/ready")):
                assert (answer.status, answer.error[0]) == (503, "draining")
                assert answer.headers["retry-after"] == "5"
            assert (await client.get("/health")).status == 200
            assert "greenroom_draining 1" in (await client.get("/metrics")).body.decode()
            assert (await client.get(f"/runs/{run['id']}")).json["status"] == "running"
        assert (await client.get(f"/runs/{run['id']}")).json["output"] == "I have thought."


async def test_a_system_that_requires_users() -> None:
    async with serving(system=System(require=["user_id"])) as client:
        answer = await client.post("/runs", {"prompt": "Hi"})
        assert (answer.status, answer.error[1]) == (422, "user_id")
        assert (await client.post("/runs", {"prompt": "Hi", "user_id": "u"})).status == 201


async def test_a_conversation_is_busy() -> None:
    async with serving(helper(think, "Next."), system=System()) as client:
        asked = {"prompt": "Hi", "run_id": "one"}
        assert (await client.post("/runs", asked)).status == 201
        again = await client.post("/runs", asked)
        assert (again.status, again.error) == (409, ("run_exists", "run_id"))


# -- a key


async def test_the_same_key_is_the_same_run() -> None:
    """However often it is sent, one after the other or at once; with another body it is refused."""
    async with serving() as client:
        answers: list[Answered] = []

        async def ask() -> None:
            answers.append(await client.post("/runs", {"prompt": "Hi"}, idempotency_key="k1"))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
        assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
        assert {answer.json["id"] for answer in answers} == {answers[0].json["id"]}
        assert {answer.headers["location"] for answer in answers} == {answers[0].headers["location"]}
        assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
        other = await client.post("/runs", {"prompt": "Ho"}, idempotency_key="k1")
        assert (other.status, other.error) == (422, ("key_reused", "Idempotency-Key"))
        assert (await client.post("/runs", {"prompt": "Hi"}, idempotency_key="k2")).status == 201
        assert len((await client.get("/runs")).json["runs"]) == 2
        assert (await client.post("/runs", {"prompt": "Hi"}, idempotency_key="k" * 257)).status == 400
        assert client.app.beginning == {}


async def test_a_key_whose_start_failed_can_be_used_again() -> None:
    system = System(max_running=1, max_queued=0)
    async with serving(helper(think, "Then."), system=system) as client:
        first = (await client.post("/runs", {"prompt": "Hi"})).json
        assert (await client.post("/runs", {"prompt": "Ho"}, idempotency_key="k")).status == 503
        await ended(client, first["id"])
        assert (await client.post("/runs", {"prompt": "Ho"}, idempotency_key="k")).status == 201


async def test_a_stream_with_a_key_that_was_used() -> None:
    """The events of the run that there is, from the first one on."""
    async with serving() as client:
        first = await client.post("/runs", {"prompt": "Hi", "stream": True}, idempotency_key="k")
        again = await client.post("/runs", {"prompt": "Hi", "stream": True}, idempotency_key="k")
    assert (first.status, again.status) == (201, 200)
    ids = [[frame["id"] for frame in frames(answer.body) if "delta" not in frame["event"]] for answer in (first, again)]
    assert ids[0] == ids[1]


# -- looking


async def test_the_list() -> None:
    """Youngest first, in pages, by agent and status; each run once."""
    async with serving(helper(name="a"), helper(think, name="b")) as client:
        ids = [(await client.post("/runs?wait=1", {"prompt": "Hi", "agent": "a"})).json["id"] for _ in range(5)]
        ids.append((await client.post("/runs", {"prompt": "Hi", "agent": "b"})).json["id"])
        seen: list[str] = []
        target = "/runs?limit=2"
        pages = 0
        while target:
            page = (await client.get(target)).json
            seen += [run["id"] for run in page["runs"]]
            target = f"/runs?limit=2&cursor={page['cursor']}" if page["cursor"] else ""
            pages += 1
        assert (seen, pages) == (ids[::-1], 3)
        for query, wanted in (("agent=b", [ids[5]]), ("status=running", [ids[5]]), ("agent=a&status=running", [])):
            assert [run["id"] for run in (await client.get(f"/runs?{query}")).json["runs"]] == wanted
        for query, param in (
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("status=x", "status"),
            ("cursor=x", "cursor"),
        ):
            answer = await client.get(f"/runs?{query}")
            assert (answer.status, answer.error[1]) == (422, param)


async def test_runs_that_others_started_are_there_too() -> None:
    """Those at work in the System, however they came there."""
    async with System() as system, serving(helper(think), system=system) as client:
        run = await system.start(client.app.agent("helper"), "Hi", run_id="mine")
        assert [each["id"] for each in (await client.get("/runs")).json["runs"]] == ["mine"]
        assert (await client.post("/runs/mine/stop?wait=9")).json["status"] == "stopped"
        await run.result()
        assert (await client.get("/runs/mine")).json["status"] == "stopped"
    assert not system.is_open


async def test_only_the_last_runs_are_kept() -> None:
    """Those that are over; one at work is never let go."""
    async with serving(helper(think, *["Hello."] * 99), keep=3) as client:
        slow = (await client.post("/runs", {"prompt": "Hi"})).json["id"]
        ids = [
            (await client.post("/runs?wait=1", {"prompt": "Hi"}, idempotency_key=str(each))).json["id"]
            for each in range(20)
        ]
        found = [each for each in ids if (await client.get(f"/runs/{each}")).status == 200]
        assert ids[-3:] == found[-3:]
        assert len(found) <= 5
        assert (await client.get(f"/runs/{slow}")).json["status"] == "running"
        gone = await client.get(f"/runs/{ids[0]}")
        assert (gone.status, gone.error) == (404, ("not_found", "run_id"))
        assert len(client.app.known) <= 6


async def test_the_tree() -> None:
    async with serving(helper(think)) as client:
        run = (await client.post("/runs", {"prompt": "Hi"})).json
        await anyio.sleep(1)
        tree = (await client.get("/tree")).json
        [child] = tree["children"]
        assert (tree["kind"], child["name"], child["kind"], child["detail"]["agent"]) == (
            "system",
            run["id"],
            "run",
            "helper",
        )
        assert (await client.get(f"/runs/{run['id']}/tree")).json["name"] == run["id"]
        missing = await client.get("/runs/nobody/tree")
        assert (missing.status, missing.error[1]) == (404, "run_id")


async def test_metrics() -> None:
    async with serving(helper("One.", InvalidRequest("no"), think, name='a "b"\\')) as client:
        for _ in range(2):
            await client.post("/runs?wait=9", {"prompt": "Hi"})
        async with client.stream("POST", "/runs", {"prompt": "Hi", "stream": True}):
            text = (await client.get("/metrics")).body.decode()
    lines = text.split("\n")
    label = r'agent="a \"b\"\\"'
    assert lines[-2:] == ["# EOF", ""]
    for line in (
        "greenroom_runs 1",
        "greenroom_streams 1",
        f"greenroom_runs_started_total{{{label}}} 3",
        f'greenroom_runs_ended_total{{{label},status="completed"}} 1',
        f'greenroom_runs_ended_total{{{label},status="failed"}} 1',
        'greenroom_http_answers_total{method="POST",status="2xx"} 2',
    ):
        assert line in lines, text
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


async def test_methods_that_are_made_up_are_counted_together() -> None:
    """Also those of requests that are refused: a client must not make series without end."""
    async with serving() as client:
        for number in range(3):
            await client.ask(f"MADE{number}", "/runs", host="evil.example" if number else "localhost")
        text = (await client.get("/metrics")).body.decode()
    assert 'greenroom_http_answers_total{method="other",status="4xx"} 3\n' in text
    assert "MADE" not in text


# -- reaching in


async def test_a_message_is_sent() -> None:
    model = Scripted(think, "Second.")
    async with serving(Agent("helper", model)) as client:
        run = (await client.post("/runs", {"prompt": "Hi"})).json
        answer = await client.post(f"/runs/{run['id']}/messages", {"message": "More.", "when": "idle"})
        assert (answer.status, answer.json) == (202, {"run_id": run["id"], "message_id": "1"})
        assert (await ended(client, run["id"]))["output"] == "Second."
        late = await client.post(f"/runs/{run['id']}/messages", {"message": "Late."})
        assert (late.status, late.error[0]) == (409, "run_ended")
    assert [message.text for message in model.requests[1].messages] == ["Hi", "I have thought.", "More."]


async def test_a_run_is_stopped() -> None:
    """Once, however often it is asked for; what it said of why is kept."""
    async with serving(helper(think)) as client:
        run = (await client.post("/runs", {"prompt": "Hi"})).json
        asked = await client.post(f"/runs/{run['id']}/stop", {"reason": "too slow", "mode": "now"})
        assert (asked.status, asked.json["status"]) == (202, "running")
        done = await ended(client, run["id"])
        assert (done["status"], done["reason"]) == ("stopped", "too slow")
        again = await client.post(f"/runs/{run['id']}/stop")
        assert (again.status, again.json) == (200, done)
    assert anyio.current_time() == 0


async def test_a_call_is_approved_or_refused() -> None:
    """With its final arguments in sight; an answer that comes too late is told so."""
    did: list[str] = []

    @tool(needs_approval=True)
    async def remove(path: str) -> str:
        """Remove."""
        did.append(path)
        return "removed"

    agent = helper([call("remove", path="a")], "One.", [call("remove", path="b")], "Two.", tools=[remove])
    async with serving(agent) as client:
        for path, body in (("a", {"approved": True}), ("b", {"approved": False, "reason": "keep it"})):
            run = (await client.post("/runs", {"prompt": "Go"})).json["id"]
            async with client.stream("GET", f"/runs/{run}/events") as stream:
                await stream.until("approval.requested")
            [pending] = (await client.get(f"/runs/{run}")).json["pending"]
            assert (pending["tool"], pending["arguments"], pending["run_id"]) == ("remove", {"path": path}, run)
            target = f"/runs/{run}/approvals/{pending['call_id']}"
            assert (await client.post(f"/runs/{run}/approvals/nix", body)).error == ("not_waiting", "call_id")
            late = {**body, "turn": pending["turn"] + 1}
            assert (await client.post(target, late)).error == ("not_waiting", "call_id")
            body = {**body, "turn": pending["turn"]}
            assert (await client.post(target, body)).status == 202
            assert (await ended(client, run))["status"] == "completed"
            late = await client.post(target, body)
            assert (late.status, late.error[0]) == (409, "run_ended")
        said = (await client.get(f"/runs/{run}/messages")).json["messages"]
    assert did == ["a"]
    assert said[2]["parts"][0]["content"] == "denied: keep it"


async def test_a_call_whose_id_has_a_slash() -> None:
    """Ids are the provider's."""

    @tool(needs_approval=True)
    async def remove() -> str:
        """Remove."""
        return "removed"

    asked = ToolCall("a/b c?%2F", "remove", {}, "{}")
    async with serving(helper([asked], "Done.", tools=[remove])) as client:
        await client.post("/runs?wait=1", {"prompt": "Go", "run_id": "one"})
        answer = await client.post(f"/runs/one/approvals/{quote('a/b c?%2F', safe='')}", {"approved": True})
        assert answer.status == 202
        assert (await ended(client, "one"))["output"] == "Done."


async def test_a_question_is_answered() -> None:
    @tool
    async def ask(context: RunContext[None]) -> str:
        """Ask."""
        return await context.ask_user("Which?")

    async with serving(helper([call("ask")], "Fine.", tools=[ask])) as client:
        run = (await client.post("/runs", {"prompt": "Go"})).json["id"]
        async with client.stream("GET", f"/runs/{run}/events") as stream:
            await stream.until("message.asked")
        [question] = (await client.get(f"/runs/{run}")).json["questions"]
        assert question["question"] == "Which?"
        nix = await client.post(f"/runs/{run}/answers/nix", {"text": "This."})
        assert (nix.status, nix.error) == (409, ("not_waiting", "question_id"))
        answer = await client.post(f"/runs/{run}/answers/{question['question_id']}", {"text": "This."})
        assert (answer.status, answer.json["questions"]) == (202, [])
        assert (await ended(client, run))["output"] == "Fine."


async def test_a_run_is_paused_and_goes_on() -> None:
    async def plan(_: ModelRequest) -> Any:
        await anyio.sleep(1)
        return [call("look")]

    async with serving(helper(plan, "I have looked.", tools=[look])) as client:
        run = (await client.post("/runs", {"prompt": "Hi"})).json["id"]
        assert (await client.post(f"/runs/{run}/pause")).json["paused"] is True
        await anyio.sleep(1_000)
        assert (await client.get(f"/runs/{run}")).json["status"] == "running"
        assert (await client.get(f"/runs/{run}/tree")).json["state"] == "paused"
        assert (await client.post(f"/runs/{run}/resume")).status == 202
        assert (await ended(client, run))["output"] == "I have looked."
        assert (await client.post(f"/runs/{run}/pause")).status == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/messages"),
        ("GET", "/tree"),
        ("POST", "/messages"),
        ("POST", "/stop"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/approvals/c"),
        ("POST", "/answers/q"),
    ],
)
async def test_a_run_that_nobody_knows(method: str, path: str) -> None:
    bodies = {"/messages": {"message": "a"}, "/approvals/c": {"approved": True}, "/answers/q": {"text": "a"}}
    async with serving() as client:
        for run_id in ("nobody", "%20", "a%00b", "é"):
            answer = await client.ask(method, f"/runs/{run_id}{path}", bodies.get(path) if method == "POST" else None)
            assert (answer.status, answer.error[0]) == (404, "not_found"), answer


# -- the edges


async def test_addresses_and_methods_that_are_none() -> None:
    async with serving() as client:
        for target in ("/nix", "/runs/", "/runs/a/b/c/d", "//"):
            answer = await client.get(target)
            assert (answer.status, answer.error[0]) == (404, "not_found")
        for target, allow in (
            ("/runs", {"POST", "GET", "HEAD"}),
            ("/runs/x/stop", {"POST"}),
            ("/tree", {"GET", "HEAD"}),
            ("/live", {"GET", "HEAD"}),
        ):
            answer = await client.ask("DELETE", target)
            assert (answer.status, answer.error[0]) == (405, "method_not_allowed")
            assert set(answer.headers["allow"].split(", ")) == allow


async def test_bodies_are_bounded() -> None:
    """By what they say of their length, and by what they are."""
    async with serving(max_body=1_000) as client:
        body = {"prompt": "a" * 1_000}
        for said in ({"content_length": ""}, {}, {"content_length": "12"}, {"expect": "100-continue"}):
            answer = await client.post("/runs", body, **said)
            assert (answer.status, answer.error[0]) == (413, "too_large")
        far = await client.post("/runs", b"", content_length=str(10**12))
        assert far.status == 413
        assert (await client.post("/runs", {"prompt": "a" * 900})).status == 201
        form = await client.post("/runs", b"prompt=a", content_type="application/x-www-form-urlencoded")
        assert (form.status, form.error) == (415, ("unsupported_media_type", "Content-Type"))


async def test_a_body_that_does_not_come() -> None:
    """Is not waited for longer than half a minute."""
    async with serving() as client:
        parts: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}]
        sent: list[Any] = []

        async def receive() -> Any:
            return parts.pop() if parts else await anyio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/runs", "query_string": b"", "headers": headers}
        await client.app(scope, receive, send)
    assert sent[0]["status"] == 408
    assert anyio.current_time() == 30
    assert json.loads(sent[1]["body"])["error"]["type"] == "timeout"


async def test_a_bug_says_nothing_of_itself() -> None:
    """The client hears that there is one; the server has the error."""

    def deps_for(_: Origin) -> None:
        raise RuntimeError("the password is hunter2")

    async with serving(deps_for=deps_for) as client:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b'{"prompt": "a"}'}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/runs", "query_string": b"", "headers": headers}
        with pytest.raises(RuntimeError, match="hunter2"):
            await client.app(scope, receive, send)
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["type"] == "internal"
    assert b"hunter2" not in sent[1]["body"]


async def test_mounted_in_another_application() -> None:
    """With a System that is open, or opened around it; not before."""
    service = Service(helper())
    client = Asgi(Starlette(routes=[Mount("/agents-of-mine", service)]))
    with pytest.raises(RuntimeError, match="the Service is not open"):
        await client.get("/agents-of-mine/runs")
    with pytest.raises(RuntimeError, match="the Service is not open"):
        await client.get("/agents-of-mine/tree/events")
    async with service:
        answer = await client.post("/agents-of-mine/runs", {"prompt": "Hi"})
        assert answer.headers["location"] == f"/agents-of-mine/runs/{answer.json['id']}"
        assert (await client.get(answer.headers["location"])).status == 200
        with pytest.raises(RuntimeError, match="open already"):
            await service.__aenter__()
    async with System() as system:
        client = Asgi(Starlette(routes=[Mount("/m", Service(helper(), system=system))]))
        assert (await client.post("/m/runs?wait=9", {"prompt": "Hi"})).json["status"] == "completed"


async def test_two_services_of_one_system() -> None:
    """A key that has started a run of the one starts none of the other, and the answer says why."""
    async with System() as system:
        one, other = (Asgi(Service(helper(*[think] * 9, name=name), system=system)) for name in ("one", "other"))
        assert (await one.post("/runs", {"prompt": "Hi"}, idempotency_key="k")).status == 201
        answer = await other.post("/runs", {"prompt": "Hi"}, idempotency_key="k")
        assert (answer.status, answer.error) == (422, ("key_reused", "Idempotency-Key"))
        taken = await other.post("/runs", {"prompt": "Hi", "run_id": "a"}, idempotency_key="l")
        assert taken.status == 201
        taken = await one.post("/runs", {"prompt": "Hi", "run_id": "a"}, idempotency_key="m")
        assert (taken.status, taken.error) == (409, ("run_exists", "run_id"))


async def test_it_can_be_opened_again() -> None:
    """With another System of its own; what is over stays readable."""
    service = Service(helper())
    client = Asgi(service)
    seen: list[str] = []
    for _ in range(2):
        async with service:
            seen.append((await client.post("/runs?wait=9", {"prompt": "Hi"})).json["id"])
            async with client.stream("GET", "/tree/events") as stream:
                assert frames(await stream.piece())[0]["event"] == "tree"
            for run_id in seen:
                assert (await client.get(f"/runs/{run_id}")).json["status"] == "completed"


async def test_the_lifespan_opens_it() -> None:
    """As a server does that has an application to itself."""
    service = Service(helper())
    told: list[str] = []
    up, down = anyio.Event(), anyio.Event()

    async def receive() -> dict[str, str]:
        if not told:
            return {"type": "lifespan.startup"}
        await down.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        told.append(message["type"])
        up.set()

    async with anyio.create_task_group() as group:
        group.start_soon(service, {"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        await up.wait()
        assert (await Asgi(service).post("/runs?wait=9", {"prompt": "Hi"})).json["status"] == "completed"
        down.set()
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    late = await Asgi(service).post("/runs", {"prompt": "Hi"})
    assert (late.status, late.error[0]) == (503, "draining")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"agents": None}, TypeError, "needs an agent"),
        ({"agents": []}, ValueError, "is empty"),
        ({"agents": "helper"}, TypeError, "agents="),
        ({"agents": {"other": helper()}}, ValueError, r"with_\(name='other'\)"),
        ({"system": "s"}, TypeError, "system= takes a System"),
        ({"token": "short"}, ValueError, "at least 16 characters"),
        ({"token": 5}, TypeError, "token= takes text, not int"),
        ({"token": "a token with blanks"}, ValueError, "without blanks"),
        ({"on_disconnect": "run"}, ValueError, "'continue', 'stop'"),
        ({"deps": 1, "deps_for": print}, TypeError, "not both"),
        ({"deps_for": 1}, TypeError, "deps_for= takes a function"),
        ({"deps_for": think}, TypeError, "deps_for= takes a function that answers at once"),
        ({"deps_for": Opening()}, TypeError, "deps_for= takes a function that answers at once"),
        ({"max_body": 0}, ValueError, "max_body= must be at least 1"),
        ({"max_body": 1.5}, TypeError, "max_body= takes a whole number"),
        ({"keep": -1}, ValueError, "keep= must be at least 0"),
        ({"keep_alive": 0}, ValueError, "keep_alive= must be above 0"),
        ({"allowed_hosts": "a.com"}, TypeError, "allowed_hosts= takes a list"),
        ({"allowed_hosts": ["a.com:80"]}, ValueError, "without scheme, port and wildcards"),
        ({"allowed_hosts": ["*"]}, ValueError, "without scheme, port and wildcards"),
        ({"allowed_origins": ["*"]}, ValueError, "takes origins such as"),
        ({"allowed_origins": ["https://a.com/"]}, ValueError, "takes origins such as"),
        ({"recover": 1}, TypeError, "recover= takes True or False"),
    ],
)
def test_arguments_that_cannot_work(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """One line that names the argument; a token is never in it."""
    agents = options.pop("agents", [helper()])
    with pytest.raises(error, match=words) as caught:
        Service(agents, **options)
    if "token" in options:
        assert repr(options["token"]) not in str(caught.value)


def test_a_representation_without_secrets() -> None:
    service = Service(helper(), token="a-secret-of-this-service")
    assert "secret" not in repr(service) + repr(service.guard)
    assert service.page_token not in repr(service) + repr(service.guard)


async def scenario(interruption: Interruption) -> None:
    async with Service(helper(think), on_disconnect="stop") as service:
        client = Asgi(service)
        asked = {"prompt": "Hi", "run_id": "one"}
        async with anyio.create_task_group() as group:

            async def start() -> None:
                await client.post("/runs?wait=5", asked, idempotency_key="k")
                async with client.stream("GET", "/runs/one/events") as stream:
                    await stream.piece()

            interruption.arm(group.cancel_scope.cancel)
            group.start_soon(start)
        assert service.beginning == {}
        assert service.meter.streams == 0
        assert all(known.followers == 0 for known in service.known)
        again = await client.post("/runs?wait=500", asked, idempotency_key="k")
        assert again.status in (200, 201)
        assert again.json["status"] in ("completed", "stopped")


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_cut_off_anywhere(name: str) -> None:
    """A request that is cancelled, at every step of a start with a key, of a wait and of a stream, leaves nothing."""
    assert interrupt_everywhere(scenario, backend=name) > 20
