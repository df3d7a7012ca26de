"""The names of subjects and streams. Pure.

A subject is ``<prefix>.<what>.<token>``; the token stands for a run, an address, a topic. Any text has one, no two
texts the same: what a token may not hold is escaped, and a text whose token would be long is known by its SHA-256. Its
true text is in the message, for whoever wants to read it.
"""

from __future__ import annotations

import hashlib
import re

#: Longer tokens become hashes.
LONGEST = 200

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = tuple(chr(each) if _PLAIN.fullmatch(chr(each)) else f"%{each:02X}" for each in range(256))


def check_prefix(prefix: object) -> str:
    """What all names begin with.

    Raises:
        TypeError: it is no text.
        ValueError: servers take no such names.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix= takes a text, such as 'greenroom', not {type(prefix).__name__}")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"prefix= takes up to 100 letters, digits, '-' and '_', a letter or digit first, not {prefix!r:.120}"
        )
    return prefix


def token(text: str) -> str:
    """One token of a subject that stands for this text and no other.

    Raises:
        UnicodeEncodeError: it holds half a character, which cannot be sent anywhere.
    """
    if _PLAIN.fullmatch(text) and len(text) <= LONGEST:
        return text
    data = text.encode()
    escaped = "".join([_ESCAPED[each] for each in data]) if len(data) <= LONGEST else ""
    if not data:
        return "%"
    if 0 < len(escaped) <= LONGEST:
        return escaped
    return f"%%{hashlib.sha256(data).hexdigest()}"  # no escaped text holds two of these signs in a row


def subject(prefix: str, what: str, text: str) -> str:
    """Where messages about something go, such as ``greenroom.journal.run-1``."""
    return f"{prefix}.{what}.{token(text)}"


def stream(prefix: str, what: str) -> str:
    """The name of a stream, such as ``greenroom_JOURNAL``."""
    return f"{prefix}_{what.upper()}"
