"""What OpenAI's Responses endpoint refuses in the items of its input; and how the fake mints and knows its own. Pure.

Nothing is stored, so what the fake minted must tell by itself whether it is whole. An id holds the key of its
response, its number there, the number of the reasoning that it came of, and a seal over them; encrypted reasoning holds
its id and a seal. Any fake of this process or another knows them, as every machine of the provider does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, cast

import msgspec

from .openai_values import Unacceptable, function_name, mapping, one_of, only, required, string, too_long, wrong_type

_COMMON = {"type", "id", "status"}
_KEYS = {
    "message": _COMMON | {"role", "content", "phase"},
    "reasoning": _COMMON | {"summary", "content", "encrypted_content"},
    "function_call": _COMMON | {"call_id", "name", "arguments", "namespace"},
    "function_call_output": _COMMON | {"call_id", "output"},
    "compaction": {"type", "id", "encrypted_content"},
    "item_reference": {"type", "id"},
}
#: Items of the provider's own tools, which the fake does not have: it never minted their ids.
_HOSTED = (
    *("web_search_call", "file_search_call", "computer_call", "computer_call_output", "code_interpreter_call"),
    *("image_generation_call", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
    *("apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_approval_request", "mcp_call"),
    *("mcp_approval_response", "custom_tool_call", "custom_tool_call_output"),
)
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_ID = re.compile(r"([a-z]+)_([0-9a-f]{16})([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{16})")
_MAX_ID = 64
_ANSWERING = ("function_call_output",)


# Minting.


def make_id(prefix: str, key: str, number: int, thought: int = 0) -> str:
    """The id of item `number` (from 1) of the response `key`, which came of its item `thought`; 0 for none."""
    told = f"{key}{number:02x}{thought:02x}"
    return f"{prefix}_{told}{_seal(prefix + told)}"


def encrypt(identity: str, thought: str, stage: str) -> str:
    """Reasoning as only the provider reads it. Another `stage` gives other characters, as each sending of it has."""
    told = msgspec.json.encode([identity, thought, stage])
    return "gAAAAA" + base64.urlsafe_b64encode(_seal(told.decode()).encode() + told).decode()


def _seal(text: str) -> str:
    return blake2b(b"strict" + text.encode(), digest_size=8).hexdigest()


def _is_sealed(identity: str) -> re.Match[str] | None:
    found = _ID.fullmatch(identity)
    return found if found and found[5] == _seal(found[1] + found[2] + found[3] + found[4]) else None


def _decrypted(sealed: str) -> str:
    """The id of the reasoning item."""
    try:
        told = base64.urlsafe_b64decode(sealed.removeprefix("gAAAAA"))
        if sealed.startswith("gAAAAA") and told[:16].decode() == _seal(told[16:].decode()):
            return cast("str", msgspec.json.decode(told[16:])[0])
    except (binascii.Error, ValueError):
        pass
    shown = f"{sealed[:4]}...{sealed[-4:]}"
    raise Unacceptable(
        f"The encrypted content {shown} could not be verified. Reason: Encrypted content could not be decrypted or "
        "parsed.",
        None,
        "invalid_encrypted_content",
    )


# Checking.


def check_items(items: Sequence[Any], *, reasons: bool) -> None:
    """Check the items of an input. `reasons`: whether the model does.

    Raises:
        Unacceptable: the endpoint would refuse them.
    """
    seen: set[str] = set()
    calls: dict[str, bool] = {}  # by its id, whether a call was answered
    thought: str | None = None  # the reasoning that the items here came of
    bare = False  # whether nothing has come of it yet
    for index, given in enumerate(items):
        where = f"input[{index}]"
        item = mapping(given, where)
        kind = _check_kind(item, where)
        identity = item.get("id")
        if "id" in item:
            _check_id(string(identity, f"{where}.id"), kind, where, seen)
        if bare and kind != "reasoning" and not _is_said_by_model(kind, item):
            raise _without_following(thought)
        match kind:
            case "reasoning":
                thought, bare = _check_reasoning(item, where, reasons), True
                continue
            case "message":
                _check_message(item, where)
            case "function_call":
                calls[_check_call(item, where)] = False
            case _:
                _check_output(item, where, calls)
        if _is_said_by_model(kind, item):
            if isinstance(identity, str):
                _check_thought(identity, kind, thought)
            bare = False
        else:
            thought, bare = None, False
    if bare:
        raise _without_following(thought)
    unanswered = next((call for call, answered in calls.items() if not answered), None)
    if unanswered is not None:
        raise Unacceptable(f"No tool output found for function call {unanswered}.", "input")


def _is_said_by_model(kind: str, item: Mapping[str, Any]) -> bool:
    return kind == "function_call" or (kind == "message" and item.get("role") == "assistant")


def _without_following(identity: str | None) -> Unacceptable:
    return Unacceptable(
        f"Item '{identity}' of type 'reasoning' was provided without its required following item.", "input"
    )


def _check_kind(item: Mapping[str, Any], where: str) -> str:
    if "type" not in item and "role" not in item:
        raise Unacceptable(
            f"Missing required parameter: '{where}.type'.", f"{where}.type", "missing_required_parameter"
        )
    kind = one_of(f"{where}.type", item.get("type", "message"), (*_KEYS, *_HOSTED))
    if kind in _KEYS:
        only(item, _KEYS[kind], where)
    if kind in ("item_reference", *_HOSTED):
        raise _not_found(str(item.get("id")))
    return kind


def _check_id(identity: str, kind: str, where: str, seen: set[str]) -> None:
    prefix = _PREFIXES.get(kind, "")
    if not identity.startswith(prefix):
        raise Unacceptable(
            f"Invalid '{where}.id': '{identity}'. Expected an ID that begins with '{prefix}'.",
            f"{where}.id",
            "invalid_value",
        )
    if len(identity) > _MAX_ID:
        raise too_long(f"{where}.id", _MAX_ID, identity)
    if identity in seen:
        raise Unacceptable(
            f"Duplicate item found with id {identity}. Remove duplicate items from your input and try again.", "input"
        )
    seen.add(identity)
    if _is_sealed(identity) is None:
        raise _not_found(identity)


def _not_found(identity: str) -> Unacceptable:
    return Unacceptable(
        f"Item with id '{identity}' not found. Items are not persisted when `store` is set to false. Try again with "
        "`store` set to true, or remove this item from your input.",
        "input",
        status=404,
    )


def _check_thought(identity: str, kind: str, thought: str | None) -> None:
    """An item under its id needs the reasoning that it came of, with nothing but items of the model between them."""
    found = _is_sealed(identity)
    if found is None or found[4] == "00":
        return
    needed = make_id("rs", found[2], int(found[4], 16))
    if thought != needed:
        raise Unacceptable(
            f"Item '{identity}' of type '{kind}' was provided without its required 'reasoning' item: '{needed}'.",
            "input",
        )


def _check_reasoning(item: Mapping[str, Any], where: str, reasons: bool) -> str:
    if not reasons:
        raise Unacceptable(
            "Reasoning input items can only be provided to a reasoning or computer use model. Remove reasoning items "
            "from your input and try again.",
            "input",
        )
    summary = required(item, "summary", where)
    if not isinstance(summary, list):
        raise wrong_type(f"{where}.summary", "an array of objects", summary)
    sealed = item.get("encrypted_content")
    if sealed is None:
        raise _not_found(str(item.get("id")))
    identity = _decrypted(string(sealed, f"{where}.encrypted_content"))
    if item.get("id", identity) != identity:
        raise Unacceptable(
            f"The encrypted content for item {item['id']} could not be verified. Reason: Encrypted content item_id did "
            "not match the target item id.",
            None,
            "invalid_encrypted_content",
        )
    return identity


def _check_message(item: Mapping[str, Any], where: str) -> None:
    role = one_of(f"{where}.role", required(item, "role", where), ("assistant", "system", "developer", "user"))
    if role != "assistant":
        only(item, _KEYS["message"] - {"phase"}, where)
    elif item.get("phase") is not None:
        one_of(f"{where}.phase", item["phase"], ("commentary", "final_answer"))
    content = required(item, "content", where)
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(f"{where}.content", "one of an array of objects or string", content)
    if not content:
        raise Unacceptable("Each message must have at least one content element.", f"{where}.content")
    known = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image", "input_file")
    for position, given in enumerate(cast("list[Any]", content)):
        place = f"{where}.content[{position}]"
        part = mapping(given, place)
        kind = one_of(place, required(part, "type", place), known)
        if kind in ("input_text", "output_text", "refusal"):
            key = "refusal" if kind == "refusal" else "text"
            string(required(part, key, place), f"{place}.{key}")
        elif kind == "input_image":
            only(part, {"type", "image_url", "file_id", "detail"}, place)
            url = string(required(part, "image_url", place), f"{place}.image_url")
            if not url.startswith(("http://", "https://", "data:image/")):
                raise Unacceptable(
                    f"Invalid '{place}.image_url'. Expected a valid URL, but got a value with an invalid format.",
                    f"{place}.image_url",
                    "invalid_value",
                )
        else:
            only(part, {"type", "file_data", "file_id", "file_url", "filename"}, place)
            _check_file(part, place)


def _check_file(part: Mapping[str, Any], place: str) -> None:
    data = part.get("file_data")
    if data is None and part.get("file_url") is None and part.get("file_id") is None:
        raise Unacceptable(f"Missing required parameter: '{place}.file_id'.", place, "missing_required_parameter")
    if data is not None and not string(data, f"{place}.file_data").startswith("data:"):
        raise Unacceptable(
            f"Invalid file data: '{place}.file_data'. Expected a base64-encoded data URL with a valid MIME type.",
            f"{place}.file_data",
            "invalid_value",
        )
    if data is not None and part.get("filename") is None:
        raise Unacceptable(
            f"Missing required parameter: '{place}.filename'.", f"{place}.filename", "missing_required_parameter"
        )


def _check_call_id(item: Mapping[str, Any], where: str) -> str:
    identity = string(required(item, "call_id", where), f"{where}.call_id")
    if not identity:
        raise Unacceptable(
            f"Invalid '{where}.call_id': empty string. Expected a string with minimum length 1, but got an empty "
            "string instead.",
            f"{where}.call_id",
            "empty_string",
        )
    if len(identity) > _MAX_ID:
        raise too_long(f"{where}.call_id", _MAX_ID, identity)
    return identity


def _check_call(item: Mapping[str, Any], where: str) -> str:
    identity = _check_call_id(item, where)
    function_name(item, where)
    string(required(item, "arguments", where), f"{where}.arguments")
    return identity


def _check_output(item: Mapping[str, Any], where: str, calls: dict[str, bool]) -> None:
    if item["type"] not in _ANSWERING:
        return
    identity = _check_call_id(item, where)
    output = required(item, "output", where)
    if not isinstance(output, (str, list)):
        raise wrong_type(f"{where}.output", "one of a string or array of objects", output)
    if identity not in calls:
        raise Unacceptable(f"No tool call found for function call output with call_id {identity}.", "input")
    calls[identity] = True
