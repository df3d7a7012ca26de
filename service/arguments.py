"""The arguments of a service, checked where they are given: each answer in one line that names the argument."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from inspect import iscoroutinefunction
from typing import Any, Literal, TypeAlias, cast

from ..agents import Agent
from ..agents.hooks import Audience
from ..agents.named_agents import agents_by_name
from ..agents.system import System
from .guard import LOOPBACK

OnDisconnect: TypeAlias = Literal["continue", "stop"]
Agents: TypeAlias = "Agent[Any, Any] | Iterable[Agent[Any, Any]] | Mapping[str, Agent[Any, Any]]"

#: Characters that a token has at least: fewer can be guessed.
TOKEN_LENGTH = 16


def read_agents(agents: object, system: System | None) -> dict[str, Agent[Any, Any]]:
    """Agents by the names that clients use.

    Raises:
        TypeError, ValueError: there are none, or what is none among them.
    """
    if agents is None:
        found = dict(getattr(system, "agents", {}))
        if not found:
            raise TypeError("Service(agents) needs an agent, or a list of them, or system=System(agents=[…])")
        return found
    if isinstance(getattr(agents, "audience", None), Audience):
        return agents_by_name([agents])
    if isinstance(agents, Mapping):
        named = cast("Mapping[Any, Any]", agents)
        found = agents_by_name(named.values())
        for name, own in zip(named, found, strict=True):
            if name != own:
                raise ValueError(
                    f"agents= has agent {own!r} under the name {name!r}: runs are found by their agent's own name, "
                    f"which agent.with_(name={name!r}) changes"
                )
    else:
        found = agents_by_name(agents)
    if not found:
        raise ValueError("agents= is empty: a Service needs an agent")
    return found


def check_token(token: object, name: str = "token=") -> None:
    """Refuse what is no token. `name` is where it was given.

    Raises:
        TypeError, ValueError: it is no text, too short, or not what a header can hold. The token is not in the message.
    """
    if not isinstance(token, str):
        raise TypeError(f"{name} takes text, not {type(token).__name__}")
    if len(token) < TOKEN_LENGTH:
        remedy = "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        raise ValueError(f"{name} needs at least {TOKEN_LENGTH} characters: {remedy}")
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError(f"{name} takes characters of ASCII without blanks, as a header can hold them")


def check_deps_for(deps_for: object) -> None:
    """Refuse what is no function of an `Origin`.

    Raises:
        TypeError: it is none, or one that gives a coroutine, which the tools would have for their deps.
    """
    if not callable(deps_for):
        raise TypeError(f"deps_for= takes a function of an Origin, not {deps_for!r}")
    if iscoroutinefunction(deps_for) or iscoroutinefunction(type(deps_for).__call__):
        raise TypeError(
            f"deps_for= takes a function that answers at once, not {deps_for!r}, which is async: give what opens the "
            "connection, and let the tools await it"
        )


def read_hosts(hosts: object, token: str | None) -> frozenset[str] | None:
    """Names that a service is reached by; None for any.

    Raises:
        TypeError, ValueError: not a list of them.
    """
    if hosts is None:
        return frozenset(LOOPBACK) if token is None else None
    names = _texts("allowed_hosts", hosts, "['agents.example.com']")
    for name in names:
        if "/" in name or "*" in name or re.search(r"[^\]]:\d+$", name):
            raise ValueError(f"allowed_hosts= takes names without scheme, port and wildcards, not {name!r}")
    return frozenset(name.lower() for name in names)


def read_origins(origins: object) -> frozenset[str]:
    """Origins of other sites whose pages may use a service.

    Raises:
        TypeError, ValueError: not a list of them.
    """
    names = _texts("allowed_origins", origins, "['https://example.com']")
    for name in names:
        if not re.fullmatch(r"https?://[^/*\s]+", name):
            raise ValueError(f"allowed_origins= takes origins such as 'https://example.com', not {name!r}")
    return frozenset(name.lower() for name in names)


def _texts(option: str, given: object, example: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Collection):
        raise TypeError(f"{option}= takes a list of texts, such as {example}, not {given!r}")
    texts = tuple(cast("Collection[Any]", given))
    for text in texts:
        if not isinstance(text, str) or not text:
            raise TypeError(f"{option}= takes a list of texts, such as {example}; {text!r} is none")
    return texts
