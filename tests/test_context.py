"""Context windows: what is sent fits, the run keeps everything, and making room comes to an end."""

from __future__ import annotations

import logging
import sys
import threading
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

import anyio
import pytest

from greenroom import (
    Agent,
    ContextWindow,
    LimitExceeded,
    Limits,
    OverflowContext,
    Retry,
    System,
    UnknownOption,
    tool,
)
from greenroom.agents.context_window import SUMMARY_PROMPT
from greenroom.agents.token_count import by_chars, tiktoken_counter
from greenroom.events import AnyEvent, ContextCompacted, ContextOverflowed
from greenroom.journal import Replied, Resumed, Spent, Summarised, decode
from greenroom.providers import (
    ContextOverflow,
    Message,
    ModelReply,
    ModelRequest,
    Overloaded,
    Provider,
    Scripted,
    assistant,
    call,
    image,
    tool_result,
    user,
)
from greenroom.testing import FORMATS, Interruption, StrictServer, interrupt_everywhere
from greenroom.testing import run as in_fresh_loop
from greenroom.trimming import cap_messages, count_message, count_messages, keep_last

from .crashes.memory import COST, PRICES, USED, RecordingJournal, check_told, story, virtual

pytestmark = pytest.mark.anyio
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

LONG = "x" * 400
"""A text of 100 tokens."""


async def look(number: int = 0) -> str:
    """Look."""
    return f"{number}:" + "r" * 200


def looks(turns: int) -> list[Any]:
    """So many turns with a call, and an answer."""
    return [*[[call("look", number=number)] for number in range(turns)], "Done."]


def talk(exchanges: int, text: str = LONG) -> list[Message]:
    """A conversation."""
    return [each for number in range(exchanges) for each in (user(f"q{number} {text}"), assistant(f"a{number} {text}"))]


def tokens_of(request: ModelRequest) -> int:
    """The tokens of the messages of a request."""
    return count_messages(request.messages)


def compacted(heard: Sequence[AnyEvent]) -> list[ContextCompacted]:
    return [event for event in heard if isinstance(event, ContextCompacted)]


def begins(model: Scripted) -> list[str]:
    """How each request begins."""
    return [request.messages[0].text[:40] for request in model.requests]


# -- dropping


@BACKENDS
def test_every_request_fits_and_the_run_keeps_everything(backend: str) -> None:
    """Scenario of a long run: what is sent stays within the window, the result has it all."""

    async def scenario() -> None:
        model = Scripted(*looks(20))
        heard: list[Any] = []
        agent = Agent("a", model, tools=[look], context=700)
        result = await agent.run("Go", on_event=heard.append)
        beside = heard_beside(heard)
        assert result.output == "Done."
        assert len(result.messages) == 42
        assert all(tokens_of(request) + beside <= 700 for request in model.requests)
        assert all(request.messages[-1].role in ("user", "tool") for request in model.requests)
        last = model.requests[-1].messages
        assert last[0].text.endswith("earlier messages were left out]")
        assert last[1] == user("Go")
        assert last[-1] == result.messages[-2]
        assert 3 < len(last) < 20

    def heard_beside(heard: list[Any]) -> int:
        (first, *_) = [event for event in heard if isinstance(event, ContextOverflowed)]
        assert (first.source, first.allowed) == ("window", 700)
        assert first.tokens > 700
        return 40  # the tool's description has at least as many

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_cut_holds_for_several_turns_and_is_told(backend: str) -> None:
    """The beginning of the requests stays the same between two cuts, and each cut is heard once."""

    async def scenario() -> None:
        heard: list[Any] = []
        hooked: list[str] = []
        hooks = {
            "on_context_overflow": lambda event: hooked.append("overflow"),
            "on_context_compacted": lambda event: hooked.append("compacted"),
        }
        model = Scripted(*looks(30))
        agent = Agent("a", model, tools=[look], context=1000, hooks=hooks)
        await agent.run("Go", on_event=heard.append)
        starts = begins(model)
        changes = sum(starts[place] != starts[place - 1] for place in range(1, len(starts)))
        told = compacted(heard)
        assert len(told) == changes
        assert 2 <= changes <= 10
        assert hooked == ["overflow", "compacted"] * changes
        for event in told:
            assert event.how == "drop"
            assert event.tokens_before > 1000 >= event.tokens_after
            assert event.tokens_after <= 750
            assert event.messages_before > event.messages_after > 0

    in_fresh_loop(scenario, backend=backend)


async def test_the_note_says_how_many_are_missing_and_may_be_left_out() -> None:
    for note, expected in (("({count} gone)", "(8 gone)"), (None, None)):
        model = Scripted("ok")
        window = ContextWindow(messages=4, dropped_note=note)
        await Agent("a", model, context=window).run("now", history=talk(5, "?"))
        texts = [message.text for message in model.requests[0].messages]
        assert texts == [*([expected] if expected else []), "q4 ?", "a4 ?", "now"]


async def test_a_number_of_messages_holds_and_the_note_does_not_count() -> None:
    """Rounded to whole units; what the model has to answer is sent even if it is more."""
    model = Scripted([call("look"), call("look"), call("look"), call("look")], [call("look")], "Done.")
    agent = Agent("a", model, tools=[look], context=ContextWindow(messages=4, dropped_note=None))
    result = await agent.run("Go", history=talk(3, "?"))
    assert [len(request.messages) for request in model.requests] == [3, 6, 3]
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", *["tool"] * 4]
    assert len(result.messages) == 15


