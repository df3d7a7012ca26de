"""What one run is started with, beside its prompt: as keywords, and as they are after they were checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from ..providers import ToolResult
from .approvals import Answer, Approver
from .history import History
from .limits import Limits
from .policy import Policy
from .stop_poll import STOP_POLL, StopWhen
from .stop_token import StopToken

#: What a run does that finds its conversation busy.
WhenBusy: TypeAlias = Literal["wait", "refuse"]


class CommonKeywords(TypedDict, total=False):
    """Keywords of a run, and of all runs of a conversation; `Agent.run` says what they mean."""

    limits: Limits | None
    on_event: Callable[[Any], Any] | None
    stop: StopToken | None
    stop_when: StopWhen | None
    stop_poll: float | None
    user_id: str | None
    tags: Sequence[str]
    metadata: Mapping[str, Any] | None
    policy: Policy | None
    approve: Approver | None
    when_busy: WhenBusy


class RunKeywords(CommonKeywords, total=False):
    """Keywords of a run, beside what it depends on and where it lives."""

    history: History | None
    conversation_id: str | None
    run_id: str | None
    approvals: Mapping[str, Answer] | None


class ConversationKeywords(CommonKeywords, total=False):
    """Keywords of all runs of a conversation."""

    deps: Any


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
