"""A Chat Completions request, read into what a run of an agent takes. Pure.

The conversation is the client's, as it is with OpenAI: each request brings all of it. What the user and the system say
after the last answer is the run's prompt, everything before it its history. System and developer messages stay where
they are in the conversation; the agent's instructions come before all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import msgspec

from ..providers import Message, message_from_openai
from ..providers.openai_messages import UNDECODABLE
from .openai_errors import ApiError, invalid
from .openai_fields import check_fields
from .run_views import OWN

#: What an answer shows beside its text.
Extra: TypeAlias = Literal["tools", "reasoning"]
EXTRAS: tuple[Extra, ...] = ("tools", "reasoning")
#: What a run does that asks for an approval, or asks the user something.
OnAsk: TypeAlias = Literal["end", "wait"]
#: Pairs of `metadata`, and the characters of a key and of a value, as OpenAI bounds them.
METADATA_PAIRS, METADATA_KEY, METADATA_VALUE = 16, 64, 512

#: What becomes of a run whose client has gone.
OnDisconnect: TypeAlias = Literal["stop", "continue"]
_OURS = ("conversation_id", "include", "on_ask", "on_disconnect")
_STREAM_OPTIONS = ("include_usage", "include_obfuscation")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for.

    Attributes:
        model: the agent's name.
        history, prompt: the conversation up to the last answer, and what came after it; no prompt after the result of a
            tool.
        stream: whether the answer is to come piece by piece.
        include_usage: whether a stream ends with what it has used.
        max_tokens: the most that the whole run may generate.
        user, metadata, conversation_id: of the run.
        response_format: as it was sent.
        include: what is shown beside the text.
        on_ask: what the run does that asks somebody: ``end`` with an error, or ``wait`` for the service to be told.
        on_disconnect: what becomes of the run when the client has gone.
        unused: the fields that were sent and do nothing.
    """

    model: str
    history: tuple[Message, ...]
    prompt: tuple[Message, ...] | None
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    conversation_id: str | None = None
    response_format: Any = None
    include: frozenset[str] = frozenset()
    on_ask: OnAsk = "end"
    on_disconnect: OnDisconnect = "stop"
    unused: tuple[str, ...] = ()


def read_request(body: bytes) -> Asked:
    """Read a request.

    Raises:
        ApiError: it is none, or asks for what an agent does not do; the message names the field.
    """
    try:
        decoded: Any = msgspec.json.decode(body)
    except UNDECODABLE as error:
        # The decoder takes half of a character that was cut through for the end of the body.
        half = "; a \\u escape may be half of a pair" if b"\\ud" in body.lower() else ""
        raise invalid(f"the body is not JSON that can be read: {error}{half}", code="invalid_json") from None
    if not isinstance(decoded, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    request = cast("dict[str, Any]", decoded)
    model = _text(request, "model", needed=True)
    unused = check_fields(request)
    history, prompt = _conversation(request.get("messages"))
    ours = _ours(request.get("greenroom"))
    return Asked(
        model=cast("str", model),
        history=history,
        prompt=prompt,
        stream=_flag(request, "stream"),
        include_usage=_stream_options(request),
        max_tokens=_max_tokens(request),
        user=_text(request, "user"),
        metadata=_metadata(request.get("metadata")),
        conversation_id=_text(ours, "conversation_id", "greenroom."),
        response_format=request.get("response_format"),
        include=_include(ours.get("include")),
        on_ask=_one_of(ours, "on_ask", ("end", "wait")),
        on_disconnect=_one_of(ours, "on_disconnect", ("stop", "continue")),
        unused=unused,
    )


def _conversation(messages: Any) -> tuple[tuple[Message, ...], tuple[Message, ...] | None]:
    if messages is None:
        raise invalid("'messages' is missing", "messages", "missing_required_parameter")
    if not isinstance(messages, list) or not messages:
        raise invalid("'messages' must be a list of at least one message", "messages")
    read = [_message(each, index) for index, each in enumerate(cast("list[Any]", messages))]
    answered = max((index for index, each in enumerate(read) if each.role in ("assistant", "tool")), default=-1)
    history, prompt = tuple(read[: answered + 1]), tuple(read[answered + 1 :])
    if prompt:
        return history, prompt
    if history[-1].role == "assistant":
        raise invalid("the last of 'messages' is an answer: there is nothing to answer to", "messages")
    return history, None


def _message(message: Any, index: int) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise invalid(f"'{where}' must be an object", where)
    try:
        return message_from_openai(cast("dict[str, Any]", message))
    except (TypeError, ValueError) as error:
        raise invalid(f"'{where}': {error}", where) from None


def _text(holder: Mapping[str, Any], name: str, above: str = "", *, needed: bool = False) -> str | None:
    value = holder.get(name)
    if value is None and not needed:
        return None
    where = above + name
    if value is None:
        raise invalid(f"{where!r} is missing", where, "missing_required_parameter")
    if not isinstance(value, str) or not value:
        raise invalid(f"{where!r} must be a string that is not empty", where)
    return value


def _flag(holder: Mapping[str, Any], name: str, above: str = "") -> bool:
    value = holder.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"'{above}{name}' must be true or false", above + name)
    return bool(value)


