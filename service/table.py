"""Everything that the service can be asked for."""

from __future__ import annotations

from typing import Any, Required, TypedDict

from ..agents.events import AnyEvent
from . import control_operations as control
from . import run_operations as runs
from . import status_operations as status
from . import tree_operations as trees
from .event_stream import JSON, NDJSON, SSE
from .meter import MEDIA_TYPE
from .openai_answers import Chunk, Completion, ModelCard, ModelList
from .openai_errors import ApiErrorAnswer
from .operations import Answer, Operation, Parameter
from .run_list import LONGEST_PAGE, STATUSES
from .tree_changes import Change, Snapshot
from .wire import (
    AgentList,
    AnswerCall,
    AnswerQuestion,
    Health,
    Messages,
    NodeView,
    Queued,
    RunList,
    RunView,
    SendMessage,
    StartRun,
    StopRun,
)

_ID = {"type": "string", "minLength": 1}
RUN = Parameter("run_id", "path", "the run", _ID)
WAIT = Parameter(
    "wait",
    "query",
    "seconds to wait for the end before the answer",
    {"type": "number", "minimum": 0, "maximum": runs.LONGEST_WAIT, "default": 0},
)
SINCE = Parameter(
    "since",
    "query",
    "the sequence number, or the id, of the last event that is known",
    {"type": "string", "pattern": "^([0-9a-z]{1,16}\\.)?([0-9]{1,16}|end)$"},
)
LAST_EVENT_ID = Parameter("Last-Event-ID", "header", "the same, as browsers send it when they come back")
KEY = Parameter(
    "Idempotency-Key",
    "header",
    "the same key with the same body gives the same run, however often it is sent",
    {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[!-~]+$"},
)

RUN_ANSWER = {JSON: RunView}
EVENTS = {SSE: AnyEvent, NDJSON: AnyEvent}
TAKEN = {202: Answer("Taken; the run as it is at this moment.", RUN_ANSWER)}

OPERATIONS = (
    Operation(
        method="GET",
        path="/agents",
        name="listAgents",
        do=status.agents,
        about="The agents that runs can be started of.",
        answers={200: Answer("The agents.", {JSON: AgentList})},
    ),
    Operation(
        method="POST",
        path="/runs",
        name="startRun",
        do=runs.start,
        about="Start a run. Answers with the run, with its end where wait= is given, or with its events where a "
        "stream is accepted.",
        parameters=(WAIT, KEY),
        body=StartRun,
        answers={
            201: Answer("It is started.", {**RUN_ANSWER, **EVENTS}, {"Location": "where the run is found"}),
            200: Answer(
                "This key has started it before.", {**RUN_ANSWER, **EVENTS}, {"Location": "where the run is found"}
            ),
            204: Answer("This key has started it before, and there is nothing to stream any more."),
        },
    ),
    Operation(
        method="GET",
        path="/runs",
        name="listRuns",
        do=runs.list_all,
        about="The runs, the youngest first.",
        parameters=(
            Parameter("agent", "query", "only those of this agent"),
            Parameter("status", "query", "only those of this status", {"enum": list(STATUSES)}),
            Parameter(
                "limit",
                "query",
                "how many",
                {"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": 50},
            ),
            Parameter("cursor", "query", "what the page before has for one"),
        ),
        answers={200: Answer("A page of them; it may be short, or empty, and have a cursor.", {JSON: RunList})},
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}",
        name="getRun",
        do=runs.look,
        about="One run, at work or over.",
        parameters=(RUN,),
        answers={200: Answer("The run.", RUN_ANSWER)},
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}/events",
        name="followRun",
        do=runs.follow,
        about="Its events, those that are kept and those to come.",
        parameters=(
            RUN,
            SINCE,
            LAST_EVENT_ID,
            Parameter(
                "deltas",
                "query",
                "whether answers come as they grow; false leaves pieces of text, thoughts and arguments out",
                {"enum": ["true", "false"], "default": "true"},
            ),
        ),
        answers={
            200: Answer("The events.", EVENTS),
            204: Answer("There is nothing behind that one, and never will be."),
        },
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}/messages",
        name="getMessages",
        do=runs.messages,
        about="Its conversation, as far as it has come.",
        parameters=(RUN,),
        answers={200: Answer("The messages.", {JSON: Messages})},
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/messages",
        name="sendMessage",
        do=control.send,
        about="Send a message of the user into it.",
        parameters=(RUN,),
        body=SendMessage,
        answers={202: Answer("The run has taken it.", {JSON: Queued})},
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}/tree",
        name="getRunTree",
        do=runs.tree,
        about="A run at work, with its tool calls and its subagents.",
        parameters=(RUN,),
        answers={200: Answer("Its part of the tree.", {JSON: NodeView})},
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/stop",
        name="stopRun",
        do=control.stop,
        about="Stop it. One that is over stays as it is.",
        parameters=(RUN, WAIT),
        body=StopRun,
        body_optional=True,
        answers={**TAKEN, 200: Answer("It has ended.", RUN_ANSWER)},
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/pause",
        name="pauseRun",
        do=control.pause,
        about="Have it finish the step at hand and begin nothing new.",
        parameters=(RUN,),
        answers=TAKEN,
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/resume",
        name="resumeRun",
        do=control.resume,
        about="Have it go on.",
        parameters=(RUN,),
        answers=TAKEN,
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/approvals/{call_id:path}",  # a provider may put a slash into it
        name="answerCall",
        do=control.approve,
        about="Let a tool call run that waits for an approval, or refuse it.",
        parameters=(RUN, Parameter("call_id", "path", "the call, as pending names it", _ID)),
        body=AnswerCall,
        answers=TAKEN,
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/answers/{question_id}",
        name="answerQuestion",
        do=control.answer,
        about="Answer a question that a tool asks the user.",
        parameters=(RUN, Parameter("question_id", "path", "the question, as questions names it", _ID)),
        body=AnswerQuestion,
        answers=TAKEN,
    ),
    Operation(
        method="GET",
        path="/tree",
        name="getTree",
        do=trees.tree,
        about="The supervision tree at this moment.",
        answers={200: Answer("The tree.", {JSON: NodeView})},
    ),
    Operation(
        method="GET",
        path="/tree/events",
        name="followTree",
        do=trees.watch,
        about="The supervision tree: whole as the event tree, then what changes as the events change.",
        answers={200: Answer("The tree and its changes.", {SSE: Snapshot | Change})},
    ),
    Operation(
        method="GET",
        path="/health",
        name="getHealth",
        do=status.health,
        about="Whether the service lives.",
        answers={200: Answer("It does.", {JSON: Health})},
    ),
    Operation(
        method="GET",
        path="/ready",
        name="getReady",
        do=status.ready,
        about="Whether the service takes new runs.",
        answers={200: Answer("It does.", {JSON: Health})},
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="getMetrics",
        do=status.metrics,
        about="Counts for a collector, as OpenMetrics.",
        answers={200: Answer("The counts.", {MEDIA_TYPE: str})},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="getDescription",
        do=status.describe,
        about="This description.",
        answers={200: Answer("An OpenAPI 3.1 document.", {JSON: dict})},
    ),
)


