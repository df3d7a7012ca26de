"""Which conversations Anthropic's Messages API refuses, in its own words. Pure.

What the endpoint minted must come back as it was. A signature proves its text, so it holds at every server, as
Anthropic's do; which thoughts an answer had, `Minted` remembers.

Sources: https://platform.claude.com/docs/en/api/messages, …/agents-and-tools/tool-use/handle-tool-calls,
…/build-with-claude/extended-thinking, …/build-with-claude/mid-conversation-system-messages; the words are those of the
endpoint's errors as people have quoted them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from .anthropic_values import (
    Unacceptable,
    array,
    base64_data,
    flag,
    mapping,
    matching,
    one_of,
    only,
    required,
    string,
    tag,
)

_ID = "[a-zA-Z0-9_-]+"
_THOUGHTS = ("thinking", "redacted_thinking")
_SAID = ("text", "tool_use", *_THOUGHTS)
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
#: The fields of each type of block, besides its type.
_BLOCKS: dict[str, tuple[str, ...]] = {
    "text": ("text", "citations", "cache_control"),
    "image": ("source", "cache_control"),
    "document": ("source", "title", "context", "citations", "cache_control"),
    "tool_use": ("id", "name", "input", "caller", "cache_control"),
    "tool_result": ("tool_use_id", "content", "is_error", "cache_control"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
    "server_tool_use": ("id", "name", "input", "caller", "cache_control"),
    "web_search_tool_result": ("tool_use_id", "content", "caller", "cache_control"),
}
_USERS = ("text", "image", "document", "tool_result")
_ANSWERS = ("text", "tool_use", "server_tool_use", "web_search_tool_result", *_THOUGHTS)
_SOURCES: dict[str, tuple[str, ...]] = {
    "base64": ("media_type", "data"),
    "url": ("url",),
    "text": ("media_type", "data"),
}


Block: TypeAlias = Mapping[str, Any]


class Minted:
    """What the endpoint gave out: the thinking blocks of the answer that made a call, by the call's id."""

    def __init__(self) -> None:
        self.thoughts: dict[str, list[dict[str, Any]]] = {}


def signature_of(text: str) -> str:
    """The proof that a thought of this text came from here."""
    return b64encode(sha256(b"signed by the fake: " + text.encode()).digest()).decode()


class Rules:
    """What holds for this request.

    Args:
        minted: what the endpoint gave out.
        thinking: the type of the request's thinking, or None.
        prefill: whether the conversation may end with an answer.
        system_turns: whether a system message may stand in it.
    """

    def __init__(self, minted: Minted, *, thinking: str | None, prefill: bool, system_turns: bool) -> None:
        self.minted = minted
        self.thinking = thinking
        self.prefill = prefill
        self.system_turns = system_turns


def check_messages(value: Any, rules: Rules) -> None:
    """Check a conversation.

    Raises:
        Unacceptable: the endpoint would refuse it.
    """
    messages = [mapping(each, f"messages.{index}") for index, each in enumerate(array(value, "messages"))]
    if not messages:
        raise Unacceptable("messages: at least one message is required")
    contents: list[list[Block]] = []
    for index, message in enumerate(messages):
        only(message, ("role", "content"), f"messages.{index}")
        given = required(message, "role", f"messages.{index}")
        role = one_of(given, ("user", "assistant", "system"), f"messages.{index}.role")
        contents.append(_content(message, role, f"messages.{index}"))
    roles: list[str] = [message["role"] for message in messages]
    _check_roles(roles, contents, rules)
    _check_calls(roles, contents)
    _check_server_calls(roles, contents)
    for index, (role, blocks) in enumerate(zip(roles, contents, strict=True)):
        if role == "assistant":
            _check_thoughts(blocks, index)
    _check_last_answer(roles, contents, rules)


def _content(message: Mapping[str, Any], role: str, where: str) -> list[Block]:
    """The blocks of a message, each checked by itself."""
    given = required(message, "content", where)
    if isinstance(given, str):
        given = [{"type": "text", "text": given}] if given else []
    blocks = [
        mapping(block, f"{where}.content.{index}") for index, block in enumerate(array(given, f"{where}.content"))
    ]
    if not blocks:
        raise Unacceptable(
            f"{where}: all messages must have non-empty content except for the optional final assistant message"
        )
    known = {"user": _USERS, "assistant": _ANSWERS, "system": ("text",)}[role]
    for index, block in enumerate(blocks):
        _check_block(block, known, f"{where}.content.{index}")
    return blocks


