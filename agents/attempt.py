"""One attempt at a run: its machine asks, here is what performs it, and each fact goes back to the machine.

A model call is one interruptible step with **one** cancel scope, which a stop cancels; after it the attempt goes on
uncancelled and writes the truth into the history. While tools run, the run is parked on its mailbox inside their task
group, and their endings arrive as control signals.

An attempt that crashes is given up as a whole. The next one has a new machine, brought to where the journal says that
the run stands; so has the first one, of a run that was begun in another process. What a run keeps from one attempt to
the next lies in its cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyio import CancelScope

from .. import journal
from ..providers import ModelReply, ModelRequest
from . import events, inbox, pause
from .context import RunContext
from .enrolment import take_up
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
    Replied,
    State,
)
from .model_call import ModelCall
from .replay import Replayed
from .tool_batch import ToolBatch

if TYPE_CHECKING:
    from .run_cell import RunCell


class Attempt:
    """Carries out a run, from where it stands to its end or to a crash.

    Attributes:
        machine: what decides.
        past: where the journal says that the run stands, as far as that still matters.
        call, batch: the model call, or the tool calls, at hand.
    """

    __slots__ = ("_cut", "_run", "_step", "_tools_cut", "batch", "call", "machine", "past")

    def __init__(self, run: RunCell) -> None:
        self._run = run
        self.machine = new_machine(run)
        self.past = Replayed(run.options.answers)
        self.call: ModelCall | None = None
        self.batch: ToolBatch | None = None
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
                    self.batch = None
                    self.past = Replayed({})  # was of this turn: the next one may use the same ids
                    if run.voice.turn:
                        await run.voice.say(events.TurnEnded)
                case [] if run.concluded is not None:
                    return run.concluded  # given up meanwhile: what has come too late is dropped
                case _:
                    raise AssertionError(f"the machine asked for {effects!r} in {machine.state}")

    async def _begin(self) -> list[Effect]:
        run, machine = self._run, self.machine
        if run.resumption is not None or run.restarts:
            effects = await take_up(run, self)
        else:
            await run.voice.say(events.RunStarted, agent=run.agent.name)
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
            if isinstance(effect, CancelModel):
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
            self.batch.give_back()
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
            self.call = ModelCall(run, await self._request())
            run.write()
            await run.diary.durable()
            fact = await self.call.perform()
        cost = self.call.cost if self.call is not None else None
        if fact is None:
            fact = ModelCut(self.call.partial if self.call is not None else None)
        self.forget_call()
        self._step = None
        run.shown_pieces.clear()
        effects = machine.handle(fact)
        if isinstance(fact, Replied):
            self._account(fact.reply, cost)
            self.past = Replayed({})
        if machine.state is not State.ACTING:
            await run.voice.say(events.TurnEnded)
        return effects

    async def _request(self) -> ModelRequest:
        run, machine = self._run, self.machine
        agent = run.agent
        instructions = await agent.instructions_for(RunContext(run))
        if machine.due:
            await inbox.of(run).deliver(machine)
        return ModelRequest(
            machine.messages,
            tools=agent.toolbox.specs,
            instructions=instructions,
            settings=agent.settings,
            output_schema=agent.output_schema,
        )

    def _account(self, reply: ModelReply, cost: float | None) -> None:
        """Hold the reply until the entry that has to be stored before it is acted on, and count what it has used."""
        run = self._run
        if run.result is not None:
            return  # too late
        run.diary.hold(journal.Replied(reply, run.diary.clock(), cost))
        run.hold_own_words()
        if reply.usage is not None:
            run.spending.use(reply.usage)

    def forget_call(self) -> None:
        """A model call is over."""
        call, self.call = self.call, None
        if call is not None:
            call.forget()


def new_machine(run: RunCell) -> Machine:
    """A machine at the run's beginning."""
    return Machine(run.agent.rules(run.options.limits), run.history, run.prompt, run.options.kept)
