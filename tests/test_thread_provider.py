"""`ThreadProvider`: blocking clients in threads, given up without being lost sight of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from greenroom import Agent, Retry, System
from greenroom.events import ModelTextDelta
from greenroom.providers import (
    AuthError,
    BadResponse,
    ConnectionFailed,
    Fallback,
    InvalidRequest,
    ModelReply,
    ModelRequest,
    Overloaded,
    ProviderError,
    RateLimited,
    Scripted,
    SdkFailed,
    Stalled,
    StreamInterrupted,
    TextDelta,
    ThinkingDelta,
    ThreadProvider,
    ToolCallDelta,
    Usage,
    assistant,
    user,
)
from greenroom.providers.notices import listening
from greenroom.providers.thread_pieces import AHEAD
from greenroom.testing import interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")
REQUEST = ModelRequest([user("hello")])
colour: ContextVar[str] = ContextVar("colour", default="none")


class Legacy(ThreadProvider):
    """Does what a function says."""

    name = "legacy"
    model = "legacy-1"

    def __init__(self, answer: Callable[[ModelRequest], Any]) -> None:
        self.answer = answer

    def complete_sync(self, request: ModelRequest) -> Any:
        return self.answer(request)


class Streaming(ThreadProvider):
    """Yields what a function yields."""

    name = "streaming"
    model = "streaming-1"

    def __init__(self, pieces: Callable[[ModelRequest], Iterator[Any]]) -> None:
        self.pieces = pieces

    def stream_sync(self, request: ModelRequest) -> Any:
        return self.pieces(request)


async def until(condition: Callable[[], object]) -> None:
    """Let the others work until it is so."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "greenroom-model"]


def join_ours() -> None:
    for thread in ours():
        thread.join(5)
    assert ours() == []


async def read(provider: ThreadProvider) -> tuple[list[Any], ModelReply]:
    async with provider.stream(REQUEST) as stream:
        events = [event async for event in stream]
    return events, stream.reply


def on_both(scenario: Callable[..., Any], *args: Any) -> None:
    for backend in BACKENDS:
        run(scenario, *args, backend=backend)


# -- answers


def test_text_or_a_reply_from_a_thread() -> None:
    async def scenario() -> None:
        here = threading.get_ident()
        seen: list[Any] = []

        def answer(request: ModelRequest) -> Any:
            seen.append((threading.get_ident() != here, colour.get(), request.messages[0].text))
            return "plain" if len(seen) == 1 else ModelReply(assistant("whole"), "stop", Usage(1, 2))

        colour.set("blue")
        provider = Legacy(answer)
        assert await provider.complete(REQUEST) == ModelReply(assistant("plain"), "stop")
        assert (await provider.complete(REQUEST)).usage == Usage(1, 2)
        events, reply = await read(provider)
        assert (events, reply.message.text) == ([TextDelta("whole")], "whole")
        assert seen == [(True, "blue", "hello")] * 3

    on_both(scenario)


def test_a_thread_does_not_keep_whom_it_may_outlive() -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        agent = Agent("helper", Legacy(lambda _: heard.append(listening.get()) or "x"))
        await agent.run("x")
        assert heard == [None]

    on_both(scenario)


def test_a_stream_of_pieces() -> None:
    async def scenario() -> None:
        reply = ModelReply(assistant("Hello"), "stop", Usage(3, 4), "m")

        def pieces(request: ModelRequest) -> Iterator[Any]:
            assert colour.get() == "red"
            yield "Hel"
            yield TextDelta("lo")
            yield reply

        colour.set("red")
        assert await read(Streaming(pieces)) == ([TextDelta("Hel"), TextDelta("lo")], reply)
        assert await Streaming(pieces).complete(REQUEST) == reply
        assert await read(Streaming(lambda _: iter([reply]))) == ([TextDelta("Hello")], reply)

    on_both(scenario)


