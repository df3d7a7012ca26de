"""What a server sends, from bytes to messages: what is mended, what is refused, what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greenroom.tools.mcp.incoming import MOST_PARTS, message_of
from greenroom.tools.mcp.link import USELESS


def answer(result: Any) -> Any:
    return message_of(json.dumps({"jsonrpc": "2.0", "id": 7, "result": result}).encode()).result


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "a\\ud800"}]}}',
        b'{"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "a\xff"}]}}',
    ],
)
def test_what_is_no_text_is_replaced(data: bytes) -> None:
    message = message_of(data)
    assert (message.id, message.result) == (7, {"content": [text("a\ufffd")]})


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc": "2.0", "id": 7, "error": "bad"}',
        b'{"jsonrpc": "2.0", "id": 7, "result": null}',
        b'{"jsonrpc": "2.0", "id": 7, "result": [] }',
        b'{"jsonrpc": "2.0", "id": 7, "result": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"jsonrpc": "2.0", "result": {"a": ' + b"9" * 5_000 + b'}, "id": 7}',
        b'{"jsonrpc": "2.0", "id": 7, "result": {"a": oops}}',
    ],
)
def test_an_answer_of_no_use_is_an_error_for_who_waits_for_it(data: bytes) -> None:
    message = message_of(data)
    assert (message.id, message.error.code) == (7, USELESS)
    assert "\n" not in message.error.message
    assert "pydantic" not in message.error.message


@pytest.mark.parametrize(
    "data",
    [
        b"Listening",
        b"{",
        b"[]",
        b"null",
        b'{"jsonrpc": "2.0", "id": true, "result": null}',
        b'{"jsonrpc": "2.0", "id": 7, "method": "x", "params": oops}',
        b'{"jsonrpc": "1.0", "id": 7, "method": "x"}',
    ],
)
def test_what_is_no_message_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"Invalid JSON|no message of JSON-RPC") as raised:
        message_of(data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("method", "params", "known"),
    [
        ("notifications/tools/list_changed", {}, True),
        ("notifications/progress", {"progressToken": 1, "progress": 2}, True),
        ("notifications/progress", {"progressToken": 1, "progress": "far"}, False),
        ("notifications/message", {"level": "loud", "data": 1}, False),
        ("notifications/news", {}, False),
    ],
)
def test_a_notification_that_nobody_can_read_is_left_out(method: str, params: dict[str, Any], known: bool) -> None:
    message = message_of(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())
    assert (message is not None) is known


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": ["object", "null"]}, {"type": "object"}),
        ({"type": "object", "properties": []}, {"type": "object", "properties": {}}),
        ([], {"type": "object"}),
        (None, {"type": "object"}),
        ("none", {"type": "object", "x-as-said": "none"}),
        ({"type": "string"}, {"type": "object", "x-as-said": {"type": "string"}}),
        ({"required": "a"}, {"type": "object", "x-as-said": {"required": "a"}}),
    ],
)
def test_a_schema_that_is_none_is_kept_as_what_was_said(said: Any, becomes: dict[str, Any]) -> None:
    assert answer({"tools": [{"name": "x", "inputSchema": said}]})["tools"] == [{"name": "x", "inputSchema": becomes}]


def test_a_tool_is_taken_without_what_is_odd_about_it() -> None:
    good = {"name": "x", "inputSchema": {"type": "object"}, "description": "Does x."}
    odd = {**good, "annotations": 3, "icons": "none"}
    assert answer({"tools": [odd, 3, {"inputSchema": {}}], "nextCursor": 3}) == {"tools": [good], "nextCursor": "3"}
    assert answer({"tools": [{**good, "outputSchema": {"type": "string"}}]})["tools"] == [good]
    assert answer({"tools": [{**good, "description": 5}]})["tools"] == [
        {"name": "x", "inputSchema": {"type": "object"}}
    ]


def test_a_part_that_nobody_knows_costs_no_other() -> None:
    video, odd = {"type": "video", "data": "x"}, {**text("b"), "annotations": 3}
    left_out = [text("[left out: a part of the type 'video']"), text("[left out: a part of the type 'int']")]
    assert answer({"content": [text("a"), video, odd, 3]})["content"] == [
        text("a"),
        left_out[0],
        text("b"),
        left_out[1],
    ]


def test_structured_content_that_is_no_object_is_left_to_the_text() -> None:
    assert answer({"content": [text("a")], "structuredContent": [1]}) == {"content": [text("a")]}
    assert answer({"content": [], "structuredContent": [1]}) == {"content": [text("[1]")]}


def test_a_great_many_parts_are_few() -> None:
    assert answer({"content": [text("a")] * 100_000})["content"] == [text("\n".join(["a"] * 100_000))]
    picture = {"type": "image", "data": "AA==", "mimeType": "image/png"}
    parts = answer({"content": [text("a"), picture] * 1_000})["content"]
    assert len(parts) == MOST_PARTS + 1
    assert parts[-1] == text("[left out: 1500 more parts]")
