"""What the same things cost in Erlang/OTP, where it is installed: the far anchor of the tables.

Run: python benchmarks/bench_erlang.py [--only tell] [--times 3]

Subjects: tell, ask, spawn, supervised_spawn, restart, stop, fan_in, idle; what each is, `erlang/bench.erl` says. CPU
time in microseconds, the best of `--times`; idle in KiB. One scheduler that does not spin while it waits, so that a
figure is the time of one core, as ours are. The other files add the figure of their subject to their own tables.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SUBJECTS = ("tell", "ask", "spawn", "supervised_spawn", "restart", "stop", "fan_in", "idle")
SOURCE = Path(__file__).parent / "erlang" / "bench.erl"
COMPILE = '{ok, Name, Code} = compile:file("%s", [binary]), code:load_binary(Name, "bench.erl", Code)'
ERL = shutil.which("erl")

#: What to say where there is no Erlang, or empty.
ABSENT = "" if ERL else "Erlang (erl) is not installed: no figures of it."


def run_erlang(subjects: Sequence[str], times: int) -> dict[str, list[float]]:
    """The figures of each subject; none where Erlang is not installed, or fails: it has said why on standard error."""
    figures: dict[str, list[float]] = {subject: [] for subject in subjects}
    if ERL is None or not subjects:
        return figures
    program = f"{COMPILE % SOURCE.as_posix()}, bench:main([{', '.join(subjects)}], {times}), halt()."
    command = [ERL, "+S", "1:1", "+sbwt", "none", "+P", "1000000", "-noinput", "-eval", program]
    environment = os.environ | {"ERL_CRASH_DUMP": os.devnull}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines() if not done.returncode else ():
        subject, figure = line.split()
        figures[subject].append(float(figure))
    return figures


def erlang_figures(subject: str, times: int) -> list[float]:
    """The figures of one subject; none where Erlang is not installed."""
    return run_erlang([subject], times)[subject]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="CPU time in Erlang/OTP, in microseconds; idle in KiB")
    parser.add_argument("--only", choices=SUBJECTS)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    print(ABSENT or parser.description)
    for subject, figures in run_erlang([arguments.only] if arguments.only else SUBJECTS, arguments.times).items():
        if figures:
            print(f"{subject:16}  {min(figures):8.3g}")
