"""What is measured of runs, in the instruments of one OpenTelemetry meter.

Attributes are names of agents, tools, models and errors: few, and never an id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..agents.instruments import ModelSpan, RunSpan, ToolSpan
from . import genai_names as names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter


class GenAiMetrics:
    """Histograms and counters, told of each run, model call and tool call."""

    __slots__ = (
        *("_active", "_agent_seconds", "_first_chunk", "_gate_waits", "_outlived", "_restarts", "_seconds", "_tokens"),
        "_tool_seconds",
    )

    def __init__(self, meter: Meter) -> None:
        seconds: dict[str, Any] = {"unit": "s", "explicit_bucket_boundaries_advisory": names.SECONDS}
        long: dict[str, Any] = {"unit": "s", "explicit_bucket_boundaries_advisory": names.LONG_SECONDS}
        tokens: dict[str, Any] = {"unit": "{token}", "explicit_bucket_boundaries_advisory": names.TOKENS}
        histogram = meter.create_histogram
        self._seconds = histogram(names.CLIENT_OPERATION_DURATION, description="Duration of model calls", **seconds)
        self._first_chunk = histogram(
            names.CLIENT_TIME_TO_FIRST_CHUNK, description="Time to the first piece of a streamed answer", **seconds
        )
        self._tokens = histogram(names.CLIENT_TOKEN_USAGE, description="Tokens of model calls", **tokens)
        self._agent_seconds = histogram(names.INVOKE_AGENT_DURATION, description="Duration of runs", **long)
        self._tool_seconds = histogram(names.EXECUTE_TOOL_DURATION, description="Duration of tool calls", **seconds)
        self._gate_waits = histogram(
            names.GATE_WAITS, description="Time that model calls waited for their admission", **seconds
        )
        self._active = meter.create_up_down_counter(names.ACTIVE_RUNS, "{run}", "Runs that have not ended")
        self._restarts = meter.create_counter(names.RESTARTS, "{restart}", "Restarts of runs after crashes")
        self._outlived = meter.create_counter(
            names.OUTLIVED_CALLS, "{call}", "Tool calls that were given up while their thread or process went on"
        )

    def run_began(self, span: RunSpan) -> None:
        """One more run."""
        self._active.add(1, {names.AGENT_NAME: span.agent})

    def run_ended(self, span: RunSpan, error_type: str | None) -> None:
        """One run less."""
        agent = {names.AGENT_NAME: span.agent}
        self._active.add(-1, agent)
        if span.restarts:
            self._restarts.add(span.restarts, agent)
        asked = {names.PROVIDER_NAME: names.provider_name(span.provider), names.REQUEST_MODEL: span.model}
        self._agent_seconds.record(span.seconds, {**agent, **asked, **_error(error_type)})

    def model_called(self, span: ModelSpan, error_type: str | None) -> None:
        """A model call has ended."""
        common: dict[str, Any] = {
            names.OPERATION_NAME: names.CHAT,
            names.PROVIDER_NAME: names.provider_name(span.answered_by or span.provider),
            names.REQUEST_MODEL: span.model,
        }
        if span.gate_wait:
            self._gate_waits.record(span.gate_wait, common)
        reply = span.reply
        if reply is not None and reply.model:
            common[names.RESPONSE_MODEL] = reply.model
        self._seconds.record(span.seconds, {**common, **_error(error_type)})
        if span.first_chunk is not None:
            self._first_chunk.record(span.first_chunk, common)
        if reply is not None and reply.usage is not None:
            for kind, count in (("input", reply.usage.input_tokens), ("output", reply.usage.output_tokens)):
                if count is not None:
                    self._tokens.record(count, {**common, names.TOKEN_TYPE: kind})

    def tool_called(self, span: ToolSpan, error_type: str | None) -> None:
        """A tool call has ended."""
        common = {names.TOOL_NAME: span.tool, names.AGENT_NAME: span.agent}
        self._tool_seconds.record(
            span.seconds, {names.OPERATION_NAME: names.EXECUTE_TOOL, **common, **_error(error_type)}
        )
        if span.outlived:
            self._outlived.add(1, common)


def _error(error_type: str | None) -> dict[str, str]:
    return {names.ERROR_TYPE: error_type} if error_type is not None else {}
