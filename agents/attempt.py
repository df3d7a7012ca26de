"""One attempt at a run: its machine asks, here is what performs it, and each fact goes back to the machine.

A model call is one interruptible step with **one** cancel scope, which a stop cancels; after it the attempt goes on
uncancelled and writes the truth into the history. While tools run, the run is parked on its mailbox inside their task
group, and their endings arrive as control signals.

An attempt that crashes is given up as a whole. The next one has a new machine, brought to where the journal says that
the run stands; so has the first one, of a run that was begun in another process. What a run keeps from one attempt to
the next lies in its cell.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from anyio import CancelScope

from .. import journal
from ..providers import ContextOverflow, ModelReply, ModelRequest
from . import events, inbox, pause
from .context import RunContext
from .context_view import ContextView
from .enrolment import take_up
from .equipment import Equipment
from .errors import SystemDraining, ToolsetFailed
from .handoff import hand_over
from .machine import (
    Accepted,
    Begin,
    CallModel,
    CallTools,
    CancelCheck,
    CancelModel,
    CancelTools,
    Check,
    CheckCut,
    Effect,
    Fact,
    Finish,
    Machine,
    ModelCut,
    ModelFailed,
    Replied,
    State,
)
from .model_call import ModelCall
from .reminders import Reminder
from .replay import NOTHING, Replayed
from .spans import in_model_span
from .tool_batch import ToolBatch
from .validators import check

if TYPE_CHECKING:
    from .agent import Agent
    from .run_cell import RunCell


class Attempt:
    """Carries out a run, from where it stands to its end or to a crash.

    Attributes:
        machine: what decides.
        past: where the journal says that the run stands, as far as that still matters.
        call, batch: the model call, or the tool calls, at hand.
        view: what is sent of the conversation, of an agent with a context window.
    """

    __slots__ = ("_cut", "_run", "_step", "_tools_cut", "_warn_at", "batch", "call", "machine", "past", "view")

    def __init__(self, run: RunCell) -> None:
        self._run = run
        self.machine = new_machine(run)
        self.past = Replayed(run.options.answers) if run.options.answers else NOTHING
        self.call: ModelCall | None = None
        self.batch: ToolBatch | None = None
        self.view = ContextView(run) if run.agent.context is not None else None
        self._warn_at = run.options.limits.turn_to_warn_at
        # The interruptible step at hand, and whether a stop has cut the model call or the tools.
        self._step: CancelScope | None = None
        self._cut = False
        self._tools_cut = False

    async def perform(self) -> Finish:
        """Go on until the machine has an end."""
        run, machine = self._run, self.machine
        effects = await self._begin()
        while True:
            match effects:
                case [Finish() as finish]:
                    return finish
                case [CallModel()]:
                    effects = await self._call_model()
                case [CallTools(calls)]:
                    self.batch = ToolBatch(run, machine, cut=self._tools_cut)
                    effects = await self.batch.perform(calls)
                    to, self.batch = self.batch.handoff, None
                    self.past = NOTHING  # was of this turn: the next one may use the same ids
                    run.spending.interrupted.clear()
                    if run.voice.turn and machine.state is not State.CHECKING:
                        await run.voice.say(events.TurnEnded)
                    if to is not None and machine.state is State.CALLING:
                        await hand_over(run, to)
                case [Check(output)]:
                    effects = await self._check(output)
                case [] if run.concluded is not None:
                    return run.concluded  # given up meanwhile: what has come too late is dropped
                case _:
                    raise AssertionError(f"the machine asked for {effects!r} in {machine.state}")

    def go_on_with(self, agent: Agent[Any, Any]) -> None:
        """Have another agent's rules from here on."""
        self.machine.go_on_with(agent.rules(self._run.options.limits))
        self.view = ContextView(self._run) if agent.context is not None else None

    async def _begin(self) -> list[Effect]:
        run, machine = self._run, self.machine
        if run.resumption is not None or run.restarts:
            if run.resumption is not None and run.resumption.chronicle.handed_over:
                run.go_on_with(run.resumption.goes_on_with)
            unfit = await self._equip_to_go_on()
            if unfit is not None:
                return [unfit]
            effects = await take_up(run, self)
        else:
            await run.voice.say(events.RunStarted, agent=run.agent.name)
            # Calls that were approved run before the model is asked.
            unfit = await self._equip_to_go_on() if run.options.kept is not None else None
            if unfit is not None:
                return [unfit]
            effects = machine.handle(run.wanted or Begin())
        if run.inbox is not None:
            run.inbox.open(machine)
        if run.wanted is not None and machine.state is not State.DONE:
            machine.handle(run.wanted)
        self.interrupt(machine.cuts)
        return effects

    def interrupt(self, effects: Sequence[Effect]) -> None:
        """Cut short what a stop wants cut."""
        for effect in effects:
            if isinstance(effect, CancelModel | CancelCheck):
                self._cut = True
                if self._step is not None:
                    self._step.cancel()
            elif isinstance(effect, CancelTools):
                self._tools_cut = True
                if self.batch is not None:
                    self.batch.cancel()

    def give_up(self) -> None:
        """The attempt has crashed."""
        if self.batch is not None:
            tallies = {call_id: cell.tally for call_id, cell in self.batch.cells.items()}
            self._run.spending.interrupted.update(tallies)
            self.batch = None
        self.forget_call()

    # -- the model

    async def _call_model(self) -> list[Effect]:
        run, machine = self._run, self.machine
        run.voice.turn = machine.turn
        fact: Fact | None = None
        with CancelScope() as step:
            self._step = step
            if self._cut:
                step.cancel()
            await pause.rest(run)
            await run.voice.say(events.TurnStarted)
            if machine.turn == self._warn_at:
                await self._warn_of_turns()
            if unsaid := machine.take_unsaid():
                await self._say(unsaid)
            unfit = await self._equip(run.equipment) if run.equipment is not None else None
            if unfit is None:
                request = await self._request()
                run.write()
                await run.diary.durable()
                fitted = request if self.view is None else await self._fit(request, self.view)
                fact = fitted if isinstance(fitted, ModelFailed) else await self._ask(fitted)
            else:
                fact = unfit
        call = self.call
        if fact is None:
            fact = ModelCut(call.partial if call is not None else None)
        self.forget_call()
        self._step = None
        run.shown_pieces.clear()
        effects = machine.handle(fact)
        if isinstance(fact, Replied) and call is not None:
            self._account(fact.reply, call)
            self.past = NOTHING
        if machine.state not in (State.ACTING, State.CHECKING):
            await run.voice.say(events.TurnEnded)
        return effects

    async def _equip(self, equipment: Equipment) -> ModelFailed | None:
        """Have the tools that there are at present."""
        try:
            await equipment.equip()
        except (ToolsetFailed, SystemDraining) as error:
            return ModelFailed(error)
        return None

    async def _equip_to_go_on(self) -> Finish | None:
        """Have the tools that calls of the past were made of; how the run ends if they are not to be had.

        A stop that wants the end at once is not kept waiting: then `equipped` stays None.
        """
        run, resumption = self._run, self._run.resumption
        equipment = run.equipment
        if equipment is None or (resumption is not None and resumption.chronicle.ended is not None):
            return None
        unfit, done = None, False
        while not done and (run.wanted is None or run.wanted.mode != "now"):
            with CancelScope() as run._waiting:  # a gentle stop cancels it too, and its calls are to run all the same
                unfit = await self._equip(equipment)
                done = True
        run._waiting = None
        if run.wanted is not None and run.wanted.resumable:
            return Finish("stopped", run.wanted.reason)  # whoever goes on takes it up as it was
        if unfit is None:
            return None
        # Another time it may open: what is recorded is not thrown away.
        run.suspended = resumption is not None and run.run_parent is None and run.diary.survives
        return Finish("failed", "error", error=unfit.error)

    async def _fit(self, request: ModelRequest, view: ContextView) -> ModelRequest | ModelFailed:
        """The request as it fits the context window."""
        try:
            return await view.fit(request)
        except ContextOverflow as error:
            facts = {"model": self._run.agent.provider.model, "attempt": 1, "kind": error.kind, "error": str(error)}
            await self._run.voice.say(events.ModelFailed, **facts)
            return ModelFailed(error)

    def _ask(self, request: ModelRequest) -> Coroutine[Any, Any, Fact]:
        """The model call, to be awaited."""
        run = self._run
        call = self.call = ModelCall(run, request, self.view)
        instruments = run.stage.instruments
        return call.perform() if instruments is None else in_model_span(instruments, run, call, request)

    async def _request(self) -> ModelRequest:
        run, machine = self._run, self.machine
        agent = run.agent
        instructions = agent.instructions
        if not isinstance(instructions, str | None):
            instructions = await agent.instructions_for(RunContext(run))
        if run.auto_recall is not None:
            instructions = await run.auto_recall.behind(instructions, run)
        if machine.due:
            await inbox.of(run).deliver(machine)
        asking = agent.asking
        return ModelRequest.of_records(
            machine.messages,
            asking.tools(run.toolbox.specs),
            asking.instructions(instructions),
            agent.settings,
            asking.schema,
        )

    async def _say(self, reminders: Sequence[Reminder]) -> None:
        for reminder in reminders:
            if reminder.why == "stuck":
                facts: dict[str, Any] = {"repeats": reminder.repeats, "tools": reminder.tools}
                await self._run.voice.say(events.AgentStuck, **facts)
            else:
                await self._run.voice.say(events.AgentReplanning, turns=self.machine.turn - 1)

    async def _warn_of_turns(self) -> None:
        allowed = self._run.options.limits.turns
        facts: dict[str, Any] = {"limit": "turns", "used": self.machine.turn, "allowed": allowed}
        await self._run.voice.say(events.LimitWarning, **facts)

    def _account(self, reply: ModelReply, call: ModelCall) -> None:
        """Hold the reply until the entry that has to be stored before it is acted on."""
        run = self._run
        if run.result is not None:
            return  # too late
        run.diary.hold(journal.Replied(reply, run.diary.clock(), call.cost, call.spent))
        run.hold_own_words()

    # -- the answer

    async def _check(self, output: Any) -> list[Effect]:
        """Have the answer checked. It is durable before, so that it is not asked for again."""
        run, machine = self._run, self.machine
        fact: Fact = CheckCut()
        with CancelScope() as step:
            self._step = step
            if self._cut:
                step.cancel()
            run.write(journal.Checking(run.diary.clock()))
            await run.diary.durable()
            fact = await check(run.agent.validators, output, RunContext(run))
        self._step = None
        effects = machine.handle(fact)
        if isinstance(fact, Accepted) and run.result is None:
            changed = fact.output is not output
            written = run.agent.write_output(fact.output) if changed else None
            run.diary.hold(journal.Checked(changed, written, run.diary.clock()))
        if run.voice.turn:
            await run.voice.say(events.TurnEnded)
        return effects

    def forget_call(self) -> None:
        """A model call is over."""
        call, self.call = self.call, None
        if call is not None:
            call.forget()


def new_machine(run: RunCell) -> Machine:
    """A machine at the run's beginning."""
    return Machine(run.rules, run.history, run.prompt, run.options.kept)
