"""How long to wait before a crashed child is started again.

The first restart after a quiet time waits for `minimum`; each further one `factor` times as long as the one before, up
to `maximum`. Chance moves each delay within a band of `jitter` around that, so that a hundred children that fell over
the same broken thing do not all come back in the same instant. A child that has lived for `reset` seconds since its
last restart begins again at `minimum`; one that never became ready has not lived, however long it tried.

Nothing here sleeps, looks at a clock or throws dice: attempt, time and chance come in, seconds go out.
"""

from __future__ import annotations

import math
import sys

from .errors import BadChildSpec


class Backoff:
    """The delays before the restarts of one child.

    Args:
        minimum: seconds before the first restart (default 0.1), above 0.
        maximum: the most seconds before any restart, chance aside (default 30).
        factor: how much longer each delay is than the one before (default 2), at least 1.
        jitter: the half width of the band that a delay is drawn from, as a share of it (default 0.2): 0 is exact, 1
            anything between nothing and the double.
        reset: seconds of life after its last delayed restart from which on the delays begin again at `minimum`
            (default 60). A start that fails is no life.

    Raises:
        BadChildSpec: a value that cannot work; the message names it.
    """

    __slots__ = ("factor", "jitter", "maximum", "minimum", "reset")

    def __init__(
        self,
        minimum: float = 0.1,
        maximum: float = 30.0,
        *,
        factor: float = 2.0,
        jitter: float = 0.2,
        reset: float = 60.0,
    ) -> None:
        _check("minimum", minimum, minimum_is=0.0, above=True)
        _check("maximum", maximum, minimum_is=0.0, above=True)
        _check("factor", factor, minimum_is=1.0)
        _check("jitter", jitter, minimum_is=0.0)
        _check("reset", reset, minimum_is=0.0)
        if maximum < minimum:
            raise BadChildSpec(f"maximum of a backoff must not be below its minimum of {minimum:g} s, not {maximum!r}")
        if jitter > 1:
            raise BadChildSpec(f"jitter of a backoff must be a share between 0 and 1, not {jitter!r}")
        self.minimum = float(minimum)
        self.maximum = float(maximum)
        self.factor = float(factor)
        self.jitter = float(jitter)
        self.reset = float(reset)

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds before a restart.

        Args:
            attempt: how many restarts there were since the last quiet time; 0 for the first.
            chance: where in the band, from 0 (its low end) to 1 (its high end).
        """
        steps = math.log(self.maximum / self.minimum) / math.log(self.factor) if self.factor > 1 else math.inf
        middle = self.maximum if attempt >= steps else self.minimum * self.factor**attempt
        return middle * (1 + self.jitter * (2 * chance - 1))

    def __repr__(self) -> str:
        return f"Backoff({self.minimum:g}, {self.maximum:g}, factor={self.factor:g}, jitter={self.jitter:g})"


class Pace:
    """Where one child stands in its backoff."""

    __slots__ = ("_attempt", "_backoff", "_resumed")

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._attempt = 0
        self._resumed = -math.inf

    def next_delay(self, now: float, chance: float, *, was_ready: bool = True) -> float:
        """Seconds before the restart that follows a crash at `now`. A failing start is no quiet life."""
        if was_ready and now - self._resumed >= self._backoff.reset:
            self._attempt = 0
        delay = self._backoff.delay(self._attempt, chance)
        self._attempt += 1
        self._resumed = now + delay
        return delay


def _check(name: str, value: float, *, minimum_is: float, above: bool = False) -> None:
    # Not nan, not infinite, and no whole number that is too large to be a float.
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not is_number or value < minimum_is or (above and value == minimum_is):
        bound = f"above {minimum_is:g}" if above else f"{minimum_is:g} or more"
        raise BadChildSpec(f"{name} of a backoff must be {bound}, not {value!r}")
