"""The receiver at an address, over a NATS server.

What is sent comes as a request, which is answered when the message is in the hands (`hands`). So a sender that has an
answer knows, and one that has none asks again. What is left comes from its stream (`left`), before what is sent.

There is one receiver at an address at a time: whoever wants to be there asks first whether somebody is. One that does
not answer, because its process was stopped, is not counted.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import Self

import anyio
from anyio.lowlevel import checkpoint
from nats.aio.msg import Msg

from ..exchange import AddressTaken, Stream
from ..exchange.bell import Bell
from .errors import EngineAway, EngineError, NobodyAnswers
from .hands import Hands
from .inbox import Inboxes
from .left import Left
from .line import Line
from .listening import Listening
from .outbox import Outbox
from .questions import TRY

#: How a request begins: a message; whether somebody is there; that its sender does not wait any more. A message has
#: a name of so many bytes, which the others may have too.
MESSAGE, HELLO, WITHDRAWN = b"M", b"H", b"W"
NAMED = 16
#: Answers.
TAKEN, GONE, HERE = b"+", b"-", b"!"
#: Seconds after which a receiver looks again at what was left: another server of a cluster may have known too late that
#: it listens.
LOOK_AGAIN = 1.0
#: Seconds between two tries.
PAUSE = 0.05


class Receiver(Stream[bytes]):
    """A block, and the iterator in it.

    Args:
        line: to the server.
        subject: where messages are sent.
        at: the address.
        capacity: how many messages its hands hold.
        inbox: where messages are left.
        outbox: for answers.
    """

    __slots__ = (
        *("_at", "_bell", "_busy", "_entered", "_forgetting", "_hands", "_in_hand", "_inbox", "_left", "_line"),
        *("_listenings", "_look_at", "_open", "_outbox", "_stop_watching", "_subject"),
    )

    def __init__(self, line: Line, subject: str, at: str, capacity: int, inbox: Inboxes, outbox: Outbox) -> None:
        self._line = line
        self._subject = subject
        self._at = at
        self._inbox = inbox
        self._outbox = outbox
        self._hands = Hands(capacity)
        self._left = Left()
        self._in_hand: int | None = None  # the number of the message that was left and is dealt with now
        self._bell = Bell()
        self._look_at = float("inf")
        self._listenings: list[Listening] = []
        self._forgetting = 0
        self._entered = self._open = self._busy = False

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("this block has been entered: call receive() again")
        self._entered = self._open = True
        try:
            if await self._line.call(self._is_taken):
                raise AddressTaken(self._at)
            await self._line.call(self._listen)
            while self._left.behind and self._left.has_room:
                await self._read()  # the first answer comes after the server knows that we listen
        except BaseException:
            await self.aclose()
            raise
        self._look_at = anyio.current_time() + LOOK_AGAIN
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            self._put_away()
        await self.aclose()

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._bell.ring()
            self._answer(self._hands.close(), GONE)
            with suppress(EngineError), anyio.CancelScope(shield=True), anyio.move_on_after(2 * TRY):
                await self._line.call(self._stop_listening)

    async def __anext__(self) -> bytes:
        if self._busy:
            raise anyio.BusyResourceError("receiving from")
        self._busy = True
        try:
            await checkpoint()
            if self._open:
                self._put_away()
            while self._open:
                if len(self._left):
                    self._in_hand, message = self._left.next()
                    return message
                if self._left.behind:
                    await self._read()
                elif self._hands.held:
                    break
                else:
                    await self._bell.wait(self._look_at)
                    if self._look_at <= anyio.current_time():
                        self._look_at = float("inf")
                        self._left.look_again()
        finally:
            self._busy = False
        if not self._hands.held:
            raise StopAsyncIteration
        message, answers = self._hands.look_at_next(anyio.current_time())
        self._answer(answers, TAKEN)
        return message

    @property
    def ready(self) -> int:
        return len(self._left) + len(self._hands.held)

    async def _read(self) -> None:
        begun = self._left.begin()
        self._left.read(begun, await self._line.call(self._inbox.first, self._at, self._left.position))

    def _put_away(self) -> None:
        """What was left and is in hand need not come again."""
        number, self._in_hand = self._in_hand, None
        if number is not None:
            with suppress(EngineError):
                self._line.post(self._begin_to_forget, number)

    def _answer(self, answers: list[str], word: bytes) -> None:
        with suppress(EngineError):
            for each in answers:
                self._line.post(self._outbox.put, each, word)

    # -- at home, told by the far side

    def _sent(self, request: bytes, answer_to: str) -> None:
        what, name = request[:1], request[1 : 1 + NAMED]
        if not self._open:
            self._answer([answer_to] if answer_to else [], GONE)
        elif what == HELLO:
            self._answer([answer_to], HERE)
        elif what == WITHDRAWN:
            self._hands.withdraw(name)
        elif what == MESSAGE and self._hands.offer(name, request[1 + NAMED :], answer_to, anyio.current_time()):
            self._answer([answer_to], TAKEN)
            self._bell.ring()

    def _was_left(self, number: int, before: int, message: bytes) -> None:
        self._left.told(number, before, message)
        self._bell.ring()

    def _look_again(self) -> None:
        self._left.look_again()
        self._bell.ring()

    # -- on the far side

    async def _is_taken(self) -> bool:
        link = self._line.link
        while True:
            await link.until_connected()
            asked = monotonic()
            try:
                return (await link.ask(self._subject, HELLO)).data == HERE
            except NobodyAnswers:
                return False
            except EngineAway:
                if link.is_connected and monotonic() > asked + 0.9 * TRY:
                    return False
                await anyio.sleep(PAUSE)

    async def _listen(self) -> None:
        link = self._line.link
        self._stop_watching = link.watch(lambda: self._line.home(self._look_again))
        for subject, take in ((self._subject, self._take_sent), (self._inbox.told_at(self._at), self._take_left)):
            self._listenings.append(await link.listen(subject, take))

    def _take_sent(self, message: Msg) -> None:
        self._line.home(self._sent, message.data, message.reply)

    def _take_left(self, message: Msg) -> None:
        headers = message.headers or {}
        number, before = int(headers["Nats-Sequence"]), int(headers.get("Nats-Last-Sequence", 0))
        self._line.home(self._was_left, number, before, message.data)

    def _begin_to_forget(self, number: int) -> None:
        self._forgetting += 1
        self._line.start(self._forget, number)

    async def _forget(self, number: int) -> None:
        try:
            await self._inbox.forget(self._at, number)
        finally:
            self._forgetting -= 1

    async def _stop_listening(self) -> None:
        """Those who send from now on are told at once; what was on its way is answered."""
        if self._listenings:
            self._stop_watching()
        while self._listenings:
            listening = self._listenings.pop()
            await (listening.drain() if self._line.link.is_connected else listening.stop())
        while self._forgetting:
            await anyio.sleep(0.002)
