"""The connection to NATS, on the far side: requests with a time limit, subscriptions, and coming back.

The client library connects again by itself. Some words of a server make it give up for good; then a new client takes
its place, with the same subscriptions. A request that was on its way when the connection broke fails at once: whether
it arrived is not known, and whoever asked tries again.

Answers come to one inbox, told apart by a number. They and the messages of subscriptions are passed on in the task that
reads from the socket, without a task or a queue of their own, so whoever takes them is quick and never waits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from .dialling import FIRST_PAUSE, LONGEST_PAUSE, dial, hang_up, is_about_us
from .errors import EngineAway, EngineError, EngineRefused, NobodyAnswers
from .listening import Listening
from .questions import TRY, Inbox, Question, header_size, status
from .servers import Servers

_log = logging.getLogger("greenroom")


class Link:
    """A connection to one of these servers. All of it belongs to the far side.

    Args:
        servers: where they are, and the secrets that they want.
        options: more for the client library.
        start: starts a task.
    """

    def __init__(
        self,
        servers: Servers,
        options: dict[str, Any],
        start: Callable[[Callable[[], Coroutine[Any, Any, object]]], None],
    ) -> None:
        self.servers = servers
        self.client = Client()
        self.listenings: set[Listening] = set()
        self._options = options
        self._start = start
        self._closed = False
        #: Whether the client has been connected, and does what it can to be so again.
        self._stands = False
        self._connected = asyncio.Event()
        self._inbox = Inbox()
        self._watchers: list[Callable[[], object]] = []

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    @property
    def max_payload(self) -> int:
        """How many bytes a message may have, its headers among them."""
        return self.client.max_payload

    async def open(self, within: float) -> None:
        """Connect.

        Raises:
            EngineError: it does not work within so many seconds, or never will.
        """
        last = ""
        try:
            with anyio.move_on_after(within):
                while True:
                    try:
                        return await self._connect()
                    except (OSError, nats.errors.Error) as error:
                        last = f" ({error})" if isinstance(error, ssl.SSLError) else ""
                        if not isinstance(error, OSError) and is_about_us(error):
                            raise EngineRefused(
                                f"the NATS server at {self.servers.names} does not let us in:"
                                " give it a user, a token or credentials= that it knows"
                            ) from None
                    await self._drop_client()
                    await anyio.sleep(FIRST_PAUSE)
            raise EngineAway(
                f"no NATS server answers at {self.servers.names} within {within:g} s{last}:"
                " start one with `nats-server -js`, or check the address"
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close()
            raise

    async def _connect(self) -> None:
        client = self.client
        await dial(client, self.servers, self._options, self._on_lost, self._on_back, self._on_closed)
        if not self.listenings:
            self.listenings.add(Listening(self.listenings, self._inbox.subject, self._inbox.take))
        while late := [each for each in self.listenings if each.client is not client]:
            for each in late:
                await each.begin(client)
        self._stands = True
        self._connected.set()

    async def _drop_client(self) -> None:
        """Close this client, whatever it has open, and have a new one."""
        client, self.client = self.client, Client()
        with anyio.CancelScope(shield=True), anyio.move_on_after(TRY):
            await hang_up(client)

    async def close(self) -> None:
        """Close the connection. What is on its way fails."""
        self._closed = True
        self._connected.set()  # who waits for it has waited long enough
        self._inbox.fail(_closed)
        with anyio.move_on_after(TRY):
            await hang_up(self.client)

    # -- requests

    async def ask(self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """The answer to one try of a request.

        Raises:
            EngineAway: there is none within `TRY` seconds, or the connection broke.
        """
        return (await self._request(subject, payload, headers, Question(many=False)))[-1]

    async def ask_for_many(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> list[Msg]:
        """The answers to one try of a request that has any number of them, and an end: a status, which comes last.

        Messages of a consumer are none: they come under subjects of their own. Have them come where you `listen`.

        Raises:
            EngineAway: `TRY` seconds passed without another one, or the connection broke.
        """
        return await self._request(subject, payload, headers, Question(many=True))

    def new_inbox(self) -> str:
        """A subject of nobody else, for whoever wants to listen there."""
        return self._inbox.new()

    async def _request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, question: Question
    ) -> list[Msg]:
        reply = self._inbox.add(question)
        try:
            with question.scope:
                await self._connected.wait()
                if self._closed:
                    raise _closed()
                await self.say(subject, payload, headers, reply=reply)
                await question.over
        finally:
            self._inbox.remove(reply)
        if question.scope.cancelled_caught:
            raise self.away()
        if status(question.answers[-1]) == "503":
            raise NobodyAnswers(f"nobody at the NATS server {self.servers.names} answers {subject}: try again later")
        return question.answers

    async def say(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, *, reply: str = ""
    ) -> None:
        """Publish, without waiting for anything. What is said while the connection is lost may be lost.

        Raises:
            EngineAway: the connection is lost, and so much was said since that no more is kept for its return.
            EngineRefused: the server takes no message of this size.
        """
        size = len(payload) + header_size(headers)
        if size > self.max_payload:  # the server would close the connection
            raise EngineRefused(
                f"a message of {size:,} bytes is too large for the NATS server at {self.servers.names}, which takes"
                f" {self.max_payload:,}: raise its max_payload",
                413,
            )
        try:
            await self.client.publish(subject, payload, reply, headers)
        except (OSError, nats.errors.Error) as error:
            raise self.away() from error

    def away(self) -> EngineAway:
        """That there is no answer."""
        return EngineAway(
            f"the NATS server at {self.servers.names} does not answer:"
            " see that it runs and can be reached, then try again"
        )

    async def ask_json(self, subject: str, request: object = None) -> dict[str, Any]:
        """One try of a request to the server's own interface.

        Raises:
            EngineRefused: it answers with an error.
        """
        answer = await self.ask(subject, b"" if request is None else json.dumps(request).encode())
        return self.understood(answer)

    def understood(self, answer: Msg) -> dict[str, Any]:
        """What an answer of JetStream says.

        Raises:
            EngineRefused: an error.
        """
        said: dict[str, Any] = json.loads(answer.data)
        error: dict[str, Any] | None = said.get("error")
        if error is not None:
            raise EngineRefused(
                f"the NATS server at {self.servers.names} says: {error.get('description', 'no')}",
                int(error.get("code", 0)),
                int(error.get("err_code", 0)),
            )
        return said

    async def until_connected(self) -> None:
        await self._connected.wait()

    # -- subscriptions

    async def listen(self, subject: str, take: Callable[[Msg], object]) -> Listening:
        """Call `take` with each message there, in order. It must be quick, and must not raise."""
        if self._closed:
            raise _closed()
        listening = Listening(self.listenings, subject, take)
        self.listenings.add(listening)
        if self._stands:  # else a new client is on its way, and begins all of them
            with suppress(nats.errors.ConnectionClosedError):  # it has just given up, and the new one will
                await listening.begin(self.client)
        return listening

    def watch(self, function: Callable[[], object]) -> Callable[[], None]:
        """Call a function each time the connection is back and the subscriptions have begun again; what is returned
        ends that."""
        self._watchers.append(function)
        return partial(self._watchers.remove, function)

    # -- what the client library tells

    async def _on_lost(self) -> None:
        if self._closed or not self._connected.is_set():
            return
        self._connected.clear()
        self._inbox.fail(self._broken)
        _log.warning("the NATS server at %s cannot be reached; trying again", self.servers.names)

    def _broken(self) -> EngineAway:
        return EngineAway(
            f"the connection to the NATS server at {self.servers.names} broke before the answer came: try again"
        )

    async def _on_back(self) -> None:
        self._connected.set()
        for each in [*self._watchers]:
            each()
        _log.info("the NATS server at %s is there again", self.servers.names)

    async def _on_closed(self) -> None:
        """The client has given up; without our having said so, another one takes its place."""
        if self._stands and not self._closed:
            self._stands = False
            self._start(self._renew)

    async def _renew(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            await self._drop_client()
            await anyio.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                with anyio.fail_after(TRY * 2):
                    await self._connect()
            except (OSError, nats.errors.Error, EngineError):
                continue
            await self._on_back()
            break


def _closed() -> EngineError:
    return EngineError("the connection to NATS was closed here before the answer came")
