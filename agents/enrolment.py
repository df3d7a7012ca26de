"""A run and its journal: how a run comes to be its owner's, where it takes itself up, and how it is over there.

A new run writes down that it has begun; one that was begun elsewhere claims its journal. Either is durable before
anything is done for the run. After a crash of its code, and in another process, a new machine is brought to where the
journal says that the run stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .. import journal
from ..journal import JournalError
from . import events, inbox
from .closure import lost_below
from .handoff import hand_over
from .ledger import Amount
from .machine import Effect, Finish, State
from .orphans import outlives
from .recorded_use import used_in
from .replay import Replayed, replay
from .tool_admission import is_guarded

if TYPE_CHECKING:
    from .attempt import Attempt
    from .run_cell import RunCell


def enrol(run: RunCell) -> None:
    """Write down that a run has begun.

    Raises:
        RunExists: the journal knows a run of that id.
    """
    options = run.options
    # One that may outlive the run above is a run of its own in the journal.
    parent = run.run_parent.name if run.run_parent is not None and not outlives(run.orphan) else None
    began = journal.Began(
        run.name,
        run.agent.name,
        list(run.history),
        list(run.prompt),
        run.began_at,
        kept=list(options.kept) if options.kept is not None else None,
        answers=dict(options.answers),
        fingerprint=run.agent.fingerprint,
        user_id=options.user_id,
        conversation_id=options.conversation_id,
        parent_id=parent,
        call_id=run.call_id,
        tags=list(options.tags),
        metadata=dict(options.metadata),
        limits=options.limits,
        guarded=options.policy is not None or (outlives(run.orphan) and is_guarded(run)),
    )
    run.diary.begin(began, parent_id=parent, conversation_id=options.conversation_id)


async def own(run: RunCell) -> Finish | None:
    """Have a run durably for our own before anything is done for it; how it ends where that fails."""
    resumption = run.resumption
    try:
        if resumption is not None:
            await resumption.take_over(run)
        elif not run.diary.is_open:
            enrol(run)
        await run.diary.durable()
    except JournalError as error:
        run.diary.forget()
        if resumption is not None:
            resumption.error = error
        return Finish("failed", "error", error=error)
    finally:
        if resumption is not None:
            resumption.settled.set()
    return None


async def take_up(run: RunCell, attempt: Attempt) -> list[Effect]:
    """Bring a new attempt to where the journal says that the run stands; what is to be done next."""
    machine = attempt.machine
    resumption, run.resumption = run.resumption, None
    if resumption is not None:
        entries = resumption.entries
    else:
        run.write()
        entries = await run.diary.reclaim()
    unopened = run.equipment is not None and run.equipped is None
    past = attempt.past = replay(machine, entries, run.toolbox, run.options.answers, unopened=unopened)
    if resumption is not None and resumption.chronicle.ended is not None:
        # It is over: an answer that is checked once more does not go back to the model.
        machine.rules = msgspec.structs.replace(machine.rules, output_retries=0)
    if attempt.view is not None and past.summary is not None:
        attempt.view.restore(*past.summary)
    run.voice.turn = machine.turn  # calls of this turn have the same idempotency keys as before
    at = run.diary.clock()
    bounded = run.spending.ledger is not None
    spent = used_in([record for entry in entries for record in journal.decode(entry)]) if bounded else Amount()
    for result in past.made_up:
        place = past.lost.get(result.call_id)
        # After a crash in place they are at work, and go on.
        children = past.lost_children(place) if place is not None and resumption is not None else ()
        lost = await lost_below(run, place, past.spawned, children)
        past.spend(lost.usage, lost.cost)
        spent += lost.spent
        run.diary.hold(journal.Happened(result, at, lost.usage, lost.cost, lost.spent if bounded else None))
    if resumption is not None:
        run.spending.take_up(past.usage, past.cost, spent)
        run.wanted = past.stop or run.wanted
        run.pause_asked = past.paused or run.pause_asked  # a drain may have begun meanwhile
        if resumption.chronicle.ended is None:
            await _take_up_background(run, past)
        if past.sent:
            inbox.of(run).count = past.sent
        facts = {"claims": resumption.claims, "changes": resumption.changes}
        await run.voice.say(events.RunRecovered, agent=run.agent.name, **facts)
    if past.handoff is not None and machine.state is State.CALLING:
        await hand_over(run, past.handoff)
    run.write()
    return past.effects


async def _take_up_background(run: RunCell, past: Replayed) -> None:
    """Go on with what works in the background, but for what a call had begun whose outcome is unknown."""
    gone = {each.run_id for place in past.lost.values() for each in past.lost_children(place)}
    for spawned in past.spawned.values():
        if spawned.orphan == "stop" and spawned.run_id not in gone:
            await run.background_runs.revive(spawned, spawned.run_id in past.returned)


async def write_end(run: RunCell, finish: Finish) -> Finish:
    """Write down how a run ends, or that it goes on elsewhere; how it ends if the journal refuses."""
    try:
        if run.suspended or (finish.status == "stopped" and run.is_suspended):
            run.suspended = True
            run.write(journal.Suspended(run.diary.clock()))
            await run.diary.durable()
        else:
            error = finish.error
            said = f"{type(error).__name__}: {error}" if error is not None else None
            run.hold_own_words()
            await run.diary.end(finish.status, finish.reason, said)
    except JournalError as error:
        run.diary.forget()
        return Finish("failed", "error", error=error)
    return finish