async def test_the_next_run_of_a_conversation_cuts_where_the_one_before_did() -> None:
    """So the provider's cache is of use to it."""
    history: list[Message] = []
    firsts: list[int] = []
    for number in range(30):
        model = Scripted(f"a{number} {LONG}")
        agent = Agent("a", model, context=ContextWindow(tokens=1500, dropped_note=None))
        history = list((await agent.run(f"q{number} {LONG}", history=history)).messages)
        assert tokens_of(model.requests[0]) <= 1500
        firsts.append(int(model.requests[0].messages[0].text.split()[0][1:]))
    assert len(set(firsts)) <= 30 / 3 + 1
    assert firsts == sorted(firsts)


async def test_tool_calls_of_earlier_questions_can_be_left_out() -> None:
    first = await Agent("a", Scripted(*looks(3)), tools=[look]).run("one")
    model = Scripted(*looks(1))
    agent = Agent("a", model, tools=[look], context=ContextWindow(keep_tool_calls=False))
    result = await agent.run("two", history=first)
    assert [message.text for message in model.requests[0].messages] == ["one", "Done.", "two"]
    assert [message.role for message in model.requests[1].messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert len(result.messages) == len(first.messages) + 4


@pytest.mark.parametrize("family", sorted(FORMATS))
async def test_a_strict_provider_takes_what_is_left(family: str, anyio_backend: str) -> None:
    """In every wire format: after a cut, without tool calls, with long results cut, with a summary."""
    windows = [
        ContextWindow(messages=5),
        ContextWindow(tokens=900, message_tokens=40, keep_tool_calls=False),
        ContextWindow(tokens=700, overflow="summarise"),
    ]
    for window in windows:
        script = [[call("look"), call("look", number=1)], *[[call("look")]] * 5, *["Fine."] * 9]
        async with StrictServer(family, script) as server:
            agent = Agent("a", server.provider("some-model"), tools=[look], context=window, retry=Retry(attempts=1))
            result = await agent.run("Go", history=talk(2, "?"))
            result = await agent.run("And now?", history=result)
            assert result.status == "completed"
            assert server.refusals == []


async def test_an_agent_without_a_window_sends_everything() -> None:
    model = Scripted("ok")
    agent = Agent("a", model)
    assert agent.context is None
    await agent.run("now", history=talk(200))
    assert len(model.requests[0].messages) == 401


# -- what cannot fit


@BACKENDS
def test_what_cannot_fit_fails_before_anything_is_sent(backend: str) -> None:
    """With the sizes and the remedy, as an overflow that the provider has found."""

    async def scenario() -> None:
        for overflow in ("drop", "summarise"):
            heard: list[Any] = []
            model = Scripted("never")
            window = ContextWindow(tokens=50, overflow=overflow)
            agent = Agent("a", model, instructions="Be brief. " * 4, context=window)
            with pytest.raises(
                ContextOverflow, match=r"114 tokens .* 10 of them .* takes 50: raise .*message_tokens="
            ) as caught:
                await agent.run(LONG, on_event=heard.append)
            assert caught.value.result.status == "failed"
            assert [message.role for message in caught.value.result.messages] == ["user"]
            assert model.requests == []
            assert [event.kind for event in heard if event.type == "model.failed"] == ["context_overflow"]

    in_fresh_loop(scenario, backend=backend)


async def test_long_messages_are_cut_first() -> None:
    """The cap saves the run, is told once, and is no longer the remedy where it does not."""
    model = Scripted("ok", "ok")
    heard: list[Any] = []
    agent = Agent("a", model, context=ContextWindow(tokens=80, message_tokens=40))
    result = await agent.run(LONG, on_event=heard.append)
    (sent,) = model.requests[0].messages
    assert count_message(sent) <= 40
    assert "characters left out" in sent.text
    assert result.messages[0].text == LONG
    (told,) = compacted(heard)
    assert (told.how, told.messages_before, told.messages_after) == ("cap", 1, 1)
    assert (told.tokens_before, told.tokens_after) == (104, count_message(sent))
    with pytest.raises(ContextOverflow, match=r"raise ContextWindow\(tokens=…\)$"):
        await agent.run(["x", image("https://x.test/a.png")])
    assert len(model.requests) == 1


async def test_a_message_is_capped_once_for_all_turns() -> None:
    model = Scripted(*looks(3))
    heard: list[Any] = []
    agent = Agent("a", model, tools=[look], context=ContextWindow(message_tokens=20))
    await agent.run("Go", on_event=heard.append)
    assert [event.how for event in compacted(heard)] == ["cap"] * 3  # one for each result
    results = [message for message in model.requests[-1].messages if message.role == "tool"]
    assert all(count_message(message) <= 20 for message in results)
    before = [message for message in model.requests[-2].messages if message.role == "tool"]
    assert all(one is other for one, other in zip(results, before, strict=False))


# -- counting


async def test_each_message_is_counted_once() -> None:
    """Also the instructions, and the tools: a turn costs what it has brought."""
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return by_chars(text)

    model = Scripted(*looks(40))
    agent = Agent("a", model, tools=[look], instructions="INSTRUCTIONS", context=ContextWindow(tokens=900, count=count))
    await agent.run("QUESTION")
    assert counted.count("INSTRUCTIONS") == 1
    assert counted.count("QUESTION") == 1
    assert sum('"parameters"' in text for text in counted) == 1
    assert max(counted.count(text) for text in counted if text.endswith("rrr")) == 1
    assert len(counted) < 40 * 5


async def test_instructions_and_tools_count() -> None:
    """They take room from the conversation; new instructions are counted anew."""
    sizes: list[int] = []
    for instructions, tools in (("", []), ("i" * 2000, []), ("", [look])):
        model = Scripted("ok")
        await Agent("a", model, instructions=instructions, tools=tools, context=1000).run("now", history=talk(20))
        sizes.append(tokens_of(model.requests[0]))
    assert sizes[0] > sizes[1] + 200
    assert sizes[0] >= sizes[2]
    turn = 0

    def growing(context: Any) -> str:
        nonlocal turn
        turn += 1
        return "i" * 400 * turn

    model = Scripted(*looks(12))
    await Agent("a", model, instructions=growing, tools=[look], context=2000).run("now")
    for request in model.requests:
        assert tokens_of(request) + by_chars(request.instructions or "") <= 2000
    assert len(model.requests[-1].messages) < 20


@pytest.mark.parametrize("answer", [1.5, -1, True, None, "3"])
async def test_a_count_that_is_none_is_told(answer: Any) -> None:
    def count(text: str) -> Any:
        return answer

    agent = Agent("a", Scripted("ok"), context=ContextWindow(tokens=100, count=count))
    with pytest.raises(Exception, match="must return a whole number") as caught:
        await agent.run("Go")
    assert isinstance(caught.value.__cause__, TypeError)


class FakeEncoding:
    """Two characters are a token."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.threads: set[int] = set()

    def encode_ordinary(self, text: str) -> list[str]:
        self.threads.add(threading.get_ident())
        return [text[place : place + 2] for place in range(0, len(text), 2)]


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeEncoding]:
    """A tiktoken that knows one model."""
    made = {name: FakeEncoding(name) for name in ("known", "o200k_base")}
    module = types.ModuleType("tiktoken")
    module.__spec__ = ModuleSpec("tiktoken", None)
    module.encoding_for_model = lambda model: made[model]  # type: ignore[attr-defined]
    module.get_encoding = lambda name: made[name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiktoken", module)
    return made


async def test_tiktoken_counts_in_a_thread(encodings: dict[str, FakeEncoding], anyio_backend: str) -> None:
    """With the model's own vocabulary if it has one."""
    for model, name in (("known", "known"), ("vendor/known", "known"), ("other", "o200k_base")):
        script = Scripted("ok", model=model)
        window = ContextWindow(tokens=500, count="tiktoken", dropped_note=None)
        await Agent("a", script, context=window).run("now", history=talk(3))
        assert len(script.requests[0].messages) == 3  # 200 tokens each, and three quarters of 500
        assert encodings[name].threads
        assert threading.get_ident() not in encodings[name].threads
        encodings[name].threads.clear()
    assert tiktoken_counter("known")("12345") == 3


async def test_without_a_vocabulary_characters_are_counted(
    encodings: dict[str, FakeEncoding], caplog: pytest.LogCaptureFixture
) -> None:
    """It may have to come from the network; the run goes on, and says so."""
    encodings.clear()
    model = Scripted("ok")
    with caplog.at_level(logging.WARNING, "greenroom"):
        await Agent("a", model, context=ContextWindow(tokens=500, count="tiktoken")).run("now", history=talk(3))
    assert tokens_of(model.requests[0]) <= 500
    assert "counts characters: tiktoken has no vocabulary" in caplog.text


def test_tiktoken_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'greenroom\[tiktoken\]'"):
        ContextWindow(count="tiktoken")


def test_tiktoken_itself() -> None:
    """The real library, with a vocabulary that needs no network."""
    tiktoken = pytest.importorskip("tiktoken")
    encoding = tiktoken.Encoding(
        "tiny",
        pat_str=r"\S+|\s+",
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={"<|x|>": 256},
    )
    assert len(encoding.encode_ordinary("ab <|x|>")) == 8


# -- summaries


class Summing(Provider):
    """Answers a conversation with its lines, and requests for a summary with those of another list."""

    name = "summing"
    model = "m"

    def __init__(self, lines: Sequence[Any], summaries: Sequence[Any] = ("short",), seconds: float = 0.001) -> None:
        self.lines = list(lines)
        self.summaries = list(summaries)
        self.requests: list[ModelRequest] = []
        self.asked: list[ModelRequest] = []
        self.seconds = seconds

    async def complete(self, request: ModelRequest) -> ModelReply:
        summing = request.instructions is not None and "summar" in request.instructions
        (self.asked if summing else self.requests).append(request)
        if summing:
            line = self.summaries.pop(0) if len(self.summaries) > 1 else self.summaries[0]
        else:
            line = self.lines.pop(0)
        await anyio.sleep(line if isinstance(line, float) else self.seconds)
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, list):
            calls = [call(each.name, **each.arguments) for each in line]
            message = assistant(tool_calls=calls)
            return ModelReply(message, "tool_calls", USED, self.model)
        return ModelReply(assistant(line if isinstance(line, str) else "late"), "stop", USED, self.model)


