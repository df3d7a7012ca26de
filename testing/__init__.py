"""What the project tests itself with, for its users' tests too.

Virtual time, every order of tasks that a seed gives, an interruption at every step, what was left behind, and an actor
to talk to. The fixtures for pytest are in `greenroom.testing.plugin`.
"""

from .backends import backend
from .clock import hold_clock
from .deadlock import Deadlock
from .interruption import Interruption, interrupt_everywhere
from .leaks import Leak
from .probe import Probe
from .run import explore, run

__all__ = [
    "Deadlock",
    "Interruption",
    "Leak",
    "Probe",
    "backend",
    "explore",
    "hold_clock",
    "interrupt_everywhere",
    "run",
]
