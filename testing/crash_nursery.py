"""The process that starts the lives of `crashes`: ``python -m greenroom.testing.crash_nursery``.

It imports the program once and forks for each life, so that a life costs milliseconds instead of an interpreter's
start. It has one thread and no event loop, which is what makes forking safe. It reads one JSON line for each life from
standard input, answers when that life is over with one on standard output, and ends at the end of its input.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from .crashes import crash_at


def main() -> None:
    """Serve until there is nothing more to read."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    module: Any = None
    for line in questions:
        question = msgspec.json.decode(line)
        if module is None:
            module = _imported(question)
            answer: int = 0
        else:
            answer = _live(module, question)
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()


def _imported(question: dict[str, Any]) -> Any:
    name: str = question["module"]
    file: str = question["file"]
    # Where pytest imports by file (``--import-mode=importlib``), the folder that the name counts from is in no path.
    sys.path[:] = [*question["path"], str(Path(file).parents[name.count(".")])]
    module: Any = None
    with suppress(ImportError):
        module = importlib.import_module(name)
    origin = str(getattr(module, "__file__", None) or os.devnull)
    if not os.path.samefile(origin, file):
        spec = importlib.util.spec_from_file_location("crashing_program", file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["crashing_program"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    for backend in ("asyncio", "trio"):
        anyio.run(anyio.sleep, 0, backend=backend)  # what is imported late is imported now
    if threading.active_count() > 1:
        raise RuntimeError(f"importing {name} has started a thread: a process with threads cannot be forked safely")
    gc.collect()
    gc.freeze()
    return module


def _live(module: Any, question: dict[str, Any]) -> int:
    """Fork, and wait for the end; the exit code, negative for a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    ring, bell = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(ring)
        _be_born(module, question, bell)
    os.close(bell)
    if question["kill_after"] is not None:
        os.read(ring, 1)  # until its first point, or its end
        time.sleep(question["kill_after"])
        os.kill(process, signal.SIGKILL)
    os.close(ring)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _be_born(module: Any, question: dict[str, Any], bell: int) -> None:
    """What the new process does; never returns."""
    code = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, question["patience"])  # nobody handles it: it kills
        nothing = os.open(os.devnull, os.O_RDONLY)
        said = os.open(question["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(source, target)
        crash_at(question["crash_at"], question["points"], bell=bell)
        value = getattr(module, question["function"])(*question["args"])
        Path(question["value"]).write_bytes(msgspec.json.encode(value))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
