"""OpenTelemetry: the spans and metrics of runs, read back from its SDK."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from greenroom import Agent, LimitExceeded, Limits, Retry, Supervision, System, document, image
from greenroom.agents import Sources
from greenroom.providers import (
    Fallback,
    Image,
    InvalidRequest,
    Message,
    ModelReply,
    Overloaded,
    Refusal,
    Scripted,
    Text,
    Thinking,
    ToolCall,
    Usage,
    call,
)
from greenroom.providers.notices import GateOpened, listening
from greenroom.telemetry import OpenTelemetry
from greenroom.testing import interrupt_everywhere, run

pytestmark = pytest.mark.anyio

SECRET = "a heron at noon"


class Traced:
    """An `OpenTelemetry` with an SDK that keeps everything."""

    def __init__(self, *, contents: bool = False, sampled: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False, **({} if sampled else {"sampler": ALWAYS_OFF}))
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracers = tracers
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.instrument = OpenTelemetry(tracer_provider=tracers, meter_provider=meters, contents=contents)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def facts(self, name: str) -> dict[str, Any]:
        return dict(self.named(name).attributes or {})

    def parent(self, span: ReadableSpan) -> str | None:
        if span.parent is None:
            return None
        return next(each.name for each in self.spans if each.context.span_id == span.parent.span_id)

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The attributes and the sum (of a histogram) or value (of a counter) of each point of a metric."""
        data = self._reader.get_metrics_data()
        found: list[Any] = []
        for resource in data.resource_metrics if data is not None else ():
            found += [metric for scope in resource.scope_metrics for metric in scope.metrics if metric.name == name]
        return [
            (dict(point.attributes), getattr(point, "sum", getattr(point, "value", None)))
            for metric in found
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        spans = [span.to_json() for span in self.spans]
        data = self._reader.get_metrics_data()
        return "\n".join([*spans, data.to_json() if data is not None else ""])


async def search(words: str) -> str:
    """Search."""
    await checkpoint()
    return f"found {words}"


def helper(*lines: Any, name: str = "helper", tools: Any = (search,), **options: Any) -> Agent[Any, Any]:
    usage = Usage(10, 4, cached_input_tokens=3, cache_write_tokens=2, reasoning_tokens=1)
    return Agent(name, Scripted(*lines, usage=usage, model="m-1"), tools=tools, **options)


async def test_a_run_is_a_trace() -> None:
    traced = Traced()
    settings = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 100, "seed": 7, "stop": "END"}
    agent = helper([call("search", words="x")], "Done.", description="Helps.", settings=settings)
    async with System(instruments=[traced.instrument]):
        result = await agent.run("Go", user_id="u", conversation_id="c")
    names = ["chat m-1", "execute_tool search", "chat m-1", "invoke_agent helper"]
    assert [span.name for span in traced.spans] == names
    assert [traced.parent(span) for span in traced.spans] == ["invoke_agent helper"] * 3 + [None]
    kinds = [SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL]
    assert [span.kind for span in traced.spans] == kinds
    assert {span.status.status_code for span in traced.spans} == {StatusCode.UNSET}
    assert {span.instrumentation_scope.name for span in traced.spans if span.instrumentation_scope} == {"greenroom"}
    common = {
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "m-1",
        "gen_ai.conversation.id": "c",
        "gen_ai.agent.name": "helper",
        "enduser.id": "u",
        "greenroom.run.id": result.run_id,
    }
    assert traced.facts("invoke_agent helper") == {
        **common,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.description": "Helps.",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.usage.cache_read.input_tokens": 6,
        "gen_ai.usage.cache_creation.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "greenroom.run.status": "completed",
        "greenroom.run.reason": result.reason,
    }
    first = traced.spans[0]
    assert dict(first.attributes or {}) == {
        **common,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "greenroom.turn": 1,
    }
    assert traced.facts("execute_tool search") == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.agent.name": "helper",
        "gen_ai.conversation.id": "c",
        "enduser.id": "u",
        "greenroom.run.id": result.run_id,
        "greenroom.turn": 1,
        "gen_ai.tool.name": "search",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.description": "Search.",
        "gen_ai.tool.call.id": "call_1",
    }


