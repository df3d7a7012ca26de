"""Histories from elsewhere: repaired in both directions, and nothing thrown away that is known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Agent
from greenroom.agents.history import repaired
from greenroom.providers import Message, Text, Thinking, ToolCall, ToolResult, assistant, tool_result, user
from greenroom.providers.messages import ServerItem
from greenroom.testing import FORMATS, StrictServer

pytestmark = pytest.mark.anyio


def asks(*ids: str | None, text: str = "") -> Message:
    return assistant(*([text] if text else []), tool_calls=[ToolCall(id, "look", {}, "{}") for id in ids])


def partial(*parts: Any) -> Message:
    return Message("assistant", parts, partial=True)


HALF = ToolCall("9", "look", None, '{"ci')
SEARCH = ServerItem("server_tool_use", {"type": "server_tool_use"})
UNKNOWN = "outcome unknown: the history has no result of this call"

#: What comes from elsewhere, and the results that the repaired history has, in order.
CASES: dict[str, tuple[list[Message], list[str]]] = {
    "valid": ([user("x"), asks("1"), tool_result("1", "a"), assistant("y")], ["a"]),
    "a missing result": ([user("x"), asks("1", "2"), tool_result("2", "b")], [UNKNOWN, "b"]),
    "an orphan": ([user("x"), tool_result("7", "?"), assistant("y")], []),
    "out of order": ([user("x"), asks("1", "2"), tool_result("2", "b"), tool_result("1", "a")], ["a", "b"]),
    "twice": ([user("x"), asks("1"), tool_result("1", "a"), tool_result("1", "z")], ["a"]),
    "a result before its call": ([user("x"), tool_result("1", "a"), asks("1"), assistant("y")], ["a"]),
    "behind a later message": ([user("x"), asks("1"), user("quick!"), tool_result("1", "a")], ["a"]),
    "behind an answer": ([user("x"), asks("1"), assistant("y"), tool_result("1", "a")], ["a"]),
    "ids that repeat from turn to turn": (
        [user("x"), asks("1"), tool_result("1", "a"), asks("1"), asks("1"), tool_result("1", "c")],
        ["a", UNKNOWN, "c"],
    ),
    "the same id twice in a message": (
        [user("x"), asks("1", "1", "1"), tool_result("1", "a"), tool_result("1", "b")],
        ["a", "b", UNKNOWN],
    ),
    "no ids": ([user("x"), asks(None, None), tool_result("", "a")], ["a", UNKNOWN]),
    "results in one message": (
        [user("x"), asks("1", "2"), Message("tool", (ToolResult("2", "b"), ToolResult("1", "a")))],
        ["a", "b"],
    ),
    "results in a message of the user": (
        [user("x"), asks("1"), Message("user", (ToolResult("1", "a"), Text("and now?")))],
        ["a"],
    ),
    "an approval that has come": (
        [user("x"), asks("1"), Message("tool", (ToolResult("1", "wait", cause="pending"),)), tool_result("1", "a")],
        ["a"],
    ),
    "half a call": ([user("x"), partial(Text("Let me"), HALF), user("y")], []),
    "half a call after a whole one": (
        [user("x"), partial(Text("Let me"), ToolCall("1", "look", {}), HALF), tool_result("1", "a"), user("y")],
        ["a"],
    ),
    "half a call alone": ([user("x"), partial(HALF), user("y")], []),
    "a partial message with a server's item": ([user("x"), partial(Thinking("Hm"), Text("So"), SEARCH)], []),
}


def check(messages: tuple[Message, ...]) -> None:
    """Each call has one result, right after it, in order; ids are given, and differ within a message."""
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        assert message.role != "tool"
        assert message.parts or message.role != "assistant"
        ids = [call.id for call in message.tool_calls]
        assert all(ids)
        assert len(set(ids)) == len(ids)
        following = messages[position : position + len(ids)]
        assert [[each.call_id for each in each_message.tool_results] for each_message in following] == [
            [id] for id in ids
        ]
        position += len(ids)


@pytest.mark.parametrize("name", CASES)
def test_what_comes_from_elsewhere_is_made_valid(name: str) -> None:
    """INV3: what is known is kept, at its place; what nobody knows is said to be unknown."""
    given, expected = CASES[name]
    mended = repaired(given)
    check(mended)
    assert [each.content for message in mended for each in message.tool_results] == expected
    assert repaired(mended) == mended
    assert [message.text for message in mended if message.role == "user"] == [
        message.text for message in given if message.role == "user"
    ]


def test_a_valid_history_stays_as_it_is() -> None:
    """Also what providers want back with it."""
    given = (user("x"), assistant(SEARCH, "y"), asks("1", "2"), tool_result("1", "a"), tool_result("2", "b"))
    assert repaired(given) == given


def test_of_a_message_that_was_cut_off_what_is_whole_is_kept() -> None:
    """Text and thinking, marked partial; neither half a call nor half an item."""
    [_, kept] = repaired(CASES["a partial message with a server's item"][0])
    assert (kept.partial, kept.text, kept.thinking, kept.server_items) == (True, "So", "Hm", ())


PARTS = st.one_of(
    st.builds(lambda given: ToolCall(given, "look", {}, "{}"), st.sampled_from(["1", "2", "", None])),
    st.builds(lambda given, text: ToolResult(given, text), st.sampled_from(["1", "2", "3", ""]), st.sampled_from("ab")),
    st.builds(Text, st.sampled_from(["x", "y"])),
)
MESSAGES = st.lists(
    st.builds(
        lambda role, parts, partial: Message(role, tuple(parts), partial=partial and role == "assistant"),
        st.sampled_from(["user", "assistant", "tool"]),
        st.lists(PARTS, min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=8,
)


@given(MESSAGES)
def test_whatever_comes_it_is_valid(messages: list[Message]) -> None:
    """Any order of calls and results; and what is repaired needs no repair."""
    mended = repaired(messages)
    check(mended)
    assert repaired(mended) == mended


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", sorted(FORMATS))
async def test_no_family_refuses_it(family: str, name: str) -> None:
    """Scenario 60: a run goes on from it."""

    async def look() -> str:
        """Look."""
        return "seen"

    async with StrictServer(family, ["Fine."]) as server:
        agent = Agent("a", server.provider("some-model"), tools=[look])
        assert (await agent.run("And now?", history=CASES[name][0])).text == "Fine."
        assert server.refusals == []