def _max_tokens(request: Mapping[str, Any]) -> int | None:
    given = [name for name in ("max_completion_tokens", "max_tokens") if request.get(name) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise invalid("'max_tokens' and 'max_completion_tokens' are the same here: give one of them", given[1])
    value = request[given[0]]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"{given[0]!r} must be a whole number, 1 or more", given[0])
    return value


def _stream_options(request: Mapping[str, Any]) -> bool:
    options: Any = request.get("stream_options")
    if options is None:
        return False
    if not request.get("stream"):
        raise invalid("'stream_options' are for a stream: set 'stream' to true", "stream_options")
    held = _object(options, "stream_options", _STREAM_OPTIONS)
    _flag(held, "include_obfuscation", "stream_options.")  # there is none to leave out
    return _flag(held, "include_usage", "stream_options.")


def _metadata(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid("'metadata' must be an object of strings", "metadata")
    pairs = cast("dict[str, Any]", value)
    if len(pairs) > METADATA_PAIRS:
        raise invalid(f"'metadata' must have at most {METADATA_PAIRS} pairs", "metadata")
    for key, each in pairs.items():
        if key.startswith(OWN):
            raise invalid(f"names in 'metadata' must not begin with {OWN}", "metadata")
        if not isinstance(each, str):
            raise invalid(f"'metadata.{key[:METADATA_KEY]}' must be a string", "metadata")
        if len(key) > METADATA_KEY or len(each) > METADATA_VALUE:
            most = f"keys of at most {METADATA_KEY} and values of at most {METADATA_VALUE} characters"
            raise invalid(f"'metadata' takes {most}", "metadata")
    return pairs


def _ours(value: Any) -> Mapping[str, Any]:
    return {} if value is None else _object(value, "greenroom", _OURS)


def _object(value: Any, name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{name!r} must be an object", name)
    held = cast("dict[str, Any]", value)
    unknown = next((key for key in held if key not in known), None)
    if unknown is not None:
        where = f"{name}.{unknown}"
        raise invalid(f"unknown field {where!r}; known are {', '.join(known)}", where, "unknown_parameter")
    return held


def _include(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list) or any(each not in EXTRAS for each in cast("list[Any]", value)):
        raise _not_one_of("greenroom.include", "a list of", EXTRAS)
    return frozenset(cast("list[str]", value))


def _one_of(ours: Mapping[str, Any], name: str, known: tuple[Any, ...]) -> Any:
    """A word of ours; the first of those that are known where none is given."""
    value = ours.get(name)
    if value is not None and value not in known:
        raise _not_one_of(f"greenroom.{name}", "one of", known)
    return known[0] if value is None else value


def _not_one_of(name: str, how: str, known: tuple[str, ...]) -> ApiError:
    return invalid(f"{name!r} must be {how} {', '.join(map(repr, known))}", name)
