"""Requests that are on their way, and where their answers come: one inbox, told apart by a number."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import anyio
from nats.aio.msg import Msg

from .errors import EngineError

#: Seconds for one try of a request. A server that dies lets those who asked it wait no longer than this.
TRY = 2.0
#: The header that the client library makes of a status.
STATUS = "Status"


def status(message: Msg) -> str:
    """The number that a message without data says to have, such as "404"; empty for one that has none."""
    return "" if message.data or not message.headers else message.headers.get(STATUS, "")


def header_size(headers: dict[str, str] | None) -> int:
    """How many bytes of a message they are. The server counts them as it does the data."""
    if not headers:
        return 0
    return 14 + sum([len(name) + len(value.encode()) + 4 for name, value in headers.items()])


class Question:
    """A request that is on its way, and its answers so far."""

    __slots__ = ("_many", "answers", "over", "scope")

    def __init__(self, *, many: bool) -> None:
        self._many = many
        self.answers: list[Msg] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Ends when there was no answer for as long as a try may take.
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + TRY)

    def take(self, message: Msg) -> None:
        if self.over.done():
            return
        self.answers.append(message)
        if not self._many or status(message):
            self.over.set_result(None)
        else:
            self.scope.deadline = anyio.current_time() + TRY

    def fail(self, error: EngineError) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def forget(self) -> None:
        """Nobody looks at it any more; asyncio complains of an error that nobody has looked at."""
        if not self.over.cancel() and not self.over.cancelled():
            self.over.exception()


class Inbox:
    """Where answers come.

    Attributes:
        subject: all of it, with a wildcard.
    """

    __slots__ = ("_asked", "_name", "_number", "subject")

    def __init__(self, prefix: str = "_INBOX") -> None:
        self._name = f"{prefix}.{secrets.token_hex(12)}"
        self.subject = f"{self._name}.*"
        self._number = 0
        self._asked: dict[str, Question] = {}

    def new(self) -> str:
        """A subject of nobody else, beside this inbox."""
        self._number += 1
        return f"{self._name}-{self._number:x}"

    def add(self, question: Question) -> str:
        """Where its answers go."""
        self._number += 1
        reply = f"{self._name}.{self._number:x}"
        self._asked[reply] = question
        return reply

    def remove(self, reply: str) -> None:
        self._asked.pop(reply).forget()

    def take(self, message: Msg) -> None:
        """An answer; one that comes too late is nobody's."""
        question = self._asked.get(message.subject)
        if question is not None:
            question.take(message)

    def fail(self, error: Callable[[], EngineError]) -> None:
        """No answer will come to anything that is on its way."""
        for question in self._asked.values():
            question.fail(error())
