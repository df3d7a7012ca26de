"""Tools as a wire format has them, written once. Pure.

An agent offers the same tools in each request of each run. Making the JSON of fifty schemas anew costs as much as all
the rest of a short request, so it is kept: by the identity of the record, which never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ..vocabulary import ToolSpec

#: Tools that are kept. Who makes tools by the thousand has them written anew, now and then.
_MOST = 1_000
_encode = msgspec.json.Encoder().encode


class ToolBytes:
    """Writes tools as `write` says, each of them once.

    Args:
        write: what a tool looks like in JSON.
    """

    __slots__ = ("_known", "_write")

    def __init__(self, write: Callable[[ToolSpec], Any]) -> None:
        self._write = write
        #: By id; with the tool, so that no other one can have it.
        self._known: dict[int, tuple[ToolSpec, msgspec.Raw]] = {}

    def __call__(self, tools: Iterable[ToolSpec]) -> list[msgspec.Raw]:
        """The tools, to be put into what is encoded."""
        known = self._known
        written: list[msgspec.Raw] = []
        for tool in tools:
            found = known.get(id(tool))
            if found is None:
                if len(known) >= _MOST:
                    known.clear()
                found = known[id(tool)] = tool, msgspec.Raw(_encode(self._write(tool)))
            written.append(found[1])
        return written