SUMMARISE = ContextWindow(tokens=1200, overflow="summarise")


@BACKENDS
def test_what_is_left_out_is_summarised(backend: str) -> None:
    """By the same model, in a run below the run, without tools; it is paid for and told."""

    async def scenario() -> None:
        model = Summing(looks(20), ["SUMMARY ONE", "SUMMARY TWO", "SUMMARY THREE"])
        heard: list[Any] = []
        agent = Agent("a", model, tools=[look], context=SUMMARISE, prices=PRICES, retry=Retry(attempts=1))
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            result = await agent.run("Go", system=system, on_event=heard.append, history=talk(3), run_id="r")
        assert result.output == "Done."
        first, second, *_ = model.asked
        assert (first.tools, first.settings.tool_choice, first.instructions) == ((), None, SUMMARY_PROMPT)
        (prompt,) = first.messages
        assert "user: q0 xxx" in prompt.text
        assert "a look(" not in prompt.text
        assert "assistant calls look({" in second.messages[0].text
        assert "look returns: 1:rrr" in second.messages[0].text
        assert "earlier summary: SUMMARY ONE" in second.messages[0].text
        last = model.requests[-1].messages
        assert last[0] == user("[Summary of the earlier conversation]\nSUMMARY TWO")
        assert last[1] == user("Go")
        assert all(tokens_of(request) <= 1200 for request in model.requests)
        assert "SUMMARY ONE" in model.requests[-6].messages[0].text
        told = compacted(heard)
        assert [event.how for event in told] == ["summarise"] * len(model.asked)
        assert all(event.tokens_after <= 900 < event.tokens_before for event in told)
        below = [event for event in heard if event.path != ("r",)]
        assert {event.path[0] for event in below} == {"r"}
        assert {event.parent_id for event in below} == {"r"}
        calls = len(model.requests) + len(model.asked)
        assert result.usage.input_tokens == 10 * calls
        assert result.cost == pytest.approx(COST * calls)
        told_by = await check_told(journal, result)
        records = [record for record in told_by.records if isinstance(record, Summarised)]
        assert [record.text for record in records] == ["SUMMARY ONE", "SUMMARY TWO"]
        assert "summary of" in str(told_by.trace())
        assert [each.run_id for each in await journal.runs()] == ["r"]

    in_fresh_loop(scenario, backend=backend)


