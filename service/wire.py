"""What goes over the wire: requests as they are read, answers as they are written, all as msgspec types.

The description of the service is made of these types, so what they say is what is checked. What a type cannot say (one
of two fields, a limit that may only be lowered) is said in its docstring and checked where it is used.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from ..agents.inbox import When
from ..agents.machine import StopMode
from ..agents.run import RunStatus
from ..providers import Message, Part, Usage

#: Text that stands for somebody or something elsewhere.
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
RunId: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._~:@+-]{0,127}$(?!\n)",  # Python's $ is also before a last line break
        description="letters, digits and . _ ~ : @ + -; at most 128, the first one a letter or a digit",
    ),
]
Words: TypeAlias = Annotated[str, Meta(min_length=1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Amount: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all request bodies have in common: a field that is not known is refused."""


class MessageIn(Asked, frozen=True):
    """A message of a conversation: with `content`, or with `parts` as the service itself writes them."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Words | None = None
    parts: Annotated[list[Part], Meta(min_length=1)] | None = None


class LimitsAsked(Asked, frozen=True):
    """Bounds of one run. They can only be lower than those of its agent; what is left out is as the agent has it."""

    turns: Count | None = None
    requests: Count | None = None
    tool_calls: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    cost: Amount | None = None
    wall_time: Amount | None = None
    depth: Count | None = None
    children: Count | None = None


class StartRun(Asked, frozen=True):
    """A run to be started, with a `prompt` or with `messages`, the last of which is to be answered.

    `agent` may be left out where the service has only one. `stream` asks for the run's events as the answer, as the
    header ``Accept: text/event-stream`` does.
    """

    agent: Name | None = None
    prompt: Words | None = None
    messages: Annotated[list[MessageIn], Meta(min_length=1)] | None = None
    run_id: RunId | None = None
    conversation_id: Name | None = None
    user_id: Name | None = None
    metadata: dict[str, Any] = {}
    tags: list[Name] = []
    limits: LimitsAsked | None = None
    stream: bool = False


class SendMessage(Asked, frozen=True):
    """A message of the user into a run that is at work: ``asap``, or when it would be done (``idle``)."""

    message: Words
    when: When = "asap"


class StopRun(Asked, frozen=True):
    """How a run is to be stopped: ``now``, ``after_tools`` or ``after_turn``; `grace` is in seconds."""

    mode: StopMode = "now"
    reason: Name = "user"
    grace: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class AnswerCall(Asked, frozen=True):
    """Whether a tool call that waits may run; `run_id` is the subagent, where several wait with the same id, and `turn`
    the turn of the call, so that an answer that comes late is for no other one.
    """

    approved: bool
    reason: Words | None = None
    run_id: Name | None = None
    turn: int | None = None


class AnswerQuestion(Asked, frozen=True):
    """What the user says to a question of a tool."""

    text: str


# -- answers


class AgentView(msgspec.Struct, frozen=True):
    """An agent that runs can be started of. `output_schema` is None for one that answers with text."""

    name: str
    description: str | None
    tools: list[str]
    output_schema: dict[str, Any] | None


class AgentList(msgspec.Struct, frozen=True):
    """The agents of the service."""

    agents: list[AgentView]


class PendingView(msgspec.Struct, frozen=True):
    """A tool call that waits for an approval, with its final arguments."""

    call_id: str
    run_id: str
    tool: str
    question: str
    arguments: dict[str, Any]
    turn: int


class QuestionView(msgspec.Struct, frozen=True):
    """A question of a tool to the user."""

    question_id: str
    run_id: str
    tool: str
    question: str


Status: TypeAlias = RunStatus | Literal["unfinished", "suspended", "parked", "damaged"]


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run, at work or over.

    `status` is ``running``, how it ended (``completed``, ``stopped``, ``limited``, ``waiting``, ``failed``), or, of one
    that is at work nowhere here, ``unfinished``, ``suspended``, ``parked`` or ``damaged``. `output` is the answer, of
    whatever type the agent has; `text` the last words of the model. Of one at work here, `text` is what it has said so
    far in the turn at hand, where somebody follows it, and `seq` the number of its last event: those behind it go on
    from there. `cost` is in US dollars, None where a part of it is not known. `parent_id` is the run that it is a part
    of, as its subagent.
    """

    id: str
    agent: str | None
    status: Status
    reason: str = ""
    output: Any = None
    text: str = ""
    seq: int | None = None
    error: str | None = None
    paused: bool = False
    turn: int = 0
    usage: Usage = Usage()
    cost: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    user_id: str | None = None
    conversation_id: str | None = None
    parent_id: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    pending: list[PendingView] = []
    questions: list[QuestionView] = []
    outlived: list[str] = []


class RunList(msgspec.Struct, frozen=True):
    """Runs, the youngest first. `cursor` asks for those behind, with the same filters; None where there are none."""

    runs: list[RunView]
    cursor: str | None = None


class Messages(msgspec.Struct, frozen=True):
    """The conversation of a run, as far as it has come."""

    run_id: str
    messages: list[Message]


class Queued(msgspec.Struct, frozen=True):
    """A message that the run has taken."""

    run_id: str
    message_id: str


class NodeView(msgspec.Struct, frozen=True):
    """One actor of the tree. `age` is in seconds, `depth` the messages waiting, `detail` what its kind adds."""

    name: str
    kind: str
    state: str
    age: float
    depth: int
    restarts: int
    detail: dict[str, Any]
    children: list[NodeView]


class Health(msgspec.Struct, frozen=True):
    """Whether the service lives, or takes work."""

    status: Literal["ok"]
