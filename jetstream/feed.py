"""What one follower of a topic knows. Pure.

Events come *live*, as they are emitted, and can be *read* from the stream for some time. A follower begins with
reading and goes on with what was heard meanwhile. When there is a gap between the two, or it is so slow that it keeps
no more of what it hears, it reads again. A gap that reading does not fill is missed.

Hearing may be ahead of reading: the server tells listeners while it is still storing. So a gap is read a few times, and
the first reading is repeated once a little later.

Whoever emits has a *life*, a number of its own. Numbers of events count within it. A new life begins with 1, and what
still comes from a former one is not heeded.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import Enum
from math import inf
from typing import NamedTuple

from ..exchange import Missed

#: How many events are kept in memory for a follower; the others stay in the stream.
ROOM = 256
#: Seconds to wait before each reading of a gap that the one before did not fill.
PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
#: Seconds after the first reading when it is repeated.
LOOK_AGAIN = 0.1

EVENT, END, STATE = 0, 1, 2
_HEAD = struct.Struct(">BQQ")


class Word(NamedTuple):
    """What an emitter says.

    Attributes:
        what: an event; that the topic is over; or, after a loss of the connection, how far it has come.
        number: of the event, or of the last one.
        life: of the emitter; 0 for whoever ends a topic that somebody else has emitted to.
    """

    what: int
    number: int
    life: int
    event: bytes = b""


def encoded(word: Word) -> bytes:
    return _HEAD.pack(word.what, word.number, word.life) + word.event


def decoded(data: bytes) -> Word:
    """
    Raises:
        struct.error: it is none.
    """
    what, number, life = _HEAD.unpack_from(data)
    return Word(what, number, life, data[_HEAD.size :])


class Step(Enum):
    """What a follower does next, when there is nothing to hand out."""

    READ = "read the stream"
    WAIT = "wait until something is heard"
    OVER = "end"


class Feed:
    """What to hand out next.

    Args:
        topic: its name.
        after: the number of the last event that is known; None for none in particular.

    Attributes:
        position: from which message of the stream on to read.
        look_at: the moment at which to read again although nothing was heard.
    """

    __slots__ = (
        *("_after", "_behind", "_complete", "_former", "_heard", "_life", "_more_heard", "_next", "_over", "_ready"),
        *("_seen", "_topic", "_tries", "look_at", "position"),
    )

    def __init__(self, topic: str, after: int | None) -> None:
        self._topic = topic
        self._after = after  # until it is clear whether the topic has reached it
        self._next = None if after is None else after + 1
        self._life: int | None = None
        self._former: set[int] = set()
        self._ready: deque[tuple[int, bytes] | Missed] = deque()
        self._heard: deque[Word] = deque()
        self._more_heard = False
        self._behind = True
        self._complete = False
        self._over = False
        self._seen = -1
        self._tries = 0
        self.position = 1
        self.look_at = inf

    @property
    def pause(self) -> float:
        """Seconds to wait before reading."""
        return PAUSES[self._tries]

    def next(self) -> tuple[int, bytes] | Missed | Step:
        """The next event, what was missed in its place, or what to do to get it."""
        if self._ready:
            return self._ready.popleft()
        if self._behind:
            return Step.READ
        return Step.OVER if self._over else Step.WAIT

    def hear(self, word: Word) -> None:
        """It came live."""
        if self._behind:
            if len(self._heard) < ROOM and not self._more_heard:
                self._heard.append(word)
            else:
                self._more_heard = True
        elif len(self._ready) >= ROOM:
            self._behind = self._more_heard = True
        elif self._is_gap(word):
            self.start_over()
            self._heard.append(word)
        else:
            self._accept(word)

    def look_again(self) -> None:
        """Something may have been said without having been heard."""
        self._behind = True
        self.look_at = inf

    def start_over(self) -> None:
        """Read the stream from its beginning: its server may have lost it, and count anew."""
        self.look_again()
        self.position = 1

    def read(self, words: list[tuple[int, Word]], complete: bool, now: float) -> None:
        """What the stream has from `position` on, with the numbers of its messages; and whether that is all of it."""
        for number, word in words:
            self.position = number + 1
            self._seen = max(self._seen, word.number)
            self._accept(word)
        if complete:
            self._end_reading(now)

    def _end_reading(self, now: float) -> None:
        if self._after is not None and 0 <= self._seen < self._after:  # of a former life: all over again
            self._after, self._next, self.position = None, 1, 1
            return
        self.look_at = inf if self._complete else now + LOOK_AGAIN
        self._complete = True
        while self._heard:
            if self._is_gap(self._heard[0]) and self._tries + 1 < len(PAUSES):
                self._tries += 1
                return
            self._accept(self._heard.popleft())
        self._tries = 0
        self._behind, self._more_heard = self._more_heard, False

    def _is_gap(self, word: Word) -> bool:
        """Whether events before this live word have not been seen."""
        if word.life in self._former or not word.life:
            return False
        if self._after is not None and word.number < self._after:
            self._after, self._next = None, 1  # what is known is of a former life
        expected = 1 if self._is_new(word) else self._next
        if expected is None:
            return word.number > 1
        return word.number + (word.what != EVENT) > expected

    def _is_new(self, word: Word) -> bool:
        return self._life is not None and word.life != self._life

    def _accept(self, word: Word) -> None:
        if word.life in self._former:
            return
        if not word.life:
            self._over = word.what == END
            return
        if self._is_new(word):
            self._former.add(self._life or 0)
            self._after, self._next = None, 1
        self._life = word.life
        if self._after is not None and word.number >= self._after:
            self._after = None  # it is of this life
        last = word.number - (word.what == EVENT)  # the one that was before this word
        if self._next is None:
            self._next = last + 1
        elif self._next <= last and self._after is None:
            self._ready.append(Missed(self._topic, self._next, last))
            self._next = last + 1
        if word.what == EVENT and word.number == self._next:
            self._ready.append((word.number, word.event))
            self._next += 1
        self._over = word.what == END
