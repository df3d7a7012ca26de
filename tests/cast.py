"""What the tests of actors share: an actor that does as it is told, and ways to wait without a clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from greenroom.actors import Actor, ActorRef, Context, Exit, SupervisorRef


class Boom(Exception):
    """What our actors crash with."""


class Player(Actor):
    """Raises an exception, calls a function with its context, hangs, finishes; anything else it returns.

    Args:
        name: what it writes before each of its lines.
        lines: what it did, in order: "a starts", "a ready", "a stops", "a gone", or "a: message" for what it was told.
        beginning, ending: what it does while it starts and while it stops, given its context.
    """

    def __init__(
        self,
        name: str = "player",
        lines: list[str] | None = None,
        *,
        beginning: Callable[[Context], Any] | None = None,
        ending: Callable[[Context], Any] | None = None,
        trap_exits: bool = False,
    ) -> None:
        self.name = name
        self.lines = lines if lines is not None else []
        self.beginning = beginning
        self.ending = ending
        self.trap_exits = trap_exits

    async def started(self, context: Context) -> None:
        """Start."""
        self.lines.append(f"{self.name} starts")
        await _perform(self.beginning, context)
        self.lines.append(f"{self.name} ready")

    async def receive(self, message: Any, context: Context) -> Any:
        """Do as told."""
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return await _perform(message, context)
        if message == "hang":
            await anyio.sleep(math.inf)
        if message == "finish":
            context.stop()
        else:
            self.lines.append(f"{self.name}: {message}")
        return message

    async def stopping(self, context: Context, exit: Exit | None) -> None:
        """Stop."""
        self.lines.append(f"{self.name} stops")
        await _perform(self.ending, context)
        self.lines.append(f"{self.name} gone")


async def _perform(act: Callable[[Context], Any] | None, context: Context) -> Any:
    result = act(context) if act is not None else None
    return await result if isawaitable(result) else result


async def hang(_context: Context) -> None:
    """Do not come to an end."""
    await anyio.sleep(math.inf)


async def settle() -> None:
    """Let everybody run until all wait, or nearly: a number of rounds, in which no time passes."""
    for _ in range(60):
        await checkpoint()


def child(ref: ActorRef[Any], id: str) -> ActorRef[Any]:
    """A child that is expected to be there."""
    assert isinstance(ref, SupervisorRef)
    found = ref.child(id)
    assert found is not None
    return found


def kind(ref: ActorRef[Any]) -> str | None:
    """How the actor has ended, in one word."""
    return ref.exit.kind if ref.exit is not None else None
