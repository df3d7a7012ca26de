"""The tool `tasks`: a list that the model keeps and the user sees.

Each call writes the whole list: so what the user sees and what the model believes are the same, and a call that is lost
costs one version of it and not its consistency. The list is published as the progress of the call, an event
`tool.progress` whose `progress` is ``{"tasks": [{"id", "text", "state"}, …]}``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeAlias

import msgspec

from ...agents import ModelRetry, RunContext

State: TypeAlias = Literal["pending", "in_progress", "done"]

#: Tasks of a list, and characters of one.
MOST = 100
LONGEST = 500
LONGEST_ID = 50

_MARKS: dict[State, str] = {"pending": "[ ]", "in_progress": "[>]", "done": "[x]"}


class Task(msgspec.Struct, frozen=True):
    """One thing to do."""

    id: str
    text: str
    state: State


def new_tasks() -> Callable[..., Coroutine[Any, Any, str]]:
    """The function of the tool, with a list of its own that is empty."""
    kept: list[Task] = []

    async def tasks(context: RunContext[Any], tasks: list[Task] | None = None) -> str:
        """Write your list of tasks, which the user sees. Give all of them each time: the list is replaced.

        Use it for work of several steps: write the steps first, set one to in_progress when you begin it, and to done
        as soon as it is.

        Args:
            tasks: the whole list, in order; leave it out to see the list as it is.
        """
        if tasks is not None:
            check_tasks(tasks)
            kept[:] = tasks
        context.emit({"tasks": [msgspec.structs.asdict(each) for each in kept]})
        return shown(kept)

    return tasks


def check_tasks(tasks: list[Task]) -> None:
    """Refuse a list that nobody could follow.

    Raises:
        ModelRetry: the text says what to mend.
    """
    if len(tasks) > MOST:
        raise ModelRetry(f"a list has at most {MOST} tasks, not {len(tasks)}: put some together")
    seen: set[str] = set()
    for task in tasks:
        if not task.id.strip() or len(task.id) > LONGEST_ID or not task.id.isprintable():
            raise ModelRetry(
                f"a task needs an id of 1 to {LONGEST_ID} visible characters, not {task.id[:LONGEST_ID]!r}"
            )
        if not task.text.strip() or len(task.text) > LONGEST:
            raise ModelRetry(f"task {task.id!r} needs a text of 1 to {LONGEST} characters")
        if task.id in seen:
            raise ModelRetry(f"two tasks have the id {task.id!r}: give each its own")
        seen.add(task.id)


def shown(tasks: list[Task]) -> str:
    """The list as text."""
    if not tasks:
        return "the list is empty"
    lines = [f"{_MARKS[task.state]} {task.id}: {' '.join(task.text.split())}" for task in tasks]
    done = sum(task.state == "done" for task in tasks)
    return "\n".join([*lines, f"{done} of {len(tasks)} done"])
