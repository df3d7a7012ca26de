"""Ollama's own wire format, ``/api/chat``: requests to bytes, bytes to replies. Pure: no I/O, no key, no clock.

What is peculiar to it:

- It streams unless it is told not to, so ``stream`` is always sent.
- Tool calls carry their arguments as an object and, on most servers, no id: a result is told from another by its place
  and its ``tool_name``.
- The context length is a default of the server, and what does not fit is dropped from the beginning in silence: say how
  much is needed with `context_length`.
- A ``format`` forces every answer into it, and a model that is held to a schema never calls a tool. With tools the
  schema is told as an instruction instead.
- There is no choice of tools. ``none`` and the name of a tool narrow what is offered; ``required`` has no equivalent.
- Images are bare base64, in messages of the user alone. A URL is refused here, because the server does not fetch it.

Source: https://docs.ollama.com/api/chat
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from ..dialect import Encoded
from ..errors import BadResponse, ProviderError
from ..framing import NDJSONFramer
from ..messages import Document, Image, Message, Part, Text, Thinking
from ..openai_messages import UNDECODABLE, call_text
from ..vocabulary import ModelReply, ModelRequest, ToolSpec
from .attachments import results_apart
from .ollama_stream import (
    FAMILY,
    Chunk,
    OllamaStreamDecoder,
    decode_chunk,
    make_reply,
    read_calls,
    sharpened,
    told,
)
from .rounds import Round, rounds, schema_instruction
from .wire_errors import excerpt, read_error

Think: TypeAlias = bool | Literal["low", "medium", "high"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_EFFORTS: dict[str, bool | str] = {"none": False, "minimal": "low"}


class OllamaDialect:
    """Ollama's chat, for `model`.

    Args:
        model: the model's name.
        context_length: tokens of context to load the model with; None for the server's default.
        keep_alive: how long the model stays loaded, as the server takes it: seconds, or text like ``"10m"``.
        think: whether to think, or how much; None for the model's default. A request's `reasoning_effort` goes first.
    """

    path = "/api/chat"
    stream_type = "application/x-ndjson"
    family = FAMILY

    def __init__(
        self,
        model: str,
        *,
        context_length: int | None = None,
        keep_alive: str | float | None = None,
        think: Think | None = None,
    ) -> None:
        self.model = model
        self.context_length = context_length
        self.keep_alive = keep_alive
        self.think = think

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        settings = request.settings
        tools = _offered(request)
        schema = request.output_schema
        instructions = [request.instructions] if request.instructions else []
        if schema is not None and tools:
            instructions.append(schema_instruction(schema))
        messages: list[dict[str, Any]] = []
        if instructions:
            messages.append({"role": "system", "content": "\n\n".join(instructions)})
        for each in rounds(results_apart(request.messages, _takes)):
            messages += self._write(each)
        body: dict[str, Any] = {"model": self.model, "messages": messages, "stream": stream}
        if tools:
            body["tools"] = [_tool(tool) for tool in tools]
        elif schema is not None:
            body["format"] = schema
        options = {
            name: value
            for name, value in (
                ("temperature", settings.temperature),
                ("top_p", settings.top_p),
                ("num_predict", settings.max_tokens),
                ("stop", settings.stop),
                ("seed", settings.seed),
                ("num_ctx", self.context_length),
            )
            if value is not None
        }
        if options:
            body["options"] = options
        effort = settings.reasoning_effort
        think = self.think if effort is None else _EFFORTS.get(effort, effort)
        if think is not None:
            body["think"] = think
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        for name, value in (settings.extra or {}).items():
            body[name] = {**options, **value} if name == "options" and isinstance(value, dict) else value
        return Encoded(self.path, _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Not beside tools: a model that is held to a schema calls none."""
        return not tools

    def _write(self, each: Round) -> list[dict[str, Any]]:
        message = each.message
        if message.role == "system":
            return [{"role": "system", "content": message.text}]
        if message.role == "user":
            return [_user(message)]
        written: dict[str, Any] = {"role": "assistant", "content": _said(message)}
        stamp = message.provider_data
        if stamp is not None and stamp.family == self.family and message.thinking:
            written["thinking"] = message.thinking
        if each.answers:
            written["tool_calls"] = [
                {"function": {"name": answer.call.name, "arguments": _decode(call_text(answer.call))}}
                for answer in each.answers
            ]
        results = [
            {"role": "tool", "tool_name": answer.call.name, "content": answer.result.content} for answer in each.answers
        ]
        return [written, *results] if len(written) > 2 or written["content"] else results

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body holds an error, or is not an answer of this format.
        """
        try:
            answer = decode_chunk(body)
        except UNDECODABLE as error:
            if _is_stream(body):
                return self._fold(body)
            raise BadResponse(f"the answer is not of Ollama's chat ({error}): {_shown(body)}", status=200) from None
        if answer.error is not None:
            raise told(body)
        said = answer.message
        if said is None:
            raise BadResponse(f"the answer is not of Ollama's chat (it has no message): {_shown(body)}", status=200)
        parts: list[Part] = []
        if said.thinking:
            parts.append(Thinking(said.thinking))
        if said.content:
            parts.append(Text(said.content))
        parts += read_calls(said)
        return make_reply(parts, answer)

    def _fold(self, body: bytes) -> ModelReply:
        """A stream under the name of JSON, as gateways make it."""
        framer, decoder = self.framer(), self.decoder()
        for event in (*framer.feed(body), framer.close()):
            if event is not None:
                decoder.feed(event)
        return decoder.finish(clean=True)

    def framer(self) -> NDJSONFramer:
        """What cuts one streamed answer into lines."""
        return NDJSONFramer()

    def decoder(self) -> OllamaStreamDecoder:
        """A decoder for one streamed answer."""
        return OllamaStreamDecoder()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        return sharpened(read_error(status, headers, body, now=now))


def _is_stream(body: bytes) -> bool:
    """Whether the first of several lines is a whole object."""
    first, ending, _ = body.lstrip().partition(b"\n")
    try:
        chunk: Chunk | None = decode_chunk(first)
    except UNDECODABLE:
        chunk = None
    return chunk is not None and bool(ending)


def _shown(body: bytes) -> str:
    return excerpt(body) or "an empty body"


def _takes(part: Image | Document) -> bool:
    return isinstance(part, Image) and part.data is not None


def _offered(request: ModelRequest) -> list[ToolSpec]:
    choice = request.settings.tool_choice
    if choice in (None, "auto", "required"):
        return list(request.tools)
    return [tool for tool in request.tools if tool.name == choice]


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _said(message: Message) -> str:
    refusal = message.refusal
    return message.text if refusal is None else message.text + refusal


def _user(message: Message) -> dict[str, Any]:
    texts: list[str] = []
    images: list[str] = []
    for part in message.parts:
        match part:
            case Text():
                texts.append(part.text)
            case Image():
                if part.data is None:
                    raise ValueError(
                        "Ollama takes images as bytes and fetches no URL: read it yourself and give "
                        "image(data, media_type=…)"
                    )
                images.append(base64.b64encode(part.data).decode())
            case Document():
                raise ValueError("Ollama takes text and images, no documents: give the document's text")
            case _:
                raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")
    written: dict[str, Any] = {"role": "user", "content": "\n\n".join(texts)}
    if images:
        written["images"] = images
    return written
