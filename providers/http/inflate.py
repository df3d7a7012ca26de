"""Bodies that a server packed although nobody asked it to, unpacked within bounds."""

from __future__ import annotations

import zlib

from ..errors import BadResponse


class Inflate:
    """Undoes gzip and deflate, at most 16 MiB for one chunk, so that a small body cannot fill the memory.

    Raises, when there is something to undo and not before, for the status of an answer is known without its body:
        BadResponse: the body is not encoded as it says, or in another way.
    """

    _STEP = 16 * 1024 * 1024

    def __init__(self, encoding: str) -> None:
        self._kind = encoding.strip().lower()
        self._zlib = zlib.decompressobj(47) if self._kind in ("gzip", "x-gzip", "deflate") else None

    def feed(self, chunk: bytes) -> bytes:
        if self._zlib is None:
            raise BadResponse(f"the body is encoded with {self._kind[:40]!r}, which was not asked for")
        try:
            data = self._zlib.decompress(chunk, self._STEP)
        except zlib.error as error:
            raise BadResponse(f"the body is not encoded as it says: {error}") from error
        if self._zlib.unconsumed_tail:
            raise BadResponse("the body is not encoded as it says: one chunk unpacks to more than 16 MiB")
        return data

    def end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise BadResponse("the body is not encoded as it says: the packed body ends early")
