"""What a model call may come to, set aside before each of its tries, and what it came to.

The input is estimated from its text. Of the output as much is set aside as the request allows; where the limits leave
less than that, the request is changed to allow no more than they do. An answer that is cut off there is no answer: the
run has reached its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..providers import Message, ModelReply, ModelRequest, Usage
from .errors import LimitExceeded, PriceUnknown
from .ledger import Amount, Bound, Refusal, nano
from .machine import Limited
from .spending import Spending
from .token_count import by_chars, count_message, count_messages, count_tools

if TYPE_CHECKING:
    from .run_cell import RunCell

#: Output tokens that are set aside for a call whose settings do not bound them.
OUTPUT = 4_096

#: What a result's `reason` calls the limits that it does not call by their own names.
REASONS = {"input_tokens": "tokens", "output_tokens": "tokens", "total_tokens": "tokens"}


def limited(error: LimitExceeded, partial: Message | None = None) -> Limited:
    """The fact that a limit stands against what was to be done."""
    return Limited(REASONS.get(error.limit, error.limit), error, partial)


class ModelBudget:
    """The budget of one model call of `run`, which has a ledger.

    Attributes:
        request: what to send, once something is set aside.
    """

    __slots__ = ("_cap", "_input", "_run", "_spending", "_taken", "_wanted", "request")

    def __init__(self, run: RunCell, request: ModelRequest) -> None:
        self._run = run
        self._spending: Spending = run.spending
        self._input = (
            by_chars(request.instructions or "")
            + count_tools(request.tools, request.output_schema)
            + count_messages(request.messages)
        )
        self._wanted = request.settings.max_tokens or OUTPUT
        #: The limit that allows less output than was wanted.
        self._cap: Bound | None = None
        self._taken: Amount | None = None
        self.request = request

    async def take(self) -> Limited | None:
        """Set aside what the next try may come to; a limit that stands against it. Cancelling it leaves nothing taken.

        A try may have to wait for others of the same tree that have set aside what it needs.
        """
        try:
            taken = await self._spending.set_aside(self._plan)
        except PriceUnknown as error:
            return limited(error)
        if isinstance(taken, Refusal):
            return limited(self._spending.exceeded(taken))
        self._taken = taken
        return None

    def _plan(self) -> Amount | Refusal:
        ledger = self._spending.ledger
        assert ledger is not None
        output, self._cap = self._wanted, None
        whole = ledger.left("total_tokens", returned=True)
        bounds: tuple[tuple[Bound, int | None], ...] = (
            ("output_tokens", ledger.left("output_tokens", returned=True)),
            ("total_tokens", whole - self._input if whole is not None else None),
            ("cost", self._affordable(output)),
        )
        for name, left in bounds:
            if left is not None and left < output:
                output, self._cap = left, name
        if self._cap is not None:
            if output < 1:
                return ledger.spent(self._cap)
            settings = msgspec.structs.replace(self.request.settings, max_tokens=output)
            self.request = ModelRequest(
                self.request.messages,
                tools=self.request.tools,
                instructions=self.request.instructions,
                settings=settings,
                output_schema=self.request.output_schema,
            )
        cost = self._price(output) if ledger.bounds("cost") else 0
        return Amount(1, 0, 0, self._input, output, self._input + output, cost)

    def _affordable(self, output: int) -> int | None:
        """How many output tokens the dollars that are left pay for; None where dollars are not bounded."""
        ledger = self._spending.ledger
        assert ledger is not None
        left = ledger.left("cost", returned=True)
        if left is None:
            return None
        whole = self._price(output)
        if whole <= left:
            return output
        bare = self._price(0)
        return int((left - bare) * output / (whole - bare)) if whole > bare and left > bare else 0

    def _price(self, output: int) -> int:
        """What the call costs with so much output, in billionths of a dollar.

        Raises:
            PriceUnknown: nobody knows.
        """
        agent = self._run.agent
        dollars = agent.prices.most(agent.provider, self._input, output)
        if dollars is None:
            ledger = self._spending.ledger
            assert ledger is not None
            refusal = ledger.spent("cost")
            owner = refusal.owner if refusal.owner != self._run.name else None
            raise PriceUnknown(agent.provider.model, refusal.used, refusal.allowed, owner)
        return nano(dollars)

    def settle(self, usage: Usage | None, cost: float | None, message: Message | None) -> None:
        """A try is over. What was not reported is estimated from its text."""
        taken = self._taken
        if taken is None:
            return
        usage = usage if usage is not None else Usage()
        read = usage.input_tokens if usage.input_tokens is not None else taken.input_tokens
        written = usage.output_tokens
        if written is None:
            written = count_message(message) if message is not None else taken.output_tokens
        total = usage.total_tokens if usage.total_tokens is not None else read + written
        self._give_back(Amount(1, 0, 0, read, written, total, nano(cost) if cost is not None else taken.cost))

    def settle_failed(self, unbilled: bool) -> None:
        """A try has failed. One that may have been billed counts as all that was set aside for it."""
        if self._taken is not None:
            self._give_back(Amount(requests=1) if unbilled else self._taken)

    def let_go(self, asked: bool) -> None:
        """The call is cut. `asked`: its request may have gone out."""
        if self._taken is not None:
            self._give_back(self._taken if asked else Amount())

    def _give_back(self, came_to: Amount) -> None:
        taken, self._taken = self._taken, None
        assert taken is not None
        if self._spending.ledger is not None and not self._spending.ledger.bounds("cost"):
            came_to = msgspec.structs.replace(came_to, cost=0)
        self._spending.settle(taken, came_to)

    def cut_off(self, reply: ModelReply) -> Limited | None:
        """The limit that has cut off this answer, if one has."""
        if self._cap is None or reply.stop_reason != "length":
            return None
        ledger = self._spending.ledger
        assert ledger is not None
        return limited(self._spending.exceeded(ledger.spent(self._cap)), reply.message)
