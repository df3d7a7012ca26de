"""A server as a process of ours: started, written to and read, ended with all that it has started.

It leads a session and so a process group of its own; Ctrl-C at the terminal does not reach it. It is ended as the
protocol wants: its standard input is closed, and what has not gone then is sent SIGTERM and SIGKILL, with its whole
group. The process is waited for last of all, because until then its id, which is the group's, cannot become anybody
else's. That is also why it is not started through the event loop, whose child watcher would wait for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import IO

import anyio
import msgspec
from anyio.lowlevel import checkpoint

#: Seconds for the end of a server whose standard input was closed; between SIGTERM and SIGKILL; after SIGKILL.
PATIENCE = 1.0
GRACE = 2.0
LAST = 1.0
#: Real seconds that a server whose output has ended has to die, so that its exit code is known.
SETTLE = 0.05
#: Seconds between two looks at a process that ought to end, and at one that says nothing.
LOOK = 0.005
LONG_LOOK = 1.0

_PIECE = 65_536

#: What a server has of our environment. Whatever else it needs, it is given.
INHERITED = (
    *("HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("TERM", "TMPDIR", "TZ", "USER"),
)


class Command(msgspec.Struct, frozen=True):
    """How a server is started: the program and its arguments, what its environment has besides, and its folder."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None

    def __repr__(self) -> str:
        return f"Command({self.words[0]!r}, …)"

    def environment(self) -> dict[str, str]:
        """The whole environment."""
        return {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(self.env)


class ServerProcess:
    """A running server.

    Raises:
        OSError: it cannot be started.
    """

    __slots__ = ("_process", "stderr", "stdin", "stdout")

    def __init__(self, command: Command) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command.words,
            bufsize=0,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=command.cwd,
            env=command.environment(),
            start_new_session=True,
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout
        self.stderr: IO[bytes] = process.stderr
        for each in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(each.fileno(), False)

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: nobody reads.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self.stdin.fileno(), left) :]
            except BlockingIOError:
                await anyio.wait_writable(self.stdin.fileno())

    async def read(self, file: IO[bytes]) -> bytes:
        """What has come; nothing when there will be no more."""
        await checkpoint()  # a server that always has more to say must not be the only one that goes on
        while True:
            died = self._has_died()
            try:
                return os.read(file.fileno(), _PIECE)
            except BlockingIOError:
                if died:  # although something that it has started has kept the other end open
                    return b""
            except OSError:
                return b""
            with anyio.move_on_after(LONG_LOOK):
                await anyio.wait_readable(file.fileno())

    # -- the end

    def _has_died(self) -> bool:
        """Whether it has ended."""
        return self._code() is not None

    def _code(self) -> int | None:
        """How it has ended, as `subprocess` says it, leaving it to be waited for; None while it lives."""
        if self._process.returncode is not None:
            return self._process.returncode
        waitid = getattr(os, "waitid", None)
        if waitid is None:  # macOS before Python 3.13: to look is to wait, so its group has to go at once
            code = self._process.poll()
            if code is not None:
                _kill(self._process.pid, signal.SIGKILL)
            return code
        try:
            found = waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return self._process.poll()
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def epitaph(self) -> str:
        """How it has ended, after its output has. It dies a moment later, which is waited for in real time."""
        until = time.monotonic() + SETTLE
        while (code := self._code()) is None and time.monotonic() < until:
            time.sleep(0.001)
        if code is None:
            return "has closed its standard output"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:  # a real-time signal
            return f"was killed by signal {-code}"

    def drain(self, file: IO[bytes]) -> bytes:
        """What can be read of it at once, up to some megabytes."""
        pieces: list[bytes] = []
        for _ in range(64):
            try:
                pieces.append(os.read(file.fileno(), _PIECE))
            except OSError:
                break
            if not pieces[-1]:
                break
        return b"".join(pieces)

    async def end(self) -> None:
        """End it, and all that it has started, within a bounded time. No cancellation keeps it from that."""
        try:
            with anyio.CancelScope(shield=True):
                self.stdin.close()
                if not await self._is_silent(PATIENCE):
                    self._signal(signal.SIGTERM)
                    if not await self._is_silent(GRACE):
                        self._signal(signal.SIGKILL)
                        await self._is_silent(LAST)
        finally:
            self.bury()

    async def _is_silent(self, seconds: float) -> bool:
        """Whether it dies within so many seconds. What it still has to say is thrown away, or it could not go on."""
        with anyio.move_on_after(seconds):
            while not self._has_died():
                self.drain(self.stdout)
                self.drain(self.stderr)
                await anyio.sleep(LOOK)
            return True
        return False

    def bury(self) -> None:
        """Kill what is left of its group and wait for it. Waits for real, usually for no time at all."""
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
            try:
                self._process.wait(LAST)
            except subprocess.TimeoutExpired:
                pass
        for file in (self.stdin, self.stdout, self.stderr):
            file.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # else its id may be somebody else's
            _kill(self._process.pid, number)


def _kill(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # nobody is left; macOS says so in the other way
        pass
