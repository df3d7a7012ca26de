"""The service itself: its agents, its health, its counts, its description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ..agents import Agent
from .meter import MEDIA_TYPE
from .operations import json_answer
from .wire import AgentList, AgentView, Health

if TYPE_CHECKING:
    from typing import Any

    from .app import Service


async def agents(service: Service, _: Request) -> ASGIApp:
    """The agents that runs can be started of."""
    return json_answer(AgentList([_view(agent) for agent in service.agents.values()]))


def _view(agent: Agent[Any, Any]) -> AgentView:
    tools = [spec.name for spec in agent.toolbox.specs]
    return AgentView(agent.name, agent.description, tools, agent.output_schema)


async def health(_service: Service, _: Request) -> ASGIApp:
    """Whether the event loop answers at all."""
    return json_answer(Health("ok"))


async def ready(service: Service, _: Request) -> ASGIApp:
    """Whether the service takes new runs."""
    service.refuse_when_draining()
    return json_answer(Health("ok"))


async def metrics(service: Service, _: Request) -> ASGIApp:
    """What there is and what was, for a collector."""
    system = service.system
    queue = system.stage.queue
    for known in service.known:
        service.meter.count(known)
    text = service.meter.text(
        at_work=len(system.pool), waiting=queue.waiting if queue is not None else 0, draining=service.is_draining
    )
    return Response(text, media_type=MEDIA_TYPE)


async def describe(service: Service, request: Request) -> ASGIApp:
    """The description of the service, as OpenAPI 3.1; its addresses are below what it is mounted under."""
    root: str = request.scope.get("root_path", "")
    return json_answer({**service.description, "servers": [{"url": root or "/"}]})
