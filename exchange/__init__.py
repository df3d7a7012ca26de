"""What runs on several machines need of each other: protocols of bytes, and versions of them for one process.

A `Dispatcher` hands out jobs, a `Wire` carries messages and events, a `Quota` shares a budget. With a journal these are
all that a message broker has to stand in for. Nobody who writes an agent meets them.
"""

from .dispatcher import Delivery, Dispatcher, Room
from .errors import AddressTaken, ExchangeError, Missed, NobodyThere, Saturated
from .memory_dispatcher import MemoryDispatcher
from .memory_quota import MemoryQuota
from .memory_wire import MemoryWire
from .meter import Allowance
from .quota import Quota
from .stream import Stream
from .wire import Inbox, Wire

__all__ = [
    "AddressTaken",
    "Allowance",
    "Delivery",
    "Dispatcher",
    "ExchangeError",
    "Inbox",
    "MemoryDispatcher",
    "MemoryQuota",
    "MemoryWire",
    "Missed",
    "NobodyThere",
    "Quota",
    "Room",
    "Saturated",
    "Stream",
    "Wire",
]
