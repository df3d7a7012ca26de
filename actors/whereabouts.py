"""Whether the running task belongs to an actor's own, by the tree of task groups.

The budget in a task's context says which actor it comes from, but a task that an actor started in a group of somebody
else's has it too, and the actor does not wait for that one.
"""

from __future__ import annotations

import anyio


def is_below(task_name: str | None) -> bool:
    """Whether the running task is the one of this name, or in a task group that it has opened, at any depth.

    It looks at all tasks of the event loop: for the moment before an error is raised, not for every call.
    """
    task = anyio.get_current_task()
    tasks = {each.id: each for each in anyio.get_running_tasks()}
    seen: set[int] = set()
    while task.name != task_name:
        seen.add(task.id)
        parent = tasks.get(task.parent_id) if task.parent_id is not None else None
        if parent is None or parent.id in seen:
            return False
        task = parent
    return True
