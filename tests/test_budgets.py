"""Limits of whole trees of runs: what is refused, when, and what a run tells that has reached one.

Scenario 93: budgets stop before the act.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given

from greenroom import (
    Agent,
    LimitExceeded,
    Limits,
    MemoryJournal,
    PriceUnknown,
    Retry,
    RunContext,
    RunResult,
    StopToken,
    System,
    events,
    tool,
)
from greenroom.agents.ledger import Amount
from greenroom.agents.model_budget import LEAST, OUTPUT, STEP, ModelBudget
from greenroom.agents.run_cell import RunCell
from greenroom.agents.token_count import count_messages
from greenroom.providers import (
    Fallback,
    ModelReply,
    ModelRequest,
    Overloaded,
    Price,
    Prices,
    Provider,
    RateLimited,
    Stalled,
    StreamInterrupted,
    TextDelta,
    ToolCallDelta,
    Usage,
    assistant,
    call,
    user,
)
from greenroom.testing import StrictServer, interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")
each_backend = pytest.mark.parametrize("backend", BACKENDS)

#: A dollar for a million tokens, read or written.
PRICES = Prices({"m": Price(input=1.0, output=1.0)}, published=False)


_USAGE = Usage(10, 5)


class Model(Provider):
    """A model that plays its lines, the last one for ever; each takes `seconds` and is told to have used `usage`.

    A line is text, a list of calls, a whole reply, an error, or a function of the request that gives one of these.
    """

    name = "model"

    def __init__(self, *lines: Any, usage: Usage | None = _USAGE, seconds: float = 1.0, model: str = "m") -> None:
        self.lines = lines
        self.usage = usage
        self.seconds = seconds
        self.model = model
        self.requests: list[ModelRequest] = []
        self.began: list[float] = []
        self.at_work = self.most = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        number = len(self.requests)
        self.requests.append(request)
        self.began.append(anyio.current_time())
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.at_work -= 1
        line = self.lines[min(number, len(self.lines) - 1)]
        if callable(line) and not isinstance(line, BaseException):
            line = line(request)
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, ModelReply):
            return line
        if isinstance(line, str):
            return ModelReply(assistant(line), "stop", self.usage, self.model, None, "stop")
        calls = [call(each) if isinstance(each, str) else each for each in line]
        named = [
            type(each)(f"c{number}-{place}", each.name, each.arguments, each.raw) for place, each in enumerate(calls)
        ]
        return ModelReply(assistant(tool_calls=named), "tool_calls", self.usage, self.model, None, "tool_calls")


@contextmanager
def ledgers() -> Iterator[list[RunCell]]:
    """The runs that are made meanwhile."""
    made: list[RunCell] = []
    begin = RunCell.__init__

    def init(self: RunCell, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        made.append(self)

    RunCell.__init__ = init  # type: ignore[method-assign]
    try:
        yield made
    finally:
        RunCell.__init__ = begin  # type: ignore[method-assign]


def set_aside(runs: list[RunCell]) -> list[Amount]:
    return [cell.spending.ledger.set_aside for cell in runs if cell.spending.ledger is not None]


def used(cell: RunCell) -> Amount:
    assert cell.spending.ledger is not None
    return cell.spending.ledger.used


def perform(backend: str, scenario: Callable[[], Any]) -> list[RunCell]:
    """Run a scenario; nothing may be set aside when it is over."""
    with ledgers() as made:
        run(scenario, backend=backend)
    assert all(each == Amount() for each in set_aside(made))
    return made


def check_history(result: RunResult[Any]) -> None:
    """Every call has its one result."""
    asked = [each.id for message in result.messages for each in message.tool_calls]
    answered = [each.call_id for message in result.messages for each in message.tool_results]
    assert asked == answered


def check_limited(result: RunResult[Any], reason: str) -> None:
    assert (result.status, result.reason) == ("limited", reason)
    check_history(result)


async def work() -> str:
    """Work."""
    return "worked"


# -- each limit alone


@each_backend
@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_requests(backend: str, allowed: int) -> None:
    """So many requests, and not one more; the error tells which limit, how much of it, and what the run has reached."""

    async def scenario() -> None:
        model = Model(["work"])
        agent = Agent("a", model, tools=[work], limits=Limits(requests=allowed))
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go")
        error = caught.value
        assert len(model.requests) == allowed
        assert (error.limit, error.used, error.allowed, error.owner) == ("requests", allowed, allowed, None)
        assert f"its limit of {allowed} requests ({allowed} used): raise Limits(requests=…)" in str(error)
        assert error.result is not None
        check_limited(error.result, "requests")
        assert len(error.result.messages) == 1 + 2 * allowed
        result = await agent.run("Go", on_limit="return")
        check_limited(result, "requests")

    perform(backend, scenario)


@each_backend
@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_tool_calls(backend: str, allowed: int) -> None:
    """So many calls; those of a reply that does not fit do not run, and say so in a history that is whole."""

    async def scenario() -> None:
        ran: list[str] = []

        async def note() -> str:
            """Note."""
            ran.append("note")
            return "noted"

        agent = Agent("a", Model(["note"]), tools=[note], limits=Limits(tool_calls=allowed))
        result = await agent.run("Go", on_limit="return")
        check_limited(result, "tool_calls")
        assert len(ran) == allowed
        last = result.messages[-1].tool_results[0]
        assert (last.cause, last.is_error) == ("limited", True)
        assert "not run: the run has reached the limit on its tool calls" in last.content

    perform(backend, scenario)


@each_backend
def test_a_reply_whose_calls_do_not_all_fit_runs_none(backend: str) -> None:
    """Half of what the model wanted could do harm. A call that is refused before does not count."""

    async def scenario() -> None:
        model = Model(["work", "nope"], ["work", "work"], "never")
        agent = Agent("a", model, tools=[work], limits=Limits(tool_calls=2))
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go")
        assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("tool_calls", 1, 2)
        assert "(1 used, and what comes next needs more than is left)" in str(caught.value)
        assert caught.value.result is not None
        causes = [each.cause for message in caught.value.result.messages for each in message.tool_results]
        assert causes == [None, "unknown_tool", "limited", "limited"]

    perform(backend, scenario)


@each_backend
@pytest.mark.parametrize(
    ("name", "reads", "writes", "calls"),
    [("input_tokens", 100, 1, 3), ("output_tokens", 1, 100, 3), ("total_tokens", 60, 40, 3)],
)
def test_tokens(backend: str, name: str, reads: int, writes: int, calls: int) -> None:
    """As many calls as the tokens last for; zero means none."""

    async def scenario() -> None:
        model = Model(["work"], usage=Usage(reads, writes))
        agent = Agent("a", model, tools=[work])
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go", limits=Limits(**{name: 100 * calls}))
        error = caught.value
        assert len(model.requests) == calls
        assert (error.limit, error.used, error.allowed) == (name, 100 * calls, 100 * calls)
        assert error.result is not None
        check_limited(error.result, "tokens")
        result = await agent.run("Go", limits=Limits(**{name: 0}), on_limit="return")
        check_limited(result, "tokens")
        assert len(model.requests) == calls

    perform(backend, scenario)


@each_backend
def test_large_numbers_are_written_out(backend: str) -> None:
    """A limit of a million tokens is not told of as 1e+06."""

    async def scenario() -> None:
        model = Model("Done", usage=Usage(1_234_567, 5))
        with pytest.raises(LimitExceeded, match=r"1,000,000 input tokens \(1,234,567 used\)"):
            agent = Agent("a", model)
            result = await agent.run("Go", limits=Limits(input_tokens=1_000_000))
            raise LimitExceeded("input_tokens", result.usage.input_tokens or 0, 1_000_000)

    perform(backend, scenario)
    assert "0.000012 US dollars (0.000000001 used" in str(LimitExceeded("cost", 1e-9, 0.000012))


@each_backend
def test_dollars(backend: str) -> None:
    """As many calls as the dollars pay for, to the billionth; what a call may cost is set aside before it."""

    async def scenario() -> None:
        model = Model(["work"], usage=Usage(50, 50))
        agent = Agent("a", model, tools=[work], prices=PRICES, settings={"max_tokens": 50})
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go", limits=Limits(cost=0.0003))
        error = caught.value
        assert len(model.requests) == 3
        assert (error.limit, error.allowed) == ("cost", 0.0003)
        assert error.used == pytest.approx(0.0003)
        assert error.result is not None
        assert error.result.cost == pytest.approx(0.0003)
        check_limited(error.result, "cost")
        result = await agent.run("Go", limits=Limits(cost=0), on_limit="return")
        check_limited(result, "cost")
        assert len(model.requests) == 3

    perform(backend, scenario)


@each_backend
def test_what_costs_nothing_is_asked_for_nothing(backend: str) -> None:
    """Zero dollars are enough for a model that is free."""

    async def scenario() -> None:
        free = Prices({"m": Price(input=0, output=0)}, published=False)
        result = await Agent("a", Model("Done"), prices=free).run("Go", limits=Limits(cost=0))
        assert result.output == "Done"

    perform(backend, scenario)


@each_backend
def test_a_price_that_nobody_knows(backend: str) -> None:
    """A run that is bounded in dollars does not ask: nobody would know when to stop."""

    async def scenario() -> None:
        model = Model("Done", model="mystery")
        agent = Agent("a", model, prices=PRICES, limits=Limits(cost=1.0))
        with pytest.raises(PriceUnknown, match="needs the price of 'mystery'") as caught:
            await agent.run("Go")
        assert (caught.value.limit, caught.value.model, caught.value.used) == ("cost", "mystery", 0)
        assert caught.value.result is not None
        check_limited(caught.value.result, "cost")
        assert model.requests == []
        told = await agent.run("Go", on_limit="return")
        assert told.error == f"PriceUnknown: {caught.value}"
        assert told.to_dict()["error"] == told.error
        assert "limited (cost): PriceUnknown: " in str(told.trace())
        assert caught.value.result.error == told.error
        assert (await Agent("b", model, prices=PRICES).run("Go", limits=Limits(requests=1))).output == "Done"

    perform(backend, scenario)


@each_backend
def test_of_several_that_may_answer_the_dearest_counts(backend: str) -> None:
    """Nobody knows who will; and all of them need a price."""

    async def scenario() -> None:
        prices = Prices({"cheap": Price(input=1, output=1), "dear": Price(input=1, output=10)}, published=False)
        cheap, dear = Model("Done", model="cheap"), Model("Done", model="dear")
        settings = {"max_tokens": 100}
        agent = Agent("a", Fallback([cheap, dear]), prices=prices, settings=settings)
        result = await agent.run("Go", limits=Limits(cost=0.00099), on_limit="return")
        assert cheap.requests[0].settings.max_tokens == 98  # of 990 micro-dollars, 5 for the input
        assert result.output == "Done"
        unknown = Agent("a", Fallback([cheap, Model("Done", model="mystery")]), prices=prices)
        with pytest.raises(PriceUnknown):
            await unknown.run("Go", limits=Limits(cost=1.0))

    perform(backend, scenario)


# -- what is set aside


@each_backend
def test_a_request_asks_for_no_more_than_is_left(backend: str) -> None:
    """An answer that is cut off there is no answer: the run has reached its limit, with what there is of it."""

    async def scenario() -> None:
        def cut(request: ModelRequest) -> ModelReply:
            most = request.settings.max_tokens or 0
            return ModelReply(assistant("half an ans"), "length", Usage(10, most), "m", None, "length")

        model = Model(["work"], cut, usage=Usage(10, 60))
        agent = Agent("a", model, tools=[work], limits=Limits(output_tokens=100))
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go")
        assert [each.settings.max_tokens for each in model.requests] == [100, 40]
        result = caught.value.result
        assert result is not None
        check_limited(result, "tokens")
        assert (caught.value.limit, caught.value.used) == ("output_tokens", 100)
        assert (result.messages[-1].text, result.messages[-1].partial) == ("half an ans", True)
        assert result.usage.output_tokens == 100

    perform(backend, scenario)


@each_backend
def test_an_answer_within_a_lowered_request_is_one(backend: str) -> None:
    """And so is one that the agent's own settings have cut off."""

    async def scenario() -> None:
        model = Model("Done")
        result = await Agent("a", model).run("Go", limits=Limits(output_tokens=50))
        assert (result.status, model.requests[0].settings.max_tokens) == ("completed", 50)
        model = Model(ModelReply(assistant("half"), "length", Usage(10, 30), "m"))
        agent = Agent("a", model, settings={"max_tokens": 30, "temperature": 0.5})
        result = await agent.run("Go", limits=Limits(output_tokens=50))
        assert (result.status, result.output) == ("completed", "half")
        assert model.requests[0].settings == agent.settings
        model = Model("Done")
        await Agent("a", model).run("Go", limits=Limits(output_tokens=50_000))
        assert model.requests[0].settings.max_tokens is None

    perform(backend, scenario)


