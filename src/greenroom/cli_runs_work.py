"""``greenroom runs resume``, ``stop`` and ``prune``: what changes a journal's file.

The file is looked at first, by an `Archive`: so a mistyped name makes no file, and what cannot be done is said before
anything is claimed.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import anyio

from .agents import Agent, AgentError, Archive, Chronicle, Recovery, Run, RunResult, System, events
from .agents.closure import end_run
from .agents.trace import printable
from .cli_chat_screen import print_note
from .cli_chat_turn import words_for
from .cli_loop import Interrupted
from .cli_run import Misuse, find_object
from .cli_runs_find import complain, everything_in, find, is_at_work
from .journal import Damaged, JournalError, Listed, SqliteJournal
from .providers import ProviderError

#: Seconds that resumed runs have at Ctrl-C to finish the step at hand.
DRAIN = 10.0


# -- resume


def resume_runs(file: str, given: Sequence[str], places: Sequence[str], backend: str) -> int:
    """Go on with runs; returns the exit status: 1 unless all of them complete."""
    if not given:
        raise Misuse("which runs? name them by their ids; `greenroom runs list` shows them")
    agents = _find_agents(places)
    with _log_lines():
        return anyio.run(partial(_resume, file, given, agents), backend=backend)


def _find_agents(places: Sequence[str]) -> list[Agent[Any, Any]]:
    agents: dict[str, Agent[Any, Any]] = {}
    for place in places:
        agent: Any = find_object(place, "--agents", "agent", "support:helper")
        if not isinstance(agent, Agent):
            raise Misuse(f"--agents {place}: {place.partition(':')[2]} is of type {type(agent).__name__}, not an Agent")
        known = agents.setdefault(agent.name, cast("Agent[Any, Any]", agent))
        if known is not agent:
            raise Misuse(f"--agents {place}: two agents are called {agent.name!r}")
    return list(agents.values())


async def _resume(file: str, given: Sequence[str], agents: list[Agent[Any, Any]]) -> int:
    names = [agent.name for agent in agents]
    async with Archive(file) as archive:
        run_ids = list(dict.fromkeys([await _resumable(archive, each, names) for each in given]))
    several = len(run_ids) > 1
    note = partial(_note, several=several)
    ended: dict[str, str] = {}
    complaints: list[str] = []
    recovered: list[Recovery] = []
    async with System(journal=SqliteJournal(file), signals=True, drain_timeout=DRAIN) as system:
        recovery = await system.recover(agents, run_ids=run_ids, on_event=note)
        recovered.append(recovery)
        for run in recovery:
            run.resume()  # whoever calls for it wants it to go on
        for run in recovery:
            result = await _outcome(run, complaints)
            if result is None:
                ended[run.id] = "failed"
            elif (result.status, result.reason) != ("stopped", "system"):  # else it was suspended
                ended[run.id] = result.status
                _print_answer(result, several=several)
    if sum(map(len, recovered)) > len(ended) or not recovered:  # the block was left early
        raise Interrupted(signal.SIGINT)
    complaints += [f"run {run_id} was not resumed: {why}" for run_id, why in recovered[0].left.items()]
    status = complain(complaints)
    return status or int(any(each != "completed" for each in ended.values()))


async def _resumable(archive: Archive, given: str, agents: Sequence[str]) -> str:
    """The id of a run that can go on here.

    Raises:
        Misuse: it cannot.
    """
    listed, chronicle = await _unfinished(archive, given, "resume")
    run_id, began = listed.run_id, chronicle.began
    if began.agent not in agents:
        raise Misuse(f"--agents: run {run_id} is of agent {began.agent!r}, and there are only {', '.join(agents)}")
    if began.guarded:
        raise Misuse(f"run {run_id} was started with a policy: a program goes on with it, system.recover(policy=…)")
    if is_at_work(listed, chronicle) and listed.owner is not None:
        raise Misuse(f"process {listed.owner.pid} is at work on run {run_id}: it needs no resuming")
    return run_id


def _note(event: events.Event, *, several: bool) -> None:
    match event:
        case events.RunRecovered(changes=changes):
            words = "goes on" + (f", with a changed agent: {'; '.join(changes)}" if changes else "")
        case events.ApprovalRequested(tool=tool, question=question):
            words = f"{tool} waits for an approval, which cannot be given here: {question}"
        case events.QuestionAsked(tool=tool, question=question):
            words = f"{tool} asks the user, who cannot answer here: {question}"
        case _:
            words = words_for(event)
    if words is not None:
        print_note(printable(f"{event.run_id}: {words}" if several else words))


async def _outcome(run: Run[Any], complaints: list[str]) -> RunResult[Any] | None:
    """What a run ends with; None if that is not known, because another process has it or it cannot be stored."""
    try:
        return await run.result()
    except (AgentError, ProviderError, JournalError) as error:
        complaints.append(f"run {run.id}: {error}")
        result: Any = getattr(error, "result", None)
        return result


def _print_answer(result: RunResult[Any], *, several: bool) -> None:
    if several:
        print(f"{result.run_id}: {result.status} ({result.reason})")
    if result.text:
        print(printable(result.text, "\n\t"))
    sys.stdout.flush()


@contextmanager
def _log_lines() -> Generator[None]:
    """Warnings of the library are lines like ours."""
    log = logging.getLogger("greenroom")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("greenroom: %(message)s"))
    handler.addFilter(lambda record: "recovered" not in record.msg and "changed agent" not in record.msg)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


# -- stop


async def stop_run(file: str, given: str, reason: str, force: bool) -> int:
    """End a run that nobody has at work; returns the exit status."""
    async with Archive(file) as archive:
        listed, chronicle = await _unfinished(archive, given, "stop")
    run_id = listed.run_id
    if is_at_work(listed, chronicle) and listed.owner is not None and not force:
        where = f"process {listed.owner.pid} is at work on run {run_id}"
        return complain([f"{where}: stop it there, or take it from that process with --force"])
    async with SqliteJournal(file) as journal:
        below = await end_run(journal, run_id, reason)
    print(f"{run_id} stopped" + (f", and {_count(below, 'subagent')} of it" if below else ""))
    return 0


async def _unfinished(archive: Archive, given: str, verb: str) -> tuple[Listed, Chronicle]:
    """A run to do something with.

    Raises:
        Misuse: it has ended, or works for another one.
    """
    listed = await find(archive, given)
    if listed.parent_id is not None:
        raise Misuse(f"{listed.run_id} is a subagent of {listed.parent_id}: {verb} that")
    chronicle = Chronicle(await archive.read(listed.run_id))
    if listed.finished:
        raise Misuse(f"run {listed.run_id} has ended: {chronicle.standing} ({chronicle.reason})")
    return listed, chronicle


# -- prune


async def prune_runs(file: str, seconds: float) -> int:
    """Forget old runs; returns the exit status."""
    async with Archive(file) as archive:
        before, _ = await everything_in(archive)
    damage: Damaged | None = None
    async with SqliteJournal(file) as journal:
        try:
            await journal.prune(time.time() - seconds)
        except Damaged as error:
            damage = error  # it stays, and the others have been looked at
    async with Archive(file) as archive:
        after, _ = await everything_in(archive)
    print(f"{_count(len(before) - len(after), 'run')} forgotten, {len(after):,} kept")
    return complain([str(damage)] if damage is not None else [])


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
