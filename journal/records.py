"""What is written down of a run: enough to start its machine again in the state it was in, and to tell its story.

Each record is one fact that must not be asked for or done again: the input, a model's reply, the intent to run a tool,
a tool's outcome, the end. Facts that belong together are one *entry*, which is stored whole or not at all: a reply,
what was said to it at once, and the intents that it implies.

Entries encode to MessagePack, records tagged by name, with a format version in the first one; they never hold code, and
reading them never runs any. `at` is always the moment of writing, in seconds since the epoch.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

import msgspec

FORMAT = 1


class Began(msgspec.Struct, frozen=True, tag="began", omit_defaults=True):
    """The run's input: the messages before it, and its own, as `Message`s; and what it was started with.

    `fingerprint` tells what the agent was like, to find out what has changed. `call_id` is the tool call of `parent_id`
    that the run works for. `guarded` says that it was started with a policy of its own, which must not be missing
    later. Of a run that goes on with calls that waited for an approval: `kept` are the results of their siblings, as
    `ToolResult`s, and `answers` what somebody said, by call id.
    """

    run_id: str
    agent: str
    history: list[Any]
    prompt: list[Any]
    at: float = 0.0
    format: int = FORMAT
    kept: list[Any] | None = None
    answers: dict[str, bool | str] = {}
    fingerprint: Any = None
    user_id: str | None = None
    conversation_id: str | None = None
    parent_id: str | None = None
    call_id: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    limits: Any = None
    guarded: bool = False


class Started(msgspec.Struct, frozen=True, tag="started", omit_defaults=True):
    """The run begins to work, having waited for its turn; written where its time is limited."""

    at: float = 0.0


class Replied(msgspec.Struct, frozen=True, tag="replied", omit_defaults=True):
    """A model's reply (a `ModelReply`), written before it is acted on, and its cost in US dollars if that is known.

    `spent` is what it counts for against limits, in a tree of runs that has any beside its turns (an `Amount`); here,
    and in the records below.
    """

    reply: Any
    at: float = 0.0
    cost: float | None = None
    spent: Any = None


class Said(msgspec.Struct, frozen=True, tag="said", omit_defaults=True):
    """A message that the run itself has put into the conversation.

    It tells the model what is wrong with its answer; or it is what had been received of a reply that was cut. With a
    `why`, it reminds the model between two turns: ``replan`` or ``stuck``.
    """

    message: Any
    at: float = 0.0
    why: str | None = None


class Retrying(msgspec.Struct, frozen=True, tag="retrying", omit_defaults=True):
    """A try of a model call has failed; the next one is due at `until`. `usage` and `cost` are of the failed one."""

    attempt: int
    until: float
    at: float = 0.0
    usage: Any = None
    cost: float | None = None
    spent: Any = None


class Spent(msgspec.Struct, frozen=True, tag="spent", omit_defaults=True):
    """What a model call has used and cost that came to nothing: it was cut, or failed for good. None: nobody knows."""

    at: float = 0.0
    usage: Any = None
    cost: float | None = None
    spent: Any = None


class Summarised(msgspec.Struct, frozen=True, tag="summarised", omit_defaults=True):
    """The first `count` messages of the conversation are sent as this text; what it has used (a `Usage`) and cost."""

    count: int
    text: str
    at: float = 0.0
    usage: Any = None
    cost: float | None = 0.0
    spent: Any = None


class Asked(msgspec.Struct, frozen=True, tag="asked", omit_defaults=True):
    """Somebody is asked whether a tool call may run, until the moment `until` (None: for ever)."""

    call_id: str
    until: float | None = None
    at: float = 0.0


class Answered(msgspec.Struct, frozen=True, tag="answered", omit_defaults=True):
    """What somebody said to a tool call that waited for an approval: True, False, or a text that says why not."""

    call_id: str
    answer: bool | str
    at: float = 0.0


class Intended(msgspec.Struct, frozen=True, tag="intended", omit_defaults=True):
    """A tool call that is about to run."""

    call_id: str
    at: float = 0.0


class HandedOver(msgspec.Struct, frozen=True, tag="handed_over", omit_defaults=True):
    """The run goes on with this agent, in the same conversation; `fingerprint` is what that one is like (or None)."""

    agent: str
    at: float = 0.0
    fingerprint: Any = None


class Spawned(msgspec.Struct, frozen=True, tag="spawned", omit_defaults=True):
    """A tool call has begun a run of this agent in the background; `orphan` says what becomes of it after this run.

    `place` is where the call stands: its turn, and its place among the calls of that.
    """

    run_id: str
    agent: str
    orphan: str = "stop"
    at: float = 0.0
    place: str = ""


class Returned(msgspec.Struct, frozen=True, tag="returned", omit_defaults=True):
    """A run in the background has ended, or works for another from now on: what it has used, as of `Happened`."""

    run_id: str
    at: float = 0.0
    usage: Any = None
    cost: float | None = 0.0
    spent: Any = None


class Slept(msgspec.Struct, frozen=True, tag="slept", omit_defaults=True):
    """A tool call sleeps, for the `number`-th time, until a moment."""

    call_id: str
    number: int
    until: float
    at: float = 0.0


class Questioned(msgspec.Struct, frozen=True, tag="questioned", omit_defaults=True):
    """A tool call asks the user something, as its `number`-th question, until the moment `until` (None: for ever)."""

    call_id: str
    number: int
    question: str
    until: float | None = None
    at: float = 0.0


class AnsweredQuestion(msgspec.Struct, frozen=True, tag="answered_question", omit_defaults=True):
    """What the user has answered to the `number`-th question of a tool call."""

    call_id: str
    number: int
    text: str
    at: float = 0.0


class Happened(msgspec.Struct, frozen=True, tag="happened", omit_defaults=True):
    """A tool call's outcome (a `ToolResult`), and what its subagents have used (a `Usage`) and cost (US dollars).

    `spent` is what they count for against the limits of the run, where it has any beside its turns (an `Amount`).
    """

    result: Any
    at: float = 0.0
    usage: Any = None
    cost: float | None = 0.0
    spent: Any = None


class Checking(msgspec.Struct, frozen=True, tag="checking", omit_defaults=True):
    """The answer that was given last is about to be checked by the agent's validators."""

    at: float = 0.0


