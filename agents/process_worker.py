"""One process of tools, seen from the event loop: started, asked, ended with all that it has started.

It leads a session and so a process group of its own, and what its tools start is born into that group. `end` is the
ladder: SIGTERM to the group, a short grace for the process itself, then SIGKILL to whatever is left of the group. The
process is waited for last of all, because until then its id, which is the group's, cannot become anybody else's.

Its socket says when it has died: nobody but the process has the other end, since that is closed in whatever it forks or
executes. No thread watches, no signal is used, and no child watcher of an event loop is needed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from weakref import WeakSet

import anyio
from anyio import CancelScope

from ..actors import Home
from . import process_boot
from .process_wire import HEAD, length

#: Seconds between SIGTERM and SIGKILL.
GRACE = 0.5
#: Seconds that a process which was sent SIGKILL is waited for: only one that is stuck in the kernel needs as many.
LAST = 1.0
#: Seconds after which the silence of a process is looked into.
LOOK = 1.0

_ours: WeakSet[socket.socket] = WeakSet()


def _let_go() -> None:
    """In a fork of this process: leave our ends to the original, so that its end is seen."""
    for each in tuple(_ours):
        each.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Worker:
    """A process that waits for calls. Starting it takes some milliseconds; it gets ready by itself.

    Raises:
        OSError: no process can be started.
    """

    __slots__ = ("_home", "_process", "_socket")

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket, theirs = socket.socketpair()
        try:
            self._socket.setblocking(False)
            path = [os.path.abspath(each) for each in sys.path if isinstance(each, str)]  # an empty one is here
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(process_boot.__file__)), str(theirs.fileno()), *path],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        _ours.add(self._socket)

    @property
    def pid(self) -> int:
        """Its id, which is the id of its group too."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it is alive and nothing has come from it that nobody asked for."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    @property
    def is_buried(self) -> bool:
        """Whether it has been waited for. One that ought to be and is not cannot be killed."""
        return self._process.returncode is not None

    # -- asking

    async def ask(self, request: bytes) -> bytes | None:
        """Send a framed message and return the answer without its head; None if the process died before."""
        with self._home.outside:
            try:
                await self._send(request)
                head = await self._receive(HEAD)
                return await self._receive(length(head)) if head is not None else None
            except OSError:
                return None

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def _receive(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            piece = await self._piece(count - len(data))
            if not piece:
                return None
            data += piece
        return bytes(data)

    async def _piece(self, most: int) -> bytes:
        """What has come, at most so much; nothing when there will be no more."""
        while True:
            died = self._has_died()
            try:
                return self._socket.recv(min(most, 1 << 20))
            except BlockingIOError:
                if died:  # although somebody has kept its end open: a copy that was not made by Python
                    return b""
            except OSError:  # it has died with a call unread
                return b""
            with anyio.move_on_after(LOOK):
                await anyio.wait_readable(self._socket)

    def _has_died(self) -> bool:
        """Whether it has ended, leaving it to be waited for."""
        waitid = getattr(os, "waitid", None)
        if waitid is None:  # macOS before Python 3.13
            return False
        try:
            return waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    # -- the end

    def dismiss(self) -> None:
        """Let it end in order; it is between two calls."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it has ended already
            pass

    def urge(self) -> None:
        """Send SIGTERM to its group."""
        self._signal(signal.SIGTERM)

    async def end(self) -> None:
        """Wait for its end, for the grace, then kill what is left of its group. A cancellation cuts the grace short."""
        try:
            with anyio.move_on_after(GRACE):
                await self._silence()
        except GeneratorExit:  # the event loop is gone, so nothing can be awaited
            self.bury()
            raise
        except BaseException:
            await self.kill()
            raise
        await self.kill()

    async def kill(self) -> None:
        """Kill it and its group, and wait for it; no cancellation keeps it from that."""
        try:
            self._signal(signal.SIGKILL)
            with CancelScope(shield=True), self._home.outside, anyio.move_on_after(LAST):
                await self._silence()
        finally:
            self.bury()

    async def _silence(self) -> None:
        """Wait until the process has died."""
        while await self._piece(1 << 20):
            pass

    def bury(self) -> None:
        """Kill what is left of it and wait for it. Waits for real, usually for no time at all."""
        if not self.is_buried:
            self._signal(signal.SIGKILL)
            try:
                self._process.wait(LAST)
            except subprocess.TimeoutExpired:
                pass
        self._socket.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.is_buried:
            return  # its id may be somebody else's
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # nobody is left; macOS says so in the other way
            pass

    def epitaph(self) -> str:
        """How it ended."""
        code = self._process.returncode
        if code is None:
            return "cannot be killed"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:  # a real-time signal
            return f"was killed by signal {-code}"
