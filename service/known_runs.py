"""The runs that the service has the handles of: those at work, and the last of those that are over.

A handle of a run that is over holds its whole conversation, so only the last `keep` of them are held. Which are over is
looked at when another run comes, oldest first: nobody has to tell, and nothing waits.

Who follows a run is counted here, because that is what decides what a client's leaving means: a run that a stream has
started ends with its last follower where the service says so (``on_disconnect="stop"``), else it goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ..agents.run import Run


class KnownRun:
    """A run, and what the service knows of it beyond its handle.

    Attributes:
        run: the handle.
        agent: the name of the agent that it was started of.
        started_at: when (UTC).
        number: counts the runs of the service, from 1.
        digest: of the request that started it, where that had an idempotency key.
        user_id, conversation_id, tags, metadata: what it was started with.
        followers: streams that follow it, and requests that wait for it.
        ends_alone: whether it is stopped when nobody follows it any more.
        counted: whether it is among the runs that were counted as ended.
    """

    __slots__ = (
        "agent",
        "conversation_id",
        "counted",
        "digest",
        "ends_alone",
        "followers",
        "key",
        "metadata",
        "number",
        "run",
        "started_at",
        "tags",
        "user_id",
    )

    def __init__(
        self,
        run: Run[Any],
        agent: str,
        started_at: datetime,
        *,
        key: str | None = None,
        digest: str | None = None,
        user_id: str | None = None,
        conversation_id: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.run = run
        self.agent = agent
        self.started_at = started_at
        self.number = 0
        self.key = key
        self.digest = digest
        self.user_id = user_id
        self.conversation_id = conversation_id
        self.tags = tags or []
        self.metadata = metadata or {}
        self.followers = 0
        self.ends_alone = False
        self.counted = False

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.run.status != "running"


class KnownRuns:
    """Runs by their ids.

    Args:
        keep: how many of those that are over are held.
        on_drop: called with each that is let go of.
    """

    __slots__ = ("_by_id", "_by_key", "_count", "_keep", "_on_drop")

    def __init__(self, keep: int, on_drop: Callable[[KnownRun], None]) -> None:
        self._keep = keep
        self._on_drop = on_drop
        self._count = 0
        self._by_id: OrderedDict[str, KnownRun] = OrderedDict()
        self._by_key: dict[str, KnownRun] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[KnownRun]:
        return iter(tuple(self._by_id.values()))

    def find(self, run_id: str) -> KnownRun | None:
        """The run of this id."""
        return self._by_id.get(run_id)

    def find_key(self, key: str) -> KnownRun | None:
        """The run that was started with this idempotency key."""
        return self._by_key.get(key)

    def add(self, known: KnownRun, at_work: int) -> KnownRun:
        """Hold a run; let go of the oldest that are over. `at_work` is how many of all runs may not be."""
        self._count += 1
        known.number = self._count
        before = self._by_id.get(known.run.id)
        if before is not None:
            self._drop(before)
        self._by_id[known.run.id] = known
        if known.key is not None:
            self._by_key[known.key] = known
        while len(self._by_id) > self._keep + at_work + 1:
            run_id, oldest = self._by_id.popitem(last=False)
            if not oldest.is_over:
                self._by_id[run_id] = oldest
                at_work -= 1  # it is one of them
                continue
            self._drop(oldest)
        return known

    def _drop(self, known: KnownRun) -> None:
        if known.key is not None and self._by_key.get(known.key) is known:
            del self._by_key[known.key]
        self._on_drop(known)
