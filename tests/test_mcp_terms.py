"""What a server says of its tools, and what they return, in our terms."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp import types

from greenroom import Tool
from greenroom.providers import Document, Image, call
from greenroom.tools.mcp.link import LINE, TEXT, Link
from greenroom.tools.mcp.offered import MOST_DESCRIPTION, Offer, choose, mistakes_of, offers
from greenroom.tools.mcp.results import text_of, value_of
from greenroom.tools.mcp.stdio import Lines

from .mcp_calls import PIXEL

OPEN = {"type": "object"}


def listed(name: str, schema: dict[str, Any] | None = None, **facts: Any) -> types.Tool:
    return types.Tool(name=name, input_schema=schema if schema is not None else OPEN, **facts)


def one(schema: dict[str, Any], **facts: Any) -> Offer:
    (offer,) = offers([listed("t", schema, **facts)], "")
    return offer


def refuses(offer: Offer, **arguments: Any) -> bool:
    """Whether a tool made of the offer refuses these arguments; an offer that no tool can be made of fails."""

    async def function(**arguments: Any) -> None: ...

    tool = Tool.from_schema(offer.label, offer.description, offer.checked, function)
    try:
        tool.arguments(call("t", **arguments))
    except ValueError:
        return True
    return False


# -- names


def test_names_become_such_as_providers_take_and_stay_apart() -> None:
    names = ["a.b/c", "a_b_c", "ä", "x" * 80, "x" * 81, "", "plain-name_1"]
    assert [offer.label for offer in offers(map(listed, names), "p_")] == [
        *("p_a_b_c", "p_a_b_c_2", "p__", "p_" + "x" * 62, "p_" + "x" * 60 + "_2", "p_", "p_plain-name_1"),
    ]
    assert [offer.name for offer in offers(map(listed, names), "p_")] == names
    assert [offer.label for offer in offers([listed("")], "")] == ["tool"]


def test_a_name_is_offered_once_and_tasks_are_not() -> None:
    task = listed("task", execution=types.ToolExecution(task_support="required"))
    both = listed("both", execution=types.ToolExecution(task_support="optional"))
    tools = [listed("a", title="first"), listed("a", title="second"), task, both, listed("b"), listed("c")]
    assert [(tool.name, tool.title) for tool in choose(tools, None, {"c"})] == [
        *(("a", "first"), ("both", None), ("b", None)),
    ]
    assert [tool.name for tool in choose(tools, {"b", "c"}, {"c"})] == ["b"]


# -- descriptions and hints


def test_a_description_is_bounded_and_a_title_does_for_one() -> None:
    assert one(OPEN, title="Look it up").description == "Look it up"
    assert one(OPEN, annotations=types.ToolAnnotations(title="Look")).description == "Look"
    assert len(one(OPEN, description="x" * 100_000).description) == MOST_DESCRIPTION + 2


# -- schemas


def test_a_schema_is_shown_as_it_is_and_checked() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"city": {"type": "string", "pattern": r"^\p{L}+$"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    offer = one(schema)
    assert offer.shown == {key: value for key, value in schema.items() if key != "$schema"}
    assert offer.doubt is None
    assert not refuses(offer, city="Oslo 7")  # the pattern is the server's business
    assert refuses(offer, city=7)
    assert refuses(offer)
    assert refuses(offer, city="Oslo", town="x")


def test_a_schema_with_patterns_of_names_leaves_further_names_to_the_server() -> None:
    offer = one({"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": False})
    assert not refuses(offer, **{"x-1": 1})
    assert offer.shown["patternProperties"] == {"^x-": {}}


def test_what_is_called_like_a_keyword_is_kept() -> None:
    """A property, or a value, may be called pattern."""
    schema = {"type": "object", "properties": {"pattern": {"enum": [{"pattern": 1}]}}, "required": ["pattern"]}
    offer = one(schema)
    assert not refuses(offer, pattern={"pattern": 1})
    assert refuses(offer, pattern={})
    assert refuses(offer)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "properties": []},
        {"type": "object", "properties": {"x": {"type": "text"}}},
        {"type": "object", "properties": {"x": {"$ref": "https://example.com/schema.json"}}},
        {"type": "object", "required": "x"},
        {"type": "object", "$dynamicRef": "#x"},
        {"type": "object", "description": "x" * 60_000},
    ],
)
def test_a_schema_of_no_use_becomes_text_and_takes_anything(schema: dict[str, Any]) -> None:
    offer = one(schema, description="Does it.")
    assert offer.shown == {"type": "object", "properties": {}, "additionalProperties": True}
    assert offer.description.startswith("Does it.\n\nIts arguments, as JSON schema: {")
    assert len(offer.description) < 2 * MOST_DESCRIPTION
    assert offer.doubt
    assert not refuses(offer, anything=[1])


def test_a_schema_without_an_end_becomes_text() -> None:
    deep: dict[str, Any] = {}
    for _ in range(3_000):
        deep = {"type": "object", "properties": {"x": deep}}
    offer = one(deep)
    assert offer.doubt
    assert not refuses(offer, x=1)


def test_a_choice_at_the_top_is_told_and_checked_and_not_shown() -> None:
    """Providers refuse every request with such a tool."""
    wanted = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {}}}
    offer = one({**wanted, "anyOf": [{"required": ["id"]}, {"required": ["name"]}]}, description="Finds.")
    assert offer.shown == wanted
    assert '"anyOf"' in offer.description
    assert offer.doubt is None
    assert refuses(offer)
    assert not refuses(offer, name="x")


def test_a_structured_result_is_checked_where_it_can_be() -> None:
    offer = one(OPEN, output_schema={"type": "object", "properties": {"x": {"type": "integer"}}})
    assert mistakes_of(offer, {"x": 1}) == []
    assert len(mistakes_of(offer, {"x": "1"})) == 1
    unknown = one(OPEN, output_schema={"type": "object", "properties": {"x": {"$ref": "https://example.com/x"}}})
    assert mistakes_of(unknown, {"x": "1"}) == []


# -- results


def content(**facts: Any) -> types.CallToolResult:
    return types.CallToolResult.model_validate({"content": [facts]})


def value(**facts: Any) -> Any:
    return value_of(content(**facts))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_images_and_files_are_passed_on() -> None:
    assert value(type="image", data=PIXEL, mimeType="image/png") == [
        Image(data=base64.b64decode(PIXEL), media_type="image/png")
    ]
    assert value(type="image", data=PIXEL, mimeType="image/jpg")[0].media_type == "image/jpeg"
    assert value(type="audio", data=encoded(b"RIFF"), mimeType="audio/wav") == [
        Document(data=b"RIFF", media_type="audio/wav")
    ]
    paper = {"uri": "file:///a/paper.pdf", "mimeType": "application/pdf", "blob": encoded(b"%PDF")}
    assert value(type="resource", resource=paper) == [
        Document(data=b"%PDF", media_type="application/pdf", name="paper.pdf")
    ]
    picture = {"uri": "file:///a/x.png", "mimeType": "image/png", "blob": PIXEL}
    assert isinstance(value(type="resource", resource=picture)[0], Image)


def test_texts_of_resources_are_texts() -> None:
    assert value(type="resource", resource={"uri": "a://b", "text": "hello"}) == "[resource a://b]\nhello"
    told = {"uri": "a://b", "mimeType": "application/json", "blob": encoded(b"{}")}
    assert value(type="resource", resource=told) == "[resource a://b]\n{}"
    link = {"type": "resource_link", "uri": "a://b", "name": "b", "mimeType": "text/plain", "description": "It is b."}
    assert value(**link) == "[resource a://b: b, text/plain, It is b.]"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"type": "image", "data": "!", "mimeType": "image/png"}, "[left out: an image, image/png, 0 bytes]"),
        ({"type": "image", "data": "A", "mimeType": "image/png"}, "[left out: an image, image/png, unreadable]"),
        ({"type": "image", "data": PIXEL, "mimeType": "image/tiff"}, "[left out: an image, image/tiff, 70 bytes]"),
        (
            {"type": "image", "data": encoded(b"x" * 6_000_000), "mimeType": "image/png"},
            "[left out: an image, image/png, 6000000 bytes]",
        ),
        ({"type": "audio", "data": "", "mimeType": "audio/wav"}, "[left out: a file, audio/wav, 0 bytes]"),
        (
            {"type": "resource", "resource": {"uri": "a://b", "mimeType": "text/plain", "blob": encoded(b"\xff")}},
            "[left out: a://b, text/plain, unreadable]",
        ),
    ],
)
def test_what_cannot_be_passed_on_is_said(facts: dict[str, Any], says: str) -> None:
    assert value(**facts) == says


def test_images_are_bounded_in_number() -> None:
    picture = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
    result = types.CallToolResult.model_validate({"content": [picture] * 30})
    given = value_of(result)
    assert len(given) == 21
    assert given[-1] == "[left out: 10 more images and documents]"
    assert text_of(result).count("[left out: an image, image/png, 70 bytes]") == 20


def test_structured_content_alone_is_json() -> None:
    assert value_of(types.CallToolResult(content=[], structured_content={"x": [1]})) == '{"x":[1]}'
    both = types.CallToolResult.model_validate({"content": [{"type": "text", "text": "1"}], "structuredContent": {}})
    assert value_of(both) == "1"
    assert value_of(types.CallToolResult(content=[])) == ""


# -- the link


def test_secrets_are_taken_out_of_what_is_said() -> None:
    link = Link("x", ["sk-12345678", "one line\nanother line", "short"])
    link.heard(b"key sk-123")
    link.heard(b"45678 is wrong\n" + b"x" * (LINE - 3) + b"sk-12345678\nanother line\nshort\n")
    told = link.sentence("is gone, sk-12345678")
    assert "sk-" not in told
    assert told.startswith("MCP server 'x' is gone, [key]. It last wrote:\nkey [key] is wrong\nxxx")
    assert told.endswith("[ke\n[key]\nshort")
    assert len(link.text("y" * 10_000_000)) == TEXT + 2


def test_the_first_cause_of_an_end_is_believed() -> None:
    link = Link("x")
    link.end("was killed")
    link.end("is closed")
    assert link.epitaph() == "MCP server 'x' was killed"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_come_whole_however_they_are_cut(size: int) -> None:
    data = b"one\n\ntwo\r\nthree\nrest"
    lines = Lines(20)
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found == [b"one", b"", b"two\r", b"three"]


def test_a_line_without_an_end_is_refused_where_it_is_too_long() -> None:
    lines = Lines(10)
    with pytest.raises(ValueError, match="a line of more than 10 bytes"):
        for _ in range(3):
            list(lines.feed(b"12345"))
