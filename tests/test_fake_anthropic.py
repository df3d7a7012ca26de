"""The strict fake of Anthropic's Messages API: what it refuses, and that our dialect is never refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    ProviderData,
    ServerItem,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    assistant,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers import call as tool_call
from greenroom.providers.dialects.anthropic import AnthropicDialect
from greenroom.providers.framing import SSEParser
from greenroom.testing.fakes.anthropic import AnthropicFormat
from greenroom.testing.fakes.anthropic_history import signature_of
from greenroom.testing.fakes.format import Refused, Said

OLD, NEW = "claude-haiku-4-5", "claude-opus-5"
HEADERS = {"x-api-key": AnthropicFormat.key, "anthropic-version": "2023-06-01"}
WEATHER = ToolSpec("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})
WIRE_TOOL = {"name": "weather", "input_schema": {"type": "object"}}
HI = {"role": "user", "content": "hi"}


def body(**more: Any) -> dict[str, Any]:
    return {"model": OLD, "max_tokens": 9_000, "messages": [HI], **more}


def refusal(
    sent: Any, headers: Mapping[str, str] = HEADERS, *, target: str = "/v1/messages", format: Any = None
) -> str | None:
    refused: Refused | None = (format or AnthropicFormat()).refuse(target, headers, sent)
    if refused is None:
        return None
    assert refused.body["type"] == "error"
    kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
    assert refused.body["error"]["type"] == kinds[refused.status]
    return refused.body["error"]["message"]


def history(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return body(messages=list(messages), **more)


def says(role: str, *blocks: Any) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def calls(identity: str = "a") -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": "weather", "input": {}}


def result(identity: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, **more}


def thought(said: str = "hm", signature: str | None = None) -> dict[str, Any]:
    return {"type": "thinking", "thinking": said, "signature": signature or signature_of(said)}


SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}}
ENABLED = {"type": "enabled", "budget_tokens": 2_000}


@pytest.mark.parametrize(
    "sent",
    [
        body(),
        body(stream=True, temperature=0.5, system="Be brief.", stop_sequences=["END"], top_k=3, metadata={}),
        body(system=[{"type": "text", "text": "a"}], tools=[WIRE_TOOL], tool_choice={"type": "auto"}),
        body(thinking=ENABLED, temperature=1),
        body(model=NEW, thinking={"type": "adaptive"}, output_config={"effort": "max"}),
        history(HI, HI, says("assistant", text("x")), says("user", PICTURE, text("y"))),
        history(HI, says("assistant", calls("a"), calls("b")), says("user", result("b"), result("a"), text("x"))),
        history(HI, says("assistant", thought(), SEARCH, FOUND, text("x")), HI),
        history(HI, says("assistant", SEARCH, calls()), says("user", result())),
        history(
            HI, says("assistant", SEARCH, calls()), says("user", result()), says("assistant", FOUND, text("x")), HI
        ),
        history(HI, says("assistant", thought(), calls()), says("user", result()), thinking=ENABLED),
        history(HI, says("system", text("x")), model=NEW),
        history(HI, says("assistant", text("The answer is"))),
    ],
)
def test_what_it_accepts(sent: dict[str, Any]) -> None:
    assert refusal(sent) is None


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([], "not an object"),
        ({"model": OLD, "messages": [HI]}, "max_tokens: Field required"),
        (body(seed=1), "seed: Extra inputs are not permitted"),
        (body(max_tokens=0), "max_tokens: Input should be greater than or equal to 1"),
        (body(max_tokens="9"), "max_tokens: Input should be a valid integer"),
        (body(stream="yes"), "stream: Input should be a valid boolean"),
        (body(temperature=1.5), "temperature: Input should be less than or equal to 1"),
        (body(temperature=1, top_p=0.5), "cannot both be specified"),
        (body(model="claude-opus-4-7", temperature=0.5), "`temperature` is deprecated for this model"),
        (body(stop_sequences=[" "]), "each stop sequence must contain non-whitespace"),
        (body(system=""), "system: text content blocks must be non-empty"),
        (body(messages=[]), "messages: at least one message is required"),
        (body(messages={}), "messages: Input should be a valid list"),
        (body(messages=["hi"]), "messages.0: Input should be a valid dictionary"),
        (history(says("assistant", text("x")), HI), 'first message must use the "user" role'),
        (history({"role": "tool", "content": "x"}), "messages.0.role: Input should be 'user', 'assistant' or 'system'"),
        (history({"role": "user", "content": "x", "name": "n"}), "messages.0.name: Extra inputs"),
        (history({"role": "user", "content": ""}), "messages.0: all messages must have non-empty content"),
        (history(says("user")), "messages.0: all messages must have non-empty content"),
        (history(says("user", text(""))), "text content blocks must be non-empty"),
        (history(says("user", text(" \n"))), "text content blocks must contain non-whitespace text"),
        (history(says("user", {"type": "input_text"})), "Input tag 'input_text' found using 'type' does not match"),
        (history(says("user", {"text": "x"})), "Unable to extract tag"),
        (
            history(says("user", {**text("x"), "annotations": []})),
            "messages.0.content.0.text.annotations: Extra inputs",
        ),
        (history(says("user", calls())), "Input tag 'tool_use'"),
        (history(HI, says("assistant", PICTURE), HI), "Input tag 'image'"),
        (history(says("system", text("x")), HI, model=NEW), "messages.0: use the top-level 'system' parameter"),
        (history(HI, says("system", text("x"))), "role 'system' is not supported on this model"),
        (history(HI, says("system", text("x")), HI, model=NEW), "must follow a 'user' message"),
        (history(HI, says("assistant", text("x")), model=NEW), "does not support assistant message prefill"),
        (history(HI, says("assistant", text("x "))), "final assistant content cannot end with trailing whitespace"),
        (history(HI, says("assistant", {**calls(), "id": "ä"})), "String should match pattern"),
        (history(HI, says("assistant", {**calls(), "name": "a.b"})), "String should match pattern"),
        (history(HI, says("assistant", {**calls(), "input": "{}"})), "tool_use.input: Input should be a valid dict"),
        (history(HI, says("assistant", calls())), "were found without `tool_result` blocks immediately after: a"),
        (history(HI, says("assistant", calls()), HI), "were found without `tool_result` blocks"),
        (
            history(HI, says("assistant", calls()), says("user", text("x"), result())),
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after",
        ),
        (
            history(HI, says("assistant", calls("a"), calls("b")), says("user", result("a"))),
            "immediately after: b.",
        ),
        (history(says("user", result())), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result`"),
        (
            history(HI, says("assistant", calls()), says("user", result(), result("b"))),
            "messages.2.content.1: unexpected `tool_use_id`",
        ),
        (
            history(HI, says("assistant", calls()), says("user", result(), result())),
            "each tool_use must have a single result",
        ),
        (history(HI, says("assistant", calls(), calls()), says("user", result())), "ids must be unique"),
        (
            history(HI, *[says("assistant", calls()), says("user", result())] * 2),
            "messages.3: `tool_use` ids must be unique",
        ),
        (
            history(HI, says("assistant", calls()), says("user", result(is_error=True))),
            "content cannot be empty if `is_error` is true",
        ),
        (history(HI, says("assistant", SEARCH), HI), "`web_search` tool use with id `s1` was found without"),
        (history(HI, says("assistant", FOUND), HI), "unexpected `tool_use_id` found in `web_search_tool_result`"),
        (history(HI, says("assistant", thought("hm", "x"), text("y")), HI), "Invalid `signature` in `thinking` block"),
        (
            history(HI, says("assistant", {"type": "thinking", "thinking": "hm"}, text("y")), HI),
            "messages.1.content.0.thinking.signature: Field required",
        ),
        (
            history(HI, says("assistant", {"type": "redacted_thinking", "data": "x"}, text("y")), HI),
            "Invalid `data` in `redacted_thinking` block",
        ),
        (history(HI, says("assistant", thought()), HI), "The final block in an assistant message cannot be `thinking`"),
        (
            history(HI, says("assistant", calls()), says("user", result()), thinking=ENABLED),
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
        ),
        (history(says("user", {"type": "image", "source": {"type": "file"}})), "Input tag 'file'"),
        (
            history(says("user", {**PICTURE, "source": {**PICTURE["source"], "media_type": "image/tiff"}})),
            "media_type: Input should be 'image/jpeg'",
        ),
        (history(says("user", {**PICTURE, "source": {**PICTURE["source"], "data": "?"}})), "Invalid base64 data"),
        (history(says("user", {"type": "image", "source": {"type": "url", "url": "file:///x"}})), "HTTPS URLs"),
        (body(tools=[{"name": "a b", "input_schema": {}}]), "tools.0.custom.name: String should match pattern"),
        (body(tools=[{"name": "a", "input_schema": {}}]), "tools.0.custom.input_schema.type: Field required"),
        (body(tools=[{"name": "a", "parameters": {}}]), "tools.0.custom.parameters: Extra inputs"),
        (body(tools=[WIRE_TOOL, WIRE_TOOL]), "Tool names must be unique"),
        (body(tool_choice={"type": "auto"}), "tool_choice may only be specified while providing tools"),
        (body(tools=[WIRE_TOOL], tool_choice="auto"), "tool_choice: Input should be a valid dictionary"),
        (body(tools=[WIRE_TOOL], tool_choice={"type": "required"}), "Input tag 'required'"),
        (body(tools=[WIRE_TOOL], tool_choice={"type": "tool", "name": "x"}), "Tool 'x' not found"),
        (
            body(tools=[WIRE_TOOL], tool_choice={"type": "none", "disable_parallel_tool_use": True}),
            "tool_choice.none.disable_parallel_tool_use: Extra inputs",
        ),
        (body(thinking={"type": "enabled"}), "thinking.enabled.budget_tokens: Field required"),
        (body(thinking={"type": "enabled", "budget_tokens": 1}), "greater than or equal to 1024"),
        (body(thinking={"type": "enabled", "budget_tokens": 9_000}), "`max_tokens` must be greater than"),
        (body(thinking={"type": "adaptive"}), "adaptive thinking is not supported on this model"),
        (body(thinking=ENABLED, model=NEW), '"thinking.type.enabled" is not supported for this model'),
        (body(thinking=ENABLED, model="claude-3-5-haiku-latest"), "does not support thinking"),
        (body(thinking=ENABLED, temperature=0.5), "`temperature` may only be set to 1"),
        (
            body(thinking=ENABLED, tools=[WIRE_TOOL], tool_choice={"type": "any"}),
            "Thinking may not be enabled when tool_choice forces tool use",
        ),
        (body(output_config={"effort": "high"}), "does not support the effort parameter"),
        (body(output_config={"effort": "extreme"}, model=NEW), "output_config.effort: Input should be"),
        (
            body(output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}}),
            "'additionalProperties' must be explicitly set to false",
        ),
        (
            body(output_config={"format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}}),
            "For 'integer' type, properties minimum are not supported",
        ),
    ],
)
def test_what_it_refuses(sent: Any, words: str) -> None:
    told = refusal(sent)
    assert told is not None
    assert words in told


def test_the_way_in() -> None:
    assert refusal(body(), target="/v1/complete") == "Not found"
    assert refusal(body(), {}) == "x-api-key header is required"
    assert refusal(body(), {**HEADERS, "x-api-key": "no"}) == "invalid x-api-key"
    assert refusal(body(), {"x-api-key": AnthropicFormat.key}) == "anthropic-version: header is required"


class Conversation:
    """Our dialect and the fake, with no socket between them."""

    def __init__(self, model: str, *, stream: bool, **settings: Any) -> None:
        self.format = AnthropicFormat()
        self.dialect = AnthropicDialect(model)
        self.messages: list[Message] = []
        self.stream = stream
        self.settings = settings
        self.last: Any = None

    def ask(self, said: Said, *messages: Message) -> ModelReply:
        self.messages += messages
        request = ModelRequest(self.messages, tools=[WEATHER], settings=self.settings, instructions="Be brief.")
        sent = json.loads(self.dialect.encode(request, stream=self.stream).body)
        self.last = sent
        assert self.format.refuse("/v1/messages", HEADERS, sent) is None
        assert self.format.wants_stream("/v1/messages", sent) is self.stream
        reply = self._streamed(said, sent) if self.stream else self.dialect.decode(self.format.answer(said, sent))
        self.messages.append(reply.message)
        return reply

    def _streamed(self, said: Said, sent: Any) -> ModelReply:
        decoder, parser = self.dialect.decoder(), SSEParser()
        for piece in self.format.stream(said, sent):
            for event in parser.feed(piece):
                decoder.feed(event)
        assert decoder.done
        return decoder.finish(clean=True)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", [OLD, NEW])
def test_a_run_of_several_turns(model: str, stream: bool) -> None:
    talk = Conversation(model, stream=stream, reasoning_effort="high")
    first = talk.ask(
        Said("Let me see.", [tool_call("weather", city="Oslo"), tool_call("weather")], "Which city, then?"),
        user("Weather?"),
    )
    assert (first.stop_reason, first.message.text, first.message.thinking) == (
        "tool_calls",
        "Let me see.",
        "Which city, then?",
    )
    made = first.message.tool_calls
    assert [call.arguments for call in made] == [{"city": "Oslo"}, {}]
    assert first.usage is not None
    assert (first.usage.input_tokens, first.usage.output_tokens) == (10, 5)
    results = [tool_result(call.id or "", "rain") for call in made]
    second = talk.ask(Said(tool_calls=[tool_call("weather", city="Rome")], thinking="And Rome?"), *results)
    assert talk.last["messages"][1]["content"][0]["type"] == "thinking"
    third = talk.ask(
        Said("Rain.", thinking="Done."), tool_result(second.message.tool_calls[0].id or "", "sun", is_error=True)
    )
    assert third.message.text == "Rain."
    assert talk.ask(Said("Yes."), user("Sure?")).message.text == "Yes."


def test_a_thought_that_was_changed_or_lost_is_refused() -> None:
    talk = Conversation(NEW, stream=False, reasoning_effort="high")
    reply = talk.ask(Said(tool_calls=[tool_call("weather")], thinking="hm"), user("Weather?"))
    talk.ask(Said("Rain."), tool_result(reply.message.tool_calls[0].id or "", "rain"))
    sent = talk.last
    answer = sent["messages"][1]
    assert refusal(sent, format=talk.format) is None
    lost = {**answer, "content": answer["content"][1:]}
    changed = {**answer, "content": [{**answer["content"][0], "thinking": "hmm"}, answer["content"][1]]}
    for wrong, words in ((lost, "cannot be modified"), (changed, "Invalid `signature`")):
        told = refusal({**sent, "messages": [sent["messages"][0], wrong, *sent["messages"][2:]]}, format=talk.format)
        assert told is not None
        assert words in told


def test_a_conversation_from_elsewhere_is_accepted() -> None:
    """Half answers, foreign thinking, calls without ids, system messages anywhere."""
    talk = Conversation(OLD, stream=True, reasoning_effort="high", temperature=1.5)
    talk.ask(
        Said("x"),
        system("s"),
        assistant("Welcome"),
        user("hi", image(b"png", media_type="image/png")),
        Message("assistant", (Thinking("half"), Text("I ")), True, ProviderData(talk.dialect.family)),
        user(""),
        Message("assistant", (Thinking("foreign", "x"), ToolCall(None, "a.b", None, "{"))),
        system("be kind"),
        tool_result("call_0", ""),
        Message("assistant", (Text(""),)),
        user("so?"),
    )


PARTS = st.one_of(
    st.builds(Text, st.sampled_from(["", " ", "a", "b \n"])),
    st.sampled_from([Thinking("hm", signature_of("hm")), Thinking("hm"), Thinking("", None)]),
    st.builds(ToolCall, st.sampled_from([None, "", "a", "b", "ä:1"]), st.sampled_from(["w", "", "a.b"]), st.just({})),
    st.sampled_from([ServerItem(block["type"], block) for block in (SEARCH, FOUND)]),
    st.just(ServerItem("redacted_thinking", {"type": "redacted_thinking", "data": signature_of("")})),
)
FAMILY = "anthropic-messages/anthropic"
STAMPS = [
    *(None, ProviderData(FAMILY), ProviderData(FAMILY, items={"stop_reason": "pause_turn"}), ProviderData("other"))
]
ANSWERS = st.builds(
    Message, st.just("assistant"), st.lists(PARTS, max_size=5).map(tuple), st.booleans(), st.sampled_from(STAMPS)
)
RESULTS = st.builds(ToolResult, st.sampled_from(["", "a", "b", "call_0", "zz"]), st.sampled_from(["", "r"]))
OTHERS = st.one_of(
    st.sampled_from([user("u"), user(""), system("s"), system(" ")]),
    st.lists(RESULTS, max_size=3).map(lambda parts: Message("tool", tuple(parts))),
)


@given(
    st.lists(ANSWERS | OTHERS, max_size=8),
    st.sampled_from([OLD, NEW, "claude-sonnet-4-6", "claude-3-5-haiku-latest"]),
    st.fixed_dictionaries(
        {},
        optional={
            "reasoning_effort": st.sampled_from(["low", "high"]),
            "temperature": st.sampled_from([0.0, 2.0]),
            "top_p": st.just(0.1),
            "tool_choice": st.sampled_from(["auto", "none", "required", "weather"]),
            "parallel_tool_calls": st.booleans(),
            "max_tokens": st.sampled_from([10, 3_000]),
            "stop": st.sampled_from(["", "x"]),
        },
    ),
)
def test_whatever_a_caller_keeps_is_accepted(messages: list[Message], model: str, settings: dict[str, Any]) -> None:
    """No history and no settings of ours make a request that the API refuses."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    request = ModelRequest(messages, tools=[WEATHER], settings=settings, output_schema=schema)
    assert refusal(json.loads(AnthropicDialect(model).encode(request, stream=True).body)) is None
