"""What Bedrock's Converse refuses, in its own words as far as they are known. Pure.

The constraints are those of the API's own description (patterns, bounds, unions) and what the service was seen to
answer for conversations that are not whole. Where models differ, the rule is Claude's.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import msgspec

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DOCUMENT = re.compile(r"[a-zA-Z0-9\s()\[\]-]{1,200}")
_IMAGES = ("png", "jpeg", "gif", "webp")
_DOCUMENTS = ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")
_USER = ("text", "image", "document", "video", "toolResult", "guardContent", "cachePoint", "searchResult", "audio")
_ASSISTANT = ("text", "toolUse", "toolResult", "reasoningContent", "citationsContent", "cachePoint", "image")


class Unacceptable(Exception):
    """A request that the service answers with an exception."""

    def __init__(self, message: str, kind: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


def check(body: Mapping[str, Any], signed: Callable[[str], str]) -> None:
    """Check a decoded request; `signed` gives the signature of a thought.

    Raises:
        Unacceptable: the service would refuse it.
    """
    for index, given in enumerate(_list(body.get("system") or [], "system")):
        text: Any = _union(given, f"system.{index}", ("text", "guardContent", "cachePoint"))[1]
        if isinstance(text, str) and not text.strip():
            raise Unacceptable(f"The text field in the SystemContentBlock object at system.{index} is blank.")
    _check_inference(_object(body.get("inferenceConfig") or {}, "inferenceConfig"))
    messages = [
        _object(given, f"messages.{index}") for index, given in enumerate(_list(body.get("messages"), "messages"))
    ]
    _check_roles(messages)
    names: set[str] = set()
    for index, message in enumerate(messages):
        _check_message(message, f"messages.{index}", names, signed)
    uses = _check_rounds(messages)
    _check_tools(body.get("toolConfig"), needed=uses)
    _check_output(body.get("outputConfig"))


def _check_inference(config: Mapping[str, Any]) -> None:
    for key, low, high in (("temperature", 0, 1), ("topP", 0, 1), ("maxTokens", 1, None)):
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unacceptable(f"NUMBER_VALUE expected at 'inferenceConfig.{key}'", "SerializationException")
        if value < low or (high is not None and value > high):
            bound = f"greater than or equal to {low}" if value < low else f"less than or equal to {high}"
            raise Unacceptable(
                f"1 validation error detected: Value '{value}' at 'inferenceConfig.{key}' failed to satisfy "
                f"constraint: Member must have value {bound}"
            )
    stops = _list(config.get("stopSequences") or [], "inferenceConfig.stopSequences")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise Unacceptable("1 validation error detected: 'inferenceConfig.stopSequences' must hold non-empty strings")


def _check_roles(messages: Sequence[Mapping[str, Any]]) -> None:
    roles = [message.get("role") for message in messages]
    if not roles:
        raise Unacceptable("The messages field must hold at least one message.")
    for index, role in enumerate(roles):
        if role not in ("user", "assistant"):
            raise Unacceptable(
                f"1 validation error detected: Value at 'messages.{index + 1}.member.role' failed to satisfy "
                "constraint: Member must satisfy enum value set: [user, assistant]"
            )
    if roles[0] != "user":
        raise Unacceptable(
            "A conversation must start with a user message. Try again with a conversation that starts with a user "
            "message."
        )
    if any(before == after for before, after in pairwise(roles)):
        raise Unacceptable(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
            "between user and assistant roles and try again."
        )
    if roles[-1] != "user":
        raise Unacceptable(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _check_message(message: Mapping[str, Any], where: str, names: set[str], signed: Callable[[str], str]) -> None:
    blocks = _list(message.get("content"), f"{where}.content")
    if not blocks:
        raise Unacceptable(
            f"The content field in the Message object at {where} is empty. Add a ContentBlock object to the content "
            "field and try again."
        )
    kinds: list[str] = []
    for index, given in enumerate(blocks):
        place = f"{where}.content.{index}"
        kind, value = _union(given, place, _USER if message["role"] == "user" else _ASSISTANT)
        kinds.append(kind)
        match kind:
            case "text":
                _text(value, place)
            case "image":
                _media(value, f"{place}.image", _IMAGES)
            case "document":
                _document(value, f"{place}.document", names)
            case "toolUse":
                _tool_use(value, f"{place}.toolUse")
            case "toolResult":
                _tool_result(value, f"{place}.toolResult")
            case "reasoningContent":
                _reasoning(value, f"{place}.reasoningContent", signed)
            case _:
                _object(value, place)
    if "document" in kinds and "text" not in kinds:
        raise Unacceptable(
            f"The content field at {where} holds a document and no text. Add a text block that says what to do with it."
        )
    if message["role"] == "assistant" and kinds[-1] == "reasoningContent":
        raise Unacceptable(f"{where}: The final block in an assistant message cannot be `thinking`.")


def _text(value: Any, place: str) -> None:
    if not isinstance(value, str):
        raise Unacceptable(f"STRING_VALUE expected at '{place}.text'", "SerializationException")
    if not value.strip():
        raise Unacceptable(
            f"The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
        )


def _tool_use(value: Any, place: str) -> None:
    use = _object(value, place)
    for key in ("toolUseId", "name"):
        _pattern(use.get(key), f"{place}.{key}")
    if not isinstance(use.get("input"), dict):
        raise Unacceptable(
            f"The format of the value at {place}.input is invalid. Provide a json object for the field and try again."
        )
    if use.get("type") not in (None, "server_tool_use"):
        raise Unacceptable(f"1 validation error detected: Value at '{place}.type' must be one of [server_tool_use]")


def _tool_result(value: Any, place: str) -> None:
    result = _object(value, place)
    _pattern(result.get("toolUseId"), f"{place}.toolUseId")
    if result.get("status") not in (None, "success", "error"):
        raise Unacceptable(f"1 validation error detected: Value at '{place}.status' must be one of [success, error]")
    for index, given in enumerate(_list(result.get("content"), f"{place}.content")):
        kind, held = _union(given, f"{place}.content.{index}", ("text", "json", "image", "document", "video"))
        if kind == "text":
            _text(held, f"{place}.content.{index}")


def _reasoning(value: Any, place: str, signed: Callable[[str], str]) -> None:
    kind, held = _union(value, place, ("reasoningText", "redactedContent"))
    if kind == "redactedContent":
        _base64(held, f"{place}.redactedContent")
        return
    thought = _object(held, f"{place}.reasoningText")
    text, signature = thought.get("text"), thought.get("signature")
    if not isinstance(text, str) or signature is None:
        raise Unacceptable(f"{place}.reasoningText.signature: Field required")
    if signature != signed(text):
        raise Unacceptable(f"{place}: Invalid `signature` in `thinking` block")


def _media(value: Any, place: str, formats: Sequence[str]) -> Mapping[str, Any]:
    held = _object(value, place)
    if held.get("format") not in formats:
        raise Unacceptable(
            f"1 validation error detected: Value at '{place}.format' failed to satisfy constraint: Member must satisfy "
            f"enum value set: [{', '.join(formats)}]"
        )
    kind, source = _union(held.get("source"), f"{place}.source", ("bytes", "s3Location", "text", "content"))
    if kind == "bytes":
        _base64(source, f"{place}.source.bytes")
    elif kind == "s3Location" and not str(_object(source, place).get("uri")).startswith("s3://"):
        raise Unacceptable(f"1 validation error detected: Value at '{place}.source.s3Location.uri' is no S3 address")
    return held


def _document(value: Any, place: str, names: set[str]) -> None:
    name = _media(value, place, _DOCUMENTS).get("name")
    if not isinstance(name, str) or not _DOCUMENT.fullmatch(name) or re.search(r"\s\s", name):
        raise Unacceptable(
            "The name for DocumentBlock can only contain alphanumeric characters, whitespace characters, hyphens, "
            "parentheses, and square brackets. The name can't contain more than one consecutive whitespace character."
        )
    if name in names:
        raise Unacceptable(f"The document name {name} is used more than once. Names of documents must be distinct.")
    names.add(name)


def _check_rounds(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Check that the results of each turn are exactly the calls before it. Whether there were any tool blocks."""
    asked: list[str] = []
    seen: set[str] = set()
    found = False
    for index, message in enumerate(messages):
        blocks = cast("list[dict[str, Any]]", message["content"])
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        results = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
        found = found or bool(uses or results)
        if message["role"] == "user":
            _check_results(asked, results, index)
            asked = []
            continue
        own = {use["toolUseId"] for use in uses if use.get("type") == "server_tool_use"}
        if own != set(results):
            raise Unacceptable(f"messages.{index}: a call of a system tool and its result must stand together")
        asked = [use["toolUseId"] for use in uses if use["toolUseId"] not in own]
        if len({*asked}) < len(asked) or seen.intersection(asked):
            raise Unacceptable(f"messages.{index}: `tool_use` ids must be unique")
        seen |= {*asked}
    return found


