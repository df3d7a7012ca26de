"""The plan of a conversation, which a workload writes into a prompt and the simulated model follows.

A plan is one line of a user message::

    Please look it up.
    [[plan {"turns":[{"calls":[{"tool":"weather","arguments":{"city":"Tokyo"}}]}],"answer":"Sunny."}]]

The line begins with ``[[plan `` and ends with ``]]``; between them is the JSON of a `Plan`. Being in the
prompt, it needs no channel beside the conversation: any client, in any language, through any agent library,
can be driven by it, and a conversation replayed from its history goes on where it was.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_OPEN = "[[plan "
_CLOSE = "]]"
_LINE = re.compile(r"^\[\[plan (.*)$", re.MULTILINE)


class Call(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One tool call that the model makes.

    Args:
        tool: the tool's name; None takes the tool at the same position in the request's list. A name that the
            request does not offer is called all the same, as models do.
        arguments: an object, or None to make one up from the tool's JSON schema. A string is sent as it is,
            which lets a plan contain arguments that are not JSON.
    """

    tool: str | None = None
    arguments: dict[str, Any] | str | None = None


class Turn(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One reply that calls tools: one or more calls, made in parallel, and text beside them (default none).

    Raises:
        ValueError: there is no call; a reply without calls is the answer.
    """

    calls: tuple[Call, ...]
    text: str = ""

    def __post_init__(self) -> None:
        if not self.calls:
            raise ValueError("a turn makes at least one tool call; a reply without calls is the plan's answer")


class Plan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the simulated model does after a user message: its turns in order, then the answer.

    Args:
        turns: the replies that call tools; default none.
        answer: the final text, default ``"Done."``. ``{result}`` in it becomes the text of the last tool
            result.
        chunks: number of text pieces when the answer is streamed; default None, one piece for each word.
            Never more pieces than characters.

    Raises:
        ValueError: `chunks` is below 1, or `answer` is empty.
    """

    turns: tuple[Turn, ...] = ()
    answer: str = "Done."
    chunks: int | None = None

    def __post_init__(self) -> None:
        if self.chunks is not None and self.chunks < 1:
            raise ValueError(f"an answer is streamed in at least 1 chunk, not {self.chunks!r}")
        if not self.answer:
            raise ValueError("the answer of a plan must not be empty")

    def prompt(self, text: str = "") -> str:
        """The user message that carries this plan, with `text` for a human reader before it."""
        line = f"{_OPEN}{msgspec.json.encode(self).decode()}{_CLOSE}"
        return f"{text}\n{line}" if text else line


def find_plan(text: str) -> Plan | None:
    """The plan in a user message, or None.

    Raises:
        ValueError: there is a line that begins like a plan and is none.
    """
    if _OPEN not in text or (line := _LINE.search(text)) is None:
        return None
    inside = line[1].rstrip()
    if not inside.endswith(_CLOSE):
        raise ValueError(f"a plan ends with {_CLOSE!r} on its own line")
    try:
        return _decode(inside[: -len(_CLOSE)])
    except msgspec.DecodeError as error:
        raise ValueError(f"the plan cannot be read: {error}") from None


_decode = msgspec.json.Decoder(Plan).decode
