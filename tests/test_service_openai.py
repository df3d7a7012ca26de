"""The OpenAI-compatible endpoint over agents, as an ASGI application on both backends, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from greenroom import Agent, Ask, Limits, MemoryJournal, RunContext, System, events, tool
from greenroom.providers import (
    AuthError,
    ContentFiltered,
    Image,
    Message,
    ModelReply,
    Overloaded,
    Provider,
    RateLimited,
    Refusal,
    Scripted,
    Text,
    Thinking,
    ToolCall,
    Usage,
    call,
)
from greenroom.service import Origin, Service
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .openai_exchange import USED, Exchange, Trickle, chat

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
NO_RETRY = {"retry": None}


def look(place: str) -> str:
    """Look somewhere."""
    return f"nothing in the {place}"


def asking(name: str, **arguments: Any) -> ToolCall:
    """A call with an id."""
    return msgspec.structs.replace(call(name, **arguments), id=f"call-{name}")


def in_service(
    backend: str,
    agents: Any,
    scenario: Callable[[Service], Awaitable[Any]],
    *,
    system: System | None = None,
    **options: Any,
) -> Any:
    """Play a scenario with an open service."""

    async def opened() -> Any:
        async with Service(agents, system=system, **options) as service:
            return await scenario(service)

    return play(opened, backend=backend)


def answer_of(backend: str, agents: Any, request: Any, **options: Any) -> Exchange:
    """One request and its answer."""

    async def scenario(service: Service) -> Exchange:
        return await Exchange(service, request).perform()

    return in_service(backend, agents, scenario, **options)


async def settled(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not done():
        await anyio.sleep(0.01)


# -- answers


@backends
def test_a_whole_answer(backend: str) -> None:
    model = Trickle(["Hel", "lo."])
    agent = Agent("helper", model, instructions="Be kind.")
    request = chat("One", "1", "Two", user="u1", metadata={"topic": "maths"}, seed=7)
    request["messages"].insert(0, {"role": "system", "content": "Use digits."})

    async def scenario(service: Service) -> tuple[Exchange, Any]:
        done = await Exchange(service, request).perform()
        (known,) = service.known
        return done, known

    done, known = in_service(backend, agent, scenario)
    assert done.status == 200
    assert done.headers["content-type"] == "application/json"
    told = done.json
    run_id = known.run.id
    assert done.headers["x-request-id"] == run_id
    assert isinstance(told.pop("created"), int)
    assert told == {
        "id": f"chatcmpl-{run_id}",
        "object": "chat.completion",
        "model": "helper",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        "greenroom": {
            "run_id": run_id,
            "status": "completed",
            "reason": "answered",
            "cost": None,
            "unused": ["seed"],
        },
    }
    (asked,) = model.requests
    assert asked.instructions == "Be kind."
    assert [(message.role, message.text) for message in asked.messages] == [
        ("system", "Use digits."),
        ("user", "One"),
        ("assistant", "1"),
        ("user", "Two"),
    ]
    assert (known.user_id, known.metadata, known.conversation_id) == ("u1", {"topic": "maths"}, None)


@backends
def test_a_streamed_answer(backend: str) -> None:
    agent = Agent("helper", Trickle(["Hel", 1.0, "lo."]))
    done = answer_of(backend, agent, chat("Hi", stream=True, stream_options={"include_usage": True}))
    assert done.status == 200
    assert done.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert done.headers["x-request-id"] in done.chunks[0]["id"]
    *chunks, mark = done.chunks
    assert mark == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    *said, usage = chunks
    assert [chunk["choices"][0]["delta"] for chunk in said] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in said] == [None, None, None, "stop"]
    assert [chunk["usage"] for chunk in said] == [None] * 4
    assert said[-1]["greenroom"]["status"] == "completed"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    # It went out as it came.
    times = [moment for moment, _ in done.pieces]
    assert times[-1] - times[0] == pytest.approx(1.0)


@backends
def test_without_usage_asked_for_there_is_none(backend: str) -> None:
    done = answer_of(backend, Agent("helper", Trickle(["Hi."])), chat("Hi", stream=True))
    assert all("usage" not in chunk for chunk in done.chunks)


@backends
def test_both_forms_say_the_same(backend: str) -> None:
    """What it says on its way is part of its answer; its tools are not."""
    replies: list[list[Any]] = [
        [Thinking("Hm."), "Let me ", "look.", asking("look", place="attic")],
        [asking("look", place="cellar")],
        ["Nothing", " there."],
    ]
    whole = answer_of(backend, Agent("helper", Trickle(*replies), tools=[look]), chat("Where?"))
    streamed = answer_of(backend, Agent("helper", Trickle(*replies), tools=[look]), chat("Where?", stream=True))
    message = whole.json["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Let me look.\n\nNothing there.", "refusal": None}
    assert streamed.said == message["content"]
    assert "attic" not in streamed.body.decode()
    assert "Hm." not in streamed.body.decode()
    assert whole.json["usage"]["total_tokens"] == 36


@backends
def test_tools_and_reasoning_are_shown_to_who_asks(backend: str) -> None:
    replies: list[list[Any]] = [[Thinking("Hm."), asking("look", place="attic")], ["No."]]
    agent = Agent("helper", Trickle(*replies), tools=[look])
    extra = {"include": ["tools", "reasoning"]}
    done = answer_of(backend, agent, chat("Where?", stream=True, greenroom=extra))
    told = [chunk["greenroom"]["event"] for chunk in done.chunks[:-1] if "event" in chunk.get("greenroom", {})]
    assert [(each["type"], each["tool"]) for each in told] == [("tool.started", "look"), ("tool.completed", "look")]
    assert told[0]["arguments"] == {"place": "attic"}
    deltas = [chunk["choices"][0]["delta"] for chunk in done.chunks[:-1]]
    assert {"reasoning_content": "Hm."} in deltas
    assert done.said == "No."

    whole = answer_of(backend, Agent("helper", Trickle([Thinking("Hm."), "No."])), chat("Where?", greenroom=extra))
    assert whole.json["choices"][0]["message"]["reasoning_content"] == "Hm."


class Place(msgspec.Struct):
    """A place."""

    city: str


@backends
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["native", "tool"])
def test_a_typed_answer(backend: str, stream: bool, mode: Any) -> None:
    """It is JSON, and nothing else is: neither what was said on the way, nor an answer that was sent back."""
    wrong, right = '{"city": 7}', '{"city": "Oslo"}'
    if mode == "native":
        replies: list[list[Any]] = [["I look.", asking("look", place="map")], [wrong], [right]]
    else:
        answers = [msgspec.structs.replace(call("final_answer", city=city), id=f"a{city}") for city in (7, "Oslo")]
        replies = [["I look.", asking("look", place="map")], ["So:", answers[0]], ["So:", answers[1]]]
    agent = Agent("helper", Trickle(*replies), output=Place, output_mode=mode, tools=[look])
    schema = {**(agent.output_schema or {}), "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}
    done = answer_of(backend, agent, chat("Where?", stream=stream, response_format=form))
    text = done.said if stream else done.json["choices"][0]["message"]["content"]
    assert msgspec.json.decode(text) == {"city": "Oslo"}


@backends
def test_a_form_of_answer_that_is_not_its_own(backend: str) -> None:
    agent = Agent("helper", Trickle())
    done = answer_of(backend, agent, chat("Hi", response_format={"type": "json_object"}))
    assert (done.status, done.json["error"]["param"]) == (400, "response_format")


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal(backend: str, stream: bool) -> None:
    refusing = ModelReply(Message("assistant", (Refusal("I will not."),)), "refusal")
    done = answer_of(backend, Agent("helper", Scripted(refusing)), chat("Hi", stream=stream))
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in done.chunks[:-1]]
        assert {"refusal": "I will not."} in deltas
        assert done.said == ""
    else:
        assert done.json["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": "I will not."}


@backends
def test_an_image_reaches_the_model(backend: str) -> None:
    model = Trickle(["A cat."])
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    ]
    done = answer_of(
        backend, Agent("helper", model), {"model": "helper", "messages": [{"role": "user", "content": parts}]}
    )
    assert done.status == 200
    assert model.requests[0].messages[-1].parts == (
        Text("What is it?"),
        Image(data=b"\x89PNG", media_type="image/png"),
    )


@backends
def test_a_client_holds_its_conversation_itself(backend: str) -> None:
    """Also where the runs of one conversation could go on from each other."""
    model = Trickle(["One."], ["Two."])
    request = chat("Hi", greenroom={"conversation_id": "c1"})

    async def scenario(service: Service) -> None:
        for _ in range(2):
            assert (await Exchange(service, request).perform()).status == 200
        assert {known.conversation_id for known in service.known} == {"c1"}

    system = System(journal=MemoryJournal(keep=True))
    in_service(backend, Agent("helper", model), scenario, system=system)
    assert [len(asked.messages) for asked in model.requests] == [1, 1]


@backends
def test_a_whole_answer_needs_no_stream_of_the_model(backend: str) -> None:
    """A streamed attempt that has shown text is not tried again; a whole one is."""
    model = Trickle(["Never"], ["mind."])
    agent = Agent("helper", model)
    answer_of(backend, agent, chat("Hi"))
    answer_of(backend, agent, chat("Hi", stream=True))
    assert model.forms == ["complete", "stream"]


# -- bounds


@backends
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_what_may_be_generated_is_bounded(backend: str, stream: bool, name: str) -> None:
    """For the run with all its turns; what it has said by then is the answer."""
    many = Usage(input_tokens=10, output_tokens=90)
    replies: list[list[Any]] = [["Let me look.", asking("look", place="attic")], ["It is there."]]
    agent = Agent("helper", Trickle(*replies, usage=many), tools=[look], limits=Limits(output_tokens=5_000))
    done = answer_of(backend, agent, chat("Where?", stream=stream, **{name: 100}))
    end = done.chunks[-2] if stream else done.json
    assert end["choices"][0]["finish_reason"] == "length"
    assert end["greenroom"]["reason"] == "tokens"
    assert (done.said if stream else end["choices"][0]["message"]["content"]) == "Let me look."


@backends
def test_a_client_cannot_raise_the_agents_limits(backend: str) -> None:
    many = Usage(input_tokens=10, output_tokens=90)
    replies: list[list[Any]] = [["Let me look.", asking("look", place="attic")], ["It is there."]]
    agent = Agent("helper", Trickle(*replies, usage=many), tools=[look], limits=Limits(output_tokens=100))
    done = answer_of(backend, agent, chat("Where?", max_tokens=1_000_000))
    assert done.json["choices"][0]["finish_reason"] == "length"


@backends
def test_a_limit_that_nobody_can_look_at(backend: str) -> None:
    """It is no end of an answer, but an agent that cannot work."""
    agent = Agent("helper", Trickle(), limits=Limits(cost=1.0))
    done = answer_of(backend, agent, chat("Hi"))
    assert (done.status, done.json["error"]["code"]) == (500, "price_unknown")


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_model_ended_for_its_content(backend: str, stream: bool) -> None:
    cut = ModelReply(Message("assistant", (Text("It is"),)), "content_filter")
    refused = ContentFiltered("flagged")
    for line in (cut, refused):
        done = answer_of(backend, Agent("helper", Scripted(line)), chat("How?", stream=stream))
        assert done.status == 200
        end = done.chunks[-2] if stream else done.json
        assert end["choices"][0]["finish_reason"] == "content_filter"


# -- errors


@backends
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RateLimited("slow down", retry_after=7.0, retryable=False), 429, "rate_limit_exceeded"),
        (Overloaded("busy", retryable=False), 503, "overloaded"),
        (AuthError("bad key", status=401), 502, "auth"),
    ],
)
def test_an_error_before_the_first_word_has_its_status(
    backend: str, stream: bool, error: Exception, status: int, code: str
) -> None:
    agent = Agent("helper", Trickle([2.0, error]))
    done = answer_of(backend, agent, chat("Hi", stream=stream))
    assert (done.status, done.json["error"]["code"]) == (status, code)
    assert done.headers["content-type"] == "application/json"
    assert done.headers["x-request-id"]
    assert done.headers["x-should-retry"] == "false"
    assert done.headers.get("retry-after") == ("7" if status == 429 else None)


@backends
def test_an_error_after_the_first_word_ends_the_stream(backend: str) -> None:
    agent = Agent("helper", Trickle(["It ", 1.0, Overloaded("busy")]))
    done = answer_of(backend, agent, chat("Hi", stream=True))
    assert done.status == 200
    assert done.over
    assert done.said == "It "
    error = done.chunks[-1]["error"]
    assert (error["type"], error["code"]) == ("server_error", "overloaded")
    assert "busy" in error["message"]
    assert "[DONE]" not in done.chunks


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_a_run_that_crashes_says_nothing_about_the_code(
    backend: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def instructions(context: RunContext[Any]) -> str:
        raise KeyError("sk-secret")

    agent = Agent("helper", Trickle(), instructions=instructions)
    with caplog.at_level(logging.ERROR, "greenroom"):
        done = answer_of(backend, agent, chat("Hi", stream=stream))
    assert done.status == 500
    assert (done.json["error"]["type"], done.json["error"]["code"]) == ("server_error", "restart_limit")
    assert done.headers["x-should-retry"] == "false"
    assert b"sk-secret" not in done.body
    assert "sk-secret" in caplog.text


@backends
def test_a_model_that_does_not_exist(backend: str) -> None:
    done = answer_of(backend, Agent("helper", Trickle()), chat("Hi", model="gpt-5"))
    assert done.status == 404
    assert done.json == {
        "error": {
            "message": "the model 'gpt-5' does not exist: there is 'helper'",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


@backends
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"body": b"{"}, 400),
        ({"body": b'"' + b"x" * 2_000 + b'"'}, 413),
        ({"method": "GET"}, 405),
        ({"method": "DELETE", "path": "/v1/models"}, 405),
        ({"method": "GET", "path": "/v1/models/gpt-5"}, 404),
        ({"method": "GET", "path": "/v1/models/"}, 404),
        ({"method": "GET", "path": "/v1/engines"}, 404),
        ({"method": "GET", "path": "/v1"}, 404),
        ({"path": "/v1/chat/completions/"}, 404),
        ({"path": "/v1/v1/chat/completions"}, 404),
        ({"path": "/chat/completions"}, 404),
        ({"headers": {"host": "elsewhere.example"}}, 421),
        ({"headers": {"origin": "https://elsewhere.example"}}, 403),
    ],
)
def test_a_request_that_is_none(backend: str, changes: dict[str, Any], status: int) -> None:
    async def scenario(service: Service) -> Exchange:
        return await Exchange(service, **{"body": chat("Hi"), **changes}).perform()

    done = in_service(backend, Agent("helper", Trickle()), scenario, max_body=1_000)
    assert done.status == status
    told = done.json["error"]
    assert sorted(told) == ["code", "message", "param", "type"]
    assert told["message"]
    assert told["code"]
    assert told["type"] == ("authentication_error" if status == 403 else "invalid_request_error")
    assert ("it is /v1/chat/completions" in told["message"]) == ("chat/completions" in done.path and status == 404)


@backends
def test_a_bug_says_nothing_about_itself(backend: str) -> None:
    """But to the server's log, by the error that comes out."""

    def deps_for(origin: Origin) -> Any:
        raise KeyError("sk-secret")

    async def scenario(service: Service) -> None:
        exchange = Exchange(service, chat("Hi"))
        with pytest.raises(KeyError):
            await exchange.perform()
        assert (exchange.status, exchange.json["error"]["code"]) == (500, "internal_error")
        assert b"sk-secret" not in exchange.body

    in_service(backend, Agent("helper", Trickle()), scenario, deps_for=deps_for)