def _check_block(block: Block, known: Sequence[str], where: str) -> None:
    kind = tag(block, known, where)
    only(block, ("type", *_BLOCKS[kind]), f"{where}.{kind}")
    match kind:
        case "text":
            text = string(required(block, "text", f"{where}.text"), f"{where}.text.text")
            if not text:
                raise Unacceptable("messages: text content blocks must be non-empty")
            if text.isspace():
                raise Unacceptable("messages: text content blocks must contain non-whitespace text")
        case "image" | "document":
            _check_source(mapping(required(block, "source", where), f"{where}.source"), kind, f"{where}.{kind}.source")
        case "tool_use" | "server_tool_use":
            matching(required(block, "id", f"{where}.{kind}"), _ID, f"{where}.{kind}.id")
            matching(required(block, "name", f"{where}.{kind}"), "[a-zA-Z0-9_-]{1,200}", f"{where}.{kind}.name")
            mapping(required(block, "input", f"{where}.{kind}"), f"{where}.{kind}.input")
        case "tool_result":
            _check_result(block, f"{where}.tool_result")
        case "thinking":
            for key in ("thinking", "signature"):
                string(required(block, key, f"{where}.thinking"), f"{where}.thinking.{key}")
        case "redacted_thinking":
            string(required(block, "data", f"{where}.redacted_thinking"), f"{where}.redacted_thinking.data")
        case _:
            matching(required(block, "tool_use_id", f"{where}.{kind}"), _ID, f"{where}.{kind}.tool_use_id")


def _check_result(block: Block, where: str) -> None:
    matching(required(block, "tool_use_id", where), _ID, f"{where}.tool_use_id")
    content = block.get("content", "")
    if not isinstance(content, str):
        blocks = array(content, f"{where}.content")
        for index, inner in enumerate(blocks):
            _check_block(
                mapping(inner, f"{where}.content.{index}"), ("text", "image", "document"), f"{where}.content.{index}"
            )
    if flag(block.get("is_error", False), f"{where}.is_error") and not content:
        raise Unacceptable(f"{where}: content cannot be empty if `is_error` is true")


def _check_source(source: Mapping[str, Any], block: str, where: str) -> None:
    kind = tag(source, ("base64", "url", "text") if block == "document" else ("base64", "url"), where)
    only(source, ("type", *_SOURCES[kind]), f"{where}.{kind}")
    for key in _SOURCES[kind]:
        string(required(source, key, f"{where}.{kind}"), f"{where}.{kind}.{key}")
    if kind == "url" and not source["url"].startswith(("http://", "https://")):
        raise Unacceptable("Only HTTPS URLs are supported.")
    if kind == "base64":
        types = _PICTURES if block == "image" else ("application/pdf",)
        one_of(source["media_type"], types, f"{where}.base64.media_type")
        if not base64_data(source["data"], f"{where}.base64.data"):
            raise Unacceptable(f"{where}.base64.data: {block} cannot be empty")
    if kind == "text":
        one_of(source["media_type"], ("text/plain",), f"{where}.text.media_type")


