"""What a model call may come to, set aside before each of its tries, and what it came to.

The input is estimated from its text. Of the output as much is set aside as the request allows; where the limits leave
less than that, the request is changed to allow no more than they do. An answer that is cut off there is no answer: the
run has reached its limit.

While an answer streams, its output is estimated from its text. One that grows beyond what was set aside for it takes
more, step by step, without waiting; where a limit stands against that, it is cut there. A request that said how long
its answer may be is believed until twice that has come, because the provider counts better than we do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..providers import Message, ModelReply, ModelRequest, Usage
from .errors import LimitExceeded, PriceUnknown
from .ledger import Amount, Bound, Ledger, Refusal, nano
from .machine import Limited
from .spending import Spending
from .token_count import CHARS, by_chars, count_message, count_messages, count_tools

if TYPE_CHECKING:
    from .run_cell import RunCell

#: Output tokens that are set aside for a call whose settings do not bound them, and the least worth asking for, which
#: is the least that some providers take.
OUTPUT = 4_096
LEAST = 16
#: Output tokens that an answer takes at once which grows beyond what was set aside for it.
STEP = 1_024

#: What a result's `reason` calls the limits that it does not call by their own names.
REASONS = {"input_tokens": "tokens", "output_tokens": "tokens", "total_tokens": "tokens"}

_ONE_REQUEST = Amount(requests=1)


def limited(error: LimitExceeded, partial: Message | None = None) -> Limited:
    """The fact that a limit stands against what was to be done."""
    return Limited(REASONS.get(error.limit, error.limit), error, partial)


class ModelBudget:
    """The budget of one model call of `run`, which has a ledger.

    Attributes:
        request: what to send, once something is set aside.
        spent: what the last try came to.
    """

    __slots__ = (
        "_cap",
        "_characters",
        "_input",
        "_ledger",
        "_planned",
        "_reads",
        "_run",
        "_spending",
        "_taken",
        "_wanted",
        "request",
        "spent",
    )

    def __init__(self, run: RunCell, request: ModelRequest) -> None:
        assert run.spending.ledger is not None
        self._run = run
        self._spending: Spending = run.spending
        self._ledger: Ledger = run.spending.ledger
        self._planned = request
        self._input = (
            by_chars(request.instructions or "")
            + count_tools(request.tools, request.output_schema)
            + count_messages(request.messages)
        )
        self._wanted = request.settings.max_tokens or OUTPUT
        #: The limit that allows less output than was wanted.
        self._cap: Bound | None = None
        self._taken: Amount | None = None
        #: Of the answer that streams: how much has come, and how much input the provider has counted.
        self._characters = 0
        self._reads = self._input
        self.request = request
        self.spent = Amount()

    # -- before a try

    async def take(self) -> Limited | None:
        """Set aside what the next try may come to; a limit that stands against it. Cancelling it leaves nothing taken.

        A try may have to wait for others of the same tree that have set aside what it needs.
        """
        self._characters, self._reads = 0, self._input
        try:
            taken = await self._spending.set_aside(self._plan)
        except PriceUnknown as error:
            return limited(error)
        if isinstance(taken, Refusal):
            return limited(self._spending.exceeded(taken))
        self._taken = taken
        return None

    def _plan(self) -> Amount | Refusal:
        output, self._cap = self._most_output(self._wanted, returned=True)
        if self._cap is not None and output < min(LEAST, self._wanted):
            return self._ledger.spent(self._cap)
        self.request = self._allowing(output) if self._cap is not None else self._planned
        return _ONE_REQUEST + self._amount(output)

    def _most_output(self, wanted: int, *, returned: bool) -> tuple[int, Bound | None]:
        """How many output tokens there may be, and the limit that allows fewer than are wanted.

        `returned`: as if all that is set aside were given back.
        """
        ledger, output, cap = self._ledger, wanted, None
        whole = ledger.left("total_tokens", returned=returned)
        bounds: tuple[tuple[Bound, int | None], ...] = (
            ("output_tokens", ledger.left("output_tokens", returned=returned)),
            ("total_tokens", whole - self._reads if whole is not None else None),
            ("cost", self._affordable(wanted, ledger.left("cost", returned=returned))),
        )
        for name, left in bounds:
            if left is not None and left < output:
                output, cap = max(0, left), name
        return output, cap

    def _affordable(self, output: int, left: int | None) -> int | None:
        """How many output tokens so many billionths of a dollar pay for; None where dollars are not bounded."""
        if left is None:
            return None
        whole = self._price(output)
        if whole <= left:
            return output
        bare = self._price(0)
        return (left - bare) * output // (whole - bare) if left > bare else 0

    def _allowing(self, output: int) -> ModelRequest:
        """The request with so many tokens of output at most."""
        asked = self._planned
        return ModelRequest(
            asked.messages,
            tools=asked.tools,
            instructions=asked.instructions,
            settings=msgspec.structs.replace(asked.settings, max_tokens=output),
            output_schema=asked.output_schema,
        )

    def _amount(self, output: int) -> Amount:
        """What the call's input and so much output come to."""
        cost = self._price(output) if self._ledger.bounds("cost") else 0
        return Amount(0, 0, 0, self._reads, output, self._reads + output, cost)

    def _price(self, output: int) -> int:
        """What the call costs with so much output, in billionths of a dollar.

        Raises:
            PriceUnknown: nobody knows.
        """
        agent = self._run.agent
        dollars = agent.prices.most(agent.provider, self._reads, output)
        if dollars is None:
            refusal = self._ledger.spent("cost")
            owner = refusal.owner if refusal.owner != self._run.name else None
            raise PriceUnknown(agent.provider.model, refusal.used, refusal.allowed, owner)
        return nano(dollars)

    # -- while it is under way

    def sent(self) -> None:
        """The request goes out: it counts as one, whatever comes of it."""
        assert self._taken is not None
        self._taken -= _ONE_REQUEST
        self._spending.settle(_ONE_REQUEST, _ONE_REQUEST)

    def grow(self, characters: int, usage: Usage | None) -> Bound | None:
        """So many more characters have come of an answer; the limit at which it is to be cut.

        Args:
            characters: of text, reasoning or arguments.
            usage: what the provider has counted so far, if it tells.
        """
        taken = self._taken
        assert taken is not None
        read = usage.input_tokens if usage is not None else None
        if read is not None and read != self._reads:
            taken = self._correct(taken, read)
        self._characters += characters
        written = -(-self._characters // CHARS)
        told = (usage.output_tokens or 0) if usage is not None else 0
        allowed = self.request.settings.max_tokens
        believed = 2 if allowed is not None and allowed <= taken.output_tokens else 1
        if told <= taken.output_tokens and written <= taken.output_tokens * believed:
            return None
        return self._take_more(taken, max(told, written))

    def _correct(self, taken: Amount, read: int) -> Amount:
        """The provider has counted the input: set that aside, and less for the output where no more is left."""
        ledger = self._ledger
        ledger.take(Amount() - taken)
        self._reads = read
        output, cap = self._most_output(taken.output_tokens, returned=False)
        self._cap = cap or self._cap
        self._taken = self._amount(output)
        ledger.take(self._taken)
        self._spending.wake()
        return self._taken

    def _take_more(self, taken: Amount, written: int) -> Bound | None:
        step = taken.output_tokens + STEP
        if step > written and self._extend(taken, step) is None:
            return None
        refusal = self._extend(taken, written)
        return refusal.limit if refusal is not None else None

    def _extend(self, taken: Amount, output: int) -> Refusal | None:
        """Set aside so much output instead, if nothing stands against it."""
        more = self._amount(output) - taken
        refusal = self._ledger.refusal(more)
        if refusal is None:
            self._ledger.take(more)
            self._taken = taken + more
        return refusal

    # -- after it

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
        self._give_back(Amount(0, 0, 0, read, written, total, self._cost_of(read, written, cost)))

    def settle_cut(self, limit: Bound, partial: Message | None) -> Limited:
        """An answer was cut at a limit: what has come of it counts."""
        self._give_back(self._amount(-(-self._characters // CHARS)))
        return self._reached(limit, partial)

    def _cost_of(self, read: int, written: int, cost: float | None) -> int:
        """In billionths of a dollar. Where nobody can tell, it is the most that it can have been."""
        taken = self._taken
        assert taken is not None
        if cost is not None or not self._ledger.bounds("cost"):
            return nano(cost or 0.0)
        agent = self._run.agent
        return max(taken.cost, nano(agent.prices.most(agent.provider, read, written) or 0.0))

    def settle_failed(self, unbilled: bool) -> None:
        """A try has failed. One that may have been billed counts as all that was set aside for it."""
        if self._taken is not None:
            self._give_back(Amount() if unbilled else self._taken)

    def let_go(self, asked: bool) -> None:
        """The call is cut. `asked`: its request has gone out."""
        if self._taken is None:
            return
        if asked:
            self._give_back(self._taken)
        else:
            taken, self._taken = self._taken, None
            self._spending.settle(taken, Amount())

    def _give_back(self, came_to: Amount) -> None:
        taken, self._taken = self._taken, None
        assert taken is not None
        if not self._ledger.bounds("cost"):
            came_to = msgspec.structs.replace(came_to, cost=0)
        self.spent = _ONE_REQUEST + came_to
        self._spending.settle(taken, came_to)

    def cut_off(self, reply: ModelReply) -> Limited | None:
        """The limit that has cut off this answer, if one has."""
        if self._cap is None or reply.stop_reason != "length":
            return None
        return self._reached(self._cap, reply.message)

    def _reached(self, limit: Bound, partial: Message | None) -> Limited:
        return limited(self._spending.exceeded(self._ledger.spent(limit)), partial)
