"""What is written down of a run: enough to start its machine again in the state it was in.

Each record is one fact that must not be asked for or done again: the input, a model's reply, the intent to run a
tool, a tool's outcome, the end. Records encode to MessagePack, tagged, with a format version in the first one; they
never hold code, and reading them never runs any.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

import msgspec

FORMAT = 1


class Began(msgspec.Struct, frozen=True, tag="began", omit_defaults=True):
    """The run's input: the messages before it, and its own. Both are `Message`s in builtin form.

    Of a run that goes on with calls that waited for an approval: `kept` are the results of their siblings, as
    `ToolResult`s in builtin form, and `answers` what somebody said, by call id.
    """

    run_id: str
    agent: str
    history: list[Any]
    prompt: list[Any]
    format: int = FORMAT
    kept: list[Any] | None = None
    answers: dict[str, bool | str] = {}


class Replied(msgspec.Struct, frozen=True, tag="replied", omit_defaults=True):
    """A model's reply (a `ModelReply` in builtin form), written before it is acted on."""

    reply: Any


class Answered(msgspec.Struct, frozen=True, tag="answered", omit_defaults=True):
    """What somebody said to a tool call that waited for an approval: True, False, or a text that says why not."""

    call_id: str
    answer: bool | str


class Intended(msgspec.Struct, frozen=True, tag="intended", omit_defaults=True):
    """A tool call that is about to run."""

    call_id: str


class Happened(msgspec.Struct, frozen=True, tag="happened", omit_defaults=True):
    """A tool call's outcome (a `ToolResult` in builtin form)."""

    result: Any


class Ended(msgspec.Struct, frozen=True, tag="ended", omit_defaults=True):
    """The end of the run."""

    status: str
    reason: str


class Sent(msgspec.Struct, frozen=True, tag="sent", omit_defaults=True):
    """A message (in builtin form) that somebody has sent into the run; not in the conversation yet."""

    message_id: str
    when: Literal["asap", "idle"]
    message: Any


class Delivered(msgspec.Struct, frozen=True, tag="delivered", omit_defaults=True):
    """What had been sent by then, and was due, is in the conversation."""


Record: TypeAlias = Began | Replied | Answered | Intended | Happened | Sent | Delivered | Ended

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class BadRecord(ValueError):
    """Bytes that are not a record of a format this version reads."""


def encode(record: Record) -> bytes:
    """The bytes of a record.

    A model or a user may send what MessagePack cannot hold: integers beyond 64 bits, half a surrogate pair, a subclass
    of ``str``. Such values are written as near to what they were as it can; a tool reads its arguments from their text.
    """
    try:
        return _encoder.encode(record)
    except (TypeError, OverflowError, UnicodeEncodeError):
        fields = {name: _writable(getattr(record, name)) for name in record.__struct_fields__}
        return _encoder.encode(type(record)(**fields))


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in cast("list[Any]", value)]
    return value


def decode(data: bytes) -> Record:
    """The record in these bytes.

    Raises:
        BadRecord: they are no record, or one of a newer format.
    """
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecord(f"not a journal record: {error}") from error
    if isinstance(record, Began) and record.format > FORMAT:
        raise BadRecord(f"the journal has format {record.format}, this version reads up to {FORMAT}: upgrade greenroom")
    return record
