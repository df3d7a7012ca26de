"""How a run speaks: its events, made, numbered, and handed to all who listen.

There are two kinds of listeners. *Readers* follow a log at their own pace and are never waited for. *Observers*
(hooks and `on_event`) are called in order, one event at a time, and the run waits for them. A run speaks to its own
listeners and to those of every run above it; its hooks hear only itself.

Nobody listening is the common case of a loaded service, so an event that nobody can hear is not even made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .events import TERMINAL, Event
from .hooks import Audience, call_observer
from .readers import EventLog
from .run_options import RunOptions
from .sources import Sources


class Voice:
    """The voice of one run.

    Args:
        run_id: the run.
        options: whose events carry its ids, and whose `on_event` hears them.
        audience: the hooks of its agent.
        sources: the clock.
        parent: the voice of the run above, or None.
        followable: whether a handle of the run is given out, so that readers may come.
        common: who hears the events of all runs.
    """

    __slots__ = (
        "_above",
        "_audible",
        "_common",
        "_count",
        "_options",
        "_parent_id",
        "_path",
        "_run_id",
        "_sources",
        "_telling",
        "_told",
        "_untold",
        "audience",
        "followable",
        "log",
        "over",
        "turn",
    )

    def __init__(
        self,
        run_id: str,
        options: RunOptions,
        audience: Audience,
        sources: Sources,
        parent: Voice | None,
        followable: bool,
        common: Sequence[Callable[[Any], Any]] = (),
    ) -> None:
        self._run_id = run_id
        self._options = options
        self.audience = audience
        self._sources = sources
        self._parent_id = parent._run_id if parent is not None else None
        # The parent's voice, and so on to the root's. Not this one: a run that held itself would be cyclic garbage.
        self._above: tuple[Voice, ...] = parent._line if parent is not None else ()
        self._path: tuple[str, ...] = (*parent._path, run_id) if parent is not None else (run_id,)
        self.followable = followable
        self._common = common
        self._told = bool(common) or any(voice._options.on_event is not None for voice in self._line)
        self._audible = self._told or any(voice.followable for voice in self._line)
        self.log = EventLog()
        #: Whether its last event is said. Runs that outlive it are not heard here any more.
        self.over = False
        #: The turn that events speak of; the machine's is ahead between two turns.
        self.turn = 0
        # Of a root: the last sequence number, what observers have not heard yet, and whether somebody is telling them.
        # An empty deque takes 0.7 KiB, and most runs have nobody to tell.
        self._count = 0
        self._untold: deque[tuple[Callable[[Any], Any], Event]] | None = None
        self._telling: tuple[Callable[[Any], Any], Event] | None = None

    @property
    def telling(self) -> tuple[Callable[[Any], Any], Event] | None:
        """The observer, of this run's tree, that is being told at this moment, and of what."""
        return self._line[-1]._telling

    @property
    def _line(self) -> tuple[Voice, ...]:
        """This voice and those above it, up to the root's."""
        return (self, *self._above)

    @property
    def path(self) -> tuple[str, ...]:
        """The names of the runs from the root to this one."""
        return self._path

    @property
    def count(self) -> int:
        """How many events the tree has had: the sequence number of the last one."""
        return self._line[-1]._count

    @property
    def reachable(self) -> bool:
        """Whether anybody has a handle of this run or of one above it."""
        return any(voice.followable for voice in self._line)

    def wants_deltas(self) -> bool:
        """Whether anybody listens closely enough to stream for."""
        if not self._audible:
            return False
        return any(voice.log.followed or voice._options.on_event is not None for voice in self._line)

    async def say(self, kind: type[Event], /, **facts: Any) -> None:
        """Make an event of this kind and hand it to everybody, if there is anybody."""
        if self._audible or self.audience.hears(kind):
            event = self.make(kind, **facts)
            self.log_event(event)
            if self._told or self.audience:
                await self._tell(event)

    def make(self, kind: type[Event], /, **facts: Any) -> Event:
        """An event of this kind, with the next sequence number of the tree."""
        root = self._above[-1] if self._above else self
        root._count += 1
        return kind(
            seq=root._count,
            time=self._sources.clock(),
            run_id=self._run_id,
            path=self._path,
            turn=self.turn,
            parent_id=self._parent_id,
            user_id=self._options.user_id,
            conversation_id=self._options.conversation_id,
            **facts,
        )

    def log_event(self, event: Event) -> None:
        """Hand an event to the readers, who cannot make anybody wait."""
        self.log.publish(event)
        for voice in self._above:
            if not voice.over:
                voice.log.publish(event)
        if isinstance(event, TERMINAL):
            self.over = True

    async def publish(self, event: Event) -> None:
        """Hand an event to the readers, then to the observers."""
        self.log_event(event)
        if self._told or self.audience:
            await self._tell(event)

    async def _tell(self, event: Event) -> None:
        self._leave_untold(event)
        await self.tell_observers()

    def _leave_untold(self, event: Event) -> None:
        if self._told or self.audience:
            root = self._line[-1]
            if root._untold is None:
                root._untold = deque()
            untold = root._untold
            untold += [(hook, event) for hook in self.audience.of(event)]
            for voice in self._line:
                if voice._options.on_event is not None and (voice is self or not voice.over):
                    untold.append((voice._options.on_event, event))
            untold += [(observer, event) for observer in self._common]

    def mention(self, kind: type[Event], /, **facts: Any) -> None:
        """Say something where nobody can wait: readers get it now, observers before the next event."""
        if self._audible or self.audience.hears(kind):
            event = self.make(kind, **facts)
            self.log_event(event)
            self._leave_untold(event)

    async def tell_observers(self) -> None:
        """Call the observers for what they have not heard.

        Runs of one tree speak at the same time. Their observers hear them in order all the same: whoever speaks while
        another event is being told leaves it in the queue, for the teller to go on with.
        """
        root = self._line[-1]
        if root._telling is not None:
            return
        try:
            while root._untold:
                root._telling = observer, event = root._untold.popleft()
                await call_observer(observer, event)
        finally:
            root._telling = None
