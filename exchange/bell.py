"""A bell for whoever waits until something has changed. It says only: look again."""

from __future__ import annotations

from math import inf

import anyio


class Bell:
    """Wakes everybody who waits. Whoever looks, then waits, with nothing awaited between, misses no change."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake everybody."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self, until: float = inf) -> None:
        """Wait for the next ring, at most until that moment of the event loop's clock."""
        if self._event is None:
            self._event = anyio.Event()
        with anyio.CancelScope(deadline=until):
            await self._event.wait()
