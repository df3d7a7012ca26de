"""An agent: immutable configuration, shared by any number of runs.

Nothing of a run is kept here, so one agent may serve thousands at once. It is fixed from its first run on; `with_`
makes a changed copy.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, cast, overload

from typing_extensions import Unpack

from ..providers import Message, ModelSettings, Price, Prices, Provider, Retry
from ..providers.prices import read_prices
from .arguments import (
    check_concurrency,
    check_deps_type,
    check_instructions,
    check_on_limit,
    check_prompts,
    check_system,
    check_turns,
    check_words,
    expect,
    read_model,
    read_settings,
)
from .blocking import Backend, run_blocking
from .context import DepsT, RunContext
from .context_window import SUMMARY_PROMPT, ContextWindow, read_window
from .errors import AgentFrozen, ToolFailed
from .execution import OnLimit, run_here
from .fingerprint import Fingerprint, fingerprint_of
from .history import Prompt
from .hooks import Audience, HooksLike
from .launch import Launch
from .limits import Limits, Supervision
from .machine import Rules
from .many import Completed, Many, map_over
from .memory import Memory, check_memory
from .memory_tools import memory_tools
from .options import names_ours, names_ours_in, refuse_unknown
from .orphans import Orphan
from .output import WRAPPED, OutputType
from .output_tool import Asking, OutputMode, asking_for, check_output_mode
from .pending import Pending
from .policy import Policy, check_policy
from .reminders import STUCK_AFTER
from .result import OutputT, RunResult
from .run_options import RunKeywords
from .run_stream import OnExit, RunStream
from .stop_poll import STOP_POLL, StopWhen, check_stop_when
from .system import System
from .tool import DEFAULT_MAX_RESULT, Replay, Tool, Toolbox, Where
from .tool_rules import OnError, RuleOptions, check_on_error, check_timeout
from .toolset import Toolset
from .validators import Checker, Validator, read_validators

if TYPE_CHECKING:
    from .run import Run
    from .tool_cell import ToolCell

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

Instructions: TypeAlias = "str | Callable[[RunContext[Any]], str | Awaitable[str]] | None"
AnyTool: TypeAlias = "Tool[..., Any] | Callable[..., Any] | Agent[Any, Any] | Toolset"


class AgentKeywords(TypedDict, total=False):
    """The options of an agent that do not concern its type; `Agent` says what they mean."""

    description: str | None
    instructions: Instructions
    tools: Iterable[AnyTool]
    settings: ModelSettings | Mapping[str, Any] | None
    memory: Memory | None
    limits: Limits | None
    context: ContextWindow | int | None
    retry: Retry | None
    output_retries: int
    output_mode: OutputMode
    validators: Validator | Iterable[Validator]
    tool_retries: int
    hooks: HooksLike
    supervision: Supervision | None
    parallel_tools: bool | int
    policy: Policy | None
    on_tool_error: OnError
    approval_timeout: float | None
    replan_every: int | None
    replan_prompt: str | None
    stuck_after: int | None
    stop_when: StopWhen | None
    stop_poll: float
    prices: Prices | Mapping[str, Price | Mapping[str, float]] | None


#: Stands for "no deps": the value is right, only its type cannot be written.
_NO_DEPS: Any = None


class Agent(Generic[DepsT, OutputT]):
    """What answers, with what, and within which bounds.

    Args:
        name: for logs, events and the tree; as a tool, the agent is called by it.
        model: a `Provider`, or a string such as ``"openai:gpt-5-mini"``.
        description: what the agent is for; a model that has it as a tool is told so.
        instructions: the system prompt, or a function of `RunContext` that gives it, asked before each model call.
        tools: functions, `@tool` objects, agents, and toolsets, such as an MCP server or a workspace.
        output: the type of the answer (default ``str``): whatever msgspec or, where it is installed, pydantic can read.
        deps_type: the type of the ``deps=`` of its runs, for type checkers.
        settings: `ModelSettings`, or a dictionary of them.
        memory: what its runs remember for later ones, see `Memory`: the tools `remember`, `recall` and `forget` are
            added, and to the instructions the notes that fit a run's prompt (default: no memory).
        limits: bounds of each run (default ``Limits(turns=50)``).
        context: how much of a conversation is sent, see `ContextWindow`; a number is tokens (default: all of it).
        retry: how often a failed model call is tried (default ``Retry(attempts=3)``).
        tool_retries: how many turns in a row the model may go on calling tools in ways that cannot run (default 3):
            unknown ones, arguments that do not fit, a tool's `ModelRetry`. Then the run fails with `ToolCallInvalid`.
        output_retries: how often an answer goes back to the model that does not fit `output`, or that a validator has
            refused (default 1).
        output_mode: how a typed answer is asked for. ``native``: the provider holds the model to the schema, or is told
            it in words where it cannot; ``tool``: the model calls a tool with it; ``auto`` (default): as a tool where
            the provider cannot hold the model to it.
        validators: a function, sync or async, of the output, or of the output and the `RunContext`; or a list of them.
            Each returns None to accept an answer, or the output to use instead, or raises `ModelRetry` to send it back.
        hooks: functions to call at the events of its runs, see `Hooks`.
        supervision: how often a crashed run goes on from its journal (default 2 restarts within 60 s).
        parallel_tools: True runs the tool calls of one reply side by side (default), False one by one, a number at most
            so many at once. Calls that wait for an approval do not count.
        policy: what is asked before each tool call, see `greenroom.policy` (default: all are allowed).
        on_tool_error: what a tool that fails or times out does: ``report`` it to the model (default), ``cancel`` the
            other calls of the same reply too, or ``fail`` the run with `ToolError`.
        approval_timeout: seconds that a call waits for its approval before it counts as denied (default: for ever).
        replan_every: after so many turns, and again after as many, the model is told to look at its plan before it goes
            on (default: never).
        replan_prompt: the words for that (default: ours).
        stuck_after: turns in a row with the same calls and the same results after which the model is told that it goes
            round in circles; after as many again the run fails with `Stuck` (default 10; None never looks).
        stop_when: a coroutine function of `RunContext`, polled while a run works; when it says True, the run is
            stopped with ``reason="stop_when"``.
        stop_poll: seconds between two polls (default 3).
        prices: what its model calls cost, for `result.cost`: `Prices`, or a dictionary of them (default: what providers
            say themselves, and list prices where ``greenroom[prices]`` is installed).

    Raises:
        TypeError, ValueError: an argument that cannot work; the message names it and the remedy.
        UnknownOption: a keyword that is not ours; the message names ours.
    """

    __slots__ = (
        "__weakref__",
        "_asking",
        "_config",
        "_fingerprint",
        "_frozen",
        "_output",
        "_rules",
        "_summariser",
        "audience",
        "context",
        "prices",
        "provider",
        "toolbox",
        "toolsets",
        "validators",
    )

    @overload
    def __init__(
        self,
        name: str,
        model: Provider | str,
        *,
        output: type[OutputT] = str,
        deps_type: type[DepsT] = NoneType,
        **options: Unpack[AgentKeywords],
    ) -> None: ...

    # For what is no class to a type checker: a union, a `Literal`.
    @overload
    def __init__(
        self: Agent[D, Any],
        name: str,
        model: Provider | str,
        *,
        output: Any,
        deps_type: type[D] = NoneType,
        **options: Unpack[AgentKeywords],
    ) -> None: ...

    @names_ours
    def __init__(
        self,
        name: str,
        model: Provider | str,
        *,
        description: str | None = None,
        instructions: Instructions = None,
        tools: Iterable[AnyTool] = (),
        output: Any = str,
        deps_type: type[DepsT] = NoneType,
        settings: ModelSettings | Mapping[str, Any] | None = None,
        memory: Memory | None = None,
        limits: Limits | None = None,
        context: ContextWindow | int | None = None,
        retry: Retry | None = None,
        output_retries: int = 1,
        output_mode: OutputMode = "auto",
        validators: Validator | Iterable[Validator] = (),
        tool_retries: int = 3,
        hooks: HooksLike = None,
        supervision: Supervision | None = None,
        parallel_tools: bool | int = True,
        policy: Policy | None = None,
        on_tool_error: OnError = "report",
        approval_timeout: float | None = None,
        replan_every: int | None = None,
        replan_prompt: str | None = None,
        stuck_after: int | None = STUCK_AFTER,
        stop_when: StopWhen | None = None,
        stop_poll: float = STOP_POLL,
        prices: Prices | Mapping[str, Price | Mapping[str, float]] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"an agent needs a name, not {name!r}")
        if any(unicodedata.category(each) in ("Cc", "Cs") for each in name):
            raise ValueError(f"an agent's name must have no control characters, not {name!r}")
        if description is not None and not isinstance(description, str):
            raise TypeError(f"description= takes text, not {description!r}")
        check_deps_type(deps_type)
        expect("limits", limits, Limits, "Limits(turns=…)")
        expect("retry", retry, Retry, "Retry(attempts=…)")
        expect("supervision", supervision, Supervision, "Supervision(intensity=…)")
        if not isinstance(parallel_tools, int):
            raise TypeError(f"parallel_tools must be True, False or a number above 0, not {parallel_tools!r}")
        if parallel_tools is not False and parallel_tools < 1:
            raise ValueError(f"parallel_tools must be True, False or a number above 0, not {parallel_tools!r}")
        for option, number in (("output_retries", output_retries), ("tool_retries", tool_retries)):
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"{option} must be a whole number, 0 or more, not {number!r}")
            if number < 0:
                raise ValueError(f"{option} must be 0 or more, not {number!r}")
        check_policy(policy)
        check_instructions(instructions)
        check_stop_when(stop_when, stop_poll)
        check_turns("replan_every", replan_every, 1)
        check_turns("stuck_after", stuck_after, 2)
        check_words("replan_prompt", replan_prompt)
        if replan_prompt is not None and replan_every is None:
            raise ValueError("replan_prompt= is for replan_every=: give both, or neither")
        if memory is not None:
            check_memory(memory)
        check_output_mode(output_mode, output)
        tools = _listed(tools)
        self.validators: tuple[Checker, ...] = read_validators(validators)
        self._config: dict[str, Any] = {
            "name": name,
            "model": model,
            "description": description,
            "instructions": instructions,
            "tools": tools,
            "output": output,
            "deps_type": deps_type,
            "settings": read_settings(settings),
            "memory": memory,
            "limits": limits if limits is not None else Limits(),
            "context": context,
            "retry": retry if retry is not None else Retry(),
            "output_retries": output_retries,
            "output_mode": output_mode,
            "validators": validators,
            "tool_retries": tool_retries,
            "hooks": hooks,
            "supervision": supervision if supervision is not None else Supervision(),
            "parallel_tools": parallel_tools,
            "policy": policy,
            "on_tool_error": check_on_error(on_tool_error),
            "approval_timeout": check_timeout("approval_timeout", approval_timeout),
            "replan_every": replan_every,
            "replan_prompt": replan_prompt,
            "stuck_after": stuck_after,
            "stop_when": stop_when,
            "stop_poll": stop_poll,
            "prices": prices,
        }
        self._frozen = False
        self._output = OutputType(output)
        self._asking: Asking | None = None
        self._rules: tuple[Limits, Rules] | None = None
        self.context = read_window(context)
        self._summariser: Agent[Any, str] | None = None
        self.audience = Audience(hooks)
        self.provider = read_model(model)
        self.prices = read_prices(prices)
        self.prices.prepare(self.provider)
        self.toolbox = _toolbox(tools, memory)
        #: Those of its tools that need something open.
        self.toolsets = _toolsets(tools)
        self._fingerprint: Fingerprint | None = None

    # -- what it is

    @property
    def name(self) -> str:
        """The agent's name."""
        return self._config["name"]

    @property
    def description(self) -> str | None:
        """What the agent is for."""
        return self._config["description"]

    @property
    def limits(self) -> Limits:
        """The bounds of each run."""
        return self._config["limits"]

    @property
    def retry(self) -> Retry:
        """How often a failed model call is tried."""
        return self._config["retry"]

    @property
    def supervision(self) -> Supervision:
        """How often a crashed run goes on."""
        return self._config["supervision"]

    @property
    def stop_when(self) -> StopWhen | None:
        """What is polled to know whether a run shall stop."""
        return self._config["stop_when"]

    @property
    def stop_poll(self) -> float:
        """Seconds between two polls."""
        return self._config["stop_poll"]

    @property
    def instructions(self) -> Instructions:
        """The system prompt, or the function that makes one for each model call."""
        return self._config["instructions"]

    @property
    def settings(self) -> ModelSettings | None:
        """The settings of each model call."""
        return self._config["settings"]

    @property
    def memory(self) -> Memory | None:
        """What its runs remember for later ones."""
        return self._config["memory"]

    @property
    def tools(self) -> tuple[AnyTool, ...]:
        """The tools, as they were given."""
        return self._config["tools"]

    @property
    def hooks(self) -> HooksLike:
        """The functions to call at the events of its runs, as they were given."""
        return self._config["hooks"]

    @property
    def tools_at_once(self) -> int | None:
        """How many tool calls of one reply may run at once; None for all."""
        width = self._config["parallel_tools"]
        return None if width is True else 1 if width is False else int(width)

    @property
    def policy(self) -> Policy | None:
        """What is asked before each tool call."""
        return self._config["policy"]

    @property
    def on_tool_error(self) -> OnError:
        """What a tool that fails does."""
        return self._config["on_tool_error"]

    @property
    def approval_timeout(self) -> float | None:
        """Seconds that a call waits for its approval; None for ever."""
        return self._config["approval_timeout"]

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must follow; None for text."""
        return self._output.schema

    def with_(self, **changes: Any) -> Agent[Any, Any]:
        """A copy with other options, under the names that `Agent` has for them."""
        return Agent(**{**self._config, **changes})

    def freeze(self) -> None:
        """Fix the agent: a run is about to use it."""
        self._frozen = True

    # -- for the run

    @property
    def fingerprint(self) -> Fingerprint:
        """What the agent is like, for the journals of its runs."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self, self._config["instructions"])
        return self._fingerprint

    @property
    def summariser(self) -> Agent[Any, str]:
        """Who summarises what the context window leaves out: the same model, without tools, for one turn."""
        if self._summariser is None:
            prompt = self.context.summary_prompt if self.context is not None else None
            self._summariser = Agent(
                f"{self.name} (summary)",
                self.provider,
                instructions=prompt or SUMMARY_PROMPT,
                limits=Limits(turns=1),
                retry=self.retry,
                supervision=Supervision(intensity=0),
                prices=self._config["prices"],
            )
            self._summariser.freeze()
        return self._summariser

    def rules(self, limits: Limits) -> Rules:
        """What a run's machine must know; the same for all runs under the same limits."""
        known = self._rules  # looked at once: runs of other limits may begin in other threads meanwhile
        if known is None or known[0] is not limits:
            known = self._rules = limits, self._rules_under(limits)
        return known[1]

    def _rules_under(self, limits: Limits) -> Rules:
        retries = self._config["output_retries"], self._config["tool_retries"]
        restore = self._output.restore if self.validators else None
        asking = self.asking
        return Rules(
            *(self.toolbox.refuse, asking.read, limits.turns, *retries, asking.called, restore),
            replan_every=self._config["replan_every"],
            replan_prompt=self._config["replan_prompt"],
            stuck_after=self._config["stuck_after"],
        )

    @property
    def asking(self) -> Asking:
        """How its runs ask for the answer."""
        if self._asking is None:
            mode, specs = self._config["output_mode"], self.toolbox.specs
            self._asking = asking_for(self._output, mode, self.provider, specs, more=bool(self.toolsets))
        return self._asking

    @property
    def output_name(self) -> str:
        """What its output is called in an error."""
        return self._output.name

    @property
    def output_key(self) -> str | None:
        """The key that holds the output, in an answer that is an object although the output is none."""
        return WRAPPED if self._output.wrapped else None

    def write_output(self, output: Any) -> str | None:
        """What a journal can hold of an output, or None."""
        return self._output.write(output)

    async def instructions_for(self, context: RunContext[Any]) -> str | None:
        """The system prompt for the next model call."""
        instructions = self._config["instructions"]
        if not callable(instructions):
            return instructions
        text: Any = instructions(context)
        if inspect.isawaitable(text):
            text = await text
        if not isinstance(text, str):
            raise TypeError(
                f"the instructions function of agent {self.name!r} returned {type(text).__name__}, not text"
            )
        return text

    # -- tools

    @overload
    def tool(self, function: Callable[P, R], /) -> Tool[P, R]: ...

    @overload
    def tool(
        self,
        /,
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
        self,
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
        """Add a function as a tool: ``@agent.tool`` or ``@agent.tool(timeout=10)``. The options are those of `tool`.

        A tool that is made already is added as it is. So two agents can hand over to each other:
        ``triage = Agent(…, tools=[billing.as_handoff()]); billing.tool(triage.as_handoff())``.

        Raises:
            AgentFrozen: the agent has run already.
            TypeError: options beside a tool that is made already.
        """
        if self._frozen:
            raise AgentFrozen(
                f"agent {self.name!r} has run already and may be in use: add tools before its first run, "
                "or use agent.with_(tools=[…])"
            )

        def add(function: Callable[..., Any]) -> Tool[..., Any]:
            options: dict[str, Any] = {
                "name": name,
                "description": description,
                "timeout": timeout,
                "replay": replay,
                "where": where,
                "max_result": max_result,
            }
            if isinstance(function, Tool):
                made = cast("Tool[..., Any]", function)
                if rules or list(options.values()) != [None, None, None, "never", None, DEFAULT_MAX_RESULT]:
                    raise TypeError(f"tool {made.name!r} is made already: give its options where it is made")
            else:
                made = Tool(function, **options, **rules)
            tools = (*self._config["tools"], made)
            self.toolbox = _toolbox(tools, self.memory)
            self._asking = self._rules = None  # beside tools, another way of asking may be the better one
            self._config["tools"] = tools
            return made

        return add if function is None else add(function)

    @names_ours
    def as_tool(self, *, name: str | None = None, description: str | None = None) -> Tool[[str], Any]:
        """The agent as a tool for another one: it takes a prompt, runs as a subagent, and gives its output.

        Args:
            name: what the model calls it (default: the agent's name, in characters that providers accept).
            description: what the model is told (default: the agent's description).
        """

        async def ask(prompt: str) -> Any:
            result = await self.run(prompt)
            if result.status != "completed":
                raise ToolFailed(f"{self.name} was {result.status} ({result.reason})")
            return result.output

        label = name or _label(self.name)
        description = description or self.description or f"Ask the agent {self.name}."
        # A subagent has a journal of its own, so asking it again means going on with it.
        made: Tool[[str], Any] = Tool(ask, name=label, description=description, replay="safe")
        made.asks = self
        return made

    @names_ours
    def as_handoff(self, *, name: str | None = None, description: str | None = None) -> Tool[..., Any]:
        """The agent as somebody whom another one may hand the conversation over to: ``tools=[billing.as_handoff()]``.

        When the model calls it, the run goes on with this agent: its instructions, model, tools and output, in the same
        conversation, with the same deps and limits. `RunResult.agent` is the name of the last one.

        Args:
            name: what the model calls it (default: ``transfer_to_`` and the agent's name).
            description: what the model is told (default: made of the agent's description).
        """

        async def hand_over() -> str:
            return f"{self.name} goes on with the conversation."

        about = f": {self.description}" if self.description else ""
        made: Tool[..., Any] = Tool(
            hand_over,
            name=name or f"transfer_to_{_label(self.name)}"[:64],
            description=description or f"Hand the conversation over to {self.name}{about}",
            replay="safe",
        )
        made.handoff = self
        return made

    # -- running

    @names_ours_in(RunKeywords)
    def run(
        self,
        prompt: Prompt | None = None,
        *,
        deps: DepsT = _NO_DEPS,
        system: System | None = None,
        on_limit: OnLimit = "raise",
        **options: Unpack[RunKeywords],
    ) -> Coroutine[Any, Any, RunResult[OutputT]]:
        """Run to the end: ``result = await agent.run("…")``. The run is a child task of the caller.

        Cancelling the caller ends the run, and its tools and subagents with it. Runs that follow each other outside any
        System each open a connection of their own; inside one they share what is open.

        Args:
            prompt: text, parts, or messages; may be left out where `history` ends with what to answer.
            deps: given to tools as ``context.deps``.
            system: where to run (default: the run whose tool this is in, else the System open in this event loop).
            on_limit: ``raise`` `LimitExceeded` (default), or ``return`` the result with ``status="limited"``.
            history: an earlier result, or messages, to go on from.
            limits: bounds instead of the agent's.
            on_event: a function, sync or async, called with each event of the run and its subagents, in order.
            stop: a `StopToken`, to stop this run together with others.
            stop_when, stop_poll: what is polled for a stop, instead of the agent's.
            user_id, tags, metadata: passed to tools, events and results.
            conversation_id: likewise; in a System with a journal in a file, the run also goes on from the last one of
                that conversation, unless it is given a `history` or a `run_id`.
            when_busy: what it does where another run of its conversation has not ended: ``wait`` for it (default), or
                ``refuse`` to begin, with `ConversationBusy`.
            run_id: a name of your own, unique among live runs.
            policy: asked beside the agent's own, for this run and its subagents; the strictest answer holds.
            approve: a function, sync or async, from a call that waits for an approval (a `PendingCall`) to True, False,
                or a text that says why not; for this run and its subagents. Without one, and without a `Run`, a run
                with such a call ends with ``status="waiting"``.
            approvals: answers by call id, to go on with what waits at the end of `history`. There is no prompt then.
                A call without an answer is asked about again.

        Raises:
            StaleApproval: an answer for a call that does not wait there.
            AgentError: the run was limited or failed; `error.result` is what it had reached.
            ProviderError: a model call failed for good; it has `result` too.
        """
        check_on_limit(on_limit)
        return Pending(run_here(self._launch(prompt, deps, system, options).numbered(), on_limit), "agent.run")

    async def start_below(
        self, caller: ToolCell, prompt: Prompt, deps: Any, orphan: Orphan, options: RunKeywords
    ) -> Run[OutputT]:
        """Start a run in the background of the run whose tool call this is: `RunContext.spawn`."""
        refuse_unknown("spawn", options, {*RunKeywords.__annotations__, "deps", "orphan"})
        return await self._launch(prompt, deps, None, options).background(caller, orphan)

    @names_ours_in(RunKeywords)
    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        deps: DepsT = _NO_DEPS,
        system: System | None = None,
        on_exit: OnExit = "stop",
        **options: Unpack[RunKeywords],
    ) -> RunStream[OutputT]:
        """Run and follow: ``async with agent.stream("…") as run: async for event in run: …``.

        Args:
            on_exit: what leaving the block early does to the run: ``stop`` it (default), ``wait`` for its end (an error
                or a cancellation stops it all the same), or ``detach`` it, which needs a System.

        The other arguments are those of `run`.
        """
        return RunStream(self._launch(prompt, deps, system, options).numbered(), on_exit)

    def run_sync(
        self, prompt: Prompt | None = None, *, backend: Backend = "asyncio", **options: Any
    ) -> RunResult[OutputT]:
        """Run to the end and block: for scripts and notebooks.

        In a thread whose event loop is running (a notebook), the run gets an event loop in a thread of its own, and the
        caller's loop stands still meanwhile. The options are those of `run`, without `system`.

        Raises:
            ValueError: with a System, which lives in another event loop.
        """
        system = options.pop("system", None)
        if system is not None:
            check_system(system)
            raise ValueError(
                f"run_sync takes no system=: it makes an event loop of its own, and System {system.name!r} lives in "
                "another event loop; write `await agent.run(…, system=…)` there"
            )
        return run_blocking(lambda: self.run(prompt, **options), backend)

    @overload
    def map(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect"] = "collect",
        **options: Any,
    ) -> Coroutine[Any, Any, list[RunResult[OutputT] | Exception]]: ...

    @overload
    def map(
        self, prompts: Iterable[Prompt], *, concurrency: int = 8, on_error: Literal["raise"], **options: Any
    ) -> Coroutine[Any, Any, list[RunResult[OutputT]]]: ...

    def map(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect", "raise"] = "collect",
        **options: Any,
    ) -> Coroutine[Any, Any, Any]:
        """One run per prompt, `concurrency` at a time; results in the order of the prompts.

        Args:
            prompts: any iterable but text; it is read as runs begin.
            concurrency: runs at the same time (default 8).
            on_error: ``collect`` puts the error in the place of its result (default); ``raise`` raises the first one
                and cancels the runs that are left.

        The other options are those of `run`, without `run_id`; they are checked at once.

        Raises:
            TypeError, ValueError: prompts that are no list of prompts, or an option that cannot work.
        """
        return Pending(map_over(self._many("map", prompts, concurrency, on_error, options)), "agent.map")

    @overload
    def as_completed(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect"] = "collect",
        **options: Any,
    ) -> Completed[RunResult[OutputT] | Exception]: ...

    @overload
    def as_completed(
        self, prompts: Iterable[Prompt], *, concurrency: int = 8, on_error: Literal["raise"], **options: Any
    ) -> Completed[RunResult[OutputT]]: ...

    def as_completed(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        on_error: Literal["collect", "raise"] = "collect",
        **options: Any,
    ) -> Completed[Any]:
        """One run per prompt, `concurrency` at a time; each result as soon as it is there:
        ``async with agent.as_completed(prompts) as results: async for index, result in results: …``.

        The index is the prompt's. Runs go on while the block is busy with a result; leaving the block cancels those
        that are left. What the iterable of the prompts raises is raised after the results of the runs that had begun.

        Args:
            prompts: any iterable but text; it is read as runs begin.
            concurrency: runs at the same time (default 8).
            on_error: ``collect`` puts the error in the place of its result (default); ``raise`` raises it in the block
                when its turn comes.

        The other options are those of `run`, without `run_id`; they are checked at once.

        Raises:
            TypeError, ValueError: prompts that are no list of prompts, or an option that cannot work.
        """
        return Completed(self._many("as_completed", prompts, concurrency, on_error, options))

    def _many(
        self, what: str, prompts: Iterable[Prompt], concurrency: int, on_error: str, options: dict[str, Any]
    ) -> Many:
        check_prompts(what, prompts)
        check_concurrency(concurrency)
        if on_error not in ("collect", "raise"):
            raise ValueError(f"on_error={on_error!r} is not one of 'collect', 'raise'")
        if options.pop("run_id", None) is not None:
            raise TypeError(f"{what} takes no run_id=: each of its runs needs an id of its own")
        refuse_unknown(f"Agent.{what}", options, _MAP_OPTIONS)
        history = options.get("history")
        if isinstance(history, Iterable) and not isinstance(history, Mapping | Message | str | bytes):
            options["history"] = list(cast("Iterable[Any]", history))  # every run reads it
        elif history is None and options.get("conversation_id") is not None:
            options["history"] = ()  # they are begun side by side: none goes on from another
        check_on_limit(options.get("on_limit", "raise"))
        shared = {name: value for name, value in options.items() if name not in _OF_RUN}
        deps, system, on_limit = options.get("deps"), options.get("system"), options.get("on_limit", "raise")
        launch = self._launch("", deps, system, cast("RunKeywords", shared))
        shared["tags"] = launch.options.tags

        def prepare(prompt: Prompt) -> Callable[[], Awaitable[RunResult[OutputT]]]:
            number = launch.next_number()

            def run() -> Awaitable[RunResult[OutputT]]:
                own = self._launch(prompt, deps, system, cast("RunKeywords", shared))
                own.number = number
                return run_here(own, on_limit)

            return run

        def check() -> None:
            if launch.system is not None:
                launch.system.refuse_elsewhere()

        return Many(prepare, prompts, concurrency, on_error == "raise", check)

    def _launch(self, prompt: Prompt | None, deps: Any, system: System | None, options: RunKeywords) -> Launch:
        if system is not None:
            check_system(system)
        return Launch(self, prompt, deps=deps, system=system, **options)

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {self.provider!r}, tools={[spec.name for spec in self.toolbox.specs]})"


