"""An actor for tests: it stands in for a collaborator of the code under test, and hands what it is sent to the test.

::

    code under test ── tell, ask ──> the probe's actor ── answer ──>
                                          │
                                     received, senders, downs
                                          │
                         test ── receive, expect, down: read in order, fail with what came instead

A probe is an ordinary actor and uses only what every actor may. It is ``temporary``: stopped, killed or crashed by its
own answer it stays down, so that a test sees what its code does when a collaborator dies.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Self, TypeVar, overload

import anyio
from anyio.lowlevel import checkpoint

from ..actors import Actor, ActorRef, ActorSystem, Context, Down

T = TypeVar("T")

#: Seconds to wait for a message or a Down. Virtual time makes them free.
TIMEOUT = 3.0
#: What a failing test shows of the messages: that many of the last ones, each with that many characters.
SHOWN = 20
WIDTH = 160


class Probe:
    """An actor that records what it is sent: ``probe = await Probe.spawn(system)``, then give `probe.ref` away.

    Attributes:
        ref: its address.
        answer: what every `ask` gets: a value, or a function of the message, plain or async, that is called for each
            message. One that raises is the probe's crash. May be set at any time.
    """

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.ref: ActorRef[Any]
        self._context: Context
        self._received: list[Any] = []
        self._senders: list[str | None] = []
        self._downs: list[Down] = []
        self._watched: set[ActorRef[Any]] = set()
        self._read = 0
        self._news = anyio.Event()

    @classmethod
    async def spawn(cls, system: ActorSystem, name: str | None = None, *, answer: Any = None) -> Self:
        """Start a probe under the root of `system`, as `name` or as probe-1, probe-2 …

        Raises:
            NameTaken: a live actor has that name.
            SystemClosed: the system is not open.
        """
        probe = cls(answer)
        name = system.unique_name("probe") if name is None else name
        probe.ref = await system.spawn(lambda: _Recorder(probe), name=name, restart="temporary")
        return probe

    # -- messages

    @property
    def received(self) -> tuple[Any, ...]:
        """Every message so far, in order, whether it has been read or not."""
        return tuple(self._received)

    @property
    def senders(self) -> tuple[str | None, ...]:
        """The name of the actor that sent each of `received`; None for code outside any actor."""
        return tuple(self._senders)

    @overload
    async def receive(self, kind: None = None, *, timeout: float | None = TIMEOUT) -> Any: ...

    @overload
    async def receive(self, kind: type[T], *, timeout: float | None = TIMEOUT) -> T: ...

    async def receive(self, kind: type[Any] | None = None, *, timeout: float | None = TIMEOUT) -> Any:
        """Read the next message. Cancelling it reads nothing.

        Args:
            kind: what the message must be an instance of; it is no filter.
            timeout: seconds to wait for it (default 3); None waits as long as it takes.

        Raises:
            AssertionError: nothing came in time, or the next message is of another type. It shows what came so far.
        """
        wanted = "a message" if kind is None else f"a {kind.__name__}"
        message = await self._next(wanted, timeout)
        if kind is not None and not isinstance(message, kind):
            raise AssertionError(self._account(f"expected {wanted}, but read {_show(message)}"))
        return message

    async def expect(self, message: Any, *, timeout: float | None = TIMEOUT) -> None:
        """Read the next message, which must equal `message`.

        Raises:
            AssertionError: nothing came in time, or something else.
        """
        found = await self._next(_show(message), timeout)
        if found != message:
            raise AssertionError(self._account(f"expected {_show(message)}, but read {_show(found)}"))

    def expect_nothing(self) -> None:
        """Check that nothing waits to be read at this moment, in the probe's mailbox neither.

        Whoever is about to send something may still do so: let the code under test come to rest before.

        Raises:
            AssertionError: something does.
        """
        unread = len(self._received) - self._read
        queued = self.ref.statistics().depth
        if unread or queued:
            raise AssertionError(self._account(f"expected no message, but {unread + queued} wait to be read"))

    async def _next(self, wanted: str, timeout: float | None) -> Any:
        if not await self._came(lambda: self._read < len(self._received), timeout):
            raise AssertionError(self._account(f"waited {timeout:g} s for {wanted}, but nothing came"))
        self._read += 1
        return self._received[self._read - 1]

    # -- ends

    @property
    def downs(self) -> tuple[Down, ...]:
        """The notices of watched actors so far, in order. They are no messages."""
        return tuple(self._downs)

    def watch(self, ref: ActorRef[Any]) -> None:
        """Have the probe's actor monitor `ref`."""
        self._watched.add(ref)
        self._context.monitor(ref)

    async def down(self, ref: ActorRef[Any], *, timeout: float | None = TIMEOUT) -> Down:
        """Wait for the end of `ref`, which must be watched, and return the notice; again if it is asked again.

        Raises:
            AssertionError: it has not ended in time, or is not watched.
        """
        if ref not in self._watched:
            raise AssertionError(self._account(f"does not watch {ref.name!r}: call watch() first"))

        def found() -> Down | None:
            return next((down for down in self._downs if down.ref == ref), None)

        await self._came(lambda: found() is not None, timeout)
        down = found()
        if down is None:
            raise AssertionError(self._account(f"waited {timeout:g} s for the end of {ref!r}"))
        return down

    async def _came(self, there: Callable[[], bool], timeout: float | None) -> bool:
        await checkpoint()
        with anyio.move_on_after(timeout):
            while not there():
                await self._news.wait()
        return there()

    # -- what the actor does with it

    def _open(self, context: Context) -> None:
        self._context = context

    async def _take(self, message: Any, sender: str | None) -> Any:
        if isinstance(message, Down) and message.ref in self._watched:
            self._downs.append(message)
            self._tell()
            return None
        self._received.append(message)
        self._senders.append(sender)
        self._tell()
        if not callable(self.answer):
            return self.answer
        answer = self.answer(message)
        return await answer if isawaitable(answer) else answer

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    # -- what a failing test says

    def _account(self, problem: str) -> str:
        """The problem, and under it everything that matters about the probe."""
        state = "" if self.ref.alive else f" The probe itself has ended: {self.ref.exit}."
        lines = [f"probe {self.ref.name!r} {problem}.{state}"]
        if self._received:
            lines.append(f"  received so far ({len(self._received)}, the first {self._read} of them read):")
        else:
            lines.append("  received so far: nothing")
        first = max(0, len(self._received) - SHOWN)
        if first:
            lines.append(f"    … {first} more")
        for number, (message, sender) in enumerate(zip(self._received, self._senders, strict=True), 1):
            if number > first:
                lines.append(f"    {number}. {_show(message)} from {'outside' if sender is None else repr(sender)}")
        if queued := self.ref.statistics().depth:
            lines.append(f"  in its mailbox: {queued} more")
        lines.extend(f"  ended: {down.ref.name!r}, {down.exit}" for down in self._downs)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Probe {self.ref.name!r}: {len(self._received)} received, {self._read} of them read>"


class _Recorder(Actor):
    """The actor of a probe."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    async def started(self, context: Context) -> None:
        self._probe._open(context)

    async def receive(self, message: Any, context: Context) -> Any:
        return await self._probe._take(message, context.sender)


def _show(message: Any) -> str:
    text = repr(message)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
