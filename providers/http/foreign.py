"""The answer of a user's own httpx client, or of httpx's transport for a proxy, in the form of our `Body`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx


class ForeignBody:
    """The answer to one request; see `Body`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks: AsyncIterator[bytes] | None = None
        self._ended = False
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]

    async def read(self, deadline: float) -> bytes | None:
        """The next bytes, or None at the end.

        Raises:
            httpx.ReadTimeout: nothing came until `deadline`.
            httpx.TransportError: the connection failed.
        """
        if self._chunks is None:
            self._chunks = aiter(self._response.stream)  # type: ignore[arg-type]
        with anyio.CancelScope(deadline=deadline):
            try:
                return await anext(self._chunks)
            except StopAsyncIteration:
                self._ended = True
                return None
        raise httpx.ReadTimeout("no byte in time")

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        if not self._ended and self._chunks is not None:
            await _run_out(self._response, self._chunks)
        await self._response.aclose()


async def _run_out(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Leave a body of httpx's own transports: close the socket, then run its generators out, or trio warns of them."""
    network = response.extensions.get("network_stream")
    if network is None:
        return
    try:
        await network.aclose()
        while True:
            await anext(chunks)
    except Exception:
        pass  # whatever the closed socket makes of it: nobody wants this body any more