def test_a_stream_without_a_reply_is_folded_into_one() -> None:
    async def scenario() -> None:
        pieces = [
            ThinkingDelta("hm"),
            "Let ",
            "me",
            ToolCallDelta(0, '{"a"', "id-0", "look"),
            ToolCallDelta(1, "not json", None, "see"),
            ToolCallDelta(0, ": 1}"),
        ]
        for reply in (
            (await read(Streaming(lambda _: iter(pieces))))[1],
            await Streaming(lambda _: iter(pieces)).complete(REQUEST),
        ):
            assert reply.message.text == "Let me"
            assert reply.stop_reason == "tool_calls"
            first, second = reply.message.tool_calls
            assert (first.id, first.name, first.arguments, first.raw) == ("id-0", "look", {"a": 1}, '{"a": 1}')
            assert (second.id, second.name, second.arguments, second.raw) == (None, "see", None, "not json")
        assert (await read(Streaming(lambda _: iter(()))))[1].message.parts == ()

    on_both(scenario)


def test_errors_of_every_kind() -> None:
    async def scenario() -> None:
        def fails(request: ModelRequest) -> Iterator[Any]:
            yield "Hel"
            raise Overloaded("busy", retry_after=1.0)

        with pytest.raises(Overloaded):
            await read(Streaming(fails))
        with pytest.raises(Overloaded):
            await Streaming(fails).complete(REQUEST)
        with pytest.raises(BadResponse, match=r"Legacy.complete_sync\(\) must return a ModelReply or text, not 5"):
            await Legacy(lambda _: 5).complete(REQUEST)
        with pytest.raises(BadResponse, match="must yield text, events and at last a ModelReply, not 5"):
            await read(Streaming(lambda _: iter([5])))
        with pytest.raises(BadResponse, match="must end with its ModelReply"):
            await read(Streaming(lambda _: iter([ModelReply(assistant("x")), "more"])))
        with pytest.raises(NotImplementedError, match="must define complete_sync"):
            await ThreadProvider().complete(REQUEST)
        with pytest.raises(RuntimeError, match="outside its block"):
            await anext(Streaming(lambda _: iter(["x"])).stream(REQUEST))  # type: ignore[call-overload]
        async with Streaming(lambda _: iter(["x"])).stream(REQUEST) as stream:
            with pytest.raises(RuntimeError, match="once the events have been read"):
                _ = stream.reply

    on_both(scenario)


class RateLimitError(Exception):
    """As of a vendor's SDK: the status and a response with headers."""

    def __init__(self) -> None:
        super().__init__("slow down")
        self.status_code = 429
        self.response = SimpleNamespace(headers={"Retry-After": "7"}, status_code=429)


