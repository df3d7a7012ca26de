"""What Ctrl-C means at the moment, and how a command ends in order when its terminal or its machine goes down.

A command like this blocks in the main thread, where Python carries out what a signal asks for. Ctrl-C raises
`KeyboardInterrupt` there, as usual, except where something else is to be done instead (`instead`): stop an answer, or
look at the line that is being typed. SIGTERM and SIGHUP raise `Interrupted`, so that blocks are left and what they hold
is closed. Code that does not heed its cancellation may keep them from that; so who leaves may be hurried.

Python notes a signal at once and carries it out between two steps of the main thread. One that comes just before
`readline` begins to wait for a key would stay a note until the next key. So a thread that hears of each note (Python's
wakeup descriptor) wakes the main thread a little later, with a signal that means nothing.

A signal that was ignored when the command began (`nohup`, a job in the background of a script) stays ignored.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from types import FrameType

from .cli_loop import Interrupted

#: Seconds after a signal at which the main thread is woken, if it sleeps on it.
_WAKINGS = (0.05, 0.2)


class Signals:
    """Who gets Ctrl-C."""

    def __init__(self) -> None:
        self._instead: Callable[[], None] | None = None
        self._hurry: threading.Thread | None = None
        self._left = threading.Event()
        self._heeds_keys = True

    @contextmanager
    def installed(self) -> Generator[None]:
        """The block in which signals do what is said here. In the main thread."""
        endings = [each for each in _named("SIGTERM", "SIGHUP") if signal.getsignal(each) != signal.SIG_IGN]
        self._heeds_keys = signal.getsignal(signal.SIGINT) != signal.SIG_IGN
        before = {signal.SIGINT: signal.signal(signal.SIGINT, self._interrupt)}
        try:
            before |= {number: signal.signal(number, _end) for number in endings}
            with _woken((signal.SIGINT, *endings, *_named("SIGTSTP"))):
                yield
        finally:
            self._left.set()
            if self._hurry is not None:
                self._hurry.join()
            for number, handler in before.items():
                signal.signal(number, handler)

    def hurry(self, *seconds: float) -> None:
        """Press Ctrl-C in so many seconds, and again so many later, unless the block of `installed` has been left by
        then. The first word counts.
        """
        if self._hurry is None:
            self._hurry = threading.Thread(target=self._press, args=seconds, name="greenroom: the end", daemon=True)
            self._hurry.start()

    @contextmanager
    def instead(self, function: Callable[[], None] | None) -> Generator[None]:
        """The block in which Ctrl-C calls `function`; None: raises `KeyboardInterrupt`."""
        before, self._instead = self._instead, function
        try:
            yield
        finally:
            self._instead = before

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._heeds_keys:
            return
        if self._instead is None:
            raise KeyboardInterrupt
        self._instead()

    def _press(self, *seconds: float) -> None:
        # A signal to the thread itself is what wakes it out of a wait for a lock.
        main = threading.main_thread().ident
        for each in seconds:
            if self._left.wait(each) or main is None or not hasattr(signal, "pthread_kill"):
                return
            self._heeds_keys = True
            signal.pthread_kill(main, signal.SIGINT)


def _named(*names: str) -> list[signal.Signals]:
    """Those of the signals that the system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def _woken(numbers: Collection[int]) -> Generator[None]:
    """The block in which the main thread does not sleep on any of these signals."""
    if not hasattr(signal, "pthread_kill"):
        yield
        return
    main, (hears, told) = threading.get_ident(), socket.socketpair()
    told.setblocking(False)

    def wake() -> None:
        while noted := hears.recv(64):
            if any(number in numbers for number in noted):
                for seconds in _WAKINGS:
                    time.sleep(seconds)
                    signal.pthread_kill(main, signal.SIGURG)

    before = signal.signal(signal.SIGURG, _nothing), signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=wake, name="greenroom: signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before[1])
        told.close()
        thread.join()
        hears.close()
        signal.signal(signal.SIGURG, before[0])


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal ends a wait; one that is ignored would not."""


def _end(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)
