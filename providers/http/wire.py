"""One HTTP/1.1 connection: h11 over a socket.

h11 knows the protocol and does no I/O; here its events are moved over a socket. A request goes out in one write. What a
read brings is handed out until it is used up, without a pause in between: an answer that came in one packet with its
head costs one wait. Only a wait for the socket has a deadline, so what is there already needs none.

`received` counts the bytes of the present answer, which decides whether a request may be sent again.
"""

from __future__ import annotations

import select
import ssl
from typing import Any

import anyio
import anyio.abc
import h11
import httpcore

from .failures import NotHttp

_MAX_HEAD = 100 * 1024
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, ssl.SSLError)


class Wire:
    """A socket that speaks HTTP/1.1, one request at a time.

    `deadline` is the moment (of the event loop's clock) at which a wait for the socket is given up. `idle_since` is
    the books' own.
    """

    __slots__ = ("_connection", "_descriptor", "_stream", "deadline", "idle_since", "received")

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        raw: Any = stream.extra(anyio.abc.SocketAttribute.raw_socket, None)
        self._descriptor: int = -1 if raw is None else raw.fileno()
        self.received = 0
        self.deadline = float("inf")
        self.idle_since = 0.0

    async def request(self, head: h11.Request, body: bytes) -> h11.Response:
        """Send a request, and wait for the head of its answer."""
        send = self._connection.send
        self.received = 0
        try:
            data = b"%b%b%b" % (send(head) or b"", send(h11.Data(data=body)) or b"", send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(str(error)) from error
        with anyio.CancelScope(deadline=self.deadline):
            try:
                await self._stream.send(data)
            except _LOST:
                pass  # a server may answer and close before it has read everything: its answer says more
            while True:
                try:
                    event = self._event()
                except httpcore.RemoteProtocolError as error:
                    raise NotHttp(str(error)) from error
                if type(event) is h11.Response:
                    return event
                if event is h11.NEED_DATA:
                    await self._receive()
                elif type(event) is not h11.InformationalResponse:
                    raise httpcore.RemoteProtocolError("what came is not an answer")
        raise httpcore.ReadTimeout("no answer in time")

    async def read(self) -> bytes | None:
        """More of the answer's body, or None at its end."""
        event = self._event()
        if event is h11.NEED_DATA:
            with anyio.CancelScope(deadline=self.deadline) as scope:
                while event is h11.NEED_DATA:
                    await self._receive()
                    event = self._event()
            if scope.cancelled_caught:
                raise httpcore.ReadTimeout("no byte in time")
        return bytes(event.data) if isinstance(event, h11.Data) else None

    def renew(self) -> bool:
        """Get ready for another request. False: the answer is not read to its end, or something follows it."""
        connection = self._connection
        ended = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        if not ended or connection.trailing_data[0]:
            return False
        connection.start_next_cycle()
        return True

    def has_ended(self) -> bool:
        """Whether an idle connection has something to read, which can only be its end."""
        if self._descriptor < 0 or not hasattr(select, "poll"):
            return False  # where it cannot be asked, the one retry serves
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

    def _event(self) -> Any:
        try:
            return self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise httpcore.RemoteProtocolError(str(error)) from error

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive()
        except anyio.EndOfStream:
            if self._connection.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("the server closed the connection without an answer") from None
            data = b""
        except _LOST as error:
            raise httpcore.ReadError("the connection was lost") from error
        self.received += len(data)
        self._connection.receive_data(data)
