"""A trace in a file: one event per line, as JSON.

Each line goes to the operating system at once, in one write at the end of the file. So it is there when the process is
killed a moment later (a machine that loses its power may lose what it had not stored yet), nothing is kept in memory,
and several runs, event loops, threads and processes may write to the same file without parting each other's lines. On a
local disk that is a few microseconds, in the task of whoever speaks; a file system that may block does not belong under
it.

A trace never fails a run. What cannot be written is counted in `lost` and logged once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator
from types import TracebackType
from typing import Self

import msgspec

from ..agents import events
from .contents import without_contents
from .extras import flag

_log = logging.getLogger("greenroom")


class JsonlTrace:
    """Writes events to a file: ``with JsonlTrace("trace.jsonl") as trace: … System(on_event=trace)``.

    Args:
        path: the file; what is in it stays, and events are appended. A new one can be read by its owner alone (0600).
        contents: whether prompts, answers, arguments, results and messages of errors are written (default False); they
            may be confidential.
        deltas: whether pieces of answers are written, which are contents too (default False).

    Attributes:
        lost: events that could not be written.

    Raises:
        OSError: the file cannot be opened for writing.
        TypeError: an argument of the wrong type.
    """

    def __init__(self, path: str | os.PathLike[str], *, contents: bool = False, deltas: bool = False) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"JsonlTrace takes the path of a file, not {path!r}")
        self._contents = flag("contents", contents)
        self._deltas = flag("deltas", deltas)
        self._encoder = msgspec.json.Encoder(enc_hook=repr)
        self._lock = threading.Lock()
        self._logged = False
        self.path = os.fspath(path)
        self.lost = 0
        self._file = open(self.path, "ab", buffering=0, opener=_private)  # noqa: SIM115 - open until `close`
        self._torn = _is_torn(self.path)

    def __call__(self, event: events.Event) -> None:
        """Write an event. From any thread."""
        if not self._deltas and isinstance(event, events.DELTAS):
            return
        try:
            line = self._line(event)
            with self._lock:
                self._write(line)
        except Exception as error:  # a full disk, a trace that is closed, an event that is no JSON
            self._lose(error)

    def _line(self, event: events.Event) -> bytes:
        if self._contents:
            try:
                return self._encoder.encode(event)
            except Exception:
                pass  # a tool's progress may be anything; the rest of the event is worth having
        return self._encoder.encode(without_contents(event))

    def _write(self, line: bytes) -> None:
        data = b"\n" + line + b"\n" if self._torn else line + b"\n"
        written = self._file.write(data)
        self._torn = written != len(data)
        if self._torn:
            raise OSError(f"only {written} of {len(data)} bytes were written")

    def _lose(self, error: Exception) -> None:
        with self._lock:
            self.lost += 1
            logged, self._logged = self._logged, True
        if not logged:
            _log.error("trace %s: an event could not be written and is lost: %s", self.path, type(error).__name__)

    def close(self) -> None:
        """Close the file. Closing again is harmless; events that come later are lost."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JsonlTrace {self.path!r}{', closed' if self._file.closed else ''}>"


def read_trace(path: str | os.PathLike[str]) -> Generator[events.AnyEvent]:
    """The events of a trace, in the order in which they were written.

    A line that was torn, because its writer died or its disk was full, is left out; the log says how many were, but for
    the last one, which may be on its way.

    Raises:
        OSError: the file cannot be read.
        ValueError: a whole line is no event that this version knows; the message names file and line.
    """
    decoder: msgspec.json.Decoder[events.AnyEvent] = msgspec.json.Decoder(events.AnyEvent)
    torn: list[int] = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except msgspec.ValidationError as error:
                raise ValueError(f"{os.fspath(path)}:{number}: no event of this version: {error}") from None
            except msgspec.DecodeError:
                if line.endswith(b"\n"):
                    torn.append(number)
    if torn:
        _log.warning("trace %s: %d torn lines were left out, the first is line %d", path, len(torn), torn[0])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_torn(path: str) -> bool:
    """Whether the file ends in the middle of a line; False for what cannot be looked at, such as a pipe."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) == 0:
            return False
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False
