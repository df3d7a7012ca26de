"""The shapes of OpenAI's Chat Completions: requests read strictly, replies written.

Requests are decoded into records that forbid unknown fields, as the real service does, so a client that sends
a field nobody documented learns it here. JSON schemas of tools stay undecoded until somebody needs one: most
requests of a conversation repeat the same long list.

Replies are written as text fragments around encoded values where there are many (the pieces of a stream), and
as records where there is one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]

#: Every reply claims this time (2026-01-01, in seconds): the same request is answered with the same bytes.
CREATED = 1_767_225_600

_ToolName: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class Part(msgspec.Struct, gc=False):
    """One part of a message's content; only text is read."""

    type: str
    text: str = ""


class FunctionCall(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The name and the JSON text of the arguments of a tool call."""

    name: _ToolName
    arguments: str


class ToolCall(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A tool call of an assistant message."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(msgspec.Struct, forbid_unknown_fields=True):
    """One message of a request."""

    role: Role
    content: str | list[Part] | None = None
    tool_calls: Annotated[list[ToolCall], msgspec.Meta(min_length=1)] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    audio: Any = None
    annotations: Any = None
    function_call: Any = None

    @property
    def text(self) -> str:
        """The text of the content, parts joined."""
        content = self.content
        if isinstance(content, str):
            return content
        return "".join([part.text for part in content]) if content else ""


class Function(msgspec.Struct, forbid_unknown_fields=True):
    """An offered function; `parameters` is its JSON schema, undecoded."""

    name: _ToolName
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """An offered tool."""

    type: Literal["function"]
    function: Function


class StreamOptions(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """`include_usage` asks for the tokens in a last piece of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request. The fields below `response_format` are known, allowed and not looked at."""

    model: str
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    tools: Annotated[list[Tool], msgspec.Meta(min_length=1)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    response_format: dict[str, Any] | None = None
    audio: Any = None
    frequency_penalty: float | None = None
    logit_bias: Any = None
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    metadata: dict[str, str] | None = None
    modalities: list[str] | None = None
    n: Literal[1] | None = None
    prediction: Any = None
    presence_penalty: float | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    store: bool | None = None
    temperature: float | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    verbosity: str | None = None
    web_search_options: Any = None


class Reply(msgspec.Struct, frozen=True):
    """What the model says: text, calls, or both; `pieces` is the text cut for a stream (empty: no text)."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    pieces: tuple[str, ...] = ()

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else "stop"


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, estimated as a quarter of the characters."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


decode_request = msgspec.json.Decoder(ChatRequest).decode
_encode = msgspec.json.encode


def estimate_usage(request: ChatRequest, reply: Reply) -> Usage:
    """A quarter of the characters on either side, at least one token each."""
    asked = 0
    for message in request.messages:
        asked += len(message.text)
        for call in message.tool_calls or ():
            asked += len(call.function.arguments)
    said = len(reply.text) + sum([len(call.function.arguments) for call in reply.calls])
    prompt, completion = asked // 4 + 1, said // 4 + 1
    return Usage(prompt, completion, prompt + completion)


def completion(reply_id: str, model: str, reply: Reply, usage: Usage) -> bytes:
    """The body of a plain answer."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = reply.calls
    return _encode(
        {
            "id": reply_id,
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}],
            "usage": usage,
            "system_fingerprint": "fp_simulated",
        }
    )


def stream_events(reply_id: str, model: str, reply: Reply, usage: Usage | None) -> list[bytes]:
    """The server-sent events of a streamed answer, each a complete event; the last is ``[DONE]``.

    `usage` not None adds the piece that tells it, as `include_usage` asks.
    """
    start = (
        b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,'
        b'"system_fingerprint":"fp_simulated",' % (_encode(reply_id), CREATED, _encode(model))
    )
    delta = start + b'"choices":[{"index":0,"delta":'
    end = b',"finish_reason":null}]}\n\n' if usage is None else b',"finish_reason":null}],"usage":null}\n\n'
    content = b'""' if reply.pieces else b"null"
    events = [b'%b{"role":"assistant","content":%b,"refusal":null}%b' % (delta, content, end)]
    for piece in reply.pieces:
        events.append(b'%b{"content":%b}%b' % (delta, _encode(piece), end))
    for index, call in enumerate(reply.calls):
        function = call.function
        begun = {"name": function.name, "arguments": ""}
        opening = {"index": index, "id": call.id, "type": "function", "function": begun}
        events.append(b'%b{"tool_calls":[%b]}%b' % (delta, _encode(opening), end))
        middle = (len(function.arguments) + 1) // 2
        for arguments in (function.arguments[:middle], function.arguments[middle:]):
            if arguments:
                more = {"index": index, "function": {"arguments": arguments}}
                events.append(b'%b{"tool_calls":[%b]}%b' % (delta, _encode(more), end))
    finish = end.replace(b"null", b'"%b"' % reply.finish_reason.encode(), 1)
    events.append(b"%b{}%b" % (delta, finish))
    if usage is not None:
        events.append(b'%b"choices":[],"usage":%b}\n\n' % (start, _encode(usage)))
    events.append(b"data: [DONE]\n\n")
    return events


def error(message: str, kind: str, code: str | None = None) -> bytes:
    """OpenAI's error body; `kind` is its `type`, for example ``invalid_request_error``."""
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def models() -> bytes:
    """The body of ``GET /v1/models``: one model."""
    model = {"id": "simulated", "object": "model", "created": CREATED, "owned_by": "greenroom"}
    return _encode({"object": "list", "data": [model]})
