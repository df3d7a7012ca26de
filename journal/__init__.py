"""What happened to a run, written down: records, the protocol of a journal, and the one in memory."""

from .journal import Claim, Fenced, Journal, MemoryJournal
from .records import BadRecord, Began, Ended, Happened, Intended, Record, Replied, decode, encode

__all__ = [
    "BadRecord",
    "Began",
    "Claim",
    "Ended",
    "Fenced",
    "Happened",
    "Intended",
    "Journal",
    "MemoryJournal",
    "Record",
    "Replied",
    "decode",
    "encode",
]
