"""What is left unfinished in a journal goes on here.

Each run that nobody has at work is read, judged and, if its agent is here, taken over. A run may be the reason why its
process died; so where a process died, those of its runs count as *suspect* that had a tool at work (all of them, if
none had), and one that has been suspect too often in a row, without a tool's result in between, is parked: it is left
alone until somebody asks for it by its id.

Subagents are not taken over by themselves. The run that they work for asks for them again when it goes on; if it has
ended, so have they.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from .. import journal
from ..journal import Damaged, Fenced, JournalError, Listed
from .chronicle import Chronicle
from .closure import end_one
from .diary import Diary
from .handoff import last_of
from .lost_runs import UNREADABLE
from .orphans import ABANDONED
from .recovery_terms import Terms, Unfinished
from .resumption import Resumption, input_of, kept_by, limits_of
from .run import Run
from .run_cell import RunCell
from .run_options import RunOptions

if TYPE_CHECKING:
    from .stage import RunStage

_log = logging.getLogger("greenroom")


class Recovery(Sequence[Run[Any]]):
    """The runs that go on, in the order in which they were begun; and what became of the others.

    Attributes:
        runs: the handles of those that go on.
        parked: why a run is left alone until it is asked for by its id, by run id.
        left: why a run does not go on here, by run id: its agent is not here, another process has it, it is damaged.
        changed: what has become different about the agents of runs that go on, by run id.
    """

    def __init__(self) -> None:
        self.runs: tuple[Run[Any], ...] = ()
        self.parked: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.changed: dict[str, tuple[str, ...]] = {}

    @overload
    def __getitem__(self, index: int) -> Run[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Run[Any]]: ...

    def __getitem__(self, index: int | slice) -> Run[Any] | Sequence[Run[Any]]:
        return self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run[Any]]:
        return iter(self.runs)

    def __repr__(self) -> str:
        return f"<Recovery: {len(self.runs)} runs go on, {len(self.parked)} parked, {len(self.left)} left>"


class _Found(NamedTuple):
    """A run that can go on."""

    listed: Listed
    chronicle: Chronicle
    entries: list[bytes]


class Recoverer:
    """Takes over the runs of one stage's journal.

    Args:
        stage: where they go on.
        terms: what is to be recovered, and with what it goes on.
    """

    __slots__ = ("_result", "_stage", "_terms")

    def __init__(self, stage: RunStage, terms: Terms) -> None:
        self._stage = stage
        self._terms = terms
        self._result = Recovery()

    async def recover(self, start: Callable[[RunCell], None]) -> Recovery:
        """Take over what can be, each run with `start`; returns when all of them are durably ours."""
        self._stage.agents.update(self._terms.agents)
        found, orphans = await self._read()
        for listed in orphans:
            await self._end_orphan(listed)
        suspects = self._suspects(found)
        cells: list[tuple[RunCell, Resumption]] = []
        for each in found:
            chronicle = each.chronicle
            suspect = chronicle.run_id in suspects
            if self._terms.run_ids is None and suspect and chronicle.suspicion >= self._terms.max_claims:
                await self._park(each)
                continue
            agent = self._terms.agents[chronicle.began.agent]
            resumption = Resumption(agent, each.entries, suspect=suspect, epoch=each.listed.epoch)
            cell = self._cell(resumption)
            if cell is None:
                continue
            if self._stage.draining is not None:
                self._leave(cell.name, "the System is draining and starts nothing new")
                continue
            if cell.name in self._stage.pool:  # somebody else recovers here, too
                continue
            start(cell)
            cell.agent.freeze()
            cells.append((cell, resumption))
        await self._settle(cells)
        return self._result

    async def _read(self) -> tuple[list[_Found], list[Listed]]:
        """The runs that can go on, and subagents of runs that have ended."""
        listed, whole = await self._listed()
        unfinished = {each.run_id for each in listed}
        found: list[_Found] = []
        orphans: list[Listed] = []
        for each in listed:
            if not self._is_wanted(each):
                continue
            if each.parent_id in unfinished:
                if self._terms.run_ids is not None:
                    self._leave(each.run_id, f"it is a subagent, and goes on with {each.parent_id!r}")
            elif self._is_elsewhere(each):
                continue
            elif each.parent_id is None:
                await self._read_one(each, found)
            elif whole:
                orphans.append(each)
        for run_id in self._terms.run_ids or ():
            if run_id not in unfinished:
                self._leave(run_id, "the journal has no unfinished run of that id")
        return found, orphans

    async def _listed(self) -> tuple[Sequence[Listed], bool]:
        """The unfinished runs, and whether these are all."""
        try:
            return await self._stage.journal.runs(unfinished=True), True
        except Damaged as error:
            self._leave(error.run_id or "(unknown)", str(error))
            return error.others, False

    def _is_wanted(self, listed: Listed) -> bool:
        asked = self._terms.run_ids is not None and listed.run_id in self._terms.run_ids
        if listed.run_id in self._stage.pool:
            if asked:
                self._leave(listed.run_id, "it is at work here")
            return False
        return asked or self._terms.run_ids is None

    async def _read_one(self, listed: Listed, found: list[_Found]) -> None:
        try:
            entries = await self._stage.journal.read(listed.run_id)
            chronicle = Chronicle(entries)
        except UNREADABLE as error:
            self._leave(listed.run_id, str(error))
        else:
            if self._may_go_on(chronicle):
                found.append(_Found(listed, chronicle, entries))

    def _is_elsewhere(self, listed: Listed) -> bool:
        owner = listed.owner
        if self._terms.takeover or owner is None or not owner.is_running:
            return False
        who = "another System of this process" if owner.is_here else f"process {owner.pid}"
        self._leave(listed.run_id, f"{who} is at work on it (recover(takeover=True) takes it over)")
        return True

    def _may_go_on(self, chronicle: Chronicle) -> bool:
        began, run_id = chronicle.began, chronicle.run_id
        if self._terms.run_ids is None and chronicle.standing == "parked":
            self._result.parked[run_id] = chronicle.reason
            return False
        if began.agent not in self._terms.agents:
            self._leave(run_id, f"its agent {began.agent!r} is not among agents=")
            return False
        if last_of(self._terms.agents[began.agent], chronicle.handed_over) is None:
            self._leave(
                run_id, f"it was handed over to {chronicle.handed_over[-1]!r}, to whom its agent no longer does"
            )
            return False
        if began.guarded and self._terms.policy is None:
            self._leave(run_id, "it was started with a policy=, and must not go on without: recover(policy=…)")
            return False
        return True

    def _leave(self, run_id: str, why: str) -> None:
        self._result.left[run_id] = why
        _log.warning("run %s is not recovered: %s", run_id, why)

    def _suspects(self, found: Sequence[_Found]) -> set[str]:
        """The runs that may be the reason why their process died."""
        died = [each.chronicle for each in found if each.chronicle.standing == "unfinished"]
        return {each.run_id for each in died if each.at_work} or {each.run_id for each in died}

    async def _end_orphan(self, listed: Listed) -> None:
        try:
            await end_one(self._stage.journal, listed.run_id, ABANDONED, self._stage.sources.clock, listed.epoch)
        except (JournalError, *UNREADABLE) as error:
            self._leave(listed.run_id, str(error))

    async def _park(self, found: _Found) -> None:
        run_id, chronicle = found.listed.run_id, found.chronicle
        why = f"its process died {chronicle.suspicion + 1} times in a row while it was at work: "
        why += ", ".join(sorted(self._tools_at_work(chronicle))) or "with the model"
        diary = Diary(self._stage.journal, run_id, self._stage.sources.clock)
        try:
            await diary.reclaim(found.listed.epoch)
            diary.write(journal.Parked(why, diary.clock()))
            await diary.durable()
        except JournalError as error:
            self._leave(run_id, str(error))
        else:
            self._result.parked[run_id] = why
            _log.error("run %s is parked: %s; recover(run_ids=[%r]) goes on with it", run_id, why, run_id)
        diary.release()

    def _tools_at_work(self, chronicle: Chronicle) -> set[str]:
        calls = [call for message in chronicle.messages for call in message.tool_calls]
        return {call.name for call in calls if call.id in chronicle.at_work}

    def _cell(self, resumption: Resumption) -> RunCell | None:
        chronicle = resumption.chronicle
        began = chronicle.began
        agent = self._terms.agents[began.agent]
        history, prompt = input_of(chronicle)
        about = Unfinished(
            began.run_id, began.agent, began.user_id, began.conversation_id, tuple(began.tags), began.metadata
        )
        try:
            deps = self._terms.deps_for(about)
        except Exception as error:
            self._leave(began.run_id, f"deps_for= raised {type(error).__name__}: {error}")
            return None
        options = RunOptions(
            limits=limits_of(chronicle),
            deps=deps,
            user_id=began.user_id,
            conversation_id=began.conversation_id,
            tags=about.tags,
            metadata=began.metadata,
            on_event=self._terms.on_event,
            policy=self._terms.policy,
            approve=self._terms.approve,
            kept=kept_by(chronicle),
            answers=began.answers,
            stop_when=self._terms.stop_when if self._terms.stop_when is not None else agent.stop_when,
            stop_poll=agent.stop_poll,
        )
        stage = self._stage
        return RunCell(
            agent, prompt, history, options, stage, run_id=began.run_id, detached=True, resumption=resumption
        )

    async def _settle(self, cells: Sequence[tuple[RunCell, Resumption]]) -> None:
        runs: list[Run[Any]] = []
        for cell, resumption in cells:
            await resumption.settled.wait()
            if isinstance(resumption.error, Fenced):
                self._leave(cell.name, "somebody else has claimed it meanwhile")
                continue
            if resumption.error is not None:
                self._leave(cell.name, str(resumption.error))
                continue
            runs.append(Run(cell))
            if resumption.changes:
                self._result.changed[cell.name] = resumption.changes
                _log.warning("run %s goes on with a changed agent: %s", cell.name, "; ".join(resumption.changes))
        self._result.runs = tuple(runs)
