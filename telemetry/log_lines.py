"""Log lines with structlog: the events of runs, and the ids of the run in the lines of others.

`log_events` is an observer that logs what happens. `bind_ids` is an instrument that puts the ids of the run and of the
call into structlog's context variables, so that each line that a tool logs carries them, also from a plain function in
its thread. structlog must be set up to merge them: ``structlog.contextvars.merge_contextvars`` is the first of its
default processors.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ..agents import events
from ..agents.instruments import Instrument, RunSpan, ToolSpan
from ..providers import Usage
from .contents import without_contents
from .extras import flag, load

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
_RANKS = {level: rank for rank, level in enumerate(get_args(LogLevel))}

#: How loud an event is; one that is not here is told at ``info``.
_LEVELS: dict[type[events.Event], LogLevel] = {
    events.RunFailed: "error",
    **dict.fromkeys(
        (
            *(events.AgentStuck, events.ContextOverflowed, events.LimitWarning, events.ModelFailed),
            *(events.ModelFallback, events.ModelRetrying, events.RunLimited, events.RunRestarted),
            *(events.StopPollFailed, events.ToolBlocked, events.ToolErrored, events.ToolOutlived, events.ToolRetrying),
            events.ToolsetLost,
        ),
        "warning",
    ),
    **dict.fromkeys(
        (
            *(events.AgentReplanning, events.GateOpened, events.GateWaiting, events.MessageDelivered),
            *(events.MessageQueued, events.ModelStarted, events.RunStarted, events.ToolProgress, events.ToolStarted),
            *(events.TurnEnded, events.TurnStarted),
        ),
        "debug",
    ),
}
#: Ids that a line of ours has from its event, or not at all.
_IDS = ("run_id", "parent_id", "path", "conversation_id", "user_id", "call_id")
#: What structlog says by itself, or nobody needs in a line.
_LEFT_OUT = frozenset({"seq", "time", "type"})


def log_events(
    logger: FilteringBoundLogger | None = None, *, level: LogLevel = "debug", contents: bool = False
) -> Callable[[events.Event], None]:
    """An observer that logs each event but pieces of answers: ``System(on_event=log_events())``.

    The message is the event's type. The line has `run_id`, `parent_id`, `path`, `conversation_id`, `user_id`, `call_id`
    and `turn`, as far as the event has them, and what else it says. A run that fails is an error; what was tried again
    or given up is a warning; beginnings are for debugging.

    Args:
        logger: of structlog (default: ``structlog.get_logger("greenroom")``).
        level: ``debug``, ``info``, ``warning`` or ``error``; quieter events are left out (default ``debug``).
        contents: whether prompts, answers, arguments, results and messages of errors are logged (default False).

    Raises:
        ImportError: structlog is not installed.
        TypeError, ValueError: an argument that cannot work.
    """
    if logger is not None and not (hasattr(logger, "bind") and hasattr(logger, "info")):
        raise TypeError(f"log_events(logger) takes a logger of structlog: structlog.get_logger(), not {logger!r}")
    if level not in _RANKS:
        raise ValueError(f"level={level!r} is not one of {', '.join(map(repr, _RANKS))}")
    flag("contents", contents)
    structlog = load("structlog", "structlog", "log_events()")
    log: Any = logger if logger is not None else structlog.get_logger("greenroom")
    least = _RANKS[level]

    def log_event(event: events.Event) -> None:
        if isinstance(event, events.DELTAS):
            return
        loudness = _level_of(event)
        if _RANKS[loudness] < least:
            return
        facts = _facts(event if contents else without_contents(event))
        with _without_ambient(structlog.contextvars, [name for name in _IDS if name not in facts]):
            getattr(log, loudness)(event.type, **facts)

    return log_event


def _level_of(event: events.Event) -> LogLevel:
    if isinstance(event, events.ToolErrored) and event.cause == "cancelled":
        return "info"  # somebody wanted it
    return _LEVELS.get(type(event), "info")


def _facts(event: events.Event) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name in _LEFT_OUT or value is None or value in ("", ()):
            continue
        if isinstance(value, Usage):
            counts = {each: getattr(value, each) for each in value.__struct_fields__ if each != "raw"}
            facts |= {each: count for each, count in counts.items() if count is not None}
        else:
            facts[name] = "/".join(value) if name == "path" else value
    return facts


@contextmanager
def _without_ambient(contextvars: Any, names: list[str]) -> Generator[None]:
    """A block without these context variables: an event is told in the task of any run of its tree."""
    bound = contextvars.get_contextvars()
    ambient = {name: bound[name] for name in names if name in bound}
    if ambient:
        contextvars.unbind_contextvars(*ambient)
    try:
        yield
    finally:
        if ambient:
            contextvars.bind_contextvars(**ambient)


def bind_ids() -> Instrument:
    """An instrument that binds ids in structlog's context variables: ``System(instruments=[bind_ids()])``.

    Around a run `run_id`, `conversation_id` and `user_id`, as far as it has them; around a tool call `call_id` too.

    Raises:
        ImportError: structlog is not installed.
    """
    return _BindIds(load("structlog", "structlog", "bind_ids()").contextvars)


class _BindIds(Instrument):
    def __init__(self, contextvars: Any) -> None:
        self._contextvars = contextvars

    @contextmanager
    def run(self, span: RunSpan) -> Generator[None]:
        if span.parent_id is not None:
            self._contextvars.unbind_contextvars("call_id")  # of the call above; the task is the run's own
        given = {"run_id": span.run_id, "conversation_id": span.conversation_id, "user_id": span.user_id}
        with self._contextvars.bound_contextvars(**{name: id for name, id in given.items() if id is not None}):
            yield

    @contextmanager
    def tool_call(self, span: ToolSpan) -> Generator[None]:
        with self._contextvars.bound_contextvars(call_id=span.call_id):
            yield
