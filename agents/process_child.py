"""The inside of a process of tools: one call after the other, until the other end of its socket is closed.

The process leads a group of its own, which its own children belong to, and ends with everything in it:

- when the socket is shut down between two calls, it ends in order;
- on SIGTERM it ends as soon as its function lets it: the signal is raised as an exception, so that what the function
  began can be cleaned up;
- when whoever started it is gone, for whatever reason, the whole group is killed at once, also during a call.

The tool's output goes where errors go, for nobody reads standard output here; nothing that it prints gets into the
socket. A copy of this process that a tool makes with `os.fork` has no part in the socket, and ends where its function
returns.
"""

from __future__ import annotations

import _thread
import inspect
import io
import os
import select
import signal
import sys
from functools import cache
from typing import Any, NoReturn

import msgspec

from ..providers.function_arguments import FunctionSchema, validate
from ..providers.functions import describe
from ..providers.messages import ToolResult
from .process_address import Address, find
from .process_wire import HEAD, LONGEST, Raised, Reply, Request, frame, length, read_request
from .tool_results import cut, make_result


class Terminated(BaseException):
    """SIGTERM came. Not for tools to catch."""


def serve(descriptor: int) -> None:
    """Carry out calls until the other end shuts down or SIGTERM comes."""
    held = [descriptor]

    def let_go() -> None:
        while held:
            os.close(held.pop())

    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=let_go)
    _turn_output()
    _thread.start_new_thread(_end_with_the_other_end, (descriptor,))
    signal.signal(signal.SIGTERM, _terminate)
    own = os.getpid()
    try:
        while (data := _receive(descriptor)) is not None:
            outcome = _perform(read_request(data))
            if os.getpid() != own:
                os._exit(0)
            result, raised = (None, outcome) if isinstance(outcome, Raised) else (outcome, None)
            _send(descriptor, frame(Reply(result, raised, _is_alone())))
    except (Terminated, BrokenPipeError):
        sys.exit(128 + signal.SIGTERM)


def _turn_output() -> None:
    """Let what is printed go to standard error."""
    try:
        os.dup2(2, 1)
    except OSError:  # there is none
        return
    stdout: Any = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(line_buffering=True)


def _terminate(signum: int, _: object) -> NoReturn:
    signal.signal(signum, signal.SIG_DFL)
    raise Terminated


def _end_with_the_other_end(descriptor: int) -> None:
    """Wait, in a thread, until nobody has the other end any more: then nobody is left who could end this group."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is told in any case
    poll.poll()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _is_alone() -> bool:
    """Whether the call has left no threads and no children; those that have ended and were not waited for count."""
    threading = sys.modules.get("threading")  # which nobody has imported where there are none
    if threading is not None and threading.active_count() > 1:
        return False
    try:
        if hasattr(os, "waitid"):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        else:  # macOS before Python 3.13
            os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


# -- one call


def _perform(request: Request) -> ToolResult | Raised:
    try:
        function, schema = _load(Address(request.module, request.name), request.tool, request.typed)
        arguments = msgspec.json.decode(request.arguments) if schema is None else validate(schema, request.arguments)
        value = function(**arguments)
        if inspect.isawaitable(value):
            raise TypeError("returned something to be awaited: a process needs a plain def")
        return make_result(request.call_id, request.tool, value, request.limit)
    except Terminated:
        raise
    except BaseException as error:
        kinds = tuple([f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__])
        return Raised(kinds, _message(error))


def _message(error: BaseException) -> str:
    try:
        return cut(str(error), LONGEST)
    except Exception:
        return "(its message cannot be shown)"


@cache
def _load(address: Address, tool: str, typed: bool) -> tuple[Any, FunctionSchema | None]:
    """The function, and what reads its arguments: made of the same types, so it reads them as it did over there."""
    found = find(address)
    tools: Any = sys.modules.get("greenroom.agents.tool")
    if tools is not None and isinstance(found, tools.Tool):
        found = found.function
    return found, describe(found, name=tool) if typed else None


# -- the socket


def _receive(descriptor: int) -> bytes | None:
    """The next message, or None at the end."""
    head = _read(descriptor, HEAD)
    return _read(descriptor, length(head)) if head is not None else None


def _read(descriptor: int, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = os.read(descriptor, min(count - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _send(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
