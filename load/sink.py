"""The world outside of a run, as far as the crash demo needs one: it remembers what tools did, whoever is killed.

Each request to it is one line that is added to a file by one write, so a process that is killed leaves the whole line
or none. Like any service that takes idempotency keys, it carries out a request whose key it knows only once: the
effects of keyed requests are their different keys.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec


class Effect(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request: of which tool, for which order, and with which idempotency key if any."""

    tool: str
    order: int
    key: str | None = None


class Sink:
    """Takes requests while its block is open. Several processes may have one on the same file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def take(self, effect: Effect) -> None:
        """Carry a request out."""
        os.write(self._file, msgspec.json.encode(effect) + b"\n")


def effects_in(path: str | os.PathLike[str]) -> list[Effect]:
    """All requests so far, oldest first."""
    return [msgspec.json.decode(line, type=Effect) for line in Path(path).read_bytes().splitlines()]