@each_backend
def test_a_handful_of_tokens_is_not_worth_asking_for(backend: str) -> None:
    """Providers refuse such requests; but whoever wants so few gets them."""

    async def scenario() -> None:
        model = Model("Done", usage=Usage(10, 1))
        result = await Agent("a", model).run("Go", limits=Limits(output_tokens=LEAST - 1), on_limit="return")
        check_limited(result, "tokens")
        assert model.requests == []
        await Agent("a", model).run("Go", limits=Limits(output_tokens=LEAST))
        await Agent("a", model, settings={"max_tokens": 3}).run("Go", limits=Limits(output_tokens=3))
        assert [each.settings.max_tokens for each in model.requests] == [LEAST, 3]

    perform(backend, scenario)


@each_backend
def test_each_try_asks_for_what_is_left(backend: str) -> None:
    """A sibling has used some of it between the two."""

    async def scenario() -> None:
        slow = Model("Done", usage=Usage(10, 50), seconds=2)
        fast = Model(Overloaded("busy"), "Done", usage=Usage(10, 10))
        tools = [
            expert("slow", slow, settings={"max_tokens": 50}),
            expert("fast", fast, settings={"max_tokens": 60}, retry=Retry(base=30)),
        ]
        calls = [call("slow", prompt="?"), call("fast", prompt="?")]
        boss = Agent("boss", Model(calls, "Done", usage=Usage(0, 0)), tools=tools, settings={"max_tokens": 1})
        result = await boss.run("Go", limits=Limits(output_tokens=110))
        assert result.output == "Done"
        assert [each.settings.max_tokens for each in fast.requests] == [60, 60]
        slow, fast = Model("Done", usage=Usage(10, 50), seconds=2), Model(Overloaded("busy"), "Done")
        boss = boss.with_(
            model=Model(calls, "Done", usage=Usage(0, 0)),
            tools=[tools[0].with_(model=slow), tools[1].with_(model=fast)],
        )
        await boss.run("Go", limits=Limits(output_tokens=100), on_limit="return")
        assert fast.requests[-1].settings.max_tokens == 50

    perform(backend, scenario)


