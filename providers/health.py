"""How a provider has been lately, for those who have another one to ask: a circuit breaker. Pure: times are arguments.

A provider in good health is asked. After some failures in a row, or one that says how long it will last, it rests; then
*one* call tries it, and until that is decided nobody else does. A success makes it well again, a failure sends it back
to rest. A provider that refuses the key is not asked any more: no time mends a key. But time may mend a token that is
made anew for each call, and a refusal of somebody in between who never looked at the key.
"""

from __future__ import annotations

import re
from math import inf

import msgspec

from .errors import AuthError, BadResponse, ContextOverflow, InvalidRequest, ProviderError

#: Seconds of rest at most that a provider's own word gets.
MAX_REST = 300.0


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The right to ask a provider; `probe` if it is the one call that tries it. Give it back with an end."""

    probe: bool


class Health:
    """The health of one provider.

    Attributes:
        failures: in a row.
        resting_until: nobody asks it before; infinite where only another key would help.
        kind: the class of the last failure, in one word.
    """

    __slots__ = ("_probing", "failures", "kind", "resting_until")

    def __init__(self) -> None:
        self.failures = 0
        self.resting_until = -inf
        self.kind = ""
        self._probing = False

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to remember."""
        return not self.failures and not self._probing

    @property
    def is_off(self) -> bool:
        """Whether it has refused the key."""
        return self.resting_until == inf

    def claim(self, now: float) -> Claim | None:
        """The right to ask it now, or None."""
        if self.resting_until == -inf:
            return _ASK
        if now < self.resting_until or self._probing:
            return None
        self._probing = True
        return _PROBE

    def rest(self, now: float) -> float:
        """Seconds until somebody may ask it; 0 while one call tries it, infinite if only another key would help."""
        return max(0.0, self.resting_until - now)

    def succeeded(self, claim: Claim) -> None:
        """The provider has answered, or has shown otherwise that it works. An answer to a call from before is none."""
        if claim.probe:
            self._probing = False
        if claim.probe or self.resting_until == -inf:
            self.failures = 0
            self.resting_until = -inf
            self.kind = ""

    def failed(
        self, claim: Claim, error: ProviderError, now: float, *, failures: int, cooldown: float, renewed: bool = False
    ) -> None:
        """The provider has failed.

        Args:
            claim: with which it was asked.
            error: how.
            now: the time.
            failures: so many in a row send it to rest.
            cooldown: seconds of rest, where it does not say itself.
            renewed: whether the next call may bring another proof of who asks, without another key.
        """
        if claim.probe:
            self._probing = False
        self.failures += 1
        self.kind = error.kind
        if isinstance(error, AuthError) and not renewed and _refuses_key(error):
            self.resting_until = inf
        elif error.retry_after is not None:
            self._rest_until(now + min(error.retry_after, MAX_REST))
        elif claim.probe or self.failures >= failures or not (error.retryable or isinstance(error, BadResponse)):
            self._rest_until(now + cooldown)

    def given_up(self, claim: Claim) -> None:
        """The call was cancelled: nobody knows how it would have ended."""
        if claim.probe:
            self._probing = False

    def _rest_until(self, time: float) -> None:
        self.resting_until = max(self.resting_until, time)


_ASK = Claim(False)
_PROBE = Claim(True)


def passes_on(error: ProviderError) -> bool:
    """Whether another provider may answer what this one could not.

    Not a request that is wrong everywhere, nor content that was refused: to ask around until somebody does not mind is
    nobody's decision but the caller's. A conversation that is too long for one model may fit another, and where the
    money is spent or the model unknown, others have both.
    """
    if isinstance(error, InvalidRequest) and not error.retryable:
        return isinstance(error, ContextOverflow) or error.status in _NOT_HERE
    return error.retryable or error.kind in _PASSED_ON


def is_ill(error: ProviderError) -> bool:
    """Whether the error speaks of the provider's health, not of this request."""
    if isinstance(error, InvalidRequest) and not error.retryable:
        return error.status == 402 or (error.status == 404 and _NO_MODEL.search(f"{error.code} {error}") is not None)
    return passes_on(error)


def _refuses_key(error: AuthError) -> bool:
    """Whether it is the key that was refused: a 403 without a word of the provider is often of a firewall."""
    return error.status != 403 or (error.code is not None and not error.code.isdigit())


#: Of what is wrong with a request: no money, no such model or path, more than this account may send at once.
_NOT_HERE = (402, 404, 413)
_NO_MODEL = re.compile(r"model|deployment", re.IGNORECASE)
#: Failures that are not worth another try with the same provider, but with another: a wrong key, quota that is used up,
#: a certificate that is refused, an endpoint that is no endpoint.
_PASSED_ON = {"auth", "rate_limit", "overloaded", "connection", "interrupted", "stalled", "bad_response", "sdk"}