@backends
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type(backend: str, kind: str) -> None:
    """Also where a token says that no page of a browser has sent it."""
    token = "a-token-that-is-long-enough"

    async def scenario(service: Service) -> Exchange:
        headers = {"authorization": f"Bearer {token}", "content-type": kind}
        return await Exchange(service, chat("Hi"), headers=headers).perform()

    done = in_service(backend, Agent("helper", Trickle()), scenario, token=token)
    assert (done.status, done.json["error"]["code"]) == (415, "unsupported_media_type")


@backends
def test_a_service_that_is_full(backend: str) -> None:
    agent = Agent("helper", Trickle([5.0, "One."], ["Two."]))

    async def scenario(service: Service) -> None:
        async with anyio.create_task_group() as group:
            first = Exchange(service, chat("Hi"))
            group.start_soon(first.perform)
            await anyio.sleep(1)
            for stream in (False, True):
                second = await Exchange(service, chat("Hi", stream=stream)).perform()
                assert (second.status, second.json["error"]["code"]) == (503, "busy")
                assert int(second.headers["retry-after"]) > 0
        assert first.status == 200
        assert (await Exchange(service, chat("Hi")).perform()).status == 200

    in_service(backend, agent, scenario, system=System(max_running=1, max_queued=0))


@backends
def test_a_service_that_ends(backend: str) -> None:
    """New requests are refused; an answer on its way is told what has happened."""
    agent = Agent("helper", Trickle(["It ", 50.0, "is."], [50.0, "It is."]))

    async def scenario(service: Service) -> None:
        async with anyio.create_task_group() as group:
            streamed, whole = Exchange(service, chat("Hi", stream=True)), Exchange(service, chat("Hi"))
            group.start_soon(streamed.perform)
            await anyio.sleep(1)
            group.start_soon(whole.perform)
            await anyio.sleep(1)
            group.start_soon(service.system.drain, 3)
            await anyio.sleep(1)
            late = await Exchange(service, chat("Hi")).perform()
            assert (late.status, late.json["error"]["code"]) == (503, "draining")
        assert (streamed.status, streamed.chunks[-1]["error"]["code"]) == (200, "draining")
        assert (whole.status, whole.json["error"]["code"]) == (503, "draining")
        assert int(whole.headers["retry-after"]) > 0

    in_service(backend, agent, scenario)


