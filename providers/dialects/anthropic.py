"""Anthropic's Messages API: requests to bytes, bytes to replies. Pure: no I/O, no key, no clock.

`anthropic_messages` writes the history, `anthropic_answer` reads what comes back, `anthropic_stream` reads it in
pieces, and `anthropic_models` knows what a model of a given name refuses. `anthropic_bedrock` is the same in AWS's
envelope.

Settings that the API has no field for (a seed) are left out. Those that a model refuses beside others are left out too,
because the request would fail: the temperature while the model thinks, top_p beside the temperature.

Of `extra`, ``tools`` are added to the others and ``output_config`` is joined with ours; everything else replaces.

The API: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..dialect import Encoded, StreamDecoder
from ..errors import BadResponse, ProviderError
from ..framing import Framer, SSEParser
from ..openai_messages import UNDECODABLE
from ..vocabulary import ModelReply, ModelRequest, ModelSettings, ToolSpec
from .anthropic_answer import make_reply, not_an_answer, read_block, read_failure
from .anthropic_messages import begins_without_thought, container_of, conversation
from .anthropic_models import abilities
from .anthropic_schema import fitted_schema
from .anthropic_stream import KEPT, AnthropicStreamDecoder
from .rounds import schema_instruction
from .tool_bytes import ToolBytes

_encode = msgspec.json.Encoder().encode

#: Tokens to think with, where a model takes a number. The API wants 1,024 or more, and less than the whole answer.
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_SMALLEST_BUDGET = 1_024


class Answer(msgspec.Struct):
    """A whole answer."""

    id: Any = None
    model: Any = None
    content: Any = None
    stop_reason: Any = None
    stop_details: Any = None
    usage: Any = None
    container: Any = None
    context_management: Any = None


_decode_answer = msgspec.json.Decoder(Answer).decode


class AnthropicDialect:
    """The Messages API as `vendor` speaks it, for `model`.

    Args:
        model: the model's name there.
        vendor: who signs the thinking; only the same vendor gets it back.
        max_tokens: the length of an answer where the request does not say; None for one that the model can give.
    """

    #: Where it lies below the base URL.
    path = "/messages"
    stream_type = "text/event-stream"

    def __init__(self, model: str, *, vendor: str = "anthropic", max_tokens: int | None = None) -> None:
        self.model = model
        self.family = f"anthropic-messages/{vendor}"
        self._abilities = abilities(model)
        self._max_tokens = max_tokens if max_tokens is not None else self._abilities.max_tokens
        self._tools = ToolBytes(_tool)

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        body: dict[str, Any] = {"model": self.model, **self.body(request)}
        if stream:
            body["stream"] = True
        return Encoded(self.path, _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether this model takes schemas, and this one can be put as the API wants it."""
        return self._abilities.structured and fitted_schema(schema) is not None

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The body without what names the model and asks for a stream.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        settings, able = request.settings, self._abilities
        # A model that may think begins its answer with a thought.
        thinks = settings.reasoning_effort not in (None, "none") or "thinking" in (settings.extra or ())
        system, messages = conversation(
            request.messages,
            family=self.family,
            prefill=able.prefill and not thinks,
            system_turns=able.system_turns,
        )
        if request.instructions and request.instructions.strip():
            system.insert(0, request.instructions)
        body: dict[str, Any] = {"max_tokens": settings.max_tokens or self._max_tokens}
        output: dict[str, Any] = {}
        if request.output_schema is not None:
            fitted = fitted_schema(request.output_schema) if able.structured else None
            if fitted is not None:
                output["format"] = {"type": "json_schema", "schema": fitted}
            else:
                system.append(schema_instruction(request.output_schema))
        if system:
            body["system"] = "\n\n".join(system)
        body["messages"] = messages
        if request.tools:
            body["tools"] = self._tools(request.tools)
        if request.tools or "tools" in (settings.extra or ()):
            choice = _tool_choice(settings)
            if choice is not None:
                body["tool_choice"] = choice
        stops = [text for text in settings.stop or () if text.strip()]
        if stops:
            body["stop_sequences"] = stops
        container = container_of(request.messages, self.family)
        if container is not None:
            body["container"] = container
        self._think(body, output, settings)
        if output:
            body["output_config"] = output
        for key, value in (settings.extra or {}).items():
            body[key] = _joined(key, body.get(key), value)
        self._set_sampling(body, settings)
        return body

    def _think(self, body: dict[str, Any], output: dict[str, Any], settings: ModelSettings) -> None:
        """Turn the effort into what this model takes."""
        effort, form = settings.reasoning_effort, self._abilities.thinking
        if effort is None or effort == "none" or form == "none":
            return
        if form == "adaptive":
            output["effort"] = "low" if effort == "minimal" else effort
        # While it must call a tool, and in the middle of a turn that it began without a thought, it cannot think.
        forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
        if forced or "thinking" in (settings.extra or ()):
            return
        if form == "adaptive":
            body["thinking"] = {"type": "adaptive"}
        elif not begins_without_thought(body["messages"]):
            budget = min(_BUDGETS.get(effort, _BUDGETS["medium"]), body["max_tokens"] // 2)
            if budget >= _SMALLEST_BUDGET:
                body["thinking"] = {"type": "enabled", "budget_tokens": budget}

    def _set_sampling(self, body: dict[str, Any], settings: ModelSettings) -> None:
        thinking: Any = body.get("thinking")
        thinks = isinstance(thinking, dict) and cast("dict[str, Any]", thinking).get("type") in ("enabled", "adaptive")
        if not self._abilities.sampling or thinks:
            return
        if settings.temperature is not None:
            body.setdefault("temperature", min(settings.temperature, 1.0))
        elif settings.top_p is not None and "temperature" not in body:
            body.setdefault("top_p", settings.top_p)

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body holds an error, or is not a message.
        """
        try:
            answer = _decode_answer(body)
        except UNDECODABLE as error:
            raise not_an_answer(body, str(error)) from None
        content: Any = answer.content
        if not isinstance(content, list):
            raise not_an_answer(body, "it has no content")
        try:
            parts = [read_block(block) for block in cast("list[Any]", content)]
        except (BadResponse, RecursionError) as error:
            raise not_an_answer(body, str(error)) from None
        return make_reply(
            parts,
            family=self.family,
            model=answer.model,
            identity=answer.id,
            stop_reason=answer.stop_reason,
            usage=answer.usage,
            extras={key: getattr(answer, key) for key in KEPT},
        )

    def framer(self) -> Framer:
        """What cuts one streamed answer into events."""
        return SSEParser()

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        return AnthropicStreamDecoder(self.family)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        return read_failure(status, headers, body, now=now)


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = tool.parameters if tool.parameters.get("type") == "object" else {"type": "object", **tool.parameters}
    written: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        written["description"] = tool.description
    if tool.strict:
        written["strict"] = True
    return written


def _tool_choice(settings: ModelSettings) -> dict[str, Any] | None:
    choice = settings.tool_choice
    if choice == "none":
        return {"type": "none"}
    alone = {"disable_parallel_tool_use": True} if settings.parallel_tool_calls is False else {}
    if choice is None:
        return {"type": "auto", **alone} if alone else None
    if choice in ("auto", "required"):
        return {"type": "any" if choice == "required" else "auto", **alone}
    return {"type": "tool", "name": choice, **alone}


def _joined(key: str, ours: Any, extra: Any) -> Any:
    if key == "tools" and isinstance(ours, list) and isinstance(extra, list):
        return [*cast("list[Any]", ours), *cast("list[Any]", extra)]
    if key == "output_config" and isinstance(ours, dict) and isinstance(extra, dict):
        return cast("dict[str, Any]", ours) | cast("dict[str, Any]", extra)
    return extra