@each_backend
def test_an_input_that_does_not_fit_is_not_sent(backend: str) -> None:
    """It is counted beforehand, by its text."""

    async def scenario() -> None:
        model = Model("Done")
        text = "word " * 1_000
        for limits in (Limits(input_tokens=1_000), Limits(total_tokens=1_000)):
            result = await Agent("a", model).run(text, limits=limits, on_limit="return")
            check_limited(result, "tokens")
        assert model.requests == []
        exact = count_messages([user("Go")])
        await Agent("a", model).run("Go", limits=Limits(input_tokens=exact))
        result = await Agent("a", model).run("Go", limits=Limits(input_tokens=exact - 1), on_limit="return")
        check_limited(result, "tokens")

    perform(backend, scenario)


@each_backend
def test_a_provider_that_tells_no_usage_is_counted_by_its_text(backend: str) -> None:
    """So a limit holds for it too."""

    async def scenario() -> None:
        model = Model(["work"], usage=None)
        agent = Agent("a", model, tools=[work])
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go", limits=Limits(total_tokens=600))
        assert 3 < len(model.requests) < 30
        assert caught.value.used <= 600

    perform(backend, scenario)


# -- tries that fail


@each_backend
def test_every_try_is_a_request(backend: str) -> None:
    """Also one that fails; what it was not billed for comes back."""

    async def scenario() -> None:
        model = Model(RateLimited("slow down"))
        agent = Agent("a", model, retry=Retry(attempts=5, base=0.1))
        with pytest.raises(LimitExceeded) as caught:
            await agent.run("Go", limits=Limits(requests=3))
        assert (len(model.requests), caught.value.used) == (3, 3)
        model = Model(RateLimited("slow down"), RateLimited("slow down"), "Done")
        result = await Agent("a", model, retry=Retry(base=0.1)).run("Go", limits=Limits(output_tokens=50))
        assert result.status == "completed"
        assert [each.settings.max_tokens for each in model.requests] == [50, 50, 50]

    perform(backend, scenario)


@each_backend
def test_a_try_that_may_have_been_billed_counts_as_all_that_was_set_aside(backend: str) -> None:
    """Nobody can tell how much of it was used."""

    async def scenario() -> None:
        model = Model(Stalled("silence"), "Done")
        agent = Agent("a", model, retry=Retry(base=0.1), settings={"max_tokens": 60})
        result = await agent.run("Go", limits=Limits(output_tokens=100))
        assert [each.settings.max_tokens for each in model.requests] == [60, 40]
        assert result.status == "completed"
        assert result.cost is None

    [cell] = perform(backend, scenario)
    assert (used(cell).requests, used(cell).output_tokens) == (2, 65)


