"""Gemini's generateContent: requests to bytes, bytes to replies. Pure: no I/O, no key, no clock.

The model is a part of the path, and so is whether the answer is streamed. `gemini_messages` writes the conversation,
`gemini_stream` reads answers, `gemini_errors` failures.

Models differ by their generation, which their name tells: since Gemini 3 they want signatures on calls, take a level of
thinking instead of a budget, and answer by a schema although there are tools. For an older one that has tools a schema
goes into the instructions, because the API refuses the two together.

https://ai.google.dev/api/generate-content
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
from .gemini_errors import answered_error, read_error
from .gemini_messages import contents, system_parts
from .gemini_schema import readable
from .gemini_stream import GeminiStreamDecoder
from .gemini_wire import Chunk, decode_chunks
from .rounds import schema_instruction
from .wire_errors import excerpt

_encode = msgspec.json.Encoder().encode
_GENERATION = re.compile(r"\bgemini-(?:(\d+)|[a-z-]*latest\b)")
_NEWEST = 99
#: Models that refuse to be told how much to think, and one that cannot but think.
_WITHOUT_THOUGHTS = re.compile(r"\bgemini-(?:1|2\.0)\b").search
_ALWAYS_THINKS = re.compile(r"\bgemini-2\.5-pro\b").search
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_LEVELS = {"none": "MINIMAL", "xhigh": "HIGH", "max": "HIGH"}
# As Google maps the efforts of OpenAI: https://ai.google.dev/gemini-api/docs/openai#thinking
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
# Keys of an answer without content: the start of a long-running operation.
_OPERATION = {"name", "metadata", "done", "response"}


def generation(model: str) -> int | None:
    """The generation of a Gemini model by its name, the newest for an alias of the latest; None for another model."""
    found = _GENERATION.search(model)
    if found is None:
        return None
    return int(found[1][:4]) if found[1] is not None else _NEWEST


class GeminiDialect:
    """generateContent for `model`.

    Args:
        model: the model's name, with or without ``models/``.
        vendor: who serves it. The signatures of one are worth nothing to another.
        resource: the path of the model below the base URL; by default ``/models/…``.
    """

    stream_type = "text/event-stream"

    def __init__(self, model: str, *, vendor: str = "gemini", resource: str | None = None) -> None:
        self.model = model.removeprefix("models/")
        self.family = f"generate-content/{vendor}"
        self.resource = resource or (f"/{self.model}" if "/" in self.model else f"/models/{self.model}")
        made = generation(self.model)
        self._old = made is not None and made < 3
        self._signed = made is not None and made >= 3

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Dictionaries in the settings' `extra` are merged into ours, so that a key of ``generationConfig`` can be given
        alone; its ``tools`` come after ours.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        settings, extra = request.settings, request.settings.extra or {}
        body: dict[str, Any] = {
            "contents": contents(request.messages, family=self.family, model=self.model, signed=self._signed)
        }
        system = system_parts(request.instructions, request.messages)
        config = self._config(settings)
        if request.output_schema is not None:
            if self._old and (request.tools or extra.get("tools")):
                system.append({"text": schema_instruction(request.output_schema)})
            else:
                config["responseMimeType"] = "application/json"
                config["responseJsonSchema"] = readable(request.output_schema)
        if system:
            body["systemInstruction"] = {"parts": system}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
            if settings.tool_choice is not None:
                body["toolConfig"] = {"functionCallingConfig": _calling(settings.tool_choice)}
        if config:
            body["generationConfig"] = config
        if extra:
            body = _merged(body, extra)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return Encoded(f"{self.resource}:{method}", _encode(body))

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether this model takes a schema, which the older ones do not beside tools."""
        return not (self._old and tools)

    def _config(self, settings: ModelSettings) -> dict[str, Any]:
        given = (
            ("temperature", settings.temperature),
            ("topP", settings.top_p),
            ("maxOutputTokens", settings.max_tokens),
            ("stopSequences", settings.stop),
            ("seed", settings.seed),
            ("thinkingConfig", _thinking(settings.reasoning_effort, self.model, self._old)),
        )
        return {key: value for key, value in given if value is not None}

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success: an object, or the array of a stream.

        Raises:
            ProviderError: the body holds an error, or is not an answer of Gemini.
        """
        try:
            chunks = decode_chunks(body)
        except UNDECODABLE as error:
            raise answered_error(body) or _not_an_answer(body, str(error)) from None
        decoder = self.decoder()
        if type(chunks) is Chunk:
            decoder.take(chunks, body, None)
            if chunks.candidates is None and chunks.promptFeedback is None and chunks.usageMetadata is None:
                _check_empty(body)
            return decoder.reply()
        if not chunks:
            raise _not_an_answer(body, "it is an empty array")
        for index, chunk in enumerate(chunks):
            decoder.take(chunk, body, index)
        return decoder.finish(clean=True)

    def framer(self) -> SSEParser:
        """What cuts one streamed answer into events."""
        return SSEParser()

    def decoder(self) -> GeminiStreamDecoder:
        """A decoder for one streamed answer."""
        return GeminiStreamDecoder(self.family, self.model)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        return read_error(status, headers, body, now=now)


def _check_empty(body: bytes) -> None:
    """Let pass what says nothing: an empty answer, and the start of an operation that answers later.

    Raises:
        ProviderError: it is an error, or the answer of somebody else.
    """
    try:
        value: Any = msgspec.json.decode(body)
    except UNDECODABLE as error:
        raise _not_an_answer(body, str(error)) from None
    keys = set(cast("dict[str, Any]", value)) - {"modelVersion", "responseId", "createTime"}
    if keys and not ("name" in keys and keys <= _OPERATION):
        raise answered_error(body) or _not_an_answer(body, "it has no candidates")


def _not_an_answer(body: bytes, why: str) -> BadResponse:
    return BadResponse(f"the answer is not one of Gemini ({why}): {excerpt(body) or 'an empty body'}", status=200)


def _declaration(tool: ToolSpec) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": tool.name, "parametersJsonSchema": readable(tool.parameters)}
    if tool.description:
        declaration["description"] = tool.description
    return declaration


def _calling(choice: str) -> dict[str, Any]:
    if choice in _MODES:
        return {"mode": _MODES[choice]}
    return {"mode": "ANY", "allowedFunctionNames": [choice]}


def _thinking(effort: str | None, model: str, old: bool) -> dict[str, Any] | None:
    """The thoughts are asked for too: a stream that shows them is not silent while the model thinks."""
    if effort is None or _WITHOUT_THOUGHTS(model):
        return None
    if effort not in _BUDGETS:
        raise ValueError(f"reasoning_effort must be one of {', '.join(_BUDGETS)} for this model, not {effort!r}")
    if not old:
        config: dict[str, Any] = {"thinkingLevel": _LEVELS.get(effort, effort.upper())}
    else:
        config = {"thinkingBudget": max(_BUDGETS[effort], 128 if _ALWAYS_THINKS(model) else 0)}
    return config if effort == "none" else {**config, "includeThoughts": True}


def _merged(ours: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in extra.items():
        held = merged.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            merged[key] = _merged(cast("dict[str, Any]", held), cast("dict[str, Any]", value))
        elif key == "tools" and isinstance(held, list) and isinstance(value, list):
            merged[key] = [*cast("list[Any]", held), *cast("list[Any]", value)]
        else:
            merged[key] = value
    return merged
