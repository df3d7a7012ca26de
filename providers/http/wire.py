"""One HTTP/1.1 connection: a request goes out, its answer comes back.

What the bytes mean is in `request` and `answer`, which do no I/O; here they are moved over a socket. A request goes out
in one write. What a read brings is handed out in one piece, without a pause in between: an answer that came in one
packet with its head costs one wait. Only a wait for the socket has a deadline, so what is there already needs none.

`received` counts the bytes of the present answer, which decides whether a request may be sent again.
"""

from __future__ import annotations

import select
import ssl
from typing import Any

import anyio
import anyio.abc
import httpcore

from .answer import Answer, Head
from .request import Request

_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, ssl.SSLError)


class Wire:
    """A socket that speaks HTTP/1.1, one request at a time.

    `deadline` is the moment (of the event loop's clock) at which a wait for the socket is given up. `idle_since` is
    the books' own.
    """

    __slots__ = ("_answer", "_closes", "_descriptor", "_stream", "deadline", "idle_since", "received")

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._answer: Answer | None = None
        self._closes = False  # whether the request at hand is the last
        raw: Any = stream.extra(anyio.abc.SocketAttribute.raw_socket, None)
        self._descriptor: int = -1 if raw is None else raw.fileno()
        self.received = 0
        self.deadline = float("inf")
        self.idle_since = 0.0

    async def request(self, request: Request) -> Head:
        """Send a request, and wait for the head of its answer."""
        self.received = 0
        self._closes = request.closes
        self._answer = answer = Answer(request.method)
        with anyio.CancelScope(deadline=self.deadline):
            try:
                await self._stream.send(request.data)
            except _LOST:
                self._closes = True  # but a server may answer before it has read everything: its answer says more
            while True:
                data = await self._receive()
                if not data:
                    raise httpcore.RemoteProtocolError("the server closed the connection without an answer")
                answer.feed(data)
                head = answer.head()
                if head is not None:
                    return head
        raise httpcore.ReadTimeout("no answer in time")

    async def read(self) -> bytes | None:
        """More of the answer's body, or None at its end."""
        answer = self._answer
        assert answer is not None
        piece = answer.take()
        if not piece and not answer.ended:
            with anyio.CancelScope(deadline=self.deadline) as scope:
                while not piece and not answer.ended:
                    data = await self._receive()
                    if data:
                        answer.feed(data)
                        piece = answer.take()
                    else:
                        answer.close()
            if scope.cancelled_caught:
                raise httpcore.ReadTimeout("no byte in time")
        return piece or None

    def renew(self) -> bool:
        """Whether another request may be sent: the answer is read to its end, and nothing follows it."""
        answer, self._answer = self._answer, None
        return answer is not None and answer.is_clean and not answer.closes and not self._closes

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

    async def _receive(self) -> bytes:
        """The next bytes, or none at the end of the connection."""
        try:
            data = await self._stream.receive()
        except anyio.EndOfStream:
            return b""
        except _LOST as error:
            raise httpcore.ReadError("the connection was lost") from error
        except BaseException as error:
            # On trio, anyio's stream raises a cancellation from a function that was given it. With that frame in its
            # traceback it leads back to itself, and all that its task held would wait for the cyclic collector.
            error.__traceback__ = None
            raise
        self.received += len(data)
        return data
