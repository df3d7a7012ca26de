"""Bodies that a server packed although nobody asked it to, unpacked within bounds."""

from __future__ import annotations

import zlib

from ..errors import BadResponse


class Inflate:
    """Undoes gzip and deflate, at most 16 MiB for one chunk, so that a small body cannot fill the memory.

    Raises:
        BadResponse: the body is not encoded as it says, or in another way.
    """

    _STEP = 16 * 1024 * 1024

    def __init__(self, encoding: str) -> None:
        kind = encoding.strip().lower()
        if kind not in ("gzip", "x-gzip", "deflate"):
            raise BadResponse(f"the body is encoded with {kind[:40]!r}, which was not asked for")
        self._zlib = zlib.decompressobj(47)

    def feed(self, chunk: bytes) -> bytes:
        try:
            data = self._zlib.decompress(chunk, self._STEP)
        except zlib.error as error:
            raise BadResponse(f"the body is not encoded as it says: {error}") from error
        if self._zlib.unconsumed_tail:
            raise BadResponse("the body is not encoded as it says: one chunk unpacks to more than 16 MiB")
        return data

    def end(self) -> None:
        if not self._zlib.eof:
            raise BadResponse("the body is not encoded as it says: the packed body ends early")
