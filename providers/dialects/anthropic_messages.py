"""A conversation as Anthropic's Messages API accepts it. Pure.

The API refuses a history for many reasons, and a refused history is a run that cannot go on. What is kept here:

- **Turns alternate.** What the user, the tools and the system said between two answers is one user message, the results
  of tools first. The first message is the user's, and none is empty: where nothing is left, a placeholder stands.
- **Each call has its one result in the next message.** A call without one gets an error that says so; a second result
  and a result that answers nothing are left out. Ids are made unique and of the letters allowed; those that the API
  minted are both already and stay as they are.
- **No text block is blank**, and an answer that the model shall go on with does not end in white space. Newer models
  take no such beginnings; they are asked to continue. A turn that the API has paused is sent back as it was.
- **Thinking goes back unchanged, in its place, or not at all**: only signed, only to the family that signed it, never
  from a message that was cut, and never as the last block. The same holds for the blocks of the provider's own tools;
  of these a call and its result go together or not at all, unless the call is still at work.

A system message inside the conversation stays a system message where the model knows that (it must follow a user
message and precede an answer). Elsewhere it is told in the user's message, between tags.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from ..messages import Message, Part, Refusal, ServerItem, Text, Thinking, ToolCall, ToolResult
from .anthropic_parts import result_blocks, text_block, user_block

_NO_TEXT = "(no message)"
_GO_ON = "Continue."
_NO_RESULT = "There is no result: the call was not run, or its outcome is unknown."
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_THOUGHTS = ("thinking", "redacted_thinking")
#: What the model itself says; a paused turn holds something of the provider's own tools besides.
_SAID = ("text", "tool_use", *_THOUGHTS)
#: In the stamp of a message that the API wants back to go on with.
PAUSED = "stop_reason"


def conversation(
    messages: Sequence[Message], *, family: str, prefill: bool, system_turns: bool
) -> tuple[list[str], list[dict[str, Any]]]:
    """The leading system texts, and the messages as they go on the wire.

    Args:
        messages: the history.
        family: whose items may be opened.
        prefill: whether the last message may be the beginning of an answer.
        system_turns: whether a system message may stand inside the conversation.

    Raises:
        ValueError: a message holds something that this format cannot carry.
    """
    start = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
    leading = [message.text for message in messages[:start] if message.text.strip()]
    writer = _Writer(family, system_turns)
    loose = _loose_items(messages, family)
    for index in range(start, len(messages)):
        writer.add(messages[index], loose.get(index, ()))
    return leading, writer.close(prefill=prefill)


def _loose_items(messages: Sequence[Message], family: str) -> dict[int, list[int]]:
    """The provider's own calls without a result, and results without a call: for a message, places of its parts.

    A call is still at work, and is none of them, while the API has paused the turn or waits for results of ours.
    """
    loose: dict[int, list[int]] = {}
    open_calls: dict[str, tuple[int, int]] = {}

    def end() -> None:
        for message, place in open_calls.values():
            loose.setdefault(message, []).append(place)
        open_calls.clear()

    for index, message in enumerate(messages):
        if message.role == "tool":
            continue
        if not _is_own(message, family):
            end()
            continue
        for place, part in enumerate(message.parts):
            if not isinstance(part, ServerItem):
                continue
            called, answers = _server_call(part), part.data.get("tool_use_id")
            if called is not None:
                if called in open_calls:
                    end()
                open_calls[called] = (index, place)
            elif isinstance(answers, str) and open_calls.pop(answers, None) is None:
                loose.setdefault(index, []).append(place)
        if not message.tool_calls and not _is_paused(message):
            end()
    return loose


def _server_call(item: ServerItem) -> str | None:
    identity = item.data.get("id")
    return identity if item.kind.endswith("tool_use") and isinstance(identity, str) else None


def _is_own(message: Message, family: str) -> bool:
    stamp = message.provider_data
    return stamp is not None and stamp.family == family and not message.partial


def _is_paused(message: Message) -> bool:
    items: Any = message.provider_data.items if message.provider_data is not None else None
    return isinstance(items, dict) and PAUSED in items


class _Writer:
    """Writes one conversation, message by message."""

    def __init__(self, family: str, system_turns: bool) -> None:
        self._family = family
        self._system_turns = system_turns
        self._written: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._open: list[tuple[ToolCall, str]] = []  # calls of the last answer, with their ids on the wire
        self._paused = False  # whether the last answer is to be gone on with
        # Since the last answer:
        self._results: dict[str, dict[str, Any]] = {}
        self._said: list[dict[str, Any]] = []
        self._ruled: list[str] = []
        self._asked = False

    def add(self, message: Message, loose: Sequence[int]) -> None:
        """Take the next message; of its parts those at the places `loose` are left out."""
        if message.role == "assistant":
            self._add_answer(message, loose)
        elif message.role == "system":
            text = message.text.strip()
            if text and self._system_turns:
                self._ruled.append(text)
            elif text:
                self._said.append(_tagged(text))
        else:
            self._asked = self._asked or message.role == "user"
            for part in message.parts:
                if isinstance(part, ToolResult):
                    self._add_result(part)
                elif (block := user_block(part)) is not None:
                    self._said.append(block)

    def close(self, *, prefill: bool) -> list[dict[str, Any]]:
        """All messages."""
        self._end_user_turn()
        if not self._written:
            self._write("user", [text_block(_NO_TEXT)])
        elif self._written[-1]["role"] == "assistant":
            blocks: list[dict[str, Any]] = self._written[-1]["content"]
            is_text = blocks[-1]["type"] == "text"
            if not self._paused and not (prefill and is_text):
                self._write("user", [text_block(_GO_ON)])
            elif is_text:
                blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}
        return self._written

    def _add_answer(self, message: Message, loose: Sequence[int]) -> None:
        own = _is_own(message, self._family)
        blocks: list[dict[str, Any]] = []
        calls: list[tuple[ToolCall, str]] = []
        for place, part in enumerate(message.parts):
            if place in loose:
                continue
            if isinstance(part, ToolCall):
                # A cut answer's calls are never run, so they have no results.
                if not message.partial:
                    identity = self._identity(part, len(calls))
                    calls.append((part, identity))
                    blocks.append(_call_block(part, identity, own=own))
            elif (block := _answer_block(part, own=own)) is not None:
                blocks.append(block)
        while blocks and blocks[-1]["type"] in _THOUGHTS:
            blocks.pop()
        if not blocks:
            return
        self._end_user_turn()
        if not self._written:
            self._write("user", [text_block(_NO_TEXT)])
        self._write("assistant", blocks)
        self._open = calls
        turn: list[dict[str, Any]] = self._written[-1]["content"]
        self._paused = own and _is_paused(message) and any(block["type"] not in _SAID for block in turn)

    def _identity(self, call: ToolCall, index: int) -> str:
        """An id that is the call's own, if it can be, and unlike all others of the conversation."""
        wanted = _NOT_IN_ID.sub("_", call.id) if call.id else f"call_{index}"
        identity, number = wanted, 1
        while identity in self._ids:
            number += 1
            identity = f"{wanted}-{number}"
        self._ids.add(identity)
        return identity

    def _add_result(self, result: ToolResult) -> None:
        """Put a result to its call: that of its id, or else one without an id, which its caller may have named."""
        left = [(call, wire, at) for at, (call, wire) in enumerate(self._open) if wire not in self._results]
        nameless = [(f"call_{at}", wire) for call, wire, at in left if not call.id]
        found = [wire for call, wire, _ in left if call.id == result.call_id]
        found += [wire for usual, wire in nameless if usual == result.call_id]
        if not any(call.id == result.call_id for call, _ in self._open):
            found += [wire for _, wire in nameless]
        if found:
            content = result.content if result.is_error or not result.parts else result_blocks(result.parts)
            self._results[found[0]] = _result_block(found[0], content, is_error=result.is_error)

    def _end_user_turn(self) -> None:
        blocks = [
            self._results.get(wire) or _result_block(wire, _NO_RESULT, is_error=True) for _, wire in self._open
        ] + self._said
        if self._asked and not blocks:
            blocks.append(text_block(_NO_TEXT))
        if self._ruled and not blocks:
            # A system message cannot follow an answer.
            blocks += [_tagged(text) for text in self._ruled]
            self._ruled = []
        if blocks:
            self._write("user", blocks)
        if self._ruled:
            self._written.append({"role": "system", "content": "\n\n".join(self._ruled)})
        self._open, self._results, self._said, self._ruled, self._asked = [], {}, [], [], False

    def _write(self, role: str, blocks: list[dict[str, Any]]) -> None:
        if self._written and self._written[-1]["role"] == role:
            self._written[-1]["content"] += blocks
        else:
            self._written.append({"role": role, "content": blocks})