@backends
def test_what_the_system_requires(backend: str) -> None:
    agent = Agent("helper", Trickle(["Hi."]))
    done = answer_of(backend, agent, chat("Hi"), system=System(require=["user_id"]))
    assert (done.status, done.json["error"]["param"]) == (422, "user")


# -- somebody is asked


@tool(needs_approval=True)
async def charge(amount: int) -> str:
    """Charge a card."""
    raise AssertionError("nobody has approved this")


@tool(needs_approval=True)
async def ship() -> str:
    """Ship it."""
    return "shipped"


async def inquire(context: RunContext[Any]) -> str:
    """Ask the user."""
    return await context.ask_user("Which one?")


@backends
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("below", [False, True])
def test_a_call_that_nobody_can_approve(backend: str, stream: bool, below: bool) -> None:
    """The run ends, and the answer says why. What was at work beside it comes to its end."""
    looked: list[str] = []

    async def look_slowly() -> str:
        """Look."""
        await anyio.sleep(3)
        looked.append("there")
        return "seen"

    clerk = Agent("clerk", Trickle([asking("charge", amount=5)]), tools=[charge], description="Charges.")
    if below:
        agent = Agent("helper", Trickle([asking("clerk", prompt="Charge")]), tools=[clerk])
    else:
        agent = Agent(
            "helper", Trickle([asking("look_slowly"), asking("charge", amount=5)]), tools=[charge, look_slowly]
        )

    async def scenario(service: Service) -> Exchange:
        done = await Exchange(service, chat("Charge 5", stream=stream)).perform()
        (known,) = service.known
        assert known.run.status == "stopped"
        assert (await known.run.result()).reason == "approval"
        return done

    done = in_service(backend, agent, scenario)
    assert (done.status, done.json["error"]["code"]) == (409, "approval_required")
    assert "'charge'" in done.json["error"]["message"]
    assert done.headers["x-should-retry"] == "false"
    assert looked == ([] if below else ["there"])


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_a_question_that_nobody_can_answer(backend: str, stream: bool) -> None:
    agent = Agent("helper", Trickle(["I ask.", asking("inquire")]), tools=[inquire])
    done = answer_of(backend, agent, chat("Hi", stream=stream))
    error = done.chunks[-1]["error"] if stream else done.json["error"]
    assert error["code"] == "question_asked"
    assert "Which one?" in error["message"]


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_somebody_else_may_answer(backend: str, stream: bool) -> None:
    """Where the client says so, the run waits for the service's other clients."""
    replies: list[list[Any]] = [[asking("ship")], [asking("inquire")], ["Done."]]
    agent = Agent("helper", Trickle(*replies), tools=[ship, inquire])

    async def scenario(service: Service) -> Exchange:
        request = chat("Ship it", stream=stream, greenroom={"on_ask": "wait"})
        async with anyio.create_task_group() as group:
            exchange = Exchange(service, request)
            group.start_soon(exchange.perform)
            await anyio.sleep(40)
            (known,) = service.known
            path = f"/runs/{known.run.id}"
            assert (
                await Exchange(service, {"approved": True}, path=f"{path}/approvals/call-ship").perform()
            ).status == 202
            await anyio.sleep(1)
            (question,) = known.run.questions
            answered = Exchange(service, {"text": "blue"}, path=f"{path}/answers/{question.question_id}")
            assert (await answered.perform()).status == 202
        return exchange

    done = in_service(backend, agent, scenario)
    assert done.status == 200
    assert (done.said if stream else done.json["choices"][0]["message"]["content"]) == "Done."


