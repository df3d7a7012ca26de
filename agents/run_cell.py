"""The actor behind a run: its place in the tree, its attempts, its stops, its end.

One task, one loop: what happens in it is in `attempt`. The run can be stopped, asked and looked at, whatever it is busy
with.

Every fact that must not be asked for again is durable in the journal before it is acted on. When the code around the
run crashes, there is another attempt, which goes on from what the journal says; that is also how a run goes on in
another process (`resumption`). The budget of such restarts is the run's own.

The end is written once: by `_conclude` in the run's own task; when that was cancelled from outside, by `_say_farewell`
or `close`; and when it does not end although it was killed, by the stop ladder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
from anyio import CancelScope
from anyio.abc import TaskGroup

from .. import journal
from ..actors import Exit, Node, StrayCancellation
from ..actors.cell import Cell
from ..actors.crashes import is_crash, stray
from ..actors.exits import sole
from ..actors.restart import Intensity
from ..actors.roles import Parent, Verdict
from ..journal import JournalError, MemoryJournal
from ..mailbox import Budget
from ..providers import Message
from . import events, inbox, pause
from .approvals import Approvals, PendingCall
from .attempt import Attempt, new_machine
from .auto_recall import AutoRecall
from .background import Background
from .diary import Diary
from .enrolment import own, write_end
from .equipment import Equipment
from .errors import LimitExceeded, RestartLimit
from .machine import (
    Finish,
    Machine,
    Rules,
    State,
    StopAsked,
    StopMode,
    cancelled,
    urgency,
)
from .model_call import ModelCall
from .orphans import Orphan, end_below, hand_over_orphans, kill_below, stop_below
from .outcome import last_event, make_error, make_result
from .questions import Questions
from .questions import asked_by as questions_by
from .reminders import Reminder
from .replay import Replayed, limit_of
from .result import RunResult
from .run_options import RunOptions
from .run_queue import RunQueue
from .spans import NOTHING, run_span
from .spending import Spending
from .stage import RunStage
from .stop_ladder import FAREWELL, StopLadder, stop_in_force
from .stop_poll import StopPoll
from .tool import Toolbox
from .tool_admission import asked_by
from .tool_batch import Progress, ToolBatch, ToolEnded
from .tool_cell import ToolCell
from .voice import Voice
from .wall_time import WallTime

if TYPE_CHECKING:
    from .agent import Agent
    from .resumption import Resumption
    from .talks import Talk


class RunCell(Cell):
    """Runs `agent` on `prompt`, under `run_parent` (the run that called it as a tool) or in the stage's pool.

    Args:
        agent: what answers.
        prompt, history: the messages that start the run, and those before it.
        options: what it was started with.
        stage: what it shares with others.
        run_id: its name; by default the next one of the stage.
        run_parent, call_id: the run, and its tool call, that this one is a subagent of.
        followable: whether a handle is given out.
        detached: whether nobody's block or task has the run for a child: it is over when it says so, not when it is
            cancelled with its System.
        resumption: what it goes on from, of a run that was begun in another process.
        orphan: of a run in the background: what becomes of it when the run above ends.
        booked: whether the stage's queue has let it in.
        talk: the conversation that it has the turn in.
    """

    __slots__ = (
        "_booked",
        "_intensity",
        "_ladder",
        "_poll",
        "_subruns",
        "_talk",
        "_waiting",
        "agent",
        "approvals",
        "attempt",
        "auto_recall",
        "background",
        "began_at",
        "call_id",
        "concluded",
        "detached",
        "diary",
        "equipment",
        "equipped",
        "error",
        "forsaken",
        "group",
        "heritage",
        "history",
        "inbox",
        "options",
        "orphan",
        "outlived",
        "pause_asked",
        "pending",
        "prompt",
        "questions",
        "refused",
        "rests",
        "result",
        "resumed",
        "resumption",
        "retries",
        "run_parent",
        "shown_pieces",
        "spending",
        "suspended",
        "voice",
        "wall_time",
        "wanted",
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
        detached: bool = False,
        resumption: Resumption | None = None,
        orphan: Orphan | None = None,
        booked: bool = False,
        talk: Talk | None = None,
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
        self.detached = detached
        self.orphan: Orphan | None = orphan
        #: What those were started with that it has outlived.
        self.heritage: tuple[RunOptions, ...] = ()
        #: What it has in the background; made at the first of them.
        self.background: Background | None = None
        self.resumption = resumption
        self.began_at = stage.sources.clock() if resumption is None else resumption.began_at
        self.voice = Voice(
            run_id,
            options,
            agent.audience,
            stage.sources,
            run_parent.voice if run_parent is not None else None,
            followable,
            stage.observers,
        )
        #: The attempt at hand, or the last one; None before the run's turn and after its end.
        self.attempt: Attempt | None = None
        self.spending = Spending(self, run_parent.spending if run_parent is not None else None)
        #: Model calls that were tried again.
        self.retries = 0
        #: What was given up but still runs.
        self.outlived: tuple[str, ...] = ()
        #: What the run has written down.
        self.diary = Diary(stage.journal, run_id, stage.sources.clock)
        #: What of its agent's memory fits its prompt.
        self.auto_recall = AutoRecall(agent.memory) if agent.memory is not None else None
        #: What its toolsets have open, of an agent that has some, and its tools with those.
        self.equipment = Equipment(self) if agent.toolsets else None
        self.equipped: Toolbox | None = None
        #: Calls that have nobody to approve them.
        self.pending: tuple[PendingCall, ...] = ()
        #: Of a root: what its tree asks; made at the first question.
        self.approvals: Approvals | None = None
        #: Of a root: what the tools of its tree ask the user; made at the first question.
        self.questions: Questions | None = None
        #: Whether its end was written although its task goes on.
        self.forsaken = False
        #: Whether it has not ended, but goes on elsewhere.
        self.suspended = False
        self.result: RunResult[Any] | None = None
        #: What the run raises at those who wait for it.
        self.error: BaseException | None = None
        #: The text of this turn that followers have seen, kept for an attempt after a crash.
        self.shown_pieces: list[str] = []
        self._intensity = Intensity(agent.supervision.intensity, agent.supervision.period)
        self._subruns: dict[str, RunCell] = {}
        self.wanted: StopAsked | None = None
        #: The group that its task is in.
        self.group: TaskGroup | None = None
        # Who climbs the rungs of a stop there.
        self._ladder: StopLadder | None = None
        self._poll: StopPoll | None = None
        #: What stands against it, of a subagent that a limit above does not allow: it ends before it has begun.
        self.refused: LimitExceeded | None = None
        #: When it is to end, once it works.
        self.wall_time: WallTime | None = None
        #: Whether it is to wait until it is resumed, whether it has come to rest, and what wakes it there.
        self.pause_asked = False
        self.rests = False
        self.resumed: anyio.Event | None = None
        self.inbox: inbox.Inbox | None = None
        #: How it ends, once that is decided.
        self.concluded: Finish | None = None
        # Whether it was let in, the wait for its turn, and the conversation that it has the turn in.
        self._booked = booked
        self._talk = talk
        self._waiting: CancelScope | None = None

    # -- life

    def start_in(self, group: TaskGroup) -> None:
        """Take the run's place in the tree and start its task.

        Raises:
            NameTaken: a live run has that id.
            SystemClosed: the System is shutting down.
        """
        if self.run_parent is not None:
            if not self.is_helper:
                self.refused = self.spending.admit()
            self.run_parent._subruns[self.name] = self
            caller = self.caller
            if caller is not None and caller.passes is not None:
                caller.passes.lend()
        else:
            self._join_pool()
        self.group = group
        if self.options.stop is not None:
            self.options.stop.join(self)
        if self.options.stop_when is not None:
            self._poll = StopPoll(self, self.options.stop_when, self.options.stop_poll)
            self._poll.start_in(group)
        self.spawn_in(group)

    def discard(self) -> None:
        """The run is not to be started after all."""
        self._strike()
        if self.diary.is_open:
            self.diary.close("stopped", "cancelled")
        self._leave_talk()

    def _join_pool(self) -> None:
        self.stage.pool.adopt(self)
        if self.stage.queue is not None and not self._booked:
            self.stage.queue.let_in()  # it has begun before
            self._booked = True

    def _leave_talk(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.ended(self)

    def _strike(self) -> None:
        if self._booked and self.stage.queue is not None:
            self._booked = False
            self.stage.queue.strike()

    async def perform(self) -> None:
        self.announce_started()
        queue = self.stage.queue if self.run_parent is None else None
        has_place = False
        instruments = self.stage.instruments
        with run_span(instruments, self) if instruments is not None else NOTHING:
            try:
                refused = self.refused
                finish = Finish("limited", refused.limit, error=refused) if refused is not None else await own(self)
                if finish is None:
                    has_place = queue is not None and await self._take_place(queue)
                    self._start_the_clock(has_place)
                    finish = await self._run()
                if self.equipment is not None:
                    await self.equipment.close(self.stage.grace)
                await self._conclude(finish)
            except BaseException as error:
                if not is_crash(error):
                    await self._say_farewell()
                raise
            finally:
                if queue is not None and has_place:
                    queue.leave()

    def _start_the_clock(self, has_place: bool) -> None:
        told = self.resumption.chronicle if self.resumption is not None else None
        if self.options.limits.wall_time is None or self.group is None or (told is not None and told.ended is not None):
            return
        if has_place:
            self.diary.hold(journal.Started(self.diary.clock()))  # the wait for it was no work
        self.wall_time = WallTime(self, self.options.limits, told.worked if told is not None else 0.0)
        self.wall_time.start_in(self.group)

    @property
    def toolbox(self) -> Toolbox:
        """Its tools at present."""
        return self.equipped if self.equipped is not None else self.agent.toolbox

    @property
    def rules(self) -> Rules:
        """What its machine must know."""
        rules = self.agent.rules(self.options.limits)
        return rules if self.equipped is None else msgspec.structs.replace(rules, refuse=self.equipped.refuse)

    @property
    def machine(self) -> Machine | None:
        """What decides, once the run has begun."""
        return self.attempt.machine if self.attempt is not None else None

    @property
    def batch(self) -> ToolBatch | None:
        """The tool calls at hand."""
        return self.attempt.batch if self.attempt is not None else None

    @property
    def call(self) -> ModelCall | None:
        """The model call at hand."""
        return self.attempt.call if self.attempt is not None else None

    @property
    def past(self) -> Replayed:
        """Where the journal says that the run stands, as far as that still matters."""
        assert self.attempt is not None
        return self.attempt.past

    # -- the journal

    def write(self, *records: journal.Record) -> None:
        """Write down what has happened, and what was held back until now.

        Raises:
            JournalError: another owner has claimed the run, or it cannot be stored.
        """
        self.hold_own_words()
        self.diary.write(*records)

    def hold_own_words(self) -> None:
        """Hold what the machine has said by itself. What a suspension has cut short is to be done again."""
        machine = self.machine
        unwritten = machine.take_unwritten() if machine is not None else ()
        if not unwritten:
            return
        at, goes_on = self.diary.clock(), self.suspended or self.is_suspended
        for item in unwritten:
            if isinstance(item, Reminder):
                self.diary.hold(journal.Said(item.message, at, item.why))
            elif isinstance(item, Message):
                if not goes_on or not item.partial:
                    self.diary.hold(journal.Said(item, at))
            elif not goes_on or item.cause != "cancelled":
                call = self.tool_call(item.call_id)
                self.diary.hold(call.happened(item, at) if call is not None else journal.Happened(item, at))

    @property
    def is_suspended(self) -> bool:
        """Whether the run is cut short here to go on elsewhere."""
        stop = stop_in_force(self)
        return stop is not None and stop.resumable

    @property
    def goes_on(self) -> bool:
        """Whether the run, cut off where it is, goes on elsewhere: nobody wants its end, and nobody's call it is."""
        stop = stop_in_force(self)
        if stop is not None:
            return stop.resumable
        *_, root = self.line()
        return root.detached and self.diary.survives

    async def _take_place(self, queue: RunQueue) -> bool:
        """Wait for a turn; False for a run that was stopped meanwhile and needs none."""
        if self.wanted is None and queue.enter_now():
            return True
        with CancelScope() as self._waiting:
            if self.wanted is None:
                await queue.enter(self.options.user_id)
                self._waiting = None
                return True
        self._waiting = None
        return False

    async def _say_farewell(self) -> None:
        """Cancelled from outside, or interrupted: write the end, and let observers hear of it for a bounded time."""
        if self.result is None:
            await self._leave_below()
        if self.equipment is not None:
            self.equipment.kill()
        with CancelScope(shield=True, deadline=anyio.current_time() + FAREWELL):
            if self.result is None:
                self.settle_cut_off()
                await self.voice.publish(self.last_event())
            elif not self.forsaken:
                await self.voice.tell_observers()

    async def _leave_below(self) -> None:
        """What works for a run that is cut off ends before it."""
        with CancelScope(shield=True, deadline=anyio.current_time() + FAREWELL):
            if not self.goes_on:
                hand_over_orphans(self)
            await kill_below(self)

    async def _run(self) -> Finish:
        """Attempts, each from the journal, until one of them finishes or the restarts are used up."""
        while True:
            attempt = self.attempt = Attempt(self)
            try:
                return await attempt.perform()
            except BaseException as failure:
                if not is_crash(failure):
                    raise
                if isinstance(failure, BaseExceptionGroup):
                    failure = sole(cast("BaseExceptionGroup[BaseException]", failure))
                if isinstance(failure, JournalError):
                    self.diary.forget()  # another owner goes on with the run, or somebody who can store it
                    return Finish("failed", "error", error=failure)
                # By no other name: this one is unbound at the end, and the frame is in the error's own traceback.
                failure = stray(self.name, failure)
                if isinstance(failure, StrayCancellation) or not self._intensity.allows(anyio.current_time()):
                    # Nobody knows what state a task is in that was cancelled by mistake: it is not started again.
                    return Finish("failed", "error", error=self._gave_up(failure))
                self.restarts += 1
                self.rests = False
                attempt.give_up()
                await self.voice.say(
                    events.RunRestarted,
                    agent=self.agent.name,
                    restarts=self.restarts,
                    error=f"{type(failure).__name__}: {failure}",
                )

    def _gave_up(self, error: BaseException) -> BaseException:
        if isinstance(error, StrayCancellation):
            return error
        intensity, name = self._intensity, self.name
        message = (
            f"run {name!r} crashed {intensity.limit + 1} times within {intensity.period:g} s and is not "
            f"restarted again; the last crash: {type(error).__name__}: {error}"
        )
        limit = RestartLimit(message, name, name, intensity.limit, intensity.period)
        limit.__cause__ = error
        return limit

    @property
    def shown(self) -> str:
        """The text of the turn at hand that followers have seen."""
        return "".join(self.shown_pieces)

    def _let_go(self) -> None:
        """The run is over here. A subagent that has not ended is ended with the call it works for, if that ends."""
        caller = self.caller
        if caller is not None and self.diary.survives and not self.diary.is_over and not self.is_suspended:
            caller.unfinished.append(self.diary)
        else:
            self.diary.release()

    # -- children

    def child_started(self, child: Cell) -> None:
        return None

    def child_down(self, child: Cell, exit: Exit, in_place: bool) -> Verdict:
        if isinstance(child, ToolCell):
            if child.result is None and not child.pends:
                child.result = child.crash_result(exit.error)
            self.mailbox.signal(ToolEnded(child))
        elif isinstance(child, RunCell) and self._subruns.get(child.id) is child:
            caller = child.caller
            del self._subruns[child.id]
            if caller is not None and caller.passes is not None:
                caller.passes.returned()
            if self.background is not None:
                self.background.returned(child)
        return Verdict.FINAL

    def go_on_with(self, agent: Agent[Any, Any]) -> None:
        """Be a run of another agent from here on."""
        self.agent = agent
        self.equipped = None
        if self.equipment is None and agent.toolsets:
            self.equipment = Equipment(self)
        self.voice.audience = agent.audience
        self.auto_recall = AutoRecall(agent.memory) if agent.memory is not None else None
        if self.attempt is not None:
            self.attempt.go_on_with(agent)
        agent.freeze()

    def line(self) -> Iterator[RunCell]:
        """This run, and those above it, up to the root."""
        each: RunCell | None = self
        while each is not None:
            yield each
            each = each.run_parent

    @property
    def caller(self) -> ToolCell | None:
        """The tool call that it works for, which waits for it."""
        above = self.run_parent
        return above.tool_call(self.call_id) if above is not None and self.orphan is None else None

    @property
    def background_runs(self) -> Background:
        """What it has in the background."""
        if self.background is None:
            self.background = Background(self)
        return self.background

    def child(
        self,
        agent: Agent[Any, Any],
        prompt: Sequence[Message],
        history: Sequence[Message],
        options: RunOptions,
        run_id: str,
        call_id: str,
        orphan: Orphan | None,
        resumption: Resumption | None,
    ) -> RunCell:
        """A run below this one; not started yet."""
        return RunCell(
            *(agent, prompt, history, options, self.stage),
            run_id=run_id,
            run_parent=self,
            call_id=call_id,
            orphan=orphan,
            resumption=resumption,
        )

    def move_below(self, heir: RunCell) -> None:
        """Be a run of another one from now on."""
        self._leave_above()
        self.parent = self.run_parent = heir
        heir._subruns[self.name] = self
        pause.look_again(self)

    def move_to_pool(self) -> None:
        """Be a run of the System from now on.

        Raises:
            NameTaken, SystemClosed: the System does not take it.
        """
        self._join_pool()
        *_, root = self.line()
        self.approvals, self.questions = root.approvals, root.questions
        self._leave_above()
        self.parent, self.run_parent = self.stage.pool, None
        self.detached = True
        if self.stage.draining is not None:
            self.stage.draining.add(self)
        pause.look_again(self)

    def _leave_above(self) -> None:
        assert self.run_parent is not None
        del self.run_parent._subruns[self.name]

    def _count_below(self) -> None:
        """The run ends: whatever is still at work in its background has used what it has used."""
        if self.background is not None:
            for child in self.subruns():
                self.background.returned(child)
                child.spending.counts = False

    def child_dismissed(self, child: Cell) -> None:
        return None

    def tool_progressed(self, cell: ToolCell, progress: Any) -> None:
        """Have the run say what a tool emitted; it is parked on its mailbox meanwhile."""
        self.mailbox.signal(Progress(cell, progress))

    def child_id(self, caller: ToolCell, number: int) -> str:
        """The name of the run with this number among those that the tool call starts."""
        return f"{self.place_of(caller)}.{number}"

    def place_of(self, call: ToolCell) -> str:
        """Where an open call stands: the run, its turn, and the place among the calls of that."""
        assert self.machine is not None
        return f"{self.name}.{self.machine.turn}.{self.machine.place_of(call.call_id)}"

    def tool_call(self, call_id: str | None) -> ToolCell | None:
        """The open tool call with this id."""
        return self.batch.cells.get(call_id or "") if self.batch is not None else None

    @property
    def is_helper(self) -> bool:
        """Whether it works for the run above itself, and not for a tool call of it."""
        return self.run_parent is not None and self.call_id is None

    def helper(self, agent: Agent[Any, Any], prompt: Sequence[Message], name: str) -> RunCell:
        """Start a run that helps this one with the step at hand. What comes of it is written in this one's journal."""
        own = self.options
        options = RunOptions(
            limits=agent.limits,
            user_id=own.user_id,
            conversation_id=own.conversation_id,
            tags=own.tags,
            metadata=own.metadata,
        )
        assert self.group is not None
        cell = RunCell(agent, prompt, (), options, self.stage, run_id=name, run_parent=self, followable=False)
        cell.diary = Diary(MemoryJournal(), name, self.stage.sources.clock)
        cell.start_in(self.group)
        return cell

    async def regain(self, call_id: str) -> None:
        """A subagent of this tool call has ended: before the tool goes on, wait for its turn again."""
        caller = self.tool_call(call_id)
        if caller is not None and caller.passes is not None:
            await caller.passes.regain()

    def subruns(self, call_id: str | None = None) -> list[RunCell]:
        """The live runs that this tool call has started and waits for, or all of them."""
        runs = self._subruns.values()
        return [cell for cell in runs if call_id is None or (cell.call_id == call_id and cell.orphan is None)]

    def contains(self, budget: Budget) -> bool:
        tools = self.batch.cells.values() if self.batch is not None else ()
        return budget is self.budget or any(cell.contains(budget) for cell in (*tools, *self._subruns.values()))

    def node(self, now: float) -> Node:
        detail: dict[str, Any] = {"agent": self.agent.name, "turn": self.voice.turn}
        spending = self.spending
        if spending.usage.total_tokens is not None:
            detail["tokens"] = spending.usage.total_tokens
        if spending.cost:
            detail["cost"] = spending.cost
        if asks := len(asked_by(self)) + len(questions_by(self)):
            detail["asks"] = asks
        tools = self.batch.cells.values() if self.batch is not None else ()
        helpers = [run for run in self._subruns.values() if run.is_helper or run.orphan is not None]
        open_here = self.equipment.cells() if self.equipment is not None else ()
        children = tuple(cell.node(now) for cell in (*tools, *helpers, *open_here))
        node = super().node(now)
        return msgspec.structs.replace(node, state=pause.word_for(self) or node.state, detail=detail, children=children)

    # -- stopping

    def request_stop(self, reason: str | None) -> None:
        self._stop_as("now", StopAsked("now", reason or "system", resumable=self.diary.survives), None)

    def stop_run(self, mode: StopMode, reason: str, grace: float | None = None) -> None:
        """Ask for the end; takes effect at the next await, whatever the run is busy with.

        `grace` is how many seconds it may take; by default the stage's for ``now``, and as many as it takes for the
        other modes.
        """
        self._stop_as(mode, StopAsked(mode, reason), grace)

    def stop_at_limit(self, error: LimitExceeded) -> None:
        """Ask for the end because a limit does."""
        self._stop_as("now", StopAsked("now", error.limit, error=error), None)

    def _stop_as(self, mode: StopMode, asked: StopAsked, grace: float | None) -> None:
        if self.exit is not None or self.forsaken:
            return
        if self.result is None and self.concluded is None:
            self._ask_to_stop(asked)
        if grace is None and mode == "now":
            grace = self.stage.grace
        if grace is not None and self.group is not None:
            if self._ladder is None:
                self._ladder = StopLadder(self)
            self._ladder.ask(mode, grace, self.group)

    def _ask_to_stop(self, stop: StopAsked) -> None:
        if self.wanted is not None:
            if urgency(self.wanted) >= urgency(stop):
                return
            # A more urgent one does not change why.
            stop = msgspec.structs.replace(self.wanted, mode=stop.mode)
        if self.rests:
            # There is no turn and no tool at work that it could wait for.
            stop = msgspec.structs.replace(stop, mode="now")
        self.wanted = stop
        if not stop.resumable:
            with suppress(JournalError):  # then the run ends anyway
                self.write(journal.Stopping(stop.mode, stop.reason, self.diary.clock(), limit_of(stop.error)))
        if stop.mode == "now":
            stop_below(self, stop.resumable)  # before they are let go, too
        pause.let_go(self)
        machine = self.machine
        if machine is not None and machine.state is not State.READY:
            assert self.attempt is not None
            self.attempt.interrupt(machine.handle(stop))
            if self.batch is not None:
                self.batch.withdraw()
        elif self._waiting is not None:
            self._waiting.cancel()  # it waits for its turn; what is wanted is taken before the first request
        if stop.mode == "now":
            super().request_stop(stop.reason)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost or done twice when the run is cut off now.

        It rests, has not begun, waits before it asks the model again, or all its calls wait: for somebody's answer, or
        for subagents that are idle. And what it has in the background is idle.
        """
        if any(not run.is_idle for run in self._subruns.values() if run.orphan is not None):
            return False
        if self.rests or self.machine is None:
            return True
        if self.batch is None:
            return self.call is not None and self.call.pausing
        return self.batch.is_idle

    @property
    def is_concluded(self) -> bool:
        """Whether it is decided how the run ends."""
        return self.concluded is not None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is about to, and begins nothing more."""
        return self.exit is not None or self.forsaken or self.concluded is not None or self.result is not None

    def urge(self) -> None:
        """The grace of a gentle stop is over: end now."""
        if self.wanted is not None:
            self.stop_run("now", self.wanted.reason)

    # -- the end

    async def _conclude(self, finish: Finish) -> None:
        """Write the end down, make the result, tell everybody."""
        if self.result is not None:
            return  # given up meanwhile
        self.concluded = finish
        if self._subruns:
            await end_below(self)
        if not self.is_suspended:
            self._count_below()
        finish = self.concluded = await write_end(self, finish)
        if self.result is not None:
            return  # given up while the journal was at it
        self._settle(finish)
        await self.voice.publish(self.last_event())

    async def wait_over(self) -> None:
        """Wait for the result: for the end, or until the run is given up."""
        await self._wait_until(lambda: self.exit is not None or self.forsaken)

    def _settle(self, finish: Finish) -> None:
        """Make the result. Only a run that was cut off from outside has a call open here, of the model or a tool."""
        machine = self.machine if self.machine is not None else new_machine(self)
        self.concluded = finish
        result_of = cancelled
        if self.batch is not None:
            result_of = self.batch.result_of
            self.batch.tell_cut_off()
        machine.abandon(result_of, self.call.partial if self.call is not None else None)
        if self.attempt is not None:
            self.attempt.forget_call()
        self.error = make_error(self, finish)
        self.result = make_result(self, finish, machine.messages, self.error)

    def last_event(self) -> events.Event:
        assert self.result is not None
        return last_event(self, self.result)

    def _cut_off(self) -> Finish:
        """How a run ends that was cut off: as was decided before, or for the reason of the stop above it."""
        if self.concluded is not None:
            return self.concluded
        stop = stop_in_force(self)
        if stop is not None and stop is self.wanted and stop.error is not None:
            return Finish("limited", stop.reason, error=stop.error)
        return Finish("stopped", stop.reason if stop is not None else "cancelled")

    def settle_cut_off(self) -> None:
        """Make the result of a run that is cut off, and write its end, unless it is to go on elsewhere."""
        finish, goes_on = self._cut_off(), self.goes_on
        if not goes_on:
            hand_over_orphans(self)
            self._count_below()
        self._settle(finish)
        self.suspended = goes_on
        if self.diary.is_open:
            with suppress(JournalError):
                self.write(*(journal.Suspended(self.diary.clock()),) if goes_on else ())
            if not goes_on:
                self.diary.close(finish.status, finish.reason)

    def close(self, exit: Exit) -> None:
        if self.result is None:
            # The task ended in a way that nobody foresaw, or before it began.
            failed = exit.kind == "crashed" and not self.diary.is_over
            self._settle(Finish("failed", "error", error=exit.error) if failed else self._cut_off())
            self.voice.log_event(self.last_event())
        if not self.suspended:
            hand_over_orphans(self)
        for run in tuple(self._subruns.values()):
            run.kill()
        if self.equipment is not None:
            self.equipment.kill()
        if self.diary.is_open:
            self._let_go()
        if self.inbox is not None:
            self.inbox.close()
        if self._ladder is not None:
            self._ladder.fall()
        self._strike()
        if self._poll is not None:
            self._poll.end()
        if self.wall_time is not None:
            self.wall_time.end()
            self.wall_time = None
        if self.options.stop is not None:
            self.options.stop.leave(self)
        self.voice.log.end(self.error)
        super().close(exit)
        self._leave_talk()
        self.attempt = self.group = self._ladder = self._poll = self.inbox = None
