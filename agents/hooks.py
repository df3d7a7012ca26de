"""Who is told what, while a run goes on.

A hook is a function of one event; it may be async. It is called in order, at the moment of the event, and the run
waits for it. A hook observes: one that raises is logged and otherwise ignored.

Four forms are taken: keywords (``Hooks(on_tool_start=…)``), a subclass with methods of those names, a dictionary by
name, and a list of any of these.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar, cast

from anyio import current_effective_deadline, get_cancelled_exc_class

from . import events
from .options import names_ours

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
    "on_tool_error": (events.ToolErrored, events.ToolOutlived, events.ToolRetrying, events.ToolBlocked),
    "on_approval": (events.ApprovalRequested, events.ApprovalResolved),
    "on_message": (events.MessageDelivered,),
    "on_question": (events.QuestionAsked, events.QuestionAnswered),
    "on_replan": (events.AgentReplanning,),
    "on_stuck": (events.AgentStuck,),
    "on_context_overflow": (events.ContextOverflowed,),
    "on_context_compacted": (events.ContextCompacted,),
    "on_stop": (events.RunStopped,),
    "on_limit": (events.LimitWarning, events.RunLimited),
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
        on_tool_error: a tool call has an error for a result, is tried again, has blocked the event loop, or outlived
            its run.
        on_approval: a tool call waits for an approval, or does no more.
        on_message: a message that was sent into a run is in its conversation.
        on_question: a tool asks the user something, or its question is open no more.
        on_replan: the model is told to look at its plan.
        on_stuck: the model is told that it goes round in circles.
        on_context_overflow: the conversation is too long for the agent's context window, or for the provider.
        on_context_compacted: less of the conversation is sent than there is.
        on_stop: a run was stopped.
        on_limit: a run has nearly used up a limit (`LimitWarning`), or reached it (`RunLimited`).

    Raises:
        TypeError: a hook that cannot be called, or a subclass with a method ``on_…`` that is no hook.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            if name.startswith("on_") and name not in HOOKS:
                raise TypeError(f"{cls.__name__}.{name}: {_no_such_hook(name)}")

    @names_ours
    def __init__(
        self,
        *,
        on_run_start: Hook[events.RunStarted] | None = None,
        on_run_end: Hook[
            events.RunCompleted | events.RunStopped | events.RunLimited | events.RunWaiting | events.RunFailed
        ]
        | None = None,
        on_turn_start: Hook[events.TurnStarted] | None = None,
        on_turn_end: Hook[events.TurnEnded] | None = None,
        on_model_start: Hook[events.ModelStarted] | None = None,
        on_model_end: Hook[events.ModelCompleted] | None = None,
        on_model_error: Hook[events.ModelRetrying | events.ModelFailed] | None = None,
        on_tool_start: Hook[events.ToolStarted] | None = None,
        on_tool_end: Hook[events.ToolCompleted] | None = None,
        on_tool_error: Hook[events.ToolErrored | events.ToolOutlived | events.ToolRetrying | events.ToolBlocked]
        | None = None,
        on_approval: Hook[events.ApprovalRequested | events.ApprovalResolved] | None = None,
        on_message: Hook[events.MessageDelivered] | None = None,
        on_question: Hook[events.QuestionAsked | events.QuestionAnswered] | None = None,
        on_replan: Hook[events.AgentReplanning] | None = None,
        on_stuck: Hook[events.AgentStuck] | None = None,
        on_context_overflow: Hook[events.ContextOverflowed] | None = None,
        on_context_compacted: Hook[events.ContextCompacted] | None = None,
        on_stop: Hook[events.RunStopped] | None = None,
        on_limit: Hook[events.LimitWarning | events.RunLimited] | None = None,
    ) -> None:
        given = locals()
        for name in HOOKS:
            if given[name] is not None:
                setattr(self, name, _callable(name, given[name]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(name for name in HOOKS if getattr(self, name, None) is not None)})"


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
        several = isinstance(hooks, Sequence) and not isinstance(hooks, str | bytes)
        for group in cast("Sequence[Hooks]", hooks) if several else (cast("Hooks", hooks),):
            for name, hook in _named(group).items():
                _callable(name, hook)
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
                raise TypeError(_no_such_hook(name))
        return dict(group)
    if isinstance(group, type) and issubclass(group, Hooks):
        raise TypeError(f"hooks= takes an object, not the class: write hooks={group.__name__}(…)")
    if not isinstance(group, Hooks):
        raise TypeError(f"hooks= takes Hooks, a dictionary by name, or a list of these, not {group!r}")
    return {name: getattr(group, name) for name in HOOKS if getattr(group, name, None) is not None}


def _no_such_hook(name: object) -> str:
    near = get_close_matches(name, HOOKS, 1) if isinstance(name, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no hook {name!r}{hint} The hooks are: {', '.join(HOOKS)}"


def _callable(name: str, hook: Hook[Any]) -> Hook[Any]:
    if not callable(hook):
        raise TypeError(f"hook {name} must be a function of one event, not {hook!r}")
    return hook


async def call_observer(observer: Callable[[Any], Any], event: events.Event) -> None:
    """Call an observer, sync or async; what it raises is logged, never fatal.

    What is not the observer's own passes: a cancellation of the run, the end of the event loop, an interrupt.
    """
    try:
        given = observer(event)
        if given is not None and inspect.isawaitable(given):
            await given
    except BaseException as error:
        if not isinstance(error, Exception) and _comes_from_outside(error):
            raise
        try:
            what = f"{type(error).__name__}: {error}"
        except Exception:
            what = type(error).__name__
        _log.error("an observer failed at %s of run %s: %s", event.type, event.run_id, what)


def _comes_from_outside(error: BaseException) -> bool:
    if isinstance(error, GeneratorExit):
        # The coroutine is being closed, unless the traceback leads on, into the observer.
        return error.__traceback__ is None or error.__traceback__.tb_next is None
    if _holds(error, (KeyboardInterrupt, SystemExit)):
        return True
    # A cancellation that nobody asked for was raised by hand.
    return _holds(error, get_cancelled_exc_class()) and current_effective_deadline() == -float("inf")


def _holds(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.subgroup(kinds) is not None
    return isinstance(error, kinds)