async def test_a_subagent_hangs_below_its_call_three_levels_deep() -> None:
    traced = Traced()
    inner = helper([call("search", words="x")], "3", name="inner")
    middle = helper([call("inner", prompt="?")], "2", name="middle", tools=[inner])
    outer = helper([call("middle", prompt="?")], "1", name="outer", tools=[middle])
    async with System(instruments=[traced.instrument]):
        await outer.run("Go")
    line, name = [], "execute_tool search"
    while name is not None:
        line.append(name)
        name = traced.parent(traced.named(name))
    assert line == [
        "execute_tool search",
        "invoke_agent inner",
        "execute_tool inner",
        "invoke_agent middle",
        "execute_tool middle",
        "invoke_agent outer",
    ]
    assert len({span.context.trace_id for span in traced.spans}) == 1
    outer_id = traced.facts("invoke_agent outer")["greenroom.run.id"]
    assert traced.facts("invoke_agent middle")["greenroom.run.parent_id"] == outer_id


async def test_what_code_of_the_user_traces_hangs_where_it_runs() -> None:
    """A span around the run, one in a tool, one in a thread, one of the provider's HTTP library."""
    traced = Traced()
    tracer = trace.get_tracer("user", tracer_provider=traced.tracers)

    async def query() -> str:
        """Query."""
        with tracer.start_as_current_span("SELECT"):
            await checkpoint()
        return ""

    def compute() -> str:
        """Compute."""
        with tracer.start_as_current_span("compute"):
            return ""

    def answer(_: Any) -> str:
        with tracer.start_as_current_span("POST"):
            return "Done."

    async with System(instruments=[traced.instrument]):
        with tracer.start_as_current_span("request"):
            await helper([call("query"), call("compute")], answer, tools=[query, compute]).run("Go")
        with tracer.start_as_current_span("next"):
            pass
    above = {span.name: traced.parent(span) for span in traced.spans}
    assert above["SELECT"] == "execute_tool query"
    assert above["compute"] == "execute_tool compute"
    assert above["POST"] == "chat m-1"
    assert above["invoke_agent helper"] == "request"
    assert above["next"] is None


async def test_runs_at_the_same_time_keep_to_their_own_traces() -> None:
    traced = Traced()
    agent = Agent("helper", Scripted(*["Done."] * 50))
    async with System(instruments=[traced.instrument]):
        await agent.map([str(n) for n in range(50)], concurrency=10)
    assert len({span.context.trace_id for span in traced.spans}) == 50
    assert {traced.parent(span) for span in traced.spans if span.name.startswith("chat")} == {"invoke_agent helper"}


# -- ends


async def test_retries_are_in_one_span() -> None:
    traced = Traced()
    async with System(instruments=[traced.instrument]):
        await helper(Overloaded("busy"), "Done.", retry=Retry(attempts=2, base=0.0)).run("Go")
    assert traced.facts("chat m-1")["greenroom.tries"] == 2
    assert traced.named("chat m-1").status.status_code is StatusCode.UNSET


async def test_a_failure_has_its_type_and_no_message() -> None:
    traced = Traced()
    async with System(instruments=[traced.instrument]):
        with pytest.raises(InvalidRequest):
            await helper(InvalidRequest(SECRET)).run("Go")
    for name in ("chat m-1", "invoke_agent helper"):
        span = traced.named(name)
        assert traced.facts(name)["error.type"] == "InvalidRequest"
        assert (span.status.status_code, span.status.description, list(span.events)) == (StatusCode.ERROR, None, [])
    assert SECRET not in traced.everything()


async def test_a_limit_is_an_error_of_the_run() -> None:
    traced = Traced()
    async with System(instruments=[traced.instrument]):
        with pytest.raises(LimitExceeded):
            await helper([call("search", words="x")], limits=Limits(turns=1)).run("Go")
    assert traced.facts("invoke_agent helper")["error.type"] == "LimitExceeded"
    assert traced.facts("invoke_agent helper")["greenroom.run.status"] == "limited"
    assert traced.named("invoke_agent helper").status.status_code is StatusCode.ERROR


async def test_what_was_stopped_is_cancelled_and_no_error() -> None:
    traced = Traced()
    entered = anyio.Event()

    async def slow() -> str:
        """Sleep."""
        entered.set()
        await anyio.sleep_forever()
        return ""

    async with System(instruments=[traced.instrument]) as system:
        run = await system.start(helper([call("slow")], tools=[slow]), "Go")
        with anyio.fail_after(10):
            await entered.wait()
        await run.stop(reason="user")
    for name in ("execute_tool slow", "invoke_agent helper"):
        assert traced.facts(name)["error.type"] == "cancelled"
        assert traced.named(name).status.status_code is StatusCode.UNSET
    assert traced.facts("invoke_agent helper")["greenroom.run.reason"] == "user"


