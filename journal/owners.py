"""Whose run is it: the process that has claimed it, told apart from every other one, also from a later one.

A process id alone says little: it is given again, and means something else after a restart of the machine or in another
container. So an owner is its process id, when that process began, the boot of the machine, and the namespace that the
id counts in; and, since one process may open several journals one after the other, the opening of the journal.

Whether an owner still runs is answered for the safe side of whoever wants to take its runs over: "yes" needs proof.
Being wrong costs little, because a claim fences the former owner off. Linux tells everything; other systems tell
only whether there is a process of that number, and Windows, where asking is not harmless, only about this process.
"""

from __future__ import annotations

import os
import secrets
import sys
from functools import cache

import msgspec

#: States of a process in which it does nothing, and perhaps never will: stopped, traced, zombie, dead.
_STILL = frozenset("TtZXx")

#: The openings of journals in this process.
_open: set[str] = set()


class Owner(msgspec.Struct, frozen=True):
    """Whoever claimed a run.

    Attributes:
        pid: its process id.
        started: when that process began, in the kernel's ticks since the boot; 0 where the system does not tell.
        boot: the boot of its machine; empty where the system does not tell.
        namespace: where its process id counts; empty where the system does not tell.
        opening: which of the process's journals it was.
    """

    pid: int
    started: int
    boot: str
    namespace: str
    opening: str

    @property
    def is_here(self) -> bool:
        """Whether this process is the owner, through whichever journal."""
        return self._process == _this_process()

    @property
    def is_running(self) -> bool:
        """Whether that very process exists and is not stopped, as far as that can be proved from here.

        In this process: whether the journal that made the claim is still open.
        """
        if self.is_here:
            return self.opening in _open
        if self._machine != _this_process()[2:]:
            return False
        return _is_running(self.pid, self.started)

    @property
    def _process(self) -> tuple[int, int, str, str]:
        return (self.pid, self.started, self.boot, self.namespace)

    @property
    def _machine(self) -> tuple[str, str]:
        return (self.boot, self.namespace)


def opened() -> Owner:
    """The owner of what a journal claims that is being opened."""
    opening = secrets.token_hex(8)
    _open.add(opening)
    return Owner(*_this_process(), opening)


def closed(owner: Owner) -> None:
    """The journal is closed, or nobody has it any more."""
    _open.discard(owner.opening)


def _this_process() -> tuple[int, int, str, str]:
    return _process(os.getpid())  # asked again each time: it changes with a fork


@cache
def _process(pid: int) -> tuple[int, int, str, str]:
    if sys.platform != "linux":
        return (pid, 0, "", "")
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = ""
    return (pid, _state_and_start(pid)[1], boot, namespace)


def _is_running(pid: int, started: int) -> bool:
    if sys.platform == "win32":
        return False
    if sys.platform == "linux":
        state, start = _state_and_start(pid)
        return bool(state) and state not in _STILL and start == started
    try:
        os.kill(pid, 0)
    except PermissionError:  # it exists, and is somebody else's
        return True
    except (OSError, OverflowError):
        return False
    return True


def _state_and_start(pid: int) -> tuple[str, int]:
    """A letter and a number of ticks; ("", 0) if there is no such process or it does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0
