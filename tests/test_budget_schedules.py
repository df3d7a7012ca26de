"""Random trees of runs under random limits, with random latencies, failures, stops and cancellations: no limit is ever
overspent, nothing stays set aside, and every end is true.

The models keep to what a request allows them, so that what is set aside is always enough. A few hundred schedules are
tried on each event loop; ``GREENROOM_BUDGET_SCHEDULES=5000`` asks for more.
"""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from greenroom import Agent, LimitExceeded, Limits, Retry, Run, RunResult, System, tool
from greenroom.agents.ledger import BOUNDS, Amount, Ledger
from greenroom.agents.run_cell import RunCell
from greenroom.agents.sources import Sources
from greenroom.agents.spending import Spending
from greenroom.agents.token_count import by_chars, count_messages, count_tools
from greenroom.providers import (
    ModelEvent,
    ModelReply,
    ModelRequest,
    Overloaded,
    Price,
    Prices,
    Provider,
    ProviderError,
    Stalled,
    StreamInterrupted,
    TextDelta,
    Usage,
    assistant,
    call,
)
from greenroom.testing import run

SCHEDULES = int(os.environ.get("GREENROOM_BUDGET_SCHEDULES", "300"))
PRICES = Prices({"m": Price(input=0.7, output=3.1)}, published=False)
_NANO = 1_000_000_000


class Books:
    """Looks at every ledger whenever something is taken or entered."""

    def __init__(self) -> None:
        self.runs: list[RunCell] = []
        self.looked = 0
        self.waited = 0

    def look(self, ledger: Ledger) -> None:
        for each in ledger.line():
            self.looked += 1
            for name in BOUNDS:
                aside = getattr(each.set_aside, name)
                both = getattr(each.used, name) + aside
                assert aside >= 0, (name, each.set_aside)
                allowed = each._allowed.get(name)
                assert allowed is None or both <= allowed, (name, each.owner, each.used, each.set_aside, allowed)


class Dice(Random):
    """Draws for one schedule."""

    def some(self, chance: float) -> bool:
        return self.random() < chance


class Moody(Provider):
    """Answers late, calls tools, fails, tells its usage or not; never more than the request allows."""

    name, model = "moody", "m"

    def __init__(self, dice: Dice, turns: int, tools: list[str]) -> None:
        self.dice = dice
        self.turns = turns
        self.tools = tools
        self.asked = 0
        self.billed = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        await anyio.sleep(self.dice.choice((0, 0.5, 1, 2)))
        return self._answer(request)

    def _answer(self, request: ModelRequest) -> ModelReply:
        dice = self.dice
        self.asked += 1
        if dice.some(0.05):
            raise dice.choice((Overloaded("busy"), Stalled("silence"), ProviderError("broken")))
        self.billed += 1
        turn = sum(message.role == "assistant" for message in request.messages)
        most = request.settings.max_tokens or 40
        written = dice.randint(0, most)
        read = (
            count_messages(request.messages) + count_tools(request.tools, None) + by_chars(request.instructions or "")
        )
        read = dice.randint(0, read)
        usage = None if dice.some(0.1) else Usage(read, written, dice.choice((None, read + written)))
        reason = "length" if written == most and request.settings.max_tokens is not None else "stop"
        if turn >= self.turns or not self.tools or reason == "length":
            text = "word" * (written - 8 if usage is None else min(written, 3))
            return ModelReply(assistant(text or "x"), reason, usage, "m")
        names = dice.choices(self.tools[1:] or self.tools, k=dice.randint(1, 4))
        calls = [call(name) for name in names]
        calls = [type(each)(f"c{turn}-{place}", each.name, {}, "{}") for place, each in enumerate(calls)]
        return ModelReply(assistant(tool_calls=calls), "tool_calls", usage or Usage(read, written), "m")

    def stream(self, request: ModelRequest) -> Any:
        return _Pieces(self, request)


