"""An asynchronous block that is held open from another thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar, cast

import anyio
from anyio.abc import TaskStatus

from ..actors import SystemClosed
from .system_thread import SystemThread

T = TypeVar("T")


class HeldBlock(Generic[T]):
    """An asynchronous block that lives in the loop while a blocking one does.

    It is entered and left in one task of its own, as blocks that hold tasks must be.
    """

    __slots__ = ("_block", "_error", "_failed", "_left", "_over", "_thread", "_what")

    def __init__(self, thread: SystemThread, what: str, block: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._thread = thread
        self._what = what
        self._block = block
        self._failed = False
        self._left: anyio.Event | None = None
        self._over: anyio.Event | None = None
        self._error: BaseException | None = None

    def enter(self) -> T:
        """Enter the block; what it gives."""
        try:
            return self._thread.call(self._what, self._start)
        except BaseException:
            self._thread.post(self._leave, True)  # it may have been entered a moment ago
            raise

    def leave(self, failed: bool) -> None:
        """Leave the block, with an error of its body or without, and wait until that is done.

        Raises:
            BaseException: what leaving it raises.
        """

        async def leave() -> None:
            self._leave(failed)
            if self._over is not None:
                await self._over.wait()

        try:
            self._thread.call(self._what, leave)
        except SystemClosed:
            return  # the System has ended, and the block with it
        if self._error is not None:
            raise self._error

    async def _start(self) -> T:
        group = self._thread.calls
        assert group is not None
        self._left, self._over = anyio.Event(), anyio.Event()
        return cast("T", await group.start(self._hold))

    def _leave(self, failed: bool) -> None:
        self._failed = self._failed or failed
        if self._left is not None:
            self._left.set()

    async def _hold(self, *, task_status: TaskStatus[T]) -> None:
        assert self._left is not None
        assert self._over is not None
        entered = False
        try:
            async with self._block() as value:
                entered = True
                task_status.started(value)
                await self._left.wait()
                if self._failed:
                    raise _BodyFailed
        except _BodyFailed:
            pass
        except Exception as error:
            if not entered:
                raise  # to whoever enters
            self._error = error
        except (KeyboardInterrupt, SystemExit) as error:
            self._thread.collapse(error)
        finally:
            self._over.set()


class _BodyFailed(Exception):
    """The body of the blocking block has raised; what, is its own thread's business."""
