"""The runs of the crash demo: each works on one order, with tools of every contract that a tool can have.

A run makes four model requests. The first reply looks something up (`safe`: may run twice) and reserves it (`keyed`:
runs twice with the same key), the second charges the customer (`keyed`) and ships (`never`: not twice), the third sends
a notice (`never`), the fourth is the answer. A tool takes its time, with its effect in the middle: so a process that is
killed leaves calls that have had their effect and calls that have not, and nobody could tell.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import anyio

from ..agents import Agent, RunContext, tool
from ..providers import Provider
from .orders import RETRY
from .plan import Call, Plan, Turn
from .sink import Effect, Sink

Contract: TypeAlias = Literal["safe", "keyed", "never"]

#: The tools by what may happen to a call of them that was at work when its process died.
CONTRACTS: dict[str, Contract] = {
    "stock": "safe",
    "reserve": "keyed",
    "charge": "keyed",
    "ship": "never",
    "notify": "never",
}
#: Replies of the model to one run, the answer included.
TURNS = 4
#: Seconds that a tool takes before its effect, and after it.
PAUSE = 0.05

_TOGETHER = (("stock", "reserve"), ("charge", "ship"), ("notify",))


def name_of(order: int) -> str:
    """What the order is called: by the user, and so by the simulated server."""
    return f"order {order}"


def run_id_of(order: int) -> str:
    """The id of the run that works on the order."""
    return f"order-{order}"


def prompt_of(order: int) -> str:
    """The user message, with the plan that the simulated model follows."""
    turns = [Turn(tuple([Call(name, {"order": order}) for name in names])) for names in _TOGETHER]
    return Plan(tuple(turns), answer_of(order)).prompt(name_of(order))


def answer_of(order: int) -> str:
    """What the model answers in the end."""
    return f"Order {order} is on its way."


def order_agent(provider: Provider, sink: Sink) -> Agent[Any, str]:
    """The agent that all runs share."""

    async def have(effect: Effect) -> str:
        await anyio.sleep(PAUSE)
        sink.take(effect)
        await anyio.sleep(PAUSE)
        return "done"

    @tool(replay="safe")
    async def stock(order: int) -> str:
        """Whether what was ordered is there."""
        return await have(Effect("stock", order))

    @tool(replay="keyed")
    async def reserve(order: int, context: RunContext) -> str:
        """Keep it for the customer."""
        return await have(Effect("reserve", order, context.idempotency_key))

    @tool(replay="keyed")
    async def charge(order: int, context: RunContext) -> str:
        """Have the customer pay."""
        return await have(Effect("charge", order, context.idempotency_key))

    @tool
    async def ship(order: int) -> str:
        """Hand it to the carrier."""
        return await have(Effect("ship", order))

    @tool
    async def notify(order: int) -> str:
        """Write to the customer."""
        return await have(Effect("notify", order))

    tools = [stock, reserve, charge, ship, notify]
    return Agent("orders", provider, instructions="You see to orders.", tools=tools, retry=RETRY)
