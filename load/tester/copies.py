"""A user's agent, as it is but for its model: that of the test, measured.

Agents among its tools, and those that it hands over to, are copied with it, so that none of them asks the model that it
was made with: that may cost money, and would not be measured. An agent that a tool's own code runs is out of sight;
such code asks for its copy by `Iteration.agent`. A copy is made once and kept for as long as its agent is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

from ...agents import Agent, Hooks, Tool, events
from ...agents.agent import AnyTool
from ...providers import Provider
from .measured import metering
from .recorder import Recorder


class Copies:
    """Copies of agents that ask `provider`, and tell `recorder` of their tools and retries."""

    def __init__(self, provider: Provider, recorder: Recorder) -> None:
        self._provider = provider
        self._recorder = recorder
        self._made: WeakKeyDictionary[Agent[Any, Any], Agent[Any, Any]] = WeakKeyDictionary()
        self._copies: WeakSet[Agent[Any, Any]] = WeakSet()

    def of(self, agent: Agent[Any, Any]) -> Agent[Any, Any]:
        """The copy of an agent; a copy is its own.

        Raises:
            TypeError: it is no agent.
        """
        if not isinstance(agent, Agent):
            raise TypeError(f"it.run(agent, prompt) takes an Agent, not {agent!r}")
        if agent in self._copies:
            return agent
        made = self._made.get(agent)
        return made if made is not None else self._copy(agent)

    def _copy(self, agent: Agent[Any, Any]) -> Agent[Any, Any]:
        tools: list[Any] = []
        subagents: set[str] = set()
        handoffs: list[Tool[..., Any]] = []
        for each in agent.tools:
            tool = _as_tool(each)
            if tool is None:
                tools.append(each)
            elif tool.handoff is not None:
                handoffs.append(tool)
            elif tool.asks is not None:
                subagents.add(tool.spec.name)
                tools.append(self.of(tool.asks).as_tool(name=tool.spec.name, description=tool.spec.description))
            else:
                tools.append(tool)
        hooks = [*_listed(agent.hooks), self._hooks(subagents)]
        copy = agent.with_(model=self._provider, tools=tools, hooks=hooks)
        agent.freeze()  # what is added to it from here on, the copy would not have
        self._made[agent] = copy
        self._copies.add(copy)
        # Two agents may hand over to each other: the copy is known by now.
        for tool in handoffs:
            assert tool.handoff is not None
            to = self.of(tool.handoff)
            copy.tool(to.as_handoff(name=tool.spec.name, description=tool.spec.description))
        return copy

    def _hooks(self, subagents: set[str]) -> Hooks:
        recorder = self._recorder

        def tool_started(event: events.ToolStarted) -> None:
            meter = metering.get()
            if meter is not None and event.tool not in subagents:
                meter.begin_tool(recorder.now(), event.run_id, event.call_id)

        def tool_ended(event: Any) -> None:
            if not isinstance(event, events.ToolCompleted | events.ToolErrored):
                return  # it is tried again, or has ended before
            recorder.tool_ended()
            meter = metering.get()
            if meter is not None:
                meter.end_tool(recorder.now(), event.run_id, event.call_id)

        def model_failed(event: Any) -> None:
            if isinstance(event, events.ModelRetrying):
                recorder.retrying()
                meter = metering.get()
                if meter is not None:
                    meter.pause(recorder.now(), event.delay)

        return Hooks(
            on_tool_start=tool_started, on_tool_end=tool_ended, on_tool_error=tool_ended, on_model_error=model_failed
        )


def _listed(hooks: object) -> list[Hooks | Mapping[str, Callable[[Any], Any]]]:
    if hooks is None:
        return []
    if isinstance(hooks, Sequence):
        return [*cast("Sequence[Hooks]", hooks)]
    return [cast("Hooks", hooks)]


def _as_tool(each: AnyTool) -> Tool[..., Any] | None:
    """A tool that is made already, or that an agent is; None for a function."""
    if isinstance(each, Agent):
        return cast("Agent[Any, Any]", each).as_tool()
    return cast("Tool[..., Any]", each) if isinstance(each, Tool) else None
