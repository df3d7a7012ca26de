"""One answer on the screen: what its run says, event by event, until it has ended.

The answer of the run itself is shown as it comes; what subagents do stands beside it, indented, by their tools alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .agents import ReaderDetached, RunResult, events
from .agents.thread_run import ThreadRun
from .agents.trace import dollars, duration, tokens_in
from .cli_chat_asking import Asking
from .cli_chat_screen import Screen, brief
from .providers import Usage


class TurnView:
    """Shows one run.

    Args:
        screen: where.
        asking: who answers what it asks.
        run: the run.
        in_full: whether results of tools, times and waits are shown too.
    """

    def __init__(self, screen: Screen, asking: Asking, run: ThreadRun[Any], *, in_full: bool) -> None:
        self._screen = screen
        self._asking = asking
        self._run = run
        self._in_full = in_full
        self._has_text = False

    def follow(self) -> RunResult[Any]:
        """Show the run until it has ended, and return its result. Raises the run's error."""
        since: int | None = 0
        try:
            while since is not None:
                since = self._read(since)
            result = self._run.result()
            if not self._has_text and result.status == "completed":
                self._screen.text(result.text)  # its text had come before anybody followed
            return result
        finally:
            self._screen.end_line()

    def _read(self, since: int) -> int | None:
        """Show events until the end, or until so many came during a question that some are to be read again."""
        try:
            for event in self._run.events(since):
                self.show(event)
        except ReaderDetached as error:
            return error.since
        return None

    def show(self, event: events.Event) -> None:
        """Show what there is to see of an event."""
        match event:
            case events.ModelTextDelta(text=text):
                if event.run_id == self._run.id:
                    self._has_text = self._has_text or bool(text)
                    self._screen.text(text)
            case events.ApprovalRequested():
                self._asking.approve(self._run, event)
            case events.QuestionAsked():
                self._asking.reply(self._run, event)
            case _ if self._in_full:
                self._show_more(event)
            case _:
                words = words_for(event)
                if words is not None:
                    self._screen.note(words)

    def _show_more(self, event: events.Event) -> None:
        for line in tasks_in(event):
            self._screen.note(line, len(event.path))
        words = waits_for(event)
        if words is not None and self._screen.status(words):
            return
        words = words_for(event) or more_for(event)
        if words is not None:
            self._screen.note(words, len(event.path) - 1)


def words_for(event: events.Event) -> str | None:
    """What is noted of an event in any case, if anything."""
    match event:
        case events.ToolStarted(tool=name, arguments=arguments):
            shown = ", ".join(f"{key}={value!r}" for key, value in (arguments or {}).items())
            return f"{name}({shown})"
        case events.ToolErrored(tool=name, result=result, cause=cause):
            named = result.startswith(cause.replace("_", " "))  # denied: …, cancelled: …
            return f"{name} {result}" if named else f"{name} failed: {result}"
        case events.ModelRetrying(delay=delay, error=error):
            return f"trying again in {delay:.1f} s: {error}"
        case events.RunRestarted(error=error):
            return f"the run crashed and goes on: {error}"
        case _:
            return None


def more_for(event: events.Event) -> str | None:
    """What is noted of an event in a conversation, beside `words_for`."""
    match event:
        case events.ToolCompleted(tool=name, result=result, seconds=seconds):
            return f"{name} → {brief(result, 120)} ({duration(seconds)})"
        case events.ToolOutlived(tool=name):
            return f"{name} cannot be ended; what it returns is dropped"
        case events.ToolRetrying(tool=name, delay=delay, error=error):
            return f"{name} is tried again in {delay:.1f} s: {error}"
        case events.ModelFallback(model=model, next_model=next_model, error=error):
            return f"{next_model} is asked instead of {model}: {error}"
        case events.AgentHandedOver(to=to):
            return f"handed over to {to}"
        case events.ContextCompacted(messages_before=before, messages_after=after):
            return f"the conversation has become long: {after} of {before} messages are sent"
        case events.RunRecovered(changes=changes):
            return "the answer that was cut short goes on" + (
                f"; changed since: {'; '.join(changes)}" if changes else ""
            )
        case events.EventsDropped(count=count):
            return f"{count} events are not shown"
        case _:
            return None


class _Task(msgspec.Struct):
    text: str
    state: str


class _Tasks(msgspec.Struct):
    tasks: list[_Task]


_MARKS = {"done": "[x]", "in_progress": "[>]"}


def tasks_in(event: events.Event) -> list[str]:
    """The list of tasks that a model shows, as the tool of a workspace publishes it."""
    if not isinstance(event, events.ToolProgress):
        return []
    try:
        shown = msgspec.convert(event.progress, _Tasks)
    except msgspec.ValidationError:
        return []
    return [f"{_MARKS.get(each.state, '[ ]')} {each.text}" for each in shown.tasks]


def waits_for(event: events.Event) -> str | None:
    """What is waited for from this event on, in a word; None where that is as it was."""
    match event:
        case events.ModelStarted(model=model):
            return f"waiting for {model}"
        case events.ModelThinkingDelta():
            return "thinking"
        case events.ModelToolArgsDelta(name=str(name)):
            return f"writing a call of {name}"
        case events.GateWaiting(reason=reason):
            return f"waiting for the provider: {reason}"
        case events.ToolProgress(tool=name, progress=progress) if not tasks_in(event):
            return f"{name}: {progress}"
        case events.ModelRetrying():
            return words_for(event)
        case _:
            return None


class Spent(msgspec.Struct, frozen=True):
    """What answers have used; a cost of None is not known."""

    answers: int = 0
    usage: Usage = Usage()
    cost: float | None = 0.0

    def __add__(self, result: RunResult[Any]) -> Spent:
        cost = None if self.cost is None or result.cost is None else self.cost + result.cost
        return Spent(self.answers + 1, self.usage + result.usage, cost)

    def line(self) -> str:
        """In one line."""
        return spent(self.usage, self.cost)


def spent(usage: Usage, cost: float | None) -> str:
    """Tokens and dollars, as far as they are known."""
    parts: list[str] = []
    if usage == Usage() and cost == 0:
        return "nothing"
    if usage.input_tokens is not None:
        cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
        parts.append(f"{usage.input_tokens:,} tokens in{cached}")
    if usage.output_tokens is not None:
        parts.append(f"{usage.output_tokens:,} out")
    if not parts:
        total = tokens_in(usage)
        parts.append("tokens unknown" if total is None else f"{total:,} tokens")
    if cost:
        parts.append(dollars(cost))
    return ", ".join(parts)


def summary(result: RunResult[Any]) -> str:
    """What is said of an answer when it has ended."""
    turns = sum(message.role == "assistant" for message in result.new_messages)
    took = duration((result.ended_at - result.started_at).total_seconds())
    facts = [spent(result.usage, result.cost), f"{turns} turn{'' if turns == 1 else 's'}", took]
    if result.status == "stopped":
        facts.insert(0, "stopped" if result.reason == "user" else f"stopped ({result.reason})")
    if result.outlived:
        facts.append(f"still at work, and given up: {', '.join(result.outlived)}")
    return ", ".join(facts)
