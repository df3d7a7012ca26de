"""A gate: admission to one account of a provider, shared by everybody in the event loop.

Providers refuse whoever asks too much, and hundreds of runs that are refused at once would come back at once. So a call
asks the gate of its account before it takes anything (a connection, a signature), and leaves it when it is over. What
the gate decides is in `gate_state`; here is the waiting. A call that waits is not in anybody's way: it can be cancelled
at any moment, and a pause between two attempts is spent outside.

An account is a model behind a base URL with a key: providers count per model, and a refusal for one model must not
keep a run from falling back to another.

Nothing here has a task or a lock. Who waits at the head of the line also watches the clock for all; whoever leaves the
gate lets in those who may go now. The gates belong to the event loop and hold no resource, so nobody has to close them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from math import inf
from typing import NamedTuple

import anyio
from anyio.lowlevel import RunVar

from .errors import Overloaded, ProviderError, RateLimited
from .gate_state import GateLimits, GateState, Place, Ticket
from .messages import Text, ToolResult
from .notices import GateOpened, GateWaiting, listening
from .rate_headers import read_rates
from .vocabulary import ModelRequest, Usage

#: Gates that are kept; beyond it, those without anybody inside are forgotten.
KEPT = 1_000
#: After so many answers that tell nothing of limits, only one in as many is read for them.
SILENT = 16
#: Characters of text in a token, roughly: for the cost of a call before it is known.
TOKEN = 4


class Account(NamedTuple):
    """Who is asked, and as whom."""

    provider: str
    model: str
    base_url: str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Account({self.provider!r}, {self.model!r}, {self.base_url.partition('?')[0]!r})"


class Gate:
    """The gate of one account. Get it with `shared_gates`.

    Args:
        account: whose it is.
        chance: a number from 0 up to and without 1.
        limits: those of the user.
    """

    __slots__ = ("_account", "_chance", "_silent", "state")

    def __init__(self, account: Account, chance: Callable[[], float], limits: GateLimits) -> None:
        self._account = account
        self._chance = chance
        self._silent = 0  # answers that have told nothing
        self.state = GateState(limits)

    @property
    def frozen_for(self) -> float:
        """Seconds for which nobody will be let in; 0 for none."""
        until = self.state.frozen_until
        return 0.0 if until == -inf else max(0.0, until - anyio.current_time())

    def try_enter(self, request: ModelRequest) -> Ticket | None:
        """A ticket that is inside, or None if the call has to `wait`."""
        state = self.state
        if state.is_free:
            return state.ask_free()
        if state.queue:
            return None
        now, cost = anyio.current_time(), self._cost(request)
        return None if state.blocked(now, cost)[0] else state.ask(now, cost)

    async def wait(self, request: ModelRequest, patience: float | None) -> Ticket:
        """Stand in line until a ticket is inside. It is the caller's to `leave` with.

        Args:
            request: what will be asked.
            patience: seconds to wait while the provider answers nobody, or None for any number.

        Raises:
            RateLimited: nobody has been answered for so long.
        """
        state, cost = self.state, self._cost(request)
        began = anyio.current_time()
        listener = listening.get()
        if listener is not None:
            # Before it stands in line: a listener that takes its time must not hold up those behind.
            await listener.hear(self._notice(began, cost))
        ticket = state.ask(anyio.current_time(), cost)
        try:
            while ticket.place is Place.WAITING:
                await self._wait_once(ticket, patience)
        except BaseException:
            self.leave(ticket)
            raise
        if listener is not None:
            waited = anyio.current_time() - began
            listener.note(GateOpened(self._account.provider, self._account.model, waited))
        return ticket

    async def _wait_once(self, ticket: Ticket, patience: float | None) -> None:
        """Wait until something may have changed for the ticket, or it is let in."""
        state = self.state
        now = anyio.current_time()
        self._admit(now)
        if ticket.place is not Place.WAITING:
            return
        hopeless_at = inf if patience is None else state.hopeless_at(ticket, patience)
        if hopeless_at <= now:
            raise self._hopeless(patience)
        deadline = min(hopeless_at, state.next_time(now) if state.head is ticket else inf)
        ticket.waiter = anyio.Event()
        with anyio.CancelScope(deadline=deadline):
            await ticket.waiter.wait()

    def answered(self, ticket: Ticket, headers: Mapping[str, str], wall_clock: Callable[[], float]) -> None:
        """The provider has begun to answer with success; `headers` are those of the response."""
        self.state.answered(ticket)
        self.observe(ticket, headers, wall_clock)
        self._changed()

    def observe(self, ticket: Ticket, headers: Mapping[str, str], wall_clock: Callable[[], float]) -> None:
        """Take what a response says of the provider's limits."""
        self._silent += 1
        if self._silent > SILENT and self._silent % SILENT:
            return
        if "ratelimit" in " ".join(headers).lower():
            self._silent = 0
            self.state.observe(ticket, read_rates(headers, now=wall_clock()), anyio.current_time())

    def failed(self, ticket: Ticket, error: ProviderError) -> None:
        """The call has failed. A refusal that another try may outlive freezes the gate."""
        refused = isinstance(error, RateLimited) or (isinstance(error, Overloaded) and error.retry_after is not None)
        if refused and error.retryable:
            self.state.refused(ticket, anyio.current_time(), error.retry_after, self._chance())
        else:
            self.state.answered(ticket)
        self._changed()

    def leave(self, ticket: Ticket, usage: Usage | None = None) -> None:
        """The call is over, or will not be made. Leaving twice changes nothing."""
        state = self.state
        if usage is not None and ticket.entry is not None:
            total = usage.total_tokens
            if total is None and usage.input_tokens is not None:
                total = usage.input_tokens + (usage.output_tokens or 0)
            if total is not None:
                state.used(ticket, total)
        state.leave(ticket)
        self._changed()

    def limit(self, limits: GateLimits, chance: Callable[[], float]) -> None:
        """Set the user's limits."""
        self._chance = chance
        self.state.limit(limits)
        self._changed()

    def _changed(self) -> None:
        """Something has happened that those in line may have waited for."""
        if self.state.queue:
            self._admit(anyio.current_time(), changed=True)

    def _admit(self, now: float, *, changed: bool = False) -> None:
        """Let in whoever may go. Whoever is first in line then has to look at the clock anew."""
        admitted = self.state.admit(now)
        for ticket in admitted:
            if ticket.waiter is not None:
                ticket.waiter.set()
        head = self.state.head
        if head is not None and head.waiter is not None and (admitted or changed):
            head.waiter.set()

    def _cost(self, request: ModelRequest) -> int:
        return estimate(request) if self.state.counts_tokens else 0

    def _notice(self, now: float, cost: int) -> GateWaiting:
        head = self.state.head
        delay, reason = self.state.blocked(now, cost if head is None else head.cost)
        told = delay if delay < inf and (head is None or reason == "frozen") else None
        return GateWaiting(self._account.provider, self._account.model, reason, told, len(self.state.queue))

    def _hopeless(self, patience: float | None) -> RateLimited:
        return RateLimited(
            f"waited {patience:g} s to be let in, while the provider refused all calls for this model and key",
            provider=self._account.provider,
            retry_after=self.frozen_for or None,
        )


