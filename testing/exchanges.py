"""What every dispatcher, wire and quota must do, as checks that any implementation can run under its own tests.

A check is an async function that takes `make`. Each call of `make` returns a block that opens another door to the same
dispatcher, wire or quota, as another process would have; it is empty when the check begins. What one process has only
one of may be the same object behind all doors. A check fails with an `AssertionError`, or with what was raised.

Checks run in virtual time as well as in real time. That something does not happen is watched for `A_WHILE`, and what
must happen is waited for `PATIENCE`.
"""

from .dispatchers import DISPATCHER_CHECKS, MakeDispatcher
from .quotas import QUOTA_CHECKS, MakeQuota
from .wire_events import WIRE_EVENT_CHECKS
from .wires import WIRE_MESSAGE_CHECKS, MakeWire

WIRE_CHECKS = (*WIRE_MESSAGE_CHECKS, *WIRE_EVENT_CHECKS)

__all__ = ["DISPATCHER_CHECKS", "QUOTA_CHECKS", "WIRE_CHECKS", "MakeDispatcher", "MakeQuota", "MakeWire"]
