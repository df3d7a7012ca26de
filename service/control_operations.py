"""Reaching into runs that are at work: messages, stops, approvals, answers, pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request
from starlette.types import ASGIApp

from .body import read_json, seconds
from .known_runs import KnownRun
from .operations import json_answer
from .problems import Problem, ended, problem_of
from .run_operations import LONGEST_WAIT, not_at_work, past, wait_for_end
from .run_views import view_of, view_of_past
from .wire import AnswerCall, AnswerQuestion, Queued, SendMessage, StopRun

if TYPE_CHECKING:
    from .app import Service

T = TypeVar("T")


async def send(service: Service, request: Request) -> ASGIApp:
    """Send a message of the user into a run."""
    asked = await read_json(request, SendMessage, service.max_body)
    known = await at_work(service, request)
    letter = _try(lambda: known.run.send(asked.message, asked.when))
    return json_answer(Queued(known.run.id, letter.id), 202)


async def stop(service: Service, request: Request) -> ASGIApp:
    """Stop a run. One that is over stays as it is, so asking twice does no harm."""
    wait = seconds(request.query_params.get("wait"), "wait", LONGEST_WAIT)
    asked = await read_json(request, StopRun, service.max_body, optional=True)
    run_id: str = request.path_params["run_id"]
    known = service.find(run_id)
    if known is None:
        chronicle = await past(service, run_id)
        if chronicle.ended is None:
            raise not_at_work(chronicle)
        return json_answer(view_of_past(chronicle, service.agents.get(chronicle.agent)))
    if not known.is_over:
        known.run.stop(asked.mode, reason=asked.reason, grace=asked.grace)
        if wait:
            await wait_for_end(service, request, known, wait)
    return json_answer(await view_of(known, service.agents.get(known.agent)), 200 if known.is_over else 202)


async def approve(service: Service, request: Request) -> ASGIApp:
    """Let a tool call run that waits for an approval, or refuse it."""
    asked = await read_json(request, AnswerCall, service.max_body)
    known = await at_work(service, request)
    call_id: str = request.path_params["call_id"]
    run = known.run
    if asked.approved:
        _try(lambda: run.approve(call_id, run_id=asked.run_id, turn=asked.turn))
    else:
        _try(lambda: run.deny(call_id, asked.reason or "not approved", run_id=asked.run_id, turn=asked.turn))
    return await _as_it_is(service, known)


async def answer(service: Service, request: Request) -> ASGIApp:
    """Answer a question that a tool asks the user."""
    asked = await read_json(request, AnswerQuestion, service.max_body)
    known = await at_work(service, request)
    question_id: str = request.path_params["question_id"]
    _try(lambda: known.run.answer(question_id, asked.text))
    return await _as_it_is(service, known)


async def pause(service: Service, request: Request) -> ASGIApp:
    """Have a run finish the step at hand and begin nothing new."""
    known = await at_work(service, request)
    known.run.pause()
    return await _as_it_is(service, known)


async def resume(service: Service, request: Request) -> ASGIApp:
    """Have a paused run go on."""
    known = await at_work(service, request)
    known.run.resume()
    return await _as_it_is(service, known)


async def at_work(service: Service, request: Request) -> KnownRun:
    """The run of a request.

    Raises:
        Problem: there is none (404), it has ended, or is at work elsewhere or nowhere (409).
    """
    run_id: str = request.path_params["run_id"]
    known = service.find(run_id)
    if known is None:
        chronicle = await past(service, run_id)
        raise not_at_work(chronicle) if chronicle.ended is None else ended(run_id)
    if known.is_over:
        raise ended(run_id)
    return known


async def _as_it_is(service: Service, known: KnownRun) -> ASGIApp:
    return json_answer(await view_of(known, service.agents.get(known.agent)), 202)


def _try(do: Callable[[], T]) -> T:
    try:
        return do()
    except Exception as error:
        problem = problem_of(error)
        if problem is None and isinstance(error, ValueError):
            problem = Problem(422, "invalid_request", str(error), "run_id")  # several wait with this id
        if problem is None:
            raise
        raise problem from error