class Checked(msgspec.Struct, frozen=True, tag="checked", omit_defaults=True):
    """The answer has passed. What the validators have made of it is `output`, as JSON; None where that has no JSON
    form, or where they have left it as it was (`changed` tells).
    """

    changed: bool = False
    output: str | None = None
    at: float = 0.0


class Sent(msgspec.Struct, frozen=True, tag="sent", omit_defaults=True):
    """A message that somebody has sent into the run; not in the conversation yet."""

    message_id: str
    when: Literal["asap", "idle"]
    message: Any
    at: float = 0.0


class Delivered(msgspec.Struct, frozen=True, tag="delivered", omit_defaults=True):
    """The messages with these ids are in the conversation."""

    message_ids: list[str] = []
    at: float = 0.0


class Stopping(msgspec.Struct, frozen=True, tag="stopping", omit_defaults=True):
    """Somebody wants the run to end; or a limit does: its name, how much was used of it, and how much was allowed."""

    mode: str
    reason: str
    at: float = 0.0
    limit: tuple[str, float, float] | None = None


class Held(msgspec.Struct, frozen=True, tag="held", omit_defaults=True):
    """Somebody wants the run to pause, or to go on."""

    paused: bool
    at: float = 0.0


class Suspended(msgspec.Struct, frozen=True, tag="suspended", omit_defaults=True):
    """The run's process ends in order: the run is to go on in another."""

    at: float = 0.0