def _check_roles(roles: Sequence[str], contents: Sequence[Sequence[Block]], rules: Rules) -> None:
    for index, role in enumerate(roles):
        if role != "system":
            continue
        if index == 0:
            raise Unacceptable("messages.0: use the top-level 'system' parameter for the initial system prompt")
        if not rules.system_turns:
            raise Unacceptable("messages: role 'system' is not supported on this model")
        if roles[index - 1] != "user" or (index + 1 < len(roles) and roles[index + 1] != "assistant"):
            raise Unacceptable(
                f"messages.{index}: a 'system' message must follow a 'user' message and precede an 'assistant' message"
            )
    if roles[0] != "user":
        raise Unacceptable('messages: first message must use the "user" role')
    paused = any(block["type"] not in _SAID for block in contents[-1])  # a turn of the provider's own tools
    if roles[-1] == "assistant" and not rules.prefill and not paused:
        raise Unacceptable(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _check_calls(roles: Sequence[str], contents: Sequence[Sequence[Block]]) -> None:
    """Each call has its one result at the beginning of the next message, and each result its call."""
    seen: set[str] = set()
    for index, (role, blocks) in enumerate(zip(roles, contents, strict=True)):
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if seen & set(called) or len(set(called)) < len(called):
            raise Unacceptable(f"messages.{index}: `tool_use` ids must be unique")
        seen |= set(called)
        following: Sequence[Block] = contents[index + 1] if index + 1 < len(contents) else ()
        answered: list[str] = []
        for block in following:
            if block["type"] != "tool_result":
                break
            answered.append(block["tool_use_id"])
        missing = [identity for identity in called if identity not in answered]
        if missing:
            raise Unacceptable(
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        if role == "user":
            before: Sequence[Block] = contents[index - 1] if index else ()
            _check_results(blocks, [block["id"] for block in before if block["type"] == "tool_use"], index)


def _check_results(blocks: Sequence[Block], called: Sequence[str], index: int) -> None:
    seen: set[str] = set()
    for place, block in enumerate(blocks):
        if block["type"] != "tool_result":
            continue
        identity = block["tool_use_id"]
        if identity not in called:
            raise Unacceptable(
                f"messages.{index}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{identity}. Each `tool_result` block must have a corresponding `tool_use` block in the previous "
                "message."
            )
        if identity in seen:
            raise Unacceptable(
                f"messages.{index}.content.{place}: each tool_use must have a single result. Found multiple "
                f"`tool_result` blocks with id: {identity}"
            )
        seen.add(identity)


def _check_server_calls(roles: Sequence[str], contents: Sequence[Sequence[Block]]) -> None:
    """The provider's own calls have their results, unless they are still at work: only results of ours came since."""
    waiting: dict[str, tuple[int, str]] = {}
    for index, (role, blocks) in enumerate(zip(roles, contents, strict=True)):
        if role != "assistant" and any(block["type"] != "tool_result" for block in blocks):
            for identity, (place, name) in waiting.items():
                raise Unacceptable(
                    f"messages.{place}: `{name}` tool use with id `{identity}` was found without a corresponding "
                    f"`{name}_tool_result` block"
                )
        for place, block in enumerate(blocks):
            kind = block["type"]
            if kind == "server_tool_use":
                waiting[block["id"]] = (index, block["name"])
            elif kind.endswith("_tool_result") and waiting.pop(block["tool_use_id"], None) is None:
                raise Unacceptable(
                    f"messages.{index}.content.{place}: unexpected `tool_use_id` found in `{kind}` blocks: "
                    f"{block['tool_use_id']}. Each `{kind}` block must have a corresponding `server_tool_use` block "
                    "before it."
                )


def _check_thoughts(blocks: Sequence[Block], index: int) -> None:
    """All thinking is what this endpoint signed, and none is the end of an answer."""
    for place, block in enumerate(blocks):
        if block["type"] == "thinking" and block["signature"] != signature_of(block["thinking"]):
            raise Unacceptable(f"messages.{index}.content.{place}: Invalid `signature` in `thinking` block")
        if block["type"] == "redacted_thinking" and block["data"] != signature_of(""):
            raise Unacceptable(f"messages.{index}.content.{place}: Invalid `data` in `redacted_thinking` block")
    if blocks[-1]["type"] in _THOUGHTS:
        raise Unacceptable(f"messages.{index}: The final block in an assistant message cannot be `thinking`.")


def _check_last_answer(roles: Sequence[str], contents: Sequence[Sequence[Block]], rules: Rules) -> None:
    """The turn that the model goes on with is as it was, if it thinks."""
    index = max((place for place, role in enumerate(roles) if role == "assistant"), default=-1)
    if index < 0:
        return
    blocks = contents[index]
    if index == len(roles) - 1 and blocks[-1]["type"] == "text" and blocks[-1]["text"] != blocks[-1]["text"].rstrip():
        raise Unacceptable("messages: final assistant content cannot end with trailing whitespace")
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    if not calls or rules.thinking is None:
        return
    if rules.thinking == "enabled" and blocks[0]["type"] not in _THOUGHTS:
        raise Unacceptable(
            f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{blocks[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with a "
            "thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). We recommend you "
            "include thinking blocks from previous turns. To avoid this requirement, disable `thinking`."
        )
    wanted = next((rules.minted.thoughts[call] for call in calls if call in rules.minted.thoughts), None)
    if wanted is not None and [block for block in blocks if block["type"] in _THOUGHTS] != wanted:
        raise Unacceptable(
            f"messages.{index}.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message "
            "cannot be modified. These blocks must remain as they were in the original response."
        )
