"""How many tool calls run at once, and which of them never do: the limits and the locks of one System.

A call that must wait does so before anything of it runs: first for the lock of its key, then for a place among the
calls of its tool (``limit=``), then for one among all calls (``System(max_tools=)``). Each of the three is first come,
first served. A wait may be cancelled at any moment and leaves nothing taken.

**Places never deadlock.** A call that waits for a subagent of its own does not count as running: it gives its places
up when the first of its subagents begins, and takes them again after the last has ended, before its own code goes on.
So whoever has a place waits for no other call, and places come free.

**Locks are nested, not given up.** What a lock protects must stay protected while a subagent works. So a key has a
*chain* of holders, each a descendant of the one before: a subagent's call with the key of a call above it may enter,
one of them at a time, and calls from elsewhere wait until the chain is empty. Calls that would wait for each other,
over two keys taken in opposite orders, are told apart from those that only wait long: the one that would close the
circle is refused with `WouldDeadlock`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from weakref import WeakKeyDictionary

import anyio
from anyio import Semaphore

from ..actors import WouldDeadlock


class Pass:
    """What one call holds, or waits for, at the gate. `above` is the pass of the nearest call above it that has one."""

    __slots__ = ("_gate", "_places", "_regaining", "above", "entered", "has_places", "key", "subruns", "waits_for")

    def __init__(self, gate: ToolGate, places: tuple[Semaphore, ...], key: Hashable, above: Pass | None) -> None:
        self._gate = gate
        self._places = places
        self._regaining: anyio.Event | None = None
        self.key = key
        self.above = above
        self.entered = anyio.Event()
        self.has_places = False
        #: Subagents of this call that are under way.
        self.subruns = 0
        self.waits_for: _Key | None = None

    def line(self) -> Iterator[Pass]:
        """This pass, and those above it."""
        each: Pass | None = self
        while each is not None:
            yield each
            each = each.above

    async def enter(self) -> None:
        """Wait for the lock, then for the places. Cancelling it leaves nothing taken.

        Raises:
            WouldDeadlock: the lock is held by a call that waits for this one.
        """
        if self.key is not None:
            await self._gate.lock(self)
        try:
            await self._take()
        except BaseException:
            self.leave()
            raise

    async def _take(self) -> None:
        taken: list[Semaphore] = []
        try:
            for place in self._places:
                await place.acquire()
                taken.append(place)
        except BaseException:
            for place in taken:
                place.release()
            raise
        self.has_places = True

    def lend(self) -> None:
        """A subagent of the call begins: others may run meanwhile."""
        self.subruns += 1
        self._give_up()

    def returned(self) -> None:
        """A subagent of the call has ended."""
        self.subruns -= 1

    async def regain(self) -> None:
        """Before the call's own code goes on after a subagent: take the places again, unless another still works."""
        while not self.has_places and not self.subruns:
            if self._regaining is not None:
                await self._regaining.wait()
                continue
            self._regaining = anyio.Event()
            try:
                await self._take()
            finally:
                self._regaining.set()
                self._regaining = None

    def _give_up(self) -> None:
        if self.has_places:
            self.has_places = False
            for place in self._places:
                place.release()

    def leave(self) -> None:
        """The call has ended. Harmless when it never entered."""
        self._give_up()
        if self.key is not None:
            self._gate.unlock(self)


class _Key:
    """One key: who holds it, outermost first, and who waits for it, first come first."""

    __slots__ = ("chain", "queue")

    def __init__(self) -> None:
        self.chain: list[Pass] = []
        self.queue: deque[Pass] = deque()

    def base(self, entrant: Pass) -> int:
        """How many holders are above this call: it may enter when no more are left."""
        above = set(entrant.line())
        return next((index for index, holder in enumerate(self.chain) if holder not in above), len(self.chain))

    def admits(self, entrant: Pass) -> bool:
        return self.base(entrant) == len(self.chain)

    def blockers(self, waiting: Pass) -> list[Pass]:
        """Whom a call waits for directly: the holders that are not above it, and those who will enter before it."""
        base = self.base(waiting)
        ahead: list[Pass] = []
        for other in self.queue:
            if other is waiting:
                break
            if self.base(other) >= base:
                ahead.append(other)
        return self.chain[base:] + ahead


class ToolGate:
    """The limits and locks of one stage's tools. Make it inside the event loop, and use it there.

    Args:
        most: tool calls at once; None for any number.
    """

    __slots__ = ("_keys", "_limits", "_waiting", "everyone")

    def __init__(self, most: int | None = None) -> None:
        self.everyone = Semaphore(most, fast_acquire=True) if most is not None else None
        self._limits: WeakKeyDictionary[object, Semaphore] = WeakKeyDictionary()
        self._keys: dict[Hashable, _Key] = {}
        self._waiting: dict[Pass, None] = {}

    def make_pass(self, tool: object, limit: int | None, key: Hashable, above: Pass | None) -> Pass:
        """The pass of a call of `tool`; nothing is taken yet."""
        places: list[Semaphore] = []
        if limit is not None:
            place = self._limits.get(tool)
            if place is None:
                place = self._limits[tool] = Semaphore(limit, fast_acquire=True)
            places.append(place)
        if self.everyone is not None:
            places.append(self.everyone)
        return Pass(self, tuple(places), key, above)

    async def lock(self, entrant: Pass) -> None:
        """Wait until the key is free for this call.

        Raises:
            WouldDeadlock: it is held by a call that waits for this one.
        """
        key = self._keys.setdefault(entrant.key, _Key())
        if key.admits(entrant):
            key.chain.append(entrant)
            return
        key.queue.append(entrant)
        entrant.waits_for = key
        self._waiting[entrant] = None
        try:
            if self._waits_for_itself(entrant):
                raise WouldDeadlock(
                    f"this call would wait for the lock {entrant.key!r}, whose holder waits for this call"
                )
            await entrant.entered.wait()
        except BaseException:
            self.unlock(entrant)
            raise

    def _waits_for_itself(self, entrant: Pass) -> bool:
        """Whether the new wait closes a circle: somebody it waits for waits, itself or in a subagent, for its line."""
        own = set(entrant.line())
        if not any(self._is_waited_for(holder) for holder in own):
            return False
        assert entrant.waits_for is not None
        todo = entrant.waits_for.blockers(entrant)
        seen: set[Pass] = set()
        while todo:
            blocker = todo.pop()
            if blocker in own:
                return True
            if blocker in seen:
                continue
            seen.add(blocker)
            for waiting in self._waiting:
                if waiting.waits_for is not None and blocker in waiting.line():
                    todo += waiting.waits_for.blockers(waiting)
        return False

    def _is_waited_for(self, holder: Pass) -> bool:
        """Whether a call that is not below this one waits for the key that it holds."""
        key = self._keys.get(holder.key)
        if key is None or holder not in key.chain:
            return False
        index = key.chain.index(holder)
        return any(key.base(waiting) <= index for waiting in key.queue)

    def unlock(self, holder: Pass) -> None:
        """Take a call out of its key's chain, or queue, and let the next ones in. Harmless when it is in neither."""
        key = self._keys.get(holder.key)
        if key is None:
            return
        if holder in key.chain:
            key.chain.remove(holder)
        elif holder.waits_for is key:
            key.queue.remove(holder)
            holder.waits_for = None
            del self._waiting[holder]
        for waiting in tuple(key.queue):
            if key.admits(waiting):
                key.queue.remove(waiting)
                key.chain.append(waiting)
                waiting.waits_for = None
                del self._waiting[waiting]
                waiting.entered.set()
                break
        if not key.chain and not key.queue:
            del self._keys[holder.key]
