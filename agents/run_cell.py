"""The actor behind a run: performs what its machine asks for, and reports what came of it.

One task, one loop: ask the machine, perform its effect, hand it the fact. A model call is one interruptible step in
this task, with **one** cancel scope that a stop cancels; after it the run goes on uncancelled and writes the truth
into its history. While tools run, the run is parked on its mailbox inside their task group, and their endings arrive
as control signals. So a run can be stopped, asked and looked at, whatever it is busy with.

Every fact that must not be asked for again goes into the journal before it is acted on. When the code around the run
crashes, a new machine is made, the journal is replayed into it, and the run goes on from there; that is also how a
run would resume in another process. The budget of such restarts is the run's own.

The end is written once, by `_conclude` in the run's own task, or, when the task was cancelled from outside, by `close`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio import CancelScope, create_task_group, current_effective_deadline, get_cancelled_exc_class
from anyio.abc import TaskGroup

from .. import journal as log
from ..actors import Exit, Node
from ..actors.cell import Cell, Parent, Verdict
from ..actors.exits import sole
from ..actors.restart import Intensity
from ..journal import Claim
from ..mailbox import Budget, Envelope
from ..providers import Message, ModelReply, ModelRequest, ProviderError, ToolCall, ToolResult, Usage
from . import events
from .context import RunContext
from .errors import AgentError, LimitExceeded, OutputInvalid, RestartLimit
from .hooks import call_observer
from .limits import Limits
from .machine import (
    Begin,
    CallModel,
    CallTools,
    CancelModel,
    CancelTools,
    Effect,
    Fact,
    Finish,
    Machine,
    ModelCut,
    Rejected,
    Replied,
    State,
    StopAsked,
    StopMode,
    ToolDone,
    cancelled,
)
from .model_call import ModelCall
from .readers import EventLog
from .result import Messages, RunResult, utc
from .stage import RunStage
from .tool_cell import ToolCell

if TYPE_CHECKING:
    from .agent import Agent

#: Seconds that observers have to hear of the end of a run that was cancelled.
FAREWELL = 1.0


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one run was started with, beside its prompt."""

    deps: Any = None
    limits: Limits
    user_id: str | None = None
    conversation_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    on_event: Callable[[Any], Any] | None = None


class _ToolEnded:
    __slots__ = ("cell",)

    def __init__(self, cell: ToolCell) -> None:
        self.cell = cell


class _Progress:
    __slots__ = ("cell", "progress")

    def __init__(self, cell: ToolCell, progress: Any) -> None:
        self.cell = cell
        self.progress = progress


