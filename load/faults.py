"""Which requests go wrong, and how: rates in, a kind of failure out.

Four failures cover what clients of a model meet. Two come instead of an answer (a refusal for pace, a server
error), two cut an answer in its middle (the connection is reset, or goes silent for ever). `Faults` holds one
rate for each and lays them side by side on the interval from 0 to 1; `choose` says which of them a number in
that interval hits.

No randomness lives here: the caller draws the number, from the seed and the place in the conversation, so
that the same run meets the same failures in whatever order requests arrive.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

FaultKind: TypeAlias = Literal["rate_limit", "server_error", "reset", "stall"]

#: Room for the rounding of a sum of four rates, so that four quarters of 1.0 are never "above 1".
_ROUNDING = 1e-9


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of injected failures, each the share of requests (0 to 1) that fails so; their sum is at most 1.

    Args:
        rate_limit: answered 429 at once, with `Retry-After`.
        server_error: answered 500 after the usual latency.
        reset: the connection is reset (TCP RST) once half of the response has been sent.
        stall: half of the response is sent, then nothing until the client closes.
        retry_after: seconds that a 429 asks the client to wait; default 0.05.
        in_a_row: at most so many failures of one place of a conversation, after which it is answered; default
            None, no such bound. With it below a client's number of attempts, every run can be expected to end
            well.

    Raises:
        ValueError: a rate outside 0 to 1, a sum above 1, a negative `retry_after` or `in_a_row`.
    """

    rate_limit: float = 0.0
    server_error: float = 0.0
    reset: float = 0.0
    stall: float = 0.0
    retry_after: float = 0.05
    in_a_row: int | None = None

    def __post_init__(self) -> None:
        rates = {
            "rate_limit": self.rate_limit,
            "server_error": self.server_error,
            "reset": self.reset,
            "stall": self.stall,
        }
        for name, rate in rates.items():
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"{name} is a share of requests and must be between 0 and 1, not {rate!r}")
        if sum(rates.values()) > 1.0 + _ROUNDING:
            raise ValueError(f"the rates of all faults must sum to at most 1, not {sum(rates.values()):g}")
        if not 0.0 <= self.retry_after < float("inf"):
            raise ValueError(f"retry_after must be zero or more seconds, not {self.retry_after!r}")
        if self.in_a_row is not None and self.in_a_row < 0:
            raise ValueError(f"in_a_row must be zero or more, not {self.in_a_row!r}")

    @classmethod
    def of(cls, total: float, *, retry_after: float = 0.05, in_a_row: int | None = None) -> Faults:
        """The rate `total` (0 to 1), split evenly over the four kinds.

        Raises:
            ValueError: `total` is outside 0 to 1.
        """
        if not 0.0 <= total <= 1.0:
            raise ValueError(f"the total rate of faults must be between 0 and 1, not {total!r}")
        each = total / 4
        return cls(
            rate_limit=each,
            server_error=each,
            reset=each,
            stall=each,
            retry_after=retry_after,
            in_a_row=in_a_row,
        )

    def choose(self, u: float, attempt: int = 0) -> FaultKind | None:
        """The failure that the number `u` (at least 0, below 1) hits, or None: a good answer.

        `attempt` counts earlier requests at the same place of the same conversation, from 0.
        """
        if self.in_a_row is not None and attempt >= self.in_a_row:
            return None
        edge = self.rate_limit
        if u < edge:
            return "rate_limit"
        edge += self.server_error
        if u < edge:
            return "server_error"
        edge += self.reset
        if u < edge:
            return "reset"
        # Four rates that sum to 1 may add up to a hair less; the last kind takes the rest.
        if u < edge + self.stall or (self.stall and edge + self.stall >= 1.0 - _ROUNDING):
            return "stall"
        return None