async def test_a_summary_has_its_own_prompt() -> None:
    model = Summing(["ok"])
    window = ContextWindow(tokens=600, overflow="summarise", summary_prompt="In French: summarise.")
    await Agent("a", model, instructions="Be brief.", context=window).run("now", history=talk(5))
    assert model.asked[0].instructions == "In French: summarise."
    assert model.requests[0].instructions == "Be brief."


async def test_a_summary_is_asked_for_within_the_window() -> None:
    """A conversation of many times the window is cut before it is summarised."""
    model = Summing(["ok"])
    await Agent("a", model, context=SUMMARISE).run("now", history=talk(300))
    assert tokens_of(model.asked[0]) <= 1200
    assert "characters left out" in model.asked[0].messages[0].text
    assert len(model.asked) == 1


async def test_a_number_of_messages_can_have_a_summary() -> None:
    """Of what is beyond it, and the summary does not count."""
    model = Summing(["ok"])
    await Agent("a", model, context=ContextWindow(messages=5, overflow="summarise")).run("now", history=talk(5))
    assert [message.text[:2] for message in model.requests[0].messages] == ["[S", "q4", "a4", "no"]
    assert "q3" in model.asked[0].messages[0].text
    assert "q4" not in model.asked[0].messages[0].text


async def test_a_summary_that_is_not_worth_it_is_not_asked_for() -> None:
    """Little is left out, or there is no room."""
    model = Summing(["ok"])
    heard: list[Any] = []
    window = ContextWindow(messages=2, overflow="summarise")
    await Agent("a", model, context=window).run("now", history=talk(1, "?"), on_event=heard.append)
    assert model.asked == []
    (told,) = compacted(heard)
    assert (told.how, told.error) == ("drop", "there is no room for a summary")


