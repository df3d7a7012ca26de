"""What the client counts while agents run: from their events, and from what each run gave its caller.

The two are independent roads to the same numbers. Events come through hooks, at the moment they happen, from runs and
subagents alike; the outcome of a run comes from its `Run` handle. `reconcile` compares both, and both with the server.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from ..agents import Hooks, RunResult, events
from ..providers import ProviderError, ToolCall, ToolResult


class Tally(msgspec.Struct, kw_only=True):
    """Counts of one demo. `run` means a run that the workload asked for, unless subagents are named.

    Attributes:
        launched: runs asked for.
        settled: how often each gave its caller an outcome, by run.
        outcomes: how many ended so: ``completed``, ``stopped``, or the cause of a failure.
        said: how many runs said that they ended so: ``completed``, ``stopped``, ``limited``, ``failed``.
        begun: runs and subagents that said they had started.
        ends: terminal events, by run or subagent.
        completed: runs and subagents that said they had completed.
        subagents_failed: subagents that ended without an answer; each is an error for the tool call that asked it.
        first_replies: runs and subagents that got an answer to their first turn.
        in_flight, in_flight_max: runs and subagents at work, now and at most.
        attempts: model requests that went out.
        replies: model requests that were answered.
        retries: failed requests that were tried again.
        given_up: failed requests that were not.
        calls: tool calls that the model asked for.
        tools_started: tool calls that ran.
        tools_done: tool calls that returned.
        tools_failed: tool calls with an error for a result.
        tool_crashes: errors that tools of the workload raised.
        run_crashes: errors that the workload raised in the code around a run.
        restarts: times that a run went on from its journal.
        irregular: runs whose history lacks a result, has one twice, or repeats a reply.
        seconds: how long each run took.
    """

    launched: int = 0
    settled: Counter[str] = msgspec.field(default_factory=Counter[str])
    outcomes: Counter[str] = msgspec.field(default_factory=Counter[str])
    said: Counter[str] = msgspec.field(default_factory=Counter[str])
    begun: int = 0
    ends: Counter[str] = msgspec.field(default_factory=Counter[str])
    completed: int = 0
    subagents_failed: int = 0
    first_replies: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    attempts: int = 0
    replies: int = 0
    retries: int = 0
    given_up: int = 0
    calls: int = 0
    tools_started: int = 0
    tools_done: int = 0
    tools_failed: int = 0
    tool_crashes: int = 0
    run_crashes: int = 0
    restarts: int = 0
    irregular: int = 0
    seconds: list[float] = []

    @property
    def accounted(self) -> int:
        """Runs with exactly one outcome and exactly one end."""
        return sum(count == 1 and self.ends[name] == 1 for name, count in self.settled.items())

    @property
    def lost(self) -> int:
        """Runs that were asked for and not accounted for."""
        return self.launched - self.accounted

    def hooks(self) -> Hooks:
        """Hooks that count; for every agent of the workload."""

        def run_started(_: events.RunStarted) -> None:
            self.begun += 1
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)

        def run_ended(event: events.Event) -> None:
            self.in_flight -= 1
            self.ends[event.run_id] += 1
            completed = isinstance(event, events.RunCompleted)
            self.completed += completed
            if event.parent_id is None:
                self.said[event.type.removeprefix("run.")] += 1
            else:
                self.subagents_failed += not completed

        def model_started(_: events.ModelStarted) -> None:
            self.attempts += 1

        def model_ended(event: events.ModelCompleted) -> None:
            self.replies += 1
            self.calls += event.tool_calls
            self.first_replies += event.turn == 1

        def model_failed(event: events.Event) -> None:
            if isinstance(event, events.ModelRetrying):
                self.retries += 1
            else:
                self.given_up += 1

        def tool_started(_: events.ToolStarted) -> None:
            self.tools_started += 1

        def tool_ended(_: events.ToolCompleted) -> None:
            self.tools_done += 1

        def tool_failed(event: events.Event) -> None:
            self.tools_failed += isinstance(event, events.ToolErrored)

        return Hooks(
            on_run_start=run_started,
            on_run_end=run_ended,
            on_model_start=model_started,
            on_model_end=model_ended,
            on_model_error=model_failed,
            on_tool_start=tool_started,
            on_tool_end=tool_ended,
            on_tool_error=tool_failed,
        )

    def settle(self, run_id: str, result: RunResult[Any] | None, cause: str, turns: int, restarts: int) -> None:
        """Write down what a run gave its caller. `turns` is the number of replies that a complete one has."""
        self.settled[run_id] += 1
        self.outcomes[cause] += 1
        self.restarts += restarts
        if result is not None:
            self.seconds.append((result.ended_at - result.started_at).total_seconds())
            self.irregular += not is_regular(result, turns)


def cause_of(error: Exception) -> str:
    """One or two words for why a run failed."""
    return error.kind.replace("_", " ") if isinstance(error, ProviderError) else type(error).__name__


def is_regular(result: RunResult[Any], turns: int) -> bool:
    """Whether each tool call has exactly one result, and a complete run exactly `turns` replies."""
    replies = [message for message in result.new_messages if message.role == "assistant"]
    calls = [part.id for message in replies for part in message.parts if isinstance(part, ToolCall)]
    answers = [
        part.call_id for message in result.new_messages for part in message.parts if isinstance(part, ToolResult)
    ]
    whole = result.status != "completed" or len(replies) == turns
    return whole and sorted(map(str, calls)) == sorted(answers)
