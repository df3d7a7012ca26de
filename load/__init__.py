"""Load without a bill: a simulated model server that plays deterministic conversations and injects faults.

`simulated_server` starts it as a process. A workload says in the prompt what the model shall do
(`Plan.prompt`), and reads afterwards what the server counted (`Stats`).
"""

from .faults import FaultKind, Faults
from .latency import Latency
from .plan import Call, Plan, Turn
from .process import SimulatedServer, simulated_server
from .script import Habits
from .stats import Stats

__all__ = [
    "Call",
    "FaultKind",
    "Faults",
    "Habits",
    "Latency",
    "Plan",
    "SimulatedServer",
    "Stats",
    "Turn",
    "simulated_server",
]
