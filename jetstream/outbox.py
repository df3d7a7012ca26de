"""What is said to the server without waiting for anything. On the far side.

It is kept while the connection is lost, up to `ROOM` bytes; what is said beyond that is dropped. So this is for words
that may be lost: events, answers to those who ask again, jobs that are given back before their lease ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from .errors import EngineError
from .link import Link

#: Bytes that wait at most.
ROOM = 8 * 2**20
#: Bytes that a word takes besides those of its message.
EACH = 200


class Outbox:
    """Words in the order in which they were put there.

    Args:
        link: the connection.
        start: starts a task.
    """

    __slots__ = ("_link", "_room", "_runs", "_start", "_words")

    def __init__(self, link: Link, start: Callable[[Callable[[], Coroutine[Any, Any, object]]], None]) -> None:
        self._link = link
        self._start = start
        self._room = ROOM
        self._words: deque[tuple[str, bytes]] = deque()
        self._runs = False

    def put(self, subject: str, message: bytes) -> None:
        """Say it soon."""
        if self._room < len(message):
            return
        self._room -= len(message) + EACH
        self._words.append((subject, message))
        if not self._runs:
            self._runs = True
            self._start(self._run)

    async def flush(self) -> None:
        """Say now what waits, if the server is there."""
        while self._words and self._link.is_connected:
            await self._say_next()

    async def _run(self) -> None:
        try:
            while self._words:
                await self._link.until_connected()
                if self._words:
                    await self._say_next()
        finally:
            self._runs = False

    async def _say_next(self) -> None:
        subject, message = self._words.popleft()
        self._room += len(message) + EACH
        try:
            await self._link.say(subject, message)
        except EngineError:  # it may be lost
            return
