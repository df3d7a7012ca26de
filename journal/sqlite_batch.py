"""What is on its way into the file: jobs, and the batches that become one transaction each.

The loop side fills the last batch while the writer thread is busy with the one before: whatever has come together while
the disk was at work is the next transaction. A batch is settled by one callback into the event loop, which wakes
everybody who waits for it.

A transaction costs about ten times what an entry costs, so on a quick disk many small ones would cost more than what
is in them. Where many runs are at work, a batch of entries therefore waits a few milliseconds for a few more of them:
never for longer, not where few runs could bring any, and not where somebody has asked something.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

from anyio import Event

from .errors import JournalError

#: Seconds that a batch waits at most; for one entry of so many runs that are at work; and how many are enough.
GATHER = 0.004
CROWD = 2
ENOUGH = 64


class RunState:
    """What a journal knows about the run of a claim.

    The loop side writes `batch` and `ended`; the writer thread all the rest, once the first entry is on its way.
    """

    __slots__ = (
        *("batch", "conversation_id", "ended", "epoch", "is_new", "length", "names", "number", "parent_id", "queue"),
        *("refused", "run_id", "size"),
    )

    def __init__(self, run_id: str, epoch: int, queue: Queue) -> None:
        self.run_id = run_id
        self.epoch = epoch
        #: That of the opening of the journal that it belongs to.
        self.queue = queue
        self.is_new = False
        self.parent_id: str | None = None
        self.conversation_id: str | None = None
        #: The last batch that has something of it.
        self.batch: Batch | None = None
        #: Whether its last entry is on its way.
        self.ended = False
        #: What every further call gets; set for good.
        self.refused: Callable[[], JournalError] | None = None
        # Of its row, 0 as long as that was not seen: its number, checksum of the names, entries, bytes.
        self.number = 0
        self.names = 0
        self.length = 0
        self.size = 0


class Entry(NamedTuple):
    """An entry to be stored, or to be found there already."""

    state: RunState
    sequence: int
    data: bytes
    final: bool


class Release(NamedTuple):
    """The owner has let go."""

    run_id: str
    epoch: int


class Call:
    """A question, or a change that somebody waits for. `function` is called in the writer thread with the store."""

    __slots__ = ("batch", "error", "function", "result", "unwanted", "writes")

    def __init__(
        self, function: Callable[[Any], Any], writes: bool, unwanted: Callable[[Any], object] | None = None
    ) -> None:
        self.function = function
        self.writes = writes
        #: What is done with the result in the event loop if whoever asked has gone.
        self.unwanted = unwanted
        self.result: Any = None
        self.error: BaseException | None = None

    def forget(self) -> None:
        """It is over, and nobody waits for it."""
        if self.unwanted is not None and self.error is None:
            self.unwanted(self.result)


Job: TypeAlias = Entry | Release | Call


class Batch:
    """Jobs of one transaction."""

    __slots__ = ("_event", "hurries", "is_settled", "jobs", "unwanted")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        #: Whether somebody has asked something in it.
        self.hurries = False
        #: Calls that nobody waits for any more.
        self.unwanted: list[Call] = []
        self.is_settled = False
        self._event: Event | None = None

    def settle(self) -> None:
        """It is in the file, or refused. In the event loop."""
        self.is_settled = True
        self.jobs.clear()  # a claim remembers its last batch
        if self._event is not None:
            self._event.set()
        for call in self.unwanted:
            call.forget()

    async def wait(self) -> None:
        if not self.is_settled:
            if self._event is None:
                self._event = Event()
            await self._event.wait()


class Queue:
    """Batches between the event loop and the writer thread.

    Args:
        single: whether each job is a batch of its own.
        outside: the block to wait in, see `RunningLoop`.
        crowd: says how many runs are at work.
    """

    __slots__ = (
        *("_asleep", "_batches", "_bell", "_closed", "_crowd", "_lock", "_outside", "_single", "_wanted"),
        "taken",
    )

    def __init__(self, single: bool, outside: AbstractContextManager[None], crowd: Callable[[], int]) -> None:
        self._single = single
        self._crowd = crowd
        self._outside = outside
        self._batches: deque[Batch] = deque()
        self._lock = threading.Lock()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._asleep = False
        self._closed = False
        #: How many entries the writer thread waits for, once there is one.
        self._wanted = 1
        #: How many batches were taken.
        self.taken = 0

    def put(self, job: Job, *, wake: bool = True) -> Batch:
        """The batch that it is in. Without `wake` it may lie there until something else comes."""
        with self._lock:
            if self._batches and not self._single:
                batch = self._batches[-1]
            else:
                batch = Batch()
                self._batches.append(batch)
            batch.jobs.append(job)
            if isinstance(job, Call):
                batch.hurries = True
            if wake and self._asleep and (batch.hurries or len(batch.jobs) >= self._wanted):
                self._wake()
        return batch

    def _wake(self) -> None:
        self._asleep = False
        self._bell.release()

    async def ask(self, call: Call) -> Any:
        """The result of the call, which comes behind all that was put in before."""
        batch = self.put(call)
        try:
            await self.wait(batch)
        except BaseException:
            if batch.is_settled:
                call.forget()
            else:
                batch.unwanted.append(call)
            raise
        if call.error is not None:
            raise call.error
        return call.result

    async def wait(self, batch: Batch) -> None:
        with self._outside:
            await batch.wait()

    def take(self, *, wait: bool = True) -> Batch | None:
        """The next batch; None when it is closed and empty. In the writer thread.

        Args:
            wait: whether to wait for one. Otherwise an empty one says that there is none yet.
        """
        while True:
            with self._lock:
                if self._batches:
                    if not self._is_thin(self._batches[0]):
                        return self._pop()
                elif self._closed:
                    return None
                elif not wait:
                    return Batch()
                self._asleep = True
                gathers = bool(self._batches)
            if not gathers:
                self._bell.acquire()
                continue
            rung = self._bell.acquire(timeout=GATHER)
            with self._lock:
                self._wanted = 1
                if not rung and not self._asleep:
                    self._bell.acquire()  # it rang meanwhile
                self._asleep = False
                return self._pop()

    def _pop(self) -> Batch:
        self.taken += 1
        return self._batches.popleft()

    def _is_thin(self, batch: Batch) -> bool:
        """Whether to wait for more before this batch is taken; for how many, is in `_wanted`."""
        if self._single or self._closed or batch.hurries:
            return False
        wanted = min(self._crowd() // CROWD, ENOUGH)
        if len(batch.jobs) >= wanted:
            return False
        self._wanted = wanted
        return True

    def close(self) -> None:
        """Nothing more comes."""
        with self._lock:
            self._closed = True
            if self._asleep:
                self._wake()
