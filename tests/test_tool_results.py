"""What tools return: text, JSON, images and files, and how each provider gets it."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom import Agent, System, document, image, tool
from greenroom.agents.tool import Tool
from greenroom.agents.tool_results import MOST_DOCUMENT, MOST_IMAGE, make_result
from greenroom.providers import Document, Image, Message, Scripted, Text, ToolCall, ToolResult, call, user
from greenroom.providers.dialects.attachments import results_apart
from greenroom.testing import FORMATS, StrictServer

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PICTURE = image(PNG, media_type="image/png")
PAPER = document(b"%PDF-1.4", media_type="application/pdf", name="paper.pdf")


@dataclass
class Row:
    price: decimal.Decimal
    day: datetime.date


class Record(msgspec.Struct):
    where: Path
    raw: bytes


def result(value: Any, limit: int = 1000) -> ToolResult:
    return make_result("c", "t", value, limit)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Row(decimal.Decimal("1.50"), datetime.date(2026, 1, 2)), '{"price":"1.50","day":"2026-01-02"}'),
        (Record(Path("/x"), b"\xff"), '{"where":"/x","raw":"/w=="}'),
        ({1, 2}, "[1,2]"),
        ((1, None), "[1,null]"),
        (b"caf\xc3\xa9", "café"),
        (bytearray(b"x"), "x"),
        (memoryview(b"x"), "x"),
        ("half \ud800", "half ?"),
        ([], "[]"),
        ({"type": "image"}, '{"type":"image"}'),
    ],
)
def test_json_and_bytes_as_text(value: Any, text: str) -> None:
    """Scenario 70: whatever is returned has a defined text, and no parts."""
    assert result(value) == ToolResult("c", text, "t")


def test_a_model_of_pydantic_is_written_by_itself() -> None:
    pydantic = pytest.importorskip("pydantic")
    made = pydantic.create_model("Made", n=(int, ...), when=(datetime.date, ...))(n=1, when="2026-01-02")
    assert result(made).content == '{"n":1,"when":"2026-01-02"}'
    assert result({"all": [made]}).content == '{"all":[{"n":1,"when":"2026-01-02"}]}'


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (b"\xff\x00", TypeError, r"returned 2 bytes that are not text: return text, or image\(data, media_type=…\)"),
        ({"plot": PICTURE}, TypeError, "returned a dict that holds an image: return it by itself, or in a list"),
        ([[PICTURE]], TypeError, "returned a list that holds an image"),
        (["x", b"\xff", PICTURE], TypeError, "1 bytes that are not text"),
        (image(bytes(MOST_IMAGE + 1), media_type="image/png"), ValueError, "an image of 5000001 bytes: return 1 to"),
        (document(bytes(MOST_DOCUMENT + 1), media_type="text/plain"), ValueError, "a document of 20000001 bytes"),
        (image(PNG, media_type="image/tiff"), ValueError, "type 'image/tiff': models take image/png, image/jpeg"),
        (Image(), ValueError, r"neither data nor a URL: make it with image\(…\)"),
        (Document(data=b""), ValueError, "a document of 0 bytes"),
        ([PICTURE] * 21, ValueError, "returned 21 images and documents: return at most 20"),
    ],
)
def test_what_no_request_could_carry_is_refused(value: Any, error: type[Exception], words: str) -> None:
    """Scenario 70: a value that would make every later request fail costs one call, and not the conversation."""
    with pytest.raises(error, match=words):
        result(value)


def test_images_and_texts() -> None:
    """The text tells all of it; the parts hold the images in their places."""
    assert result(PICTURE) == ToolResult("c", "[image: image/png, 28 bytes]", "t", parts=(PICTURE,))
    mixed = result(["A plot:", PICTURE, {"points": 3}, PAPER, Text("end")])
    assert mixed.content == (
        "A plot:\n[image: image/png, 28 bytes]\n{\"points\":3}\n[document 'paper.pdf': application/pdf, 8 bytes]\nend"
    )
    assert mixed.parts == (Text("A plot:"), PICTURE, Text('{"points":3}'), PAPER, Text("end"))
    assert mixed.attachments == (PICTURE, PAPER)
    linked = result((image("https://example.com/a.png"), image(f"data:image/png;base64,{'A' * 500}")))
    assert linked.content == "[image: https://example.com/a.png]\n[image: by its URL]"


def test_the_limit_is_one_for_all_texts() -> None:
    """Images do not count, and every text after the limit is left out."""
    cut = result(["a" * 8, PICTURE, "b" * 8, "c" * 8], 10)
    assert cut.parts == (Text("a" * 8), PICTURE, Text("bb\n[cut: 6 more characters]"))
    assert cut.content.startswith("a" * 8)
    assert "more characters]" in cut.content
    assert result("x" * 11, 10).content == f"{'x' * 10}\n[cut: 1 more characters]"


def test_a_result_with_parts_survives_the_journal() -> None:
    """It is written down in builtin form, as JSON has it, and is the same when it is read."""
    made = result(["A plot:", PICTURE, PAPER])
    for builtin in (msgspec.to_builtins(made), msgspec.json.decode(msgspec.json.encode(made))):
        assert msgspec.convert(builtin, ToolResult) == made
    assert "parts" not in msgspec.to_builtins(result("text"))


def test_results_apart() -> None:
    """Attachments go behind the last result of their turn, under the name of their tool; the rest is left as it is."""
    calls = Message("assistant", (ToolCall("1", "plot", {}, "{}"), ToolCall("2", "text", {}, "{}")))
    results = [
        Message("tool", (ToolResult("1", "[image]", None, parts=(Text("A plot:"), PICTURE, PAPER)),)),
        Message("tool", (ToolResult("2", "text", "text"),)),
    ]
    history = [user("go"), calls, *results, user("and?")]
    assert list(results_apart(history, lambda part: isinstance(part, Image))) == [
        *history[:4],
        user("Returned by plot:", PICTURE),
        history[4],
    ]
    assert list(results_apart(history[:3], lambda part: True))[3:] == [user("Returned by plot:", PICTURE, PAPER)]
    assert list(results_apart(history, lambda part: False)) == history
    plain = [user("go"), calls, results[1]]
    assert results_apart(plain, lambda part: True) is plain


@tool
async def plot() -> Any:
    """A plot and a paper."""
    return ["A plot:", PICTURE, PAPER]


@tool
async def greet() -> str:
    """A greeting."""
    return "hello"


MODELS = {"anthropic": "claude-sonnet-5", "bedrock": "anthropic.claude-sonnet-5-v1:0", "gemini": "gemini-3-pro"}


@pytest.mark.parametrize("family", sorted(FORMATS))
@pytest.mark.parametrize("older", [False, True])
async def test_every_provider_takes_images_from_tools(family: str, older: bool) -> None:
    """A strict server of each family accepts the conversation, goes on with it, and gets the image where it can."""
    name = (
        {"gemini": "gemini-2.5-pro", "bedrock": "meta.llama-x"}.get(family, "m") if older else MODELS.get(family, "m")
    )
    script: Any = [[call("plot"), call("greet")], [call("greet")], "seen", "again"]
    async with StrictServer(family, script) as server:
        agent = Agent("a", server.provider(name), tools=[plot, greet])
        first = await agent.run("go")
        second = await agent.run("and now?", history=first)
    assert (first.output, second.output, server.refusals) == ("seen", "again", [])
    sent = msgspec.json.encode(server.requests[-1]).decode()
    encoded = "iVBORw0KGgo"
    assert sent.count(encoded) == (0 if family == "cohere" or (family == "bedrock" and older) else 1)
    assert "image/png, 28 bytes" in sent or family in ("anthropic", "openai-responses")


SHAPES: dict[str, Callable[[Any], Any]] = {
    "anthropic": lambda body: [block["type"] for block in body["messages"][2]["content"][0]["content"]],
    "openai-responses": lambda body: [
        piece["type"]
        for item in body["input"]
        if item.get("type") == "function_call_output"
        for piece in item["output"]
    ],
    "gemini": lambda body: [next(iter(part)) for part in body["contents"][2]["parts"][0]["functionResponse"]["parts"]],
    "bedrock": lambda body: [next(iter(block)) for block in body["messages"][2]["content"][0]["toolResult"]["content"]],
    "openai-chat": lambda body: [part["type"] for part in body["messages"][-1]["content"]],
    "ollama": lambda body: sorted(body["messages"][-1]),
}


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("anthropic", ["text", "image", "document"]),
        ("openai-responses", ["input_text", "input_image", "input_file"]),
        ("gemini", ["inlineData", "inlineData"]),
        ("bedrock", ["text", "image", "document"]),
        ("openai-chat", ["text", "image_url", "file"]),
        ("ollama", ["content", "images", "role"]),
    ],
)
async def test_where_each_format_has_them(family: str, shape: list[str]) -> None:
    """In the result where the format knows that, or else in a message of the user behind it."""
    async with StrictServer(family, [[call("plot")], "seen"]) as server:
        await Agent("a", server.provider(MODELS.get(family, "m")), tools=[plot]).run("go")
    assert SHAPES[family](server.requests[-1]) == shape


async def test_what_a_format_cannot_carry_is_named_and_never_ends_a_run() -> None:
    """A document of a kind that nobody reads costs nothing but itself."""

    @tool
    async def archive() -> Any:
        """A file."""
        return document(b"PK", media_type="application/zip", name="a.zip")

    for family in sorted(FORMATS):
        async with StrictServer(family, [[call("archive")], "seen"]) as server:
            run = await Agent("a", server.provider(MODELS.get(family, "m")), tools=[archive]).run("go")
        assert (run.output, server.refusals) == ("seen", []), family
        sent = msgspec.json.encode(server.requests[-1]).decode()
        assert "[document 'a.zip': application/zip, 2 bytes]" in sent
        assert "UEs=" not in sent


async def test_parts_in_a_run_and_its_events() -> None:
    """The history has the parts, an event the text."""
    told: list[str] = []
    provider = Scripted([call("plot")], "done")
    async with System():
        agent = Agent("a", provider, tools=[plot], hooks={"on_tool_end": lambda event: told.append(event.result)})
        made = await agent.run("x")
    [given] = provider.requests[1].messages[-1].tool_results
    assert given.parts == (Text("A plot:"), PICTURE, PAPER)
    assert told == [given.content]
    assert msgspec.json.encode(made.to_dict())


async def test_bytes_that_are_no_text_fail_the_call_and_nothing_else() -> None:
    """Scenario 70: non-UTF-8 bytes are an error result that says what to return."""

    def broken() -> bytes:
        """Bytes."""
        return b"\xff"

    provider = Scripted([call("broken")], "done")
    async with System():
        made = await Agent("a", provider, tools=[broken]).run("x")
    [told] = provider.requests[1].messages[-1].tool_results
    assert (made.output, told.is_error, told.cause) == ("done", True, "failed")
    assert "1 bytes that are not text" in told.content


def test_a_number_that_json_does_not_have_beside_an_image() -> None:
    assert result([math.nan, PICTURE]).parts == (Text('"NaN"'), PICTURE)
    assert Tool(greet.function).result("c", PICTURE).parts == (PICTURE,)