async def test_a_tool_that_fails_is_an_error_of_its_span_alone() -> None:
    def failing() -> str:
        """Fail."""
        raise ValueError(SECRET)

    traced = Traced()
    async with System(instruments=[traced.instrument]):
        await helper([call("failing")], "Done.", tools=[failing]).run("Go")
    assert traced.facts("execute_tool failing")["error.type"] == "failed"
    assert traced.named("execute_tool failing").status.status_code is StatusCode.ERROR
    assert traced.named("invoke_agent helper").status.status_code is StatusCode.UNSET
    assert SECRET not in traced.everything()


async def test_a_typed_answer_a_stream_and_a_fallback_are_told() -> None:
    class Vertex(Scripted):
        name = "vertex"

    traced = Traced()
    agent = Agent("helper", Fallback([Scripted(Overloaded("busy")), Vertex('{"n": 1}')]), output=dict[str, int])
    async with System(instruments=[traced.instrument]), agent.stream("Go") as run:
        _ = [event async for event in run]
    facts = traced.facts("chat scripted")
    assert (facts["gen_ai.request.stream"], facts["gen_ai.provider.name"]) == (True, "gcp.vertex_ai")
    assert facts["gen_ai.response.time_to_first_chunk"] >= 0
    assert traced.points("gen_ai.client.operation.time_to_first_chunk")[0][0]["gen_ai.provider.name"] == "gcp.vertex_ai"


# -- contents


def everything_said(secret: str) -> Agent[Any, Any]:
    """An agent in whose runs everybody says the secret."""

    def fail() -> str:
        """Fail."""
        raise ValueError(secret)

    reply = Message(
        "assistant",
        (Thinking(secret), Text(secret), ToolCall(None, "search", {"words": secret}, json.dumps({"words": secret}))),
    )
    script = (ModelReply(reply, "tool_calls", Usage(1, 1), "m-1", "response-1"), [call("fail")], secret)
    return helper(*script, tools=[search, fail], instructions=secret)


async def test_contents_are_nowhere_unless_they_are_asked_for() -> None:
    traced = Traced()
    async with System(instruments=[traced.instrument]):
        result = await everything_said(SECRET).run(SECRET, tags=[SECRET], metadata={"x": SECRET})
        with pytest.raises(InvalidRequest):
            await helper(InvalidRequest(SECRET)).run(SECRET)
    assert result.output == SECRET
    assert len(traced.spans) == 8
    assert SECRET not in traced.everything()


