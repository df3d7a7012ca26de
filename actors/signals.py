"""SIGINT and SIGTERM as an orderly end: the first one asks, the second one insists.

While they are heeded, Ctrl-C raises no `KeyboardInterrupt` in whatever code happens to run: the signals are read by a
task of the system. Only the main thread of a process can do that.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from anyio import TASK_STATUS_IGNORED, CancelScope, open_signal_receiver
from anyio.abc import TaskStatus

HEEDED = (signal.SIGINT, signal.SIGTERM)

#: Held by the one watch that reads the signals of this process.
_taken = threading.Lock()


class SignalWatch:
    """Reads the signals of one process until it is closed.

    Args:
        ask: called at the first one.
        insist: called at the second one.
    """

    __slots__ = ("_ask", "_insist", "_scope", "first", "second")

    def __init__(self, ask: Callable[[], object], insist: Callable[[], object]) -> None:
        self._ask = ask
        self._insist = insist
        self._scope = CancelScope()
        self.first: signal.Signals | None = None
        self.second: signal.Signals | None = None

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Read signals; started when they are heeded.

        Raises:
            RuntimeError: this is not the main thread, or another system of this process heeds them already.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals=True needs the main thread; open the system there, or heed signals yourself")
        if not _taken.acquire(blocking=False):
            raise RuntimeError("signals=True is for one system of a process, and another one that is open has it")
        former = [signal.getsignal(each) for each in HEEDED]
        try:
            with self._scope, open_signal_receiver(*HEEDED) as signals:
                task_status.started()
                async for received in signals:
                    if self.first is None:
                        self.first = received
                        self._ask()
                    else:
                        self.second = received
                        self._insist()
                        return
        finally:
            # On asyncio the receiver leaves the defaults behind.
            for each, action in zip(HEEDED, former, strict=True):
                if action is not None:  # else it was not set from Python, and cannot be set back
                    signal.signal(each, action)
            _taken.release()

    def close(self) -> None:
        """Heed them no more."""
        self._scope.cancel()