def _check_results(asked: Sequence[str], results: Sequence[str], index: int) -> None:
    missing = [identity for identity in asked if identity not in results]
    if missing:
        raise Unacceptable(
            f"Expected toolResult blocks at messages.{index}.content for the following Ids: {', '.join(missing)}"
        )
    if len(results) > len(asked) or any(identity not in asked for identity in results):
        raise Unacceptable(
            f"The number of toolResult blocks at messages.{index}.content exceeds the number of toolUse blocks of "
            "previous turn."
        )


def _check_tools(given: Any, *, needed: bool) -> None:
    if given is None:
        if needed:
            raise Unacceptable("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
        return
    config = _object(given, "toolConfig")
    tools = _list(config.get("tools"), "toolConfig.tools")
    if not tools:
        raise Unacceptable(
            "1 validation error detected: Value '[]' at 'toolConfig.tools' failed to satisfy constraint: Member must "
            "have length greater than or equal to 1"
        )
    names: list[str] = []
    for index, each in enumerate(tools):
        place = f"toolConfig.tools.{index}"
        kind, held = _union(each, place, ("toolSpec", "systemTool", "cachePoint"))
        spec = _object(held, f"{place}.{kind}")
        if kind != "cachePoint":
            names.append(_pattern(spec.get("name"), f"{place}.{kind}.name"))
        if kind == "toolSpec":
            _check_spec(spec, f"{place}.toolSpec")
    if len(set(names)) < len(names):
        raise Unacceptable("The tool names in toolConfig.tools must be unique.")
    if config.get("toolChoice") is not None:
        kind, held = _union(config["toolChoice"], "toolConfig.toolChoice", ("auto", "any", "tool"))
        if kind == "tool" and _object(held, "toolConfig.toolChoice.tool").get("name") not in names:
            raise Unacceptable("The tool at toolConfig.toolChoice.tool.name is not among toolConfig.tools.")


def _check_spec(spec: Mapping[str, Any], place: str) -> None:
    if spec.get("description") == "":
        raise Unacceptable(
            f"1 validation error detected: Value '' at '{place}.description' failed to satisfy constraint: Member must "
            "have length greater than or equal to 1"
        )
    _, schema = _union(spec.get("inputSchema"), f"{place}.inputSchema", ("json",))
    if _object(schema, f"{place}.inputSchema.json").get("type") != "object":
        raise Unacceptable(f"The value at {place}.inputSchema.json.type must be one of the following: object.")


def _check_output(given: Any) -> None:
    if given is None:
        return
    config = _object(given, "outputConfig")
    if "textFormat" in config:
        form = _object(config["textFormat"], "outputConfig.textFormat")
        _, held = _union(form.get("structure"), "outputConfig.textFormat.structure", ("jsonSchema",))
        schema = _object(held, "outputConfig.textFormat.structure.jsonSchema").get("schema")
        if form.get("type") != "json_schema" or not isinstance(schema, str):
            raise Unacceptable("STRING_VALUE expected at 'outputConfig.textFormat.structure.jsonSchema.schema'")
        _check_closed(msgspec.json.decode(schema))
    if config.get("effort", "low") not in ("low", "medium", "high", "xhigh", "max"):
        raise Unacceptable("The value at outputConfig.effort is not supported.")


def _check_closed(schema: Any) -> None:
    """The schema and all in it, by the rules of Anthropic's models."""
    for node in cast("list[Any]", schema) if isinstance(schema, list) else ():
        _check_closed(node)
    if isinstance(schema, dict):
        held = cast("dict[str, Any]", schema)
        if held.get("type") == "object" and held.get("additionalProperties") is not False:
            raise Unacceptable(
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            )
        for node in held.values():
            _check_closed(node)


def _union(value: Any, place: str, kinds: Sequence[str]) -> tuple[str, Any]:
    """The one member of a union."""
    held = {key: each for key, each in _object(value, place).items() if each is not None}
    if len(held) != 1:
        raise Unacceptable(f"Exactly one member of the union at '{place}' must be set", "SerializationException")
    ((kind, inner),) = held.items()
    if kind not in kinds:
        raise Unacceptable(f"The union at '{place}' has no member {kind} here", "SerializationException")
    return kind, inner


def _pattern(value: Any, place: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Unacceptable(
            f"1 validation error detected: Value '{value}' at '{place}' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: [a-zA-Z0-9_-]+"
        )
    return value


def _base64(value: Any, place: str) -> None:
    try:
        whole = isinstance(value, str) and bool(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        whole = False
    if not whole:
        raise Unacceptable(f"Bytes in base64 expected at '{place}'", "SerializationException")


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unacceptable(f"STRUCTURE_VALUE expected at '{place}'", "SerializationException")
    return cast("dict[str, Any]", value)


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unacceptable(f"LIST_VALUE expected at '{place}'", "SerializationException")
    return cast("list[Any]", value)
