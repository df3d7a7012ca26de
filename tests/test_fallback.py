"""`Fallback`: who is asked when somebody cannot answer (scenario 92), and the health that decides it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from math import inf
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom import Agent, Retry, System
from greenroom.events import ModelCompleted, ModelFallback, ModelTextDelta
from greenroom.providers import (
    AuthError,
    BadResponse,
    ConnectionFailed,
    ContentFiltered,
    ContextOverflow,
    Fallback,
    InvalidRequest,
    ModelReply,
    ModelRequest,
    OpenAIChat,
    Overloaded,
    Provider,
    ProviderError,
    RateLimited,
    Scripted,
    Stalled,
    StreamInterrupted,
    TextDelta,
    assistant,
    connect,
    user,
)
from greenroom.providers.health import Claim, Health, is_ill, passes_on
from greenroom.providers.health_book import health_book
from greenroom.testing import interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")
REQUEST = ModelRequest([user("hello")])
ONCE = Retry(attempts=1)


# -- the core


class HealthMachine(RuleBasedStateMachine):
    """Any order of calls and ends: never two that try at once, never one that asks during a rest."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.health = Health()
        self.claims: list[Claim] = []
        self.rest_until = -inf

    @rule(seconds=st.sampled_from([0.1, 10.0, 30.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def claim(self) -> None:
        claim = self.health.claim(self.now)
        if claim is not None:
            assert self.now >= self.rest_until
            self.claims.append(claim)
        else:
            assert self.now < self.health.resting_until or any(each.probe for each in self.claims)

    @rule(data=st.data(), retry_after=st.none() | st.sampled_from([0.0, 5.0, 1e9]), auth=st.booleans())
    @precondition(lambda self: self.claims)
    def fail(self, data: Any, retry_after: float | None, auth: bool) -> None:
        claim = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        error = AuthError("no") if auth else RateLimited("no", retry_after=retry_after)
        self.health.failed(claim, error, self.now, failures=3, cooldown=20.0)
        if auth:
            self.rest_until = inf
        elif retry_after is not None:
            self.rest_until = max(self.rest_until, self.now + min(retry_after, 300.0))
        elif claim.probe:
            assert self.health.resting_until > self.now

    @rule(data=st.data(), well=st.booleans())
    @precondition(lambda self: self.claims)
    def end(self, data: Any, well: bool) -> None:
        claim = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        if well:
            self.health.succeeded(claim)
            if claim.probe:
                self.rest_until = -inf
                assert self.health.is_well
        else:
            self.health.given_up(claim)

    @invariant()
    def one_tries_at_once(self) -> None:
        assert sum(each.probe for each in self.claims) <= 1


HealthMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestHealthMachine = HealthMachine.TestCase


@pytest.mark.parametrize(
    ("error", "passed_on", "ill"),
    [
        (RateLimited("x"), True, True),
        (RateLimited("no quota", retryable=False), True, True),
        (Overloaded("x"), True, True),
        (ConnectionFailed("x"), True, True),
        (ConnectionFailed("bad certificate", retryable=False), True, True),
        (StreamInterrupted("x"), True, True),
        (Stalled("x"), True, True),
        (AuthError("x"), True, True),
        (BadResponse("x"), True, True),
        (ContextOverflow("x"), True, False),
        (InvalidRequest("Insufficient credits", status=402), True, True),
        (InvalidRequest("x", status=404, code="model_not_found"), True, True),
        (InvalidRequest("x", status=404, code="DeploymentNotFound"), True, True),
        (InvalidRequest("model: claude-sonet", status=404), True, True),
        (InvalidRequest("no such file", status=404), True, False),
        (InvalidRequest("x", status=408, retryable=True), True, True),
        (InvalidRequest("x", status=409, retryable=True), True, True),
        (InvalidRequest("tokens per minute", status=413, code="rate_limit_exceeded"), True, False),
        (InvalidRequest("x", status=400), False, False),
        (InvalidRequest("x"), False, False),
        (ContentFiltered("x"), False, False),
        (ProviderError("ours"), False, False),
        (ProviderError("ours", retryable=True), True, True),
    ],
)
def test_which_failures_another_provider_may_mend(error: ProviderError, passed_on: bool, ill: bool) -> None:
    assert (passes_on(error), is_ill(error)) == (passed_on, ill)


# -- asking


def failing(*errors: ProviderError, then: str = "from the first", **more: Any) -> Scripted:
    return Scripted(*errors, *[then] * 50, **more)


def both_ways(test: Callable[[Callable[[Provider], Any]], Any]) -> None:
    """Play a scenario with `complete` and with `stream`, on both backends."""

    async def complete(provider: Provider) -> ModelReply:
        return await provider.complete(REQUEST)

    async def stream(provider: Provider) -> ModelReply:
        async with provider.stream(REQUEST) as events:
            async for _ in events:
                pass
        return events.reply

    for backend in BACKENDS:
        for ask in (complete, stream):
            run(test, ask, backend=backend)


def text(reply: ModelReply) -> str:
    return reply.message.text


def test_the_next_one_answers_and_says_who_it_is() -> None:
    async def scenario(ask: Any) -> None:
        for error in (RateLimited("x"), Overloaded("x"), ConnectionFailed("x"), Stalled("x"), AuthError("x")):
            first, second = failing(error, model="one"), Scripted("from the second", model="two")
            reply = await ask(Fallback([first, second]))
            assert (text(reply), reply.model) == ("from the second", "two")
            assert len(first.requests) == 1

    both_ways(scenario)


def test_what_is_wrong_everywhere_is_not_asked_again() -> None:
    async def scenario(ask: Any) -> None:
        for error in (InvalidRequest("x"), ContentFiltered("x")):
            second = Scripted("unasked")
            with pytest.raises(type(error)):
                await ask(Fallback([failing(error), second]))
            assert second.requests == []

    both_ways(scenario)


def test_a_conversation_that_is_too_long_for_one_may_fit_another() -> None:
    async def scenario(ask: Any) -> None:
        first = Scripted(*[ContextOverflow("too long")] * 10)
        both = Fallback([first, Scripted(*["it fits"] * 10)], failures=1)
        for _ in range(5):
            assert text(await ask(both)) == "it fits"
        assert len(first.requests) == 5, "it is not the health of the provider"

    both_ways(scenario)


def test_a_retry_after_is_obeyed_by_everybody_and_then_one_tries() -> None:
    """Half open: of twenty calls at that moment one goes to the first provider, and its success brings all back."""

    async def scenario() -> None:
        asked: list[float] = []

        class First(Provider):
            name = "first"

            async def complete(self, request: ModelRequest) -> ModelReply:
                asked.append(anyio.current_time())
                if len(asked) == 1:
                    raise RateLimited("wait", retry_after=10.0)
                await anyio.sleep(1)
                return ModelReply(assistant("first"))

        both = Fallback([First(), Scripted(*["second"] * 100)])
        answers: list[str] = []

        async def call() -> None:
            answers.append(text(await both.complete(REQUEST)))

        async def many() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(call)

        await call()
        await anyio.sleep(9.9)
        await many()
        assert asked == [0.0]
        await anyio.sleep(0.1)
        await many()
        assert asked == [0.0, 10.0]
        assert answers.count("first") == 1
        await many()
        assert len(asked) == 22

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_failures_in_a_row_send_to_rest_and_a_failed_trial_sends_back() -> None:
    async def scenario(ask: Any) -> None:
        first = Scripted(*[Overloaded("x")] * 2, "well", *[Overloaded("x")] * 4, "well again")
        both = Fallback([first, Scripted(*["second"] * 50)], failures=3, cooldown=20.0)
        for _ in range(6):
            await ask(both)
        assert len(first.requests) == 6, "an answer in between begins the count anew"
        for _ in range(5):
            assert text(await ask(both)) == "second"
        assert len(first.requests) == 6
        await anyio.sleep(20)
        assert text(await ask(both)) == "second"
        assert len(first.requests) == 7
        await anyio.sleep(19.9)
        await ask(both)
        assert len(first.requests) == 7
        await anyio.sleep(0.1)
        assert text(await ask(both)) == "well again"

    both_ways(scenario)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_trial_that_is_cancelled_leaves_the_next_one_to_try(streamed: bool) -> None:
    async def scenario(interruption: Any) -> None:
        started = 0

        class First(Provider):
            async def complete(self, request: ModelRequest) -> ModelReply:
                nonlocal started
                started += 1
                if started == 1:
                    raise RateLimited("wait", retry_after=1.0)
                await anyio.sleep(1)
                return ModelReply(assistant("first"))

        both = Fallback([First(), Scripted("second", "second", "second")])
        await both.complete(REQUEST)
        await anyio.sleep(1)
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            if streamed:
                async with both.stream(REQUEST) as events:
                    async for _ in events:
                        pass
            else:
                await both.complete(REQUEST)
        assert text(await both.complete(REQUEST)) == "first"
        assert health_book()._healths == {}

    for backend in BACKENDS:
        assert interrupt_everywhere(scenario, backend=backend) >= 2


def test_a_provider_that_refuses_its_key_is_off_until_the_key_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        keys: list[str] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            keys.append(request.headers["authorization"])
            if keys[-1] == "Bearer wrong-key":
                return httpx.Response(401, json={"error": {"message": "no"}})
            message = {"role": "assistant", "content": "first"}
            return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

        client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
        both = Fallback([OpenAIChat("m", client=client), Scripted(*["second"] * 9)])
        for _ in range(3):
            assert text(await both.complete(REQUEST)) == "second"
            await anyio.sleep(100_000)
        assert keys == ["Bearer wrong-key"]
        monkeypatch.setenv("OPENAI_API_KEY", "right-key")
        assert text(await both.complete(REQUEST)) == "first"

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_token_that_has_expired_is_made_anew() -> None:
    """Who signs each request has no key that could change: the provider rests, and then one call tries it."""

    async def scenario() -> None:
        fresh, asked = False, 0

        async def handle(request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            if request.headers["authorization"] != "Bearer new-token":
                return httpx.Response(401, json={"error": {"message": "expired", "code": "ExpiredToken"}})
            message = {"role": "assistant", "content": "first"}
            return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

        def signer(_: object) -> dict[str, str]:
            return {"authorization": f"Bearer {'new' if fresh else 'old'}-token"}

        client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        both = Fallback([OpenAIChat("m", client=client, signer=signer), Scripted(*["second"] * 9)], cooldown=10)
        for _ in range(2):
            assert text(await both.complete(REQUEST)) == "second"
        assert asked == 1
        fresh = True
        await anyio.sleep(11)
        assert text(await both.complete(REQUEST)) == "first"

    for backend in BACKENDS:
        run(scenario, backend=backend)


@pytest.mark.parametrize(
    ("answer", "off"),
    [
        ({"text": "<html>blocked</html>"}, False),
        ({"json": {"error": {"message": "blocked", "code": 1020}}}, False),
        ({"json": {"error": {"message": "no", "code": "permission_denied"}}}, True),
    ],
)
def test_a_403_that_is_not_of_the_key_lets_the_provider_rest(answer: dict[str, Any], off: bool) -> None:
    """A firewall, perhaps: nothing that only another key would mend."""

    async def scenario() -> None:
        asked = 0

        async def handle(_: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            return httpx.Response(403, **answer)

        client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        first = OpenAIChat("m", base_url="http://acme", api_key="secret-key", client=client)
        both = Fallback([first, Scripted(*["second"] * 9)], cooldown=10)
        for _ in range(2):
            assert text(await both.complete(REQUEST)) == "second"
        assert asked == 1
        await anyio.sleep(11)
        assert text(await both.complete(REQUEST)) == "second"
        assert asked == (1 if off else 2)

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_health_is_that_of_the_account_whoever_asks() -> None:
    async def scenario() -> None:
        asked = 0

        async def handle(request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            return httpx.Response(429, json={"error": {"message": "no"}}, headers={"retry-after": "10"})

        client = httpx.AsyncClient(transport=httpx.MockTransport(handle))

        def agent() -> Agent[None, str]:
            first = OpenAIChat("m", base_url="http://acme", api_key="secret-key", client=client)
            return Agent("helper", Fallback([first, Scripted("second")]), retry=ONCE)

        async with System():
            for _ in range(5):
                assert (await agent().run("x")).output == "second"
        assert asked == 1

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_nobody_stands_in_line_at_a_frozen_gate_while_another_is_free() -> None:
    """Also for another model at the same address with the same key: providers count per model."""

    async def scenario() -> None:
        asked: list[str] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            asked.append("mini" if b"mini" in request.content else "large")
            if asked[-1] == "large":
                return httpx.Response(429, json={"error": {"message": "no"}}, headers={"retry-after": "50"})
            message = {"role": "assistant", "content": "mini"}
            return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

        client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        large, mini = (
            OpenAIChat(name, base_url="http://acme", api_key="secret-key", client=client) for name in ("large", "mini")
        )
        with pytest.raises(RateLimited):
            await large.complete(REQUEST)
        for _ in range(3):
            assert text(await Fallback([large, mini]).complete(REQUEST)) == "mini"
        assert anyio.current_time() == 0.0
        assert asked == ["large", "mini", "mini", "mini"]

    for backend in BACKENDS:
        run(scenario, backend=backend)


# -- when nobody answers


def test_the_error_holds_all_causes() -> None:
    async def scenario(ask: Any) -> None:
        refused, down = RateLimited("wait", retry_after=7.0, provider="a"), AuthError("no", provider="b")
        refused.add_note("its own")
        for _ in range(2):
            with pytest.raises(RateLimited, match="wait") as caught:
                await ask(Fallback([Scripted(refused), Scripted(down)]))
            error = caught.value
            assert error.causes == (refused, down)
            assert (error.retryable, error.retry_after) == (True, 7.0)
            own, first, second = error.__notes__
            assert own == "its own"
            assert "rate_limit" in first
            assert "b: no" in second
        assert refused.__notes__ == ["its own"]

    both_ways(scenario)


def test_when_all_rest_nobody_is_asked_and_the_run_waits_for_the_first_to_come_back() -> None:
    async def scenario(ask: Any) -> None:
        first = Scripted(RateLimited("x", retry_after=8.0), "first")
        second = Scripted(RateLimited("x", retry_after=20.0), "second")
        both = Fallback([first, second])
        with pytest.raises(RateLimited):
            await ask(both)
        await anyio.sleep(1)
        with pytest.raises(Overloaded, match="no provider may be asked now") as caught:
            await ask(both)
        assert (caught.value.retryable, caught.value.retry_after) == (True, 7.0)
        assert "it rests for 7 s, after rate_limit" in caught.value.__notes__[0]
        assert (len(first.requests), len(second.requests)) == (1, 1)
        result = await Agent("helper", both).run("x")
        assert result.output == "first"
        assert 8.0 <= anyio.current_time() <= 12.0

    both_ways(scenario)


def test_when_all_have_refused_their_keys_another_try_is_no_use() -> None:
    async def scenario(ask: Any) -> None:
        both = Fallback([Scripted(AuthError("no")), Scripted(AuthError("no"))])
        for _ in range(2):
            with pytest.raises(AuthError) as caught:
                await ask(both)
            assert not caught.value.retryable
            assert len(caught.value.__notes__) == 2

    both_ways(scenario)


def test_an_error_that_cannot_be_copied_is_raised_itself() -> None:
    class Odd(ProviderError):
        def __init__(self, *, needed: int) -> None:
            super().__init__(f"odd {needed}", retryable=True)

    async def scenario(ask: Any) -> None:
        with pytest.raises(Odd) as caught:
            await ask(Fallback([Scripted(Odd(needed=1))]))
        assert caught.value.causes == (caught.value,)

    both_ways(scenario)


def test_a_crash_is_no_failure_of_the_provider() -> None:
    async def scenario(ask: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            await ask(Fallback([Scripted(lambda _: 1 / 0), Scripted("unasked")]))
        assert health_book()._healths == {}

    both_ways(scenario)


# -- streams


class Pieces(Provider):
    """Streams these pieces, and raises what is an error among them."""

    def __init__(self, *pieces: str | ProviderError, model: str = "pieces") -> None:
        self.model = model
        self.pieces = pieces
        self.open = 0
        self.asked = 0

    def stream(self, request: ModelRequest) -> Any:
        return PiecesStream(self)


class PiecesStream:
    def __init__(self, owner: Pieces) -> None:
        self.owner = owner
        self.left = list(owner.pieces)

    @property
    def reply(self) -> ModelReply:
        return ModelReply(assistant("".join(map(str, self.owner.pieces))), "stop", model=self.owner.model)

    async def __aenter__(self) -> PiecesStream:
        self.owner.open += 1
        self.owner.asked += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.owner.open -= 1

    def __aiter__(self) -> PiecesStream:
        return self

    async def __anext__(self) -> TextDelta:
        await anyio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        piece = self.left.pop(0)
        if isinstance(piece, ProviderError):
            raise piece
        return TextDelta(piece)


def test_a_stream_switches_until_something_was_shown() -> None:
    async def scenario() -> None:
        silent, cut = Pieces(StreamInterrupted("cut")), Pieces("Hel", StreamInterrupted("cut"))
        whole = Pieces("Hello", model="whole")
        async with Fallback([silent, whole]).stream(REQUEST) as stream:
            assert [event async for event in stream] == [TextDelta("Hello")]
            assert silent.open == 0
            assert stream.reply.model == "whole"
        assert whole.open == 0
        heard: list[Any] = []
        with pytest.raises(StreamInterrupted):
            async with Fallback([cut, whole]).stream(REQUEST) as stream:
                heard += [event async for event in stream]
        async with Fallback([cut, whole]).stream(REQUEST) as stream:
            assert await anext(stream) == TextDelta("Hel")
        assert (cut.open, whole.open, whole.asked) == (0, 0, 1)

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_stream_is_closed_at_every_step_of_a_cancellation() -> None:
    async def scenario(interruption: Any) -> None:
        silent, whole = Pieces(Overloaded("x")), Pieces("a", "b")
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            async with Fallback([silent, whole]).stream(REQUEST) as stream:
                async for _ in stream:
                    pass
        assert (silent.open, whole.open) == (0, 0)

    for backend in BACKENDS:
        assert interrupt_everywhere(scenario, backend=backend) > 2


# -- in runs


def test_a_run_tells_of_each_switch() -> None:
    async def scenario(streamed: bool) -> None:
        first = Scripted(RateLimited("wait", retry_after=5.0), model="one")
        agent = Agent("helper", Fallback([first, Scripted("Hello", "Hello again", model="two")]), retry=ONCE)
        heard: list[Any] = []
        for _ in range(2):
            if streamed:
                await agent.run("x", on_event=heard.append)
            else:
                async with System() as system:
                    started = await system.start(agent, "x")
                    heard += [event async for event in started.events()]
        told = [event for event in heard if isinstance(event, ModelFallback)]
        assert [(event.model, event.next_model, event.kind) for event in told] == [("one", "two", "rate_limit")] * 2
        assert "wait" in told[0].error
        assert "it rests for 5 s" in told[1].error
        assert [event.model for event in heard if isinstance(event, ModelCompleted)] == ["two", "two"]

    for backend in BACKENDS:
        for streamed in (True, False):
            run(scenario, streamed, backend=backend)


def test_a_run_shows_no_text_twice() -> None:
    async def scenario() -> None:
        agent = Agent("helper", Fallback([Pieces(Stalled("x")), Pieces("Hel", "lo")]))
        heard: list[Any] = []
        result = await agent.run("x", on_event=heard.append)
        assert result.output == "Hello"
        assert "".join(event.text for event in heard if isinstance(event, ModelTextDelta)) == "Hello"

    for backend in BACKENDS:
        run(scenario, backend=backend)


# -- making one


def test_strings_nesting_and_closing() -> None:
    async def scenario() -> None:
        closed: list[str] = []

        class Closing(Scripted):
            async def aclose(self) -> None:
                closed.append(self.model)

        inner = Fallback([Closing(Overloaded("x"), model="a"), Closing(Overloaded("x"), model="b")])
        async with Fallback([inner, Closing("third", model="c")]) as outer:
            assert text(await outer.complete(REQUEST)) == "third"
        assert closed == ["c", "b", "a"]
        await outer.aclose()
        assert sorted(closed) == ["a", "a", "b", "b", "c", "c"]

    for backend in BACKENDS:
        run(scenario, backend=backend)
    both = Fallback(["ollama:llama3.2", connect("vllm:m")])
    assert [each.name for each in both.providers] == ["ollama", "vllm"]
    assert both.model == "llama3.2"
    assert Agent("helper", both).provider is both


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Fallback([]), ValueError, "at least one provider"),
        (lambda: Fallback("openai:m"), TypeError, "a list of providers"),  # type: ignore[arg-type]
        (lambda: Fallback(Scripted()), TypeError, "a list of providers"),  # type: ignore[arg-type]
        (lambda: Fallback([5]), TypeError, "not 5"),  # type: ignore[list-item]
        (lambda: Fallback(["nobody:m"]), ValueError, "unknown vendor"),
        (lambda: Fallback([Scripted()], failures=0), ValueError, r"failures="),
        (lambda: Fallback([Scripted()], cooldown=inf), ValueError, r"cooldown="),
    ],
)
def test_a_wrong_argument_is_named(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_provider_that_is_gone_is_forgotten() -> None:
    async def scenario() -> None:
        for _ in range(3):
            with pytest.raises(Overloaded):
                await Fallback([Scripted(Overloaded("x"))]).complete(REQUEST)
        gc.collect()
        assert health_book()._healths == {}

    run(scenario)