class HTTPError(OSError):
    """As of requests: the status on the response only."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Server Error")
        self.response = SimpleNamespace(status_code=status, headers={})


class ClientError(Exception):
    """As of boto3: the response is a dictionary."""

    def __init__(self) -> None:
        super().__init__("An error occurred (ThrottlingException)")
        held = {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "2"}}
        self.response = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": held}


class APITimeoutError(Exception):
    pass


class APIConnectionError(Exception):
    pass


class SSLError(ConnectionError):
    pass


class Awkward(Exception):
    """Whose attributes and text raise."""

    @property
    def status_code(self) -> int:
        raise KeyError("status_code")

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "kind", "status", "retryable", "retry_after"),
    [
        (RateLimitError(), RateLimited, 429, True, 7.0),
        (HTTPError(503), Overloaded, 503, True, None),
        (HTTPError(401), AuthError, 401, False, None),
        (HTTPError(400), InvalidRequest, 400, False, None),
        (ClientError(), RateLimited, 429, True, 2.0),
        (APITimeoutError("late"), Stalled, None, True, None),
        (TimeoutError("late"), Stalled, None, True, None),
        (ConnectionRefusedError(111, "no"), ConnectionFailed, None, True, None),
        (ConnectionResetError(104, "cut"), StreamInterrupted, None, True, None),
        (APIConnectionError("cut"), StreamInterrupted, None, True, None),
        (SSLError("certificate"), ConnectionFailed, None, False, None),
        (KeyError("choices"), SdkFailed, None, False, None),
        (FileNotFoundError("key.json"), SdkFailed, None, False, None),
        (StopIteration(), SdkFailed, None, False, None),
        (Awkward(), SdkFailed, None, False, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_somebody_elses_client_is_one_of_ours(
    error: Exception, kind: type[ProviderError], status: int | None, retryable: bool, retry_after: float | None
) -> None:
    async def scenario() -> None:
        def fails(request: ModelRequest) -> Any:
            raise error

        def begins(request: ModelRequest) -> Iterator[Any]:
            yield "Hel"
            raise error

        for provider in (Legacy(fails), Streaming(begins), Streaming(fails)):
            with pytest.raises(ProviderError) as caught:
                await read(provider)
            failure = caught.value
            if isinstance(error, StopIteration) and provider.name == "streaming":
                continue  # a generator makes a RuntimeError of it
            assert type(failure) is kind
            assert (failure.status, failure.retryable, failure.retry_after) == (status, retryable, retry_after)
            assert failure.__cause__ is error
            assert failure.provider == provider.name
            assert failure.message.startswith(type(error).__name__)

    on_both(scenario)


@pytest.mark.parametrize("answer", [KeyError("choices"), None, 5])
def test_a_failure_that_is_not_understood_is_one_call_and_no_crash(answer: Any) -> None:
    """Each of them may be billed. Another provider is asked, where there is one."""

    async def scenario() -> None:
        calls: list[Any] = []

        def fails(request: ModelRequest) -> Any:
            calls.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        with pytest.raises(ProviderError) as caught:
            await Agent("helper", Legacy(fails)).run("x")
        assert caught.value.result.cost is None
        assert len(calls) == 1
        result = await Agent("helper", Fallback([Legacy(fails), Scripted(["fine"])])).run("x")
        assert (result.output, len(calls)) == ("fine", 2)

    on_both(scenario)


def test_threads_are_used_again_while_a_system_is_open_and_end_with_it() -> None:
    async def scenario() -> None:
        idents: set[int] = set()

        def answer(request: ModelRequest) -> Iterator[Any]:
            idents.add(threading.get_ident())
            yield "x"

        agent = Agent("helper", Streaming(answer))
        async with System():
            for _ in range(5):
                await agent.run("x", on_event=lambda _: None)
            assert len(idents) == len(ours()) == 1
        await until(lambda: not ours())

    for backend in BACKENDS:
        run(scenario, backend=backend, virtual_time=False)


def test_there_are_never_more_threads_than_allowed() -> None:
    async def scenario() -> None:
        release, inside, most = threading.Semaphore(0), list[int](), list[int]()

        def answer(request: ModelRequest) -> str:
            inside.append(1)
            most.append(len(inside))
            release.acquire()
            inside.pop()
            return "x"

        provider = Legacy(answer)
        provider.max_threads = 2
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(provider.complete, REQUEST)
            await until(lambda: len(inside) == 2)
            for _ in range(6):
                release.release()
        assert (len(most), max(most)) == (6, 2)

    for backend in BACKENDS:
        run(scenario, backend=backend, virtual_time=False)


def test_a_thread_waits_when_nobody_reads() -> None:
    async def scenario() -> None:
        yielded: list[int] = []

        def pieces(request: ModelRequest) -> Iterator[Any]:
            for number in range(10 * AHEAD):
                yielded.append(number)
                yield str(number)

        async with Streaming(pieces).stream(REQUEST) as stream:
            assert await anext(stream) == TextDelta("0")
            await until(lambda: len(yielded) >= AHEAD)
            await anyio.sleep(0.02)
            assert len(yielded) <= AHEAD + 2
            assert len([event async for event in stream]) == 10 * AHEAD - 1

    for backend in BACKENDS:
        run(scenario, backend=backend, virtual_time=False)


# -- giving up


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stopped_run_leaves_its_thread_and_names_it(streamed: bool, caplog: pytest.LogCaptureFixture) -> None:
    release, began, ended = threading.Event(), threading.Event(), threading.Event()

    def answer(request: ModelRequest) -> Any:
        began.set()
        release.wait(30)
        ended.set()
        return "late"

    def pieces(request: ModelRequest) -> Iterator[Any]:
        yield "Hel"
        yield answer(request)

    agent = Agent("helper", Streaming(pieces) if streamed else Legacy(answer))
    heard: list[Any] = []
    try:
        with caplog.at_level(logging.WARNING, "greenroom"):
            async with System() as system:
                started = await system.start(agent, "x", on_event=heard.append if streamed else None)
                await until(began.is_set)
                await until(lambda: not streamed or any(isinstance(event, ModelTextDelta) for event in heard))
                result = await started.stop(reason="enough")
                assert not ended.is_set()
        name = "streaming:streaming-1" if streamed else "legacy:legacy-1"
        assert (result.status, result.outlived) == ("stopped", (name,))
        assert f"a call of model {name} was given up, but its thread goes on" in caplog.text
    finally:
        release.set()
    await until(ended.is_set)
    await until(lambda: not ours())
    assert "late" not in str(result.messages)
    assert [event.text for event in heard if isinstance(event, ModelTextDelta)] == (["Hel"] if streamed else [])


@pytest.mark.anyio
async def test_a_stream_that_is_left_ends_at_its_next_piece_and_is_closed() -> None:
    """A thread that only waits for its reader has not outlived anybody."""
    closed, yielded = threading.Event(), list[int]()

    def pieces(request: ModelRequest) -> Iterator[Any]:
        try:
            while True:
                yielded.append(1)
                yield "more"
        finally:
            closed.set()

    async with Streaming(pieces).stream(REQUEST) as stream:
        await anext(stream)
        await until(lambda: len(yielded) > AHEAD + 1)
    await until(closed.is_set)
    await until(lambda: not ours())


@pytest.mark.anyio
async def test_a_call_that_hangs_is_stalled_and_tried_again() -> None:
    release, calls = threading.Event(), list[int]()

    def answer(request: ModelRequest) -> str:
        calls.append(1)
        if len(calls) == 1:
            release.wait(30)
        return "in time"

    provider = Legacy(answer)
    provider.timeout = 0.05
    try:
        result = await Agent("helper", provider, retry=Retry(base=0.0)).run("x")
        assert result.output == "in time"
        assert result.outlived == ("legacy:legacy-1",)
    finally:
        release.set()
    await until(lambda: not ours())


@pytest.mark.anyio
async def test_a_stream_that_hangs_is_stalled() -> None:
    release = threading.Event()

    def pieces(request: ModelRequest) -> Iterator[Any]:
        yield "Hel"
        release.wait(30)

    provider = Streaming(pieces)
    provider.timeout = 0.05
    try:
        with pytest.raises(Stalled, match=r"no answer within timeout=0.05 s"):
            await read(provider)
        fallback = Fallback([provider, Scripted("instead")])
        assert (await fallback.complete(REQUEST)).message.text == "instead"
    finally:
        release.set()
    await until(lambda: not ours())


def test_cancelled_at_every_step_nothing_is_left() -> None:
    async def scenario(interruption: Any) -> None:
        answers: list[str] = []

        def pieces(request: ModelRequest) -> Iterator[Any]:
            yield "a"
            yield "b"

        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            answers.append((await Legacy(lambda _: "whole").complete(REQUEST)).message.text)
            answers.append((await read(Streaming(pieces)))[1].message.text)
        assert answers == ["whole", "ab"][: len(answers)]
        assert interruption.fired or len(answers) == 2
        await anyio.to_thread.run_sync(join_ours)

    for backend in BACKENDS:
        assert interrupt_everywhere(scenario, backend=backend) > 3


def test_virtual_time_stands_still_for_a_thread() -> None:
    async def scenario() -> None:
        pause = threading.Event()

        def pieces(request: ModelRequest) -> Iterator[Any]:
            for _ in range(3):
                pause.wait(0.01)
                yield "x"

        with anyio.fail_after(1):
            assert (await read(Streaming(pieces)))[1].message.text == "xxx"
            await Legacy(lambda _: pause.wait(0.01) or "x").complete(REQUEST)
        assert anyio.current_time() == 0.0

    on_both(scenario)
