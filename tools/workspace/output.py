"""What a command prints, of which the beginning and the end are kept. Pure.

A command may print without end, and a model can read a page. So the first half of what may be kept stays, of the rest
only the end, and what lies between is counted. The memory that it takes does not depend on how much comes.

Who follows a command is shown what has come since the last look, or the end of it.
"""

from __future__ import annotations

#: Bytes that are shown at once to those who follow.
MOST_NEWS = 2000


class Output:
    """Bytes as they come, at most so many of them kept.

    Attributes:
        count: how many have come.
    """

    __slots__ = ("_head", "_missed", "_most_head", "_most_tail", "_news", "_tail", "count")

    def __init__(self, most: int) -> None:
        self._most_head = most // 2
        self._most_tail = most - self._most_head
        self._head = bytearray()
        self._tail = bytearray()
        self._news = bytearray()
        self._missed = 0
        self.count = 0

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self.count += len(data)
        self._news += data[-MOST_NEWS:]
        over = max(0, len(self._news) - MOST_NEWS)
        del self._news[:over]
        self._missed += over + max(0, len(data) - MOST_NEWS)
        room = self._most_head - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data[-self._most_tail :]
            if len(self._tail) > 2 * self._most_tail:
                self._trim()

    def _trim(self) -> None:
        if len(self._tail) > self._most_tail:
            del self._tail[: len(self._tail) - self._most_tail]

    def text(self) -> str:
        """The beginning and the end as text, with a note between them of what is missing."""
        self._trim()
        missing = self.count - len(self._head) - len(self._tail)
        if not missing:
            return (self._head + self._tail).decode(errors="replace")
        # A character that was cut in two is left out.
        head = bytes(self._head).decode(errors="ignore" if _cut_at_end(self._head) else "replace")
        tail = bytes(self._tail[_continued(self._tail) :]).decode(errors="replace")
        return f"{head}\n[{missing:,} bytes left out]\n{tail}"

    def news(self) -> str:
        """What has come since this was asked last, or the end of it, with a note before it of what is missing.

        A character that has come in part waits for its rest.
        """
        end = len(self._news) - _begun(self._news)
        if not end:
            return ""
        text = self._news[_continued(self._news) if self._missed else 0 : end].decode(errors="replace")
        note = f"[{self._missed:,} bytes left out]\n" if self._missed else ""
        del self._news[:end]
        self._missed = 0
        return note + text


def _cut_at_end(data: bytearray) -> bool:
    """Whether the last character is not whole and all before it are."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _continued(data: bytearray) -> int:
    """How many bytes at the beginning belong to a character that began before."""
    count = 0
    while count < min(3, len(data)) and data[count] & 0xC0 == 0x80:
        count += 1
    return count


def _begun(data: bytearray) -> int:
    """How many bytes at the end belong to a character that goes on after them."""
    for count in range(1, min(3, len(data)) + 1):
        byte = data[-count]
        if byte & 0xC0 != 0x80:
            return count if byte >= 0xF0 or (byte >= 0xE0 and count < 3) or (byte >= 0xC0 and count < 2) else 0
    return 0
