"""What a run sends of its conversation: counted, and cut when it outgrows the agent's `ContextWindow`.

The run's machine keeps everything; a view is made of it for each request. It looks at each message once, when it is
new, so a turn costs as much as it has brought. What is cut, and where, is decided in `context_cut`; here it is counted,
summarised, told and written down.

A summary is in the journal, so a run that goes on has it. What a function has returned holds until it is asked again,
and is not written down.

Making room has an end. A summary is made at most once to make room, and is smaller than half of what it replaces; what
a function returns must fit; whatever does not fit then fails the run.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from anyio import to_thread

from .. import journal
from ..providers import ContextOverflow, Message, ModelRequest
from ..providers.messages import kind_of
from . import events
from .context import RunContext
from .context_cut import SHARE, ContextCut
from .context_tally import Size, Weighed, weigh
from .context_window import OverflowContext
from .repair import repaired
from .summary import rendered, summarise, write_spent
from .token_count import TextCounter, by_chars, checked, count_messages, count_tools, tiktoken_counter
from .trimming import cut_text

if TYPE_CHECKING:
    from .run_cell import RunCell

Source: TypeAlias = Literal["window", "provider"]

#: The fewest tokens that are worth a summary.
LEAST_SUMMARY = 16

_log = logging.getLogger("greenroom")


class ContextView:
    """The view of one run.

    Args:
        run: whose it is; its agent has a window.
    """

    __slots__ = ("_beside", "_beside_key", "_count", "_cut", "_restored", "_run", "_summaries", "_window")

    def __init__(self, run: RunCell) -> None:
        window = run.agent.context
        assert window is not None
        self._run = run
        self._window = window
        self._cut = ContextCut(window)
        self._count: TextCounter | None = None
        if window.count == "chars":
            self._count = by_chars
        elif window.count != "tiktoken":
            self._count = checked(window.count)
        #: Tokens of instructions and tools, and what they were counted for.
        self._beside = 0
        self._beside_key: tuple[Any, ...] | None = None
        self._restored: tuple[int, str] | None = None
        self._summaries = 0

    def restore(self, count: int, text: str) -> None:
        """The run goes on, and had this summary of so many messages."""
        if self._window.overflow == "summarise":
            self._restored = count, text

    # -- for the model call

    async def fit(self, request: ModelRequest) -> ModelRequest:
        """The request as it fits the window.

        Raises:
            ContextOverflow: what must be sent does not fit, or a function that was to make room has made none.
        """
        await self._take(request)
        cut, window = self._cut, self._window
        room = window.tokens - self._beside if window.tokens is not None else None
        if window.overflow == "drop":
            place, before = cut.walked(room), cut.size
            if cut.cut_at(place):
                await self._say_overflow("window", before)
                await self._say_compacted("drop", before)
        elif cut.is_over(room):
            await self._say_overflow("window", cut.size)
            await self._make_room("window", room)
        if room is not None and cut.size.tokens > room:
            raise self._too_long()
        return self._with(request)

    async def shrink(self, request: ModelRequest) -> ModelRequest | None:
        """The request with half of what was sent, after the provider has refused it; None where nothing can go."""
        before = self._cut.size
        await self._say_overflow("provider", before)
        await self._make_room("provider", max(0, (before.tokens + self._beside) // 2 - self._beside))
        return self._with(request) if self._cut.size.tokens < before.tokens else None

    def _with(self, request: ModelRequest) -> ModelRequest:
        return ModelRequest(
            self._cut.messages,
            tools=request.tools,
            instructions=request.instructions,
            settings=request.settings,
            output_schema=request.output_schema,
        )

    # -- looking at each message once

    async def _take(self, request: ModelRequest) -> None:
        """Take what has come to the conversation since the last request."""
        new = request.messages[len(self._cut.tally) :]
        key = (request.instructions, tuple(request.tools), request.output_schema)
        beside = request if self._beside_key != key else None
        if self._window.count == "tiktoken" and (new or beside):
            counted = await to_thread.run_sync(self._weigh, new, beside, abandon_on_cancel=True)
        else:
            counted = self._weigh(new, beside)
        self._count, weighed, tokens = counted
        if tokens is not None:
            self._beside, self._beside_key = tokens, key
            self._cut.count_note(self._count)
        self._cut.add(weighed)
        if self._restored is not None:
            self._cut.restore(*self._restored, self._count)
            self._restored = None
        if any(old is not each.message for old, each in zip(new, weighed, strict=True)):
            now = self._cut.size
            gone = count_messages(new, self._count) - sum([each.tokens for each in weighed])
            await self._say_compacted("cap", Size(now.messages, now.tokens + gone))

    def _weigh(
        self, messages: Sequence[Message], beside: ModelRequest | None
    ) -> tuple[TextCounter, list[Weighed], int | None]:
        """Count messages, and what is sent beside them. Perhaps in a thread, of which nobody wants to know any more."""
        count, window = self._count or self._load(), self._window
        weighed = [weigh(message, window.message_tokens, window.keep_tool_calls, count) for message in messages]
        if beside is None:
            return count, weighed, None
        tools = count_tools(beside.tools, beside.output_schema, count)
        return count, weighed, count(beside.instructions or "") + tools

    def _load(self) -> TextCounter:
        try:
            return tiktoken_counter(self._run.agent.provider.model)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            _log.warning("run %s counts characters: tiktoken has no vocabulary (%s)", self._run.name, what)
            return by_chars

    @property
    def _counter(self) -> TextCounter:
        assert self._count is not None
        return self._count

    # -- making room

    async def _make_room(self, source: Source, room: int | None) -> None:
        """Make the conversation fit; after a refusal of the provider, come down to this, as far as that can be had."""
        goal = int(room * SHARE) if room is not None and source == "window" else room
        if callable(self._window.overflow):
            await self._ask_function(source, room)
        elif self._window.overflow == "summarise":
            await self._summarise(goal, room)
        else:
            await self._drop(goal)

    async def _drop(self, goal: int | None, error: str | None = None) -> None:
        before = self._cut.size
        self._cut.drop(goal)
        if self._cut.size != before:
            await self._say_compacted("drop", before, error)

    async def _summarise(self, goal: int | None, room: int | None) -> None:
        """Have what is left out summarised; leave it out all the same where that fails."""
        run, cut, count, before = self._run, self._cut, self._counter, self._cut.size
        plan = cut.plan_summary(goal, room, count)
        if plan is None or plan.most < LEAST_SUMMARY:
            await self._drop(goal, "there is no room for a summary")
            return
        self._summaries += 1
        name = f"{run.name}.{run.voice.turn}.summary.{self._summaries}"
        text = rendered(plan.messages, cut.earlier, goal if goal is not None else before.tokens, count)
        made = await summarise(run, text, name)
        if not made.text:
            write_spent(run, made)
            what = "run %s: %d messages could not be summarised, and the oldest are left out instead: %s"
            _log.warning(what, run.name, len(plan.messages), made.error)
            await self._drop(goal, made.error)
            return
        text = cut_text(made.text, plan.most, count)
        position = cut.summarise(plan.cut, text, count)
        run.write(journal.Summarised(position, text, run.diary.clock(), made.usage, made.cost, made.spent))
        await run.diary.durable()
        await self._say_compacted("summarise", before)

    async def _ask_function(self, source: Source, room: int | None) -> None:
        """Have the function of the window make room.

        Raises:
            ContextOverflow: it has made none, and the window needs it.
        """
        overflow: Any = self._window.overflow
        cut, count, before, sent = self._cut, self._counter, self._cut.size, self._cut.messages
        most = cut.most_messages()
        context = OverflowContext(
            tokens=before.tokens,
            allowed=room,
            messages=most,
            source=source,
            count=lambda messages: count_messages(messages, count),
            run=RunContext(self._run),
        )
        given: Any = overflow(list(sent), context)
        if inspect.isawaitable(given):
            given = await given
        made = list(repaired(_read_messages(given)))
        tokens = count_messages(made, count)
        allowed = room if source == "window" else before.tokens - 1
        fits = (allowed is None or tokens <= allowed) and (most is None or len(made) <= most)
        if made and fits and _ends_alike(made, sent):
            cut.replace(made, tokens)
            await self._say_compacted("custom", before)
            return
        error = (
            f"the function of ContextWindow(overflow=) made no progress: of {before.messages} messages with "
            f"{before.tokens:,} tokens it made {len(made)} with {tokens:,}; it must return at most "
            f"{allowed if allowed is not None else before.tokens:,} tokens that end with what is to be answered"
        )
        if source == "window":
            raise ContextOverflow(error)
        _log.warning("run %s: %s", self._run.name, error)

    def _too_long(self) -> ContextOverflow:
        window, tokens = self._window, self._cut.size.tokens + self._beside
        remedy = "" if window.message_tokens is not None else ", or message_tokens= to have long messages cut"
        return ContextOverflow(
            f"what must be sent has {tokens:,} tokens by our count, {self._beside:,} of them for instructions and "
            f"tools, and the context window takes {window.tokens:,}: raise ContextWindow(tokens=…){remedy}"
        )

    # -- events

    async def _say_overflow(self, source: Source, size: Size) -> None:
        tokens, allowed = size.tokens + self._beside, self._window.tokens
        facts = {"tokens": tokens, "source": source, "allowed": allowed, "messages": size.messages}
        await self._run.voice.say(events.ContextOverflowed, **facts)

    async def _say_compacted(self, how: str, before: Size, error: str | None = None) -> None:
        after = self._cut.size
        await self._run.voice.say(
            events.ContextCompacted,
            how=how,
            messages_before=before.messages,
            messages_after=after.messages,
            tokens_before=before.tokens + self._beside,
            tokens_after=after.tokens + self._beside,
            error=error,
        )


def _ends_alike(made: Sequence[Message], sent: Sequence[Message]) -> bool:
    """Whether what a function made ends with what is to be answered: as it was, or in new words. What was said before
    is none of these.
    """
    last, asked = made[-1], sent[-1]
    return last == asked or ((last.role == "assistant") is (asked.role == "assistant") and last not in sent)


def _read_messages(given: object) -> Sequence[Message]:
    listed = cast("Sequence[Any]", given) if isinstance(given, Sequence) else [given]
    if not all(isinstance(each, Message) for each in listed) or isinstance(given, Message | str):
        raise TypeError(
            f"the function of ContextWindow(overflow=) must return a list of Messages, not {kind_of(given)}"
        )
    return listed
