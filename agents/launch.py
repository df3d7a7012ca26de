"""From the arguments of a run to a running one: where it lives, and as whose child.

A run lives in the System it was given, else in the run whose tool this code is in (as a subagent), else in the System
that is open in this event loop, else on the common stage of the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast, get_args

import msgspec

from .. import journal
from ..journal import RunExists
from .approvals import Answer, Approver, check_approve, resume
from .enrolment import enrol
from .history import History, Prompt, read_conversation
from .hooks import Audience
from .limits import Limits
from .orphans import Orphan, outlives
from .place import current_place
from .policy import Policy, check_policy
from .remaining import bounded
from .resumption import Resumption
from .run import Run
from .run_cell import RunCell
from .run_options import RunOptions, WhenBusy
from .stage import RunStage, open_system
from .stop_poll import StopWhen, check_stop_when
from .stop_token import StopToken
from .talks import Talk

if TYPE_CHECKING:
    from .agent import Agent
    from .system import System
    from .tool_cell import ToolCell

_WHEN_BUSY = get_args(WhenBusy)


class Launch:
    """The arguments of one run, checked.

    Raises:
        TypeError, ValueError: no prompt and no history, or an argument that cannot work; the message names it.
    """

    __slots__ = (
        "_continues",
        "_talk",
        "_when_busy",
        "agent",
        "history",
        "number",
        "options",
        "prompt",
        "run_id",
        "system",
    )

    def __init__(
        self,
        agent: Agent[Any, Any],
        prompt: Prompt | None,
        *,
        deps: Any = None,
        system: System | None = None,
        history: History | None = None,
        limits: Limits | None = None,
        on_event: Callable[[Any], Any] | None = None,
        stop: StopToken | None = None,
        stop_when: StopWhen | None = None,
        stop_poll: float | None = None,
        user_id: str | None = None,
        conversation_id: str | None = None,
        run_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        approve: Approver | None = None,
        approvals: Mapping[str, Answer] | None = None,
        when_busy: WhenBusy = "wait",
        talk: Talk | None = None,
    ) -> None:
        if prompt is None and history is None:
            raise TypeError("a run needs a prompt, or a history to go on from")
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits= takes Limits(turns=…), not {limits!r}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event= takes a function of one event, not {on_event!r}")
        if stop is not None and not isinstance(stop, StopToken):
            raise TypeError(f"stop= takes a StopToken, not {stop!r}")
        check_stop_when(stop_when, stop_poll)
        if user_id is not None:
            check_id("user_id", user_id)
        if conversation_id is not None:
            check_id("conversation_id", conversation_id)
        if run_id is not None:
            check_id("run_id", run_id)
            if "/" in run_id:
                raise ValueError(f"run_id= must have no slash, which separates the names in a tree, not {run_id!r}")
        if tags != ():
            tags = _read_tags(tags)
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"metadata= takes a dictionary, not {metadata!r}")
        check_policy(policy)
        check_approve(approve)
        if when_busy not in _WHEN_BUSY:
            raise ValueError(f"when_busy={when_busy!r} is not one of {', '.join(map(repr, _WHEN_BUSY))}")
        self.agent = agent
        self._when_busy: WhenBusy = when_busy
        #: The conversation that it takes part in; and whether it goes on with the one of its id, where that is kept.
        self._talk = talk
        self._continues = conversation_id is not None and history is None and run_id is None
        self.history, self.prompt = read_conversation(history, prompt)
        kept, answers = None, {}
        if approvals is not None:
            if prompt is not None:
                raise TypeError("approvals= goes on with calls that wait in history=: give the prompt to the next run")
            self.history, kept, answers = resume(self.history, approvals)
        self.system = system
        self.run_id = run_id
        #: The tool call that the run was asked for in, and its number there; None of one that has not been given any.
        self.number: tuple[ToolCell, int] | None = None
        self.options = RunOptions(
            deps=deps,
            limits=limits if limits is not None else agent.limits,
            user_id=user_id,
            conversation_id=conversation_id,
            tags=tuple(tags),
            metadata=metadata if metadata is not None else {},
            on_event=on_event,
            stop=stop,
            stop_when=stop_when if stop_when is not None else agent.stop_when,
            stop_poll=stop_poll if stop_poll is not None else agent.stop_poll,
            policy=policy,
            approve=approve,
            kept=kept,
            answers=answers,
        )

    def parent(self) -> tuple[RunCell, str] | None:
        """The run, and its tool call, that this code is in; None outside any tool, or with another System given."""
        place = current_place.get()
        run = place.run if place is not None else None
        if place is None or run is None or not run.stage.home.here:
            return None
        if self.system is not None and self.system.stage is not run.stage:
            return None
        return run, place.call_id

    def next_number(self) -> tuple[ToolCell, int] | None:
        """Take the number of the next run of the tool call that this code is in, if it is in one.

        A call that runs once more finds its subagents by their numbers. So they go by the order in which runs are asked
        for, not by that in which tasks begin, which on trio is left to chance.
        """
        parent = self.parent()
        caller = parent[0].tool_call(parent[1]) if parent is not None else None
        return (caller, caller.next_child()) if caller is not None else None

    def numbered(self) -> Self:
        """The launch itself, with the next number for its run."""
        self.number = self.next_number()
        return self

    def _take_number(self, caller: ToolCell) -> int:
        """The number that is reserved, once; then, and with another call, the next one."""
        number, self.number = self.number, None
        return number[1] if number is not None and number[0] is caller else caller.next_child()

    def found_system(self) -> System | None:
        """The System to live in, when this code is in no tool.

        Raises:
            SystemClosed: the System that was given is not open.
            RuntimeError: it lives in another event loop.
            SeveralSystems: none was given, and several are open.
        """
        if self.system is None:
            return open_system()
        self.system.refuse_elsewhere()
        return self.system

    async def cell(
        self, stage: RunStage, parent: tuple[RunCell, str] | None, *, followable: bool, detached: bool = False
    ) -> RunCell:
        """The actor of the run; not started yet.

        Raises:
            SystemDraining, SystemBusy: the System takes no new runs, or no more.
            ConversationBusy: another run of its conversation has not ended.
        """
        if parent is not None:
            return await self._subagent(stage, *parent, followable)
        stage.refuse_when_draining()
        stage.refuse_without(self.options)
        if stage.queue is not None:
            stage.queue.book()
        try:
            talk = self._talk
            if talk is None and self._continues and stage.talks is not None and stage.talks.lasting:
                talk = stage.talks.get(self.options.conversation_id or "")
            if talk is not None:
                return await self._next_in(talk, stage, followable, detached)
            return RunCell(
                *(self.agent, self.prompt, self.history, self.options, stage),
                run_id=self.run_id,
                followable=followable,
                detached=detached,
                booked=stage.queue is not None,
            )
        except BaseException:
            if stage.queue is not None:
                stage.queue.strike()
            raise

    async def _next_in(self, talk: Talk, stage: RunStage, followable: bool, detached: bool) -> RunCell:
        """The actor of the next run of a conversation, which is enrolled: so nobody else has the same number."""
        await talk.enter(self._when_busy)
        try:
            tried = ""
            while True:
                stage.refuse_when_closing()  # that may have begun meanwhile
                await talk.load(stage, self._when_busy)
                stage.refuse_when_closing()
                run_id = talk.run_id(talk.count + 1)
                history, prompt = read_conversation(talk.messages, self.prompt)
                cell = RunCell(
                    *(self.agent, prompt, history, self.options, stage),
                    run_id=run_id,
                    followable=followable,
                    detached=detached,
                    booked=stage.queue is not None,
                    talk=talk,
                )
                try:
                    enrol(cell)
                    await cell.diary.durable()
                except RunExists:
                    cell.diary.forget()
                    if run_id == tried:
                        raise  # it is no run of this conversation
                    tried, talk.loaded = run_id, False  # another process was faster: go on from there
                except BaseException:
                    cell.diary.close("stopped", "cancelled")
                    raise
                else:
                    talk.run = Run(cell)
                    return cell
        except BaseException:
            talk.leave()
            raise

    async def _subagent(self, stage: RunStage, above: RunCell, call_id: str, followable: bool) -> RunCell:
        run_id, resumption = self.run_id, None
        caller = above.tool_call(call_id)
        if caller is not None:
            run_id, resumption = await self._below(caller)
        return RunCell(
            *(self.agent, self.prompt, self.history, inherited(self.options, above.options), stage),
            run_id=run_id,
            run_parent=above,
            call_id=call_id,
            followable=followable,
            resumption=resumption,
        )

    async def background(self, caller: ToolCell, orphan: Orphan) -> Run[Any]:
        """Start a run in the background of the run whose tool call this is.

        Raises:
            LimitExceeded: a run above allows no more subagents, or none so deep.
            RuntimeError: one that may outlive its run needs a System to go on in; or its run is over.
            RunExists: the journal knows another run of that id.
        """
        above = caller.run
        stage = above.stage
        if above.is_over:
            raise RuntimeError(f"run {above.name!r} is over, and begins no more subagents")
        group = above.group if orphan == "stop" else stage.group
        if group is None:
            raise RuntimeError(f"orphan={orphan!r} needs a System for the run to go on in: async with System(): …")
        run_id = self.run_id or above.child_id(caller, self._take_number(caller))
        known = above.background_runs.runs.get(run_id) if caller.again else None
        if known is not None:
            return known
        found: Any = stage.pool.find(run_id) if caller.again and orphan != "stop" else None
        if found is not None:
            return Run(found)
        resumption = await self._begun_before(run_id, caller) if caller.again else None
        options = inherited(self.options, above.options)
        if outlives(orphan):
            options = msgspec.structs.replace(options, limits=bounded(options.limits, above))
        cell = above.child(self.agent, self.prompt, self.history, options, run_id, caller.call_id, orphan, resumption)
        over = cell.spending.admit()
        if over is not None:
            raise over
        place = above.place_of(caller).removeprefix(f"{above.name}.")
        above.write(journal.Spawned(run_id, self.agent.name, orphan, above.diary.clock(), place))
        try:
            if resumption is None:
                enrol(cell)
                await cell.diary.durable()
            cell.start_in(group)
        except BaseException:
            cell.discard()
            raise
        self.agent.freeze()
        return above.background_runs.add(cell)

    async def _begun_before(self, run_id: str, caller: ToolCell) -> Resumption | None:
        """What a call that runs once more had begun before the crash, and had not yet written down."""
        entries = await caller.run.stage.journal.read(run_id)
        if not entries:
            return None
        resumption = Resumption(self.agent, entries)
        began = resumption.chronicle.began
        if (began.call_id, began.agent) != (caller.call_id, self.agent.name):
            raise RunExists(run_id)
        return resumption

    async def _below(self, caller: ToolCell) -> tuple[str, Resumption | None]:
        """The id of a subagent of this call. A call that runs once more goes on with what it had begun."""
        if self.run_id is not None:
            return self.run_id, await self._of_that_id(self.run_id, caller) if caller.again else None
        run_id = caller.run.child_id(caller, self._take_number(caller))
        if not caller.again:
            return run_id, None
        begun = await caller.begun()
        found = begun.take(self.agent.name, self.history, self.prompt, run_id)
        if found is not None:
            return found[0], Resumption(self.agent, found[1])
        while begun.knows(run_id):
            run_id = caller.run.child_id(caller, caller.next_child())
        return run_id, None

    async def _of_that_id(self, run_id: str, caller: ToolCell) -> Resumption | None:
        entries = await caller.run.stage.journal.read(run_id)
        if not entries:
            return None
        resumption = Resumption(self.agent, entries)
        if not resumption.is_of(caller, self.agent.name, self.history, self.prompt):
            raise RunExists(run_id)
        return resumption


def inherited(options: RunOptions, above: RunOptions) -> RunOptions:
    """The options of a subagent: what says for whom it works, and with what, it has from the run above if not given."""
    given: dict[str, Any] = {
        name: getattr(above, name)
        for name in ("deps", "user_id", "conversation_id")
        if getattr(options, name) is None and getattr(above, name) is not None
    }
    return msgspec.structs.replace(options, **given) if given else options


def check_agent(form: str, agent: object) -> None:
    """Refuse what is no agent; `form` is how the call is written.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(getattr(agent, "audience", None), Audience):
        method = form.partition("(")[0].rpartition(".")[2]
        raise TypeError(f"{method}() takes an agent first: {form}, not {agent!r}")


def check_id(name: str, value: object) -> None:
    """Refuse what is no id.

    Raises:
        TypeError, ValueError: it is no text, or empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}= takes text, not {value!r}: write {name}={str(value)!r}")
    if not value:
        raise ValueError(f"{name}= must not be empty; leave it out, or give None")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}= must be text that UTF-8 can hold, not {value!r}") from None


def _read_tags(tags: object) -> tuple[str, ...]:
    if tags is None:
        return ()
    if isinstance(tags, str):
        raise TypeError(f"tags= takes a list of texts: write tags=[{tags!r}]")
    if isinstance(tags, Mapping) or not isinstance(tags, Iterable):
        raise TypeError(f"tags= takes a list of texts, not {tags!r}")
    texts = tuple(cast("Iterable[str]", tags))
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"tags= takes a list of texts; {text!r} is none")
    return texts
