"""A tool: a Python function with a name, a schema and rules for running it.

The schema comes from the function's signature and docstring, and the same types check the arguments, so the model is
told what will be accepted. Checking happens before anything runs; what is wrong goes back to the model as text that
says what to mend. A tool's return value becomes text: a string as it is, anything else as JSON.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncIterator, Callable, Iterator
from math import isfinite, isnan
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    overload,
)

import msgspec

from ..providers import ToolCall, ToolResult, ToolSpec
from ..providers.checks import is_number, is_whole
from ..providers.functions import FunctionSchema, describe, validate
from .context import RunContext

P = ParamSpec("P")
R = TypeVar("R")

Where: TypeAlias = Literal["loop", "thread"]
Replay: TypeAlias = Literal["never", "keyed", "safe"]

#: Characters of a result that the model gets; what is longer is cut with a note.
DEFAULT_MAX_RESULT = 100_000


class Tool(Generic[P, R]):
    """A function that a model may call. Calling the tool calls the function.

    Made by `tool`, or by an agent from the plain functions in its ``tools=``.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_schema",
        "context_parameter",
        "function",
        "max_result",
        "replay",
        "spec",
        "timeout",
        "where",
    )

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        replay: Replay = "never",
        where: Where | None = None,
        max_result: int = DEFAULT_MAX_RESULT,
    ) -> None:
        if not callable(function):  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError(f"a tool is made of a function, not of {function!r}")
        label = name or getattr(function, "__name__", type(function).__name__)
        if timeout is not None and (not is_number(timeout) or timeout <= 0):
            raise ValueError(f"tool {label!r}: timeout must be above 0 seconds, or None, not {timeout!r}")
        if replay not in ("never", "keyed", "safe"):
            raise ValueError(f"tool {label!r}: replay must be 'never', 'keyed' or 'safe', not {replay!r}")
        if where not in (None, "loop", "thread"):
            raise ValueError(f"tool {label!r}: where must be 'loop' or 'thread', not {where!r}")
        is_async = _is_async(function)
        if where == "thread" and is_async:
            raise ValueError(
                f"tool {label!r}: an async function runs in the event loop; where='thread' needs a plain def"
            )
        if not is_whole(max_result) or max_result < 1:
            raise ValueError(f"tool {label!r}: max_result must be at least 1 character, not {max_result!r}")
        self._schema: FunctionSchema = describe(function, name=name, description=description, is_context=_is_context)
        self.function = function
        self.context_parameter = self._schema.context_parameter
        self.spec = ToolSpec(self._schema.name, self._schema.description, self._schema.parameters)
        self.timeout = timeout
        self.replay: Replay = replay
        self.where: Where = where if where is not None else "loop" if is_async else "thread"
        self.max_result = max_result
        functools.update_wrapper(self, function)

    @property
    def name(self) -> str:
        """The name that the model uses."""
        return self.spec.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def arguments(self, call: ToolCall) -> dict[str, Any]:
        """The keyword arguments of a call, checked and converted to the function's types.

        Raises:
            ValueError: they do not fit; the text tells the model what to mend.
        """
        if call.arguments is None:
            raise ValueError(f"the arguments of {self.name} are not a JSON object: {call.raw[:200]!r}")
        return validate(self._schema, call.raw if call.raw else call.arguments)

    def result(self, call_id: str, value: Any) -> ToolResult:
        """What the model is told about a return value.

        Raises:
            TypeError: the value is a generator or the like, whose items nobody has asked for yet.
        """
        if isinstance(value, (Iterator, AsyncIterator)):
            raise TypeError(f"returned {_a(value)}: return a value or a list")
        return ToolResult(call_id, self.cut(value if isinstance(value, str) else _written(value)), self.name)

    def cut(self, text: str) -> str:
        """`text`, at most `max_result` characters of it, with a note of what is missing."""
        # What cannot be encoded (half a surrogate pair) must not reach a request body.
        text = text.encode("utf-8", "replace").decode()
        if len(text) <= self.max_result:
            return text
        return f"{text[: self.max_result]}\n[cut: {len(text) - self.max_result} more characters]"

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


