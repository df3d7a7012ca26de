"""How long a sender may run before it must let others run.

Telling does not yield: a yield per message costs ten times the message. So every sender carries a small counter and
yields at every 64th message, whichever mailboxes they went to. A counter in the mailbox would not do: a sender that
fans out to many mailboxes would never yield.

The counter is found through a context variable. The runtime gives every actor task its own; code outside any actor
shares the one that its mailbox was made with.
"""

from __future__ import annotations

from contextvars import ContextVar

MESSAGES_PER_CHECKPOINT = 64


class Budget:
    """Messages that may still be sent before the next checkpoint, and the sending actor's name."""

    __slots__ = ("left", "owner")

    def __init__(self, owner: str | None = None) -> None:
        self.left = MESSAGES_PER_CHECKPOINT
        self.owner = owner


#: The budget of the actor that this task belongs to. It must stay a small object: contexts outlive their tasks.
current_budget: ContextVar[Budget] = ContextVar("greenroom_budget")