class RunCell(Cell):
    """Runs `agent` on `prompt`, under `parent` (the stage's pool, or the run that called it as a tool)."""

    __slots__ = (
        "_began",
        "_call",
        "_can_be_followed",
        "_claim",
        "_cut",
        "_followable",
        "_intensity",
        "_line",
        "_observed",
        "_outlived",
        "_path",
        "_sequence",
        "_step",
        "_subruns",
        "_telling",
        "_tools",
        "_tools_cut",
        "_turn",
        "_untold",
        "_wanted",
        "agent",
        "call_id",
        "error",
        "history",
        "log",
        "machine",
        "options",
        "prompt",
        "result",
        "retries",
        "run_parent",
        "usage",
    )

    kind = "run"
    stage: RunStage

    def __init__(
        self,
        agent: Agent[Any, Any],
        prompt: Sequence[Message],
        history: Sequence[Message],
        options: RunOptions,
        stage: RunStage,
        *,
        run_id: str | None = None,
        run_parent: RunCell | None = None,
        call_id: str | None = None,
        followable: bool = True,
    ) -> None:
        run_id = run_id if run_id is not None else stage.sources.run_id()
        parent: Parent = run_parent if run_parent is not None else stage.pool
        super().__init__(run_id, run_id, parent, stage, capacity=64)
        self.agent = agent
        self.prompt = tuple(prompt)
        self.history = tuple(history)
        self.options = options
        self.run_parent = run_parent
        self.call_id = call_id
        self.machine: Machine | None = None
        self.log = EventLog()
        self.usage = Usage()
        self.retries = 0
        self.result: RunResult[Any] | None = None
        #: Whether anybody may follow its events: a handle is given out, or an observer was passed in.
        self._can_be_followed = followable or options.on_event is not None
        #: What the run raises at those who wait for it.
        self.error: BaseException | None = None
        self._began = stage.sources.clock()
        self._claim: Claim | None = None
        self._intensity = Intensity(agent.supervision.intensity, agent.supervision.period)
        self._outlived: list[str] = []
        self._sequence: list[int] = run_parent._sequence if run_parent is not None else [0]
        self._subruns: dict[str, RunCell] = {}
        self._tools: dict[str, ToolCell] = {}
        self._wanted: StopAsked | None = None
        self._call: ModelCall | None = None
        self._step: CancelScope | None = None
        self._cut = False
        self._tools_cut = False
        #: The turn that events speak of; the machine's is ahead between two turns.
        self._turn = 0
        line: list[RunCell] = [self]
        while line[-1].run_parent is not None:
            line.append(line[-1].run_parent)
        self._line = tuple(line)
        self._path = tuple([run.name for run in reversed(line)])
        self._followable = any(run._can_be_followed for run in line)
        self._observed = bool(agent.audience) or any(run.options.on_event is not None for run in line)
        #: Of a root run: what the observers of its tree have not heard yet, and whether somebody is telling them.
        self._untold: deque[tuple[Callable[[Any], Any], events.Event]] = deque()
        self._telling = False

    # -- life

    def start_in(self, group: TaskGroup) -> None:
        """Take the run's place in the tree and start its task.

        Raises:
            NameTaken: a live run has that id.
            SystemClosed: the System is shutting down.
        """
        if self.run_parent is not None:
            self.run_parent._subruns[self.name] = self
        else:
            self.stage.pool.adopt(self)
        self.spawn_in(group)

    async def perform(self) -> None:
        self.announce_started()
        slots = self.stage.slots if self.run_parent is None else None
        has_slot = slots is not None and await self._take_slot(slots)
        try:
            await self._conclude(await self._run())
        except get_cancelled_exc_class():
            if current_effective_deadline() == -float("inf"):
                await self._say_farewell()
            raise
        finally:
            if slots is not None and has_slot:
                slots.release()

    async def _take_slot(self, slots: anyio.Semaphore) -> bool:
        """Wait for a turn; False for a run that was stopped meanwhile and needs none."""
        try:
            slots.acquire_nowait()
            return True
        except anyio.WouldBlock:
            pass
        with CancelScope() as self._step:
            if self._wanted is None:
                await slots.acquire()
                self._step = None
                return True
        self._step = None
        return False

    async def _say_farewell(self) -> None:
        """The task was cancelled from outside: write the end, and let observers hear of it for a bounded time."""
        with CancelScope(shield=True, deadline=anyio.current_time() + FAREWELL):
            if self.result is None:
                self._settle_result(Finish("stopped", "cancelled"))
                await self._publish(self._last_event())
            else:
                await self._tell_observers()

    async def _run(self) -> Finish:
        """Attempts, each from the journal, until one of them finishes or the restarts are used up."""
        while True:
            try:
                return await self._attempt()
            except Exception as failure:
                error = sole(failure) if isinstance(failure, BaseExceptionGroup) else failure
                intensity = self._intensity
                if not intensity.allows(anyio.current_time()):
                    limit = self._gave_up(error)
                    return Finish("failed", "error", error=limit)
                self.restarts += 1
                self._cut = self._tools_cut = False
                await self.emit(
                    events.RunRestarted,
                    agent=self.agent.name,
                    restarts=self.restarts,
                    error=f"{type(error).__name__}: {error}",
                )

    def _gave_up(self, error: BaseException) -> RestartLimit:
        intensity, name = self._intensity, self.name
        message = (
            f"run {name!r} crashed {intensity.limit + 1} times within {intensity.period:g} s and is not "
            f"restarted again; the last crash: {type(error).__name__}: {error}"
        )
        limit = RestartLimit(message, name, name, intensity.limit, intensity.period)
        limit.__cause__ = error
        return limit

    async def _attempt(self) -> Finish:
        self._tools.clear()
        journal = self.stage.journal
        claim = self._claim = await journal.claim(self.name)
        machine = self.machine = Machine(self.agent.rules(self.options.limits), self.history, self.prompt)
        records = await journal.read(self.name)
        if records:
            effects = self._replay(machine, [log.decode(record) for record in records])
        else:
            self._write(log.Began(self.name, self.agent.name, _builtin(self.history), _builtin(self.prompt)))
            await journal.durable(claim)
            await self.emit(events.RunStarted, agent=self.agent.name)
            effects = machine.handle(self._wanted or Begin())
        if self._wanted is not None and machine.state is not State.DONE:
            self._interrupt(machine.handle(self._wanted))
        while True:
            match effects:
                case [Finish() as finish]:
                    return finish
                case [CallModel()]:
                    effects = await self._call_model(machine)
                case [CallTools(calls)]:
                    effects = await self._call_tools(machine, calls)
                case _:
                    raise AssertionError(f"the machine asked for {effects!r} in {machine.state}")

    def _replay(self, machine: Machine, records: Sequence[log.Record]) -> list[Effect]:
        """Bring a new machine to the state that the journal says; returns what is to be done next."""
        effects = machine.handle(Begin())
        intended: set[str] = set()
        for record in records:
            if isinstance(record, log.Replied):
                effects = machine.handle(Replied(msgspec.convert(record.reply, ModelReply)))
            elif isinstance(record, log.Intended):
                intended.add(record.call_id)
            elif isinstance(record, log.Happened):
                result = msgspec.convert(record.result, ToolResult)
                effects = machine.handle(ToolDone(result)) or effects
        if machine.state is State.ACTING:
            effects = self._settle(machine, intended)
        return effects

    def _settle(self, machine: Machine, intended: set[str]) -> list[Effect]:
        """What to do about the calls that were open at a crash: run those that never began or may run twice."""
        again: list[ToolCall] = []
        effects: list[Effect] = []
        for call in machine.open_calls:
            if call.id in intended and self.agent.toolbox[call.name].replay == "never":
                text = "outcome unknown: the process failed while this call ran; it may or may not have taken effect"
                effects = self._done(machine, ToolResult(call.id or "", text, call.name, True, "outcome_unknown"))
            else:
                again.append(call)
        return [CallTools(tuple(again))] if again else effects

    # -- the model

    async def _call_model(self, machine: Machine) -> list[Effect]:
        self._turn = machine.turn
        await self.emit(events.TurnStarted)
        instructions = await self.agent.instructions_for(RunContext(self))
        request = ModelRequest(
            machine.messages,
            tools=self.agent.toolbox.specs,
            instructions=instructions,
            settings=self.agent.settings,
            output_schema=self.agent.output_schema,
        )
        call = self._call = ModelCall(self, request)
        fact: Fact | None = None
        with CancelScope() as step:
            self._step = step
            if self._cut:
                step.cancel()
            fact = await call.perform()
        self._step = self._call = None
        if fact is None:
            fact = ModelCut(call.partial)
        if isinstance(fact, Replied):
            self._account(fact.reply)
        effects = machine.handle(fact)
        if machine.state is not State.ACTING:
            await self.emit(events.TurnEnded)
        return effects

    def _account(self, reply: ModelReply) -> None:
        """Write the reply down before it is acted on, and count what it cost."""
        self._write(log.Replied(msgspec.to_builtins(reply)))
        if reply.usage is not None:
            self.use(reply.usage)

    def use(self, usage: Usage) -> None:
        """Count tokens, here and in every run above."""
        self.usage += usage
        if self.run_parent is not None:
            self.run_parent.use(usage)

    # -- tools

    async def _call_tools(self, machine: Machine, calls: Sequence[ToolCall]) -> list[Effect]:
        queue = deque(calls)
        width = self.agent.tools_at_once
        effects: list[Effect] = []
        async with create_task_group() as group:
            while machine.state is State.ACTING:
                while queue and not self._tools_cut and (width is None or len(self._tools) < width):
                    await self._start_tool(group, queue.popleft())
                if self._tools_cut:
                    while queue:
                        effects = self._done(machine, cancelled(queue.popleft()))
                if self._tools:
                    effects = await self._next_ending(machine) or effects
        await self.emit(events.TurnEnded)
        return effects

    async def _start_tool(self, group: TaskGroup, call: ToolCall) -> None:
        cell = ToolCell(self, self.agent.toolbox[call.name], call)
        self._tools[cell.call_id] = cell
        self._write(log.Intended(cell.call_id))
        await self.emit(events.ToolStarted, call_id=cell.call_id, tool=call.name, arguments=call.arguments)
        if self._tools_cut:
            cell.request_stop(None)
        cell.spawn_in(group)

    async def _next_ending(self, machine: Machine) -> list[Effect]:
        signal = await self.mailbox.receive()
        if isinstance(signal, Envelope):
            self._refuse(signal)
        if not isinstance(signal, _ToolEnded | _Progress):
            return []  # a stop: its effect was taken when it was asked for
        cell = signal.cell
        if self._tools.get(cell.call_id) is not cell:
            return []  # of a call that is over, or left from an attempt that crashed
        if isinstance(signal, _Progress):
            await self.emit(
                events.ToolProgress, call_id=cell.call_id, tool=cell.tool.name, progress=signal.progress
            )
            return []
        del self._tools[cell.call_id]
        result = cell.result
        assert result is not None
        effects = self._done(machine, result)
        await self._report(cell, result)
        return effects

    def _done(self, machine: Machine, result: ToolResult) -> list[Effect]:
        self._write(log.Happened(msgspec.to_builtins(result)))
        return machine.handle(ToolDone(result))

    async def _report(self, cell: ToolCell, result: ToolResult) -> None:
        if cell.outlived:
            self._outlived.append(f"{cell.tool.name}:{cell.call_id}")
            await self.emit(events.ToolOutlived, call_id=cell.call_id, tool=cell.tool.name)
        if result.is_error:
            await self.emit(
                events.ToolErrored,
                call_id=cell.call_id,
                tool=cell.tool.name,
                result=result.content,
                cause=result.cause or "failed",
                seconds=cell.seconds,
            )
        else:
            await self.emit(
                events.ToolCompleted,
                call_id=cell.call_id,
                tool=cell.tool.name,
                result=result.content,
                seconds=cell.seconds,
            )

    def _refuse(self, envelope: Envelope) -> None:
        if envelope.reply is not None:
            envelope.reply.fail(TypeError("a run takes no messages of its own; use its Run handle"))

    def child_started(self, child: Cell) -> None:
        return None

    def child_down(self, child: Cell, exit: Exit, in_place: bool) -> Verdict:
        if isinstance(child, ToolCell):
            if child.result is None:
                child.result = child.crash_result(exit.error)
            self.mailbox.signal(_ToolEnded(child))
        else:
            self._subruns.pop(child.id, None)
        return Verdict.FINAL

    def subruns(self, call_id: str) -> list[RunCell]:
        """The live runs that this tool call has started."""
        return [cell for cell in self._subruns.values() if cell.call_id == call_id]

    # -- stopping

    def request_stop(self, reason: str | None) -> None:
        self.stop_run("now", reason or "system")

    def stop_run(self, mode: StopMode, reason: str) -> None:
        """Ask for the end; takes effect at the next await, whatever the run is busy with."""
        if self.state == "ended" or self.result is not None:
            return
        stop = StopAsked(mode, reason)
        machine = self.machine
        if machine is None or machine.state is State.READY:
            self._wanted = stop  # taken before the first request
            if self._step is not None:
                self._step.cancel()
        else:
            self._wanted = stop
            self._interrupt(machine.handle(stop))
        if mode == "now":
            super().request_stop(reason)

    def _interrupt(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, CancelModel):
                self._cut = True
                if self._step is not None:
                    self._step.cancel()
            elif isinstance(effect, CancelTools):
                self._tools_cut = True
                for cell in tuple(self._tools.values()):
                    cell.request_stop(None)

    # -- the end

    async def _conclude(self, finish: Finish) -> None:
        """Write the end down, make the result, tell everybody."""
        self._settle_result(finish)
        if self._claim is not None:
            self._write(log.Ended(finish.status, finish.reason))
            await self.stage.journal.durable(self._claim)
            await self.stage.journal.release(self._claim)
        await self._publish(self._last_event())

    def _settle_result(self, finish: Finish) -> None:
        machine = self.machine
        if machine is not None:
            machine.abandon(self._result_so_far)  # only a run that was cut off from outside has open calls here
        messages = machine.messages if machine is not None else [*self.history, *self.prompt]
        own = messages[len(self.history) :]
        output = finish.output
        if finish.status != "completed":
            output = next((message.text for message in reversed(own) if message.role == "assistant"), None)
        self.result = RunResult(
            output=output,
            status=finish.status,
            reason=finish.reason,
            usage=self.usage,
            messages=Messages(messages),
            new_messages=Messages(own),
            run_id=self.name,
            agent=self.agent.name,
            started_at=utc(self._began),
            ended_at=utc(self.stage.sources.clock()),
            conversation_id=self.options.conversation_id,
            outlived=tuple(self._outlived),
        )
        self.error = self._error_of(finish, self.result)

    def _result_so_far(self, call: ToolCall) -> ToolResult:
        cell = self._tools.get(call.id or "")
        return cell.result if cell is not None and cell.result is not None else cancelled(call)

    def _error_of(self, finish: Finish, result: RunResult[Any]) -> BaseException | None:
        error = finish.error
        if finish.status == "limited":
            allowed = self.options.limits.turns or 0
            error = LimitExceeded(finish.reason, self.machine.turn if self.machine is not None else 0, allowed)
        elif isinstance(error, Rejected):
            rejected, error = error, OutputInvalid(f"the answer does not fit the output type: {error}")
            error.__cause__ = rejected
        if isinstance(error, AgentError | ProviderError):
            error.result = result
        return error

    def _last_event(self) -> events.Event:
        result = self.result
        assert result is not None
        facts: dict[str, Any] = {"agent": self.agent.name, "reason": result.reason, "usage": result.usage}
        match result.status:
            case "completed":
                return self._event(events.RunCompleted, text=result.text, **facts)
            case "limited":
                return self._event(events.RunLimited, **facts)
            case "failed":
                error = self.error
                return self._event(events.RunFailed, error=f"{type(error).__name__}: {error}", **facts)
            case _:
                return self._event(events.RunStopped, outlived=result.outlived, **facts)

    def close(self, exit: Exit) -> None:
        if self.result is None:
            self._settle_abruptly(exit)
        self.log.end(self.error)
        super().close(exit)
        self.machine = None
        self._claim = None

    def _settle_abruptly(self, exit: Exit) -> None:
        """The task ended in a way that nobody foresaw, or before it began: the end is written here."""
        if exit.kind == "crashed":
            self._settle_result(Finish("failed", "error", error=exit.error))
        else:
            self._settle_result(Finish("stopped", exit.reason or "cancelled"))
        event = self._last_event()
        for run in self._line:
            run.log.publish(event)

    # -- what is said

    def _write(self, record: log.Record) -> None:
        assert self._claim is not None
        self.stage.journal.append(self._claim, log.encode(record))

    def wants_deltas(self) -> bool:
        """Whether anybody follows closely enough to stream for."""
        if not self._followable:
            return False
        return any(run.log.followed or run.options.on_event is not None for run in self._line)

    async def emit(self, kind: type[events.Event], **facts: Any) -> None:
        """Say something, if anybody may hear it."""
        if self._followable or self.agent.audience.hears(kind):
            await self._publish(self._event(kind, **facts))

    def publish_progress(self, cell: ToolCell, progress: Any) -> None:
        """Have the run say what a tool emitted; it is parked on its mailbox meanwhile."""
        self.mailbox.signal(_Progress(cell, progress))

    def _event(self, kind: type[events.Event], **facts: Any) -> events.Event:
        self._sequence[0] += 1
        parent = self.run_parent
        return kind(
            seq=self._sequence[0],
            time=self.stage.sources.clock(),
            run_id=self.name,
            path=self._path,
            turn=self._turn,
            parent_id=parent.name if parent is not None else None,
            user_id=self.options.user_id,
            conversation_id=self.options.conversation_id,
            **facts,
        )

    async def _publish(self, event: events.Event) -> None:
        """Readers first, because they cannot wait; then those who must be waited for, one event at a time.

        Runs of one tree speak at the same time. Their observers hear them in order all the same: whoever speaks while
        another event is being told leaves it in the queue, for the teller to go on with.
        """
        for run in self._line:
            run.log.publish(event)
        if self._observed:
            untold = self._line[-1]._untold
            untold += [(hook, event) for hook in self.agent.audience.of(event)]
            untold += [(run.options.on_event, event) for run in self._line if run.options.on_event is not None]
            await self._tell_observers()

    async def _tell_observers(self) -> None:
        root = self._line[-1]
        if root._telling:
            return
        root._telling = True
        try:
            while root._untold:
                observer, event = root._untold.popleft()
                await call_observer(observer, event)
        finally:
            root._telling = False

    def contains(self, budget: Budget) -> bool:
        return budget is self.budget or any(
            cell.contains(budget) for cell in (*self._tools.values(), *self._subruns.values())
        )

    def node(self, now: float) -> Node:
        node = super().node(now)
        detail: dict[str, Any] = {"agent": self.agent.name, "turn": self._turn}
        if self.usage.total_tokens is not None:
            detail["tokens"] = self.usage.total_tokens
        children = tuple(cell.node(now) for cell in self._tools.values())
        return msgspec.structs.replace(node, detail=detail, children=children)


def _builtin(messages: Sequence[Message]) -> list[Any]:
    return [msgspec.to_builtins(message) for message in messages]
