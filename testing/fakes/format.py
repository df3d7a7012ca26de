"""What a strict fake knows of one wire format. Pure: requests and answers as values, no socket.

A real provider accepts a conversation only if it is whole. A fake that accepts everything lets a broken history pass
until the first paying user meets it; so a `Format` refuses, in the provider's own words, what that provider refuses.
What a provider mints (ids, signatures), the format mints too, remembers, and wants back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ...providers import ToolCall


class Said(msgspec.Struct, frozen=True):
    """What the fake model says in one answer; a format puts it on the wire."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    thinking: str = ""
    #: Tokens to report: input and output.
    usage: tuple[int, int] = (10, 5)


class Refused(msgspec.Struct, frozen=True):
    """The provider's answer to a request that it does not accept: a status and its error body."""

    status: int
    body: Any
    #: Sent besides the usual ones, for example ``{"retry-after": "2"}``.
    headers: dict[str, str] = {}


class Format(Protocol):
    """One wire format, for one fake server; it remembers what it minted."""

    def provider(self, url: str, model: str) -> Any:
        """One of our providers, connected to a server at `url` that speaks this format."""
        ...

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why the provider would refuse the request, or None when it would not.

        Args:
            target: the path with its query, as sent.
            headers: with names in lower case.
            body: the decoded JSON.
        """
        ...

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        ...

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer to the request `body`, as JSON."""
        ...

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one wire event an item, with text in pieces of some characters."""
        ...

    @property
    def stream_type(self) -> str:
        """The content type of a streamed answer."""
        ...
