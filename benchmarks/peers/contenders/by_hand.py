"""The loop that somebody would write without a library for agents, over any way to send a request.

JSON is read and written with msgspec, a turn's tools run one after the other, nothing is retried, and no error is read.
What remains is the cost of the connection, which the floors differ in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from contender import Ask, Options, Said
from weather_tools import INSTRUCTIONS, TOOL_SCHEMAS, TOOLS

#: Sends a body to chat completions; the bytes of the answer.
Send = Callable[[bytes], Awaitable[bytes]]
#: The same, piece by piece as they arrive.
SendStreaming = Callable[[bytes], AsyncIterator[bytes]]


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str = ""


class Call(msgspec.Struct):
    id: str | None
    function: Function
    type: str = "function"


class Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[Call] | None = None
    role: str = "assistant"


class CallPiece(msgspec.Struct):
    index: int
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Piece(msgspec.Struct):
    content: str | None = None
    tool_calls: list[CallPiece] | None = None


class Choice(msgspec.Struct):
    message: Message = msgspec.field(default_factory=Message)
    delta: Piece = msgspec.field(default_factory=Piece)


class Answer(msgspec.Struct):
    choices: list[Choice]


encode, decode, arguments = msgspec.json.encode, msgspec.json.Decoder(Answer).decode, msgspec.json.decode


def asking(options: Options, send: Send, send_streaming: SendStreaming) -> Ask:
    """One run, from the prompt to the answer."""

    async def whole(body: bytes) -> tuple[Message, int]:
        return decode(await send(body)).choices[0].message, 0

    async def pieced(body: bytes) -> tuple[Message, int]:
        texts: list[str] = []
        calls: list[Call] = []
        async for event in _events(send_streaming(body)):
            for choice in decode(event).choices:
                if choice.delta.content:
                    texts.append(choice.delta.content)
                for call in choice.delta.tool_calls or ():
                    if call.index == len(calls):
                        calls.append(Call(call.id, call.function))
                    else:
                        calls[call.index].function.arguments += call.function.arguments
        return Message("".join(texts) or None, calls or None), len(texts)

    turn = pieced if options.stream else whole

    async def ask(prompt: str) -> Said:
        messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
        while True:
            request = {"model": "simulated", "messages": messages, "tools": TOOL_SCHEMAS}
            said, pieces = await turn(encode(request | {"stream": True} if options.stream else request))
            if not said.tool_calls:
                return Said(said.content or "", pieces)
            messages.append(said)
            for call in said.tool_calls:
                text = await TOOLS[call.function.name or ""](**arguments(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})

    return ask


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, up to `[DONE]`; then the rest is read, so that the connection stays good."""
    buffer = b""
    async for piece in pieces:
        *events, buffer = (buffer + piece).split(b"\n\n")
        for event in events:
            data = event.removeprefix(b"data: ")
            if data != b"[DONE]":
                yield data


def request_head(options: Options, length: int) -> bytes:
    """The head of a request, for who speaks HTTP by hand."""
    host, path = host_and_path(options)
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer none\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def host_and_path(options: Options) -> tuple[str, str]:
    """For example `("127.0.0.1:8000", "/v1/chat/completions")`."""
    host, _, prefix = options.base_url.removeprefix("http://").partition("/")
    return host, f"/{prefix}/chat/completions"
