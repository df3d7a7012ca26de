"""On what terms runs are recovered: the arguments of `System.recover`, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..providers.checks import is_whole
from .approvals import Approver, check_approve
from .named_agents import agents_by_name
from .policy import Policy, check_policy
from .stop_poll import StopWhen, check_stop_when

if TYPE_CHECKING:
    from .agent import Agent

#: Times that a run may be suspected of its process's death before it is parked.
MAX_CLAIMS = 3


class Unfinished(msgspec.Struct, frozen=True):
    """A run that is to go on, for whoever has to say what it goes on with."""

    run_id: str
    agent: str
    user_id: str | None
    conversation_id: str | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]


class Terms:
    """What is to be recovered, and with what it goes on.

    Attributes:
        agents: who can go on, by name.
        run_ids: those to take over, parked ones too; None for all that are not parked.
        deps_for: gives each run what its tools depend on.
        on_event, policy, approve, stop_when: as for a run that is started.
        max_claims: times that a run may be suspect in a row before it is parked.
        takeover: whether also runs that another process is at work on are taken.

    Raises:
        TypeError, ValueError: an argument that cannot work.
    """

    __slots__ = (
        "agents",
        "approve",
        "deps_for",
        "max_claims",
        "on_event",
        "policy",
        "run_ids",
        "stop_when",
        "takeover",
    )

    def __init__(
        self,
        agents: Iterable[Agent[Any, Any]],
        *,
        deps: Any,
        deps_for: Callable[[Unfinished], Any] | None,
        run_ids: Iterable[str] | None,
        on_event: Callable[[Any], Any] | None,
        policy: Policy | None,
        approve: Approver | None,
        stop_when: StopWhen | None,
        max_claims: int,
        takeover: bool,
    ) -> None:
        self.agents = agents_by_name(agents)
        if isinstance(run_ids, str):
            raise TypeError(f"run_ids= takes a list of ids: write run_ids=[{run_ids!r}]")
        if run_ids is not None and (isinstance(run_ids, bytes) or not isinstance(run_ids, Iterable)):
            raise TypeError(f"run_ids= takes a list of ids, not {run_ids!r}")
        if deps is not None and deps_for is not None:
            raise TypeError("recover() takes deps= for all runs or deps_for=, a function of each, not both")
        if deps_for is not None and not callable(deps_for):
            raise TypeError(f"deps_for= takes a function of an Unfinished, not {deps_for!r}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event= takes a function of one event, not {on_event!r}")
        check_policy(policy)
        check_approve(approve)
        check_stop_when(stop_when, None)
        if not is_whole(max_claims) or max_claims < 1:
            raise ValueError(f"max_claims must be a whole number, at least 1, not {max_claims!r}")
        if not isinstance(takeover, bool):
            raise TypeError(f"takeover= takes True or False, not {takeover!r}")
        self.run_ids = tuple(run_ids) if run_ids is not None else None
        self.deps_for: Callable[[Unfinished], Any] = deps_for if deps_for is not None else lambda _: deps
        self.on_event = on_event
        self.policy = policy
        self.approve = approve
        self.stop_when = stop_when
        self.max_claims = max_claims
        self.takeover = takeover
