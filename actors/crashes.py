"""What an exception means that arrives at the edge of an actor's task: a crash, a cancellation, or neither.

A backend's cancelled exception is a cancellation only where a scope around the task is cancelled. Code that raises one
by itself has crashed.
"""

from __future__ import annotations

from typing import cast

from anyio import current_effective_deadline, get_cancelled_exc_class

from .errors import StrayCancellation


def is_cancelled() -> bool:
    """Whether a scope around the running task is cancelled."""
    return current_effective_deadline() == -float("inf")


def is_crash(error: BaseException) -> bool:
    """Whether `error` is a failure of the code that raised it.

    A cancellation that somebody asked for is none, nor is what must stop the process, or closes a coroutine.
    """
    if isinstance(error, Exception):
        return True
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return False
    if isinstance(error, get_cancelled_exc_class()):
        return not is_cancelled()
    if isinstance(error, BaseExceptionGroup):
        return is_ordinary_group(cast("BaseException", error)) and not is_cancelled()
    return True


def stray(name: str, error: BaseException) -> BaseException:
    """The crash of the actor `name` as an error that may be kept and raised: never a backend's cancelled exception."""
    if not isinstance(error, get_cancelled_exc_class()):
        return error
    crash = StrayCancellation(f"{name!r} raised {type(error).__name__} although no scope around it was cancelled")
    crash.__cause__ = error
    return crash


def is_ordinary_group(error: BaseException) -> bool:
    """Whether `error` is a group in which nothing must stop the process."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    group = cast("BaseExceptionGroup[BaseException]", error)
    return group.subgroup((KeyboardInterrupt, SystemExit)) is None
