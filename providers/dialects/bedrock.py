"""Bedrock's Converse, the one wire format for all models there: requests to bytes, bytes to replies.

Pure: no I/O, no key, no clock.

The model is named in the path, where AWS wants everything but letters, digits and ``-._~`` percent-encoded. What else
is peculiar:

- The definitions of tools are required as soon as a conversation holds a call or a result; where the request has none,
  they are made up from the names in the history.
- There is no ``tool_choice`` of ``none``. Without calls in the history the tools are left out; with some they have to
  be offered.
- A schema for the answer must follow Anthropic's rules, and few models take one. Where it cannot, or they do not, it is
  told as an instruction.
- Neither a seed nor a switch for parallel calls exists; both are passed over.
- Everything that is a model's own goes into ``additionalModelRequestFields``, and Bedrock's own tools into
  ``toolConfig``: both by `ModelSettings.extra`, whose objects are joined with what is here.

`bedrock_messages` says what Converse refuses in a conversation, `bedrock_stream` how it streams.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

import msgspec

from ..dialect import Encoded
from ..errors import BadResponse, ProviderError
from ..framing import EventStreamFramer
from ..openai_messages import UNDECODABLE
from ..vocabulary import ModelReply, ModelRequest, ModelSettings, ToolSpec
from .anthropic_schema import fitted_schema
from .bedrock_blocks import FAMILY, is_server_tool, make_reply, read_block
from .bedrock_errors import read_bedrock_error
from .bedrock_messages import write_messages
from .bedrock_stream import ConverseStreamDecoder
from .rounds import fitting_name, schema_instruction
from .wire_errors import excerpt

_encode = msgspec.json.Encoder().encode
#: The models that are known to take a schema; others refuse the whole request.
_STRUCTURED = re.compile(r"claude-(?:haiku|sonnet|opus)-4-[56]").search
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


class _Said(msgspec.Struct):
    content: list[dict[str, Any]] | None = None


class _Output(msgspec.Struct):
    message: _Said | None = None


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    service_tier: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


class ConverseDialect:
    """Converse, for `model`: an id, an inference profile or an ARN."""

    stream_type = "application/vnd.amazon.eventstream"
    family = FAMILY

    def __init__(self, model: str) -> None:
        self.model = model
        self._path = f"/model/{quote(model, safe='')}/converse"

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        settings = request.settings
        messages = write_messages(request.messages, self.model)
        body: dict[str, Any] = {"messages": messages}
        texts = [request.instructions, *[message.text for message in request.messages if message.role == "system"]]
        schema = request.output_schema
        fitted = fitted_schema(schema) if schema is not None and _STRUCTURED(self.model) else None
        if schema is not None and fitted is None:
            texts.append(schema_instruction(schema))
        system = [{"text": text} for text in texts if text is not None and text.strip()]
        if system:
            body["system"] = system
        inference = _inference(settings)
        if inference:
            body["inferenceConfig"] = inference
        extra = settings.extra or {}
        tools = _tools(request.tools, settings.tool_choice, messages, told="toolConfig" in extra)
        if tools is not None:
            body["toolConfig"] = tools
        output = _output(fitted, settings.reasoning_effort)
        if output:
            body["outputConfig"] = output
        for name, value in extra.items():
            body[name] = _joined(body.get(name), value)
        return Encoded(f"{self._path}-stream" if stream else self._path, _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether this model takes schemas, and this one can be put as the API wants it."""
        return _STRUCTURED(self.model) is not None and fitted_schema(schema) is not None

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body is not an answer of this format.
        """
        try:
            answer = _decode(body)
        except UNDECODABLE as error:
            raise _not_an_answer(body, str(error)) from None
        said = answer.output.message if answer.output is not None else None
        if said is None:
            raise _not_an_answer(body, "it has no message")
        parts = [read_block(block) for block in said.content or ()]
        known = [part for part in parts if part is not None]
        return make_reply(known, self.model, answer.stop_reason, answer.usage, answer.service_tier)

    def framer(self) -> EventStreamFramer:
        """What cuts one streamed answer into messages."""
        return EventStreamFramer()

    def decoder(self) -> ConverseStreamDecoder:
        """A decoder for one streamed answer."""
        return ConverseStreamDecoder(self.model)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        return read_bedrock_error(status, headers, body, now=now)


def _not_an_answer(body: bytes, why: str) -> ProviderError:
    return BadResponse(f"the answer is not of Converse ({why}): {excerpt(body) or 'an empty body'}", status=200)


def _inference(settings: ModelSettings) -> dict[str, Any]:
    found = (
        ("maxTokens", settings.max_tokens),
        ("temperature", settings.temperature),
        ("topP", settings.top_p),
        ("stopSequences", settings.stop),
    )
    return {name: value for name, value in found if value is not None}


def _tools(
    tools: Sequence[ToolSpec], choice: str | None, messages: list[dict[str, Any]], *, told: bool
) -> dict[str, Any] | None:
    """The definitions of tools, where there are any or the conversation wants some. `told`: `extra` holds some."""
    uses = [use for message in messages for block in message["content"] if (use := block.get("toolUse")) is not None]
    if choice == "none" and not uses:
        return None
    specs = [_spec(tool) for tool in tools]
    if not specs and not told:
        # In their order in the conversation: one that grows keeps its beginning, and with it the provider's cache.
        made = {
            use["name"]: {"systemTool": {"name": use["name"]}}
            if is_server_tool(use)
            else {"toolSpec": {"name": use["name"], "inputSchema": {"json": _ANY_OBJECT}}}
            for use in uses
        }
        specs, choice = list(made.values()), None
    if not specs:
        return None
    config: dict[str, Any] = {"tools": specs}
    if choice == "required":
        config["toolChoice"] = {"any": {}}
    elif choice not in (None, "auto", "none"):
        config["toolChoice"] = {"tool": {"name": choice}}
    return config


def _spec(tool: ToolSpec) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description.strip():
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": tool.parameters}
    if tool.strict:
        spec["strict"] = True
    return {"toolSpec": spec}


def _output(schema: dict[str, Any] | None, effort: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if schema is not None:
        held = {"name": fitting_name(str(schema.get("title") or "output")), "schema": _encode(schema).decode()}
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": held}}
    if effort not in (None, "none"):
        config["effort"] = "low" if effort == "minimal" else effort
    return config


def _joined(ours: Any, extra: Any) -> Any:
    """What the caller adds to an object of ours: keys replace keys, and lists (of tools) are put behind each other."""
    if isinstance(ours, list) and isinstance(extra, list):
        return [*cast("list[Any]", ours), *cast("list[Any]", extra)]
    if not isinstance(ours, dict) or not isinstance(extra, dict):
        return extra
    joined = dict(cast("dict[str, Any]", ours))
    for name, value in cast("dict[str, Any]", extra).items():
        joined[name] = _joined(joined.get(name), value)
    return joined
