"""When to try a model call again, and how long to wait first. Pure: the jitter is an argument, and nobody sleeps here.

What the provider asked for holds, and only upward: jitter is added to it, never taken away, so that many runs
told "in one second" do not come back in one wave and none comes back early. Nothing waits longer than
`max_delay`. Where the provider said nothing, the wait doubles with each try, between half of it and the whole.
"""

from __future__ import annotations

import msgspec

from .checks import is_number, is_whole
from .errors import ProviderError
from .keywords import Keywords


class Retry(msgspec.Struct, metaclass=Keywords, frozen=True):
    """How often a model call is tried.

    Args:
        attempts: tries in all, the first one included; 1 means no retry.
        max_delay: the longest wait in seconds, also where the provider asks for more.
        base: the wait in seconds after the first try, where the provider asks for none.
    """

    attempts: int = 3
    max_delay: float = 30.0
    base: float = 0.5

    def __post_init__(self) -> None:
        if not is_whole(self.attempts) or self.attempts < 1:
            raise ValueError(f"Retry(attempts=) must be a whole number of tries, at least 1, not {self.attempts!r}")
        for name in ("max_delay", "base"):
            value = getattr(self, name)
            if not is_number(value) or value < 0:
                raise ValueError(f"Retry({name}=) must be seconds, zero or more, not {value!r}")


def should_retry(error: BaseException, attempt: int, policy: Retry) -> bool:
    """Whether another try is due after try number `attempt` (the first is 1) ended with `error`."""
    return isinstance(error, ProviderError) and error.retryable and attempt < policy.attempts


def delay(attempt: int, *, retry_after: float | None, jitter: float, policy: Retry) -> float | None:
    """Seconds to wait after try number `attempt` (the first is 1), or None when no try is left.

    Args:
        attempt: the try that has just failed.
        retry_after: seconds that the provider asked for, or None.
        jitter: a number from 0 up to and without 1, from the caller's source of chance.
        policy: the limits.
    """
    if attempt >= policy.attempts:
        return None
    if retry_after is not None:
        # Up to a quarter more, and at least a little spread where the answer was "at once".
        return min(policy.max_delay, retry_after + jitter * max(retry_after * 0.25, min(policy.base, 1.0)))
    whole = min(policy.max_delay, policy.base * 2 ** min(attempt - 1, 60))
    return whole * (0.5 + 0.5 * jitter)
