"""The runs of the demo: what each does is fixed by its number, so that a demo can be repeated and checked.

Every run works on one order and makes three model requests. The first reply calls an async and a sync tool side by
side. The second calls a tool that now and then crashes, or, for one run in ten, asks a subagent three times at once.
The third is the answer. A few runs crash in the code around them, once, after their first turn, and go on from their
journal; a few are streamed and stopped in the middle of the answer.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import anyio.lowlevel
import msgspec

from ..agents import Agent, RunContext, Supervision, tool
from ..providers import Provider, Retry
from .plan import Call, Plan, Turn
from .tally import Tally

#: Replies of the model to a complete run, the answer included.
TURNS = 3
#: The most tool calls of one reply.
CALLS_AT_ONCE = 3
_ANSWER = (
    "Order {number}: everything is in stock, the price holds, and the parcel leaves the house tomorrow before noon; "
    "whoever ordered it will hear from us again as soon as it has arrived."
)

RETRY = Retry(attempts=4, base=0.1, max_delay=2.0)


class Order(msgspec.Struct):
    """What one run works on; passed to it as its `deps`."""

    number: int
    #: How often its instructions have been asked for.
    asked: int = 0

    @property
    def has_subagents(self) -> bool:
        """One run in ten."""
        return self.number % 10 == 3

    @property
    def is_stopped(self) -> bool:
        """One run in twenty is streamed, and stopped before its answer has ended."""
        return self.number % 20 == 11

    @property
    def crashes(self) -> bool:
        """One run in fifty crashes in the code around it."""
        return self.number % 50 == 7

    @property
    def pieces_wanted(self) -> int:
        """Pieces of text after which a streamed run is stopped."""
        return 2 + self.number // 20 % 12

    def prompt(self) -> str:
        """The user message, with the plan that the simulated model follows."""
        first = Turn((Call("stock", {"item": self.number}), Call("price", {"item": self.number, "count": 3})))
        if self.has_subagents:
            parts = range(1, CALLS_AT_ONCE + 1)
            second = Turn(tuple([Call("clerk", {"prompt": self._part(part)}) for part in parts]))
        else:
            second = Turn((Call("ship", {"order": self.number}),))
        return Plan((first, second), _ANSWER.format(number=self.number)).prompt(f"order {self.number}")

    def _part(self, part: int) -> str:
        plan = Plan((Turn((Call("stock", {"item": self.number + part}),)),), "In stock.")
        return plan.prompt(f"order {self.number} part {part}")


OrderAgent: TypeAlias = Agent[Order, str]


def order_agent(provider: Provider, tally: Tally) -> OrderAgent:
    """The agent that all runs share."""

    @tool(timeout=10)
    async def stock(item: int) -> dict[str, int]:
        """How many of an item are in stock."""
        await anyio.lowlevel.checkpoint()
        return {"item": item, "in_stock": item % 7 + 1}

    @tool(timeout=10)
    def price(item: int, count: int) -> str:
        """The price of some of an item."""
        return f"{count * (item % 90 + 10)}.00 EUR"

    @tool(timeout=10)
    async def ship(order: int) -> str:
        """Hand an order to the carrier."""
        await anyio.lowlevel.checkpoint()
        if order % 16 == 5:
            tally.tool_crashes += 1
            raise ConnectionError(f"the carrier does not answer for order {order}")
        return f"order {order} leaves tomorrow"

    def instructions(context: RunContext[Order]) -> str:
        order = context.deps
        order.asked += 1
        if order.crashes and order.asked == 2:
            tally.run_crashes += 1
            raise RuntimeError("the instructions could not be loaded")
        return "You see to orders."

    options: dict[str, Any] = {"retry": RETRY, "hooks": tally.hooks(), "supervision": Supervision(intensity=2)}
    clerk = Agent("clerk", provider, description="Looks into one part of an order.", tools=[stock], **options)
    return Agent(
        "orders",
        provider,
        instructions=instructions,
        tools=[stock, price, ship, clerk],
        deps_type=Order,
        **options,
    )
