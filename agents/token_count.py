"""How many tokens a message has, by one of three counts of its text.

``chars`` needs nothing: a token is four characters, rounded up for each piece of text. ``tiktoken`` counts as OpenAI's
models do; it is an extra, reads its vocabulary when it is first asked (from the network, if it has none stored), and is
slow enough to be asked in a thread. A function of one text counts as it likes.

What is no text has a constant: nobody but the provider knows what it will count for an image. All counts are estimates;
a provider that counts more is answered by `context_view`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from inspect import iscoroutinefunction
from typing import Any, Literal, TypeAlias

import msgspec

from ..providers import Message, ToolCall, ToolResult
from ..providers.messages import Document, Image, Part, ServerItem, Text
from ..providers.vocabulary import ToolSpec

#: Counts the tokens of one text.
TextCounter: TypeAlias = Callable[[str], int]
#: What ``ContextWindow(count=…)`` takes.
Count: TypeAlias = Literal["chars", "tiktoken"] | TextCounter

#: Characters of one token, for ``chars``.
CHARS = 4
#: Tokens of each message beside those of its parts: its role, and what separates it from the next one.
MESSAGE_TOKENS = 4
#: Tokens of an image, and of a document.
IMAGE_TOKENS = 1_500
DOCUMENT_TOKENS = 5_000
#: The vocabulary for a model that tiktoken does not know.
ENCODING = "o200k_base"


def by_chars(text: str) -> int:
    """A quarter of the characters, rounded up."""
    return -(-len(text) // CHARS)


def count_message(message: Message, count: TextCounter = by_chars) -> int:
    """The tokens of one message."""
    return MESSAGE_TOKENS + sum([_part_tokens(part, count) for part in message.parts])


def count_messages(messages: Iterable[Message], count: TextCounter = by_chars) -> int:
    """The tokens of several messages."""
    return sum([count_message(message, count) for message in messages])


def count_tools(tools: Sequence[ToolSpec], schema: Any, count: TextCounter = by_chars) -> int:
    """The tokens of the tools that a model is told of, and of the schema of its answer, if there is one."""
    tokens = sum([count(_json(tool)) for tool in tools])
    return tokens + count(_json(schema)) if schema is not None else tokens


def _part_tokens(part: Part, count: TextCounter) -> int:
    match part:
        case Image():
            return IMAGE_TOKENS
        case Document():
            return DOCUMENT_TOKENS
        case ToolResult():
            parts = part.parts or ()
            return count(part.content) + sum(
                [_part_tokens(each, count) for each in parts if not isinstance(each, Text)]
            )
        case ToolCall():
            tokens = count(part.name) + count(part.raw or _json(part.arguments))
        case ServerItem():
            return count(_json(part.data))
        case _:
            tokens = count(part.text)
    return tokens + count(_json(part.details)) if part.details else tokens


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, UnicodeEncodeError, RecursionError):
        return repr(value)  # only its length matters


def check_count(count: object) -> None:
    """Refuse what counts no text.

    Raises:
        TypeError, ValueError: it is neither a known word nor a function.
        ModuleNotFoundError: ``tiktoken`` is not installed.
    """
    if isinstance(count, str):
        if count not in ("chars", "tiktoken"):
            raise ValueError(f"ContextWindow(count=) is 'chars', 'tiktoken' or a function of one text, not {count!r}")
        if count == "tiktoken" and importlib.util.find_spec("tiktoken") is None:
            raise ModuleNotFoundError(
                "ContextWindow(count='tiktoken') needs an extra: pip install 'greenroom[tiktoken]'"
            )
    elif iscoroutinefunction(count):
        raise TypeError(f"ContextWindow(count=) takes a plain function of one text, not the async one {count!r}")
    elif not callable(count) or isinstance(count, type):
        raise TypeError(f"ContextWindow(count=) is 'chars', 'tiktoken' or a function of one text, not {count!r}")


def checked(function: TextCounter) -> TextCounter:
    """A function of somebody else, whose answers are looked at.

    Raises:
        TypeError: when it is called, and answers with something that is no number of tokens.
    """

    def count(text: str) -> int:
        tokens: object = function(text)
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
            raise TypeError(f"the function of ContextWindow(count=) must return a whole number, not {tokens!r}")
        return tokens

    return count


def tiktoken_counter(model: str) -> TextCounter:
    """Counts as tiktoken does for this model. Blocks: it may read a vocabulary from the network.

    Raises:
        Exception: whatever tiktoken raises when it cannot have its vocabulary.
    """
    tiktoken: Any = importlib.import_module("tiktoken")
    try:
        encoding = tiktoken.encoding_for_model(model.rpartition("/")[2])
    except KeyError:
        encoding = tiktoken.get_encoding(ENCODING)
    return lambda text: len(encoding.encode_ordinary(text))
