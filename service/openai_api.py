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
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..agents import Agent, Limits
from .abandoned import ALONE
from .body import JSON_TYPES, read_body
from .openai_answers import ModelCard, ModelList
from .openai_completion import StreamedAnswer, WholeAnswer, error_response
from .openai_errors import ApiError, model_not_found, of_problem
from .openai_fields import check_format
from .openai_request import Asked, read_request
from .operations import _Path as PathOperations
from .operations import json_answer
from .problems import Problem
from .starting import launch_run

if TYPE_CHECKING:
    from .app import Service


def openai_routes(service: Service) -> list[Route]:
    """The routes of the endpoint. What they take and give is described by OpenAI, not by the service."""
    began = int(time())
    known = (
        ("POST", "/v1/chat/completions", complete),
        ("GET", "/v1/models", partial(list_models, began)),
        ("GET", "/v1/models/{name:path}", partial(show_model, began)),
    )
    return [
        *(Route(path, _Spoken(PathOperations(service, {method: do}))) for method, path, do in known),
        *(Route(path, _Spoken(_nowhere)) for path in ("/v1", "/v1/{rest:path}", *_WITHOUT_V1)),
    ]


#: What OpenAI's clients ask for whose base URL lacks ``/v1``.
_WITHOUT_V1 = ("/chat/completions", "/models", "/responses", "/completions", "/embeddings")


class _Spoken:
    """An application at an address of the endpoint. What goes wrong there is said as OpenAI's clients know it.

    Args:
        app: what answers; it raises before it has begun to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            if begun:
                raise
            await error_response(_known(error))(scope, receive, send)
            if not isinstance(error, ApiError | Problem):
                raise  # the server's log says what it was


def _known(error: Exception) -> ApiError:
    match error:
        case ApiError():
            return error
        case Problem():
            return of_problem(error)
        case _:
            return ApiError(
                500, "internal_error", "something went wrong in the service; its log says what", retry=False
            )


def refusal_at(path: str, problem: Problem) -> Response:
    """The answer to a request that is refused before it comes to its address.

    Args:
        path: below what the service is mounted under.
        problem: why.
    """
    spoken = path == "/v1" or path.startswith("/v1/")
    return error_response(of_problem(problem)) if spoken else problem.response()


async def _nowhere(scope: Scope, _: Receive, __: Send) -> None:
    raise _unknown(scope)


def _unknown(scope: Scope) -> ApiError:
    """There is no such address; most who ask for one have a base URL without ``/v1``, or with two."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    meant = "/".join([step for step in path.removeprefix(root).split("/") if step not in ("", "v1")])
    if meant in ("chat/completions", "models"):
        hint = f"it is {root}/v1/{meant}: give clients a base URL that ends with /v1"
    else:
        hint = f"there are POST {root}/v1/chat/completions and GET {root}/v1/models"
    return ApiError(404, "unknown_url", f"there is no address {path!r}: {hint}")


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
        metadata={**(asked.metadata or {}), **({ALONE: "yes"} if asked.on_disconnect == "stop" else {})},
    )
    return (StreamedAnswer if asked.stream else WholeAnswer)(service, known, agent, asked)


async def list_models(began: int, service: Service, _: Request) -> ASGIApp:
    """All agents."""
    return json_answer(ModelList(tuple([ModelCard(name, began) for name in service.agents])))


async def show_model(began: int, service: Service, request: Request) -> ASGIApp:
    """One agent."""
    name: str = request.path_params["name"]
    if not name:
        raise _unknown(request.scope)
    _agent(service, name)
    return json_answer(ModelCard(name, began))


def _agent(service: Service, name: str) -> Agent[Any, Any]:
    agent = service.agents.get(name)
    if agent is None:
        raise model_not_found(name, service.agents)
    return agent


def _within(asked: Asked, own: Limits) -> Limits:
    """The agent's own limits, and what the client allows to be generated."""
    if asked.max_tokens is None:
        return own
    most = asked.max_tokens if own.output_tokens is None else min(asked.max_tokens, own.output_tokens)
    return msgspec.structs.replace(own, output_tokens=most)
