"""The Responses wire format of OpenAI and of servers that speak it: requests to bytes, bytes to replies. Pure.

Nothing is stored at the provider (``store: false``): each request carries the whole conversation, and the reasoning of
models that reason comes encrypted and goes back encrypted. `responses_input` says how a conversation is written,
`responses_items` how an answer is read.

What the API does unless it is told otherwise, and is told here:

- a function's schema is made **strict** silently, by rewriting it. So every tool says whether it is strict: as its
  `ToolSpec` says, or else if its schema obeys the strict rules already;
- encrypted reasoning must be asked for, and asking a model that does not reason for it is an **error**. OpenAI's models
  that do not reason are known by name; for others, such as a deployment under a name of its own, ``include: []`` in the
  settings' `extra` asks for none;
- some servers stream unless ``stream`` is false.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..dialect import Encoded
from ..errors import BadResponse, ProviderError
from ..framing import SSEParser
from ..openai_messages import UNDECODABLE
from ..vocabulary import ModelReply, ModelRequest, ModelSettings, ToolSpec
from .responses_input import input_items
from .responses_items import Item, Stamp, as_item, failure, items_of, reply_of
from .responses_stream import ResponsesStreamDecoder
from .rounds import NOTHING
from .strict_schema import obeys_strict_rules
from .wire_errors import error_object, excerpt, read_error

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_REASONING = "reasoning.encrypted_content"
#: OpenAI's models that do not reason, also fine-tuned or behind a gateway's prefix.
_WITHOUT_REASONING = re.compile(r"(?:ft:|.*/)?(?:gpt-3\.5|gpt-4|chatgpt-|gpt-5-chat)").match
_NO_ITEM: Item = {"role": "user", "content": NOTHING}
_WITHOUT_OUTPUT = ("queued", "in_progress", "failed", "cancelled")
#: What else the body may hold is merged into what the request says, if both say something.
_MERGED = ("text", "reasoning")
#: What the caller may do about an error, by the parameter that it blames or by its code.
_HINTS = {
    "include": "if the model does not reason, settings extra={'include': []} asks for no reasoning",
    "reasoning.summary": "settings extra={'reasoning': {'summary': None}} asks for no summary",
    "invalid_encrypted_content": "the reasoning in the history is of another account; without the provider_data of its "
    "messages none is sent",
}


class ResponsesDialect:
    """The Responses API as `vendor` speaks it, for `model`."""

    #: Where it lies below the base URL.
    path = "/responses"
    stream_type = "text/event-stream"

    def __init__(self, model: str, *, vendor: str = "openai") -> None:
        self.model = model
        self.family = f"openai-responses/{vendor}"
        self._stamp = Stamp(self.family, model)

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation or the settings hold something that this format cannot carry.
        """
        settings = request.settings
        for name in ("seed", "stop"):
            if getattr(settings, name) is not None:
                raise ValueError(f"settings: {name} is unknown to the Responses API; leave it out")
        items = input_items(request.messages, self._stamp) or [_NO_ITEM]
        body: Item = {"model": self.model, "input": items}
        if request.instructions:
            body["instructions"] = request.instructions
        body |= {"stream": stream, "store": False}
        if not _WITHOUT_REASONING(self.model):
            body["include"] = [_REASONING]
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.output_schema is not None:
            body["text"] = {"format": _format(request.output_schema)}
        if settings.reasoning_effort is not None:
            body["reasoning"] = _reasoning(settings.reasoning_effort)
        for key, value in (
            ("temperature", settings.temperature),
            ("top_p", settings.top_p),
            ("max_output_tokens", settings.max_tokens),
        ):
            if value is not None:
                body[key] = value
        _add_extra(body, settings.extra or {})
        if body.get("tools"):
            _add_choice(body, settings)
        return Encoded(self.path, _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """It takes every schema."""
        return True

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body holds an error, or is not a response.
        """
        try:
            answer: Any = _decode(body)
        except UNDECODABLE as error:
            raise _not_an_answer(body, str(error)) from None
        response = as_item(answer)
        if not isinstance(response.get("output"), list) and response.get("status") not in _WITHOUT_OUTPUT:
            error = error_object(response)
            raise _not_an_answer(body, "it has no output") if error is None else failure(error, None)
        return reply_of(response, items_of(response.get("output")), self._stamp)

    def framer(self) -> SSEParser:
        """What cuts one streamed answer into events."""
        return SSEParser()

    def decoder(self) -> ResponsesStreamDecoder:
        """A decoder for one streamed answer."""
        return ResponsesStreamDecoder(self._stamp)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        error = read_error(status, headers, body, now=now)
        error.hint = _HINTS.get(error.param or error.code or "")
        return error


def _not_an_answer(body: bytes, why: str) -> ProviderError:
    shown = excerpt(body) or "an empty body"
    return BadResponse(f"the answer is not a response of the Responses API ({why}): {shown}", status=200)


def _tool(tool: ToolSpec) -> Item:
    # An object that names no properties is refused, whether it is strict or not.
    parameters: Item = {"type": "object", "properties": {}, **tool.parameters}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
        "strict": obeys_strict_rules(parameters) if tool.strict is None else tool.strict,
    }


def _format(schema: Item) -> Item:
    title = str(schema.get("title", "output"))
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", title)[:64]
    return {
        "type": "json_schema",
        "name": name or "output",
        "schema": schema,
        "strict": obeys_strict_rules(schema),
    }


def _reasoning(effort: str) -> Item:
    """A summary is all that OpenAI shows of its models' reasoning."""
    return {"effort": effort} if effort == "none" else {"effort": effort, "summary": "auto"}


def _add_extra(body: Item, extra: Mapping[str, Any]) -> None:
    """Merge what the user adds.

    Tools come after ours, ``text`` and ``reasoning`` are merged key by key, and what is to be included is asked for
    besides our own, unless it is an empty list.

    Raises:
        ValueError: it holds the conversation.
    """
    for key, value in extra.items():
        ours = body.get(key)
        if key in ("input", "instructions"):
            raise ValueError(f"settings: extra must not hold {key!r}, which is set by the request itself")
        if key in _MERGED and isinstance(ours, dict) and isinstance(value, dict):
            merged = {**cast("Item", ours), **cast("Item", value)}
            body[key] = {name: held for name, held in merged.items() if held is not None}
        elif key in ("tools", "include") and isinstance(ours, list) and isinstance(value, list) and value:
            body[key] = [*cast("list[Any]", ours), *(item for item in cast("list[Any]", value) if item not in ours)]
        else:
            body[key] = value
    if body.get("include") == []:
        del body["include"]


def _add_choice(body: Item, settings: ModelSettings) -> None:
    choice = settings.tool_choice
    if choice is not None:
        named = choice not in ("auto", "none", "required")
        body.setdefault("tool_choice", {"type": "function", "name": choice} if named else choice)
    if settings.parallel_tool_calls is not None:
        body.setdefault("parallel_tool_calls", settings.parallel_tool_calls)