@backends
def test_an_agent_that_asks_nobody_is_not_concerned(backend: str) -> None:
    """A policy that denies what it would have to ask for."""

    def guard(called: ToolCall, context: RunContext[Any]) -> Any:
        return Ask() if called.name == "charge" else True

    replies: list[list[Any]] = [[asking("look", place="attic")], ["Nothing."]]
    agent = Agent("helper", Trickle(*replies), tools=[look, charge], policy=guard)
    assert answer_of(backend, agent, chat("Hi")).status == 200


# -- stops, and clients that go away


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_a_run_that_somebody_stops(backend: str, stream: bool) -> None:
    agent = Agent("helper", Trickle(["It ", 50.0, "is."]))

    async def scenario(service: Service) -> Exchange:
        async with anyio.create_task_group() as group:
            exchange = Exchange(service, chat("Hi", stream=stream))
            group.start_soon(exchange.perform)
            await anyio.sleep(1)
            (known,) = service.known
            known.run.stop(reason="operator")
        return exchange

    done = in_service(backend, agent, scenario)
    error = done.chunks[-1]["error"] if stream else done.json["error"]
    assert (done.status, error["code"]) == (200 if stream else 409, "run_stopped")
    assert "operator" in error["message"]


@backends
@pytest.mark.parametrize("on_disconnect", ["stop", "continue"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0.5, 3.0, 20.0])
def test_a_client_that_goes_away(backend: str, on_disconnect: str, stream: bool, after: float) -> None:
    """Before the answer has begun, while it comes, and while it keeps alive."""
    agent = Agent("helper", Trickle([1.0, "It ", 50.0, "is."]))
    extra = {"on_disconnect": on_disconnect} if on_disconnect == "continue" else {}

    async def scenario(service: Service) -> None:
        async with anyio.create_task_group() as group:
            exchange = Exchange(service, chat("Hi", stream=stream, greenroom=extra))
            group.start_soon(exchange.perform)
            await anyio.sleep(after)
            exchange.gone.set()
        (known,) = service.known
        assert service.meter.streams == 0
        result = await known.run.result()
        expected = ("stopped", "abandoned") if on_disconnect == "stop" else ("completed", "answered")
        assert (result.status, result.reason) == expected

    in_service(backend, agent, scenario)