def estimate(request: ModelRequest) -> int:
    """The tokens of a request, very roughly, by the length of its texts."""
    size = len(request.instructions or "")
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                size += len(part.text)
            elif isinstance(part, ToolResult):
                size += len(part.content)
    return size // TOKEN + 1


class Gates:
    """The gates of one event loop."""

    __slots__ = ("_dice", "_gates", "_rules")

    def __init__(self) -> None:
        self._dice = random.Random().random
        self._gates: dict[Account, Gate] = {}
        # By who set them; the last one holds.
        self._rules: dict[object, tuple[Mapping[str, GateLimits], Callable[[], float]]] = {}

    def of(self, account: Account) -> Gate:
        """The gate of an account."""
        gate = self._gates.get(account)
        if gate is None:
            if len(self._gates) >= KEPT:
                self._gates = {each: kept for each, kept in self._gates.items() if not kept.state.is_idle}
            gate = self._gates[account] = Gate(account, self._chance(), self._limits(account))
        return gate

    def rule(self, owner: object, limits: Mapping[str, GateLimits], chance: Callable[[], float]) -> None:
        """Set limits by the provider's name or base URL, and the source of chance, for as long as `owner` likes."""
        self._rules[owner] = (limits, chance)
        self._apply()

    def unrule(self, owner: object) -> None:
        """Take back what `owner` has set."""
        if self._rules.pop(owner, None) is not None:
            self._apply()

    def _apply(self) -> None:
        for account, gate in self._gates.items():
            gate.limit(self._limits(account), self._chance())

    def _chance(self) -> Callable[[], float]:
        return next((chance for _, chance in reversed(self._rules.values())), self._dice)

    def _limits(self, account: Account) -> GateLimits:
        for limits, _ in reversed(self._rules.values()):
            for name in (account.base_url, account.base_url.rstrip("/"), account.provider):
                if name in limits:
                    return limits[name]
        return GateLimits()


_shared: RunVar[Gates | None] = RunVar("greenroom_gates", None)


def shared_gates() -> Gates:
    """The gates of the running event loop."""
    gates = _shared.get()
    if gates is None:
        gates = Gates()
        _shared.set(gates)
    return gates
