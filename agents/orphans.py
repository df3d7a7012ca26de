"""What becomes of runs in the background when the run above them ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from ..actors import NameTaken, SystemClosed
from . import events

if TYPE_CHECKING:
    from .run_cell import RunCell

#: What becomes of one of them.
Orphan: TypeAlias = Literal["stop", "detach", "adopt"]


def orphans_of(run: RunCell) -> list[RunCell]:
    """The runs that are to outlive this one."""
    return [child for child in run.subruns() if child.orphan in ("adopt", "detach")]


def hand_over(child: RunCell) -> bool:
    """Give a run to who is to have it when the run above it ends; False where nobody can."""
    above = child.run_parent
    assert above is not None
    heir = above.run_parent if child.orphan == "adopt" else None
    *_, root = above.line()
    if above.background is not None:
        above.background.returned(child)
    if heir is None:
        try:
            child.move_to_pool(root.approvals)
        except (SystemClosed, NameTaken):
            return False
    else:
        child.move_below(heir)
        heir.background_runs.add(child)
    child.voice.mention(events.AgentAdopted, agent=child.agent.name, heir=heir.name if heir is not None else None)
    return True
