"""What one run is started with, beside its prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..providers import ToolResult
from .approvals import Answer, Approver
from .limits import Limits
from .policy import Policy
from .stop_poll import STOP_POLL, StopWhen
from .stop_token import StopToken


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `Agent.run`, checked.

    `kept` and `answers` are of a run that goes on with calls that waited for an approval: what the others of the same
    reply have for results, and what somebody said to those that wait.
    """

    limits: Limits
    deps: Any = None
    user_id: str | None = None
    conversation_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    on_event: Callable[[Any], Any] | None = None
    policy: Policy | None = None
    approve: Approver | None = None
    kept: tuple[ToolResult, ...] | None = None
    answers: Mapping[str, Answer] = {}
    stop: StopToken | None = None
    stop_when: StopWhen | None = None
    stop_poll: float = STOP_POLL