async def test_contents_are_in_the_conventions_form() -> None:
    traced = Traced(contents=True)
    picture = image("https://example.com/a.png")
    async with System(instruments=[traced.instrument]):
        await everything_said("s").run([Message("user", (Text("Look"), picture, Image(data=b"1234")))])
    chats = [dict(span.attributes or {}) for span in traced.spans if span.name == "chat m-1"]
    assert json.loads(chats[0]["gen_ai.system_instructions"]) == [{"type": "text", "content": "s"}]
    assert json.loads(chats[0]["gen_ai.input.messages"]) == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Look"},
                {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://example.com/a.png"},
                {"type": "attachment", "modality": "image", "mime_type": None, "length": 4},
            ],
        }
    ]
    asked = {"type": "tool_call", "id": "call_1", "name": "search", "arguments": {"words": "s"}}
    assert json.loads(chats[0]["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "s"}, {"type": "text", "content": "s"}, asked],
            "finish_reason": "tool_calls",
        }
    ]
    assert chats[0]["gen_ai.response.id"] == "response-1"
    assert [each["name"] for each in json.loads(chats[0]["gen_ai.tool.definitions"])] == ["search", "fail"]
    answered = json.loads(chats[1]["gen_ai.input.messages"])[-1]
    response = {"type": "tool_call_response", "id": "call_1", "response": "found s"}
    assert answered == {"role": "tool", "parts": [response]}
    done = traced.facts("execute_tool search")
    assert json.loads(done["gen_ai.tool.call.arguments"]) == {"words": "s"}
    assert done["gen_ai.tool.call.result"] == "found s"
    whole = traced.facts("invoke_agent helper")
    assert json.loads(whole["gen_ai.input.messages"])[0]["parts"][0] == {"type": "text", "content": "Look"}
    assert json.loads(whole["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "s"}]


async def test_messages_of_errors_are_contents() -> None:
    traced = Traced(contents=True)
    async with System(instruments=[traced.instrument]):
        with pytest.raises(InvalidRequest):
            await helper(InvalidRequest(SECRET)).run("Go")
    assert SECRET in (traced.named("invoke_agent helper").status.description or "")


async def test_an_error_of_our_own_ends_the_span_and_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise ValueError(SECRET)

    monkeypatch.setattr("greenroom.telemetry.genai_messages.text_of", fail)
    traced = Traced(contents=True)
    async with System(instruments=[traced.instrument]):
        result = await helper("Done.").run("Go")
    assert result.output == "Done."
    assert [span.name for span in traced.spans] == ["chat m-1", "invoke_agent helper"]
    assert SECRET not in traced.everything()


async def test_data_are_not_copied_into_spans() -> None:
    traced = Traced(contents=True)
    data = "data:application/pdf;base64,QUJDREVGRw=="
    parts = (document(b"ABCDEFG", media_type="application/pdf"), image(data), Refusal("no"))
    async with System(instruments=[traced.instrument]):
        await helper("Done.").run([Message("user", parts)])
    assert "QUJDREVGRw" not in traced.everything()
    assert '\\"length\\":7' in traced.named("chat m-1").to_json()


# -- metrics


def test_what_is_measured() -> None:
    async def slow(seconds: float) -> str:
        """Sleep."""
        await anyio.sleep(seconds)
        return ""

    async def scenario() -> None:
        traced = Traced()
        script = (Overloaded("busy", retry_after=2.0), [call("slow", seconds=3.0)], "Done.")
        async with System(instruments=[traced.instrument], sources=Sources(chance=lambda: 0.0)) as system:
            run = await system.start(helper(*script, tools=[slow], retry=Retry(attempts=2)), "Go")
            await anyio.sleep(1.0)
            assert traced.points("greenroom.runs.active") == [({"gen_ai.agent.name": "helper"}, 1)]
            await run.result()
        assert traced.points("greenroom.runs.active") == [({"gen_ai.agent.name": "helper"}, 0)]
        asked = {"gen_ai.provider.name": "scripted", "gen_ai.request.model": "m-1"}
        chat = {**asked, "gen_ai.operation.name": "chat", "gen_ai.response.model": "m-1"}
        assert traced.points("gen_ai.client.operation.duration") == [(chat, 2.0)]
        assert traced.points("gen_ai.client.token.usage") == [
            ({**chat, "gen_ai.token.type": "input"}, 20),
            ({**chat, "gen_ai.token.type": "output"}, 8),
        ]
        called = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "slow", "gen_ai.agent.name": "helper"}
        assert traced.points("gen_ai.execute_tool.duration") == [(called, 3.0)]
        assert traced.points("gen_ai.invoke_agent.duration") == [({**asked, "gen_ai.agent.name": "helper"}, 5.0)]
        assert traced.points("greenroom.run.restart.count") == []
        assert traced.points("gen_ai.client.operation.time_to_first_chunk") == []

    for backend in ("asyncio", "trio"):
        run(scenario, backend=backend)


async def test_metrics_say_what_failed() -> None:
    traced = Traced()
    async with System(instruments=[traced.instrument]):
        with pytest.raises(InvalidRequest):
            await helper(InvalidRequest("no")).run("Go")
    for name in ("gen_ai.client.operation.duration", "gen_ai.invoke_agent.duration"):
        ((facts, _),) = traced.points(name)
        assert facts["error.type"] == "InvalidRequest"
    assert traced.points("gen_ai.client.token.usage") == []


async def test_restarts_gate_waits_and_outlived_calls_are_counted() -> None:
    crashes = [True, True, False]

    def instructions(_: Any) -> str:
        if crashes.pop(0):
            raise ValueError("crash")
        return "Help."

    def waited(_: Any) -> Any:
        listener: Any = listening.get()
        listener.note(GateOpened("scripted", "m-1", 1.5))
        return [call("stubborn")]

    entered, leave = anyio.Event(), threading.Event()

    def stubborn() -> str:
        """Wait."""
        anyio.from_thread.run_sync(entered.set)
        leave.wait(10)
        return ""

    traced = Traced()
    agent = helper(waited, tools=[stubborn], instructions=instructions, supervision=Supervision(intensity=2))
    async with System(instruments=[traced.instrument]) as system:
        run = await system.start(agent, "Go")
        with anyio.fail_after(10):
            await entered.wait()
        await run.stop()
        leave.set()
    assert traced.points("greenroom.run.restart.count") == [({"gen_ai.agent.name": "helper"}, 2)]
    assert [total for _, total in traced.points("greenroom.gate.wait.duration")] == [1.5]
    assert traced.facts("chat m-1")["greenroom.gate.wait"] == 1.5
    outlived = {"gen_ai.agent.name": "helper", "gen_ai.tool.name": "stubborn"}
    assert traced.points("greenroom.tool.outlived.count") == [(outlived, 1)]
    assert traced.facts("execute_tool stubborn")["greenroom.tool.outlived"] is True
    assert traced.facts("invoke_agent helper")["greenroom.run.restarts"] == 2


async def test_what_is_not_sampled_is_measured_all_the_same() -> None:
    traced = Traced(contents=True, sampled=False)
    async with System(instruments=[traced.instrument]):
        await helper([call("search", words="x")], "Done.").run("Go")
    assert traced.spans == ()
    assert len(traced.points("gen_ai.invoke_agent.duration")) == 1


async def test_without_an_sdk_nothing_happens() -> None:
    async with System(instruments=[OpenTelemetry()]):
        result = await helper([call("search", words="x")], "Done.").run("Go")
    assert result.output == "Done."


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_span_ends_and_no_run_stays_active_wherever_it_is_stopped(backend: Any) -> None:
    async def scenario(interruption: Any) -> None:
        traced = Traced()
        inner = helper([call("search", words="x")], "3", name="inner")
        agent = helper(Overloaded("busy"), [call("inner", prompt="?"), call("search", words="y")], "1")
        agent = agent.with_(tools=[inner, search], retry=Retry(base=0.0))
        started: list[str] = []
        traced.tracers.add_span_processor(_Starts(started))
        async with System(instruments=[traced.instrument], sources=Sources(chance=lambda: 0.0)) as system:
            run = await system.start(agent, "Go")
            interruption.arm(run.stop)
            await run.result()
        assert sorted(started) == sorted(span.name for span in traced.spans)
        assert [value for _, value in traced.points("greenroom.runs.active") if value] == []
        assert trace.get_current_span() is trace.INVALID_SPAN

    assert interrupt_everywhere(scenario, backend=backend) > 10


class _Starts(SimpleSpanProcessor):
    """Keeps the names of the spans that were started."""

    def __init__(self, started: list[str]) -> None:
        self._started = started

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._started.append(span.name)

    def on_end(self, span: Any) -> None:
        return None


# -- making one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracer_provider": "x"}, r"^tracer_provider= takes a TracerProvider of OpenTelemetry, not 'x'"),
        ({"meter_provider": TracerProvider(shutdown_on_exit=False)}, r"^meter_provider= takes a MeterProvider"),
        ({"contents": "no"}, r"^contents= takes True or False, not 'no'"),
    ],
)
def test_wrong_arguments_are_refused(options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        OpenTelemetry(**options)


MISSING = """
import sys
sys.modules.update({{"opentelemetry": None, "structlog": None}})
import greenroom.telemetry
try:
    greenroom.telemetry.{what}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("OpenTelemetry()", "OpenTelemetry() needs opentelemetry"),
        ("log_events()", "log_events() needs structlog"),
        ("bind_ids()", "bind_ids() needs structlog"),
    ],
)
def test_without_the_library_it_says_what_to_install(what: str, message: str) -> None:
    done = subprocess.run([sys.executable, "-c", MISSING.format(what=what)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(message)
    extra = "otel" if "Open" in what else "structlog"
    assert done.stdout.rstrip().endswith(f"install greenroom[{extra}]")


def test_importing_greenroom_loads_none_of_it() -> None:
    program = (
        "import greenroom, sys; print([name for name in sys.modules if 'telemetry' in name or 'structlog' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