class _Pieces:
    def __init__(self, owner: Moody, request: ModelRequest) -> None:
        self.owner = owner
        self.request = request
        self.usage: Usage | None = None
        self.left: list[ModelEvent] = []
        self.reply: Any = None

    async def __aenter__(self) -> _Pieces:
        await anyio.sleep(self.owner.dice.choice((0, 0.5)))
        self.reply = self.owner._answer(self.request)
        self.left = [TextDelta(text) for text in (self.reply.message.text[:4], self.reply.message.text[4:]) if text]
        usage = self.reply.usage
        if usage is not None and self.owner.dice.some(0.5):
            self.usage = Usage(usage.input_tokens, 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> ModelEvent:
        await anyio.sleep(self.owner.dice.choice((0, 0.5, 1)))
        if self.left and self.owner.dice.some(0.05):
            raise StreamInterrupted("cut")
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


def some_limits(dice: Dice) -> Limits:
    bounds: dict[str, Any] = {
        "requests": lambda: dice.randint(0, 20),
        "tool_calls": lambda: dice.randint(0, 20),
        "children": lambda: dice.randint(0, 9),
        "input_tokens": lambda: dice.randint(0, 3_000),
        "output_tokens": lambda: dice.randint(0, 400),
        "total_tokens": lambda: dice.randint(0, 3_000),
        "cost": lambda: dice.randint(0, 2_000) / 1_000_000,
        "wall_time": lambda: dice.randint(0, 20),
        "turns": lambda: dice.randint(1, 5),
        "depth": lambda: dice.randint(0, 3),
    }
    return Limits(**{name: draw() for name, draw in bounds.items() if dice.some(0.25)})


def some_agent(dice: Dice, name: str, depth: int) -> Agent[Any, Any]:
    """An agent with tools of its own, some of which are agents."""

    async def work() -> str:
        """Work."""
        await anyio.sleep(dice.choice((0, 0.5, 1)))
        if dice.some(0.05):
            raise ValueError("no")
        return "worked"

    tools: list[Any] = [work]
    if depth < 3:
        for number in range(dice.randint(1, 2) if depth == 1 else dice.randint(0, 2)):
            below = some_agent(dice, f"{name}{number}", depth + 1)
            limits = some_limits(dice) if dice.some(0.5) else None
            tools.append(tool(name=below.name)(partial(ask, below, limits, dice)))
    names = [getattr(each, "name", "work") for each in tools]
    settings = {"max_tokens": dice.choice((5, 20, 40))}
    retry = Retry(attempts=dice.choice((1, 3)), base=0.5)
    model = Moody(dice, dice.randint(0, 3), names)
    return Agent(name, model, tools=tools, settings=settings, prices=PRICES, retry=retry, stuck_after=None)


async def ask(below: Agent[Any, Any], limits: Limits | None, dice: Dice) -> str:
    """Ask an agent, for some time."""
    if dice.some(0.2):
        with anyio.move_on_after(dice.choice((0, 1, 2, 4))):
            return str((await below.run("?", limits=limits)).status)
        return "given up"
    result = await below.run("?", limits=limits, on_limit=dice.choice(("raise", "return")))
    return str(result.status)


async def schedule(seed: int, backend: str, books: Books) -> None:
    """One tree, and whatever happens to it."""
    dice = Dice(f"{seed} {backend}")
    agent = some_agent(dice, "a", 1)
    heard: list[Any] = []
    limits = some_limits(dice)
    with anyio.CancelScope() as scope:
        async with System(sources=Sources(chance=lambda: 0.5)) as system, anyio.create_task_group() as group:
            follow = heard.append if dice.some(0.5) else None
            handle = await system.start(agent, "Go", limits=limits, on_event=follow)
            if dice.some(0.3):
                moment, mode = (
                    dice.choice((0, 0.5, 1, 3, 7)),
                    dice.choice(("now", "after_tools", "after_turn", "cancel")),
                )
                group.start_soon(after, moment, scope.cancel if mode == "cancel" else partial(handle.stop, mode))
            result, error = await outcome(handle)
            if isinstance(error, LimitExceeded):
                assert error.used <= error.allowed
            group.cancel_scope.cancel()
            expected = {LimitExceeded: "limited", ProviderError: "failed"}
            wanted = [word for kind, word in expected.items() if isinstance(error, kind)] or ["completed", "stopped"]
            assert result.status in wanted
            asked = [each.id for message in result.messages for each in message.tool_calls]
            assert asked == [each.call_id for message in result.messages for each in message.tool_results]
    for cell in books.runs:
        ledger = cell.spending.ledger
        if ledger is not None:
            assert ledger.set_aside == Amount(), (cell.name, ledger.set_aside)
            books.look(ledger)
            assert min(getattr(ledger.used, name) for name in BOUNDS) >= 0
            assert not cell.spending._queue


async def outcome(handle: Run[Any]) -> tuple[RunResult[Any], Exception | None]:
    """The result of a run, and its error."""
    try:
        return await handle.result(), None
    except (LimitExceeded, ProviderError) as error:
        reached: Any = error.result
        return reached, error


async def after(moment: float, act: Any) -> None:
    await anyio.sleep(moment)
    act()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_limit_is_ever_overspent(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books()
    begin, take, count, attempt = RunCell.__init__, Ledger.take, Ledger._count, Spending._try_to_take

    def init(self: RunCell, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        books.runs.append(self)

    def looked_take(self: Ledger, need: Amount) -> None:
        take(self, need)
        books.look(self)

    def looked_count(self: Ledger, came_to: Amount) -> None:
        count(self, came_to)
        books.look(self)

    def looked_try(self: Spending, plan: Any) -> Any:
        outcome = attempt(self, plan)
        books.waited += outcome is None
        return outcome

    monkeypatch.setattr(RunCell, "__init__", init)
    monkeypatch.setattr(Spending, "_try_to_take", looked_try)
    monkeypatch.setattr(Ledger, "take", looked_take)
    monkeypatch.setattr(Ledger, "_count", looked_count)
    ends: dict[str, int] = {}
    for seed in range(SCHEDULES):
        books.runs.clear()
        try:
            run(schedule, seed, backend, books, backend=backend, seed=seed)
        except BaseException as error:
            error.add_note(f"schedule {seed} on {backend}")
            raise
        for cell in books.runs:
            if cell.result is not None:
                failed = cell.result.status == "failed"
                assert isinstance(cell.error, ProviderError) is failed, (cell.error, cell.result)
                word = f"{cell.result.status}: {cell.result.reason}"
                ends[word] = ends.get(word, 0) + 1
    print(SCHEDULES, "schedules on", backend, books.waited, "waits", ends)
    assert books.looked > SCHEDULES < books.waited * 10
    reached = {"limited: " + reason for reason in ("requests", "tool_calls", "tokens", "cost", "children", "depth")}
    assert reached <= set(ends), "some limits are never reached"
