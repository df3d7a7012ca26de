"""What a call and a run cost: right to the last digit, or not said at all."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import anyio
import msgspec
import pytest

from greenroom import Agent, System
from greenroom.providers import (
    Anthropic,
    Fallback,
    InvalidRequest,
    Message,
    ModelReply,
    ModelRequest,
    ModelSettings,
    OpenAIChat,
    OpenAIResponses,
    Price,
    Prices,
    Provider,
    Retry,
    ServerItem,
    StreamInterrupted,
    Text,
    Usage,
    assistant,
    connect,
    user,
)
from greenroom.providers.billing import Billed, billed, is_unbilled, reported
from greenroom.providers.dialects.bedrock import ConverseDialect
from greenroom.providers.dialects.openai_chat import ChatDialect
from greenroom.providers.dialects.openai_responses import ResponsesDialect
from greenroom.providers.errors import BadResponse, ConnectionFailed, ContentFiltered, Overloaded, RateLimited, Stalled
from greenroom.providers.framing import WireEvent
from greenroom.providers.prices import answering

from .recorded import FAMILIES, answer_of, call, records
from .wire import Answer, completion, delta, events, json_answer, serve, sse_answer

pytestmark = pytest.mark.anyio
needs_list = pytest.mark.skipif(find_spec("genai_prices") is None, reason="genai-prices is not installed")

#: One dollar, ten dollars … for a million: the digits of a price show what was counted as what.
DIGITS = Price(input=1, output=10, cached_input=100, cache_write=1000, cache_write_1h=10_000)


def usage(raw: dict[str, Any] | None = None, **counts: int) -> Usage:
    names = {"input": "input_tokens", "output": "output_tokens", "total": "total_tokens"}
    names |= {"cached": "cached_input_tokens", "write": "cache_write_tokens", "thought": "reasoning_tokens"}
    return Usage(**{names[name]: count for name, count in counts.items()}, raw=raw)  # type: ignore[arg-type]


# -- what is billed

CHAT, CLAUDE, NOVA, GEMINI = (
    "chat-completions/x",
    "anthropic-messages/anthropic",
    "bedrock-converse",
    "generate-content/g",
)


@pytest.mark.parametrize(
    ("family", "counted", "expected"),
    [
        (CHAT, usage(input=10, output=3), Billed(10, 3)),
        (CHAT, usage(input=10, output=3, total=13, cached=4), Billed(6, 3, 4)),
        (CHAT, usage(input=10, output=3, total=13, cached=4, write=5), Billed(1, 3, 4, 5)),
        (CHAT, usage(input=10, output=3, total=13, thought=2), Billed(10, 3)),  # inside, as at OpenAI
        (CHAT, usage(input=10, output=3, total=15, thought=2), Billed(10, 5)),  # beside, as at xAI
        ("openai-responses/openai", usage(input=10, output=3, total=13, cached=4, thought=2), Billed(6, 3, 4)),
        (CLAUDE, usage(input=10, output=3, cached=400, write=50), Billed(10, 3, 400, 50)),
        (
            CLAUDE,
            usage({"cache_creation": {"ephemeral_1h_input_tokens": 20}}, input=10, output=3, cached=400, write=50),
            Billed(10, 3, 400, 30, 20),
        ),
        (NOVA, usage(input=10, output=3, total=463, cached=400, write=50), Billed(10, 3, 400, 50)),
        (
            NOVA,
            usage({"cacheDetails": [{"inputTokens": 50, "ttl": "1h"}]}, input=10, output=3, total=63, write=50),
            Billed(10, 3, 0, 0, 50),
        ),
        (GEMINI, usage(input=10, output=3, total=20, cached=4, thought=7), Billed(6, 10, 4)),
        (GEMINI, usage(input=10, total=17, thought=7), Billed(10, 7)),  # no answer: its count is left out
        (GEMINI, usage(input=10, total=10), Billed(10, 0)),
        (
            "cohere",
            usage({"billed_units": {"input_tokens": 10, "output_tokens": 3.0}}, input=500, output=4),
            Billed(10, 3),
        ),
        ("ollama", usage(input=10, output=3), Billed(10, 3)),
        (None, usage(input=10, output=3), Billed(10, 3)),
    ],
)
def test_every_token_is_billed_once(family: str | None, counted: Usage, expected: Billed) -> None:
    assert billed(counted, family) == expected


@pytest.mark.parametrize(
    ("family", "counted"),
    [
        (CHAT, usage(input=10)),
        (CHAT, usage(output=3)),
        (CHAT, usage(input=10, output=3, thought=2)),  # inside or beside?
        (CHAT, usage(input=10, output=3, total=20)),
        (CHAT, usage(input=10, output=3, total=20, thought=2)),
        (CHAT, usage(input=10, output=3, cached=11)),
        (CHAT, usage({"prompt_tokens_details": {"audio_tokens": 1}}, input=10, output=3)),
        (CHAT, usage({"completion_tokens_details": {"image_tokens": 1}}, input=10, output=3)),
        (CHAT, usage({"num_cached_tokens": 9}, input=10, output=3)),
        (CHAT, usage({"service_tier": "priority"}, input=10, output=3)),
        (CHAT, usage({"service_tier": "flex"}, input=10, output=3)),
        (CHAT, usage({"num_sources_used": 2}, input=10, output=3)),
        (CLAUDE, usage(input=10)),
        (CLAUDE, usage({"service_tier": "batch"}, input=10, output=3)),
        (CLAUDE, usage({"inference_geo": "us"}, input=10, output=3)),
        (CLAUDE, usage({"speed": "fast"}, input=10, output=3)),
        (CLAUDE, usage({"server_tool_use": {"web_search_requests": 1}}, input=10, output=3)),
        (CLAUDE, usage({"iterations": [{}, {}]}, input=10, output=3)),
        (CLAUDE, usage({"cache_creation": {"ephemeral_1h_input_tokens": 60}}, input=10, output=3, write=50)),
        (CLAUDE, usage({"cache_creation": {"ephemeral_1h_input_tokens": "many"}}, input=10, output=3, write=50)),
        (NOVA, usage(input=10, output=3, total=13, cached=4)),
        (NOVA, usage({"serverToolUsage": {"webGrounding": 1}}, input=10, output=3)),
        (GEMINI, usage(input=10, output=3, total=14)),
        (GEMINI, usage(input=10, thought=7)),
        (GEMINI, usage({"toolUsePromptTokenCount": 5}, input=10, output=3, total=18)),
        (GEMINI, usage({"trafficType": "PROVISIONED_THROUGHPUT"}, input=10, output=3, total=13)),
        (GEMINI, usage({"promptTokensDetails": [{"modality": "AUDIO"}]}, input=10, output=3, total=13)),
        (GEMINI, usage({"candidatesTokensDetails": [{"modality": "IMAGE"}]}, input=10, output=3, total=13)),
        ("cohere", usage(input=500, output=4)),
        ("cohere", usage({"billed_units": {"input_tokens": 1, "output_tokens": 1, "search_units": 1}})),
        (None, usage(input=10, output=3, cached=4)),
        (None, usage(input=10, output=3, thought=4)),
        ("somebody's", usage(input=10, output=3, write=4)),
    ],
)
def test_a_doubt_has_no_price(family: str | None, counted: Usage) -> None:
    assert billed(counted, family) is None


@pytest.mark.parametrize("vendor", sorted(FAMILIES))
async def test_recorded_usage_is_billed_whole_or_not_at_all(recordings: Any, vendor: str) -> None:
    """Against what the recordings say of input with its caches, and of output with its reasoning."""
    found = 0
    for record in records(recordings, vendor):
        expected = record["expected"]
        told = expected.get("usage")
        if expected["kind"] != "completion" or told is None or (expected.get("stream") or {}).get("errors"):
            continue
        async with serve(answer_of(record)) as server:
            reply = await call(vendor, server, record)
            family = getattr(FAMILIES[vendor](server, {}), "family", None)
        assert reply.usage is not None
        counted = billed(reply.usage, family)
        if counted is None or vendor == "cohere":
            continue
        found += 1
        read = counted.input + counted.cached_input + counted.cache_write + counted.cache_write_1h
        assert read == told["input_tokens_including_cache"]
        if vendor.startswith("gemini"):
            assert counted.output == told["output_tokens_including_reasoning"]
        else:
            assert counted.output == told["output_tokens"]
    assert found or vendor == "cohere"


# -- a table of one's own


def reply_of(counted: Usage | None, *, model: str | None = "m-1", parts: tuple[Any, ...] = (Text("hi"),)) -> ModelReply:
    return ModelReply(Message("assistant", parts), usage=counted, model=model)


CLAUDE_MODEL, CHAT_MODEL = Anthropic("m", api_key="k"), OpenAIChat("m", base_url="http://localhost:1", name="mine")
COUNTED = usage(input=10, output=3, total=13)


def test_a_price_by_hand() -> None:
    prices = Prices({"m-1": DIGITS}, published=False)
    # 10 * 1 + 3 * 10 + 4 * 100 + 5 * 1,000 dollars for a million
    claude = usage(input=10, output=3, cached=4, write=5)
    assert prices.cost(reply_of(claude), CLAUDE_MODEL) == pytest.approx(0.005440, abs=1e-15)
    # the same counts mean less input here: 1 * 1 + 3 * 10 + 4 * 100 + 5 * 1,000
    chat = usage(input=10, output=3, total=13, cached=4, write=5)
    assert prices.cost(reply_of(chat), CHAT_MODEL) == pytest.approx(0.005431, abs=1e-15)
    assert prices.cost(reply_of(usage(input=0, output=0)), CHAT_MODEL) == 0


@pytest.mark.parametrize("missing", ["cached_input", "cache_write"])
def test_a_price_that_lacks_what_was_used_is_none(missing: str) -> None:
    fields = {name: getattr(DIGITS, name) for name in DIGITS.__struct_fields__ if name != missing}
    prices = Prices({"m-1": fields}, published=False)
    counted = usage(input=10, output=3, total=13, **{"cached" if missing == "cached_input" else "write": 4})
    assert prices.cost(reply_of(counted), CHAT_MODEL) is None
    assert prices.cost(reply_of(COUNTED), CHAT_MODEL) == pytest.approx(40e-6)


@pytest.mark.parametrize(
    ("table", "dollars"),
    [
        (["m-1"], 1),
        (["mine:m-1"], 1),
        (["mine:m"], 1),  # as it was asked for
        (["m"], 1),
        (["m-1", "mine:m-1"], 2),  # a vendor's name is closer
        (["m", "m-1"], 2),  # what has answered before what was asked for
        (["m*"], 1),
        (["mine:*"], 1),
        (["*", "m-*", "mine:m-1"], 3),
        (["m-*", "m*", "*"], 1),  # the longest
        (["*", "m*", "m-*"], 3),
        (["other:m-1", "m-12", "n*", "M-1"], None),
    ],
)
def test_which_entry_counts(table: list[str], dollars: float | None) -> None:
    prices = Prices({name: Price(input=place, output=0) for place, name in enumerate(table, 1)}, published=False)
    cost = prices.cost(reply_of(usage(input=1_000_000, output=0, total=1_000_000)), CHAT_MODEL)
    assert cost == dollars


@pytest.mark.parametrize(
    ("reply", "extra"),
    [
        (reply_of(None), None),
        (reply_of(usage(input=10)), None),
        (reply_of(COUNTED, parts=(ServerItem("web_search_call", {}),)), None),
        (reply_of(COUNTED), {"service_tier": "flex"}),
        (reply_of(COUNTED), {"tools": [{"type": "web_search"}]}),
        (reply_of(COUNTED), {"web_search_options": {"search_context_size": "low"}}),
    ],
)
def test_what_is_billed_beside_tokens_has_no_price(reply: ModelReply, extra: dict[str, Any] | None) -> None:
    assert Prices({"m-1": DIGITS}).cost(reply, CHAT_MODEL, extra) is None


CHAT_TIER = {**completion(), "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}}
RESPONSES_TIER = {
    "id": "r",
    "status": "completed",
    "output": [{"id": "i", "type": "message", "content": [{"type": "output_text", "text": "ok"}]}],
    "usage": {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13},
}
CONVERSE_TIER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 10, "outputTokens": 3, "totalTokens": 13},
}


@pytest.mark.parametrize(("tier", "usual"), [("default", True), ("flex", False), ("priority", False), (None, True)])
def test_a_tier_that_has_answered_unasked_has_no_price(tier: str | None, usual: bool) -> None:
    """Flex costs half, priority twice; a project may be set to one of them, and the answer tells it at its top."""
    named = {} if tier is None else {"service_tier": tier}
    reserved = {} if tier is None else {"serviceTier": {"type": tier}}
    for dialect, body in (
        (ChatDialect("m"), {**CHAT_TIER, **named}),
        (ResponsesDialect("m"), {**RESPONSES_TIER, **named}),
        (ConverseDialect("m"), {**CONVERSE_TIER, **reserved}),
    ):
        reply = dialect.decode(msgspec.json.encode(body))
        assert reply.service_tier == tier
        assert reply.usage is not None
        assert reply.usage.raw == body["usage"]
        cost = Prices({"m": DIGITS}).cost(reply, CHAT_MODEL)
        assert (cost is not None) is usual


@pytest.mark.parametrize("tier", ["default", "flex"])
async def test_the_tier_of_a_streamed_answer(tier: str) -> None:
    usage_of = {"choices": [], "usage": CHAT_TIER["usage"], "service_tier": tier}
    spoken = events({**delta(content="hi"), "service_tier": tier}, {**delta("stop"), "service_tier": tier}, usage_of)
    response = events({"type": "response.completed", "response": {**RESPONSES_TIER, "service_tier": tier}}, done=False)
    for make, data in ((OpenAIChat, spoken), (OpenAIResponses, response)):
        async with serve(sse_answer([data])) as server, make("m", base_url=server.url) as provider:
            async with provider.stream(ModelRequest([user("hi")])) as stream:
                async for _ in stream:
                    pass
            assert stream.reply.service_tier == tier
    decoder = ConverseDialect("m").decoder()
    for kind, told in (
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hi"}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": CONVERSE_TIER["usage"], "serviceTier": {"type": tier}}),
    ):
        decoder.feed(WireEvent(msgspec.json.encode(told), kind))
    assert decoder.finish(clean=True).service_tier == tier


@pytest.mark.parametrize(
    ("extra", "usual"),
    [({"serviceTier": {"type": "priority"}}, False), ({"serviceTier": {"type": "default"}}, True)],
)
def test_a_tier_that_is_asked_for_in_the_words_of_bedrock(extra: dict[str, Any], usual: bool) -> None:
    assert (Prices({"m-1": DIGITS}).cost(reply_of(COUNTED), CHAT_MODEL, extra) is not None) is usual


@pytest.mark.parametrize("tier", [3, [], {"a": 1}, {"type": []}, True])
def test_a_tier_of_any_type_is_no_failure(tier: Any) -> None:
    told = {"service_tier": tier, "serviceTier": tier}
    for dialect, body in (
        (ChatDialect("m"), CHAT_TIER),
        (ResponsesDialect("m"), RESPONSES_TIER),
        (ConverseDialect("m"), CONVERSE_TIER),
    ):
        assert dialect.decode(msgspec.json.encode({**body, **told})).message.text in ("ok", "hello")


def test_items_and_options_that_cost_nothing_change_nothing() -> None:
    reply = reply_of(COUNTED, parts=(ServerItem("redacted_thinking", {}), Text("hi")))
    extra = {"service_tier": "default", "metadata": {"a": "b"}, "tools": []}
    assert Prices({"m-1": DIGITS}).cost(reply, CHAT_MODEL, extra) == pytest.approx(40e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Price(input=-1, output=1), ValueError, r"Price\(input=\) must be dollars"),
        (lambda: Price(input=1, output=None), ValueError, r"Price\(output=\)"),  # type: ignore[arg-type]
        (lambda: Price(input=1, output=float("nan")), ValueError, r"Price\(output=\)"),
        (lambda: Prices([1]), TypeError, "Prices takes a dictionary from models to prices, not list"),  # type: ignore[arg-type]
        (lambda: Prices({"m": 3}), TypeError, "the price of 'm' must be"),  # type: ignore[dict-item]
        (lambda: Prices({"m": {"input": 1}}), ValueError, "the price of 'm' has no 'output'; it takes input, output"),
        (lambda: Prices({"m": {"input": 1, "output": 1, "in": 1}}), ValueError, "has an unknown key 'in'"),
        (lambda: Prices({3: DIGITS}), TypeError, "the name of a model"),  # type: ignore[dict-item]
        (lambda: Prices({" ": DIGITS}), ValueError, "the name of a model"),
        (lambda: Agent("a", "vllm:m", prices=3), TypeError, r"prices= takes Prices\(\{…\}\)"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_table_is_one_line(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


# -- what providers say themselves


@pytest.mark.parametrize(
    ("vendor", "raw", "dollars"),
    [
        ("openrouter", {"cost": 0.0145476, "is_byok": False}, 0.0145476),
        ("openrouter", {"cost": 0.0}, 0.0),
        ("openrouter", {"cost": 0.001, "is_byok": True}, None),
        ("openrouter", {"cost": "0.001"}, None),
        ("openrouter", {"cost": -1}, None),
        ("perplexity", {"cost": {"total_cost": 0.00614, "request_cost": 0.006}}, 0.00614),
        ("perplexity", {"cost": 3}, None),
        ("xai", {"cost_in_usd_ticks": 37756000}, 0.0037756),
        ("xai", {}, None),
        ("openai", {"cost": 1, "cost_in_usd_ticks": 1}, None),
        (None, {"cost": 1}, None),
    ],
)
def test_a_reported_cost(vendor: str | None, raw: dict[str, Any], dollars: float | None) -> None:
    found = reported(usage(raw), vendor)
    assert found == (None if dollars is None else pytest.approx(dollars))


def test_only_the_vendor_itself_is_believed() -> None:
    told = reply_of(usage({"cost": 0.5}, input=10, output=3))
    assert Prices().cost(told, connect("openrouter:m")) == 0.5
    assert Prices().cost(told, connect("openrouter:m", base_url="http://localhost:1")) is None
    assert Prices(published=False).cost(told, connect("openrouter:m")) is None
    assert Prices({"m": DIGITS}).cost(told, connect("openrouter:m")) == pytest.approx(40e-6)


# -- list prices


@needs_list
@pytest.mark.parametrize(
    ("name", "model", "counted", "dollars"),
    [
        # 0.25 in, 0.025 cached, 2 out: 600 * 0.25 + 400 * 0.025 + 100 * 2
        ("openai:gpt-5-mini", "gpt-5-mini-2025-08-07", usage(input=1000, output=100, total=1100, cached=400), 360e-6),
        # 3 in, 0.3 cached, 3.75 and 6 written, 15 out
        (
            "anthropic:claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
            usage(
                {"cache_creation": {"ephemeral_1h_input_tokens": 400}}, input=8700, output=10, cached=300, write=1000
            ),
            (8700 * 3 + 300 * 0.3 + 600 * 3.75 + 400 * 6 + 10 * 15) / 1e6,
        ),
        # beyond 200,000 tokens, caches included, everything is dearer: 6, 0.6 and 22.5
        (
            "anthropic:claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
            usage(input=1000, output=10, cached=200_000),
            (1000 * 6 + 200_000 * 0.6 + 10 * 22.5) / 1e6,
        ),
        # 0.3 in, 2.5 out, thoughts included
        ("gemini:gemini-2.5-flash", "gemini-2.5-flash", usage(input=1000, output=10, total=1100, thought=90), 550e-6),
        ("groq:openai/gpt-oss-120b", None, usage(input=1000, output=100, total=1100), 210e-6),
        ("openai:gpt-5-mini", "gpt-5-mini-of-tomorrow-x", COUNTED, None),
        ("openai:ft:gpt-4o-mini:me::1", "ft:gpt-4o-mini:me::1", COUNTED, None),
        ("cohere:command-a-03-2025", None, usage(input=500, output=5), None),
        ("deepseek:deepseek-chat", "deepseek-chat", COUNTED, None),  # by the hour
        ("ollama:gpt-5-mini", "gpt-5-mini", COUNTED, None),
        ("perplexity:sonar", "sonar", COUNTED, None),  # each request costs too
    ],
)
def test_a_list_price_by_hand(name: str, model: str | None, counted: Usage, dollars: float | None) -> None:
    cost = Prices().cost(reply_of(counted, model=model), connect(name))
    assert cost == (None if dollars is None else pytest.approx(dollars, rel=1e-12))


@needs_list
@pytest.mark.parametrize(
    "provider",
    [
        connect("openai:gpt-5-mini", base_url="https://gateway.example/v1"),
        connect("azure:gpt-5-mini", base_url="https://r.openai.azure.com"),
        connect("bedrock:gpt-5-mini"),
        connect("openai:gpt-5-mini", base_url="https://eu.api.openai.com/v1"),
    ],
)
def test_another_address_has_another_price(provider: Provider) -> None:
    assert Prices().cost(reply_of(COUNTED, model="gpt-5-mini"), provider) is None


@needs_list
def test_ones_own_table_goes_first_and_the_list_can_be_left_out() -> None:
    provider, reply = connect("openai:gpt-5-mini"), reply_of(COUNTED, model="gpt-5-mini")
    assert Prices().cost(reply, provider) == pytest.approx((10 * 0.25 + 3 * 2) / 1e6)
    assert Prices({"gpt-5-mini": DIGITS}).cost(reply, provider) == pytest.approx(40e-6)
    assert Prices(published=False).cost(reply, provider) is None


def test_without_the_library_there_is_no_list_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.providers.published.library", lambda: None)
    provider = connect("openai:gpt-5-mini")
    Prices().prepare(provider)
    assert Prices().cost(reply_of(COUNTED, model="gpt-5-mini"), provider) is None


# -- failures


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (RateLimited("", status=429), True),
        (RateLimited(""), True),
        (Overloaded("", status=500), True),
        (Overloaded("", status=200), False),  # an error inside an answer that had begun
        (InvalidRequest("", status=400), True),
        (ContentFiltered("", status=200), False),
        (ConnectionFailed(""), True),
        (StreamInterrupted(""), False),
        (Stalled(""), False),
        (BadResponse("", status=200), False),
        (Overloaded("", partial=assistant("ha")), False),
    ],
)
def test_which_failures_are_surely_free(error: Any, free: bool) -> None:
    assert is_unbilled(error) is free
    summed = Overloaded("all have failed")
    summed.causes = (RateLimited(""), error)
    assert is_unbilled(summed) is free


# -- runs

CALLS = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
TOLD = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def add(a: int) -> int:
    """Add."""
    return a + 1


def answer(text: str = "done", told: Any = TOLD, **more: Any) -> Answer:
    return json_answer(completion(text, **more) | ({"usage": told} if told is not None else {}))


def agent_at(url: str, name: str = "a", **options: Any) -> Agent[None, str]:
    options = {"prices": {"m": DIGITS}, "retry": Retry(attempts=2, base=0.0)} | options
    return Agent(name, OpenAIChat("m", base_url=url), **options)


async def test_a_run_costs_what_its_calls_cost() -> None:
    async with serve(answer("", tool_calls=CALLS), answer()) as server:
        result = await agent_at(server.url, tools=[add]).run("go")
    assert result.usage.input_tokens == 20
    assert result.cost == pytest.approx(80e-6)
    assert result.to_dict()["cost"] == result.cost


async def test_a_run_without_prices_costs_nobody_knows_what() -> None:
    async with serve(answer()) as server:
        assert (await agent_at(server.url, prices=None).run("go")).cost is None


async def test_one_unknown_part_makes_the_sum_unknown() -> None:
    async with serve(answer("", tool_calls=CALLS, told=None), answer()) as server:
        result = await agent_at(server.url, tools=[add]).run("go")
    assert result.cost is None
    assert result.usage.input_tokens == 10


@pytest.mark.parametrize("known", [True, False])
async def test_a_subagent_is_part_of_the_sum(known: bool) -> None:
    ask = [{"id": "c1", "type": "function", "function": {"name": "below", "arguments": '{"prompt": "x"}'}}]
    async with serve(answer("", tool_calls=ask), answer("from below"), answer()) as server:
        below = agent_at(server.url, "below", prices={"m": Price(input=2, output=0)} if known else None)
        result = await agent_at(server.url, tools=[below]).run("go")
    assert len(server.requests) == 3
    assert result.cost == (pytest.approx(100e-6) if known else None)


@pytest.mark.parametrize(
    ("failure", "cost"),
    [
        (json_answer({"error": {"message": "slow down"}}, 429), 40e-6),
        (json_answer({"error": {"message": "oops"}}, 500), 40e-6),
        (Answer(before_head="fin"), None),
        (Answer([b"{"], 200, {"content-length": "50"}, "length", "fin"), None),
    ],
)
async def test_an_attempt_that_failed_is_free_only_if_it_was_refused(failure: Answer, cost: float | None) -> None:
    async with serve(failure, answer()) as server:
        result = await agent_at(server.url).run("go")
    assert len(server.requests) == 2
    assert result.cost == (cost if cost is None else pytest.approx(cost))


async def test_a_run_that_was_stopped_while_the_model_spoke_has_an_unknown_cost() -> None:
    async with serve(Answer(before_head="stall")) as server, System() as system:
        run = await system.start(agent_at(server.url), "go")
        while not server.requests:
            await anyio.sleep(0)
        assert (await run.stop()).cost is None


async def test_a_run_that_was_stopped_before_costs_nothing() -> None:
    async with serve(answer()) as server, System() as system:
        run = await system.start(agent_at(server.url), "go")
        result = await run.stop()
    assert (result.cost, server.requests) == (0.0, [])


async def test_the_provider_that_has_answered_is_the_one_that_is_paid() -> None:
    refused = json_answer({"error": {"message": "slow down"}}, 429)
    async with serve(refused) as down, serve(answer()) as up:
        both = Fallback([OpenAIChat("m", base_url=down.url, name="one"), OpenAIChat("m", base_url=up.url, name="two")])
        prices = Prices({"one:m": Price(input=1000, output=1000), "two:m": DIGITS})
        agent = Agent("a", both, prices=prices)
        assert (await agent.run("go")).cost == pytest.approx(40e-6)


async def test_settings_that_change_the_price_leave_it_unknown() -> None:
    async with serve(answer()) as server:
        agent = agent_at(server.url, settings=ModelSettings(extra={"service_tier": "priority"}))
        assert (await agent.run("go")).cost is None


async def test_a_provider_of_ones_own_has_the_prices_of_ones_own_table() -> None:
    class Own(Provider):
        name, model = "own", "m"

        async def complete(self, request: ModelRequest) -> ModelReply:
            return reply_of(COUNTED, model=None)

    assert (await Agent("a", Own(), prices={"own:m": DIGITS}).run("go")).cost == pytest.approx(40e-6)


async def test_a_run_that_crashed_while_it_asked_has_an_unknown_cost() -> None:
    """The call may have been carried out, and is made again."""

    class Stumbles(Provider):
        name, model = "own", "m"
        calls = 0

        async def complete(self, request: ModelRequest) -> ModelReply:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("a bug")
            return reply_of(COUNTED, model=None)

    provider = Stumbles()
    result = await Agent("a", provider, prices={"own:m": DIGITS}).run("go")
    assert (provider.calls, result.text, result.cost) == (2, "hi", None)


def test_who_has_answered_is_known_or_nobody_is_paid() -> None:
    one, two, again = (
        OpenAIChat("m", base_url=f"http://h:{port}", name=name) for port, name in ((1, "a"), (2, "b"), (3, "b"))
    )
    assert answering(one, None) is one
    assert answering(Fallback([one, two]), None) is one
    assert answering(Fallback([one, two]), ("b", "m")) is two
    assert answering(Fallback([one, Fallback([two])]), ("b", "m")) is two
    assert answering(Fallback([one, two, again]), ("b", "m")) is None
    assert answering(Fallback([one, two]), ("fallback", "m")) is None
