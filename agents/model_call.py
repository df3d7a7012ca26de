"""One model call of a run: attempts, pauses between them, and what is said of them.

An attempt either completes in one piece or streams, which costs more and happens only when somebody follows. A
failure that another try may mend is tried again as `Retry` says, honouring what the provider asked for. Once an attempt
has shown text to somebody, its failure is not mended that way. An attempt that has to wait for the provider's gate, or
falls back to another provider, tells so while it is under way.

Text is never shown twice. When a run crashes while an answer streams and asks again, the new answer has to begin with
the text that was shown (`run.shown`), and only the rest of it is shown; an answer that differs fails the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

import anyio
import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from .. import journal
from ..providers import (
    BadResponse,
    ContentFiltered,
    ContextOverflow,
    Message,
    ModelEvent,
    ModelReply,
    ModelRequest,
    ProviderError,
    RefusalDelta,
    StreamInterrupted,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    delay,
    should_retry,
)
from ..providers.billing import MAY_BE_BILLED, is_unbilled
from ..providers.notices import FellBack, GateOpened, GateWaiting, ThreadOutlived, heard_by
from ..providers.prices import answering
from . import events
from .ledger import Amount, Bound
from .machine import Fact, Limited, ModelFailed, Replied
from .model_budget import ModelBudget

if TYPE_CHECKING:
    from .context_view import ContextView
    from .run_cell import RunCell


class ModelCall:
    """Carries out one `CallModel` effect for `run`. `partial` is what has been streamed so far.

    While it is `asking`, nobody knows what it will have cost; afterwards the run has been told, and `cost` is what the
    last try has cost in US dollars, if that is known. Tries that were made before a crash count.
    """

    __slots__ = (
        "_answering",
        "_budget",
        "_lost",
        "_request",
        "_run",
        "_text",
        "_thinking",
        "_unwritten",
        "_usage",
        "_view",
        "asking",
        "cost",
        "first_chunk",
        "gate_wait",
        "pausing",
        "streamed",
    )

    def __init__(self, run: RunCell, request: ModelRequest, view: ContextView | None = None) -> None:
        self._run = run
        self._request = request
        #: What can make the request shorter; once.
        self._view = view
        #: What it may come to, in a tree of runs that is bounded in that.
        self._budget = ModelBudget(run, request) if run.spending.ledger is not None else None
        #: What has been streamed, by a try that streams.
        self._text: Sequence[str] = ()
        self._thinking: Sequence[str] = ()
        self._answering: tuple[str, str] | None = None
        #: Whether it is not known what a provider has cost that another one took the place of.
        self._lost = False
        #: Whether a try is over whose use is not written down yet, and what it has used.
        self._unwritten = False
        self._usage: Usage | None = None
        self.asking = False
        #: Whether it waits before the next try.
        self.pausing = False
        self.cost: float | None = None
        #: Seconds that it has waited at gates; whether it has streamed, and seconds to the first piece of the last try.
        self.gate_wait = 0.0
        self.streamed = False
        self.first_chunk: float | None = None

    @property
    def answered_by(self) -> str | None:
        """The provider that another one has passed the call on to; None if none has."""
        return self._answering[0] if self._answering is not None else None

    @property
    def partial(self) -> Message | None:
        """The message as far as it has come, or None if nothing has."""
        parts: list[Text | Thinking] = []
        if self._thinking:
            parts.append(Thinking("".join(self._thinking)))
        if self._text:
            parts.append(Text("".join(self._text)))
        return Message("assistant", tuple(parts), partial=True) if parts else None

    async def perform(self) -> Fact:
        """Try until there is a reply or no sense in trying."""
        run = self._run
        retry = run.agent.retry
        model = run.agent.provider.model
        attempt = run.past.attempts
        if run.past.due:
            # A clock may have been set back.
            await self._pause(min(run.past.due - run.stage.sources.clock(), run.past.pause))
        while True:
            attempt += 1
            if self._budget is not None:
                over = await self._budget.take()
                if over is not None:
                    return over
            await run.voice.say(events.ModelStarted, model=model, attempt=attempt)
            await checkpoint_if_cancelled()  # whoever is stopped by now has asked nobody
            request = self._sent()
            try:
                streams = run.shown_pieces or run.voice.wants_deltas()
                with heard_by(self):
                    reply = await (self._streamed(request) if streams else run.agent.provider.complete(request))
            except ProviderError as error:
                failure = error.with_traceback(None)  # which holds this frame, and so the failure itself
                self._over(None, 0.0 if is_unbilled(error) and not self._lost else None)
                if self._budget is not None:
                    self._budget.settle_failed(self.cost is not None)
            else:
                if not isinstance(reply, ModelReply):
                    return self._cut_at(reply)
                self._over(reply.usage, self._cost(reply))
                if self._budget is not None:
                    self._budget.settle(reply.usage, self.cost, reply.message)
                withheld = _withheld(reply)
                if withheld is None:
                    await run.voice.say(
                        events.ModelCompleted,
                        model=reply.model or model,
                        stop_reason=reply.stop_reason,
                        usage=reply.usage,
                        tool_calls=len(reply.message.tool_calls),
                    )
                    over = self._budget.cut_off(reply) if self._budget is not None else None
                    if over is not None:
                        return over
                    self._unwritten = False  # it is written with the reply
                    return Replied(reply)
                failure = withheld
            shown = self._text or self._thinking
            if isinstance(failure, ContextOverflow) and not shown and await self._shorten(failure):
                continue
            pause = None
            if not shown and should_retry(failure, attempt, retry):
                pause = delay(attempt, retry_after=failure.retry_after, jitter=run.stage.sources.chance(), policy=retry)
            if pause is None:
                await run.voice.say(
                    events.ModelFailed, model=model, attempt=attempt, kind=failure.kind, error=str(failure)
                )
                return ModelFailed(failure, self.partial or failure.partial)
            run.retries += 1
            now = run.stage.sources.clock()
            self._unwritten = False
            run.write(journal.Retrying(attempt, now + pause, now, self._usage, self.cost, self.spent))
            await run.voice.say(
                events.ModelRetrying, model=model, attempt=attempt, delay=pause, kind=failure.kind, error=str(failure)
            )
            await self._pause(pause)

    async def _shorten(self, refusal: ContextOverflow) -> bool:
        """After a refusal for its length, have less in the request; False where that was done before, or cannot be."""
        run, view, self._view = self._run, self._view, None
        if run.agent.context is None:
            refusal.hint = refusal.hint or "to have long conversations cut, give Agent(context=ContextWindow(tokens=…))"
        shorter = await view.shrink(self._request) if view is not None else None
        if shorter is None:
            return False
        self._write_off()
        run.write()  # at once: an entry that holds a reply begins with it
        self._request = shorter
        if self._budget is not None:
            self._budget = ModelBudget(run, shorter)
        return True

    @property
    def spent(self) -> Amount | None:
        """What the last try counts for against limits, in a tree of runs that is bounded."""
        return self._budget.spent if self._budget is not None else None

    def _sent(self) -> ModelRequest:
        """The request, which goes out now."""
        self._answering, self.asking = None, True
        if self._budget is None:
            return self._request
        self._budget.sent()
        return self._budget.request

    def _over(self, usage: Usage | None, cost: float | None) -> None:
        """A try is over, and has used this."""
        spending = self._run.spending
        self.asking, self._unwritten, self._usage, self.cost = False, True, usage, cost
        spending.spend(cost)
        if usage is not None and self._run.result is None:
            spending.use(usage)

    def _cut_at(self, limit: Bound) -> Limited:
        """A limit has cut the answer."""
        assert self._budget is not None
        self._over(None, None)
        return self._budget.settle_cut(limit, self.partial)

    def forget(self) -> None:
        """The call is over. One that was cut may have cost something; what came to nothing is written down."""
        if self._budget is not None:
            self._budget.let_go(self.asking)
        if self.asking:
            self._over(None, None)
        self._write_off()

    def _write_off(self) -> None:
        """Have written what a try has used that came to nothing."""
        if self._unwritten and (self._usage is not None or self.cost != 0.0 or self._budget is not None):
            self._run.diary.hold(journal.Spent(self._run.diary.clock(), self._usage, self.cost, self.spent))
        self._unwritten = False

    async def _pause(self, seconds: float) -> None:
        self.pausing = True
        draining = self._run.stage.draining
        if draining is not None:
            draining.look_at(self._run)
        await anyio.sleep(max(0.0, seconds))
        self.pausing = False

    def _cost(self, reply: ModelReply) -> float | None:
        if self._lost:
            return None
        agent, extra = self._run.agent, self._request.settings.extra
        provider = answering(agent.provider, self._answering)
        return agent.prices.cost(reply, provider, extra) if provider is not None else None

    async def hear(self, notice: GateWaiting | FellBack) -> None:
        if isinstance(notice, FellBack):
            self._answering = notice.next_provider, notice.next_model
            if notice.kind in MAY_BE_BILLED:
                self._lost = True
                self._run.spending.spend(None)
        kind = events.GateWaiting if isinstance(notice, GateWaiting) else events.ModelFallback
        await self._run.voice.say(kind, **msgspec.structs.asdict(notice))

    def note(self, notice: GateOpened | ThreadOutlived) -> None:
        if isinstance(notice, ThreadOutlived):
            self._run.outlived += (notice.name,)
        else:
            self.gate_wait += notice.waited
            self._run.voice.mention(events.GateOpened, **msgspec.structs.asdict(notice))

    async def _streamed(self, request: ModelRequest) -> ModelReply | Bound:
        """The answer, or the limit that has cut it."""
        run = self._run
        known = run.shown  # by an attempt before a crash; not shown again
        now = run.stage.home.now
        asked = now()
        self.streamed, self.first_chunk = True, None
        text_so_far = self._text = list[str]()
        thinking_so_far = self._thinking = list[str]()
        async with run.agent.provider.stream(request) as stream:
            async for event in stream:
                if self.first_chunk is None:
                    self.first_chunk = now() - asked
                match event:
                    case TextDelta(text):
                        text_so_far.append(text)
                        if known:
                            text, known = _beyond(known, text)
                        if text:
                            run.shown_pieces.append(text)
                            await run.voice.say(events.ModelTextDelta, text=text)
                    case ThinkingDelta(text):
                        thinking_so_far.append(text)
                        await run.voice.say(events.ModelThinkingDelta, text=text)
                    case ToolCallDelta():
                        await run.voice.say(
                            events.ModelToolArgsDelta, index=event.index, arguments=event.arguments, name=event.name
                        )
                    case RefusalDelta():
                        pass  # it is in the reply; no answer text
                    case _:
                        assert_never(event)
                if self._budget is not None:
                    limit = self._budget.grow(_length(event), getattr(stream, "usage", None))
                    if limit is not None:
                        return limit
        if known:
            raise _diverged()
        return stream.reply


def _withheld(reply: ModelReply) -> ProviderError | None:
    """What a reply that came in order and says nothing is: no answer, where its stop reason says why."""
    message = reply.message
    if message.text or message.refusal or message.tool_calls:
        return None
    said = f"the model gave no answer (stop reason {reply.stop_reason_raw or reply.stop_reason!r})"
    if reply.stop_reason == "error":
        return BadResponse(said, retryable=True)
    return ContentFiltered(said) if reply.stop_reason == "content_filter" else None


def _length(event: ModelEvent) -> int:
    """The characters of a piece of an answer."""
    return len(event.arguments) if isinstance(event, ToolCallDelta) else len(event.text)


def _beyond(known: str, text: str) -> tuple[str, str]:
    """What of `text` goes beyond the `known` text, and what of the known text is yet to be repeated.

    Raises:
        StreamInterrupted: `text` is not the same as the known text.
    """
    common = min(len(known), len(text))
    if known[:common] != text[:common]:
        raise _diverged()
    return text[common:], known[common:]


def _diverged() -> StreamInterrupted:
    message = "the answer was asked for again after a crash, and differs from the text that had been shown"
    return StreamInterrupted(message, retryable=False)