@each_backend
def test_a_call_that_was_cut_counts_as_all_that_was_set_aside(backend: str) -> None:
    """It was asked, and may be billed."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Model("Done", seconds=10), settings={"max_tokens": 60})
            handle = await system.start(agent, "Go", limits=Limits(output_tokens=100))
            await anyio.sleep(1)
            handle.stop()
            assert (await handle.result()).status == "stopped"

    [cell] = perform(backend, scenario)
    assert (used(cell).requests, used(cell).output_tokens) == (1, 60)


@each_backend
def test_a_price_that_is_not_known_afterwards_counts_as_the_most_it_can_be(backend: str) -> None:
    """The answer came from a cache that has no price."""

    async def scenario() -> None:
        reply = ModelReply(assistant("Done"), "stop", Usage(10, 200, None, 5), "m")
        agent = Agent("a", Model(reply), prices=PRICES, settings={"max_tokens": 100})
        result = await agent.run("Go", limits=Limits(cost=1.0))
        assert result.cost is None

    [cell] = perform(backend, scenario)
    assert used(cell).cost == 210_000


# -- over a tree


def expert(name: str, model: Provider, **options: Any) -> Agent[Any, Any]:
    return Agent(name, model, description=name, **options)


def team(experts: int, *, reply: Any = "Done", **options: Any) -> tuple[list[Model], Agent[Any, Any]]:
    """So many experts who are asked at once, each with a model of its own."""
    models = [Model(reply, **options) for _ in range(experts)]
    names = [f"expert{number}" for number in range(experts)]
    tools = [expert(name, model, settings={"max_tokens": 100}) for name, model in zip(names, models, strict=True)]
    boss = Model([call(name, prompt="?") for name in names], "All done", usage=Usage(0, 0))
    return models, Agent("boss", boss, tools=tools, settings={"max_tokens": 1})


@each_backend
def test_a_limit_of_the_root_holds_for_all_below(backend: str) -> None:
    """However many ask at the same time. The others are told, and so is the root where it would go on itself."""

    async def scenario() -> None:
        models, boss = team(4)
        with pytest.raises(LimitExceeded) as caught:
            await boss.run("Go", limits=Limits(requests=3))
        assert sum(len(model.requests) for model in models) == 2
        result = caught.value.result
        assert result is not None
        check_limited(result, "requests")
        told = [each.content for message in result.messages for each in message.tool_results]
        refused = [each for each in told if each != "Done"]
        assert len(refused) == 2
        assert all("the run reached the limit of run" in each and "above it, 3 requests" in each for each in refused)
        assert result.usage.input_tokens == 20

    root = perform(backend, scenario)[0]
    assert used(root).requests == 3


@each_backend
def test_a_limit_of_a_subagent_holds_for_it_alone(backend: str) -> None:
    """What stops an expert is a failed call to the one above, which goes on."""

    async def scenario() -> None:
        seen: list[Any] = []
        model, other = Model(["work"]), Model("Done")
        tools = [expert("one", model, tools=[work], limits=Limits(requests=2)), expert("two", other)]
        script = Model([call("one", prompt="?"), call("two", prompt="?")], "All done")
        result = await Agent("boss", script, tools=tools).run("Go", on_event=seen.append)
        assert result.output == "All done"
        assert [len(each.requests) for each in (model, other, script)] == [2, 1, 2]
        told = [each.content for message in result.messages for each in message.tool_results]
        assert "LimitExceeded: the run reached its limit of 2 requests" in told[0]
        [limited] = [event for event in seen if isinstance(event, events.RunLimited)]
        assert (limited.agent, limited.reason) == ("one", "requests")

    perform(backend, scenario)


@each_backend
def test_limits_at_several_levels_all_hold(backend: str) -> None:
    """The one with the least left is told of, and it is said whose it is."""

    async def scenario() -> None:
        errors: list[LimitExceeded] = []

        @tool
        async def ask(prompt: str) -> str:
            """Ask."""
            for limits in (Limits(requests=2), Limits(requests=9)):
                try:
                    await Agent("below", Model(["work"]), tools=[work]).run(prompt, limits=limits)
                except LimitExceeded as error:
                    errors.append(error)
            return "asked"

        boss = Agent("boss", Model([call("ask", prompt="?")], "Done"), tools=[ask])
        with pytest.raises(LimitExceeded) as caught:
            await boss.run("Go", limits=Limits(requests=5), run_id="root")
        assert [(each.used, each.allowed, each.owner) for each in errors] == [(2, 2, None), (5, 5, "root")]
        assert "the limit of run 'root' above it, 5 requests (5 used)" in str(errors[1])
        assert caught.value.owner is None

    perform(backend, scenario)


@each_backend
def test_who_cannot_have_its_share_at_once_waits_for_it(backend: str) -> None:
    """First come, first served; nobody is refused what others will give back."""

    async def scenario() -> None:
        models, boss = team(4, usage=Usage(10, 10))
        result = await boss.run("Go", limits=Limits(output_tokens=240))
        assert result.output == "All done"
        assert sorted(model.began[0] for model in models) == [1.0, 1.0, 2.0, 2.0]
        assert [model.requests[0].settings.max_tokens for model in models] == [100] * 4

    perform(backend, scenario)


@each_backend
def test_who_comes_later_does_not_overtake(backend: str) -> None:
    """A small call stands behind a large one that waits."""

    async def scenario() -> None:
        began: list[tuple[int, float]] = []

        @tool
        async def ask(number: int) -> str:
            """Ask for so many tokens."""
            await anyio.sleep(number / 10)
            model = Model(lambda _: began.append((number, anyio.current_time())) or "Done", usage=Usage(1, 1))
            agent = Agent("expert", model, settings={"max_tokens": (80, 60, 20)[number]})
            return (await agent.run("?")).output

        calls = [call("ask", number=number) for number in range(3)]
        boss = Agent("boss", Model(calls, "Done", usage=Usage(0, 0)), tools=[ask], settings={"max_tokens": 1})
        await boss.run("Go", limits=Limits(output_tokens=100))
        assert sorted(began) == [(0, 2.0), (1, 3.0), (2, 3.0)]

    perform(backend, scenario)


@each_backend
def test_who_waits_is_refused_once_it_is_clear(backend: str) -> None:
    """What was set aside was used: what is left is not enough."""

    async def scenario() -> None:
        models, boss = team(3, usage=Usage(10, 100))
        seen: list[float] = []

        def hear(event: Any) -> None:
            if isinstance(event, events.RunLimited):
                seen.append(anyio.current_time())

        result = await boss.run("Go", limits=Limits(output_tokens=110), on_event=hear)
        assert sum(len(model.requests) for model in models) == 1
        assert seen == [2.0, 2.0]
        assert result.output == "All done"  # it needs one token, and ten are left

    perform(backend, scenario)


@each_backend
def test_a_request_that_has_gone_out_will_not_come_back(backend: str) -> None:
    """Who needs one that is left to nobody is refused at once, and does not wait for the others."""

    async def scenario() -> None:
        models, boss = team(3, seconds=1)
        seen: list[tuple[float, Any]] = []
        await boss.run(
            "Go",
            limits=Limits(requests=3),
            on_limit="return",
            on_event=lambda event: seen.append((anyio.current_time(), event)),
        )
        assert sum(len(model.requests) for model in models) == 2
        limited = [(when, event.agent == "boss") for when, event in seen if isinstance(event, events.RunLimited)]
        assert limited == [(1.0, False), (2.0, True)]

    perform(backend, scenario)


@each_backend
def test_who_waits_can_be_stopped(backend: str) -> None:
    """At once, and it has taken nothing; who stood behind goes on."""

    async def scenario() -> None:
        token = StopToken()
        models = [Model("Done", usage=Usage(10, 10), seconds=5) for _ in range(3)]

        @tool
        async def ask(number: int) -> str:
            """Ask."""
            await anyio.sleep(number / 10)
            agent = Agent(f"expert{number}", models[number], settings={"max_tokens": 100})
            result = await agent.run("?", stop=token if number == 1 else None)
            ended[number] = anyio.current_time()
            return result.status

        ended: dict[int, float] = {}
        calls = [call("ask", number=number) for number in range(3)]
        boss = Agent("boss", Model(calls, "Done", usage=Usage(0, 0)), tools=[ask], settings={"max_tokens": 1})
        async with System() as system:
            handle = await system.start(boss, "Go", limits=Limits(output_tokens=130))
            await anyio.sleep(3)
            token.stop()
            result = await handle.result()
        assert result.output == "Done"
        assert ended == {0: 6.0, 1: 3.0, 2: 11.0}
        assert [len(model.requests) for model in models] == [1, 0, 1]

    perform(backend, scenario)


@each_backend
def test_calls_that_have_not_begun_do_not_count_in_the_end(backend: str) -> None:
    """A reply with ten calls, of which two run at a time: those that were never begun are given back to the tree."""

    async def scenario() -> None:
        async def nap() -> str:
            """Sleep."""
            await anyio.sleep(10)
            return "rested"

        below = Agent("below", Model(["nap"] * 10), tools=[nap], parallel_tools=2)
        below_tool = below.as_tool()
        boss = Agent("boss", Model([call("below", prompt="?")], "Done"), tools=[below_tool])
        with anyio.move_on_after(15):
            await boss.run("Go", limits=Limits(tool_calls=20))

    root, below = perform(backend, scenario)
    assert (used(below).tool_calls, used(root).tool_calls) == (4, 5)


@each_backend
def test_calls_that_are_not_approved_do_not_count(backend: str) -> None:
    """They have not run."""

    async def scenario() -> None:
        asked = tool(needs_approval=True)(work)
        agent = Agent("a", Model(["work", "work"], "Done"), tools=[asked])
        result = await agent.run("Go", limits=Limits(tool_calls=2), approve=lambda _: False)
        assert result.status == "completed"

    [cell] = perform(backend, scenario)
    assert used(cell).tool_calls == 0


# -- subagents: how many, and how deep


def nest(levels: int, model: Callable[[], Provider] | None = None) -> Agent[Any, Any]:
    """An agent that asks one that asks one …"""
    agent = expert("bottom", model() if model is not None else Model("bottom"))
    for level in reversed(range(levels)):
        agent = expert(f"level{level}", Model([call(agent.name, prompt="?")], f"level{level}"), tools=[agent])
    return agent


@each_backend
def test_children(backend: str) -> None:
    """So many subagents in the whole tree; one more ends before it begins, and tells so."""

    async def scenario() -> None:
        models, boss = team(4)
        seen: list[Any] = []
        result = await boss.run("Go", limits=Limits(children=2), on_event=seen.append)
        assert result.output == "All done"
        assert sum(len(model.requests) for model in models) == 2
        told = [each.content for message in result.messages for each in message.tool_results]
        refused = [each for each in told if each != "Done"]
        assert len(refused) == 2
        assert all("above it, 2 subagents (2 used): raise Limits(children=…)" in each for each in refused)
        limited = [event for event in seen if isinstance(event, events.RunLimited)]
        assert [event.reason for event in limited] == ["children"] * 2
        result = await team(1)[1].run("Go", limits=Limits(children=0))
        assert "0 subagents (0 used)" in result.messages[-2].tool_results[0].content

    perform(backend, scenario)


@each_backend
@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_depth(backend: str, allowed: int) -> None:
    """So many levels below a run."""

    async def scenario() -> None:
        seen: list[Any] = []
        result = await nest(3).run("Go", limits=Limits(depth=allowed), on_event=seen.append, run_id="root")
        assert result.output == "level0"
        began = {event.agent for event in seen if isinstance(event, events.RunStarted)}
        assert len(began) == 1 + allowed
        [limited] = [event for event in seen if isinstance(event, events.RunLimited)]
        assert (limited.reason, len(limited.path)) == ("depth", allowed + 2)
        errors = [event.result for event in seen if isinstance(event, events.ToolErrored)]
        assert f"the limit of run 'root' above it, {allowed} levels of subagents" in errors[0]

    perform(backend, scenario)


@each_backend
@pytest.mark.parametrize("limits", [Limits(depth=0), Limits(children=0)])
def test_a_subagent_that_is_refused_is_a_limited_run(backend: str, limits: Limits) -> None:
    """By call or as a stream: with its error, or with a result that is asked for instead. It leaves nothing behind."""

    async def scenario() -> None:
        found: list[Any] = []
        below = Agent("below", Model("never"))

        @tool
        async def ask() -> str:
            """Ask."""
            result = await below.run("Go", on_limit="return")
            found.append((result.status, result.reason, [message.text for message in result.messages]))
            with pytest.raises(LimitExceeded) as caught:
                await below.run("Go")
            found.append(caught.value.result is not None)
            async with below.stream("Go") as handle:
                with pytest.raises(LimitExceeded):
                    await handle.result()
            return "asked"

        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            handle = await system.start(Agent("boss", Model(["ask"], "Done"), tools=[ask]), "Go", limits=limits)
            assert (await handle.result()).output == "Done"
        reason = "depth" if limits.depth == 0 else "children"
        assert found == [("limited", reason, ["Go"]), True]
        assert len(await journal.runs()) == 1

    made = perform(backend, scenario)
    assert len(made) == 4


# -- what is said


@each_backend
def test_a_limit_that_is_nearly_reached_is_said_once(backend: str) -> None:
    """Of each limit, by the run whose limit it is, to its hook too."""

    async def scenario() -> None:
        seen: list[Any] = []
        hooked: list[Any] = []
        model = Model(["work"], usage=Usage(10, 10))
        below = expert("below", model, tools=[work], limits=Limits(requests=9, turns=5))
        script = Model([call("below", prompt="?")], "Done")
        boss = Agent("boss", script, tools=[below], hooks={"on_limit": hooked.append})
        await boss.run("Go", limits=Limits(requests=10, tool_calls=10, warn_at=0.5), on_event=seen.append)
        said = [
            (event.limit, event.used, event.allowed, len(event.path))
            for event in seen
            if isinstance(event, events.LimitWarning)
        ]
        assert said == [("turns", 4, 5, 2), ("requests", 5, 10, 1), ("tool_calls", 5, 10, 1)]
        assert [event.limit for event in hooked] == ["requests", "tool_calls"]

    perform(backend, scenario)


@each_backend
def test_nothing_is_said_without_warn_at(backend: str) -> None:
    """And a run says by its last event that it has reached a limit."""

    async def scenario() -> None:
        seen: list[Any] = []
        limits = Limits(requests=1, turns=1, wall_time=2, warn_at=None)
        agent = Agent("a", Model(["work"]), tools=[work])
        await agent.run("Go", limits=limits, on_event=seen.append, on_limit="return")
        assert not [event for event in seen if isinstance(event, events.LimitWarning)]
        assert isinstance(seen[-1], events.RunLimited)
        assert seen[-1].reason == "turns"

    perform(backend, scenario)


@each_backend
@pytest.mark.parametrize(
    ("limits", "turns"),
    [(Limits(turns=10), [8]), (Limits(turns=30, warn_at=0.1), [3]), (Limits(turns=2, warn_at=1.0), [2])],
)
def test_turns_are_warned_of(backend: str, limits: Limits, turns: list[int]) -> None:
    """When the turn begins with which the share is reached."""

    async def scenario() -> None:
        numbers = iter(range(100))

        async def count() -> str:
            """Count."""
            return str(next(numbers))

        seen: list[Any] = []
        agent = Agent("a", Model(["count"]), tools=[count])
        await agent.run("Go", limits=limits, on_event=seen.append, on_limit="return")
        assert [event.turn for event in seen if isinstance(event, events.LimitWarning)] == turns

    perform(backend, scenario)


# -- time


@each_backend
def test_the_time_of_a_run_includes_all_that_it_does(backend: str) -> None:
    """Models, tools, subagents: what is at work when it is over is cut short, and the run says so."""

    async def scenario() -> None:
        seen: list[Any] = []

        @tool
        async def nap() -> str:
            """Sleep."""
            await anyio.sleep(3)
            return "rested"

        below = expert("below", Model(["nap"]), tools=[nap])
        boss = Agent("boss", Model(["nap"], [call("below", prompt="?")]), tools=[nap, below])
        with pytest.raises(LimitExceeded) as caught:
            await boss.run("Go", limits=Limits(wall_time=10), on_event=seen.append)
        assert anyio.current_time() == 10
        error = caught.value
        assert (error.limit, error.used, error.allowed) == ("wall_time", 10, 10)
        assert "its limit of 10 seconds" in str(error)
        result = error.result
        assert result is not None
        check_limited(result, "wall_time")
        assert [each.cause for message in result.messages for each in message.tool_results] == [None, "cancelled"]
        warnings = [event for event in seen if isinstance(event, events.LimitWarning)]
        assert [(each.limit, each.used, each.allowed, len(each.path)) for each in warnings] == [("wall_time", 8, 10, 1)]
        ends = [
            (event.type, event.reason) for event in seen if isinstance(event, events.RunLimited | events.RunStopped)
        ]
        assert ends == [("run.stopped", "wall_time"), ("run.limited", "wall_time")]

    perform(backend, scenario)


@each_backend
@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_model_call_ends_with_the_time(backend: str, seconds: float) -> None:
    """Zero means that nothing is asked."""

    async def scenario() -> None:
        model = Model("Done")
        result = await Agent("a", model).run("Go", limits=Limits(wall_time=seconds), on_limit="return")
        check_limited(result, "wall_time")
        assert anyio.current_time() == seconds
        assert len(model.requests) == (1 if seconds else 0)

    perform(backend, scenario)


@each_backend
def test_the_time_of_a_subagent_ends_it_alone(backend: str) -> None:
    """The one above is told, and goes on."""

    async def scenario() -> None:
        below = expert("below", Model("Done", seconds=100), limits=Limits(wall_time=4))
        result = await Agent("boss", Model([call("below", prompt="?")], "Done"), tools=[below]).run("Go")
        assert result.output == "Done"
        assert "its limit of 4 seconds" in result.messages[-2].tool_results[0].content
        assert anyio.current_time() == 6

    perform(backend, scenario)


@each_backend
def test_the_time_goes_on_while_somebody_is_asked(backend: str) -> None:
    """A run that waits for an approval is one of those that a time bounds."""

    async def scenario() -> None:
        asked = tool(needs_approval=True)(work)
        async with System() as system:
            agent = Agent("a", Model(["work"], "Done"), tools=[asked])
            handle = await system.start(agent, "Go", limits=Limits(wall_time=7))
            with pytest.raises(LimitExceeded) as caught:
                await handle.result()
        assert anyio.current_time() == 7
        assert caught.value.result is not None
        check_limited(caught.value.result, "wall_time")

    perform(backend, scenario)


@each_backend
def test_an_end_at_the_very_moment_is_one_end(backend: str) -> None:
    """The answer and the end of the time come together: either is true, and there is one."""

    async def scenario() -> None:
        seen: list[Any] = []
        agent = Agent("a", Model("Done", seconds=5))
        result = await agent.run("Go", limits=Limits(wall_time=5), on_limit="return", on_event=seen.append)
        assert (result.status, result.reason) in (("completed", "answered"), ("limited", "wall_time"))
        last = [event for event in seen if isinstance(event, events.RunCompleted | events.RunLimited)]
        assert len(last) == 1
        assert last[0] is seen[-1]

    for seed in range(20):
        run(scenario, backend=backend, seed=seed)


@each_backend
def test_the_wait_for_a_place_is_not_counted(backend: str) -> None:
    """A run that has to wait for its turn has all of its time then."""

    async def scenario() -> None:
        async with System(max_running=1) as system:
            first = await system.start(Agent("a", Model("Done", seconds=30)), "Go")
            second = await system.start(Agent("b", Model("Done", seconds=5)), "Go", limits=Limits(wall_time=6))
            assert (await first.result()).output == "Done"
            assert (await second.result()).output == "Done"
            assert anyio.current_time() == 35

    perform(backend, scenario)


# -- what is left


@each_backend
def test_what_is_left_travels_with_the_subagent(backend: str) -> None:
    """The least of each limit, of its own and of those above; and when it has to be done."""

    async def scenario() -> None:
        told: list[tuple[Limits, float | None]] = []

        @tool
        async def look(context: RunContext[Any]) -> str:
            """Look at what is left."""
            told.append((context.remaining, context.deadline))
            return "looked"

        inner = expert("inner", Model(["look"], "Done"), tools=[look], limits=Limits(turns=4, tool_calls=3, cost=0.5))
        inner = inner.with_(prices=PRICES)
        ask = inner.as_tool()
        outer = Agent("outer", Model([call("inner", prompt="?"), call("look")], "Done"), tools=[ask, look])
        outer = outer.with_(prices=PRICES)
        limits = Limits(turns=9, requests=20, tool_calls=10, total_tokens=50_000, cost=1.0, wall_time=60, depth=3)
        await outer.run("Go", limits=limits)
        (first, first_deadline), (second, second_deadline) = told
        assert (first.turns, first.requests, first.tool_calls, first.depth) == (8, 19, 8, 3)
        assert (first.wall_time, first_deadline) == (59, 60)
        assert first.total_tokens == 50_000 - 15
        assert first.cost == pytest.approx(1.0 - 15e-6)
        assert (second.turns, second.requests, second.tool_calls, second.depth) == (3, 18, 2, 2)
        assert (second.wall_time, second_deadline) == (58, 60)
        assert second.cost == pytest.approx(0.5 - 15e-6)
        assert (second.children, second.input_tokens) == (None, None)

    perform(backend, scenario)


@each_backend
def test_a_deadline_is_the_nearest_one(backend: str) -> None:
    """Of the tool's own timeout, that of the call above, and the times of the runs."""

    async def scenario() -> None:
        told: list[float | None] = []

        @tool(timeout=5)
        async def look(context: RunContext[Any]) -> str:
            """Look."""
            told.append(context.deadline)
            return "looked"

        @tool(timeout=4)
        async def ask(context: RunContext[Any]) -> str:
            """Ask."""
            told.append(context.deadline)
            await Agent("inner", Model(["look"], "Done"), tools=[look]).run("?", limits=Limits(wall_time=50))
            return "asked"

        outer = Agent("outer", Model(["ask"], ["look"], "Done"), tools=[ask, look])
        await outer.run("Go", limits=Limits(wall_time=8))
        assert told == [5.0, 5.0, 8.0]
        free: list[Any] = []

        @tool
        async def unbound(context: RunContext[Any]) -> str:
            """Look."""
            free.append((context.deadline, context.remaining))
            return "looked"

        agent = Agent("free", Model(["unbound"], "Done"), tools=[unbound])
        await agent.run("Go", limits=Limits(turns=None, depth=None))
        assert free == [(None, Limits(turns=None, depth=None))]

    perform(backend, scenario)


