"""Messages waiting for one actor: a bounded queue whose control lane overtakes its data."""

from .budget import MESSAGES_PER_CHECKPOINT, Budget, current_budget
from .envelope import Envelope
from .errors import MailboxClosed, MailboxError, MailboxFull
from .mailbox import DEFAULT_CAPACITY, Mailbox, MailboxStatistics, Wake
from .reply import Reply
from .state import OVERFLOWS, Lanes, Overflow

__all__ = [
    "DEFAULT_CAPACITY",
    "MESSAGES_PER_CHECKPOINT",
    "OVERFLOWS",
    "Budget",
    "Envelope",
    "Lanes",
    "Mailbox",
    "MailboxClosed",
    "MailboxError",
    "MailboxFull",
    "MailboxStatistics",
    "Overflow",
    "Reply",
    "Wake",
    "current_budget",
]
