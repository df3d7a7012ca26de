"""Events without their contents: what people, models and tools have said.

A field is kept if it is known to hold none: numbers, and texts that are ids, names or words of ours. All others are
emptied, so a field that is new keeps its contents to itself until somebody has thought about it. Messages of errors
quote answers and arguments; where an error begins with its type, the type is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from ..agents import events
from ..providers import Usage

E = TypeVar("E", bound=events.Event)

#: Texts without contents, by the name of their field.
_PLAIN = frozenset(
    {
        *("agent", "call_id", "cause", "heir", "how", "kind", "limit", "message_id", "model", "next_model"),
        *("next_provider", "outcome", "outlived", "output_tool", "pending", "provider", "question_id", "source"),
        *("stop_reason", "to", "tool", "tools", "when"),
    }
)
#: Words of ours, in fields whose names elsewhere may stand for somebody's own words.
_WORDS = frozenset(
    {
        (events.ApprovalResolved, "answer"),
        (events.GateWaiting, "reason"),
        *((kind, "reason") for kind in events.TERMINAL),
    }
)
#: Events whose `error` begins with the error's type and a colon.
_TYPED = (events.RunFailed, events.RunRestarted, events.StopPollFailed, events.ToolRetrying)

_Emptied = dict[str, Callable[[Any], Any]]


def without_contents(event: E) -> E:
    """The event with the ids, numbers and words that it has, and without anything that was said or computed."""
    emptied = _emptied(type(event))
    if not emptied:
        return event
    return msgspec.structs.replace(event, **{name: empty(getattr(event, name)) for name, empty in emptied.items()})


@cache
def _emptied(kind: type[events.Event]) -> _Emptied:
    """For each field of such an event that may hold contents, what makes it hold none."""
    emptied: _Emptied = {}
    common = events.Event.__struct_fields__
    for field in msgspec.structs.fields(kind):
        if field.name in common:
            continue
        types = _members(field.type)
        if Usage in types:
            emptied[field.name] = _counts
        elif field.name == "error" and issubclass(kind, _TYPED):
            emptied[field.name] = _type_of_error
        elif types - {int, float, bool, type(None)} and field.name not in _PLAIN and (kind, field.name) not in _WORDS:
            emptied[field.name] = _emptying(field, types)
    return emptied


def _members(kind: Any) -> set[Any]:
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


def _counts(usage: Usage | None) -> Usage | None:
    """Without the provider's own object."""
    return usage if usage is None or usage.raw is None else msgspec.structs.replace(usage, raw=None)


def _type_of_error(text: str) -> str:
    kind = text.partition(":")[0]
    return kind if kind.isidentifier() else ""


def _emptying(field: msgspec.structs.FieldInfo, types: set[Any]) -> Callable[[Any], Any]:
    if field.default is not msgspec.NODEFAULT:
        empty = field.default
    elif type(None) in types or Any in types:
        empty = None
    else:
        (kind,) = types
        empty = (get_origin(kind) or kind)()  # "", (), {}
    return lambda _: empty
