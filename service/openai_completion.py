"""An answer on its way: a run is followed to its end, and what it says goes to the client.

The answer begins when there is something to say, the run has ended, or nothing has come for as long as a stream may be
silent. So an error that comes before the first word has a status of its own, and clients that know which ones pass try
again; later it is an event of the stream, and the stream ends there.

Nobody can be asked through this endpoint. A run that asks for an approval, or asks the user something, is stopped, and
the answer is an error that says what was asked, unless its client has said that somebody else will answer
(``on_ask="wait"``): the service's other routes can.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from anyio import move_on_after
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..agents import Agent, LimitExceeded, PriceUnknown, ReaderDetached, RunResult, events
from ..agents.run import Run
from ..providers import ContentFiltered
from .event_stream import SSE, PieceStream, while_connected
from .known_runs import KnownRun
from .openai_answers import (
    Answer,
    Delta,
    FinishReason,
    content_of,
    error_frame,
    finish_reason_of,
    refusal_of,
    shows_only_its_end,
)
from .openai_errors import ApiError, is_for_the_log, of_failure, of_stop
from .openai_request import Asked
from .openai_saying import Saying, ToolNews

if TYPE_CHECKING:
    from .app import Service

#: Bytes that go out at once where several chunks wait.
PIECE_BYTES = 16_384

_log = logging.getLogger("greenroom")


class Attended:
    """A run on its way to an answer, and what it has asked while nobody could say.

    Args:
        known: the run.
        agent: what it was started of.
        asked: what the client wants.
        deltas: whether the answer is wanted as it grows.
    """

    def __init__(self, known: KnownRun, agent: Agent[Any, Any], asked: Asked, *, deltas: bool) -> None:
        self.run: Run[Any] = known.run
        self.agent = agent
        self.headers = {"x-request-id": known.run.id}
        self.answer = Answer(known.run.id, known.started_at.timestamp(), asked.model, asked.include_usage, asked.unused)
        self._deltas = deltas
        self._waits = asked.on_ask == "wait"
        self._unanswered: ApiError | None = None
        #: Whether the run has ended, and nothing is left to be read.
        self.over = False
        self.reader = self.run.events(deltas=deltas)

    async def next_event(self) -> events.Event | None:
        """The next event; None where some are missing, and at the end (`over`). Cancelling it loses nothing."""
        try:
            event = await anext(self.reader)
        except ReaderDetached as error:
            self.reader = self.run.events(error.since, deltas=self._deltas)
            return None
        except Exception:
            self.over = True  # what the run raises, its outcome says
            return None
        if isinstance(event, events.ApprovalRequested | events.QuestionAsked) and not self._waits:
            self._end(event)
        return event

    def _end(self, event: events.ApprovalRequested | events.QuestionAsked) -> None:
        """Stop the run: nobody is there who could answer it."""
        where = f"run {event.run_id} asks {event.question!r}"
        if isinstance(event, events.ApprovalRequested):
            code, said = "approval_required", f"the tool {event.tool!r} needs an approval that nobody can give here"
            # Beside a call that waits, others may be at work; those of a subagent would wait with it.
            self.run.stop("after_tools" if event.run_id == self.run.id else "now", reason="approval")
        else:
            code, said = "question_asked", f"the tool {event.tool!r} asks the user, and nobody can answer here"
            self.run.stop("now", reason="question")
        if self._unanswered is None:
            self._unanswered = ApiError(409, code, f"{said}: {where}", retry=False)

    async def outcome(self) -> tuple[RunResult[Any], FinishReason]:
        """Wait for the end of the run: its result, and how its answer ends.

        Raises:
            ApiError: the run has no answer.
        """
        try:
            result = await self.run.result()
        except (LimitExceeded, ContentFiltered) as error:
            if isinstance(error, PriceUnknown) or error.result is None:
                raise of_failure(error) from None
            return error.result, "length" if isinstance(error, LimitExceeded) else "content_filter"
        except Exception as error:
            if is_for_the_log(error):
                _log.exception("run %r failed", self.run.id)
            raise of_failure(error) from None
        if result.status == "completed":
            return result, finish_reason_of(result)
        if self._unanswered is not None and result.reason in ("approval", "question"):
            raise self._unanswered
        raise of_stop(result)


class WholeAnswer:
    """The answer in one piece, as an ASGI application."""

    def __init__(self, service: Service, known: KnownRun, agent: Agent[Any, Any], asked: Asked) -> None:
        self._around = service.following(known, ends_alone=asked.on_disconnect == "stop")
        self._include_reasoning = "reasoning" in asked.include
        self._attended = Attended(known, agent, asked, deltas=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response | None = None

        async def wait() -> None:
            nonlocal response
            response = await self._response()

        with self._around:
            await while_connected(receive, wait)
        if response is not None:
            await response(scope, receive, send)

    async def _response(self) -> Response:
        attended = self._attended
        while not attended.over:
            await attended.next_event()
        try:
            result, finish_reason = await attended.outcome()
        except ApiError as error:
            return error_response(error, attended.headers)
        reasoning: str | None = None
        if self._include_reasoning:
            reasoning = "".join([message.thinking or "" for message in result.new_messages])
        body = attended.answer.whole(result, content_of(result, attended.agent), finish_reason, reasoning)
        return Response(body, headers=attended.headers, media_type="application/json")


class StreamedAnswer:
    """The answer piece by piece, as an ASGI application."""

    def __init__(self, service: Service, known: KnownRun, agent: Agent[Any, Any], asked: Asked) -> None:
        self._around = service.following(known, ends_alone=asked.on_disconnect == "stop")
        self._keep_alive = service.keep_alive
        self._attended = Attended(known, agent, asked, deltas=True)
        self._saying = Saying(known.run.id, shows_only_its_end(agent), asked.include)
        #: What is to go out.
        self._ready = self._attended.answer.chunk(Delta(role="assistant", content=""))
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp | None = None

        async def wait() -> None:
            nonlocal app
            app = await self._app()

        with self._around:
            await while_connected(receive, wait)
            if app is not None:
                await app(scope, receive, send)

    async def _app(self) -> ASGIApp:
        """How the answer is sent, once that is known."""
        headers = self._attended.headers
        try:
            with move_on_after(self._keep_alive):
                await self._hear()
        except ApiError as error:
            return error_response(error, headers)
        return PieceStream(
            self._next_piece, media_type=SSE, around=nullcontext(), headers=headers, every=self._keep_alive
        )

    async def _next_piece(self) -> bytes | None:
        """What goes out next; None after the end. Cancelling it loses nothing."""
        if not self._ready and not self._ended:
            try:
                await self._hear()
            except ApiError as error:
                self._ended = True
                return error_frame(error.json())
        ready, self._ready = self._ready, b""
        return ready or None

    async def _hear(self) -> None:
        """Wait until there is more to go out, and make it ready.

        Raises:
            ApiError: the run has no answer.
        """
        attended, before = self._attended, len(self._ready)
        while len(self._ready) == before and not attended.over:
            self._take(await attended.next_event())
        # What waits goes out with it.
        while attended.reader.waiting and len(self._ready) < PIECE_BYTES:
            self._take(await attended.next_event())
        if len(self._ready) == before:
            self._end(*await attended.outcome())

    def _take(self, event: events.Event | None) -> None:
        if event is None:
            self._saying.lose()
            return
        match self._saying.take(event):
            case None:
                pass
            case ToolNews() as news:
                self._ready += self._attended.answer.chunk(Delta(), told=news)
            case delta:
                self._ready += self._attended.answer.chunk(delta)

    def _end(self, result: RunResult[Any], finish_reason: FinishReason) -> None:
        answer = self._attended.answer
        rest, refusal = self._saying.rest(content_of(result, self._attended.agent)), refusal_of(result)
        if rest:
            self._ready += answer.chunk(Delta(content=rest))
        if refusal is not None:
            self._ready += answer.chunk(Delta(refusal=refusal))
        self._ready += answer.last_chunks(result, finish_reason)
        self._ended = True


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    """An error as an answer of its own."""
    return Response(
        error.json(), error.status, headers={**(headers or {}), **error.headers}, media_type="application/json"
    )
