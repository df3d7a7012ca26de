"""Why a message was not taken.

::

    MailboxError        names the mailbox
    ├── MailboxFull     the bound is reached and the sender would not, or may not, wait
    └── MailboxClosed   its actor has ended
"""

from __future__ import annotations


class MailboxError(Exception):
    """A message that was not taken by the mailbox of `address`."""

    def __init__(self, message: str, address: str) -> None:
        super().__init__(message)
        self.address = address


class MailboxFull(MailboxError):
    """The mailbox of `address` holds `capacity` messages already."""

    def __init__(self, address: str, capacity: int) -> None:
        super().__init__(f"the mailbox of {address!r} is full ({capacity} messages)", address)
        self.capacity = capacity


class MailboxClosed(MailboxError):
    """The actor `address` has ended and takes no more messages."""

    def __init__(self, address: str) -> None:
        super().__init__(f"the mailbox of {address!r} is closed: its actor has ended", address)
