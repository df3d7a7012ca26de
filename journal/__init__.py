"""What happened to a run, written down: records, the protocol of a journal, and the one in memory."""

from .journal import Claim, Fenced, Journal, MemoryJournal
from .records import (
    Answered,
    BadRecord,
    Began,
    Delivered,
    Ended,
    Happened,
    Intended,
    Record,
    Replied,
    Sent,
    decode,
    encode,
)

__all__ = [
    "Answered",
    "BadRecord",
    "Began",
    "Claim",
    "Delivered",
    "Ended",
    "Fenced",
    "Happened",
    "Intended",
    "Journal",
    "MemoryJournal",
    "Record",
    "Replied",
    "Sent",
    "decode",
    "encode",
]