class Resumed(msgspec.Struct, frozen=True, tag="resumed", omit_defaults=True):
    """The run goes on in another process.

    `suspect`: the one before died, perhaps of a tool of this run that was at work. `asking`: it may have died while the
    model was asked, and nobody knows what that has cost.
    """

    suspect: bool = False
    asking: bool = False
    changes: list[str] = []
    at: float = 0.0


class Parked(msgspec.Struct, frozen=True, tag="parked", omit_defaults=True):
    """The run is not gone on with unless somebody asks for it."""

    reason: str
    at: float = 0.0


class Ended(msgspec.Struct, frozen=True, tag="ended", omit_defaults=True):
    """The end of the run."""

    status: str
    reason: str
    at: float = 0.0
    error: str | None = None


Record: TypeAlias = (
    Began
    | Started
    | Replied
    | Said
    | Retrying
    | Spent
    | Summarised
    | Asked
    | Answered
    | Intended
    | HandedOver
    | Spawned
    | Returned
    | Slept
    | Questioned
    | AnsweredQuestion
    | Happened
    | Checking
    | Checked
    | Sent
    | Delivered
    | Stopping
    | Held
    | Suspended
    | Resumed
    | Parked
    | Ended
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


class BadRecord(ValueError):
    """Bytes that are not an entry of a format this version reads."""


def encode(*records: Record) -> bytes:
    """The bytes of one entry.

    A model or a user may send what MessagePack cannot hold: integers beyond 64 bits, half a surrogate pair, a subclass
    of ``str``, in metadata objects of any kind. Such values are written as near to what they were as it can; a tool
    reads its arguments from their text.
    """
    try:
        return _encoder.encode(records)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError):
        return _encoder.encode([_tame(record) for record in records])


#: Levels of nesting below which nothing is written: what holds itself has no end.
_DEEP = 100


def _tame(record: Record) -> Record:
    fields = {name: _writable(getattr(record, name), 0) for name in record.__struct_fields__}
    return type(record)(**fields)


def _writable(value: Any, depth: int) -> Any:
    below = depth + 1
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if value is None or isinstance(value, int | float | bytes):
        return value
    if depth < _DEEP:
        if isinstance(value, msgspec.Struct):
            tag = value.__struct_config__.tag
            named = {name: _writable(getattr(value, name), below) for name in value.__struct_fields__}
            return {value.__struct_config__.tag_field: tag, **named} if tag is not None else named
        if isinstance(value, dict):
            items = cast("dict[Any, Any]", value).items()
            return {_writable_key(key): _writable(item, below) for key, item in items}
        if isinstance(value, list | tuple):
            return [_writable(item, below) for item in cast("list[Any]", value)]
        try:
            return _writable(msgspec.to_builtins(value), below)
        except (TypeError, RecursionError):
            pass
    return f"<{type(value).__name__}>"  # it may hold anything, and is not shown


def _writable_key(key: Any) -> Any:
    return _writable(key, 0) if isinstance(key, str | int | float) else f"<{type(key).__name__}>"


def decode(entry: bytes) -> list[Record]:
    """The records in these bytes.

    Raises:
        BadRecord: they are no entry, or one of a newer format.
    """
    try:
        records = _decoder.decode(entry)
    except (msgspec.DecodeError, RecursionError) as error:
        newer = _newer(entry)
        if newer is not None:
            raise newer from None
        raise BadRecord(f"not a journal entry: {error}") from error
    for record in records:
        if isinstance(record, Began) and record.format > FORMAT:
            raise _of_format(record.format)
    return records


def _newer(entry: bytes) -> BadRecord | None:
    """The error for an entry that a later version has written, in whatever shape, so long as it says so."""
    try:
        first = msgspec.msgpack.decode(entry)[0]
        format = int(first["format"]) if first["type"] == "began" else FORMAT
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, ValueError):
        return None
    return _of_format(format) if format > FORMAT else None


def _of_format(format: int) -> BadRecord:
    return BadRecord(f"the journal has format {format}, this version reads up to {FORMAT}: upgrade greenroom")
