"""The program between us and a command: starts it, tells how it ended, and sees to it that nothing of it is left.

A process that its parent does not wait for goes to whoever is above, and is lost from sight; that is how a daemon gets
away. On Linux the guard is made the one above (a *subreaper*): whatever the command starts, in whatever session and
however often it forks, is below the guard for as long as it lives. When the guard has no child any more, nothing is
left, and that is the only thing it has to know. Elsewhere the process group is what can be ended.

The guard ends what it guards when

- the command has ended by itself: what it has left running goes with it;
- it is told to: SIGTERM to all, a grace, then SIGKILL until there is nobody;
- whoever has started it is gone, for whatever reason: SIGKILL at once.

It is run by its path as ``guard.py CONTROL FOLDER PARENT GRACE STDIN STDOUT STATUS COMMAND…``: descriptors (-1 for
none), the process that has started it, seconds. It needs the standard library alone. On CONTROL, a socket, it is told
``t`` (end it) or ``k`` (at once), and says, a line for each: ``ended exit N`` or ``ended signal N``, ``left N`` (so
many processes had been left running), ``survived N …`` (the ids of what cannot be killed), and ``gone`` at the end.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn

#: Of Linux: get orphans below; be sent a signal when the parent ends.
PR_SET_CHILD_SUBREAPER = 36
PR_SET_PDEATHSIG = 1
#: Where the command finds what it says how it goes on, if it has such a descriptor.
STATUS = 9
#: Seconds that are waited for what was sent SIGKILL: only what is stuck in the kernel needs as many.
LAST = 2.0
#: Seconds between two looks at what cannot be waited for.
LOOK = 1.0
#: A number above those of the descriptors that are put in place.
HIGH = 64
EXIT_NOT_FOUND = 127


class Guard:
    """Watches over one command.

    Args:
        control: the socket to whoever has started us.
        parent: their process id.
        child: the command's.
        reaps: whether orphans come to us.
    """

    def __init__(self, control: socket.socket, parent: int, child: int, reaps: bool, bell: int) -> None:
        self._control = control
        self._parent = parent
        self._child = child
        self._reaps = reaps
        self._bell = bell
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._poll.register(bell, select.POLLIN)
        self.order = ""
        self.ended: str | None = None
        self.alone = False

    def watch(self, grace: float) -> None:
        """Wait for the end of the command or an order, then end what is left."""
        while self.ended is None and not self.order and not self.alone:
            self.look(LOOK)
        if self.ended is not None and not self.alone:
            left = len(descendants()) if self._reaps else 1
            if left:
                self._say(f"left {left}")
        if self.order != "k":
            self._tell(signal.SIGTERM)
            self._tell(signal.SIGCONT)  # one that is stopped hears nothing else
            until = time.monotonic() + grace
            while not self.alone and self.order != "k" and (rest := until - time.monotonic()) > 0:
                self.look(min(rest, LOOK if self._reaps else 0.02))
        until = time.monotonic() + LAST
        while not self.alone and time.monotonic() < until:
            self._tell(signal.SIGKILL)
            self.look(0.01)
        if not self.alone:
            self._say(f"survived {' '.join(map(str, descendants() if self._reaps else [self._child]))}")
        self._say("gone")

    def look(self, seconds: float) -> None:
        """Wait for an order or the end of a process, at most so long, and take note of it."""
        for fd, _ in self._poll.poll(max(1, int(seconds * 1000))):
            if fd == self._bell:
                os.read(self._bell, 4096)
            else:
                self.order = self._hear() or self.order
        if os.getppid() != self._parent:  # a copy of the parent may hold the socket open
            self.order = "k"
        self._reap()

    def _hear(self) -> str:
        try:
            order = self._control.recv(64)
        except OSError:
            order = b""
        if not order:
            self._poll.unregister(self._control.fileno())
        return "k" if not order or b"k" in order else "t"

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.alone = self._reaps or not self._group_lives()
                return
            if not pid:
                return
            if pid == self._child:
                code = os.waitstatus_to_exitcode(status)
                self.ended = f"exit {code}" if code >= 0 else f"signal {-code}"
                self._say(f"ended {self.ended}")

    def _tell(self, number: signal.Signals) -> None:
        if not self._reaps:
            self._signal_group(number)
            return
        for pid in descendants():
            try:
                os.kill(pid, number)
            except OSError:  # it has gone, or belongs to somebody else
                continue

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self._child, number)
        except OSError:
            return False
        return True

    def _group_lives(self) -> bool:
        return self._signal_group(0)

    def _say(self, line: str) -> None:
        try:
            self._control.sendall(f"{line}\n".encode())
        except OSError:  # nobody hears it
            self.order = "k"


def descendants() -> list[int]:
    """The processes below this one that live, nearest first. One that has only not been waited for does not."""
    below: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, *_ = file.read().rpartition(b")")[2].split()
        except (OSError, ValueError):
            continue
        below.setdefault(int(parent), []).append(int(name))
        if state in b"ZX":
            dead.add(int(name))
    found: list[int] = []
    level = below.get(os.getpid(), [])
    while level:
        found += level
        level = [each for pid in level for each in below.get(pid, [])]
    return [pid for pid in found if pid not in dead]


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _become(command: list[str], folder: int, wiring: list[int], parent: int) -> NoReturn:
    """In the fork: be the command."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.fchdir(folder)
        stdin, stdout, status = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH) if fd >= 0 else -1 for fd in wiring]
        if stdin < 0:
            stdin = os.open(os.devnull, os.O_RDONLY)
        for fd, place in ((stdin, 0), (stdout, 1), (stdout, 2), (status, STATUS)):
            if fd >= 0:
                os.dup2(fd, place)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(EXIT_NOT_FOUND)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(EXIT_NOT_FOUND)


def _ring(number: int, frame: object) -> None:
    """Nothing to do: that the signal came is what rings the bell."""


def main(arguments: list[str]) -> None:
    """Guard a command until nothing of it is left."""
    descriptor, folder, parent = map(int, arguments[:3])
    grace = float(arguments[3])
    wiring = list(map(int, arguments[4:7]))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    bell, ringer = os.pipe()
    os.set_blocking(bell, False)
    os.set_blocking(ringer, False)
    signal.set_wakeup_fd(ringer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ring)
    reaps = _prctl(PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=descriptor)
    for fd in (descriptor, folder, *wiring):
        if fd >= 0:
            os.set_inheritable(fd, False)
    own = os.getpid()
    child = os.fork()
    if not child:
        _become(arguments[7:], folder, wiring, own)
    for fd in {folder, *wiring}:
        if fd >= 0:
            os.close(fd)
    Guard(control, parent, child, reaps, bell).watch(grace)


if __name__ == "__main__":
    main(sys.argv[1:])
