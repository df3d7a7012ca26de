"""A socket as httpcore wants it: one write for a request's head and body, and a count of the bytes of its response.

The count tells whether a response had begun, which decides whether a request may be sent again.
"""

from __future__ import annotations

import select
import ssl
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import httpcore

_FLUSH_AT = 256 * 1024


class Wire(httpcore.AsyncNetworkStream):
    """A socket for httpcore: gathers a request's head and body into one write, and counts the bytes of a response."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self.received = 0
        raw: Any = stream.extra(anyio.abc.SocketAttribute.raw_socket, None)
        self._descriptor: int = -1 if raw is None else raw.fileno()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent.append(buffer)
        self._unsent_size += len(buffer)
        if self._unsent_size >= _FLUSH_AT:
            await self._flush()

    async def _flush(self) -> None:
        data, self._unsent, self._unsent_size = b"".join(self._unsent), [], 0
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, ssl.SSLError) as error:
            raise httpcore.WriteError("the connection was lost while sending") from error

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is None:
            return await self._read(max_bytes)
        try:
            with anyio.fail_after(timeout):
                return await self._read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("no byte in time") from error

    async def _read(self, max_bytes: int) -> bytes:
        if self._unsent:
            try:
                await self._flush()
            except httpcore.WriteError:
                pass  # a server may answer and close before it has read everything: its answer says more
        try:
            data = await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, ssl.SSLError) as error:
            raise httpcore.ReadError("the connection was lost") from error
        self.received += len(data)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()

    def has_ended(self) -> bool:
        """Whether an idle connection has something to read, which can only be its end."""
        if self._descriptor < 0 or not hasattr(select, "poll"):
            return False  # where it cannot be asked, the one retry serves
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self.has_ended()
        if info == "ssl_object":
            return self._stream.extra(anyio.streams.tls.TLSAttribute.ssl_object, None)
        return None
