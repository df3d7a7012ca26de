"""What goes to a process of tools and comes back: messages in MessagePack, each behind its length. Pure.

Both ends run the same greenroom, so this is no format for others. Arguments travel as the JSON that the model wrote,
results as what the model will be told; nothing is pickled.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..providers.messages import ToolResult

#: Bytes of the length in front of each message.
HEAD: Final = 4
#: Characters of what an error says that are sent.
LONGEST: Final = 1_000_000


class Request(msgspec.Struct, frozen=True, array_like=True):
    """Call a function.

    Attributes:
        module, name: its address.
        tool: what the model calls it.
        call_id: the id of the call.
        arguments: a JSON object; it has been checked.
        typed: whether the function's types say how to read it; else the values are as JSON has them.
        limit: characters that the result may have.
    """

    module: str
    name: str
    tool: str
    call_id: str
    arguments: bytes
    typed: bool
    limit: int


class Raised(msgspec.Struct, frozen=True, array_like=True):
    """What a function raised: the full names of its class and of those that it derives from, and the message."""

    kinds: tuple[str, ...]
    message: str


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What came of it. `alone`: the process has no children, so it is good for another call."""

    result: ToolResult | None
    raised: Raised | None
    alone: bool


_encoder = msgspec.msgpack.Encoder()
read_request = msgspec.msgpack.Decoder(Request).decode
read_reply = msgspec.msgpack.Decoder(Reply).decode


def frame(message: Any) -> bytes:
    """A message as it is sent."""
    data = _encoder.encode(message)
    return len(data).to_bytes(HEAD, "big") + data


def length(head: bytes | bytearray) -> int:
    """The number of bytes that follow these first ones."""
    return int.from_bytes(head, "big")