@backends
@pytest.mark.parametrize("output", [str, int], ids=["told", "not told"])
def test_a_client_that_leaves_a_flood(backend: str, output: Any) -> None:
    """Pieces that come at each turn of the event loop keep asyncio from cancelling who waits for them; also where
    nothing of them is told before the end.
    """
    flood = Trickle(["so "] * 5_000)

    async def taken() -> None:
        return None  # a server does not wait for a client that has gone

    async def scenario(service: Service) -> None:
        exchange = Exchange(service, chat("Hi", stream=True), take=taken)
        async with anyio.create_task_group() as group:
            group.start_soon(exchange.perform)
            while not flood.forms:
                await anyio.lowlevel.checkpoint()
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            exchange.gone.set()
        (known,) = service.known
        assert (await known.run.result()).reason == "abandoned"

    in_service(backend, Agent("helper", flood, output=output), scenario)


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_a_run_ends_with_the_process_that_answered_its_client(backend: str, stream: bool, tmp_path: Path) -> None:
    """In the journal, with its subagents: its client was told to ask again. One that is to go on does."""
    file = str(tmp_path / "runs.db")

    def team(clerk: list[list[Any]], boss: list[list[Any]]) -> Agent[Any, Any]:
        return Agent("helper", Trickle(*boss), tools=[Agent("clerk", Trickle(*clerk), description="Works.")])

    async def drained(service: Service) -> list[str]:
        kept = {"on_disconnect": "continue"}
        bodies = [chat("Hi", stream=stream, metadata={"a": "b"}), chat("Hi", stream=stream, greenroom=kept)]
        exchanges = [Exchange(service, each) for each in bodies]
        async with anyio.create_task_group() as group:
            for each in exchanges:
                group.start_soon(each.perform)
                await anyio.sleep(1)
            await service.system.drain(1)
        assert [(each.status, each.json["error"]["code"]) for each in exchanges] == [(503, "draining")] * 2
        return [each.headers["x-request-id"] for each in exchanges]

    async def recovered(service: Service) -> None:
        (known,) = service.known
        assert (await known.run.result()).output == "Good day."
        assert known.run.id == going_on
        view = (await Exchange(service, method="GET", path=f"/runs/{alone}").perform()).json
        assert (view["status"], view["reason"], view["metadata"]) == ("stopped", "abandoned", {"a": "b"})
        assert await service.system.stage.journal.runs(unfinished=True) == []

    calling = [asking("clerk", prompt="Work")]
    agent = team([[50.0, "…"], [50.0, "…"]], [calling, calling])
    alone, going_on = in_service(backend, agent, drained, system=System(journal=file))
    in_service(backend, team([["Done."]], [["Good day."]]), recovered, system=System(journal=file))


