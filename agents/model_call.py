"""One model call of a run: attempts, pauses between them, and what is said of them.

An attempt either completes in one piece or streams, which costs more and happens only when somebody follows. A
failure that another try may mend is tried again as `Retry` says, honouring what the provider asked for. Once an attempt
has shown text to somebody, its failure is not mended that way. An attempt that has to wait for the provider's gate, or
falls back to another provider, tells so while it is under way.

Text is never shown twice. When a run crashes while an answer streams and asks again, the new answer has to begin with
the text that was shown (`run.shown`), and only the rest of it is shown; an answer that differs fails the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import anyio
import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from .. import journal
from ..providers import (
    BadResponse,
    ContentFiltered,
    Message,
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
from .machine import Fact, ModelFailed, Replied
from .model_budget import ModelBudget

if TYPE_CHECKING:
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
        "asking",
        "cost",
        "pausing",
    )

    def __init__(self, run: RunCell, request: ModelRequest) -> None:
        self._run = run
        self._request = request
        #: What it may come to, in a tree of runs that is bounded in that.
        self._budget = ModelBudget(run, request) if run.spending.ledger is not None else None
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._answering: tuple[str, str] | None = None
        #: Whether it is not known what a provider has cost that another one took the place of.
        self._lost = False
        self.asking = False
        #: Whether it waits before the next try.
        self.pausing = False
        self.cost: float | None = None

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
                self._request = self._budget.request
            await run.voice.say(events.ModelStarted, model=model, attempt=attempt)
            await checkpoint_if_cancelled()  # whoever is stopped by now has asked nobody
            self._answering, self.asking = None, True
            try:
                streams = run.shown_pieces or run.voice.wants_deltas()
                with heard_by(self):
                    reply = await (self._streamed() if streams else run.agent.provider.complete(self._request))
            except ProviderError as error:
                failure, self.asking = error, False
                usage, self.cost = None, 0.0 if is_unbilled(error) and not self._lost else None
                run.spending.spend(self.cost)
                if self._budget is not None:
                    self._budget.settle_failed(self.cost is not None)
            else:
                self.asking = False
                usage, self.cost = reply.usage, self._cost(reply)
                run.spending.spend(self.cost)
                if self._budget is not None:
                    self._budget.settle(usage, self.cost, reply.message)
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
                    if over is None:
                        return Replied(reply)
                    self._count_lost(usage)
                    return over
                failure = withheld
                if usage is not None:
                    run.spending.use(usage)
            shown = self._text or self._thinking
            pause = None
            if not shown and should_retry(failure, attempt, retry):
                pause = delay(attempt, retry_after=failure.retry_after, jitter=run.stage.sources.chance(), policy=retry)
            if pause is None:
                await run.voice.say(
                    events.ModelFailed, model=model, attempt=attempt, kind=failure.kind, error=str(failure)
                )
                if usage is not None or self.cost != 0.0:
                    run.diary.hold(journal.Spent(run.stage.sources.clock(), usage, self.cost))
                return ModelFailed(failure, self.partial or failure.partial)
            run.retries += 1
            now = run.stage.sources.clock()
            run.write(journal.Retrying(attempt, now + pause, now, usage, self.cost))
            await run.voice.say(
                events.ModelRetrying, model=model, attempt=attempt, delay=pause, kind=failure.kind, error=str(failure)
            )
            await self._pause(pause)

    def _count_lost(self, usage: Usage | None) -> None:
        """Count an answer that is none."""
        run = self._run
        if usage is not None:
            run.spending.use(usage)
        run.diary.hold(journal.Spent(run.stage.sources.clock(), usage, self.cost))

    def forget(self) -> None:
        """The call is over. One that was cut may have cost something."""
        if self._budget is not None:
            self._budget.let_go(self.asking)
        if self.asking:
            self._run.spending.spend(None)
            self._run.diary.hold(journal.Spent(self._run.diary.clock()))

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
            self._run.outlived.append(notice.name)
        else:
            self._run.voice.mention(events.GateOpened, **msgspec.structs.asdict(notice))

    async def _streamed(self) -> ModelReply:
        run = self._run
        known = run.shown  # by an attempt before a crash; not shown again
        async with run.agent.provider.stream(self._request) as stream:
            async for event in stream:
                match event:
                    case TextDelta(text):
                        self._text.append(text)
                        text, known = _beyond(known, text)
                        if text:
                            run.shown_pieces.append(text)
                            await run.voice.say(events.ModelTextDelta, text=text)
                    case ThinkingDelta(text):
                        self._thinking.append(text)
                        await run.voice.say(events.ModelThinkingDelta, text=text)
                    case ToolCallDelta():
                        await run.voice.say(
                            events.ModelToolArgsDelta, index=event.index, arguments=event.arguments, name=event.name
                        )
                    case RefusalDelta():
                        pass  # it is in the reply; no answer text
                    case _:
                        assert_never(event)
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
