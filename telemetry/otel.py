"""Spans and metrics for OpenTelemetry, under the names of its conventions for generative AI.

    invoke_agent helper                 a run
    ├─ chat gpt-5-mini                  a model call, with all its tries
    ├─ execute_tool search              a tool call
    │  ├─ …                             what the tool does: a database's span, say
    │  └─ invoke_agent reader           a subagent that it runs
    └─ chat gpt-5-mini

Each span is the current one of the task that does the work, so what other libraries trace in there is its child. Only
OpenTelemetry's API is needed; where the program sets up no SDK, nothing is recorded.

What failed has an `error.type` and the status ERROR. What was cut short because somebody wanted it to has the
`error.type` ``cancelled`` and no such status, so that stopped runs do not look like an outage. Messages of errors are
contents, and are not recorded otherwise.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..agents.instruments import Instrument, ModelSpan, RunSpan, ToolSpan
from ..providers import Usage
from . import genai_messages as messages
from . import genai_names as names
from .extras import flag, load
from .genai_metrics import GenAiMetrics

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanKind, TracerProvider

#: The scope that spans and metrics name as theirs.
SCOPE = "greenroom"
CANCELLED = "cancelled"


class OpenTelemetry(Instrument):
    """Spans and metrics of runs, model calls and tool calls: ``System(instruments=[OpenTelemetry()])``.

    Args:
        tracer_provider, meter_provider: where spans and metrics go (default: the program's global providers).
        contents: whether prompts, answers, tool arguments and results, and messages of errors are in the spans (default
            False). Metrics never have any.

    Raises:
        ImportError: opentelemetry-api is not installed.
        TypeError: an argument of the wrong type.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        contents: bool = False,
    ) -> None:
        trace = load("opentelemetry.trace", "otel", "OpenTelemetry()")
        metrics = load("opentelemetry.metrics", "otel", "OpenTelemetry()")
        for name, given, wanted in (
            ("tracer_provider", tracer_provider, trace.TracerProvider),
            ("meter_provider", meter_provider, metrics.MeterProvider),
        ):
            if given is not None and not isinstance(given, wanted):
                raise TypeError(f"{name}= takes a {wanted.__name__} of OpenTelemetry, not {given!r}")
        self._contents = flag("contents", contents)
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._metrics = GenAiMetrics(metrics.get_meter(SCOPE, meter_provider=meter_provider))
        self._internal: SpanKind = trace.SpanKind.INTERNAL
        self._client: SpanKind = trace.SpanKind.CLIENT
        self._error = trace.StatusCode.ERROR

    # -- what is recorded

    @contextmanager
    def run(self, span: RunSpan) -> Generator[None]:
        known = {
            names.OPERATION_NAME: names.INVOKE_AGENT,
            names.AGENT_NAME: span.agent,
            names.AGENT_DESCRIPTION: span.description,
            names.RUN_PARENT_ID: span.parent_id,
            **_asked(span),
        }
        with self._span(f"{names.INVOKE_AGENT} {span.agent}", self._internal, known) as traced:
            self._metrics.run_began(span)
            try:
                yield
            finally:
                self._metrics.run_ended(span, _run_error(span))
            if not traced.is_recording():
                return
            result = span.result
            self._end(traced, _run_error(span), span.error)
            self._set(traced, _usage(span.usage))
            self._set(
                traced,
                {
                    names.RUN_STATUS: span.status,
                    names.RUN_REASON: result.reason if result is not None else None,
                    names.RUN_RESTARTS: span.restarts or None,
                    names.COST: result.cost if result is not None else None,
                },
            )
            if self._contents:
                last = result.new_messages[-1:] if result is not None else ()
                answer = [message for message in last if message.role == "assistant"]
                reason = result.stop_reason if result is not None else None
                self._set(
                    traced,
                    {
                        names.INPUT_MESSAGES: messages.input_messages(span.prompt),
                        names.OUTPUT_MESSAGES: messages.output_messages(answer[0], reason) if answer else None,
                    },
                )

    @contextmanager
    def model_call(self, span: ModelSpan) -> Generator[None]:
        settings = span.request.settings
        known = {
            names.OPERATION_NAME: names.CHAT,
            names.AGENT_NAME: span.agent,
            names.TURN: span.turn,
            names.OUTPUT_TYPE: "json" if span.request.output_schema is not None else None,
            names.REQUEST_MAX_TOKENS: settings.max_tokens,
            names.REQUEST_SEED: settings.seed,
            names.REQUEST_TEMPERATURE: settings.temperature,
            names.REQUEST_TOP_P: settings.top_p,
            names.REQUEST_STOP_SEQUENCES: tuple(settings.stop) if settings.stop else None,
            **_asked(span),
        }
        with self._span(f"{names.CHAT} {span.model}", self._client, known) as traced:
            yield
            reply, error_type = span.reply, CANCELLED if span.cancelled else _type_of(span.error)
            self._metrics.model_called(span, error_type)
            if not traced.is_recording():
                return
            self._end(traced, error_type, span.error)
            self._set(
                traced,
                {
                    names.PROVIDER_NAME: names.provider_name(span.answered_by or span.provider),
                    names.REQUEST_STREAM: span.streamed or None,
                    names.RESPONSE_TIME_TO_FIRST_CHUNK: span.first_chunk,
                    names.TRIES: span.tries if span.tries > 1 else None,
                    names.GATE_WAIT_SECONDS: span.gate_wait or None,
                    names.COST: span.cost,
                },
            )
            if reply is not None:
                reasons = (reply.stop_reason,) if reply.stop_reason is not None else None
                self._set(
                    traced,
                    {
                        names.RESPONSE_ID: reply.response_id,
                        names.RESPONSE_MODEL: reply.model,
                        names.RESPONSE_FINISH_REASONS: reasons,
                        **_usage(reply.usage),
                    },
                )
            if self._contents:
                self._set_model_contents(traced, span)

    def _set_model_contents(self, traced: Span, span: ModelSpan) -> None:
        request, reply = span.request, span.reply
        said = request.instructions
        self._set(
            traced,
            {
                names.SYSTEM_INSTRUCTIONS: messages.instructions_text(said) if said else None,
                names.INPUT_MESSAGES: messages.input_messages(request.messages),
                names.OUTPUT_MESSAGES: messages.output_messages(reply.message, reply.stop_reason)
                if reply is not None
                else None,
                names.TOOL_DEFINITIONS: messages.tool_definitions(request.tools) if request.tools else None,
            },
        )

    @contextmanager
    def tool_call(self, span: ToolSpan) -> Generator[None]:
        known = {
            names.OPERATION_NAME: names.EXECUTE_TOOL,
            names.AGENT_NAME: span.agent,
            names.CONVERSATION_ID: span.conversation_id,
            names.ENDUSER_ID: span.user_id,
            names.RUN_ID: span.run_id,
            names.TURN: span.turn,
            names.TOOL_NAME: span.tool,
            names.TOOL_TYPE: "function",
            names.TOOL_DESCRIPTION: span.description or None,
            names.TOOL_CALL_ID: span.call_id,
        }
        with self._span(f"{names.EXECUTE_TOOL} {span.tool}", self._internal, known) as traced:
            yield
            self._metrics.tool_called(span, span.cause)
            if not traced.is_recording():
                return
            self._end(traced, span.cause, None)
            self._set(
                traced,
                {
                    names.TRIES: span.tries if span.tries > 1 else None,
                    names.TOOL_OUTLIVED: span.outlived or None,
                },
            )
            if self._contents:
                arguments, result = span.call.arguments, span.result
                self._set(
                    traced,
                    {
                        names.TOOL_ARGUMENTS: messages.text_of(arguments) if arguments is not None else span.call.raw,
                        names.TOOL_RESULT: result.content if result is not None else None,
                    },
                )

    # -- recording

    @contextmanager
    def _span(self, name: str, kind: SpanKind, known: Mapping[str, Any]) -> Generator[Span]:
        """A span that is the current one in the block. It ends with the block."""
        with self._tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=_present(known),
            record_exception=False,
            set_status_on_exception=False,
        ) as traced:
            yield traced

    def _set(self, traced: Span, values: Mapping[str, Any]) -> None:
        traced.set_attributes(_present(values))

    def _end(self, traced: Span, error_type: str | None, error: BaseException | None) -> None:
        if error_type is None:
            return
        traced.set_attribute(names.ERROR_TYPE, error_type)
        if error_type != CANCELLED:
            traced.set_status(self._error, str(error) if self._contents and error is not None else None)


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _asked(span: RunSpan | ModelSpan) -> dict[str, Any]:
    """What runs and model calls say of whom they ask, and for whom."""
    return {
        names.PROVIDER_NAME: names.provider_name(span.provider),
        names.REQUEST_MODEL: span.model or None,
        names.CONVERSATION_ID: span.conversation_id,
        names.ENDUSER_ID: span.user_id,
        names.RUN_ID: span.run_id,
    }


def _usage(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    return {
        names.USAGE_INPUT: usage.input_tokens,
        names.USAGE_OUTPUT: usage.output_tokens,
        names.USAGE_CACHE_READ: usage.cached_input_tokens,
        names.USAGE_CACHE_CREATION: usage.cache_write_tokens,
        names.USAGE_REASONING: usage.reasoning_tokens,
    }


def _type_of(error: BaseException | None) -> str | None:
    return type(error).__name__ if error is not None else None


def _run_error(span: RunSpan) -> str | None:
    match span.status:
        case "stopped" | "suspended":
            return CANCELLED
        case "failed" | "limited":
            return _type_of(span.error) or span.status
        case _:
            return None
