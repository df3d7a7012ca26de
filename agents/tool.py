"""A tool: a Python function with a name, a schema and rules for running it.

The schema comes from the function's signature and docstring, and the same types check the arguments, so the model is
told what will be accepted; or it is given, with `Tool.from_schema`. Checking happens before anything runs; what is
wrong goes back to the model as text that says what to mend. What a tool returned is made a result in `tool_results`.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
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

from typing_extensions import Unpack

from ..providers import ToolCall, ToolResult, ToolSpec
from ..providers.checks import is_number, is_whole
from ..providers.function_arguments import FunctionSchema, validate
from ..providers.functions import describe, describe_as
from .context import RunContext
from .process_address import address_of, check_address
from .tool_results import cut, make_result
from .tool_rules import RuleOptions, ToolRules, read_rules

if TYPE_CHECKING:
    from .agent import Agent

P = ParamSpec("P")
R = TypeVar("R")

Where: TypeAlias = Literal["loop", "thread", "process"]
Replay: TypeAlias = Literal["never", "keyed", "safe"]

#: Characters of a result that the model gets; what is longer is cut with a note.
DEFAULT_MAX_RESULT = 100_000


class ToolOptions(RuleOptions, total=False):
    """The options of a tool that do not concern its schema."""

    timeout: float | None
    replay: Replay
    where: Where | None
    max_result: int


class Tool(Generic[P, R]):
    """A function that a model may call. Calling the tool calls the function.

    Made by `tool`, or by an agent from the plain functions in its ``tools=``.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_schema",
        "address",
        "asks",
        "context_parameter",
        "function",
        "handoff",
        "max_result",
        "replay",
        "rules",
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
        parameters: Mapping[str, Any] | None = None,
        **rules: Unpack[RuleOptions],
    ) -> None:
        if not callable(function):  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError(f"a tool is made of a function, not of {function!r}")
        label = name or getattr(function, "__name__", type(function).__name__)
        if description is not None and not isinstance(description, str):
            raise TypeError(f"tool {label!r}: description takes text, not {description!r}")
        if timeout is not None and (not is_number(timeout) or timeout <= 0):
            raise ValueError(f"tool {label!r}: timeout must be above 0 seconds, or None, not {timeout!r}")
        if replay not in ("never", "keyed", "safe"):
            raise ValueError(f"tool {label!r}: replay must be 'never', 'keyed' or 'safe', not {replay!r}")
        if where not in (None, "loop", "thread", "process"):
            raise ValueError(f"tool {label!r}: where must be 'loop', 'thread' or 'process', not {where!r}")
        is_async = _is_async(function)
        if where in ("thread", "process") and is_async:
            raise ValueError(
                f"tool {label!r}: an async function runs in the event loop; where={where!r} needs a plain def"
            )
        #: Where a process finds the function; None for a tool that runs here.
        self.address = address_of(function, label) if where == "process" else None
        if not is_whole(max_result) or max_result < 1:
            raise ValueError(f"tool {label!r}: max_result must be at least 1 character, not {max_result!r}")
        self._schema: FunctionSchema = (
            describe(function, name=name, description=description, is_context=_is_context)
            if parameters is None
            else describe_as(
                function,
                name=label if name is None else name,
                description=description or "",
                parameters=parameters,
                is_context=_is_context,
            )
        )
        self.function = function
        #: The agent that it runs, of one that `Agent.as_tool` has made.
        self.asks: Agent[Any, Any] | None = None
        #: The agent that the run goes on with when the call has returned.
        self.handoff: Agent[Any, Any] | None = None
        self.context_parameter = self._schema.context_parameter
        if where == "process" and self.context_parameter is not None:
            raise TypeError(
                f"tool {label!r}: {self.context_parameter!r} takes the run's context, which is no use in another "
                "process: remove it, or leave out where='process'"
            )
        self.spec = ToolSpec(self._schema.name, self._schema.description, self._schema.parameters)
        self.timeout = timeout
        self.replay: Replay = replay
        self.where: Where = where if where is not None else "loop" if is_async else "thread"
        self.max_result = max_result
        self.rules: ToolRules = read_rules(label, rules)
        functools.update_wrapper(self, function)

    @classmethod
    def from_schema(
        cls,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        function: Callable[..., Any],
        **options: Unpack[ToolOptions],
    ) -> Tool[..., Any]:
        """A tool with a JSON schema that you wrote or were given, instead of that of a signature.

        The function is called with the properties as keyword arguments, ``function(city="Oslo")``, their values as JSON
        has them; what the model leaves out, the function has a default for. Arguments are checked against the schema
        before it is called. A schema that does not say whether there may be further keys is closed, unless the function
        takes any (``**options``). A parameter annotated ``RunContext`` is given the context.

        Args:
            name: what the model calls it.
            description: what the model is told.
            parameters: the JSON schema of an object, of draft 2020-12 or 7. ``format`` is not checked.
            function: async or plain.
            options: those of `tool`.

        Raises:
            TypeError: the function cannot be called with what the schema allows.
            ValueError: the schema holds something that cannot be checked, such as a reference to another document.
        """
        return Tool(function, name=name, description=description, parameters=parameters, **options)

    @property
    def name(self) -> str:
        """The name that the model uses."""
        return self.spec.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def is_typed(self) -> bool:
        """Whether its arguments are read as its parameters say; else they are what the JSON has."""
        return self._schema.arguments is not None

    def arguments(self, call: ToolCall) -> dict[str, Any]:
        """The keyword arguments of a call, checked and converted to the function's types.

        Raises:
            ValueError: they do not fit; the text tells the model what to mend.
        """
        if call.arguments is None:
            if call.raw:
                validate(self._schema, call.raw)  # which knows best what is wrong
            raise ValueError(f"the arguments for {self.name} are not a JSON object: {call.raw[:200]!r}")
        return validate(self._schema, call.raw if call.raw else call.arguments)

    def result(self, call_id: str, value: Any) -> ToolResult:
        """What the model is told about a return value.

        Raises:
            TypeError, ValueError: a value that no model could be sent, such as a generator or bytes that are no text.
        """
        return make_result(call_id, self.name, value, self.max_result)

    def cut(self, text: str) -> str:
        """`text`, at most `max_result` characters of it, with a note of what is missing."""
        return cut(text, self.max_result)

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
    **rules: Unpack[RuleOptions],
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
    **rules: Unpack[RuleOptions],
) -> Any:
    """Make a function a tool: ``@tool`` or ``@tool(timeout=10)``.

    Args:
        name: what the model calls it (default: the function's name).
        description: what the model is told (default: the docstring; its argument descriptions go into the schema).
        timeout: seconds after which a call is given up; the model is told so (default: none).
        replay: what happens to a call that was in flight when its run crashed: ``never`` run again, the model hears
        that
            the outcome is unknown (default); ``keyed`` or ``safe`` run again, with the same ``idempotency_key``.
        where: ``loop`` (default for ``async def``), ``thread`` (default for ``def``) or ``process``, for a ``def``
            that must be possible to end: a call that times out or is stopped is killed, with all processes that it has
            started. Its function lies at the top of a module that another process can import, and takes no
            `RunContext`. Not on Windows.
        max_result: characters of the result that the model gets (default 100,000); the rest is cut with a note.

    ``rules`` say how calls are run:

    - ``retries``: how often a call that raised is tried again (default 0), after pauses that double from half a second;
      ``Retry(…)`` sets the pauses too. ``retry_on`` is what is tried again, a class of exceptions or a tuple of them
      (default any). `ModelRetry` and `ToolFailed` never are. The timeout is that of all tries together.
    - ``limit``: calls of this tool at once, in all runs of a System (default any number). A call that waits for a
      subagent of its own does not count.
    - ``lock``: a key, or a function from the arguments to one (None: no lock). Calls with the same key, in all runs of
      a System, of whichever tool, run one after the other, first come, first served.
    - ``needs_approval``: True, or a function from the arguments (a dictionary) to True, False or a question, sync or
      async: whether somebody has to approve the call first, see `Run.approve` (default False).
    - ``on_error``: what a failure or a timeout does. ``report``: the model is told; ``cancel``: the other calls of the
      same reply are given up too, and it is told; ``fail``: so are they, and the run fails with `ToolError`. By default
      the agent's ``on_tool_error=``.
    - ``tags``, ``risk`` (``low``, ``medium``, ``high``): for policies, as ``context.tool.rules``.

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
            **rules,
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
            if each.address is not None:
                check_address(each.address, each.name, each, each.function)
            self._tools[each.name] = each
        self.specs: tuple[ToolSpec, ...] = tuple(each.spec for each in tools)

    def beside(self, tools: Sequence[Tool[..., Any]]) -> Toolbox:
        """One with these tools, too."""
        return Toolbox([*self._tools.values(), *tools])

    @property
    def names(self) -> Collection[str]:
        """What its tools are called."""
        return self._tools.keys()

    def __getitem__(self, name: str) -> Tool[..., Any]:
        return self._tools[name]

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, name: str) -> Tool[..., Any] | None:
        """The tool with this name, or None."""
        return self._tools.get(name)

    def handoffs(self) -> list[Agent[Any, Any]]:
        """The agents that a conversation may be handed over to."""
        return [each.handoff for each in self._tools.values() if each.handoff is not None]

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