async def test_a_summary_that_is_too_long_is_cut() -> None:
    """It is smaller than half of what it replaces, and the whole fits."""
    for history in (talk(6), talk(60)):
        model = Summing(["ok"], ["s" * 100_000])
        heard: list[Any] = []
        await Agent("a", model, context=SUMMARISE).run("now", history=history, on_event=heard.append)
        sent = model.requests[0].messages
        assert tokens_of(model.requests[0]) <= 900
        gone = count_messages([*history, user("now")]) - count_messages(sent[1:])
        assert count_message(sent[0]) < gone / 2
        assert "characters left out" in sent[0].text


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (Overloaded("down"), "Overloaded: down"),
        ("  \n", "it is empty"),
        (RuntimeError("a bug"), "a bug"),
        (1e9, "timeout"),
    ],
)
@BACKENDS
def test_without_a_summary_messages_are_dropped(
    backend: str, line: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One that fails, says nothing, or takes for ever: bounded, logged and told, and the run goes on."""

    async def scenario() -> None:
        model = Summing(["ok"], [line])
        heard: list[Any] = []
        agent = Agent("a", model, context=SUMMARISE, retry=Retry(attempts=1))
        journal = RecordingJournal()
        started = anyio.current_time()
        async with System(journal=journal, sources=virtual()) as system:
            result = await agent.run("now", system=system, history=talk(20), on_event=heard.append, run_id="r")
        assert result.output == "ok"
        assert anyio.current_time() - started <= 121
        sent = model.requests[0].messages
        assert sent[0].text.endswith("earlier messages were left out]")
        assert tokens_of(model.requests[0]) <= 900
        (told,) = compacted(heard)
        assert told.how == "drop"
        assert why in (told.error or "")
        assert "could not be summarised, and the oldest are left out instead" in caplog.text
        await check_told(journal, result)
        entries = [decode(each.entry) for each in journal.written]
        with_reply = [records for records in entries if any(isinstance(record, Replied) for record in records)]
        assert [type(records[0]) for records in with_reply] == [Replied]  # or its replay would not know it

    with caplog.at_level(logging.WARNING, "greenroom"):
        in_fresh_loop(scenario, backend=backend)


async def test_a_summary_that_failed_does_not_lose_the_one_before() -> None:
    """The next one replaces both; meanwhile a note says what is missing."""
    model = Summing(looks(30), ["FIRST", Overloaded("down"), "THIRD", "FOURTH"])
    window = ContextWindow(tokens=900, overflow="summarise")
    await Agent("a", model, tools=[look], context=window, retry=Retry(attempts=1)).run("Go")
    heads = [
        [message.text for message in request.messages if message.text.startswith("[")] for request in model.requests
    ]
    place = next(place for place, head in enumerate(heads) if len(head) == 2)
    before, after = model.requests[place - 1].messages, model.requests[place].messages
    lost = (len(before) - 1 + 2) - (len(after) - 2)
    assert heads[place][0].endswith("FIRST")
    assert heads[place][1] == f"[{lost} earlier messages were left out]"
    assert any(len(head) == 1 and head[0].endswith("THIRD") for head in heads)
    assert all(tokens_of(request) <= 900 for request in model.requests)


@BACKENDS
def test_a_stop_ends_a_summary_at_once(backend: str) -> None:
    """And what it may have cost is not forgotten."""

    async def scenario() -> None:
        for mode in ("now", "after_tools"):
            model = Summing(["ok"], [1e6])
            journal = RecordingJournal()
            async with System(journal=journal, sources=virtual()) as system:
                run = await system.start(Agent("a", model, context=SUMMARISE, prices=PRICES), "now", history=talk(20))
                await anyio.sleep(1)
                assert len(model.asked) == 1
                (below,) = run.tree().children
                assert below.name == f"{run.id}.1.summary.1"
                started = anyio.current_time()
                result = await run.stop(mode, reason="enough")
                assert anyio.current_time() - started < 0.01
            assert (result.status, result.reason, result.cost) == ("stopped", "enough", None)
            assert model.requests == []
            told = await check_told(journal, result)
            assert [record.cost for record in told.records if isinstance(record, Spent)] == [None]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_pause_waits_for_the_summary(backend: str) -> None:
    """It is part of the step at hand, which a pause lets come to its end."""

    async def scenario() -> None:
        model = Summing([[call("look")], "ok"], [5.0])
        async with System() as system:
            run = await system.start(Agent("a", model, tools=[look], context=SUMMARISE), "now", history=talk(20))
            await anyio.sleep(1)
            run.pause()
            await anyio.sleep(60)
            assert (len(model.asked), len(model.requests)) == (1, 1)
            run.resume()
            assert (await run.result()).output == "ok"
        model = Summing(["ok"], ["S"])
        async with System() as system:

            def hear(event: Any) -> None:
                if event.type == "context.overflow":
                    run.pause()  # before the summary has begun

            run = await system.start(Agent("a", model, context=SUMMARISE), "now", history=talk(20), on_event=hear)
            assert (await run.result()).output == "ok"
            assert len(model.asked) == 1

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_summary_is_interrupted_at_every_step(backend: str) -> None:
    """Whenever the stop comes, the history is valid, nothing is left, and the journal agrees."""

    async def scenario(interruption: Interruption) -> None:
        model = Summing(looks(3), ["S"])
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            agent = Agent("a", model, tools=[look], context=SUMMARISE, prices=PRICES)
            run = await system.start(agent, "Go", history=talk(20))
            interruption.arm(run.stop)
            result = await run.result()
            assert run.tree().children == ()
        assert result.status in ("completed", "stopped")
        await check_told(journal, result)

    assert interrupt_everywhere(scenario, backend=backend) > 20


@BACKENDS
def test_a_caller_is_cancelled_at_every_step_of_a_summary(backend: str) -> None:
    """The cancellation is the caller's, and nothing goes on."""

    async def scenario(interruption: Interruption) -> None:
        model = Summing(looks(3), ["S"])
        agent = Agent("a", model, tools=[look], context=SUMMARISE)
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            assert (await agent.run("Go", history=talk(20))).output == "Done."
        assert interruption.fired or not scope.cancelled_caught
        asked = len(model.asked), len(model.requests)
        await anyio.sleep(1000)
        assert (len(model.asked), len(model.requests)) == asked

    assert interrupt_everywhere(scenario, backend=backend) > 10


@BACKENDS
def test_a_summary_is_not_made_again_after_a_crash(backend: str) -> None:
    """From every entry of the journal on: a summary that was written down is used, and the requests are the same."""

    async def scenario() -> None:
        lines = looks(16)
        model = Summing(lines, ["ONE", "TWO"])
        journal = RecordingJournal()

        def agent(model: Summing) -> Agent[Any, str]:
            window = ContextWindow(tokens=900, overflow="summarise")
            return Agent("a", model, tools=[tool(replay="safe")(look)], context=window)

        async with System(journal=journal, sources=virtual()) as system:
            await agent(model).run("Go", system=system, history=talk(3), run_id="r")
        assert len(model.asked) == 2
        seen: set[int] = set()
        for number in range(2, len(journal.written)):
            died = journal.after(number)
            told = await story(died, "r")
            done = [record.text for record in told.records if isinstance(record, Summarised)]
            seen.add(len(done))
            rest = Summing(lines[told.turns :], ["ONE", "TWO"][len(done) :] or ["NEVER"])
            async with System(journal=died, sources=virtual("y")) as system:
                recovery = await system.recover([agent(rest)])
                result = await recovery.runs[0].result()
            assert result.output == "Done."
            assert len(rest.asked) == 2 - len(done), f"after {number} entries"
            sent, before = rest.requests, model.requests[told.turns :]
            assert [each.messages for each in sent] == [each.messages for each in before], f"after {number} entries"
            await check_told(died, result)
        assert seen == {0, 1, 2}

    in_fresh_loop(scenario, backend=backend)


async def test_a_crash_of_the_run_keeps_the_summary() -> None:
    """A new attempt has a new view."""
    crashes = 0

    def instructions(context: Any) -> str:
        nonlocal crashes
        crashes += 1
        if crashes == 3:
            raise RuntimeError("a bug")
        return "Be brief."

    model = Summing(looks(4), ["ONE", "TWO"])
    agent = Agent("a", model, tools=[look], instructions=instructions, context=SUMMARISE)
    result = await agent.run("Go", history=talk(20))
    assert result.output == "Done."
    assert len(model.asked) == 1
    assert all("ONE" in request.messages[0].text for request in model.requests)


async def test_limits_hold_for_summaries() -> None:
    """A summary that a limit stands against is not made, and the run goes on as long as it may."""
    model = Summing(["ok"])
    heard: list[Any] = []
    agent = Agent("a", model, context=SUMMARISE, limits=Limits(requests=1))
    with pytest.raises(Exception, match="limit of 1 requests"):
        await agent.run("now", history=talk(20), on_event=heard.append)
    assert (len(model.asked), len(model.requests)) == (1, 0)


@BACKENDS
def test_limits_count_summaries_after_a_crash(backend: str) -> None:
    """What the run has used before is what the journal says, tries that failed included."""

    async def scenario() -> None:
        journal = RecordingJournal()
        busy = Overloaded("busy", status=503, retry_after=0.01)
        model = Summing([[call("look")], "ok"], [busy, "S"])
        agent = Agent("a", model, tools=[tool(replay="safe")(look)], context=SUMMARISE, limits=Limits(requests=4))
        async with System(journal=journal, sources=virtual()) as system:
            result = await agent.run("now", system=system, history=talk(20), run_id="r")
        assert (result.output, len(model.asked), len(model.requests)) == ("ok", 2, 2)
        seen: set[int] = set()
        for number in range(1, len(journal.written)):
            died = journal.after(number)
            written = (await story(died, "r")).records
            summarised = any(isinstance(record, Summarised) for record in written)
            replied = sum(isinstance(record, Replied) for record in written)
            rest = Summing([[call("look")]] * 9, ["S"])
            async with System(journal=died, sources=virtual("y")) as system:
                (run,) = (await system.recover([agent.with_(model=rest)])).runs
                with pytest.raises(LimitExceeded):
                    await run.result()
            resumed = [each for each in (await story(died, "r")).records if isinstance(each, Resumed)]
            before = 2 * summarised + replied + resumed[0].asking  # nobody knows whether that one was sent
            assert len(rest.asked) + len(rest.requests) == 4 - before, f"after {number} entries"
            seen.add(before)
        assert seen >= {1, 3, 4}

    in_fresh_loop(scenario, backend=backend)


# -- functions


@BACKENDS
def test_a_function_makes_room(backend: str) -> None:
    """Sync or async; it knows how much there may be; what it returns holds until it is asked again."""

    async def scenario() -> None:
        asked: list[OverflowContext] = []

        def shorten(messages: list[Message], context: OverflowContext) -> list[Message]:
            asked.append(context)
            assert context.count(messages) == context.tokens
            return [user("[shortened]"), *keep_last(messages, 3)]

        async def later(messages: list[Message], context: OverflowContext) -> list[Message]:
            await anyio.sleep(1)
            return shorten(messages, context)

        for function in (shorten, later):
            asked.clear()
            heard: list[Any] = []
            model = Scripted(*looks(30))
            agent = Agent("a", model, tools=[look], context=ContextWindow(tokens=700, overflow=function))
            result = await agent.run("Go", on_event=heard.append, run_id="r")
            assert result.output == "Done."
            assert 2 <= len(asked) <= 6
            first = asked[0]
            assert (first.source, first.messages, first.run.run_id) == ("window", None, "r")
            assert first.allowed is not None
            assert first.allowed < first.tokens <= 700 + 100
            assert [event.how for event in compacted(heard)] == ["custom"] * len(asked)
            last = model.requests[-1].messages
            assert last[0] == user("[shortened]")
            assert sum(message == user("[shortened]") for message in last) == 1
            assert all(tokens_of(request) <= first.allowed for request in model.requests)
            assert len(result.messages) == 62

    in_fresh_loop(scenario, backend=backend)


async def test_a_function_is_not_asked_for_what_must_stay() -> None:
    """More messages than the window takes, but all of them have to be sent."""
    asked: list[int] = []

    def shorten(messages: list[Message], context: OverflowContext) -> list[Message]:
        asked.append(len(messages))
        assert context.messages == 2
        return keep_last(messages, 2)

    model = Scripted([call("look"), call("look"), call("look")], "Done.")
    window = ContextWindow(messages=2, overflow=shorten)
    result = await Agent("a", model, tools=[look], context=window).run("Go", history=talk(1, "?"))
    assert result.output == "Done."
    assert [len(request.messages) for request in model.requests] == [1, 5]
    assert asked == [3]


async def test_what_a_function_returns_is_mended() -> None:
    """It may leave out a call without its result."""
    model = Scripted(*looks(8))

    def careless(messages: list[Message], context: OverflowContext) -> list[Message]:
        return [messages[0], *messages[-1:]] if messages[-1].role == "user" else [*messages[:1], *messages[-2:]]

    agent = Agent("a", model, tools=[look], context=ContextWindow(tokens=600, overflow=careless))
    await agent.run("Go")
    orphaned = Scripted("ok")
    window = ContextWindow(messages=3, overflow=lambda messages, context: [tool_result("7", "?"), *messages[-1:]])
    await Agent("a", orphaned, context=window).run("now", history=talk(3, "?"))
    assert [message.role for message in orphaned.requests[0].messages] == ["user"]


@pytest.mark.parametrize(
    "function",
    [
        lambda messages, context: messages,
        lambda messages, context: [],
        lambda messages, context: messages[:1] + messages[1:2],
        lambda messages, context: messages[:1],
        lambda messages, context: messages[2:5],
        lambda messages, context: [user("x" * 4000)],
    ],
)
async def test_a_function_that_makes_no_progress_fails_the_run(function: Any) -> None:
    """It is asked once."""
    model = Scripted("never")
    asked = 0

    def counted(messages: list[Message], context: OverflowContext) -> list[Message]:
        nonlocal asked
        asked += 1
        return function(messages, context)

    agent = Agent("a", model, context=ContextWindow(tokens=500, overflow=counted))
    with pytest.raises(ContextOverflow, match="made no progress: of 11 messages"):
        await agent.run("now", history=talk(5))
    assert (asked, model.requests) == (1, [])


async def test_a_function_may_put_the_question_in_new_words() -> None:
    """Or in those of an earlier one, where it was asked in the same."""
    for asked, function in (
        ("now", lambda messages, context: [user("In short: now?")]),
        ("x" * 40, lambda messages, context: messages[:1]),
    ):
        model = Scripted("ok")
        agent = Agent("a", model, context=ContextWindow(tokens=500, overflow=function))
        result = await agent.run(asked, history=[user("x" * 40), *talk(5)[1:]])
        assert result.output == "ok"
        assert len(model.requests[0].messages) == 1


async def test_a_function_that_returns_no_messages_is_told() -> None:
    for wrong in (None, "text", [1], {}, "", user("x")):
        window = ContextWindow(tokens=500, overflow=lambda messages, context, wrong=wrong: wrong)
        agent = Agent("a", Scripted("ok"), context=window)
        with pytest.raises(Exception, match="must return a list of Messages") as caught:
            await agent.run("now", history=talk(5))
        assert isinstance(caught.value.__cause__, TypeError)


# -- a provider that finds it too long


def too_long(limit: int, then: str = "ok") -> Callable[[ModelRequest], str]:
    """A line that refuses requests above so many tokens."""

    def line(request: ModelRequest) -> str:
        if tokens_of(request) > limit:
            raise ContextOverflow("too long", status=400)
        return then

    return line


HALVING: dict[str, Any] = {
    "no bound": ContextWindow(),
    "tokens": ContextWindow(tokens=100_000),
    "messages": ContextWindow(messages=1000),
    "a function": ContextWindow(overflow=lambda messages, context: keep_last(messages, len(messages) // 2)),
}


@pytest.mark.parametrize("window", HALVING)
@pytest.mark.parametrize("followed", [False, True])
@BACKENDS
def test_a_refusal_is_answered_with_half(backend: str, followed: bool, window: str) -> None:
    """At once, and the rest of the run stays within that cut."""

    async def scenario() -> None:
        history = talk(20)
        model = Scripted(*[too_long(2400)] * 2, [call("look")], "Done.")
        heard: list[Any] = []
        agent = Agent("a", model, tools=[look], context=HALVING[window])
        started = anyio.current_time()
        result = await agent.run("now", history=history, on_event=heard.append if followed else None)
        assert result.output == "ok"
        assert anyio.current_time() - started < 0.1
        first, second = model.requests
        assert tokens_of(second) <= tokens_of(first) / 2
        assert second.messages[-1] == user("now")
        if followed:
            sources = [event.source for event in heard if isinstance(event, ContextOverflowed)]
            assert sources == ["provider"]
            assert [event.attempt for event in heard if event.type == "model.started"] == [1, 2]
            assert not [event for event in heard if event.type in ("model.failed", "model.retrying")]

    in_fresh_loop(scenario, backend=backend)


async def test_a_second_refusal_fails_the_run() -> None:
    """There is no loop: asked twice, whatever the retries."""
    model = Scripted(*[too_long(10)] * 9)
    with pytest.raises(ContextOverflow, match="too long") as caught:
        await Agent("a", model, context=ContextWindow(), retry=Retry(attempts=9)).run("now", history=talk(20))
    assert len(model.requests) == 2
    assert caught.value.hint is None
    alone = Scripted(*[too_long(10)] * 9)
    with pytest.raises(ContextOverflow):
        await Agent("a", alone, context=ContextWindow()).run(LONG)  # there is nothing to leave out
    assert len(alone.requests) == 1


async def test_a_function_that_makes_no_progress_leaves_the_refusal(caplog: pytest.LogCaptureFixture) -> None:
    model = Scripted(*[too_long(10)] * 9)
    agent = Agent("a", model, context=ContextWindow(overflow=lambda messages, context: messages))
    with caplog.at_level(logging.WARNING, "greenroom"), pytest.raises(ContextOverflow, match="too long"):
        await agent.run("now", history=talk(20))
    assert len(model.requests) == 1
    assert "made no progress" in caplog.text


async def test_a_refusal_is_answered_with_a_summary() -> None:
    def refuse_once(text: str) -> Any:
        return ContextOverflow(text, status=400)

    model = Summing([refuse_once("too long"), "ok"], ["SUMMARY"])
    result = await Agent("a", model, context=ContextWindow(overflow="summarise")).run("now", history=talk(20))
    assert result.output == "ok"
    first, second = model.requests
    assert second.messages[0].text.endswith("SUMMARY")
    assert tokens_of(second) <= tokens_of(first) / 2
    assert tokens_of(model.asked[0]) <= tokens_of(first) / 2 + 50


async def test_a_refusal_in_each_turn_is_answered_in_each_turn() -> None:
    """Once for each request, not once for a run; a bounded run asks with the shorter request too."""
    model = Scripted(too_long(3000), too_long(3000, "never"), "x")
    lines = [too_long(1500, "first"), too_long(1500, "first"), too_long(500, "second"), too_long(900, "second")]
    model = Scripted(*lines)
    agent = Agent("a", model, context=ContextWindow(), limits=Limits(input_tokens=1_000_000))
    async with System() as system:
        run = await system.start(agent, "now", history=talk(10))
        run.send("and then?", when="idle")
        result = await run.result()
    assert result.output == "second"
    assert len(model.requests) == 4


async def test_without_a_window_the_refusal_names_the_remedy() -> None:
    model = Scripted(too_long(10))
    with pytest.raises(ContextOverflow, match=r"give Agent\(context=ContextWindow\(tokens=…\)\)"):
        await Agent("a", model).run(LONG)
    assert len(model.requests) == 1


# -- arguments


async def count_later(text: str) -> int:
    return len(text)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"tokens": 0}, ValueError, r"ContextWindow\(tokens=\) must be a whole number, at least 1"),
        ({"tokens": 1.5}, TypeError, r"ContextWindow\(tokens=\)"),
        ({"messages": True}, TypeError, r"ContextWindow\(messages=\)"),
        ({"messages": -3}, ValueError, r"ContextWindow\(messages=\)"),
        ({"message_tokens": 15}, ValueError, r"ContextWindow\(message_tokens=\) .* at least 16"),
        ({"count": "words"}, ValueError, "'chars', 'tiktoken' or a function"),
        ({"count": 4}, TypeError, "'chars', 'tiktoken' or a function"),
        ({"count": int}, TypeError, "'chars', 'tiktoken' or a function"),
        (
            {"count": count_later},
            TypeError,
            r"ContextWindow\(count=\) takes a plain function of one text, not the async",
        ),
        ({"dropped_note": "{cont} are gone"}, ValueError, r"ContextWindow\(dropped_note=\) has no \{cont\}: \{count\}"),
        ({"dropped_note": "{} are gone"}, ValueError, r"has no \{\}: \{count\} is how many"),
        ({"overflow": "forget"}, ValueError, "'drop', 'summarise' or a function"),
        ({"overflow": None}, TypeError, "'drop', 'summarise' or a function"),
        ({"summary_prompt": "Sum up."}, ValueError, "for overflow='summarise'"),
        ({"summary_prompt": 1, "overflow": "summarise"}, TypeError, r"ContextWindow\(summary_prompt=\) takes text"),
        ({"dropped_note": 1}, TypeError, r"ContextWindow\(dropped_note=\) takes text"),
        ({"keep_tool_calls": 1}, TypeError, r"ContextWindow\(keep_tool_calls=\)"),
    ],
)
def test_an_argument_that_cannot_work_is_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ContextWindow(**arguments)


