"""The rules for running a tool: when a call may begin, whether it is tried again, and what its failure does.

They are data, checked when the tool is made. Who keeps them: `tool_admission` before a call begins, `tool_cell` while
it runs, `tool_batch` when it has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec
from typing_extensions import TypedDict

from ..providers import Retry
from ..providers.checks import is_number, is_whole
from .options import refuse_unknown

OnError: TypeAlias = Literal["report", "cancel", "fail"]
Risk: TypeAlias = Literal["low", "medium", "high"]
Arguments: TypeAlias = "dict[str, Any]"
Lock: TypeAlias = "str | Callable[[Arguments], Hashable]"
NeedsApproval: TypeAlias = "bool | Callable[[Arguments], bool | str | Awaitable[bool | str]]"
RetryOn: TypeAlias = "type[Exception] | tuple[type[Exception], ...]"

RISKS: tuple[Risk, ...] = get_args(Risk)
ON_ERROR: tuple[OnError, ...] = get_args(OnError)


class RuleOptions(TypedDict, total=False):
    """The options of `tool` that say how its calls are run."""

    retries: int | Retry
    retry_on: RetryOn
    limit: int | None
    lock: Lock | None
    needs_approval: NeedsApproval
    on_error: OnError | None
    tags: Iterable[str]
    risk: Risk | None


class ToolRules(msgspec.Struct, frozen=True):
    """The same, checked. `retry` is None where a call is tried once; `asks` and `queues` say what there is to do."""

    retry: Retry | None = None
    retry_on: tuple[type[Exception], ...] = (Exception,)
    limit: int | None = None
    lock: Lock | None = None
    needs_approval: NeedsApproval = False
    on_error: OnError | None = None
    tags: frozenset[str] = frozenset()
    risk: Risk | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing has to be asked or waited for before a call begins."""
        return self.limit is None and self.lock is None and self.needs_approval is False


PLAIN = ToolRules()
#: The options of a tool that are no rules.
OTHER_OPTIONS = ("description", "max_result", "name", "replay", "timeout", "where")


def read_rules(tool: str, given: Mapping[str, Any]) -> ToolRules:
    """The rules in these options of a tool.

    Raises:
        TypeError, ValueError: an option that there is not, or that cannot work; the message names it and the tool.
    """
    if not given:
        return PLAIN
    refuse_unknown("tool", given, {*OTHER_OPTIONS, *RuleOptions.__annotations__})
    if "retry_on" in given and not given.get("retries"):
        raise ValueError(f"tool {tool!r}: retry_on says which errors are tried again: give retries= too")
    limit, lock = given.get("limit"), given.get("lock")
    approval: Any = given.get("needs_approval", False)
    if limit is not None and (not is_whole(limit) or limit < 1):
        raise ValueError(f"tool {tool!r}: limit must be a number of calls at once, at least 1, or None, not {limit!r}")
    if lock is not None and not callable(lock) and (not isinstance(lock, str) or not lock):
        raise ValueError(f"tool {tool!r}: lock must be a key, or a function from the arguments to one, not {lock!r}")
    if not isinstance(approval, bool) and not callable(approval):
        raise TypeError(f"tool {tool!r}: needs_approval must be True, False or a function, not {approval!r}")
    on_error, risk = given.get("on_error"), given.get("risk")
    if on_error is not None and on_error not in ON_ERROR:
        raise ValueError(f"tool {tool!r}: on_error must be one of {', '.join(map(repr, ON_ERROR))}, not {on_error!r}")
    if risk is not None and risk not in RISKS:
        raise ValueError(f"tool {tool!r}: risk must be one of {', '.join(map(repr, RISKS))}, not {risk!r}")
    return ToolRules(
        retry=_read_retry(tool, given.get("retries", 0)),
        retry_on=_read_kinds(tool, given.get("retry_on", Exception)),
        limit=limit,
        lock=lock,
        needs_approval=cast("NeedsApproval", approval),
        on_error=on_error,
        tags=_read_tags(tool, given.get("tags", ())),
        risk=risk,
    )


def _read_retry(tool: str, retries: object) -> Retry | None:
    if isinstance(retries, Retry):
        return retries if retries.attempts > 1 else None
    if not is_whole(retries) or retries < 0:
        raise ValueError(f"tool {tool!r}: retries must be a whole number, 0 or more, or Retry(…), not {retries!r}")
    return Retry(attempts=retries + 1) if retries else None


def _read_kinds(tool: str, kinds: object) -> tuple[type[Exception], ...]:
    several: tuple[Any, ...] = cast("tuple[Any, ...]", kinds) if isinstance(kinds, tuple) else (kinds,)
    if not several or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in several):
        raise TypeError(f"tool {tool!r}: retry_on must be a class of exceptions, or a tuple of them, not {kinds!r}")
    return several


def _read_tags(tool: str, tags: object) -> frozenset[str]:
    if isinstance(tags, str):
        raise TypeError(f"tool {tool!r}: tags takes a list of texts: write tags=[{tags!r}]")
    texts: list[Any] = list(cast("Iterable[Any]", tags)) if isinstance(tags, Iterable) else [tags]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"tool {tool!r}: tags takes a list of texts, not {tags!r}")
    return frozenset(texts)


def check_on_error(on_error: object) -> OnError:
    """What an agent says to a failing tool.

    Raises:
        ValueError: a word that there is not.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_tool_error={on_error!r} is not one of {', '.join(map(repr, ON_ERROR))}")
    return on_error


def check_timeout(name: str, seconds: object) -> float | None:
    """Seconds, or None for no bound.

    Raises:
        ValueError: neither.
    """
    if seconds is not None and (not is_number(seconds) or seconds <= 0):
        raise ValueError(f"{name} must be above 0 seconds, or None, not {seconds!r}")
    return seconds
