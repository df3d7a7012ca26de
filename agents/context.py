"""What a tool, a hook or an instructions function may know of the run it works for."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, get_args

from typing_extensions import TypeVar, Unpack

from ..providers import Usage
from .hooks import Audience
from .limits import Limits
from .orphans import Orphan
from .questions import read_question
from .remaining import deadline, remaining

if TYPE_CHECKING:
    from .agent import Agent
    from .history import Prompt
    from .result import OutputT
    from .run import Run
    from .run_cell import RunCell
    from .run_options import RunKeywords
    from .tool import Tool
    from .tool_cell import ToolCell

DepsT = TypeVar("DepsT", default=None)


class RunContext(Generic[DepsT]):
    """The run, as seen from inside. A tool that has a parameter annotated ``RunContext[Deps]`` is given one.

    Attributes:
        deps: what the run was started with.
        agent: the agent's name.
        call_id: the tool call, or None outside one.
        attempt: 1 for the first try of this call, 2 for the next one, see ``@tool(retries=…)``.
        tags, metadata: what the run was started with.
    """

    __slots__ = ("_call", "_run", "_turn", "agent", "attempt", "call_id", "deps", "metadata", "tags")

    def __init__(self, run: RunCell, call: ToolCell | None = None) -> None:
        self._run = run
        self._call = call
        self._turn = run.voice.turn
        self.deps: DepsT = run.options.deps
        self.agent = run.agent.name
        self.call_id = call.call_id if call is not None else None
        self.attempt = call.attempt if call is not None else 1
        self.tags: tuple[str, ...] = run.options.tags
        self.metadata: Mapping[str, Any] = run.options.metadata

    @property
    def tool(self) -> Tool[..., Any] | None:
        """The tool that is called, or None outside a call."""
        return self._call.tool if self._call is not None else None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.name

    @property
    def user_id(self) -> str | None:
        """For whom the run works."""
        return self._run.options.user_id

    @property
    def conversation_id(self) -> str | None:
        """The conversation that the run belongs to."""
        return self._run.options.conversation_id

    @property
    def idempotency_key(self) -> str:
        """The same for every try of this call, also after a restart; different for every other call."""
        # Providers repeat ids from turn to turn.
        return f"{self._run.name}:{self._turn}:{self.call_id}" if self.call_id is not None else self._run.name

    @property
    def usage(self) -> Usage:
        """Tokens used so far, subagents included."""
        return self._run.spending.usage

    @property
    def remaining(self) -> Limits:
        """What is left of the limits of this run and of those above it, the least of each; None where there is none.

        ``context.remaining.total_tokens``, ``.cost`` (US dollars), ``.wall_time`` (seconds) and so on. What calls under
        way have set aside is not left.
        """
        return remaining(self._run)

    @property
    def deadline(self) -> float | None:
        """When this call times out, or the time of a run is over, its own or one above, on the event loop's clock.

        None without a timeout and without ``Limits(wall_time=)``.
        """
        return deadline(self._run, self._call)

    async def sleep(self, seconds: float) -> None:
        """Sleep. When the call runs once more after a crash, it sleeps only as long as was left.

        Raises:
            RuntimeError: outside a tool call.
        """
        if self._call is None:
            raise RuntimeError("sleep() is for tool calls; there is none here")
        await self._call.sleep(seconds)

    def ask_user(self, question: str, *, timeout: float | None = None) -> Coroutine[Any, Any, str]:
        """Ask the user something, and wait for the answer: ``text = await context.ask_user("Which account?")``.

        Whoever follows the run hears `message.asked`, and answers with `Run.answer`. The other calls of the reply go on
        meanwhile; a tool's own `timeout=` counts. A call that runs once more, as another try or after a crash, gets the
        answers that it had, and of a question that was open waits only as long as was left.

        Args:
            question: the text.
            timeout: seconds to wait (default: for ever).

        Raises:
            TimeoutError: nobody has answered in time.
            ToolFailed: nobody is there to answer: the run has no handle, and none above it has.
            RuntimeError: outside a tool call, or in a tool that is a plain function.
        """
        call, home = self._call, self._run.stage.home
        if call is None:
            raise RuntimeError("ask_user() is for tool calls; there is none here")
        if not home.here:
            raise RuntimeError(f"ask_user() waits in the event loop: make the tool {call.tool.name!r} an async def")
        return call.ask(*read_question(question, timeout))

    async def spawn(
        self,
        agent: Agent[Any, OutputT],
        prompt: Prompt,
        *,
        deps: Any = None,
        orphan: Orphan = "stop",
        **options: Unpack[RunKeywords],
    ) -> Run[OutputT]:
        """Start a subagent in the background, and go on: ``run = await context.spawn(researcher, "…")``.

        It works for this run, not for this call: its events are heard here, what it uses counts here, and it is stopped
        with this run. The handle is that of any run; `wait_any` and `wait_all` take several.

        Args:
            agent, prompt: who works, and on what.
            deps: given to its tools (default: those of this run).
            orphan: what becomes of it when this run ends while it works. ``stop`` ends it too (default); ``adopt``
                hands it to the run above this one, or to the System where there is none; ``detach`` to the System.
            options: as for `Agent.run`.

        Raises:
            RuntimeError: outside a tool call; or it may outlive this run, and there is no System to go on in.
            LimitExceeded: a run above allows no more subagents, or none so deep.
        """
        if self._call is None:
            raise RuntimeError("spawn() is for tool calls; there is none here")
        if not isinstance(getattr(agent, "audience", None), Audience):
            raise TypeError(f"spawn() takes an agent first: context.spawn(agent, prompt), not {agent!r}")
        if orphan not in get_args(Orphan):
            raise ValueError(f"orphan={orphan!r} is not one of {', '.join(map(repr, get_args(Orphan)))}")
        return await agent.start_below(self._call, prompt, deps, orphan, options)

    @property
    def children(self) -> tuple[Run[Any], ...]:
        """The runs in the background of this run, oldest first, also those that have ended."""
        background = self._run.background
        return tuple(background.runs.values()) if background is not None else ()

    def emit(self, progress: Any) -> None:
        """Publish progress of this tool call as a `ToolProgress` event. From any thread.

        Raises:
            RuntimeError: outside a tool call.
        """
        if self._call is None:
            raise RuntimeError("emit() reports the progress of a tool call; there is none here")
        self._run.stage.home.run(self._run.tool_progressed, self._call, progress)

    def __repr__(self) -> str:
        return f"<RunContext of {self.agent!r} run {self.run_id!r}>"
