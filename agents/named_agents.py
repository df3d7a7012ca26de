"""Agents that are found by their names: by a System, a service, and whoever goes on with a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .hooks import Audience

if TYPE_CHECKING:
    from .agent import Agent


def agents_by_name(agents: object) -> dict[str, Agent[Any, Any]]:
    """Agents by their names, in their order.

    Raises:
        TypeError: not a list of agents.
        ValueError: two of one name.
    """
    if isinstance(getattr(agents, "audience", None), Audience):
        raise TypeError(f"agents= takes a list of agents: write [{getattr(agents, 'name', 'agent')}]")
    if isinstance(agents, str | Mapping) or not isinstance(agents, Iterable):
        raise TypeError(f"agents= takes a list of agents, not {agents!r}")
    found: dict[str, Agent[Any, Any]] = {}
    for agent in cast("Iterable[Agent[Any, Any]]", agents):
        if not isinstance(getattr(agent, "audience", None), Audience):
            raise TypeError(f"agents= takes a list of agents; {agent!r} is none")
        if agent.name in found:
            raise ValueError(f"two agents are called {agent.name!r}: runs are found by their agent's name")
        found[agent.name] = agent
    return found
