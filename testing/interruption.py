"""A scenario that is disturbed once at every step it takes.

A step is what a task does between two suspensions. Whatever can come from outside, a stop, a cancellation, a kill, can
come between any two of them; code is right if it is right whenever that happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .observer import Observer
from .run import perform


class Interruption:
    """What a scenario arms, and what it may look at afterwards.

    Attributes:
        step: the number of the step before which the action was called, from 1; None if it was not, as in the
            undisturbed run.
    """

    __slots__ = ("_action", "_at", "_error", "_steps", "step")

    def __init__(self, at: int | None) -> None:
        self._at = at
        self._action: Callable[[], object] | None = None
        self._steps = 0
        self._error: BaseException | None = None
        self.step: int | None = None

    @property
    def fired(self) -> bool:
        """Whether the action was called."""
        return self.step is not None

    def arm(self, action: Callable[[], object]) -> None:
        """Count steps from here on, and call `action` before the one whose turn it is. Arm it once.

        Args:
            action: a plain function without arguments. On asyncio it is called in no task, as callbacks of the event
                loop are. What it raises fails the scenario.

        Raises:
            RuntimeError: it is armed already.
            TypeError: the action is no function.
        """
        if not callable(action):
            raise TypeError(f"arm() takes a function without arguments, such as scope.cancel, not {action!r}")
        if self._action is not None:
            raise RuntimeError("the interruption is armed already")
        self._action = action

    def _before_step(self) -> None:
        if self._action is None:
            return
        self._steps += 1
        if self._steps != self._at:
            return
        self.step = self._steps
        try:
            self._action()
        except BaseException as error:  # an event loop has no use for it
            self._error = error


def interrupt_everywhere(
    scenario: Callable[[Interruption], Awaitable[object]],
    *,
    backend: str = "asyncio",
    seed: int | None = None,
    virtual_time: bool = True,
    limit: int = 1000,
) -> int:
    """Run a scenario undisturbed to count its steps, then once for each step, disturbed just before it.

    The scenario starts what is to be tried, arms the interruption with what disturbs it, waits for the end and checks
    that all is well. Each run is watched as by `run`. The steps of all tasks count.

    What to arm, by what it is to do::

        interruption.arm(scope.cancel)              # a cancel scope: anyio.CancelScope or task_group.cancel_scope
        interruption.arm(task.cancel)               # asyncio's own cancellation: task = asyncio.create_task(…)
        interruption.arm(cancel_twice)              # the same twice, the second while the first is being dealt with:
                                                    #   def cancel_twice(): task.cancel(); loop.call_soon(task.cancel)
                                                    #   with loop = asyncio.get_running_loop()
        interruption.arm(ref.stop)                  # ask an actor to end;  partial(run.stop, "after_turn"): a run
        interruption.arm(ref.kill)                  # end it without being asked

    Args:
        scenario: a coroutine function that takes an `Interruption`, and arms it.
        backend: ``"asyncio"`` or ``"trio"``.
        seed: what the order of ready tasks follows from; None leaves it to the event loop, which on trio differs from
            run to run.
        virtual_time: as in `run`.
        limit: the most steps to try. Of more, so many are tried, evenly spread.

    Returns:
        How many steps were disturbed: how many the undisturbed run takes, unless there is a limit or a run was shorter.

    Raises:
        ValueError: the scenario never armed the interruption, or `limit` is less than 1.
        BaseException: as `run` does, at the first failure, with a note such as "interrupted at step 17 of 45 (trio)".
    """
    if limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit}")

    def attempt(at: int | None, words: str) -> Interruption:
        interruption = Interruption(at)
        try:
            perform(scenario, (interruption,), backend, seed, virtual_time, Observer(interruption._before_step))
            if interruption._error is not None:
                raise interruption._error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            error.add_note(f"{words} ({backend}{'' if seed is None else f', seed {seed}'})")
            raise
        return interruption

    undisturbed = attempt(None, "undisturbed")
    if undisturbed._action is None:
        raise ValueError("the scenario must call interruption.arm()")
    steps = undisturbed._steps
    tried = 0
    for at in _spread(steps, limit):
        # A run may be shorter than the undisturbed one where nothing orders its tasks.
        tried += attempt(at, f"interrupted at step {at} of {steps}").fired
    return tried


def _spread(steps: int, limit: int) -> list[int]:
    """Numbers from 1 to `steps`: all of them, or `limit` with the first and the last."""
    if steps <= limit:
        return list(range(1, steps + 1))
    return [1 + index * (steps - 1) // max(1, limit - 1) for index in range(limit)]