def _is_context(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_context(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        members = [member for member in get_args(annotation) if member is not type(None)]
        return len(members) == 1 and _is_context(members[0])
    return annotation is RunContext or origin is RunContext


def _is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine. What it wraps does not count: a plain wrapper may run that to its end."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


class _AtTop(Exception):
    """The value itself has no JSON form, so it is shown as text and not as a JSON string."""


def _written(value: Any) -> str:
    """A return value as JSON; what has no JSON form in it, as the text that Python has for it."""

    def shown(member: Any) -> str:
        if member is value:
            raise _AtTop
        return _text(member)

    try:
        encoded = msgspec.json.encode(value, enc_hook=shown)
        if b"null" in encoded:  # as which numbers that JSON does not have are written
            encoded = msgspec.json.encode(_with_numbers(msgspec.to_builtins(value, enc_hook=shown)))
        return encoded.decode()
    except Exception:
        return _text(value)


def _with_numbers(value: Any) -> Any:
    """The value with NaN and the infinities as text."""
    if isinstance(value, float):
        return value if isfinite(value) else "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _with_numbers(held) for key, held in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_with_numbers(held) for held in cast("list[Any]", value)]
    return value


def _text(value: Any) -> str:
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception as error:
        return f"({_a(value)} that cannot be shown: {type(error).__name__})"


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    replay: Replay = "never",
    where: Where | None = None,
    max_result: int = DEFAULT_MAX_RESULT,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    replay: Replay = "never",
    where: Where | None = None,
    max_result: int = DEFAULT_MAX_RESULT,
) -> Any:
    """Make a function a tool: ``@tool`` or ``@tool(timeout=10)``.

    Args:
        name: what the model calls it (default: the function's name).
        description: what the model is told (default: the docstring; its argument descriptions go into the schema).
        timeout: seconds after which a call is given up; the model is told so (default: none).
        replay: what happens to a call that was in flight when its run crashed: ``never`` run again, the model hears
        that
            the outcome is unknown (default); ``keyed`` or ``safe`` run again, with the same ``idempotency_key``.
        where: ``loop`` (default for ``async def``) or ``thread`` (default for ``def``).
        max_result: characters of the result that the model gets (default 100,000); the rest is cut with a note.

    Raises:
        TypeError: a parameter that cannot be described; the message names the parameter and the remedy.
        ValueError: an option that cannot work.
    """

    def make(function: Callable[..., Any]) -> Tool[..., Any]:
        return Tool(
            function,
            name=name,
            description=description,
            timeout=timeout,
            replay=replay,
            where=where,
            max_result=max_result,
        )

    return make if function is None else make(function)


class Toolbox:
    """The tools of one agent, by name.

    Raises:
        ValueError: two tools have the same name.
        TypeError: something in the list is no tool.
    """

    __slots__ = ("_tools", "specs")

    def __init__(self, tools: list[Tool[..., Any]]) -> None:
        self._tools: dict[str, Tool[..., Any]] = {}
        for each in tools:
            if each.name in self._tools:
                raise ValueError(f"two tools are called {each.name!r}: give one of them another name, @tool(name=…)")
            self._tools[each.name] = each
        self.specs: tuple[ToolSpec, ...] = tuple(each.spec for each in tools)

    def __getitem__(self, name: str) -> Tool[..., Any]:
        return self._tools[name]

    def __len__(self) -> int:
        return len(self._tools)

    def refuse(self, call: ToolCall) -> ToolResult | None:
        """The result of a call that must not run, or None if it may."""
        found = self._tools.get(call.name)
        if found is None:
            names = ", ".join(self._tools) or "none"
            text = f"there is no tool {call.name!r}; the tools are: {names}"
            return ToolResult(call.id or "", text, call.name, True, "unknown_tool")
        try:
            found.arguments(call)
        except ValueError as error:
            return ToolResult(call.id or "", found.cut(str(error)), call.name, True, "invalid")
        return None
