"""What a run has come to, as a Chat Completions answer: whole, or as the chunks of a stream. Pure.

The content is all that the agent said in the run, a blank line between two turns: a stream has shown what came before
a tool call when nobody knew yet that a tool call would come, and a whole answer says the same. Where an agent has a
type for its answers, or validators, only the answer counts, and it comes in one piece: an earlier one may have been
refused.

Beside what OpenAI has, a whole answer, and a stream in the chunk that ends it, has `greenroom`: the run's id, how it
ended and what it cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from ..agents import Agent, RunResult
from ..providers import Usage

FinishReason: TypeAlias = Literal["stop", "length", "content_filter"]

#: What stands between the texts of two turns.
BETWEEN_TURNS = "\n\n"
DONE = b"data: [DONE]\n\n"


class Greenroom(msgspec.Struct, frozen=True):
    """What an answer says beyond OpenAI's: how its run ended. `unused` are fields of the request that do nothing here.

    `cost` is in US dollars, None where a part of it is not known.
    """

    run_id: str
    status: str
    reason: str
    cost: float | None = None
    unused: tuple[str, ...] = ()


class PromptTokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the tokens of the input were."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionTokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the generated tokens were."""

    reasoning_tokens: int | None = None


class CompletionUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tokens of a run, subagents included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens | None = None
    completion_tokens_details: CompletionTokens | None = None


class AnswerMessage(msgspec.Struct, frozen=True):
    """What the agent said. `reasoning_content` is there where it was asked for."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET


class AnswerChoice(msgspec.Struct, frozen=True):
    """The one answer."""

    message: AnswerMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: None = None


class Completion(msgspec.Struct, frozen=True):
    """A whole answer. `usage` is None where the agent's model did not report any."""

    id: str
    created: int
    model: str
    choices: tuple[AnswerChoice, ...]
    usage: CompletionUsage | None
    greenroom: Greenroom
    object: Literal["chat.completion"] = "chat.completion"


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """The one answer, as far as a chunk has it."""

    delta: Delta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: None = None


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a streamed answer. Where `usage` was asked for, all chunks have it, and only the last one says it."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: CompletionUsage | UnsetType | None = UNSET
    greenroom: Any = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class ModelCard(msgspec.Struct, frozen=True):
    """An agent as a model. `created` is when the service began, in seconds since the epoch."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "greenroom"


class ModelList(msgspec.Struct, frozen=True):
    """All agents as models."""

    data: tuple[ModelCard, ...]
    object: Literal["list"] = "list"


_encode = msgspec.json.Encoder().encode


class Answer:
    """The envelope of one answer: its id, its time and its model.

    Args:
        run_id: the run.
        created: when it began, in seconds since the epoch.
        model: the agent's name, as it was asked for.
        include_usage: whether chunks have `usage`.
        unused: the fields of the request that do nothing.
    """

    __slots__ = ("_created", "_id", "_include_usage", "_model", "_unused")

    def __init__(
        self, run_id: str, created: float, model: str, include_usage: bool = False, unused: Sequence[str] = ()
    ) -> None:
        self._id = f"chatcmpl-{run_id}"
        self._created = int(created)
        self._model = model
        self._include_usage = include_usage
        self._unused = tuple(unused)

    def whole(
        self, result: RunResult[Any], content: str, finish_reason: FinishReason, reasoning: str | None = None
    ) -> bytes:
        """The whole answer."""
        refusal = refusal_of(result)
        message = AnswerMessage(
            content=content if content or refusal is None else None,
            refusal=refusal,
            reasoning_content=UNSET if reasoning is None else reasoning,
        )
        choice = AnswerChoice(message, finish_reason)
        usage = usage_of(result.usage)
        return _encode(Completion(self._id, self._created, self._model, (choice,), usage, self._told(result)))

    def chunk(self, delta: Delta, finish_reason: FinishReason | None = None, told: Any = UNSET) -> bytes:
        """One chunk, as a server-sent event; `told` is what it has for `greenroom`."""
        usage = None if self._include_usage else UNSET
        choices = (ChunkChoice(delta, finish_reason),)
        return _frame(Chunk(self._id, self._created, self._model, choices, usage, told))

    def last_chunks(self, result: RunResult[Any], finish_reason: FinishReason) -> bytes:
        """What ends a stream: how the run ended, what it used if that was asked for, and the mark of the end."""
        end = self.chunk(Delta(), finish_reason, self._told(result))
        if self._include_usage:
            end += _frame(Chunk(self._id, self._created, self._model, (), usage_of(result.usage)))
        return end + DONE

    def _told(self, result: RunResult[Any]) -> Greenroom:
        return Greenroom(result.run_id, result.status, result.reason, result.cost, self._unused)


def _frame(value: Any) -> bytes:
    return b"data: %s\n\n" % _encode(value)


def error_frame(body: bytes) -> bytes:
    """An error in the middle of a stream, which ends it: nothing follows, also not the mark of a good end."""
    return b"data: %s\n\n" % body


def shows_only_its_end(agent: Agent[Any, Any]) -> bool:
    """Whether what an agent says on its way is no part of its answer."""
    return agent.output_schema is not None or bool(agent.validators)


def content_of(result: RunResult[Any], agent: Agent[Any, Any]) -> str:
    """The text of an answer. Of a run that was cut short, what it has said so far."""
    if shows_only_its_end(agent):
        if result.status != "completed":
            return result.text
        if agent.output_schema is None:
            return result.output if isinstance(result.output, str) else result.text
        # The model may have put a fence around its JSON, and a validator may have made another value of it.
        written = agent.write_output(result.output) if result.agent == agent.name else None
        return written if written is not None else result.text
    said = [message.text for message in result.new_messages if message.role == "assistant" and message.text]
    if result.answer_call is not None:
        said.append(result.text)  # the answer of another agent, which took over
    return BETWEEN_TURNS.join(said)


def refusal_of(result: RunResult[Any]) -> str | None:
    """The words with which the model has refused, if it did so in place of an answer."""
    if not result.new_messages or result.new_messages[-1].role != "assistant":
        return None
    last = result.new_messages[-1]
    return None if last.text else last.refusal


def finish_reason_of(result: RunResult[Any]) -> FinishReason:
    """How an answer ended, of a run that completed or reached a limit."""
    if result.stop_reason == "content_filter":
        return "content_filter"
    return "length" if result.status == "limited" or result.stop_reason == "length" else "stop"


def usage_of(usage: Usage) -> CompletionUsage | None:
    """What was used; None where a part of it was not reported, which is not zero."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    total = usage.total_tokens
    prompt = PromptTokens(usage.cached_input_tokens, usage.cache_write_tokens)
    generated = CompletionTokens(usage.reasoning_tokens)
    return CompletionUsage(
        usage.input_tokens,
        usage.output_tokens,
        total if total is not None else usage.input_tokens + usage.output_tokens,
        prompt if prompt != PromptTokens() else None,
        generated if generated != CompletionTokens() else None,
    )
