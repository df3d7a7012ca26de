"""The stream of messages that were left at addresses. On the far side.

It says each message again, under another subject, when it is stored: that is how a receiver hears of it at once.
Reading goes to the leader of the stream, so it finds whatever was stored before.
"""

from __future__ import annotations

import base64
import secrets

from .dispatcher import NOT_FOUND
from .errors import EngineError, EngineRefused
from .line import Line
from .settings import Settings
from .streams import make_stream, persist
from .subjects import stream, token

#: Seconds in which the server knows a message that is left again because no answer came.
KNOWN = 120


class Inboxes:
    """What was left at all addresses.

    Args:
        line: to the server.
        settings: what names begin with, and how safely messages are stored.
        age: for how many seconds they are kept.
        patience: seconds for which a server that does not answer is asked again.
    """

    __slots__ = ("_age", "_line", "_name", "_patience", "_settings", "_told")

    def __init__(self, line: Line, settings: Settings, age: float, patience: float) -> None:
        self._line = line
        self._settings = settings
        self._age = age
        self._patience = patience
        self._name = stream(settings.prefix, "inbox")

    def subject(self, at: str) -> str:
        """Where messages are left."""
        return f"{self._settings.prefix}.inbox.{token(at)}"

    def told_at(self, at: str) -> str:
        """Where they are said again when they are stored."""
        return f"{self._settings.prefix}.left.{token(at)}"

    async def make(self) -> None:
        """See that the stream is there."""
        prefix = self._settings.prefix
        config = {
            "name": self._name,
            "subjects": [f"{prefix}.inbox.*"],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": int(self._age * 1e9),
            "duplicate_window": int(min(self._age, KNOWN) * 1e9),
            "allow_direct": False,
            "republish": {"src": f"{prefix}.inbox.*", "dest": f"{prefix}.left.{{{{wildcard(1)}}}}"},
        }
        await make_stream(self._line.link, self._settings, config, self._patience)

    async def leave(self, at: str, message: bytes) -> None:
        """Store a message.

        Raises:
            EngineError: the server does not answer, or refuses it.
        """
        headers = {"Nats-Msg-Id": secrets.token_hex(12)}
        link = self._line.link

        async def attempt() -> None:
            link.understood(await link.ask(self.subject(at), message, headers))

        await persist(self._patience, attempt)

    async def first(self, at: str, position: int) -> tuple[int, bytes] | None:
        """The oldest message there from a number on, with its number.

        Raises:
            EngineError: the server does not answer.
        """
        subject = f"$JS.API.STREAM.MSG.GET.{self._name}"
        request = {"next_by_subj": self.subject(at), "seq": position}
        try:
            said = await persist(self._patience, self._line.link.ask_json, subject, request)
        except EngineRefused as error:
            if error.error != NOT_FOUND:
                raise
            return None
        message = said["message"]
        return message["seq"], base64.b64decode(message.get("data", ""))

    async def forget(self, at: str, number: int) -> None:
        """Forget a message and those before it."""
        subject = f"$JS.API.STREAM.PURGE.{self._name}"
        request = {"filter": self.subject(at), "seq": number + 1}
        try:
            await persist(self._patience, self._line.link.ask_json, subject, request)
        except EngineError:  # then it comes again
            return
