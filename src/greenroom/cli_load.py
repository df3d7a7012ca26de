"""``greenroom load``: runs of a workload under load, their progress on standard error, a table on standard output.

A first Ctrl-C (or SIGTERM) ends the test and writes the report of what was measured until then; a second one ends
everything at once.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from os.path import realpath
from typing import Annotated, Literal, TypeAlias

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from .actors import DescriptorLimit
from .cli_demo import show
from .cli_load_compare import compare_reports
from .cli_load_wanted import Wanted, check_place, read_arguments, read_share, read_time, read_workload
from .cli_load_watch import run_stoppable, watching
from .cli_run import Misuse
from .load.tester import LoadReport, load_test, write_report
from .load.tester.builtin import BUILT_IN, options_of
from .load.tester.page import page
from .load.tester.summary import rows
from .load.tester.workloads import BadWorkload
from .providers import ProviderError

Backend: TypeAlias = Literal["asyncio", "uvloop", "trio"]
Share: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Count: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1))]

_LOAD = Group("Load", sort_key=1)
_WORKLOAD = Group("Workload", sort_key=2)
_ENDPOINT = Group("Endpoint", sort_key=3)
_SIMULATED = Group("Simulated model, where no endpoint is given", sort_key=4)
_OUTPUT = Group("Report", sort_key=5)

load = App(
    name="load",
    help="Put an agent or a model endpoint under load, and report latencies, throughput, errors and what it cost.",
    help_epilogue="greenroom load list names the workloads. docs/load-testing.md says what each figure means.",
)
load.command(compare_reports, name="compare")


@load.default
def put_under_load(
    workload: str = "tools",
    /,
    *,
    concurrency: Annotated[Count | None, Parameter(group=_LOAD)] = None,
    rate: Annotated[float | None, Parameter(group=_LOAD)] = None,
    arrivals: Annotated[Literal["poisson", "even"] | None, Parameter(group=_LOAD)] = None,
    ramp: Annotated[str | None, Parameter(group=_LOAD)] = None,
    stages: Annotated[str | None, Parameter(group=_LOAD)] = None,
    duration: Annotated[str | None, Parameter(group=_LOAD)] = None,
    count: Annotated[Count | None, Parameter(group=_LOAD)] = None,
    warm_up: Annotated[str | None, Parameter(group=_LOAD)] = None,
    max_in_flight: Annotated[Count | None, Parameter(group=_LOAD)] = None,
    drain: Annotated[str | None, Parameter(group=_LOAD)] = None,
    connections: Annotated[Count | None, Parameter(group=_LOAD)] = None,
    steps: Annotated[Count | None, Parameter(group=_WORKLOAD)] = None,
    subagents: Annotated[Count | None, Parameter(group=_WORKLOAD)] = None,
    tokens: Annotated[Count | None, Parameter(group=_WORKLOAD)] = None,
    pieces: Annotated[Count | None, Parameter(group=_WORKLOAD)] = None,
    stream: Annotated[bool, Parameter(negative=(), show_default=False, group=_WORKLOAD)] = False,
    base_url: Annotated[str | None, Parameter(group=_ENDPOINT)] = None,
    model: Annotated[str | None, Parameter(group=_ENDPOINT)] = None,
    key_variable: Annotated[str | None, Parameter(group=_ENDPOINT)] = None,
    latency: Annotated[str | None, Parameter(group=_SIMULATED)] = None,
    faults: Annotated[Share | None, Parameter(group=_SIMULATED)] = None,
    seed: Annotated[int, Parameter(group=_LOAD)] = 1,
    backend: Annotated[Backend, Parameter(group=_LOAD)] = "asyncio",
    json: Annotated[str | None, Parameter(group=_OUTPUT, allow_leading_hyphen=True)] = None,
    html: Annotated[str | None, Parameter(group=_OUTPUT)] = None,
    max_errors: Annotated[str | None, Parameter(group=_OUTPUT)] = None,
    max_p99: Annotated[str | None, Parameter(group=_OUTPUT)] = None,
) -> int:
    """Run a workload under load and report.

    Args:
        workload: A built-in workload, or a file: my_load.py, or my_load.py:name.
        concurrency: Runs in flight; a new one begins when one ends. Default 100.
        rate: Arrivals per second instead, whatever became of those before.
        arrivals: With --rate: at random distances (poisson, the default) or even ones.
        ramp: Time in which the load grows from nothing.
        stages: The whole course instead: 10s:50,30s:200 in flight, or 10s:50/s,30s:200/s.
        duration: Time that is measured. Default 10s.
        count: Runs that are measured; with --duration whichever is over first.
        warm_up: Time before that which is not measured. Default 1s, without --count and --stages.
        max_in_flight: With --rate: runs in flight at most; others wait. Default 1000.
        drain: Time that runs have to end, at last. Default 30s.
        connections: Connections to the endpoint, at most.
        steps: Of tools: tool calls. Default 3.
        subagents: Of fanout: subagents. Default 3.
        tokens: Of context: input tokens. Default 8000.
        pieces: Of stream: pieces of the answer. Default 60.
        stream: Stream the answers of any workload, and read them piece by piece.
        base_url: Another endpoint than the vendor's, as for greenroom run.
        model: vendor:model, or with --base-url any name that the server knows.
        key_variable: The environment variable that holds the key.
        latency: Median, 99th percentile, and time between streamed pieces. Default 200ms-600ms+10ms.
        faults: Share of requests (0 to 1) that fail: 429, 500, reset, stall.
        seed: Of arrivals, workload, and the simulated model.
        backend: The event loop.
        json: Write the report to a file as JSON; - is standard output, instead of the table.
        html: Write the report to a file as a page with plots.
        max_errors: Exit with status 1 when more of the runs fail, for example 1%.
        max_p99: Exit with status 1 when 1 run in 100 takes longer, for example 2s.
    """
    given = locals()
    return carry_out(Wanted(**{name: given[name] for name in Wanted.__struct_fields__}))


@load.command(name="list")
def list_() -> int:
    """List the built-in workloads and their options."""
    lines: list[tuple[str, str]] = []
    for name, make in BUILT_IN.items():
        options = ", ".join(f"--{option}" for option in options_of(name))
        lines.append((name, f"{make().about}{f' ({options})' if options else ''}"))
    show("greenroom load", lines)
    return 0


def carry_out(wanted: Wanted) -> int:
    """Run the test; returns the exit status.

    Raises:
        Misuse: what is asked for cannot be done.
        Interrupted: a second signal came before the end.
    """
    for option, place in (("--json", wanted.json), ("--html", wanted.html)):
        check_place(option, place)
    if wanted.html is not None and wanted.json is not None and realpath(wanted.json) == realpath(wanted.html):
        raise Misuse(f"--json and --html both name {wanted.html}: the one would overwrite the other")
    workload = read_workload(wanted)
    arguments = read_arguments(wanted)
    max_errors, max_p99 = read_share("--max-errors", wanted.max_errors), read_time("--max-p99", wanted.max_p99)
    if wanted.backend == "uvloop" and find_spec("uvloop") is None:
        raise Misuse("--backend uvloop: uvloop is not installed; pip install 'greenroom[uvloop]'")
    with watching() as watch:
        try:
            report, signal = run_stoppable(partial(load_test, workload, watch=watch, **arguments), wanted.backend)
        except BadWorkload as error:
            raise Misuse(str(error)) from None
        except ProviderError as error:
            return _complain(f"the endpoint does not answer, so nothing was tested: {_words(error)}")
        except DescriptorLimit as error:
            return _complain(str(error).replace("max_running", "--concurrency, --max-in-flight or --connections"))
        except (OSError, RuntimeError, TimeoutError) as error:
            # The simulated server cannot be started: the message says why.
            return _complain(str(error))
    status = _write(wanted, report)
    if signal:
        print("greenroom: interrupted; the report is of what was measured until then", file=sys.stderr)
        return 128 + signal
    return status or _judge(report, max_errors, max_p99, wanted)


# -- what comes of it


def _write(wanted: Wanted, report: LoadReport) -> int:
    """Write the report wherever it is wanted; returns the exit status."""
    status = 0
    # Files first: whoever reads what is printed may have gone.
    if wanted.json != "-":
        status = _write_file(wanted.json, write_report(report))
    if wanted.html is not None:
        status = _write_file(wanted.html, page(report).encode()) or status
    if sys.__stdout__ is None:  # closed by whoever started us
        return status
    if wanted.json == "-":
        print(write_report(report).decode())
    else:
        show(f"greenroom load {report.workload}", rows(report))
    return status


def _write_file(place: str | None, data: bytes) -> int:
    if place is None:
        return 0
    try:
        with open(place, "wb") as file:
            file.write(data)
    except OSError as error:
        return _complain(f"{place}: {error.strerror or error}")
    return 0


def _judge(report: LoadReport, max_errors: float | None, max_p99: float | None, wanted: Wanted) -> int:
    """The exit status for what was measured, and a line for each thing that was not to be."""
    status, latency = 0, report.run_latency
    if latency is None:
        return _complain("no run completed")
    if max_errors is not None and report.failures > max_errors:
        status = _complain(
            f"{report.failures * 100:.3g} % of the runs failed, more than --max-errors {wanted.max_errors}"
        )
    if max_p99 is not None and latency.p99 > max_p99:
        status = _complain(f"1 run in 100 took more than {latency.p99:.3g} s, longer than --max-p99 {wanted.max_p99}")
    return status


def _words(error: ProviderError) -> str:
    """A provider's words; the command line takes no key, for others could read it."""
    words = " ".join(str(error).split())
    for advice in (" or pass api_key=", " or signer="):
        words = words.replace(advice, "")
    return words.replace("pass api_key=", "give --key-variable")


def _complain(words: str) -> int:
    print(f"greenroom: {words}", file=sys.stderr)
    return 1