def test_an_agent_takes_a_window_or_a_number() -> None:
    assert Agent("a", Scripted(), context=100).context == ContextWindow(tokens=100)
    agent = Agent("a", Scripted(), context=ContextWindow(messages=3))
    assert agent.with_(name="b").context == ContextWindow(messages=3)
    assert agent.with_(context=None).context is None
    for wrong in ("100", 1.5, True, [1], ContextWindow):
        with pytest.raises(TypeError, match=r"context= takes ContextWindow\(…\) or a number of tokens"):
            Agent("a", Scripted(), context=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="what tools depend on is deps="):
        Agent("a", Scripted(), context={"user": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ContextWindow\(tokens=\)"):
        Agent("a", Scripted(), context=0)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("context_window_tokens", r"context=ContextWindow\(tokens=5\)"),
        ("max_messages", r"context=ContextWindow\(messages=5\)"),
        ("history_processors", r"context=ContextWindow\(overflow=5\)"),
        ("trim_messages", r"context=ContextWindow\(tokens=…\)"),
        ("condenser", "overflow='summarise'"),
    ],
)
def test_what_others_call_it_leads_here(name: str, ours: str) -> None:
    with pytest.raises(UnknownOption, match=ours):
        Agent("a", Scripted(), **{name: 5})  # type: ignore[arg-type]


async def test_a_changed_window_is_no_changed_agent() -> None:
    """A run may go on with another one."""
    one = Agent("a", Scripted(), context=100).fingerprint
    assert one == Agent("a", Scripted(), context=ContextWindow(overflow="summarise")).fingerprint


async def test_the_functions_serve_outside_a_run() -> None:
    """For histories of one's own."""
    history = cap_messages(keep_last(talk(5), 4), 50)
    result = await Agent("a", Scripted("ok")).run("now", history=history)
    assert [message.text[:2] for message in result.messages] == ["q3", "a3", "q4", "a4", "no", "ok"]
