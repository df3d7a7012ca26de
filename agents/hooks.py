"""Who is told what, while a run goes on.

A hook is a function of one event; it may be async. It is called in order, at the moment of the event, and the run
waits for it. A hook observes: one that raises is logged and otherwise ignored.

Four forms are taken: keywords (``Hooks(on_tool_start=…)``), a subclass with methods of those names, a dictionary by
name, and a list of any of these.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar

from . import events

E = TypeVar("E", bound=events.Event)
Hook: TypeAlias = Callable[[E], Awaitable[None] | None]

_log = logging.getLogger("greenroom")

#: The events that each hook hears.
HOOKS: dict[str, tuple[type[events.Event], ...]] = {
    "on_run_start": (events.RunStarted,),
    "on_run_end": events.TERMINAL,
    "on_turn_start": (events.TurnStarted,),
    "on_turn_end": (events.TurnEnded,),
    "on_model_start": (events.ModelStarted,),
    "on_model_end": (events.ModelCompleted,),
    "on_model_error": (events.ModelRetrying, events.ModelFailed),
    "on_tool_start": (events.ToolStarted,),
    "on_tool_end": (events.ToolCompleted,),
    "on_tool_error": (events.ToolErrored, events.ToolOutlived),
    "on_stop": (events.RunStopped,),
    "on_limit": (events.RunLimited,),
}


class Hooks:
    """Functions to call at the events of a run.

    Args:
        on_run_start: a run begins.
        on_run_end: a run has ended, however.
        on_turn_start: the model is about to be asked.
        on_turn_end: reply and tool results are in the history.
        on_model_start: a request goes out.
        on_model_end: a reply is there.
        on_model_error: a request failed; it is tried again (`ModelRetrying`) or not (`ModelFailed`).
        on_tool_start: a tool call runs.
        on_tool_end: a tool call returned.
        on_tool_error: a tool call has an error for a result, or outlived its run.
        on_stop: a run was stopped.
        on_limit: a run reached a limit.
    """

    def __init__(
        self,
        *,
        on_run_start: Hook[events.RunStarted] | None = None,
        on_run_end: Hook[events.RunCompleted | events.RunStopped | events.RunLimited | events.RunFailed] | None = None,
        on_turn_start: Hook[events.TurnStarted] | None = None,
        on_turn_end: Hook[events.TurnEnded] | None = None,
        on_model_start: Hook[events.ModelStarted] | None = None,
        on_model_end: Hook[events.ModelCompleted] | None = None,
        on_model_error: Hook[events.ModelRetrying | events.ModelFailed] | None = None,
        on_tool_start: Hook[events.ToolStarted] | None = None,
        on_tool_end: Hook[events.ToolCompleted] | None = None,
        on_tool_error: Hook[events.ToolErrored | events.ToolOutlived] | None = None,
        on_stop: Hook[events.RunStopped] | None = None,
        on_limit: Hook[events.RunLimited] | None = None,
    ) -> None:
        given = locals()
        for name in HOOKS:
            if given[name] is not None:
                setattr(self, name, given[name])


HooksLike: TypeAlias = "Hooks | Mapping[str, Hook[Any]] | Sequence[Hooks | Mapping[str, Hook[Any]]] | None"


class Audience:
    """The hooks of one agent, sorted by event.

    Raises:
        TypeError: a hook of an unknown name, or one that cannot be called.
    """

    __slots__ = ("_by_event",)

    def __init__(self, hooks: HooksLike) -> None:
        self._by_event: dict[type[events.Event], list[Hook[Any]]] = {}
        if hooks is None:
            return
        for group in hooks if isinstance(hooks, Sequence) else (hooks,):
            for name, hook in _named(group).items():
                if not callable(hook):
                    raise TypeError(f"hook {name} must be a function of one event, not {hook!r}")
                for event in HOOKS[name]:
                    self._by_event.setdefault(event, []).append(hook)

    def __bool__(self) -> bool:
        return bool(self._by_event)

    def hears(self, event: type[events.Event]) -> bool:
        """Whether any hook is called at this event."""
        return event in self._by_event

    def of(self, event: events.Event) -> Sequence[Hook[Any]]:
        """The hooks of this event, in the order in which they were given."""
        return self._by_event.get(type(event), ())


def _named(group: Hooks | Mapping[str, Hook[Any]]) -> dict[str, Hook[Any]]:
    if isinstance(group, Mapping):
        for name in group:
            if name not in HOOKS:
                near = get_close_matches(name, HOOKS, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"there is no hook {name!r}{hint} The hooks are: {', '.join(HOOKS)}")
        return dict(group)
    if not isinstance(group, Hooks):
        raise TypeError(f"hooks= takes Hooks, a dictionary by name, or a list of these, not {group!r}")
    return {name: getattr(group, name) for name in HOOKS if getattr(group, name, None) is not None}


async def call_observer(observer: Callable[[Any], Any], event: events.Event) -> None:
    """Call an observer, sync or async; what it raises is logged, never fatal."""
    try:
        awaitable = observer(event)
        if awaitable is not None:
            await awaitable
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        _log.error("an observer failed at %s of run %s: %s", event.type, event.run_id, what)