def _answer_block(part: Part, *, own: bool) -> dict[str, Any] | None:
    match part:
        case Text():
            kept = dict(part.details) if own and part.details else {}
            return {**kept, **text_block(part.text)} if part.text.strip() else None
        case Refusal():
            return text_block(part.text) if part.text.strip() else None
        case Thinking():
            if not own or not part.signature:
                return None
            thought = {"type": "thinking", "thinking": part.text, "signature": part.signature}
            return {**(part.details or {}), **thought}
        case ServerItem():
            return part.data if own else None
        case _:
            return None  # pictures that another provider's model made: no answer can hold them here


def _tagged(text: str) -> dict[str, Any]:
    return text_block(f"<system>\n{text}\n</system>")


def _call_block(call: ToolCall, identity: str, *, own: bool) -> dict[str, Any]:
    kept = dict(call.details) if own and call.details else {}
    # Arguments that are no JSON object are shown to the model as what they were.
    arguments = call.arguments if call.arguments is not None else {"invalid_arguments": call.raw}
    name = _NOT_IN_ID.sub("_", call.name)[:128] or "unknown"
    return {**kept, "type": "tool_use", "id": identity, "name": name, "input": arguments}


def _result_block(identity: str, content: str | list[dict[str, Any]], *, is_error: bool) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": identity}
    if is_error:
        # The API refuses an error that says nothing, and one that says it otherwise than in text.
        text = content if isinstance(content, str) and content.strip() else "error"
        return {**block, "content": text, "is_error": True}
    return {**block, "content": content} if content else block


def container_of(messages: Sequence[Message], family: str) -> str | None:
    """The container in which code of the provider waits for the results of the last answer's calls."""
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    if last is None or last.provider_data is None or not _is_own(last, family):
        return None
    callers = [call.details.get("caller") for call in last.tool_calls if call.details]
    waits = any(isinstance(who, dict) and cast("dict[str, Any]", who).get("type") != "direct" for who in callers)
    items: Any = last.provider_data.items
    held: Any = cast("dict[str, Any]", items).get("container") if waits and isinstance(items, dict) else None
    identity: Any = cast("dict[str, Any]", held).get("id") if isinstance(held, dict) else None
    return identity if isinstance(identity, str) else None


def begins_without_thought(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether the answer that the model shall go on with calls tools and does not begin with a thought."""
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    if last is None or not any(block["type"] == "tool_use" for block in last["content"]):
        return False
    return last["content"][0]["type"] not in _THOUGHTS
