"""A slot that is filled once, with a value or an error: what an asker waits on.

The slot is filled by the actor that was asked, or by the runtime when that actor ends first. An asker that stops
waiting abandons the slot; whoever fills it later is told so by False and treats the answer as a dead letter. A late
answer can therefore never reach a later question.

An answer may come between the cancellation of an asker and the moment at which the asker wakes. Whoever gave it
believes that it arrived, so it is for the asker to say that it did not: `missed`.
"""

from __future__ import annotations

from typing import Any

import anyio


class Reply:
    """One answer to one question."""

    __slots__ = ("_error", "_event", "_open", "_value", "answered", "fate", "missed")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._open = True
        self._value: Any = None
        self._error: BaseException | None = None
        #: Whether it was filled with a value.
        self.answered = False
        #: What became of the question, of one that was not answered; whoever fails the slot says so.
        self.fate: Any = None
        #: Whether it was filled, but the asker was cancelled before it woke.
        self.missed = False

    @property
    def waiting(self) -> bool:
        """Whether an answer is still wanted: the slot is neither filled nor abandoned."""
        return self._open

    def succeed(self, value: Any) -> bool:
        """Answer with `value`; False if the slot is filled or nobody waits any more."""
        if not self._open:
            return False
        self._open = False
        self.answered = True
        self._value = value
        self._event.set()
        return True

    def fail(self, error: BaseException, fate: Any = None) -> bool:
        """Answer with `error`, raised at the asker; False if the slot is filled or nobody waits any more."""
        if not self._open:
            return False
        self._open = False
        self._error = error
        self.fate = fate
        self._event.set()
        return True

    @property
    def value(self) -> Any:
        """What it was answered with; None before that, and after a failure."""
        return self._value

    async def wait(self) -> Any:
        """Wait for the answer. Cancelled while waiting, the slot is abandoned."""
        try:
            await self._event.wait()
        except BaseException:
            self.missed = not self._open
            self._open = False
            self._error = None
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The raised error's traceback holds this frame; drop the frame's hold on the error.
                self._error = None
        return self._value
