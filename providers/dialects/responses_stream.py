"""A streamed Responses answer, event by event. Pure.

Every event names its type in its JSON. Items are opened by ``response.output_item.added``, filled by deltas, settled by
``….done`` events, and told whole by ``response.output_item.done``; ``response.completed`` tells the whole answer once
more. What this decoder copes with:

- **Only a terminal event makes an answer whole**: ``response.completed`` or ``response.incomplete``. Its body is what
  counts; where its ``output`` is empty (a server that stores nothing sends it so), the items of the stream are taken.
- **Missing events**: a server may send whole items without deltas, deltas without whole items, or no
  ``output_item.added``. What was not shown when an item or the answer is told whole is shown then; nothing is shown
  twice.
- **Items by index**: deltas of several items may alternate. An event without an ``output_index`` belongs to the item
  whose id it names, else to the last one.
- **Failures** come as ``response.failed`` or as an ``error`` event, flat or nested.
- Types that are not known here are passed over.

The hot path is an event with a little text: one typed decode, one list append, one event.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import BadResponse, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message
from ..openai_messages import UNDECODABLE
from ..vocabulary import (
    ModelEvent,
    ModelReply,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    events_of,
)
from .responses_items import Item, Stamp, as_item, failure, items_of, kind_of_item, message_of, partial_of, reply_of
from .wire_errors import error_object, excerpt


class Event(msgspec.Struct):
    """One event; which keys it has depends on its type."""

    type: Any = None
    delta: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    item_id: Any = None
    item: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    response: Any = None


decode_event = msgspec.json.Decoder(Event).decode

_TEXT, _REFUSAL, _SUMMARY, _REASONING, _ARGUMENTS = "output_text", "refusal", "summary_text", "reasoning_text", "call"


class _OpenItem:
    """An item that is being gathered: its pieces by what they are and where in it they belong."""

    __slots__ = ("call", "item", "named", "pieces", "thought", "whole")

    def __init__(self) -> None:
        self.item: Item = {}
        self.whole: Item | None = None
        self.pieces: dict[tuple[str, int], list[str]] = {}
        self.call: int | None = None  # the number of a function call among the calls of the answer
        self.named = False  # whether its name was shown
        self.thought: str | None = None  # which of its reasoning is shown: the summary or the reasoning itself

    def gathered(self) -> Item:
        """The item as far as it has come."""
        if self.whole is not None:
            return self.whole
        kinds = {kind for kind, _ in self.pieces}
        # What is encrypted when an item opens is not yet all of it.
        item = {key: value for key, value in self.item.items() if key != "encrypted_content"}
        if _ARGUMENTS in kinds:
            return {"type": "function_call", **item, "arguments": self.text(_ARGUMENTS, 0)}
        if kinds & {_SUMMARY, _REASONING}:
            told = {"summary": self._listed(_SUMMARY), "content": self._listed(_REASONING)}
            return {"type": "reasoning", **item, **told}
        return {"type": "message", **item, "content": self._listed(_TEXT, _REFUSAL)} if kinds else item

    def _listed(self, *kinds: str) -> list[Item]:
        places = sorted((place, kind) for kind, place in self.pieces if kind in kinds)
        return [
            {"type": kind, "refusal" if kind == _REFUSAL else "text": self.text(kind, place)} for place, kind in places
        ]

    def text(self, kind: str, place: int) -> str:
        """What has been gathered there."""
        return "".join(self.pieces.get((kind, place), ()))


class ResponsesStreamDecoder:
    """Decodes one streamed answer; see the module's text for what it copes with."""

    def __init__(self, stamp: Stamp) -> None:
        self.done = False
        self._stamp = stamp
        self._items: dict[int, _OpenItem] = {}
        self._last = 0
        self._calls: list[_OpenItem] = []
        self._begun: Item = {}
        self._reply: ModelReply | None = None

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        data = event.data
        if self.done or not data:
            return []
        try:
            said = decode_event(data)
        except UNDECODABLE as error:
            return self._undecodable(event, str(error))
        events: list[ModelEvent] = []
        match said.type or event.event:
            case "response.output_text.delta":
                self._add(_TEXT, said, said.content_index, events)
            case "response.function_call_arguments.delta":
                self._add(_ARGUMENTS, said, 0, events)
            case "response.reasoning_summary_text.delta":
                self._add(_SUMMARY, said, said.summary_index, events)
            case "response.reasoning_text.delta":
                self._add(_REASONING, said, said.content_index, events)
            case "response.refusal.delta":
                self._add(_REFUSAL, said, said.content_index, events)
            case "response.output_item.added":
                self._open(said, events)
            case "response.output_item.done":
                self._close(said, events)
            case "response.output_text.done":
                self._settle(self._item(said), _TEXT, said.content_index, said.text, events)
            case "response.function_call_arguments.done":
                self._settle(self._item(said), _ARGUMENTS, 0, said.arguments, events)
            case "response.reasoning_summary_text.done":
                self._settle(self._item(said), _SUMMARY, said.summary_index, said.text, events)
            case "response.reasoning_text.done":
                self._settle(self._item(said), _REASONING, said.content_index, said.text, events)
            case "response.refusal.done":
                self._settle(self._item(said), _REFUSAL, said.content_index, said.refusal, events)
            case "response.created":
                begun = as_item(said.response)
                self._begun = {"id": begun.get("id"), "model": begun.get("model")}
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" as kind:
                self._end(str(kind).removeprefix("response."), said.response, events)
            case "error" | "message":
                self._fail(event)
            case _:
                pass
        return events

    def _undecodable(self, event: WireEvent, why: str) -> list[ModelEvent]:
        if event.data.strip() == b"[DONE]":
            self.done = True  # some servers say so behind the terminal event; without that one the answer is not whole
            return []
        if event.event not in ("message", "error") and not event.event.startswith("response."):
            return []  # an event type of the server's own
        raise BadResponse(
            f"an event of the stream is not a Responses event ({why}): {excerpt(event.data)}", partial=self.partial()
        )

    def _item(self, said: Event) -> _OpenItem:
        index = said.output_index
        if type(index) is not int:
            named = (key for key, held in self._items.items() if held.item.get("id") == said.item_id is not None)
            index = next(named, self._last)
        found = self._items.get(index)
        if found is None:
            found = self._items[index] = _OpenItem()
        self._last = index
        return found

    def _add(self, kind: str, said: Event, place: Any, events: list[ModelEvent]) -> None:
        delta = said.delta
        if isinstance(delta, str) and delta:
            self._show(self._item(said), kind, place if type(place) is int else 0, delta, events)

    def _show(self, item: _OpenItem, kind: str, place: int, text: str, events: list[ModelEvent]) -> None:
        """Gather text and show it."""
        pieces = item.pieces.get((kind, place))
        begun = pieces is None
        if pieces is None:
            pieces = item.pieces[kind, place] = []
        pieces.append(text)
        if kind == _TEXT:
            events.append(TextDelta(text))
        elif kind == _ARGUMENTS:
            events.append(ToolCallDelta(self._number(item, events), text))
        elif kind == _REFUSAL:
            events.append(RefusalDelta(text))
        elif item.thought in (None, kind):
            joint = "\n\n" if begun and item.thought is not None else ""
            item.thought = kind
            events.append(ThinkingDelta(joint + text))

    def _number(self, item: _OpenItem, events: list[ModelEvent]) -> int:
        """The number of a function call among the calls of the answer. Its name is shown once it is known."""
        if item.call is None:
            item.call = len(self._calls)
            self._calls.append(item)
        identity, name = item.item.get("call_id"), item.item.get("name")
        if not item.named and isinstance(name, str):
            item.named = True
            events.append(ToolCallDelta(item.call, "", identity if isinstance(identity, str) else None, name))
        return item.call

    def _settle(self, item: _OpenItem, kind: str, place: Any, text: Any, events: list[ModelEvent]) -> None:
        """A piece is told whole: show what of it was not shown."""
        if not isinstance(text, str):
            return
        place = place if type(place) is int else 0
        before = item.text(kind, place)
        if text != before and text.startswith(before):
            self._show(item, kind, place, text[len(before) :], events)
        elif text != before:
            item.pieces[kind, place] = [text]

    def _open(self, said: Event, events: list[ModelEvent]) -> None:
        told = as_item(said.item)
        if told:
            item = self._item(said)
            item.item = told
            if kind_of_item(told) == "function_call":
                self._number(item, events)

    def _close(self, said: Event, events: list[ModelEvent]) -> None:
        told = as_item(said.item)
        if not told:
            return
        item = self._item(said)
        item.item = told
        match kind_of_item(told):
            case "message":
                for place, piece in enumerate(items_of(told.get("content"))):
                    self._settle(item, _TEXT, place, piece.get("text"), events)
                    self._settle(item, _REFUSAL, place, piece.get("refusal"), events)
            case "reasoning":
                for kind, key in ((_SUMMARY, "summary"), (_REASONING, "content")):
                    for place, piece in enumerate(items_of(told.get(key))):
                        self._settle(item, kind, place, piece.get("text"), events)
            case "function_call":
                self._number(item, events)
                self._settle(item, _ARGUMENTS, 0, told.get("arguments"), events)
            case _:
                pass
        item.whole = told

    def _end(self, status: str, response: Any, events: list[ModelEvent]) -> None:
        """The terminal event. What it tells and was never shown is shown now, if it goes on from what was."""
        body = as_item(response)
        body = {**self._begun, **body, "status": body.get("status") or status}
        reply = reply_of(body, items_of(body.get("output")) or self._gathered(), self._stamp)
        shown = message_of(self._gathered(), self._stamp)
        for kind, before, now in (
            (ThinkingDelta, shown.thinking, reply.message.thinking),
            (TextDelta, shown.text, reply.message.text),
            (RefusalDelta, shown.refusal, reply.message.refusal),
        ):
            if now and now.startswith(before or "") and now != before:
                events.append(kind(now[len(before or "") :]))
        late = [event for event in events_of(reply) if isinstance(event, ToolCallDelta)]
        for number, (item, event) in enumerate(zip(self._calls, late, strict=False)):
            raw = item.text(_ARGUMENTS, 0)
            if event.arguments != raw and event.arguments.startswith(raw):
                late[number] = ToolCallDelta(number, event.arguments[len(raw) :])
                events.append(late[number])
        events += late[len(self._calls) :]
        self._reply = reply
        self.done = True

    def _fail(self, event: WireEvent) -> None:
        """An error event, or one without a type."""
        error = error_object(msgspec.json.decode(event.data))
        if error is None:
            raise BadResponse(
                f"an event of the stream is not a Responses event: {excerpt(event.data)}", partial=self.partial()
            )
        raise failure({key: value for key, value in error.items() if (key, value) != ("type", "error")}, self.partial())

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        if self._reply is None:
            raise StreamInterrupted(
                "the stream ended without a terminal event" if self.done or clean else "the stream was cut",
                partial=self.partial(),
            )
        return self._reply

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run.

        A call is in it once it was told whole.
        """
        items = [self._items[index] for index in sorted(self._items)]
        return partial_of([item.gathered() for item in items if item.call is None or item.whole is not None])

    def _gathered(self) -> list[Item]:
        return [self._items[index].gathered() for index in sorted(self._items)]
