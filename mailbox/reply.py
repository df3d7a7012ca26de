"""A slot that is filled once, with a value or an error: what an asker waits on.

The slot is filled by the actor that was asked, or by the runtime when that actor ends first. An asker that stops
waiting abandons the slot; whoever fills it later is told so by False and treats the answer as a dead letter. A late
answer can therefore never reach a later question.
"""

from __future__ import annotations

from typing import Any

import anyio


class Reply:
    """One answer to one question."""

    __slots__ = ("_error", "_event", "_open", "_value")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._open = True
        self._value: Any = None
        self._error: BaseException | None = None

    @property
    def waiting(self) -> bool:
        """Whether an answer is still wanted: the slot is neither filled nor abandoned."""
        return self._open

    def succeed(self, value: Any) -> bool:
        """Answer with `value`; False if the slot is filled or nobody waits any more."""
        if not self._open:
            return False
        self._open = False
        self._value = value
        self._event.set()
        return True

    def fail(self, error: BaseException) -> bool:
        """Answer with `error`, raised at the asker; False if the slot is filled or nobody waits any more."""
        if not self._open:
            return False
        self._open = False
        self._error = error
        self._event.set()
        return True

    async def wait(self) -> Any:
        """Wait for the answer. Cancelled while waiting, the slot is abandoned."""
        try:
            await self._event.wait()
        except BaseException:
            self._open = False
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The raised error's traceback holds this frame; drop the frame's hold on the error.
                self._error = None
        return self._value
