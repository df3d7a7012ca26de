"""The frames of a journal: what one message of its stream holds, and how entries go into frames and come out. Pure.

A frame holds any number of entries of one run, none included: a claim and a release are frames without entries. What is
known about the run as a whole is in a header of each frame, so its last one tells it without any others.

An entry that is too large for a message goes into several frames. It is there when its last part is: a frame that does
not continue the one before it, such as that of another owner, makes what was unfinished void.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from ..journal import Listed, Owner

#: The header that says what a frame is.
HEADER = "Greenroom-Frame"
#: Bytes that a part of an entry needs beside itself, at most, and so does the list of parts.
_AROUND = 5

_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a frame says about itself and its run.

    Attributes:
        run: the run's id.
        frame: this frame's own name; no other has it.
        epoch: how often the run was created or claimed.
        length: the number of entries that end in this frame or before it.
        size: their bytes together.
        created: when the first entry was stored, in seconds since 1970.
        changed: when the last entry was stored, likewise.
        count: how many entries end in this frame.
        born: the sequence of the run's first frame in the stream; 0 in that one itself.
        final: whether the run's last entry is there.
        continues: whether the first part goes on where the frame before it ended.
        more: whether the last part is followed by another one.
        parent: the run that this one is part of.
        conversation: the conversation that it is part of.
        owner: who has claimed it.
    """

    run: str
    frame: str
    epoch: int
    length: int
    size: int
    created: float
    changed: float
    count: int = 0
    born: int = 0
    final: bool = False
    continues: bool = False
    more: bool = False
    parent: str | None = None
    conversation: str | None = None
    owner: Owner | None = None


class Frame(NamedTuple):
    """A frame in the stream."""

    sequence: int
    meta: Meta
    body: bytes

    @property
    def born(self) -> int:
        """The sequence of the run's first frame."""
        return self.meta.born or self.sequence


class Unreadable(Exception):
    """A frame that nobody has written; the text says what is wrong."""


def meta_text(meta: Meta) -> str:
    """As a header's value: JSON without anything that a header could not hold."""
    return _NOT_PLAIN.sub(_escaped, msgspec.json.encode(meta).decode())


def _escaped(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be")
    return "".join([f"\\u{units[each]:02x}{units[each + 1]:02x}" for each in range(0, len(units), 2)])


def read_meta(text: str | None) -> Meta:
    """The reverse.

    Raises:
        Unreadable: it is none.
    """
    if text is None:
        raise Unreadable("a message has no header that says what it is")
    try:
        return msgspec.json.decode(text, type=Meta)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"a header is not as it was written ({error})") from None


class Filling(NamedTuple):
    """What goes into one frame.

    Attributes:
        body: the frame's body.
        ended: how many entries end in it.
        size: their bytes together.
        continues, more: as in `Meta`.
    """

    body: bytes
    ended: int
    size: int
    continues: bool
    more: bool


def fillings(entries: Iterable[bytes], room: int) -> Iterator[Filling]:
    """Divide entries over as few frames as needed whose bodies have at most `room` bytes."""
    room -= _AROUND
    parts: list[bytes] = []
    count = size = used = 0
    continues = False
    for entry in entries:
        if used + len(entry) + _AROUND <= room:
            parts.append(entry)
            used += len(entry) + _AROUND
            count, size = count + 1, size + len(entry)
            continue
        if parts:
            yield _filling(parts, count, size, continues, False)
        parts, count, size, used, continues = [], 0, 0, 0, False
        begin, most = 0, room - _AROUND
        while len(entry) - begin > most:
            yield _filling([entry[begin : begin + most]], 0, 0, continues, True)
            begin, continues = begin + most, True
        rest = entry[begin:]
        parts, count, size, used = [rest], 1, len(entry), len(rest) + _AROUND
    if parts:
        yield _filling(parts, count, size, continues, False)


def _filling(parts: list[bytes], count: int, size: int, continues: bool, more: bool) -> Filling:
    return Filling(msgspec.msgpack.encode(parts), count, size, continues, more)


def following(before: Meta, filling: Filling, name: str, owner: Owner, now: float, *, ends: bool) -> Meta:
    """What the next frame says.

    Args:
        before: what the one before it said; of a run that begins, what the run is.
        filling: what is in it.
        name: its name.
        owner: whose run it is.
        now: seconds since 1970.
        ends: whether the run's last entry ends in it.
    """
    return msgspec.structs.replace(
        before,
        frame=name,
        length=before.length + filling.ended,
        size=before.size + filling.size,
        changed=max(before.created, now) if filling.ended else before.changed,
        count=filling.ended,
        final=ends,
        continues=filling.continues,
        more=filling.more,
        owner=None if ends else owner,
    )


def bare(last: Frame, name: str, epoch: int, owner: Owner | None) -> Meta:
    """What a frame without entries says behind the last one of a run: a claim, or that there is no owner any more."""
    return msgspec.structs.replace(
        last.meta, frame=name, epoch=epoch, born=last.born, count=0, continues=False, more=False, owner=owner
    )


def entries_of(frames: Iterable[Frame]) -> list[bytes]:
    """The entries that are in all frames of a run.

    Raises:
        Unreadable: they are not as they were written.
    """
    entries: list[bytes] = []
    unfinished: list[bytes] = []
    size = 0
    for frame in frames:
        meta = frame.meta
        if not meta.continues:
            unfinished.clear()
        elif not unfinished:
            raise Unreadable(f"the beginning of entry {len(entries)} is missing")
        for part in _parts(frame, len(entries)):
            unfinished.append(part)
            if len(entries) < meta.length:
                entries.append(unfinished[0] if len(unfinished) == 1 else b"".join(unfinished))
                size += len(entries[-1])
                unfinished.clear()
        if len(entries) != meta.length or size != meta.size or bool(unfinished) != meta.more:
            raise Unreadable(f"there are {len(entries)} entries of {size} bytes, not {meta.length} of {meta.size}")
    return entries


def _parts(frame: Frame, next: int) -> list[bytes]:
    if not frame.body:
        return []
    try:
        return msgspec.msgpack.decode(frame.body, type=list[bytes])
    except msgspec.MsgspecError as error:
        raise Unreadable(f"entry {next} is not as it was written ({error})") from None


def listed(frame: Frame) -> Listed:
    """What a run's last frame tells about it."""
    meta = frame.meta
    return Listed(
        meta.run,
        meta.epoch,
        meta.length,
        meta.size,
        meta.final,
        meta.parent,
        meta.conversation,
        meta.created,
        meta.changed,
        None if meta.final else meta.owner,
    )