# -- streams


class Streaming(Model):
    """Streams its answer in pieces of ten characters, a second apart; tells `told` from the first of them on."""

    def __init__(self, text: str, *, told: Usage | None = None, **options: Any) -> None:
        super().__init__(text, seconds=0, **options)
        self.told = told
        self.left_at: float | None = None

    def stream(self, request: ModelRequest) -> Any:
        return _Stream(self, request)


class _Stream:
    def __init__(self, owner: Streaming, request: ModelRequest) -> None:
        self.owner = owner
        self.request = request
        self.usage: Usage | None = None
        self.text = str(owner.lines[0])
        self.reply: Any = None

    async def __aenter__(self) -> _Stream:
        self.owner.requests.append(self.request)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.owner.left_at = anyio.current_time()

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> TextDelta:
        if not self.text:
            self.reply = ModelReply(assistant(str(self.owner.lines[0])), "stop", self.owner.usage, "m", None, "stop")
            raise StopAsyncIteration
        await anyio.sleep(1)
        self.usage = self.owner.told
        piece, self.text = self.text[:10], self.text[10:]
        return TextDelta(piece)


@each_backend
def test_an_answer_that_grows_takes_more_and_is_cut_at_the_limit(backend: str) -> None:
    """A model that nothing bounds says more than was set aside for it; what there is of the answer is kept."""

    async def scenario() -> None:
        text = "0123456789" * 2_000  # 5,000 tokens
        result = await Agent("a", Streaming(text, usage=Usage(10, 5_000))).run(
            "Go", limits=Limits(output_tokens=6_000), on_event=lambda _: None
        )
        assert result.output == text
        model = Streaming(text)
        seen: list[Any] = []
        with pytest.raises(LimitExceeded) as caught:
            await Agent("a", model).run("Go", limits=Limits(output_tokens=4_500), on_event=seen.append)
        result = caught.value.result
        assert result is not None
        check_limited(result, "tokens")
        assert model.left_at == 2_000 + 1_801  # the first piece beyond 18,000 characters
        assert result.messages[-1].partial
        assert len(result.messages[-1].text) == 18_010
        assert (caught.value.limit, caught.value.used) == ("output_tokens", 4_503)
        assert result.cost is None
        assert isinstance(seen[-1], events.RunLimited)

    cells = perform(backend, scenario)
    assert [used(each).output_tokens for each in cells] == [5_000, 4_503]
    assert OUTPUT + STEP > 4_500


