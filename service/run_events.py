"""The events of a run as pieces of an answer: server-sent events, or lines of JSON.

The id of a server-sent event is ``era.seq``: the event's sequence number, behind a word for this process, because a run
that goes on in another process counts anew. Who comes back with an id of another era gets all that is kept. The end of
a run that only the journal knows has the id ``era.end``: who has that one is told that nothing more will come.
"""

from __future__ import annotations

from typing import Any

from ..agents import Chronicle
from ..agents.events import Event, RunCompleted, RunFailed, RunLimited, RunStopped, RunWaiting
from ..agents.readers import EventReader, ReaderDetached
from ..agents.run import Run
from .event_stream import SSE
from .problems import Problem
from .written import written

#: Events, and bytes, that go into one piece where several wait.
PIECE_EVENTS = 64
PIECE_BYTES = 65_536
#: What stands for the number, in the id of an end that the journal tells.
END = "end"


def sse_frame(data: bytes, event: str | None = None, id: str | None = None) -> bytes:
    """One server-sent event. `data` has no line breaks, as JSON has none."""
    head = (f"id: {id}\n" if id is not None else "") + (f"event: {event}\n" if event is not None else "")
    return b"%sdata: %s\n\n" % (head.encode(), data)


def ndjson_line(data: bytes) -> bytes:
    """One line."""
    return data + b"\n"


class RunEvents:
    """The events of one run, from one place on.

    Args:
        run: the run.
        since: the sequence number behind which it begins.
        form: the media type.
        era: the word for this process.
        deltas: whether answers are followed as they grow.
    """

    __slots__ = ("_deltas", "_era", "_form", "_reader", "_run")

    def __init__(self, run: Run[Any], since: int, form: str, era: str, *, deltas: bool = True) -> None:
        self._run = run
        self._deltas = deltas
        self._form = form
        self._era = era
        self._reader: EventReader = run.events(since, deltas=deltas)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and there is nothing to come."""
        return self._run.status != "running" and self._reader.waiting == 0

    async def next_piece(self) -> bytes | None:
        """The next events, as many as wait; None after the last one."""
        try:
            frames = [self._frame(await anext(self._reader))]
        except ReaderDetached as error:
            # What is gone meanwhile is announced by the reader that comes next.
            self._reader = self._run.events(error.since, deltas=self._deltas)
            return b""
        except StopAsyncIteration:
            return None
        except Exception:
            return None  # what the run raises its last event has told
        size = len(frames[0])
        while self._reader.waiting and len(frames) < PIECE_EVENTS and size < PIECE_BYTES:
            frames.append(self._frame(await anext(self._reader)))
            size += len(frames[-1])
        return b"".join(frames)

    def _frame(self, event: Event) -> bytes:
        return frame(event, self._form, self._era)


def frame(event: Event, form: str, era: str, place: int | str | None = None) -> bytes:
    """One event. `place` stands for its number in its id."""
    data = written(event)
    return sse_frame(data, event.type, f"{era}.{place or event.seq}") if form == SSE else ndjson_line(data)


def end_of(chronicle: Chronicle) -> Event | None:
    """The last event of a run, made of what the journal has written of its end; None of one that has not ended."""
    ended = chronicle.ended
    if ended is None:
        return None
    common: dict[str, Any] = {
        "seq": 1,
        "time": ended.at,
        "run_id": chronicle.run_id,
        "path": (chronicle.run_id,),
        "turn": chronicle.turns,
        "user_id": chronicle.began.user_id,
        "conversation_id": chronicle.began.conversation_id,
        "agent": chronicle.agent,
        "reason": ended.reason,
        "usage": chronicle.usage,
    }
    match ended.status:
        case "completed":
            text = next((each.text for each in reversed(chronicle.messages) if each.role == "assistant"), "")
            return RunCompleted(**common, text=text)
        case "limited":
            return RunLimited(**common)
        case "waiting":
            return RunWaiting(**common)
        case "failed":
            return RunFailed(**common, error=ended.error or "")
        case _:
            return RunStopped(**common)


def knows_end(last_event_id: str | None, since: str | None) -> bool:
    """Whether a client has been told the end of a run that only the journal knows."""
    return ((since if since is not None else last_event_id) or "").rpartition(".")[2] == END


def read_since(last_event_id: str | None, since: str | None, era: str) -> int:
    """The sequence number behind which a client wants to go on; 0 for all that is kept.

    Raises:
        Problem: `since` is no such number.
    """
    name, said = ("since", since) if since is not None else ("Last-Event-ID", last_event_id)
    if said is None or said == "" or knows_end(last_event_id, since):
        return 0
    then, _, number = said.rpartition(".")
    if not (number.isascii() and number.isdecimal() and len(number) < 17):
        if name == "since":
            raise Problem(422, "invalid_request", "since= is the sequence number of an event, or its id", name)
        return 0  # an id of somebody else's; a browser would repeat it for ever
    return int(number) if then in ("", era) else 0
