"""The load tester: runs of a workload against a model endpoint, measured from their arrival to their end.

`workloads` is what is run, `builtin` what there is ready-made, `files` how a user's are found. `demand` and `arrivals`
say when runs begin, `session` has them begin and end. `measured`, `copies` and `meter` see what they do; `recorder` and
`sampling` keep it, `histogram` in little space. `reporting` makes the `results` of it, `doubts` says what is wrong with
them. `conduct` does all of it.
"""

from .conduct import load_test
from .progress import Progress
from .results import BadReport, LoadReport, open_report, read_report, write_report
from .workloads import Iteration, Workload, workload

__all__ = [
    "BadReport",
    "Iteration",
    "LoadReport",
    "Progress",
    "Workload",
    "load_test",
    "open_report",
    "read_report",
    "workload",
    "write_report",
]