@each_backend
def test_an_answer_is_not_cut_where_nobody_follows(backend: str) -> None:
    """It comes in one piece then. What was too much is counted."""

    async def scenario() -> None:
        model = Model("Done", usage=Usage(10, 9_000))
        result = await Agent("a", model).run("Go", limits=Limits(output_tokens=5_000))
        assert result.output == "Done"

    [cell] = perform(backend, scenario)
    assert used(cell).output_tokens == 9_000


@each_backend
def test_a_provider_that_was_told_a_bound_is_believed(backend: str) -> None:
    """Until twice as much has come: a token may have more characters than we think. Then it is cut."""

    async def scenario() -> None:
        model = Streaming("0123456789" * 39, usage=Usage(10, 50))
        result = await Agent("a", model).run("Go", limits=Limits(output_tokens=50), on_event=lambda _: None)
        assert result.status == "completed"
        assert model.requests[0].settings.max_tokens == 50
        model = Streaming("0123456789" * 50)
        result = await Agent("a", model).run(
            "Go", limits=Limits(output_tokens=50), on_event=lambda _: None, on_limit="return"
        )
        check_limited(result, "tokens")
        assert len(result.messages[-1].text) == 410

    perform(backend, scenario)


@each_backend
def test_what_a_provider_counts_early_is_believed_early(backend: str) -> None:
    """Input that is larger than it seemed leaves less for the answer; output that is told of is not estimated."""

    async def scenario() -> None:
        model = Streaming("0123456789" * 10, told=Usage(80, 1))
        result = await Agent("a", model, settings={"max_tokens": 50}).run(
            "Go", limits=Limits(total_tokens=100), on_event=lambda _: None, on_limit="return"
        )
        check_limited(result, "tokens")
        assert len(result.messages[-1].text) == 90
        model = Streaming("0123456789" * 10, told=Usage(5, 60))
        result = await Agent("a", model, settings={"max_tokens": 50}).run(
            "Go", limits=Limits(output_tokens=55), on_event=lambda _: None, on_limit="return"
        )
        check_limited(result, "tokens")
        assert len(result.messages[-1].text) == 10

    perform(backend, scenario)


