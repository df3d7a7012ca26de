"""A subscription that outlives the connection that it began on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from .questions import TRY

#: Seconds after its end in which a subscription still takes messages.
LINGER = 1.0

_log = logging.getLogger("greenroom")


class Listening:
    """Messages of one subject, handed on in the task that reads from the socket: no task, no queue, no limit.

    Attributes:
        subject: which; it may have wildcards.
        client: that of the connection on which it has begun.
        take: gets each message, in order. It is quick, never waits, and does not raise.
    """

    __slots__ = ("_all", "_subscription", "client", "subject", "take")

    def __init__(self, among: set[Listening], subject: str, take: Callable[[Msg], object]) -> None:
        self._all = among
        self.client: Client | None = None
        self.subject = subject
        self.take = take
        self._subscription: Any = None

    async def begin(self, client: Client) -> None:
        """Subscribe, on a connection that is new."""
        self.client = client
        # A subscription that has a future hands its message to it at once. This one can be resolved again and again.
        self._subscription = await cast("Any", client).subscribe(self.subject, future=self)

    async def stop(self) -> None:
        """No more messages from now on."""
        self._all.discard(self)
        self.take = _drop
        subscription, self._subscription = self._subscription, None
        try:
            if subscription is not None:
                await subscription.unsubscribe()
        except (OSError, nats.errors.Error):
            return  # the connection is gone, and the subscription with it

    async def drain(self) -> None:
        """No more messages from now on, but for those that were on their way; they have come when this returns, but
        for a rare one that comes up to `LINGER` seconds later. It waits for that no longer than `TRY` seconds."""
        self._all.discard(self)
        subscription, self._subscription = self._subscription, None
        client: Any = self.client
        try:
            if subscription is not None:
                # Not its own drain(): an answer to a ping that nobody waits for any more ends the task that reads.
                await client._send_unsubscribe(subscription._id)
                pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
                await client._send_ping(pong)
                await asyncio.wait((pong,), timeout=TRY)
                # A consumer may still send a message that it had in its hands, after the server's answer.
                asyncio.get_running_loop().call_later(LINGER, client._remove_sub, subscription._id)
        except (OSError, nats.errors.Error):
            return  # as above

    # -- what the client library sees

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        try:
            self.take(message)
        except Exception:  # it would end the task that reads
            _log.exception("a message from NATS on %s was not understood", message.subject)


def _drop(_message: Msg) -> None:
    return None
