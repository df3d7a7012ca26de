"""Shortening a conversation: nothing is split, what must stay stays, and a strict provider takes what comes out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.agents.context_cut import ContextCut
from greenroom.agents.context_tally import weigh
from greenroom.agents.context_window import ContextWindow
from greenroom.agents.token_count import (
    DOCUMENT_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    by_chars,
    count_tools,
)
from greenroom.agents.trimming import Outline, without_calls
from greenroom.providers import Message, Thinking, ToolCall, ToolResult, assistant, document, image, system, user
from greenroom.providers.messages import ProviderData, ServerItem
from greenroom.providers.vocabulary import ToolSpec
from greenroom.trimming import (
    cap_message,
    cap_messages,
    count_message,
    count_messages,
    cut_text,
    drop_oldest,
    keep_last,
    keep_tokens,
    without_tool_calls,
)


def act(name: str, calls: int = 1, text: str = "", result: str = "done") -> list[Message]:
    """A message with calls, and their results."""
    ids = [f"{name}{place}" for place in range(calls)]
    made = [ToolCall(id, "look", {}, "{}") for id in ids]
    asked = assistant(*([text] if text else []), tool_calls=made)
    return [asked, *[Message("tool", (ToolResult(id, result, "look"),)) for id in ids]]


def conversation(*steps: str | int) -> list[Message]:
    """Texts of the user (``u``), of the model (``a``), of the system (``s``), and a number of calls at once."""
    messages: list[Message] = []
    for place, step in enumerate(steps):
        if isinstance(step, int):
            messages += act(f"c{place}-", step, f"say {place}" if step % 2 else "")
        else:
            made = {"u": user, "a": assistant, "s": system}[step[0]]
            messages.append(made(f"{step}{place}"))
    return messages


def shape(messages: Any) -> str:
    """The roles, a letter each."""
    return "".join(message.role[0] for message in messages)


def check_valid(messages: list[Message], whole: list[Message]) -> None:
    """Calls and results match, the order is that of before, and it begins with the user where the whole has one."""
    asked: list[str | None] = []
    for message in messages:
        if message.role == "tool":
            assert [result.call_id for result in message.tool_results] == [asked.pop(0)]
        else:
            assert asked == [], "a call has no result"
            asked = [call.id for call in message.tool_calls]
    assert asked == []
    rest = iter(whole)
    assert all(message in rest for message in messages), "another order"
    spoken = [message for message in messages if message.role != "system"]
    if len(messages) < len(whole) and any(message.role == "user" for message in whole):
        assert spoken[0].role == "user"


def must_stay(whole: list[Message]) -> list[Message]:
    """What the model has to answer, told another way than the code does: from the end."""
    kept: list[Message] = []
    rest = list(whole)
    users = [message for message in whole if message.role == "user"]
    tail = [rest.pop()]
    while tail[0].role == "tool" or (
        tail[0].role == "assistant" and rest and rest[-1].role == "assistant" and not rest[-1].tool_calls
    ):
        tail.insert(0, rest.pop())
    kept += tail
    return [*users[-1:], *kept]


STEPS = st.lists(st.one_of(st.sampled_from(["u", "a", "u"]), st.integers(1, 3)), max_size=14)
conversations = st.builds(lambda lead, steps: conversation(*["s"] * lead, "u", *steps), st.integers(0, 2), STEPS)
SHORTEN: dict[str, Callable[[list[Message], int], list[Message]]] = {
    "keep_last": keep_last,
    "keep_tokens": lambda messages, number: keep_tokens(messages, number * 4),
    "drop_oldest": drop_oldest,
}


@pytest.mark.parametrize("how", SHORTEN)
@given(whole=conversations, number=st.integers(1, 30))
def test_what_comes_out_is_a_valid_part_of_what_went_in(how: str, whole: list[Message], number: int) -> None:
    """Whatever the conversation and the bound: in order, not split, and with what the model has to answer."""
    kept = SHORTEN[how](whole, number)
    check_valid(kept, whole)
    assert all(message in kept for message in must_stay(whole))
    lead = [message for message in whole if message.role == "system"]
    assert kept[: len(lead)] == lead
    assert SHORTEN[how](kept, len(kept) * 50) == kept if how != "drop_oldest" else len(kept) <= len(whole)


@given(whole=conversations, number=st.integers(1, 30))
def test_a_bound_holds_or_only_what_must_stay_is_left(whole: list[Message], number: int) -> None:
    """In messages and in tokens alike."""
    least = keep_last(whole, 1)
    kept = keep_last(whole, number)
    assert len(kept) <= number or kept == least
    tokens = number * 8
    kept = keep_tokens(whole, tokens)
    assert count_messages(kept) <= tokens or kept == least
    assert keep_last(whole, len(whole)) == whole
    assert keep_tokens(whole, count_messages(whole)) == whole


@given(whole=conversations)
def test_dropping_the_oldest_comes_to_an_end(whole: list[Message]) -> None:
    """Each time something goes, until only what must stay is left."""
    least = keep_last(whole, 1)
    while whole != least:
        fewer = drop_oldest(whole)
        assert len(fewer) < len(whole)
        whole = fewer
    assert drop_oldest(whole) == whole


@given(whole=conversations, number=st.integers(1, 12), tokens=st.integers(1, 60))
def test_they_compose(whole: list[Message], number: int, tokens: int) -> None:
    """In any order, and what comes out is valid."""
    one = cap_messages(keep_last(without_tool_calls(whole), number), tokens)
    other = keep_last(cap_messages(without_tool_calls(whole), tokens), number)
    assert shape(one) == shape(other)
    check_valid(one, one)


def test_the_oldest_go_first_and_a_user_message_comes_first() -> None:
    """A cut inside an exchange keeps its question."""
    whole = conversation("u", "a", "u", 2, "a", "u", "a", "u")
    assert shape(whole) == "uauattauau"
    assert keep_last(whole, 9) == whole[2:]
    assert keep_last(whole, 7) == [whole[2], *whole[6:]]
    assert keep_last(whole, 4) == whole[7:]
    assert keep_last(whole, 2) == whole[9:]
    shapes = [shape(drop_oldest(whole, units)) for units in (1, 2, 3, 4, 5, 99)]
    assert shapes == ["uattauau", "uattauau", "uauau", "uau", "uau", "u"]
    late = conversation("a", "a", "u", "a", "u")
    assert keep_last(late, 4) == late[2:]


def test_a_long_turn_keeps_its_question() -> None:
    """The model has called tools again and again: question and last results stay, and what lies between goes."""
    whole = conversation("u", "a", "u", 1, 1, 2)
    kept = keep_last(whole, 6)
    assert shape(kept) == "uatatt"
    assert kept == [whole[2], *whole[5:]]
    assert keep_last(whole, 1) == [whole[2], *whole[7:]]


def test_results_that_nobody_has_answered_stay_when_the_user_speaks() -> None:
    """And so does the question that they belong to."""
    whole = conversation("u", "a", "u", 1, 1, "u")
    assert keep_last(whole, 1) == [whole[2], *whole[5:]]
    assert keep_last(conversation("u", 1, "a", "u"), 1) == conversation("u", 1, "a", "u")[-1:]


def test_many_messages_of_the_user_are_not_one_unit() -> None:
    """Of those that nobody has answered the last one stays."""
    whole = conversation("u", "a", *["u"] * 5)
    assert keep_last(whole, 3) == whole[-3:]
    assert keep_last(whole, 1) == whole[-1:]


def test_what_the_user_says_before_an_instruction_stays() -> None:
    """A system message may stand in the middle, and at the end."""
    whole = conversation("u", "a", "u", 1, "u", "s")
    assert keep_last(whole, 1) == whole[2:]


def test_an_answer_that_grows_is_looked_at_again() -> None:
    """A provider goes on with an answer that it has suspended: then the unit is longer than it was."""
    window = ContextWindow(tokens=50, dropped_note=None)
    whole = [*conversation("u", "a", "u", "a"), assistant("x" * 120)]
    sent = cut_of(window, [[message] for message in whole], 50)
    assert sent[3] == whole[:4]
    assert sent[4] == whole[2:]


def test_an_answer_in_pieces_is_one_unit() -> None:
    """A provider has suspended it and goes on with it."""
    whole = conversation("u", "a", "u", "a", "a", 1)
    outline = Outline(whole)
    assert [outline.span(unit) for unit in range(len(outline))] == [(0, 1), (1, 2), (2, 3), (3, 7)]


def test_what_is_broken_is_mended_first() -> None:
    """A result without its call is left out, a call without its result gets one."""
    call = assistant(tool_calls=[ToolCall("1", "look", {}, "{}")])
    orphan = Message("tool", (ToolResult("7", "?"),))
    kept = keep_last([user("x"), orphan, call, user("y")], 9)
    assert shape(kept) == "uatu"
    assert kept[2].tool_results[0].cause == "outcome_unknown"


def test_nothing_has_nothing() -> None:
    for shorten in (*SHORTEN.values(), cap_messages):
        assert shorten([], 1) == []
    assert without_tool_calls([]) == []


@pytest.mark.parametrize("number", [0, -1, 1.5, True, None])
def test_a_bound_that_cannot_be_one_is_refused(number: Any) -> None:
    for shorten in (keep_last, keep_tokens, drop_oldest, cap_messages):
        with pytest.raises(ValueError, match="must be a whole number, at least 1"):
            shorten([user("x")], number)


# -- tool calls


def test_calls_of_earlier_questions_are_left_out_and_what_was_said_stays() -> None:
    whole = [user("one"), *act("a", 2, "let me see"), *act("b", 1), assistant("it rains"), user("two"), *act("c", 2)]
    kept = without_tool_calls(whole)
    assert kept[:3] == [user("one"), assistant("let me see"), assistant("it rains")]
    assert kept[3:] == whole[-4:]


def test_reasoning_that_led_to_a_call_goes_with_it() -> None:
    """Signatures, and what the provider keeps beside them, mean nothing without the call."""
    call = ToolCall("1", "look", {}, "{}", {"signature": "s"})
    parts = (Thinking("hm", "sig"), *assistant("I look").parts, ServerItem("x", {}), call)
    message = Message("assistant", parts, provider_data=ProviderData("anthropic"))
    assert without_calls(message) == assistant("I look")
    assert without_calls(Message("assistant", (Thinking("hm", "sig"), call))) is None
    thought = Message("assistant", (Thinking("hm", "sig"), *assistant("yes").parts))
    assert without_calls(thought) is thought


# -- long messages


@given(text=st.text(max_size=600), tokens=st.integers(0, 80))
def test_a_text_is_cut_to_its_bound(text: str, tokens: int) -> None:
    made = cut_text(text, tokens)
    assert by_chars(made) <= tokens or made == text
    assert made == text or by_chars(text) > tokens


def test_beginning_and_end_of_a_text_stay_and_a_note_says_what_is_missing() -> None:
    text = "".join(chr(97 + place % 26) for place in range(2000))
    made = cut_text(text, 100)
    before, note, after = made.split("\n")
    assert text.startswith(before)
    assert text.endswith(after)
    assert len(before) > len(after) > 50
    assert 380 <= len(made) <= 400
    assert note.startswith("[… 1,6")


def test_a_count_that_jumps_does_not_keep_a_text_from_being_cut() -> None:
    """Whatever the function says, it ends, and holds."""
    for count in (lambda text: len(text) // 3 * 3, lambda text: len(text) ** 2, lambda text: 5 if text else 0):
        made = cut_text("x" * 3000, 4, count)
        assert count(made) <= 4


def test_the_longest_texts_of_a_message_are_cut_and_nothing_else() -> None:
    """Arguments, attachments and short texts stay; a result keeps its cause, and both of its forms agree."""
    big = ToolCall("1", "write", {"text": "y" * 4000}, "y" * 4000)
    asked = assistant("x" * 4000, tool_calls=[big])
    cut = cap_message(asked, 100)
    assert cut.tool_calls == (big,)
    assert 30 <= by_chars(cut.text) <= 50
    picture = image("https://x.test/a.png")
    result = ToolResult("1", "z" * 4000, "write", True, "failed", (*assistant("z" * 4000).parts, picture))
    message = Message("tool", (result,))
    (made,) = cap_message(message, 100).tool_results
    assert (made.is_error, made.cause, made.attachments) == (True, "failed", (picture,))
    assert made.parts is not None
    assert made.parts[0] == type(made.parts[0])(made.content)
    assert by_chars(made.content) <= 50
    two = cap_message(user("short", "x" * 4000), 100)
    assert two.parts[0] == user("short").parts[0]
    assert 80 <= count_message(two) <= 100
    small = user("small")
    assert cap_message(small, 100) is small


@given(whole=conversations, tokens=st.integers(1, 40))
def test_a_capped_conversation_has_the_same_messages(whole: list[Message], tokens: int) -> None:
    kept = cap_messages(whole, tokens)
    assert shape(kept) == shape(whole)
    assert [message.tool_calls for message in kept] == [message.tool_calls for message in whole]
    assert all(message.parts for message in kept)


# -- counting


def test_each_part_of_a_message_counts() -> None:
    """Four characters are a token, each message has some of its own, and what is no text has a constant."""
    assert [by_chars("x" * length) for length in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert count_message(user("x" * 8)) == MESSAGE_TOKENS + 2
    assert count_message(user(image("https://x.test/a.png"))) == MESSAGE_TOKENS + IMAGE_TOKENS
    assert count_message(user(document("https://x.test/a.pdf"))) == MESSAGE_TOKENS + DOCUMENT_TOKENS
    call = ToolCall("1", "look", {"a": 1}, '{"a":1}')
    assert count_message(assistant(tool_calls=[call])) == MESSAGE_TOKENS + 1 + 2
    unsent = ToolCall("1", "look", {"a": 1})
    assert count_message(assistant(tool_calls=[unsent])) == MESSAGE_TOKENS + 1 + 2
    seen = ToolResult("1", "12345", parts=(*user("12345").parts, image("https://x.test/a.png")))
    assert count_message(Message("tool", (seen,))) == MESSAGE_TOKENS + 2 + IMAGE_TOKENS
    thought = Message("assistant", (Thinking("x" * 40, "sig", {"data": "y" * 40}),))
    assert count_message(thought) >= MESSAGE_TOKENS + 20
    item = Message("assistant", (ServerItem("search", {"found": "z" * 400}),))
    assert count_message(item) > 100
    assert count_messages([user("x"), user("y")]) == 2 * (MESSAGE_TOKENS + 1)
    tools = [ToolSpec("look", "Look." * 20, {"type": "object"})]
    assert count_tools(tools, None) > 25
    assert count_tools(tools, {"type": "string"}) > count_tools(tools, None)
    assert count_tools((), None) == 0


# -- the cut of a conversation that grows


def cut_of(window: ContextWindow, pieces: list[list[Message]], room: int | None) -> list[list[Message]]:
    """What is sent after each piece."""
    cut = ContextCut(window)
    cut.count_note(by_chars)
    sent: list[list[Message]] = []
    for piece in pieces:
        cut.add([weigh(message, window.message_tokens, window.keep_tool_calls, by_chars) for message in piece])
        cut.cut_at(cut.walked(room))
        sent.append(cut.messages)
    return sent


def pieces_of(whole: list[Message]) -> list[list[Message]]:
    outline = Outline(whole)
    return [whole[slice(*outline.span(unit))] for unit in range(len(outline))]


@given(
    whole=conversations,
    tokens=st.integers(10, 120),
    messages=st.one_of(st.none(), st.integers(1, 12)),
    calls=st.booleans(),
    note=st.sampled_from([None, "[{count}]"]),
)
def test_the_cut_does_not_depend_on_when_it_was_asked_for(
    whole: list[Message], tokens: int, messages: int | None, calls: bool, note: str | None
) -> None:
    """Unit by unit, or all at once: a run that is recovered, and the next one of a conversation, send the same."""
    window = ContextWindow(tokens=tokens, messages=messages, keep_tool_calls=calls, dropped_note=note)
    pieces = pieces_of(whole)
    one_by_one = cut_of(window, pieces, tokens)
    assert cut_of(window, [whole], tokens)[-1] == one_by_one[-1]
    for end, sent in enumerate(one_by_one, 1):
        seen = [message for piece in pieces[:end] for message in piece]
        notes = [message for message in sent if message.text.startswith("[")]
        spoken = [message for message in sent if message not in notes]
        if calls:
            check_valid(spoken, seen)
        assert all(message in sent for message in must_stay(seen) if not message.tool_calls or calls)
        assert len(notes) <= (note is not None)
        if note is not None and calls and len(spoken) < len(seen):
            assert notes == [user(f"[{len(seen) - len(spoken)}]")]
        least = keep_last(spoken, 1)
        assert count_messages(sent) <= tokens or spoken == least


@given(whole=conversations, tokens=st.integers(40, 120))
def test_a_cut_holds_until_the_window_is_outgrown(whole: list[Message], tokens: int) -> None:
    """Between two cuts, what is sent only grows at its end while the model works on one question."""
    window = ContextWindow(tokens=tokens, dropped_note=None)
    pieces = pieces_of(whole)
    sent = cut_of(window, pieces, tokens)
    for place in range(1, len(sent)):
        before, after, new = sent[place - 1], sent[place], pieces[place]
        if count_messages([*before, *new]) <= tokens and len(new) > 1 and len(pieces[place - 1]) > 1:
            assert after == [*before, *new]


def test_a_cut_leaves_room() -> None:
    """It comes down to three quarters, so that it is not made again in the next turn."""
    texts = [each for place in range(60) for each in (user(f"{place:04}" * 5), assistant(f"{place:04}" * 5))]
    window = ContextWindow(tokens=200, dropped_note=None)
    sent = cut_of(window, [[each] for each in texts], 200)
    beginnings = [messages[0].text for messages in sent]
    changes = sum(before != after for before, after in pairwise(beginnings))
    assert 0 < changes <= len(texts) / 4
    assert all(count_messages(messages) <= 200 for messages in sent)