def _label(name: str) -> str:
    """A name in characters that providers accept."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64] or "agent"


def _listed(tools: object) -> tuple[AnyTool, ...]:
    if tools is None:
        raise TypeError("tools= takes a list, not None: leave it out, or give []")
    if isinstance(tools, Tool | Agent | Toolset) or callable(tools):
        shown = cast("Any", tools)
        raise TypeError(f"tools= takes a list: write tools=[{getattr(shown, '__name__', None) or shown.name}]")
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise TypeError(f"tools= takes a list of functions, @tool objects, agents and toolsets, not {tools!r}")
    return tuple(cast("Iterable[AnyTool]", tools))


def _toolbox(tools: Iterable[AnyTool], memory: Memory | None) -> Toolbox:
    own = memory_tools(memory) if memory is not None else ()
    return Toolbox([*[_as_tool(each) for each in tools if not isinstance(each, Toolset)], *own])


def _toolsets(tools: Iterable[AnyTool]) -> tuple[Toolset, ...]:
    found: dict[str, Toolset] = {}
    for each in tools:
        if isinstance(each, Toolset):
            name: object = getattr(each, "name", None)
            if not isinstance(name, str) or not name:
                raise TypeError(f"a toolset needs a name, not {name!r}")
            if each.name in found:
                raise ValueError(f"two toolsets are called {each.name!r}: give one of them another name=")
            found[each.name] = each
    return tuple(found.values())


def _as_tool(each: AnyTool) -> Tool[..., Any]:
    if isinstance(each, Tool):
        return cast("Tool[..., Any]", each)
    if isinstance(each, Agent):
        return cast("Agent[Any, Any]", each).as_tool()
    if isinstance(each, type):
        raise TypeError(f"tools= takes functions, @tool objects, agents and toolsets; {each.__name__} is a class")
    if callable(each):
        return Tool(each)
    raise TypeError(f"tools= takes functions, @tool objects, agents and toolsets, not {each!r}")


#: Options of `Agent.run` alone, beside those of any run.
_OF_RUN = {"deps", "system", "on_limit"}
_MAP_OPTIONS = {*RunKeywords.__annotations__, *_OF_RUN, "concurrency", "on_error"} - {"run_id"}
