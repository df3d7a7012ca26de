"""What a server sends, from its bytes to a message that the SDK takes. Looks at nothing else than the bytes.

The SDK drops an answer that it cannot read, and then the call waits until its timeout; and it refuses a whole list of
tools, or a whole result, for one part that is odd. So what can be mended is mended here, before the SDK sees it: half a
surrogate pair, as a text has that was cut in the middle of a character; a schema that is none; a part of a result that
nobody knows. Where an answer cannot be mended, whoever waits for it gets an error in its place.

A notification that cannot be read is dropped here. The SDK would log each with what it says, which may be a secret.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from typing import Any, NamedTuple, cast

import msgspec

from .link import USELESS, load
from .results import left_out

#: Parts of one result that are told apart. Of more than these, texts that follow each other become one.
MOST_PARTS = 500
#: Where a schema keeps what the server has said in its place.
SCHEMA_AS_SAID = "x-as-said"

_SURROGATE = re.compile("[\ud800-\udfff]")
_ID = re.compile(rb'"id"\s*:\s*(\d{1,15})')
_METHOD = re.compile(rb'"method"\s*:')
#: Bytes at the beginning and the end of an answer in which its id is looked for.
_EDGE = 200


class _SDK(NamedTuple):
    message: Any
    answer: tuple[Any, ...]
    error: Any
    error_data: Any
    notification: Any
    is_notification: Any
    tool: Any
    part: Any


@functools.cache
def _sdk() -> _SDK:
    rpc, types, adapter = load("mcp.types.jsonrpc"), load("mcp.types"), load("pydantic").TypeAdapter
    return _SDK(
        message=rpc.jsonrpc_message_adapter,
        answer=(rpc.JSONRPCResponse, rpc.JSONRPCError),
        error=rpc.JSONRPCError,
        error_data=types.ErrorData,
        notification=rpc.JSONRPCNotification,
        is_notification=adapter(types.ServerNotification),
        tool=adapter(types.Tool),
        part=adapter(types.ContentBlock),
    )


def is_answer(message: Any) -> bool:
    """Whether a message is the answer to a request, or an error in its place."""
    return isinstance(message, _sdk().answer)


def is_error(message: Any) -> bool:
    """Whether a message is an error in the place of an answer."""
    return isinstance(message, _sdk().error)


def message_of(data: bytes) -> Any:
    """The message in these bytes; None for a notification that nobody can read.

    Raises:
        ValueError: it is no message.
    """
    sdk = _sdk()
    try:
        message = sdk.message.validate_json(data, by_name=False)
    except ValueError as error:
        message = _mended(data)
        if message is None:
            raise ValueError(_fault(error)) from None
    if isinstance(message, sdk.notification):
        return message if _is_known(message) else None
    result = getattr(message, "result", None)
    if result is not None:
        _mend_result(result)
    return message


def encoded(message: Any) -> bytes:
    """A message as bytes."""
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode("utf-8", "replace")


def _is_known(message: Any) -> bool:
    told = {"method": message.method, "params": message.params}
    try:
        _sdk().is_notification.validate_python(told, by_name=False)
    except ValueError:
        return False
    return True


# -- answers that are not quite such


def _mended(data: bytes) -> Any:
    """A message from bytes that are not quite one."""
    sdk = _sdk()
    data = data.strip()
    if not data.startswith(b"{") or b'"id"' not in data:
        return None
    value: dict[str, Any] | None = None
    try:
        value = json.loads(data.decode("utf-8", "replace"))
        text = _SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False))
        return sdk.message.validate_json(text, by_name=False)
    except (ValueError, RecursionError) as error:
        key = _id_of(data) if value is None else value.get("id") if "method" not in value else None
        if isinstance(key, bool) or not isinstance(key, int | str):
            return None
        why = "it is nested too deeply" if isinstance(error, RecursionError) else _fault(error)
        return sdk.error(jsonrpc="2.0", id=key, error=sdk.error_data(code=USELESS, message=why))


def _id_of(data: bytes) -> int | None:
    """The id of an answer that is no JSON, or none that can be read, as far as it can be told."""
    if _METHOD.search(data[:_EDGE]):
        return None
    found = _ID.search(data[:_EDGE]) or _ID.search(data[-_EDGE:])
    return int(found[1]) if found is not None else None


def _fault(error: ValueError) -> str:
    details: Any = getattr(error, "errors", None)
    is_json = details is not None and details()[0]["type"] != "json_invalid"
    return "it is no message of JSON-RPC" if is_json else one_line(error)


def one_line(error: BaseException) -> str:
    """What an error of the library that checks records says, without its addresses and what it was given."""
    details = getattr(error, "errors", None)
    if details is None:
        return str(error) or type(error).__name__
    found = details(include_url=False, include_input=False, include_context=False)
    first, others = found[0], len(found) - 1
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {others} more)" if others else ""
    return f"{place}: {first['msg']}{more}" if place else f"{first['msg']}{more}"


# -- results


def _mend_result(result: dict[str, Any]) -> None:
    tools, content = result.get("tools"), result.get("content")
    if isinstance(tools, list):
        listed = [_mended_tool(each) for each in cast("list[Any]", tools)]
        result["tools"] = [each for each in listed if each is not None]
        if isinstance(result.get("nextCursor"), int):
            result["nextCursor"] = str(result["nextCursor"])
    if isinstance(content, list):
        parts = cast("list[Any]", content)
        result["content"] = [_mended_part(each) for each in (_joined(parts) if len(parts) > MOST_PARTS else parts)]
        structured = result.get("structuredContent")
        if structured is not None and not isinstance(structured, dict):
            del result["structuredContent"]
            if not parts:
                result["content"] = [_text(msgspec.json.encode(structured).decode())]


def _mended_tool(tool: Any) -> dict[str, Any] | None:
    """A tool as the SDK takes it; None for what is none."""
    if not isinstance(tool, dict):
        return None
    made = dict(cast("dict[str, Any]", tool))
    made["inputSchema"] = _mended_schema(made.get("inputSchema"))
    if "outputSchema" in made and not _is_object(made["outputSchema"]):
        del made["outputSchema"]
    if _fits(_sdk().tool, made):
        return made
    bare = {key: made[key] for key in ("name", "inputSchema") if key in made}
    if isinstance(made.get("description"), str):
        bare["description"] = made["description"]
    return bare if _fits(_sdk().tool, bare) else None


def _is_object(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    schema = cast("dict[str, Any]", schema)
    return schema.get("type") == "object" and isinstance(schema.get("properties", {}), dict)


def _mended_schema(schema: Any) -> dict[str, Any]:
    """A schema as the SDK takes it. Some languages write an empty object as an empty list."""
    if schema is None or schema == []:
        return {"type": "object"}
    if not isinstance(schema, dict):
        return {"type": "object", SCHEMA_AS_SAID: schema}
    schema = cast("dict[str, Any]", schema)
    kinds: Any = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in cast("list[Any]", kinds)):
        return {"type": "object", SCHEMA_AS_SAID: schema}
    made: dict[str, Any] = {**schema, "type": "object"}
    for key in ("properties", "$defs", "definitions"):
        if made.get(key, {}) == []:
            made[key] = {}
    fits = _is_object(made) and isinstance(made.get("required", []), list)
    return made if fits else {"type": "object", SCHEMA_AS_SAID: schema}


def _mended_part(part: Any) -> Any:
    text = _text_in(part)
    if (text is not None and len(part) == 2) or _fits(_sdk().part, part):  # the usual ones first
        return part
    if text is not None:
        return _text(text)
    kind = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else type(part).__name__
    return _text(left_out(f"a part of the type {str(kind)[:100]!r}"))


def _joined(parts: list[Any]) -> list[Any]:
    """Parts, of which texts that follow each other are one."""
    made: list[Any] = []
    for is_text, group in itertools.groupby(parts, lambda part: _text_in(part) is not None):
        several = list(group)
        made += [_text("\n".join([part["text"] for part in several]))] if is_text else several
    if len(made) > MOST_PARTS:
        made = [*made[:MOST_PARTS], _text(left_out(f"{len(made) - MOST_PARTS} more parts"))]
    return made


def _text_in(part: Any) -> str | None:
    if not isinstance(part, dict):
        return None
    said = cast("dict[str, Any]", part)
    text = said.get("text") if said.get("type") == "text" else None
    return text if isinstance(text, str) else None


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _fits(adapter: Any, value: Any) -> bool:
    try:
        adapter.validate_python(value, by_name=False)
    except ValueError:
        return False
    return True
