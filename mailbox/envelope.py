"""The record that travels: a message, where its answer goes, and who sent it."""

from __future__ import annotations

from typing import Any

import msgspec

from .reply import Reply


class Envelope(msgspec.Struct, eq=False):
    """One message on its way to one actor.

    `reply` is None for a message that was told, and the asker's slot for one that was asked. `sender` is the name of
    the sending actor, or None for code outside any actor.
    """

    message: Any
    reply: Reply | None = None
    sender: str | None = None

    def __repr__(self) -> str:
        kind = "asked" if self.reply is not None else "told"
        return f"<Envelope {kind} {type(self.message).__name__} by {self.sender or 'outside'}>"
