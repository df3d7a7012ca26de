"""Load without a bill: a simulated model server that plays deterministic conversations and injects faults, and a
load tester for agents and endpoints.

`simulated_server` starts the server as a process. A prompt says what the model shall do (`Plan.prompt`); what the
server counted is read afterwards (`Stats`). `load_test` runs a `workload` against it, or against a real endpoint, and
gives a `LoadReport`.
"""

from .faults import FaultKind, Faults
from .latency import Latency
from .plan import Call, Plan, Turn
from .process import SimulatedServer, simulated_server
from .script import Habits
from .stats import Stats
from .tester import Iteration, LoadReport, Workload, load_test, workload

__all__ = [
    "Call",
    "FaultKind",
    "Faults",
    "Habits",
    "Iteration",
    "Latency",
    "LoadReport",
    "Plan",
    "SimulatedServer",
    "Stats",
    "Turn",
    "Workload",
    "load_test",
    "simulated_server",
    "workload",
]
