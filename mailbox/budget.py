"""How long a sender may run before it must let others run.

Telling does not yield: a yield per message costs ten times the message. So every sender carries a small counter and
yields at every 64th message, whichever mailboxes they went to. A counter in the mailbox would not do: a sender that
fans out to many mailboxes would never yield.

Spawning counts like a message: neither can be repeated for ever without letting others run, or hearing a cancellation.

The counter is found through a context variable. The runtime gives every actor task its own; code outside any actor
shares the one that its mailbox was made with.
"""

from __future__ import annotations

from contextvars import ContextVar

import msgspec
from anyio.lowlevel import checkpoint

MESSAGES_PER_CHECKPOINT = 64


class Budget(msgspec.Struct, gc=False, eq=False):
    """Messages that may still be sent before the next checkpoint, and the sending actor's name.

    Each actor has one, so it is of a kind that the cyclic collector need not look at.
    """

    owner: str | None = None
    left: int = MESSAGES_PER_CHECKPOINT

    async def spend(self) -> None:
        """Count one step that does not yield, and yield if it is the last one."""
        self.left -= 1
        if self.left <= 0:
            self.left = MESSAGES_PER_CHECKPOINT
            await checkpoint()


#: The budget of the actor that this task belongs to. It must stay a small object: contexts outlive their tasks.
current_budget: ContextVar[Budget] = ContextVar("greenroom_budget")