@each_backend
def test_input_that_was_less_than_it_seemed_is_given_back_early(backend: str) -> None:
    """Who waits for it goes on while the answer still streams."""

    async def scenario() -> None:
        slow = Streaming("0123456789" * 10, told=Usage(0, 1), usage=Usage(0, 5))
        quick = Model("Done", usage=Usage(1, 1))

        @tool
        async def ask(number: int) -> str:
            """Ask."""
            await anyio.sleep(number / 10)
            agent = Agent("expert", (slow, quick)[number], settings={"max_tokens": 30})
            return (await agent.run("word" * 100)).output

        calls = [call("ask", number=number) for number in range(2)]
        boss = Agent("boss", Model(calls, "Done", usage=Usage(0, 0)), tools=[ask], settings={"max_tokens": 1})
        result = await boss.run("Go", limits=Limits(total_tokens=200), on_event=lambda _: None)
        assert result.output == "Done"
        assert quick.began == [2.0]  # a second after the slow one has begun

    perform(backend, scenario)


class Breaking(Streaming):
    """Streams the pieces of its first try, which then breaks; the next one is whole."""

    def __init__(self, *pieces: Any, text: str, **options: Any) -> None:
        super().__init__(text, **options)
        self.pieces = list(pieces)

    def stream(self, request: ModelRequest) -> Any:
        return _Broken(self, request) if not self.requests else _Stream(self, request)


