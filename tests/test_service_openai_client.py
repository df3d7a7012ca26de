"""The OpenAI-compatible endpoint behind uvicorn, asked by the official client, and by our own provider."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import anyio
import openai
import pydantic
import pytest
import uvicorn
from openai import AsyncOpenAI, OpenAI

from greenroom import Agent, Hooks, events, tool
from greenroom.providers import (
    AuthError,
    ContextOverflow,
    InvalidRequest,
    ModelRequest,
    OpenAIChat,
    Overloaded,
    RateLimited,
    Thinking,
    call,
    user,
)
from greenroom.service import Service

from .openai_exchange import Trickle

TOKEN = "a-token-that-is-long-enough"


class Ends:
    """The last events of runs, as they come."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[events.Event] = queue.SimpleQueue()
        self.hooks = Hooks(on_run_end=self._told.put)

    def next(self) -> Any:
        """How the next run ends."""
        return self._told.get(timeout=20)

    @property
    def is_empty(self) -> bool:
        """Whether no run has ended that was not looked at."""
        return self._told.empty()


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """uvicorn in a thread, on a free port of loopback: the base URL for clients."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # uvloop keeps a pipe of each process for ever.
        options: dict[str, Any] = {"interface": "asgi3", "lifespan": "on", "log_level": "critical", "loop": "asyncio"}
        server = uvicorn.Server(uvicorn.Config(service, **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def helper(*replies: list[Any], **options: Any) -> Agent[Any, Any]:
    """An agent."""
    return Agent("helper", Trickle(*replies), **options)


@contextmanager
def talking(agents: Any, *, token: str | None = None, key: str = "unused", **options: Any) -> Iterator[OpenAI]:
    """The blocking client, at a service of these agents."""
    settings = {name: options.pop(name) for name in ("max_retries", "timeout") if name in options}
    with (
        serving(Service(agents, token=token, **options)) as url,
        OpenAI(base_url=url, api_key=key, **{"max_retries": 0, **settings}) as client,
    ):
        yield client


HI: Any = [{"role": "user", "content": "Hi"}]


def look(place: str) -> str:
    """Look somewhere."""
    return f"nothing in the {place}"


def asking(name: str, **arguments: Any) -> Any:
    """A call with an id."""
    made = call(name, **arguments)
    return type(made)(f"call-{name}", made.name, made.arguments, made.raw)


def test_a_whole_answer() -> None:
    with talking(helper(["Hello."])) as client:
        done = client.chat.completions.create(model="helper", messages=HI, temperature=0.5, max_tokens=1_000, user="u1")
    assert done.choices[0].message.content == "Hello."
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (10, 2, 12)
    assert done.model_extra is not None
    assert done.model_extra["greenroom"]["unused"] == ["temperature"]
    assert done.id == f"chatcmpl-{done._request_id}"


def test_a_stream() -> None:
    replies: list[list[Any]] = [["Let me ", "look.", asking("look", place="attic")], ["Nothing."]]
    with talking(helper(*replies, tools=[look])) as client:
        options: Any = {"include_usage": True}
        with client.chat.completions.create(model="helper", messages=HI, stream=True, stream_options=options) as stream:
            chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Let me look.\n\nNothing."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 24


def test_the_helper_for_streams() -> None:
    """Which puts the chunks together again, with what is ours in them."""
    replies: list[list[Any]] = [[Thinking("Hm."), "Let me look.", asking("look", place="attic")], ["Nothing."]]
    extra = {"greenroom": {"include": ["tools", "reasoning"]}}
    options: Any = {"include_usage": True}
    with talking(helper(*replies, tools=[look])) as client:
        streaming = client.chat.completions.stream(
            model="helper", messages=HI, extra_body=extra, stream_options=options
        )
        with streaming as stream:
            kinds = [event.type for event in stream]
            done = stream.get_final_completion()
    assert done.choices[0].message.content == "Let me look.\n\nNothing."
    assert done.usage is not None
    assert done.usage.total_tokens == 24
    assert {"content.delta", "content.done"} <= set(kinds)


class Place(pydantic.BaseModel):
    """A place."""

    city: str
    streets: list[str]


def test_a_typed_answer_is_parsed_by_the_client() -> None:
    """The client sends the schema of its type, which is the agent's."""
    reply = ['{"city": "Oslo", ', '"streets": ["Karl Johans gate"]}']
    with talking(helper(reply, reply, output=Place, output_mode="native")) as client:
        done = client.chat.completions.parse(model="helper", messages=HI, response_format=Place)
        assert done.choices[0].message.parsed == Place(city="Oslo", streets=["Karl Johans gate"])
        with client.chat.completions.stream(model="helper", messages=HI, response_format=Place) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.parsed == Place(city="Oslo", streets=["Karl Johans gate"])


