"""Tools are written once, and are what they would be anew."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from greenroom.providers import ModelRequest, ToolSpec
from greenroom.providers.dialects.anthropic import AnthropicDialect
from greenroom.providers.dialects.openai_chat import ChatDialect
from greenroom.providers.dialects.tool_bytes import ToolBytes


def spec(name: str) -> ToolSpec:
    return ToolSpec(name, f"Does {name}.", {"type": "object", "properties": {name: {"type": "string"}}})


def test_a_tool_is_written_once() -> None:
    asked: list[str] = []

    def write(tool: ToolSpec) -> dict[str, Any]:
        asked.append(tool.name)
        return {"name": tool.name}

    tools, written = [spec("a"), spec("b")], ToolBytes(write)
    assert msgspec.json.encode(written(tools)) == b'[{"name":"a"},{"name":"b"}]'
    assert msgspec.json.encode(written(tools[::-1])) == b'[{"name":"b"},{"name":"a"}]'
    assert asked == ["a", "b"]


def test_tools_that_are_alike_are_no_trouble() -> None:
    """A tool is known by what it is, not by where it happens to lie: its place in memory may be another's later."""
    written = ToolBytes(lambda tool: tool.name)
    for number in range(5_000):
        assert msgspec.json.encode(written([spec(f"t{number}")])) == f'["t{number}"]'.encode()


@pytest.mark.parametrize("dialect", [ChatDialect("m"), AnthropicDialect("claude-sonnet-4-5")])
def test_the_second_request_has_the_same_tools(dialect: Any) -> None:
    tools = [spec("look"), spec("find")]
    bodies = [
        msgspec.json.decode(
            dialect.encode(ModelRequest([{"role": "user", "content": "Hi"}], tools=offered), stream=False).body
        )
        for offered in (tools, tools, tools[:1])
    ]
    assert bodies[0] == bodies[1]
    assert bodies[2]["tools"] == bodies[0]["tools"][:1]
    assert [msgspec.json.encode(each).count(b"Does ") for each in bodies[0]["tools"]] == [1, 1]