class _Broken(_Stream):
    async def __anext__(self) -> Any:
        pieces = self.owner.pieces  # type: ignore[attr-defined]
        if not pieces:
            raise StreamInterrupted("cut")
        return pieces.pop(0)


@each_backend
def test_a_stream_that_breaks_counts_as_all_that_was_set_aside(backend: str) -> None:
    """It may be billed as far as it came, and beyond."""

    async def scenario() -> None:
        agent = Agent("a", Breaking(TextDelta("0123456789"), text="never"), settings={"max_tokens": 70})
        with pytest.raises(StreamInterrupted):
            await agent.run("Go", limits=Limits(output_tokens=100), on_event=lambda _: None)

    [cell] = perform(backend, scenario)
    assert (used(cell).requests, used(cell).output_tokens) == (1, 70)


@each_backend
def test_what_came_of_a_try_that_broke_is_no_part_of_the_next_answer(backend: str) -> None:
    """Each answer is measured from its beginning."""

    async def scenario() -> None:
        text = "0123456789" * 50
        model = Breaking(ToolCallDelta(0, "x" * 400, "c", "work"), text=text, usage=Usage(10, 100))
        agent = Agent("a", model, settings={"max_tokens": 100}, retry=Retry(base=0.1))
        result = await agent.run("Go", limits=Limits(output_tokens=200), on_event=lambda _: None)
        assert result.output == text

    [cell] = perform(backend, scenario)
    assert (used(cell).requests, used(cell).output_tokens) == (2, 200)


class Priced(ModelBudget):
    """Has a price of its own."""

    def __init__(self, bare: float, rate: float) -> None:
        self.bare = bare
        self.rate = rate

    def _price(self, output: int) -> int:
        return math.ceil(self.bare + self.rate * output)


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.integers(1, 10_000), st.integers(0, 10_000_000))
def test_what_is_left_of_the_dollars_pays_for_what_is_asked_for(
    bare: float, rate: float, wanted: int, left: int
) -> None:
    """Never for less, and for nearly all that it could."""
    budget = Priced(bare, rate)
    output = budget._affordable(wanted, left)
    assert output is not None
    assert 0 <= output <= wanted
    assert output == 0 or budget._price(output) <= left
    assert output == wanted or budget._price(output + 1) + wanted > left


# -- whatever interrupts it


@each_backend
def test_nothing_stays_set_aside_wherever_it_is_interrupted(backend: str) -> None:
    """A bounded tree with waiting calls, stopped or cancelled before each of its steps: everything is given back."""
    for how in ("stop", "cancel"):
        made: list[RunCell] = []

        async def scenario(interruption: Any, how: str = how, made: list[RunCell] = made) -> None:
            models, boss = team(3, usage=Usage(10, 10))
            models[0].lines = (Overloaded("busy"), "Done")
            made.clear()
            with anyio.CancelScope() as scope:
                async with System() as system:
                    handle = await system.start(boss, "Go", limits=Limits(output_tokens=130, requests=10, tool_calls=5))
                    interruption.arm(handle.stop if how == "stop" else scope.cancel)
                    result = await handle.result()
                    check_history(result)
            assert len(made) >= 1
            assert all(each == Amount() for each in set_aside(made))
            for cell in made:
                assert used(cell).output_tokens <= 130
                assert min(used(cell).tool_calls, used(cell).requests) >= 0

        with ledgers() as cells:
            made = cells
            scenario.__defaults__ = (how, cells)  # type: ignore[attr-defined]
            assert interrupt_everywhere(scenario, backend=backend) > 20


# -- the history stays valid


@pytest.mark.parametrize("backend", ["asyncio"])
@pytest.mark.parametrize("format", ["anthropic", "openai-responses"])
@pytest.mark.parametrize("limits", [Limits(tool_calls=1), Limits(requests=1)])
def test_a_strict_provider_takes_the_conversation_of_a_limited_run(backend: str, format: str, limits: Limits) -> None:
    """A run that was limited can be gone on with."""

    async def scenario() -> None:
        script: list[Any] = [[call("work"), call("work")], "Thank you."]
        if limits.requests is not None:
            script = [[call("work")], "Thank you."]
        async with StrictServer(format, script) as server:
            agent = Agent("a", server.provider(), tools=[work])
            limited = await agent.run("Go", limits=limits, on_limit="return")
            assert limited.status == "limited"
            result = await agent.run("Go on", history=limited)
            assert result.output == "Thank you."
            assert not server.refusals

    run(scenario, backend=backend, virtual_time=False)
