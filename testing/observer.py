"""What a test wants of the event loop that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Observer:
    """The wishes of one run, and what it left to say.

    Attributes:
        before_step: called just before each step of any task. It must not raise.
        complaints: of what nobody in the loop dealt with, a line for each.
        give_up: called with the `Deadlock` when nothing can happen any more; it is to wake the tasks.
    """

    __slots__ = ("before_step", "complaints", "give_up")

    def __init__(self, before_step: Callable[[], None] | None = None) -> None:
        self.before_step = before_step
        self.complaints: list[str] = []
        self.give_up: Callable[[Any], bool] | None = None