class Task(pydantic.BaseModel):
    """What its strict form changes: fields with defaults, and a type that refers to itself."""

    what: str
    note: str | None = None
    size: Literal["small", "large"] = "small"
    parts: list[Task] = []


def test_the_agents_own_type_is_asked_for_by_name() -> None:
    """Its library writes another schema for it, in which everything is required."""
    task = Task(what="move", parts=[Task(what="pack", size="large")])
    with talking(helper([task.model_dump_json(exclude_defaults=True)], output=Task)) as client:
        completion = client.chat.completions.parse(model="helper", messages=HI, response_format=Task)
        assert completion.choices[0].message.parsed == task


def test_models() -> None:
    with talking([helper(), Agent("clerk", Trickle())]) as client:
        assert [model.id for model in client.models.list()] == ["helper", "clerk"]
        model = client.models.retrieve("clerk")
        assert (model.id, model.object, model.owned_by) == ("clerk", "model", "greenroom")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-5")


def test_errors_of_a_request() -> None:
    with talking(helper()) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="gpt-5", messages=HI)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as tools:
            function: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
            client.chat.completions.create(model="helper", messages=HI, tools=[function])
        assert (tools.value.code, tools.value.param) == ("unsupported_parameter", "tools")
        assert tools.value.type == "invalid_request_error"
        assert "tools of its own" in tools.value.message


def test_a_token_is_the_clients_key() -> None:
    agent = helper(["Hello."])
    with talking(agent, token=TOKEN, key=TOKEN) as client:
        assert client.chat.completions.create(model="helper", messages=HI).choices[0].message.content == "Hello."
        stranger = client.with_options(api_key="another-one")
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.chat.completions.create(model="helper", messages=HI)
        assert TOKEN not in str(refused.value)
        assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_what_is_not_here_says_what_is() -> None:
    with talking(helper()) as client:
        above = client.with_options(base_url=str(client.base_url).removesuffix("v1/"))
        for nowhere, words in (
            (lambda: above.models.list(), "it is /v1/models"),
            (lambda: above.chat.completions.create(model="helper", messages=HI), "it is /v1/chat/completions"),
            (lambda: client.responses.create(model="helper", input="Hi"), "POST /v1/chat/completions"),
            (lambda: client.embeddings.create(model="helper", input="Hi"), "POST /v1/chat/completions"),
        ):
            with pytest.raises(openai.NotFoundError, match=words) as missing:
                nowhere()
            assert missing.value.code == "unknown_url"


def test_errors_of_the_agents_model() -> None:
    """Before the first word with a status, after it in the stream."""
    replies: list[list[Any]] = [
        [RateLimited("slow down", retryable=False)],
        [AuthError("the agent's key", status=401)],
        ["It ", Overloaded("busy")],
        [ContextOverflow("too long")],
    ]
    with talking(helper(*replies)) as client:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="helper", messages=HI)
        with pytest.raises(openai.InternalServerError) as key:
            list(client.chat.completions.create(model="helper", messages=HI, stream=True))
        assert key.value.status_code == 502
        said: list[str] = []
        with pytest.raises(openai.APIError, match="busy") as busy:
            for chunk in client.chat.completions.create(model="helper", messages=HI, stream=True):
                said.append(chunk.choices[0].delta.content or "")
        assert "".join(said) == "It "
        assert busy.value.code == "overloaded"
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(model="helper", messages=HI)
        assert long.value.code == "context_length_exceeded"


def test_clients_try_again_what_may_pass_and_nothing_else() -> None:
    passing = RateLimited("slow down", retry_after=0.0)
    replies: list[list[Any]] = [*[[passing]] * 3, ["Hello."], [AuthError("the agent's key")], ["Never."]]
    model = Trickle(*replies)
    agent = Agent("helper", model, supervision=None)
    with talking(agent, max_retries=2) as client:
        assert client.chat.completions.create(model="helper", messages=HI).choices[0].message.content == "Hello."
        asked = len(model.requests)
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="helper", messages=HI)
        assert len(model.requests) == asked + 1


@tool(needs_approval=True)
async def charge() -> str:
    """Charge a card."""
    raise AssertionError("nobody has approved this")


