"""Messages that nobody will handle: counted exactly, the latest kept, logged ever more rarely.

A million messages to a dead address cost a counter, a bounded list, and seven log lines: at the first, the tenth, the
hundredth and so on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from ..mailbox import Envelope, Mailbox, MailboxFull

KEPT = 100

_log = logging.getLogger("greenroom")


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was not handled: for whom, by whom, and why.

    `reason` is ``closed`` (the actor has ended), ``dropped`` (its mailbox was full), ``crashed`` or ``killed`` (while
    it was being handled; `cause` says what by), or ``late`` (an answer that nobody waited for any more).
    """

    message: Any
    recipient: str
    sender: str | None
    reason: str
    cause: str | None = None

    def __repr__(self) -> str:
        """Without the message, which may hold what no log should."""
        kind = type(self.message).__name__
        return f"<DeadLetter {kind} for {self.recipient} from {self.sender or 'outside'}: {self.reason}>"


def late(value: Any, actor: str, envelope: Envelope) -> DeadLetter:
    """The dead letter of an answer that came too late for its asker."""
    return DeadLetter(value, envelope.sender or "outside", actor, "late")


class DeadLetters:
    """The dead letters of one system. `count` is exact; iterating gives the latest 100, oldest first.

    It is what its system's mailboxes call with what they could not keep (`undelivered`): one for all of them.
    """

    __slots__ = ("_latest", "_next_log", "count")

    def __init__(self) -> None:
        self.count = 0
        self._latest: deque[DeadLetter] = deque(maxlen=KEPT)
        self._next_log = 1

    def add(self, letter: DeadLetter) -> None:
        """Count and keep a dead letter."""
        self.count += 1
        self._latest.append(letter)
        if self.count >= self._next_log:
            self._next_log *= 10
            _log.warning(
                "dead letter number %d: %s for %s from %s (%s)",
                self.count,
                type(letter.message).__name__,
                letter.recipient,
                letter.sender or "outside",
                letter.reason,
            )

    def __call__(self, mailbox: Mailbox, envelope: Envelope, reason: str) -> None:
        """Take a message that a mailbox could not keep; whoever asked it is told."""
        if envelope.reply is not None:
            envelope.reply.fail(MailboxFull(mailbox.address, mailbox.lanes.capacity))
        self.add(DeadLetter(envelope.message, mailbox.address, envelope.sender, reason))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(tuple(self._latest))
