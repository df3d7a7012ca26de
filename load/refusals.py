"""What a real provider refuses about a conversation, beyond the shape of its JSON.

A history that breaks these rules is the usual sign of a client that lost a tool result, answered one twice,
or dropped half of a turn to save tokens. Real services answer it with a 400 one request after the damage; so
does this one, in OpenAI's words where those are known.
"""

from __future__ import annotations

from .wire import ChatMessage, ChatRequest


class Refused(ValueError):
    """The request is refused with status 400 and `invalid_request_error`; the text is the error's message."""


def check(request: ChatRequest) -> None:
    """Go through a well-formed request and refuse what its provider would.

    Raises:
        Refused: tool calls and tool results do not match one to one, a message lacks its content, the last
            message is neither the user's nor a tool's, or an option is given without what it applies to.
    """
    _check_options(request)
    waiting: set[str] = set()  # calls of the last assistant message that have no result yet
    for index, message in enumerate(request.messages):
        if message.role == "tool":
            _take_result(index, message, waiting)
            continue
        if waiting:
            raise Refused(_unanswered(waiting))
        if message.role == "assistant":
            waiting = _calls_of(index, message)
        elif message.tool_calls is not None or message.tool_call_id is not None:
            raise Refused(f"messages[{index}]: a message of role '{message.role}' has no tool calls and no results.")
        elif message.content is None:
            raise _no_content(index)
    if waiting:
        raise Refused(_unanswered(waiting))
    last = request.messages[-1].role
    if last not in ("user", "tool"):
        raise Refused(f"The last message must be of role 'user' or 'tool', not '{last}'.")


def _check_options(request: ChatRequest) -> None:
    if request.tools is None:
        if request.tool_choice not in (None, "none"):
            raise Refused("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.")
        if request.parallel_tool_calls is not None:
            raise Refused("'parallel_tool_calls' is only allowed when 'tools' are specified.")
    else:
        names = {tool.function.name for tool in request.tools}
        if len(names) != len(request.tools):
            raise Refused("Invalid value for 'tools': the names of tools must be unique.")
        choice = request.tool_choice
        if isinstance(choice, str) and choice not in ("none", "auto", "required"):
            raise Refused(f"Invalid value for 'tool_choice': '{choice}' is not one of 'none', 'auto', 'required'.")
        if isinstance(choice, dict) and forced_tool(request) not in names:
            raise Refused("Invalid value for 'tool_choice': it must name a function among 'tools'.")
    if request.stream_options is not None and not request.stream:
        raise Refused("The 'stream_options' parameter is only allowed when 'stream' is enabled.")


def forced_tool(request: ChatRequest) -> str | None:
    """The tool that `tool_choice` names, or None."""
    match request.tool_choice:
        case {"type": "function", "function": {"name": str(name)}}:
            return name
        case _:
            return None


def _calls_of(index: int, message: ChatMessage) -> set[str]:
    if message.tool_call_id is not None:
        raise Refused(f"messages[{index}]: a message of role 'assistant' has no 'tool_call_id'.")
    calls = message.tool_calls
    if calls is None:
        if message.content is None and message.refusal is None:
            raise _no_content(index)
        return set()
    ids = {call.id for call in calls}
    if len(ids) != len(calls) or "" in ids:
        raise Refused(f"messages[{index}]: each tool call needs an id of its own.")
    return ids


def _take_result(index: int, message: ChatMessage, waiting: set[str]) -> None:
    if message.tool_call_id is None:
        raise Refused(f"Missing required parameter: 'messages[{index}].tool_call_id'.")
    if message.content is None:
        raise _no_content(index)
    if message.tool_call_id not in waiting:
        raise Refused(
            "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
            f"'tool_calls' (messages[{index}], '{message.tool_call_id}': no such call, or answered before)."
        )
    waiting.remove(message.tool_call_id)


def _no_content(index: int) -> Refused:
    return Refused(f"Invalid value for 'messages[{index}].content': expected a string, got null.")


def _unanswered(waiting: set[str]) -> str:
    return (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        "'tool_call_id'. The following tool_call_ids did not have response messages: "
        f"{', '.join(sorted(waiting))}"
    )
