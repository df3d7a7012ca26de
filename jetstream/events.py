"""The stream of events: what was emitted lately, in the memory of the server.

A topic has two subjects, one for its events and one for what else its emitter says, so that the server keeps as many
events of it as there should be.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from .errors import NobodyAnswers
from .feed import EVENT, Word, decoded
from .line import Line
from .questions import status
from .settings import Settings
from .streams import make_stream, persist
from .subjects import stream, token

#: How many messages are read at a time.
BATCH = 256


class Events:
    """The events of all topics that are kept.

    Args:
        line: to the server.
        settings: what names begin with. One server holds them: what it loses with its memory, followers are told.
        kept: how many events of a topic are kept.
        age: for how many seconds.
        patience: seconds for which a server that does not answer is asked again.
    """

    __slots__ = ("_age", "_kept", "_line", "_name", "_patience", "_prefix", "_settings")

    def __init__(self, line: Line, settings: Settings, kept: int, age: float, patience: float) -> None:
        self._line = line
        self._settings = msgspec.structs.replace(settings, replicas=1, durable=False)
        self._prefix = f"{settings.prefix}.event"
        self._name = stream(settings.prefix, "events")
        self._kept = kept
        self._age = age
        self._patience = patience

    def subject(self, topic: str, what: int) -> str:
        """Where it is said."""
        return f"{self._prefix}.{token(topic)}.{'event' if what == EVENT else 'word'}"

    def all_of(self, topic: str) -> str:
        """The subjects of a topic."""
        return f"{self._prefix}.{token(topic)}.*"

    # -- on the far side

    async def make(self) -> None:
        """See that the stream is there. A server that was started again has forgotten it."""
        config = {
            "name": self._name,
            "subjects": [f"{self._prefix}.*.*"],
            "retention": "limits",
            "storage": "memory",
            "discard": "old",
            "max_msgs_per_subject": self._kept,
            "max_age": int(self._age * 1e9),
            "duplicate_window": int(min(self._age, 1.0) * 1e9),  # nothing here needs it
            "allow_direct": True,
            "no_ack": True,
        }
        await make_stream(self._line.link, self._settings, config, self._patience)

    async def read(self, topic: str, position: int) -> tuple[list[tuple[int, Word]], bool]:
        """What is kept of a topic from a message on, with the numbers of the messages; and whether that is all of it.

        Raises:
            EngineError: the server does not answer.
        """
        return await persist(self._patience, self._try_to_read, topic, position)

    async def _try_to_read(self, topic: str, position: int) -> tuple[list[tuple[int, Word]], bool]:
        request = json.dumps({"next_by_subj": self.all_of(topic), "seq": position, "batch": BATCH}).encode()
        try:
            *messages, end = await self._line.link.ask_for_many(f"$JS.API.DIRECT.GET.{self._name}", request)
        except NobodyAnswers:
            await self.make()
            raise
        found: list[tuple[int, Word]] = []
        for message in messages:
            headers: dict[str, Any] = message.headers or {}
            found.append((int(headers["Nats-Sequence"]), decoded(message.data)))
        rest: dict[str, Any] = end.headers or {}
        return found, status(end) != "204" or int(rest.get("Nats-Num-Pending", 0)) == 0
