"""Functions for processes of tools. Tests put this folder on the import path; nothing of greenroom is imported here."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

SENTINEL = object()


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.5


class Shown:
    def __str__(self) -> str:
        return "shown"


class Custom(ConnectionError):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Box:
    @staticmethod
    def add(a: int, b: int) -> int:
        return a + b


VALUES: dict[str, Any] = {
    "text": "plain ünïcode",
    "nothing": None,
    "number": 1.5,
    "not a number": [float("nan")],
    "list": [1, "two", {"three": 3}],
    "record": Point(1),
    "date": date(2026, 1, 2),
    "object": Shown(),
    "objects": {"a": Shown()},
    "bytes": b"text",
    "surrogate": "\udc80",
    "bad bytes": b"\xff\xfe",
    "generator": (each for each in ()),
}


def value(name: str) -> Any:
    return VALUES[name]


def types(point: Point, day: date, colour: Colour, *, other: Any = SENTINEL) -> str:
    return f"{point!r} {day!r} {colour!r} {other is SENTINEL}"


def as_given(**options: Any) -> Any:
    return options


def raises(kind: str) -> None:
    raise {
        "value": ValueError("bad"),
        "custom": Custom("refused"),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "mute": Mute(),
        "long": ValueError("x" * 500),
    }[kind]


def waits_for_it() -> Any:
    async def later() -> None:
        return None

    found = later()
    found.close()
    return found


def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), int(how))


def big(characters: int) -> str:
    return "x" * characters


def length(text: str) -> int:
    return len(text)


def prints() -> str:
    print("on standard output")
    os.write(1, b"into the descriptor\n")
    subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
    return sys.stdin.read()


def pid() -> int:
    return os.getpid()


def nap(seconds: float = 0.02) -> int:
    time.sleep(seconds)
    return os.getpid()


def hang(started: str) -> None:
    _tell(started)
    while True:
        time.sleep(60)


def hang_deaf(started: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(started)


def hang_and_clean_up(started: str, cleaned: str) -> None:
    try:
        hang(started)
    finally:
        Path(cleaned).write_text("clean")


def with_grandchild(started: str, sentinel: str) -> None:
    """Hang, beside a shell and its child that ignore SIGTERM and write the sentinel when they are through."""
    script = f"trap '' TERM; (sleep 30; echo late > {sentinel}) & sleep 30; echo late > {sentinel}"
    with subprocess.Popen(["sh", "-c", script]):
        hang(started)


def leave_child() -> str:
    left = subprocess.Popen(["sleep", "60"])
    return f"{os.getpid()} {left.pid}"


def fork_and_die() -> None:
    """Die, and leave a copy that Python has made, and has the socket closed in."""
    if os.fork() == 0:
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


def copy_and_die() -> None:
    """The same behind Python's back, so that the copy holds the socket."""
    if ctypes.CDLL(None).fork() == 0:
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


def spawn_and_die() -> None:
    """The same with a child that runs another program and is given all descriptors."""
    subprocess.Popen(["sleep", "60"], close_fds=False)
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_return() -> str:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "parent" if child else "child"


def at_exit(sentinel: str) -> None:
    atexit.register(Path(sentinel).write_text, "in order")


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(60,)).start()
    return os.getpid()


def loaded(name: str) -> bool:
    return name in sys.modules


def _tell(started: str) -> None:
    path = Path(f"{started}.new")
    path.write_text(str(os.getpid()))
    path.rename(started)
