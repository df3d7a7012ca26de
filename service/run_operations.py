"""Starting runs, looking at them, and following them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from anyio import move_on_after
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ..agents import Chronicle
from ..journal import BadRecord, Damaged, UnknownRun
from .body import one_of, read_json, seconds
from .event_stream import COMMENT, EMPTY_LINE, JSON, NDJSON, SSE, PieceStream, while_connected
from .known_runs import KnownRun
from .operations import json_answer
from .problems import Problem, not_found, problem_of
from .run_events import END, RunEvents, end_of, frame, knows_end, read_since
from .run_list import list_runs
from .run_views import result_of, view_of, view_of_past
from .starting import start_run
from .wire import Messages, RunView, StartRun

if TYPE_CHECKING:
    from .app import Service

#: Seconds that a request may wait for the end of a run.
LONGEST_WAIT = 3_600.0

_log = logging.getLogger("greenroom")


async def start(service: Service, request: Request) -> ASGIApp:
    """Start a run; answer with it, with its end, or with its events."""
    wait = seconds(request.query_params.get("wait"), "wait", LONGEST_WAIT)
    asked = await read_json(request, StartRun, service.max_body)
    form = wanted_stream(request) or (SSE if asked.stream else None)
    begun = await start_run(service, asked, request.headers.get("idempotency-key"))
    headers = {"Location": address_of(request, begun.run_id)}
    if not begun.is_new:
        headers["Idempotent-Replayed"] = "true"
    status = 201 if begun.is_new else 200
    known = begun.known
    if known is None:
        return json_answer(await past_view(service, begun.run_id), status, headers)
    ends_alone = service.on_disconnect == "stop" and begun.is_new
    if form is not None:
        return _follow(service, known, 0, form, status, headers, ends_alone=ends_alone)
    if wait:
        await wait_for_end(service, request, known, wait, ends_alone=ends_alone)
    return json_answer(await view_of(known, service.agents.get(known.agent)), status, headers)


async def list_all(service: Service, request: Request) -> ASGIApp:
    """The runs, the youngest first."""
    return json_answer(await list_runs(service, request.query_params))


async def look(service: Service, request: Request) -> ASGIApp:
    """One run."""
    run_id: str = request.path_params["run_id"]
    known = service.find(run_id)
    if known is not None:
        return json_answer(await view_of(known, service.agents.get(known.agent)))
    return json_answer(await past_view(service, run_id))


async def follow(service: Service, request: Request) -> ASGIApp:
    """The events of a run, those that are kept and those to come."""
    run_id: str = request.path_params["run_id"]
    last, asked = request.headers.get("last-event-id"), request.query_params.get("since")
    since = read_since(last, asked, service.era)
    deltas = one_of(request.query_params.get("deltas"), "deltas", ("true", "false")) != "false"
    form = wanted_stream(request) or SSE
    known = service.find(run_id)
    if known is not None:
        return _follow(service, known, since, form, 200, {}, deltas=deltas)
    chronicle = await past(service, run_id)
    if chronicle.ended is not None and knows_end(last, asked):
        return Response(status_code=204)
    return _last_of(chronicle, form, service.era)


def _follow(
    service: Service,
    known: KnownRun,
    since: int,
    form: str,
    status: int,
    headers: dict[str, str],
    *,
    deltas: bool = True,
    ends_alone: bool = False,
) -> ASGIApp:
    events = RunEvents(known.run, since, form, service.era, deltas=deltas)
    if events.is_over:
        return Response(status_code=204)  # so a browser does not come back for ever
    return PieceStream(
        events.next_piece,
        media_type=form,
        status=status,
        headers=headers,
        around=service.following(known, ends_alone=ends_alone),
        keep_alive=COMMENT if form == SSE else EMPTY_LINE,
        every=service.keep_alive,
    )


def _last_of(chronicle: Chronicle, form: str, era: str) -> ASGIApp:
    """The end of a run that only the journal knows, as its last event."""
    event = end_of(chronicle)
    if event is None:
        raise not_at_work(chronicle)
    return Response(frame(event, form, era, END), media_type=form)


async def messages(service: Service, request: Request) -> ASGIApp:
    """The conversation of a run."""
    run_id: str = request.path_params["run_id"]
    known = service.find(run_id)
    result = await result_of(known.run) if known is not None and known.is_over else None
    said = result.messages if result is not None else (await past(service, run_id)).messages
    return json_answer(Messages(run_id, list(said)))


async def tree(service: Service, request: Request) -> ASGIApp:
    """A run, its tool calls and its subagents, as they are at this moment."""
    run_id: str = request.path_params["run_id"]
    known = service.find(run_id)
    if known is None:
        raise not_found("run at work", run_id, "run_id")
    return json_answer(known.run.tree())


async def past(service: Service, run_id: str) -> Chronicle:
    """What the journal says of a run.

    Raises:
        Problem: it has no such run, or cannot be read.
    """
    try:
        return await service.system.chronicle(run_id)
    except (Damaged, BadRecord) as error:
        _log.warning("run %r cannot be read: %s", run_id, error)
        raise problem_of(error) or error from None
    except (UnknownRun, ValueError):
        raise not_found("run", run_id, "run_id") from None


async def past_view(service: Service, run_id: str) -> RunView:
    """A run that the service has no handle of."""
    chronicle = await past(service, run_id)
    return view_of_past(chronicle, service.agents.get(chronicle.agent))


async def wait_for_end(
    service: Service, request: Request, known: KnownRun, seconds: float, *, ends_alone: bool = False
) -> None:
    """Wait for the end of a run, for so long at most, or until the client has gone."""

    async def end() -> None:
        with move_on_after(seconds):
            await result_of(known.run)

    with service.following(known, ends_alone=ends_alone):
        if await while_connected(request.receive, end) and ends_alone:
            known.ends_alone = False  # its client has an answer, and knows where the run is


def not_at_work(chronicle: Chronicle) -> Problem:
    """The run has not ended, but is none that can be reached into here."""
    run_id, above = chronicle.run_id, chronicle.began.parent_id
    said = f"run {run_id!r} is at work nowhere here: it is {chronicle.standing}"
    if above is not None:
        said = f"run {run_id!r} is a part of run {above!r}: follow that one, and reach into that one"
    return Problem(409, "not_at_work", said)


def wanted_stream(request: Request) -> str | None:
    """The form of a stream that a client accepts, if it asks for one."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    first = next((part for part in accepted if part in (SSE, NDJSON, JSON)), None)
    return first if first != JSON else None


def address_of(request: Request, run_id: str) -> str:
    """Where a run is found, whatever the service is mounted under."""
    root: str = request.scope.get("root_path", "")
    return f"{root}/runs/{quote(run_id, safe='')}"
