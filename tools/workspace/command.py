"""A command under its guard, seen from the event loop: started, followed, ended with all that it has started.

What the command prints is read as it comes. What happens to it is said by its guard (see `guard`), which is the child
of this process; the command is the guard's. So whatever the command does to its own processes, one socket tells when
there is nothing left, and closing that socket ends everything, also when this process is killed.

A command that kills its guard has escaped it. Then, on Linux, what it has started is looked for by a variable that is
in the environment of all of them, and killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex

import anyio
from anyio import CancelScope, to_thread
from msgspec import Struct

from ...loops import RunningLoop
from .output import Output

GUARD = Path(__file__).with_name("guard.py")
#: The variable that is in the environment of all that a command starts.
MARK = "GREENROOM_COMMAND"
#: Bytes that are read at once, and that a pipe holds when nobody writes any more.
PIECE = 1 << 16
#: Seconds that the guard is waited for beyond its grace, and seconds that what has escaped is looked for.
LAST = 3.0
SWEEP = 1.0


class Told(Struct):
    """What the guard has said.

    Attributes:
        exit: the command's exit status; None before it has ended, and where a signal has ended it.
        signal: the signal that has ended it, or None.
        left: how many processes it had left running.
        survived: the processes that could not be killed.
        gone: whether nothing is left.
    """

    exit: int | None = None
    signal: int | None = None
    left: int = 0
    survived: tuple[int, ...] = ()
    gone: bool = False

    @property
    def ended(self) -> bool:
        """Whether the command itself has ended."""
        return self.exit is not None or self.signal is not None

    def hear(self, line: bytes) -> None:
        """Take one line of the guard."""
        match line.decode().split():
            case ["ended", "exit", code]:
                self.exit = int(code)
            case ["ended", "signal", number]:
                self.signal = int(number)
            case ["left", count]:
                self.left = int(count)
            case ["survived", *pids]:
                self.survived = tuple(map(int, pids))
            case ["gone"]:
                self.gone = True
            case _:  # a line that was cut by the guard's death
                pass


class Command:
    """A command that runs. Starting it takes some milliseconds, and does not wait for it.

    Args:
        loop: the event loop.
        command: the program, by its absolute path, and its arguments.
        folder: the descriptor of its working directory.
        environment: all of its environment.
        grace: seconds between SIGTERM and SIGKILL.
        talks: whether it is written to: its standard input is a pipe then, and descriptor 9 is where it answers.

    Attributes:
        told: what is known about its end.
        by_itself: whether it had ended before it was told to. Known after `end`.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        loop: RunningLoop,
        command: Sequence[str],
        *,
        folder: int,
        environment: Mapping[str, str],
        grace: float,
        talks: bool = False,
    ) -> None:
        self._loop = loop
        self._grace = grace
        self._mark = token_hex(16)
        self._heard = bytearray()
        self.told = Told()
        self.by_itself = False
        theirs: list[int] = []
        self._open: list[int] = []
        self._control, other = socket.socketpair()
        try:
            self._control.setblocking(False)
            theirs.append(other.fileno())
            self.output, stdout = self._pipe()
            theirs.append(stdout)
            stdin = status = -1
            self.input = self.status = -1
            if talks:
                self.status, status = self._pipe()
                theirs.append(status)
                stdin, self.input = os.pipe()
                self._open.append(self.input)
                os.set_blocking(self.input, False)
                theirs.append(stdin)
            wiring = [other.fileno(), folder, os.getpid(), grace, stdin, stdout, status]
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(GUARD), *map(str, wiring), *command],
                env={**environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[*theirs, folder],
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            other.close()
            for fd in theirs[1:]:
                os.close(fd)

    def _pipe(self) -> tuple[int, int]:
        ours, theirs = os.pipe()
        self._open.append(ours)
        os.set_blocking(ours, False)
        return ours, theirs

    # -- following it

    async def collect(self, output: Output) -> None:
        """Read what it prints, until nobody can print any more."""
        with self._loop.outside:
            while data := await self.read(self.output):
                output.feed(data)

    def drain(self, output: Output) -> None:
        """Read what has been printed and is not read yet; at most what a pipe holds, for somebody may go on."""
        left = PIECE
        while left > 0:
            try:
                data = os.read(self.output, left)
            except OSError:  # nothing is there now
                return
            if not data:
                return
            left -= len(data)
            output.feed(data)

    async def read(self, fd: int) -> bytes:
        """What has come through a pipe; nothing at its end."""
        while True:
            await anyio.wait_readable(fd)
            try:
                return os.read(fd, PIECE)
            except BlockingIOError:
                continue

    async def write(self, data: bytes) -> None:
        """Write to its standard input.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        left = memoryview(data)
        with self._loop.outside:
            while left:
                try:
                    left = left[os.write(self.input, left) :]
                except BlockingIOError:
                    await anyio.wait_writable(self.input)

    async def ended(self) -> None:
        """Wait until the command itself has ended, or its guard has."""
        while not self.told.ended and await self._hear():
            pass

    async def gone(self) -> None:
        """Wait until nothing of it is left, or its guard has ended."""
        while await self._hear():
            pass

    async def _hear(self) -> bool:
        """Hear what the guard says next; False when it has said its last word."""
        with self._loop.outside:
            await anyio.wait_readable(self._control)
        return self._take()

    def _take(self) -> bool:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return True
        except OSError:  # it died with an order unread
            return False
        self._heard += data
        *lines, rest = bytes(self._heard).split(b"\n")
        self._heard[:] = rest
        for line in lines:
            self.told.hear(line)
        return bool(data)

    def last_words(self) -> bytes:
        """What it has said on descriptor 9 and is not read yet."""
        try:
            return os.read(self.status, PIECE)
        except OSError:  # nothing is there now
            return b""

    # -- ending it

    async def end(self, output: Output | None = None) -> None:
        """SIGTERM to all that it has started, the grace, then SIGKILL. No cancellation keeps it from that.

        Args:
            output: where the rest of what it has printed goes.
        """
        while self._take_now():
            pass
        self.by_itself = self.told.ended
        try:
            with CancelScope(shield=True):
                with anyio.move_on_after(self._grace + LAST):
                    self._order(b"t")
                    await self.gone()
                if not self.told.gone:  # the guard was killed, or hangs: no other process can be trusted to do it
                    self._guard.kill()
                    self.told.survived = await to_thread.run_sync(sweep, self._mark)
                    self.told.gone = not self.told.survived
            if output is not None:
                self.drain(output)
        finally:  # also where the event loop is gone, so that nothing can be awaited
            self.bury()

    def _order(self, order: bytes) -> None:
        try:
            self._guard.send_signal(signal.SIGCONT)  # the command may have stopped it
            self._control.send(order)
        except OSError:  # the guard has ended
            pass

    def bury(self) -> None:
        """Kill what is left and wait for the guard. Waits for real, usually for no time at all."""
        if self._control.fileno() < 0:
            return
        if not self.told.gone:
            self._order(b"k")
        try:
            self._guard.wait(LAST)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait(LAST)
        while self._take_now():
            pass
        if not self.told.gone and not self.told.survived:
            self.told.survived = sweep(self._mark)
        self._close()

    def _take_now(self) -> bool:
        try:
            return bool(self._control.recv(1, socket.MSG_PEEK)) and self._take()
        except OSError:
            return False

    def _close(self) -> None:
        self._control.close()
        while self._open:
            os.close(self._open.pop())


def sweep(mark: str) -> tuple[int, ...]:
    """Kill the processes that have this mark in their environment; those that live on. On Linux; elsewhere none is
    found.
    """
    until = time.monotonic() + SWEEP
    found = marked(mark)
    while found and time.monotonic() < until:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.005)
        found = marked(mark)
    return tuple(found)


def marked(mark: str) -> list[int]:
    """The processes that have this mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        try:
            if name.isdecimal() and wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:  # it has gone, or belongs to somebody else
            continue
    return found
