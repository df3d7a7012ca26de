"""Processes for tools: code that must be possible to end, whatever it does.

A thread cannot be ended and a coroutine only at an await; a process always, and everything that it has started with it.
The processes of one stage are started when they are needed, serve one call at a time, and are kept for the next one. A
process that was killed, that died, or whose tool left children behind is not used again.

What a process is from this side is in `process_worker`, from its own in `process_child`; `process_address` says which
functions it can find.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import CancelScope, Semaphore

from ..actors import Home
from ..providers import ToolCall, ToolResult
from .errors import ModelRetry, ToolFailed
from .process_wire import Raised, Reply, Request, frame, read_reply
from .process_worker import Worker

if TYPE_CHECKING:
    from .tool import Tool


def default_number() -> int:
    """How many processes there are at most, unless somebody says: one for each core, but not fewer than 4."""
    return max(4, os.cpu_count() or 1)


class ProcessError(Exception):
    """What a tool raised in its process, as far as it can be told here, or how the process died.

    `kinds` are the full names of the class that was raised and of those that it derives from.
    """

    def __init__(self, message: str, kinds: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.kinds = kinds


def is_one_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether an error is of one of these classes, here or in the process that it comes from."""
    if isinstance(error, ProcessError) and any(
        f"{each.__module__}.{each.__qualname__}" in error.kinds for each in kinds
    ):
        return True
    return isinstance(error, kinds)


class Processes:
    """The processes of one stage. Make it inside the event loop, and use it there.

    Args:
        home: the event loop.
        most: how many calls run at the same time; further ones wait, first come, first served.
    """

    __slots__ = ("home", "idle", "slots")

    def __init__(self, home: Home, most: int | None = None) -> None:
        self.home = home
        self.slots = Semaphore(most if most is not None else default_number(), fast_acquire=True)
        #: The processes between two calls, the one used last at the end.
        self.idle: list[Worker] = []

    def take(self) -> Worker:
        """A process to call.

        Raises:
            OSError: none can be started.
        """
        while self.idle:
            worker = self.idle.pop()
            if worker.is_ready:
                return worker
            worker.bury()  # it died in its sleep
        return Worker(self.home)

    async def close(self) -> None:
        """Let the processes end, those that will not by force. No cancellation keeps it from that."""
        leaving, self.idle = self.idle, []
        for worker in leaving:
            worker.dismiss()
        try:
            with CancelScope(shield=True):
                while leaving:
                    await leaving[-1].end()
                    leaving.pop()
        finally:
            for worker in leaving:
                worker.bury()


class ProcessCall:
    """A call of a tool in a process. Await `run`, and when that is over in whatever way, `end`.

    Attributes:
        waits: whether it has no process yet.
        outlived: whether its process goes on although it was killed: it is stuck in the kernel.
    """

    __slots__ = ("_processes", "_request", "_worker", "call_id", "outlived", "tool", "waits")

    def __init__(self, processes: Processes, tool: Tool[..., Any], call: ToolCall) -> None:
        """Write the request.

        Raises:
            ValueError: the arguments have no JSON form.
        """
        assert tool.address is not None
        self._processes = processes
        self._worker: Worker | None = None
        self.tool = tool
        self.call_id = call.id or ""
        self.waits = True
        self.outlived = False
        address, arguments = tool.address, _as_json(call)
        self._request = frame(
            Request(address.module, address.name, tool.name, self.call_id, arguments, tool.is_typed, tool.max_result)
        )

    async def run(self) -> ToolResult:
        """Run it, as soon as a process is free.

        Raises:
            ModelRetry, ToolFailed: the tool raised it.
            ProcessError: the tool raised something else, or its process died or could not be started.
        """
        processes = self._processes
        await processes.slots.acquire()
        try:
            self.waits = False
            worker = self._worker = processes.take()
        except BaseException as error:
            processes.slots.release()
            if isinstance(error, OSError):
                raise ProcessError(f"no process could be started for the tool: {error}") from None
            raise
        try:
            reply = _read(await worker.ask(self._request))
        except GeneratorExit:  # the event loop is gone, so nothing can be awaited
            worker.bury()
            self._give_back()
            raise
        try:
            if reply is not None and reply.alone:
                processes.idle.append(worker)
            else:
                await worker.kill()
        finally:
            self._give_back()
        if reply is None:
            raise ProcessError(f"the process {worker.epitaph()} before the call returned")
        if reply.raised is not None:
            raise _raised(reply.raised)
        assert reply.result is not None
        return reply.result

    async def end(self) -> None:
        """End a process that was given up: SIGTERM to its group, a grace, then SIGKILL."""
        worker = self._worker
        if worker is None:
            return
        worker.urge()
        try:
            # Where everything around is cancelled already, the grace is given all the same.
            with CancelScope(shield=self._processes.home.is_cancelled()):
                await worker.end()
        finally:
            self._give_back()
            self.outlived = not worker.is_buried

    def _give_back(self) -> None:
        self._worker = None
        self._processes.slots.release()


def _read(answer: bytes | None) -> Reply | None:
    """The reply, or None where the process died, or something in it has written into its socket."""
    try:
        return read_reply(answer) if answer is not None else None
    except msgspec.DecodeError:
        return None


def _raised(raised: Raised) -> Exception:
    if f"{ModelRetry.__module__}.ModelRetry" in raised.kinds:
        return ModelRetry(raised.message)
    if f"{ToolFailed.__module__}.ToolFailed" in raised.kinds:
        return ToolFailed(raised.message)
    name = raised.kinds[0].rpartition(".")[2]
    return ProcessError(f"{name}: {raised.message}", raised.kinds)


def _as_json(call: ToolCall) -> bytes:
    if call.raw:
        return call.raw.encode()
    try:
        return msgspec.json.encode(call.arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the arguments of {call.name} cannot be sent to a process: {error}") from None
