"""Who is in bad health, for everybody in an event loop: the accounts of endpoints, and other providers as objects.

A provider that is well needs no entry, so the book is short, and a provider that nobody holds any more leaves it.
"""

from __future__ import annotations

from collections.abc import Hashable
from weakref import ref

from anyio.lowlevel import RunVar

from .endpoint import Endpoint
from .health import Health
from .provider import Provider

#: Providers in bad health that are remembered.
KEPT = 1_000


class HealthBook:
    """The health of all providers of one event loop, as far as there is anything to remember."""

    __slots__ = ("_healths",)

    def __init__(self) -> None:
        self._healths: dict[Hashable, tuple[Health, ref[Provider] | None]] = {}

    def of(self, key: Hashable, provider: Provider) -> Health:
        """The health of a provider."""
        known = self._healths.get(key)
        if known is not None:
            return known[0]
        if len(self._healths) >= KEPT:
            del self._healths[next(iter(self._healths))]
        # An identity is somebody else's when the object has gone.
        gone = ref(provider, lambda _: self._healths.pop(key, None)) if isinstance(key, int) else None
        health = Health()
        self._healths[key] = health, gone
        return health

    def tidy(self, key: Hashable) -> None:
        """Forget a provider that is well."""
        known = self._healths.get(key)
        if known is not None and known[0].is_well:
            del self._healths[key]


_shared: RunVar[HealthBook | None] = RunVar("greenroom_health", None)


def health_book() -> HealthBook:
    """The book of the running event loop."""
    book = _shared.get()
    if book is None:
        book = HealthBook()
        _shared.set(book)
    return book


def health_key(provider: Provider) -> Hashable:
    """Whose health it is: the account's, or the object's own."""
    return provider.account if isinstance(provider, Endpoint) else id(provider)
