"""A conversation as the Chat Completions servers want it, each with its own idea of a valid one. Pure.

What OpenAI accepts, others refuse: Mistral a question right behind the results of tools and every id that is not nine
letters or digits, Perplexity two messages of one role in a row, DeepSeek the tool calls of a message without its
reasoning, Gemini's endpoint of this format a call without the signature that it came with. The rules of a server are
`Quirks`. Whatever a conversation holds (answers that were cut, calls of other providers, messages of a caller), what is
written here follows them, and changes nothing that follows them already.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

from ..messages import Document, Image, Message
from ..openai_messages import message_to_openai
from .attachments import results_apart
from .rounds import fitting_name, matched

# OpenAI refuses longer ids.
_fits = re.compile(r"[\x21-\x7e]{1,40}").fullmatch
_fits_nine = re.compile(r"[a-zA-Z0-9]{9}").fullmatch

#: Stand where the model, or the user, would have spoken and did not, for servers that insist.
NO_ANSWER = "(no answer)"
NO_QUESTION = "(no question)"
#: Stands behind an answer that the model shall go on with, for servers that refuse to.
GO_ON = "Continue."


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between servers of this format in the request.

    Args:
        max_tokens_key: OpenAI's newer models refuse ``max_tokens``; most other servers know only that.
        stream_usage: whether usage in a stream must be asked for. Some servers refuse the option.
        thinking_key: the key in which this server wants its reasoning back, or None. With tool calls it is always
            sent, empty for calls that were made elsewhere: DeepSeek refuses them without.
        seed_key: the key of the sampling seed.
        parallel_tool_calls: whether the server knows that option.
        required_word: the server's word for "some tool must be called".
        nine_letter_ids: whether ids of tool calls must be nine letters and digits (Mistral).
        answer_after_tools: whether results of tools must be followed by an answer, not by the user, and the system's
            messages come first (Mistral).
        empty_answers: whether a message of the model may say nothing.
        alternate: whether, behind the system's messages, the user and the assistant must take turns (Perplexity, and
            the chat templates of many local models).
        json_schemas: whether ``response_format`` takes a JSON schema: always, neither with tools nor in a stream
            (Groq), or never. Otherwise the schema is told as an instruction; a server that never takes one is made to
            answer with JSON of any kind where there are no tools (DeepSeek, z.ai).
        documents: how a document is given: as a ``file``, which holds its bytes, as a ``file`` that may also be a URL
            (OpenRouter), or as a ``document_url`` (Mistral).
    """

    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    thinking_key: str | None = None
    seed_key: str = "seed"
    parallel_tool_calls: bool = True
    required_word: str = "required"
    nine_letter_ids: bool = False
    answer_after_tools: bool = False
    empty_answers: bool = True
    alternate: bool = False
    json_schemas: Literal["always", "alone", "never"] = "always"
    documents: Literal["file", "file_or_url", "document_url"] = "file"


def write_messages(
    messages: Sequence[Message], instructions: str | None, quirks: Quirks, family: str
) -> list[dict[str, Any]]:
    """The value of ``messages``.

    Args:
        messages: the conversation.
        instructions: the system prompt.
        quirks: the rules of the server.
        family: whose `provider_data` may be opened.

    Raises:
        ValueError: a message of the user holds what this format cannot carry.
    """
    written: list[dict[str, Any]] = []
    if instructions:
        written.append({"role": "system", "content": instructions})
    fits, make = (_fits_nine, _nine_letters) if quirks.nine_letter_ids else (_fits, _call_id)
    for message in matched(results_apart(messages, _takes), fits=fits, make=make, named=fitting_name):
        if message.role == "assistant":
            written += _assistant(message, quirks, family)
        elif message.role == "user":
            written.append(_user(message, quirks))
        else:
            written += message_to_openai(message)
    if quirks.answer_after_tools or quirks.alternate:
        system = [item for item in written if item["role"] == "system"]
        others = [item for item in written if item["role"] != "system"]
        written = _joined(system) + (_alternating(others) if quirks.alternate else _answered(others))
        if written and written[-1]["role"] in ("assistant", "system"):
            said = GO_ON if written[-1]["role"] == "assistant" else NO_QUESTION
            written.append({"role": "user", "content": said})
    return written or [{"role": "user", "content": NO_QUESTION}]


def _user(message: Message, quirks: Quirks) -> dict[str, Any]:
    (written,) = message_to_openai(message)
    if not any(isinstance(part, Document) for part in message.parts):
        return written
    content: list[dict[str, Any]] = []
    for item in written["content"]:
        file: dict[str, str] = item.get("file", {})
        if file and quirks.documents == "document_url":
            item = {"type": "document_url", "document_url": file["file_data"], "document_name": file["filename"]}
        elif file and quirks.documents == "file" and not file["file_data"].startswith("data:"):
            raise ValueError(
                "this endpoint of Chat Completions fetches no document by URL: read it yourself and give "
                "document(data, media_type=…)"
            )
        content.append(item)
    return {**written, "content": content}


def _assistant(message: Message, quirks: Quirks, family: str) -> list[dict[str, Any]]:
    """One message of the model, or none for one that says nothing, where that is refused."""
    stamp = message.provider_data
    own = stamp is not None and stamp.family == family
    # Reasoning without a stamp came with the caller's dictionaries; half a thought is nobody's.
    key = quirks.thinking_key if own or (stamp is None and not message.partial) else None
    (written,) = message_to_openai(message, thinking_key=key)
    calls = message.tool_calls
    if calls and quirks.thinking_key is not None:
        written.setdefault(quirks.thinking_key, "")
    if "refusal" in written and not family.endswith("/openai"):
        refusal = written.pop("refusal")
        written["content"] = written["content"] or refusal
    if own and stamp is not None:
        for call, item in zip(calls, written.get("tool_calls", ()), strict=False):
            item.update(call.details or {})
        items: Any = stamp.items
        if isinstance(items, dict):
            written.update(cast("dict[str, Any]", items))
    if not (quirks.empty_answers or calls or written["content"] or "refusal" in written):
        return []
    return [written]


def _answered(written: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With an answer between the results of tools and what the user said next."""
    answered: list[dict[str, Any]] = []
    for item in written:
        if item["role"] == "user" and answered and answered[-1]["role"] == "tool":
            answered.append({"role": "assistant", "content": NO_ANSWER})
        answered.append(item)
    return answered


def _alternating(written: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With a message of the user first, and neighbours of one role as one message."""
    if written and written[0]["role"] == "assistant":
        written = [{"role": "user", "content": NO_QUESTION}, *written]
    return _joined(_answered(written))


def _joined(written: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for item in written:
        last = joined[-1] if joined else None
        if last is None or last["role"] != item["role"] or item["role"] == "tool" or "tool_calls" in last:
            joined.append(item)
            continue
        joined[-1] = {**last, **item, "content": _both(last["content"], item["content"])}
    return joined


def _both(first: Any, second: Any) -> Any:
    """Two contents as one."""
    if isinstance(first, str | None) and isinstance(second, str | None):
        return "\n\n".join(text for text in (first, second) if text)
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return cast("list[Any]", content) if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _takes(part: Image | Document) -> bool:
    """Whether a message of the user may carry it: of documents PDF alone, and no URL of one."""
    return isinstance(part, Image) or (part.data is not None and part.media_type == "application/pdf")


def _call_id(number: int) -> str:
    return f"call_{number}"


def _nine_letters(number: int) -> str:
    return f"call{number:05d}"
