"""What the simulated server has served, counted so that a load report can be checked against it.

Every chat request ends in exactly one outcome, so at any moment

    requests = ok + rate_limited + server_errors + resets + stalled + refused + aborted + in_flight

Conversations are told apart by their run key (the request's `user` field, else a digest of the first user
message). The distinct keys that began and finished are kept, some hundred bytes each, so that "1,000 runs,
none lost, none doubled" can be read off: `runs_started`, `runs_finished`, and `conversations_finished` above
`runs_finished` where one was doubled. How often each of their turns was answered whole is kept too: a run that goes on
after a crash must not have asked again for what it had.
"""

from __future__ import annotations

import time
from typing import Literal, TypeAlias

import msgspec

Outcome: TypeAlias = Literal["ok", "rate_limited", "server_errors", "resets", "stalled", "refused", "aborted"]


class Stats(msgspec.Struct, kw_only=True):
    """Counts since the server began.

    Attributes:
        requests: chat requests received whole.
        ok: answered to the end.
        rate_limited: answered 429 by an injected fault.
        server_errors: answered 500 by an injected fault.
        resets: cut by an injected connection reset.
        stalled: cut by injected silence.
        refused: answered 400, because a real provider would refuse them.
        aborted: the client closed before the response was complete.
        malformed: bytes that were no HTTP request (400, 413 or 431); not counted as requests.
        other: requests of other paths than chat completions.
        conversations_started: good answers to a user message with no reply yet.
        conversations_finished: final answers sent to their end.
        runs_started: distinct run keys among the conversations started.
        runs_finished: distinct run keys among the conversations finished.
        tool_calls: tool calls in answers sent to their end.
        connections: connections accepted.
        connections_open: of these, open now.
        in_flight: requests without an outcome yet.
        in_flight_max: the most there have been at once.
        bytes_in: bytes received.
        bytes_out: bytes of responses handed to the system.
        cpu_seconds: processor time of the server process.
    """

    requests: int = 0
    ok: int = 0
    rate_limited: int = 0
    server_errors: int = 0
    resets: int = 0
    stalled: int = 0
    refused: int = 0
    aborted: int = 0
    malformed: int = 0
    other: int = 0
    conversations_started: int = 0
    conversations_finished: int = 0
    runs_started: int = 0
    runs_finished: int = 0
    tool_calls: int = 0
    connections: int = 0
    connections_open: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_seconds: float = 0.0


class Ledger:
    """The live counts of a server. `counts` is written in place by who serves; readers take a `snapshot`."""

    __slots__ = ("_finished", "_started", "answered", "counts")

    def __init__(self) -> None:
        self.counts = Stats()
        #: How many whole answers each turn of a conversation got, by run key: the conversations of a run are one.
        self.answered: dict[str, list[int]] = {}
        self._started: set[str] = set()
        self._finished: set[str] = set()

    def snapshot(self) -> Stats:
        """A copy of the counts as they are now."""
        return msgspec.structs.replace(
            self.counts,
            runs_started=len(self._started),
            runs_finished=len(self._finished),
            cpu_seconds=time.process_time(),
        )

    def begin(self) -> None:
        """A chat request has arrived."""
        counts = self.counts
        counts.requests += 1
        counts.in_flight += 1
        if counts.in_flight > counts.in_flight_max:
            counts.in_flight_max = counts.in_flight

    def end(self, outcome: Outcome) -> None:
        """The request has met its one outcome."""
        counts = self.counts
        counts.in_flight -= 1
        setattr(counts, outcome, getattr(counts, outcome) + 1)

    def start_run(self, key: str) -> None:
        """A good answer to the first turn of a conversation begins."""
        self.counts.conversations_started += 1
        self._started.add(key)

    def answer(self, key: str, turn: int) -> None:
        """An answer to the turn, counted from 0, of a run has been sent to its end."""
        turns = self.answered.setdefault(key, [])
        while len(turns) <= turn:
            turns.append(0)
        turns[turn] += 1

    def finish_run(self, key: str) -> None:
        """A final answer has been sent to its end."""
        self.counts.conversations_finished += 1
        self._finished.add(key)