class ChatRequest(TypedDict, total=False):
    """A Chat Completions request as OpenAI describes it; `model` is an agent. Other fields that only tune a model do
    nothing, and those that would change what the answer is are refused.
    """

    model: Required[str]
    messages: Required[list[dict[str, Any]]]
    stream: bool | None
    stream_options: dict[str, Any] | None
    max_completion_tokens: int | None
    max_tokens: int | None
    user: str | None
    metadata: dict[str, str] | None
    response_format: dict[str, Any] | None
    greenroom: dict[str, Any] | None


_MODEL = Parameter("name", "path", "the agent", _ID)
_FAILURES = {
    429: Answer("The agent's model is asked too often.", {JSON: ApiErrorAnswer}),
    502: Answer("The agent's model gave no answer.", {JSON: ApiErrorAnswer}),
    504: Answer("The agent's model was too slow.", {JSON: ApiErrorAnswer}),
}

#: What the OpenAI-compatible endpoint can be asked for; it makes its own routes.
OF_OPENAI = (
    Operation(
        method="POST",
        path="/v1/chat/completions",
        name="createChatCompletion",
        do=None,
        about="Let an agent answer, as OpenAI's Chat Completions.",
        body=ChatRequest,
        answers={
            200: Answer("The answer: whole, or as the chunks of a stream.", {JSON: Completion, SSE: Chunk}),
            **_FAILURES,
        },
        error=ApiErrorAnswer,
        bare_events=True,
    ),
    Operation(
        method="GET",
        path="/v1/models",
        name="listModels",
        do=None,
        about="The agents, as OpenAI's models.",
        answers={200: Answer("All of them.", {JSON: ModelList})},
        error=ApiErrorAnswer,
    ),
    Operation(
        method="GET",
        path="/v1/models/{name:path}",
        name="getModel",
        do=None,
        about="An agent, as one of OpenAI's models.",
        parameters=(_MODEL,),
        answers={200: Answer("The agent.", {JSON: ModelCard})},
        error=ApiErrorAnswer,
    ),
)

#: All that the description tells.
DESCRIBED = (*OPERATIONS, *OF_OPENAI)
