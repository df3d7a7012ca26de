"""What the project tests itself with, for its users' tests too.

Virtual time, every order of tasks that a seed gives, an interruption at every step, what was left behind, an actor to
talk to, and providers that refuse what the real ones refuse. The fixtures for pytest are in `greenroom.testing.plugin`.
"""

from .backends import backend
from .clock import hold_clock
from .crashes import Crash, CrashingJournal, Died, Life, Lives, crash_at, crash_everywhere, crash_point
from .deadlock import Deadlock
from .exchanges import DISPATCHER_CHECKS, QUOTA_CHECKS, WIRE_CHECKS
from .fakes import FORMATS, Refused, Said, StrictServer, Unfinished
from .interruption import Interruption, interrupt_everywhere
from .journals import JOURNAL_CHECKS
from .leaks import Leak
from .memories import MEMORY_CHECKS
from .probe import Probe
from .run import explore, run

__all__ = [
    "DISPATCHER_CHECKS",
    "FORMATS",
    "JOURNAL_CHECKS",
    "MEMORY_CHECKS",
    "QUOTA_CHECKS",
    "WIRE_CHECKS",
    "Crash",
    "CrashingJournal",
    "Deadlock",
    "Died",
    "Interruption",
    "Leak",
    "Life",
    "Lives",
    "Probe",
    "Refused",
    "Said",
    "StrictServer",
    "Unfinished",
    "backend",
    "crash_at",
    "crash_everywhere",
    "crash_point",
    "explore",
    "hold_clock",
    "interrupt_everywhere",
    "run",
]