@backends
def test_a_run_of_a_process_that_lives_is_left_alone(backend: str, tmp_path: Path) -> None:
    file = str(tmp_path / "runs.db")

    async def scenario(service: Service) -> Exchange:
        exchange = Exchange(service, chat("Hi"))
        async with anyio.create_task_group() as group:
            group.start_soon(exchange.perform)
            await anyio.sleep(1)
            async with Service(Agent("helper", Trickle()), system=System(journal=file)) as another:
                assert not list(another.known)
        return exchange

    done = in_service(backend, Agent("helper", Trickle([9.0, "Good day."])), scenario, system=System(journal=file))
    assert (done.status, done.json["greenroom"]["status"]) == (200, "completed")


@backends
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_cancelled(backend: str, stream: bool) -> None:
    """As by a server that does not wait any longer."""
    agent = Agent("helper", Trickle(["It ", 50.0, "is."]))

    async def scenario(service: Service) -> None:
        with anyio.move_on_after(2):
            await Exchange(service, chat("Hi", stream=stream)).perform()
        (known,) = service.known
        assert (await known.run.result()).reason == "abandoned"

    in_service(backend, agent, scenario)


@backends
@pytest.mark.parametrize("how", ["leaves", "is cancelled"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_at_any_step(backend: str, stream: bool, how: str) -> None:
    """Its run is over then, and what has come is right as far as it goes."""

    async def scenario(interruption: Interruption) -> None:
        replies: list[list[Any]] = [["Let me ", 1.0, "look.", asking("look", place="attic")], [1.0, "Nothing."]]
        async with Service(Agent("helper", Trickle(*replies), tools=[look])) as service:
            exchange = Exchange(service, chat("Where?", stream=stream))
            with anyio.CancelScope() as scope:
                interruption.arm(exchange.gone.set if how == "leaves" else scope.cancel)
                await exchange.perform()
            for known in service.known:
                result = await known.run.result()
                assert (result.status, result.reason) in {("completed", "answered"), ("stopped", "abandoned")}
                assert not known.followers
            assert service.meter.streams == 0
            if not interruption.fired:
                assert exchange.over
            if stream:
                assert "Let me look.\n\nNothing.".startswith(exchange.said)
                assert not exchange.over or exchange.chunks[-1] == "[DONE]"
            elif exchange.over:
                assert exchange.json["choices"][0]["message"]["content"] == "Let me look.\n\nNothing."

    assert interrupt_everywhere(scenario, backend=backend) > 10


@backends
def test_a_silent_model_is_bridged_by_comments(backend: str) -> None:
    """The answer begins after as long as a stream may be silent, and an error then comes as an event."""
    agent = Agent("helper", Trickle([40.0, "It is."], [20.0, AuthError("bad key")]))

    async def scenario(service: Service) -> None:
        began = anyio.current_time()
        done = await Exchange(service, chat("Hi", stream=True)).perform()
        times = [round(moment - began) for moment, _ in done.pieces]
        assert times == [15, 30, 40, 40]
        assert done.frames[1] == ": keep-alive"
        assert done.said == "It is."
        failed = await Exchange(service, chat("Hi", stream=True)).perform()
        assert (failed.status, failed.chunks[-1]["error"]["code"]) == (200, "auth")

    in_service(backend, agent, scenario)


@backends
def test_a_slow_client_misses_no_text(backend: str) -> None:
    """More pieces come than are kept, with other events between them."""
    first = [f"{number} " for number in range(600)]
    thoughts: list[Any] = [each for number in range(400) for each in (f"{number}, ", Thinking("Hm."))]
    agent = Agent("helper", Trickle([*first, asking("look", place="attic")], thoughts), tools=[look])
    slow = anyio.Event()

    async def scenario(service: Service) -> Exchange:
        exchange = Exchange(service, chat("Count", stream=True), take=slow.wait)
        async with anyio.create_task_group() as group:
            group.start_soon(exchange.perform)
            await anyio.sleep(5)
            (known,) = service.known
            assert known.run.status == "completed"
            slow.set()
        return exchange

    done = in_service(backend, agent, scenario)
    text = "".join(each for each in thoughts if isinstance(each, str))
    assert done.said == "".join(first) + "\n\n" + text
    assert done.chunks[-2]["choices"][0]["finish_reason"] == "stop"


# -- models


@backends
def test_agents_are_models(backend: str) -> None:
    agents = [Agent("helper", Trickle()), Agent("team/clerk no 2", Trickle())]

    async def scenario(service: Service) -> None:
        listed = await Exchange(service, method="GET", path="/v1/models").perform()
        assert listed.status == 200
        assert listed.json["object"] == "list"
        assert [card["id"] for card in listed.json["data"]] == ["helper", "team/clerk no 2"]
        for card in listed.json["data"]:
            assert isinstance(card["created"], int)
            assert (card["object"], card["owned_by"]) == ("model", "greenroom")
            one = await Exchange(service, method="GET", path=f"/v1/models/{card['id']}").perform()
            assert one.json == card
        missing = await Exchange(service, method="GET", path="/v1/models/clerk").perform()
        assert (missing.status, missing.json["error"]["code"]) == (404, "model_not_found")

    in_service(backend, agents, scenario)


# -- following without deltas


class Counting(Provider):
    """Counts how it is asked."""

    name, model = "counting", "counting-1"

    def __init__(self) -> None:
        self.forms: list[str] = []

    async def complete(self, request: Any) -> ModelReply:
        await anyio.sleep(1)
        self.forms.append("complete")
        return ModelReply(Message("assistant", (Text("Hi."),)), "stop", USED)

    def stream(self, request: Any) -> Any:
        self.forms.append("stream")
        return super().stream(request)


@backends
def test_who_wants_no_deltas_makes_no_run_stream(backend: str) -> None:
    model = Counting()
    agent = Agent("helper", model)

    async def scenario() -> None:
        async with System() as system:
            for deltas in (False, True):
                run = await system.start(agent, "Hi")
                kinds = [event.type async for event in run.events(deltas=deltas)]
                assert ("model.text_delta" in kinds) is deltas
                assert kinds[-1] == "run.completed"
            # One who wants none beside one who does.
            run = await system.start(agent, "Hi")
            quiet, loud = run.events(deltas=False), run.events()
            assert events.ModelTextDelta in {type(event) async for event in loud}
            assert events.ModelTextDelta not in {type(event) async for event in quiet}

    play(scenario, backend=backend)
    assert model.forms == ["complete", "stream", "complete", "stream", "complete"]
