"""A run as a child task of whoever wants its result."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from anyio import create_task_group

from ..actors.exits import sole
from .launch import Launch
from .result import RunResult
from .stage import RunStage, common_stage

if TYPE_CHECKING:
    from .run_cell import RunCell

OnLimit: TypeAlias = Literal["raise", "return"]


async def run_here(launch: Launch, on_limit: OnLimit) -> RunResult[Any]:
    """Execute a run in a child task of the caller and return its result, or raise its error."""
    parent = launch.parent()
    system = launch.found_system() if parent is None else None
    if parent is not None:
        cell = await _execute(launch, parent[0].stage, parent)
    elif system is not None:
        cell = await _execute(launch, system.stage, None)
    else:
        async with common_stage() as stage:
            cell = await _execute(launch, stage, None)
    if parent is not None:
        await parent[0].regain(parent[1])
    assert cell.result is not None
    if cell.error is not None and not (cell.result.status == "limited" and on_limit == "return"):
        try:
            raise cell.error.with_traceback(None)
        finally:
            del cell  # the error's traceback holds this frame
    return cell.result


async def _execute(launch: Launch, stage: RunStage, parent: tuple[RunCell, str] | None) -> RunCell:
    cell = await launch.cell(stage, parent, followable=False)
    try:
        async with create_task_group() as group:
            with discarded_on_error(cell):
                cell.start_in(group)
            launch.agent.freeze()
    except BaseExceptionGroup as errors:
        raise sole(errors) from None
    return cell


@contextmanager
def discarded_on_error(cell: RunCell) -> Generator[None]:
    """A block that starts a run; where it fails, the run is not to be."""
    try:
        yield
    except BaseException:
        cell.discard()
        raise