def test_an_approval_that_nobody_can_give_is_not_tried_again() -> None:
    ends = Ends()
    agent = helper([asking("charge")], tools=[charge], hooks=ends.hooks)
    with talking(agent, max_retries=2) as client, pytest.raises(openai.ConflictError) as asked:
        client.chat.completions.create(model="helper", messages=HI)
    assert asked.value.code == "approval_required"
    assert (ends.next().reason, ends.is_empty) == ("approval", True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_whose_patience_ends(stream: bool) -> None:
    """Its run ends with it."""
    ends = Ends()
    with talking(helper([30.0, "Late."], hooks=ends.hooks), timeout=0.5) as client:
        with pytest.raises(openai.APITimeoutError):
            answer: Any = client.chat.completions.create(model="helper", messages=HI, stream=stream)
            list(answer)
        end = ends.next()
    assert (end.type, end.reason) == ("run.stopped", "abandoned")


def test_a_stream_that_is_closed() -> None:
    ends = Ends()
    with talking(helper(["It ", 30.0, "is."], hooks=ends.hooks)) as client:
        stream = client.chat.completions.create(model="helper", messages=HI, stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        stream.close()
        assert ends.next().reason == "abandoned"


def test_comments_keep_a_stream_alive() -> None:
    """The client, which gives up a silent connection, does not mind them."""
    with talking(helper([1.5, "Late."]), keep_alive=0.1, timeout=1.0) as client:
        stream = client.chat.completions.create(model="helper", messages=HI, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Late."


# -- the asynchronous client, on both backends. It leaves its generators half read, and trio says so.

left_half_read = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


@left_half_read
@pytest.mark.anyio
async def test_the_asynchronous_client() -> None:
    ends = Ends()
    agent = helper(["Hello."], ["Hel", "lo."], hooks=ends.hooks)
    with serving(Service(agent)) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            done = await client.chat.completions.create(model="helper", messages=HI)
            assert done.choices[0].message.content == "Hello."
            async with client.chat.completions.stream(model="helper", messages=HI) as stream:
                final = await stream.get_final_completion()
            assert final.choices[0].message.content == "Hello."
            assert [ends.next().type, ends.next().type] == ["run.completed"] * 2


@left_half_read
@pytest.mark.anyio
async def test_a_task_that_is_cancelled() -> None:
    """In the middle of a stream, and before an answer: the run ends with it."""
    ends = Ends()
    with serving(Service(helper(["It ", 30.0, "is."], [30.0, "It is."], hooks=ends.hooks))) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            for asked in (True, False):
                with anyio.move_on_after(0.5):
                    answer: Any = await client.chat.completions.create(model="helper", messages=HI, stream=asked)
                    async for _ in answer:
                        pass
                assert ends.next().reason == "abandoned"


# -- an agent whose model is another agent


@pytest.mark.anyio
async def test_an_agent_is_the_model_of_another() -> None:
    replies: list[list[Any]] = [["I look.", asking("look", place="attic")], ["Nothing."], ["Hel", "lo."]]
    expert = Agent("expert", Trickle(*replies), tools=[look])
    with serving(Service(expert, token=TOKEN)) as url:
        async with OpenAIChat("expert", base_url=url, api_key=TOKEN) as model:
            asker = Agent("asker", model, instructions="Ask the expert.", settings={"max_tokens": 1_000})
            result = await asker.run("Where?")
            assert result.output == "I look.\n\nNothing."
            assert result.usage.total_tokens == 24
            async with asker.stream("Hi") as run:
                assert "".join([piece async for piece in run.text()]) == "Hello."
                result = await run.result()
            assert result.status == "completed"
            assert result.usage.total_tokens == 12


@pytest.mark.anyio
async def test_its_errors_are_what_they_were() -> None:
    replies: list[list[Any]] = [
        [RateLimited("slow down", retry_after=3.0, retryable=False)],
        [ContextOverflow("too long")],
        [AuthError("the expert's key", status=401)],
    ]
    with serving(Service(Agent("expert", Trickle(*replies)))) as url:
        async with OpenAIChat("expert", base_url=url) as model:
            request = ModelRequest([user("Hi")])
            with pytest.raises(RateLimited) as slow:
                await model.complete(request)
            assert (slow.value.retry_after, slow.value.retryable) == (3.0, False)
            with pytest.raises(ContextOverflow):
                await model.complete(request)
            with pytest.raises(Overloaded) as key:
                await model.complete(request)
            assert not key.value.retryable
            with pytest.raises(InvalidRequest) as wrong:
                await model.complete(ModelRequest([user("Hi")], settings={"stop": ["END"]}))
            assert wrong.value.param == "stop"
