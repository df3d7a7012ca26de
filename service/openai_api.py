"""Agents as models of an OpenAI-compatible endpoint: ``/v1/chat/completions`` and ``/v1/models``.

A program that talks to OpenAI's Chat Completions talks to an agent when it is given this address, and the agent's name
for a model. The agent's tools, instructions and settings are its own and stay on the server; what comes back is what it
says.
"""

from __future__ import annotations

from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from ..agents import Agent, Limits
from .body import JSON_TYPES, read_body
from .openai_answers import ModelCard, ModelList
from .openai_completion import StreamedAnswer, WholeAnswer, error_response
from .openai_errors import ApiError, model_not_found, of_problem
from .openai_fields import check_format
from .openai_request import Asked, read_request
from .operations import Do, json_answer
from .operations import _Path as PathOperations
from .problems import Problem
from .starting import launch_run

if TYPE_CHECKING:
    from .app import Service


def openai_routes(service: Service) -> list[Route]:
    """The routes of the endpoint. What they take and give is described by OpenAI, not by the service."""
    began = int(time())
    return [
        Route(path, PathOperations(service, {method: _spoken(do)}))
        for method, path, do in (
            ("POST", "/v1/chat/completions", complete),
            ("GET", "/v1/models", partial(list_models, began)),
            ("GET", "/v1/models/{name:path}", partial(show_model, began)),
        )
    ]


def _spoken(do: Do) -> Do:
    """The same; what goes wrong is said as OpenAI's clients know it."""

    async def spoken(service: Service, request: Request) -> ASGIApp:
        try:
            return await do(service, request)
        except ApiError as error:
            return error_response(error)
        except Problem as problem:
            return error_response(of_problem(problem))

    return spoken


async def complete(service: Service, request: Request) -> ASGIApp:
    """Let an agent answer."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() not in JSON_TYPES:
        raise Problem(415, "unsupported_media_type", "send the body as application/json", "Content-Type")
    asked = read_request(await read_body(request, service.max_body))
    agent = _agent(service, asked.model)
    check_format(asked.response_format, asked.model, agent.output_schema)
    known = await launch_run(
        service,
        agent,
        list(asked.prompt) if asked.prompt is not None else None,
        history=asked.history,
        limits=_within(asked, agent.limits),
        user_id=asked.user,
        conversation_id=asked.conversation_id,
        metadata=asked.metadata,
    )
    return (StreamedAnswer if asked.stream else WholeAnswer)(service, known, agent, asked)


async def list_models(began: int, service: Service, _: Request) -> ASGIApp:
    """All agents."""
    return json_answer(ModelList(tuple([ModelCard(name, began) for name in service.agents])))


async def show_model(began: int, service: Service, request: Request) -> ASGIApp:
    """One agent."""
    name: str = request.path_params["name"]
    _agent(service, name)
    return json_answer(ModelCard(name, began))


def _agent(service: Service, name: str) -> Agent[Any, Any]:
    agent = service.agents.get(name)
    if agent is None:
        raise model_not_found(name)
    return agent


def _within(asked: Asked, own: Limits) -> Limits:
    """The agent's own limits, and what the client allows to be generated."""
    if asked.max_tokens is None:
        return own
    most = asked.max_tokens if own.output_tokens is None else min(asked.max_tokens, own.output_tokens)
    return msgspec.structs.replace(own, output_tokens=most)
