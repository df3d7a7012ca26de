"""Recorded conversations, driven as whole agent runs over real HTTP.

A group of recordings is one conversation: what the vendor answered, and what the recorded client sent back. Here our
agent has the recorded tools, a server on loopback plays the recorded answers, and every request that the agent makes
must continue the conversation as the recorded client did.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from greenroom import Agent, Limits, Tool
from greenroom.providers import Message, ToolCall, ToolSpec, connect, message_from_openai
from greenroom.providers.connect import VENDORS

from .recorded import CHAT as FAMILY
from .recorded import answer_of
from .wire import serve

pytestmark = pytest.mark.anyio

Exchange = dict[str, Any]


class RecordedTool(Tool[..., Any]):
    """A tool with a recorded schema that gives the recorded results."""

    def __init__(self, schema: dict[str, Any], results: dict[str, str]) -> None:
        async def play() -> str:
            """Play."""
            return ""

        super().__init__(play, name=schema["name"])
        self.spec = ToolSpec(schema["name"], schema.get("description") or "", schema.get("parameters") or {})
        self.results = results

    def arguments(self, call: ToolCall) -> dict[str, Any]:
        if call.arguments is None:
            raise ValueError("not an object")
        return {}

    def result(self, call_id: str, value: Any) -> Any:
        return super().result(call_id, self.results.get(call_id, "nothing was recorded"))


def conversations(recordings: Path) -> dict[str, list[Exchange]]:
    """The groups in which every request continues the one before, by the name of the group."""
    groups: dict[str, list[Exchange]] = defaultdict(list)
    for vendor in FAMILY:
        for path in sorted((recordings / vendor).glob("*.json")):
            record = json.loads(path.read_text())
            if record.get("sequence") and record["request"] is not None:
                groups[record["sequence"]["group"]].append(record)
    for group in groups.values():
        group.sort(key=lambda record: record["sequence"]["index"])
    return {name: group for name, group in groups.items() if len(group) > 1 and is_conversation(group)}


def messages_of(exchange: Exchange) -> list[dict[str, Any]]:
    return exchange["request"]["body"].get("messages", [])


def is_conversation(group: list[Exchange]) -> bool:
    for before, after in pairwise(group):
        expected = before["expected"]
        if expected["kind"] != "completion" or expected["stop_reason"] == "error":
            return False
        added = messages_of(after)[len(messages_of(before)) :]
        calls = [call["id"] for call in expected["tool_calls"]]
        if not added or added[0]["role"] != "assistant" or not all(calls):
            return False
        results = [message.get("tool_call_id") for message in added if message["role"] == "tool"]
        rest = [message["role"] for message in added[1 + len(results) :]]
        if results != calls or (calls and rest) or (not calls and rest != ["user"]):
            return False
        if [call["id"] for call in added[0].get("tool_calls") or []] != calls:
            return False
    return group[-1]["expected"]["kind"] == "completion"


def essence(message: Message) -> Any:
    """What a vendor would call the same message: who, what text, which calls, which results."""
    return (
        message.role,
        message.text,
        [(call.id, call.name, call.arguments) for call in message.tool_calls],
        [(result.call_id, result.content) for result in message.tool_results],
    )


async def play(group: list[Exchange]) -> int:
    """Drive one conversation; returns the number of runs that it took."""
    vendor = group[0]["provider"] if group[0]["provider"] in VENDORS else "openai"
    results = {
        message["tool_call_id"]: message["content"]
        for exchange in group
        for message in messages_of(exchange)
        if message["role"] == "tool" and isinstance(message["content"], str)
    }
    schemas = [tool["function"] for tool in group[0]["request"]["body"].get("tools", [])]
    streams = "sse_text" in group[0]["response"]
    async with serve(*[answer_of(exchange) for exchange in group]) as server:
        model = connect(f"{vendor}:m", base_url=server.url + "/v1", api_key="sk-test")
        agent = Agent("replay", model, tools=[RecordedTool(schema, results) for schema in schemas])
        opening = messages_of(group[0])
        prompt, history = [opening[-1]], opening[:-1]
        runs = done = 0
        result: Any = None
        while done < len(group):
            options: Any = {
                "history": history if result is None else result,
                "limits": Limits(turns=len(group) - done),
            }
            if streams:
                async with agent.stream(prompt, **options) as run:
                    text = "".join([piece async for piece in run.text()]) if not ends_in_calls(group) else None
                    result = run._cell.result or await wait(run)
                    assert text is None or text.endswith(result.text)
            else:
                result = await agent.run(prompt, on_limit="return", **options)
            runs += 1
            done = len(server.requests)
            if done < len(group):
                prompt = [messages_of(group[done])[-1]]
    last = group[-1]["expected"]
    assert result.text == last["text"]
    assert result.status == ("limited" if last["tool_calls"] else "completed")
    for seen, exchange in zip(server.requests, group, strict=True):
        sent = [essence(message_from_openai(message)) for message in seen.json["messages"]]
        assert sent == [essence(message_from_openai(message)) for message in messages_of(exchange)]
    return runs


def ends_in_calls(group: list[Exchange]) -> bool:
    return bool(group[-1]["expected"]["tool_calls"])


async def wait(run: Any) -> Any:
    from greenroom import LimitExceeded

    try:
        return await run.result()
    except LimitExceeded as limit:
        return limit.result


async def test_recorded_conversations_as_agent_runs(recordings: Path) -> None:
    """Every group that is a conversation; tool loops, follow-up questions, plain and streamed."""
    found = conversations(recordings)
    assert len(found) >= 10
    runs = {name: await play(group) for name, group in found.items()}
    assert any(number > 1 for number in runs.values())
