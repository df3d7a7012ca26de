"""A program that is killed at every point that matters, and started again each time.

Whoever promises to survive the death of the process says what that means at each moment: before something is written
down, when it is on its way, when it is durable, before and after an effect on the world. Such a moment is a *point*.
A program passes `crash_point("before the mail is sent")` in its tools, providers and hooks; a `CrashingJournal`, around
any journal, has the points of everything that is written. Where nothing is configured, a point costs next to nothing.

Points are counted as they are passed, and their names written to a side file, which is there after a crash. The process
kills itself with SIGKILL at the one whose number is wanted: nothing is cleaned up, no handler runs, no buffer is
flushed. So a driver can run a program once undisturbed to see how many points there are, then once for each point:
`crash_everywhere`. `Lives` is its tool, also for deaths at a moment that nobody chose.

What is configured comes from `crash_at`, else from the environment: ``GREENROOM_CRASH_AT`` (the number, from 1) and
``GREENROOM_CRASH_LOG`` (the side file).
"""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from ..journal import BadRecord, Claim, Journal, Listed, decode

#: The number of the point to die at, from 1, and the file that has the name of each point that was passed.
AT, LOG = "GREENROOM_CRASH_AT", "GREENROOM_CRASH_LOG"
#: Real seconds that one life may take.
PATIENCE = 60.0


# -- in the process that dies


class _Plan:
    """What this process does at its points."""

    def __init__(self, at: int | None, log: str | os.PathLike[str] | None, bell: int | None) -> None:
        self._at = at
        self._bell = bell
        self._lock = threading.Lock()
        self._passed = 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log is not None else None

    def passes(self, name: str) -> None:
        with self._lock:
            self._passed += 1
            if self._log is not None:
                os.write(self._log, f"{name}\n".encode())
            if self._bell is not None:
                os.close(self._bell)
                self._bell = None
            if self._passed == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


_plan: _Plan | None = None
_configured = False


def crash_at(number: int | None, log: str | os.PathLike[str] | None = None, *, bell: int | None = None) -> None:
    """Have this process die at its `number`-th point from here on (None: at none), and list those that it passes.

    Args:
        number: from 1.
        log: the side file.
        bell: a descriptor to close at the first point.
    """
    global _plan, _configured
    _plan = _Plan(number, log, bell) if number is not None or log is not None else None
    _configured = True


def crash_point(name: str) -> None:
    """A moment at which the process may die, and does if that is what a test wants. From any thread."""
    if not _configured:
        at, log = os.environ.get(AT), os.environ.get(LOG)
        crash_at(int(at) if at else None, log)
    if _plan is not None:
        _plan.passes(name)


class CrashingJournal:
    """A journal with the points of what is written: before an entry, when it is on its way, when it is durable."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: dict[str, int] = {}

    @property
    def survives(self) -> bool:
        return self._journal.survives

    @property
    def is_open(self) -> bool:
        return self._journal.is_open

    async def __aenter__(self) -> Self:
        await self._journal.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._journal.__aexit__(exc_type, exc, traceback)

    def create(self, run_id: str, *, parent_id: str | None = None, conversation_id: str | None = None) -> Claim:
        return self._journal.create(run_id, parent_id=parent_id, conversation_id=conversation_id)

    async def claim(self, run_id: str, *, after: int | None = None) -> Claim:
        crash_point(f"{run_id}: before it is claimed")
        claim = await self._journal.claim(run_id, after=after)
        crash_point(f"{run_id}: claimed")
        return claim

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        name = f"{claim.run_id}[{claim.next if sequence is None else sequence}] {_described(entry)}"
        crash_point(f"{name}: before it is written")
        sequence = self._journal.append(claim, entry, final=final, sequence=sequence)
        crash_point(f"{name}: on its way")
        self._waiting[claim.run_id] = sequence
        return sequence

    async def durable(self, claim: Claim) -> None:
        await self._journal.durable(claim)
        sequence = self._waiting.pop(claim.run_id, None)
        if sequence is not None:
            crash_point(f"{claim.run_id}[{sequence}]: durable")

    async def read(self, run_id: str) -> list[bytes]:
        return await self._journal.read(run_id)

    async def runs(
        self,
        *,
        unfinished: bool = False,
        conversation_id: str | None = None,
        run_id: str | None = None,
        parent_id: str | None = None,
    ) -> list[Listed]:
        return await self._journal.runs(
            unfinished=unfinished, conversation_id=conversation_id, run_id=run_id, parent_id=parent_id
        )

    async def prune(self, before: float) -> int:
        return await self._journal.prune(before)

    def release(self, claim: Claim) -> None:
        self._journal.release(claim)


def _described(entry: bytes) -> str:
    try:
        return "+".join(type(record).__name__ for record in decode(entry))
    except BadRecord:
        return "?"


# -- the driver


class Life(msgspec.Struct, frozen=True):
    """What became of one process.

    Attributes:
        points: the names of the points that it passed; of one that died at a point, the last one is that point.
        killed: whether it was killed before its program returned.
        value: what its program returned, as JSON has it; None if it was killed.
        output: what it wrote to standard output and standard error.
    """

    points: tuple[str, ...]
    killed: bool
    value: Any
    output: str


class Crash(msgspec.Struct, frozen=True):
    """A life that ended at a point, and the one after it.

    Attributes:
        number: the point's, from 1.
        folder: what the two lives have worked with.
        undisturbed: the life without a crash, to compare with.
        before, after: the life that was killed, and the one that went on.
    """

    number: int
    folder: Path
    undisturbed: Life
    before: Life
    after: Life

    @property
    def point(self) -> str:
        """Where it was."""
        return self.before.points[-1]


class Died(AssertionError):
    """A life did not end as it should: its program raised something, or took too long."""


class Lives:
    """``with Lives(program) as lives:`` starts processes that run a program, one after the other.

    A process that imports everything once is started with the block; each life is a fork of it, which takes
    milliseconds. So importing the program's module must start no thread. POSIX only.

    Args:
        program: a function of a module (not of a class or another function), called with the arguments of `live`. What
            it returns goes through JSON.
        patience: real seconds that a life may take.
    """

    def __init__(self, program: Callable[..., Any], *, patience: float = PATIENCE) -> None:
        if not inspect.isfunction(program) or program.__qualname__ != program.__name__:
            raise TypeError(f"a program is a function that stands in a module, not {program!r}")
        self._program = program
        self._patience = patience
        self._nursery: subprocess.Popen[bytes] | None = None
        self._folder = ""

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="lives-")
        program = self._program
        self._nursery = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", "-m", f"{__package__}.crash_nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._tell({"path": sys.path, "module": program.__module__, "file": inspect.getfile(program)})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            with nursery:
                assert nursery.stdin is not None
                nursery.stdin.close()  # it ends then, when the life at hand has ended
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, question: Any) -> Any:
        nursery = self._nursery
        if nursery is None:
            raise RuntimeError("lives are started inside of `with Lives(program) as lives:`")
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write(msgspec.json.encode(question) + b"\n")
        nursery.stdin.flush()
        answer = nursery.stdout.readline()
        if not answer:
            raise Died("the process that starts the others has ended; what it said stands above")
        return msgspec.json.decode(answer)

    def live(self, *args: Any, crash_at: int | None = None, kill_after: float | None = None) -> Life:
        """Run the program in a process of its own, to its end.

        Args:
            args: for the program: what JSON can hold, and paths (which arrive as text).
            crash_at: the number of the point to die at, from 1.
            kill_after: real seconds after its first point, in which it is killed wherever it is.

        Raises:
            Died: the program raised something, or took longer than its patience.
        """
        points, said, value = (Path(self._folder, name) for name in ("points", "said", "value"))
        for each in (points, said, value):
            each.unlink(missing_ok=True)
        question: dict[str, Any] = {
            "function": self._program.__name__,
            "args": [str(arg) if isinstance(arg, Path) else arg for arg in args],
            "crash_at": crash_at,
            "kill_after": kill_after,
            "patience": self._patience,
            "points": str(points),
            "said": str(said),
            "value": str(value),
        }
        code = self._tell(question)
        passed = tuple(points.read_text().splitlines()) if points.exists() else ()
        output = said.read_text(errors="replace") if said.exists() else ""
        if code == -signal.SIGKILL and (crash_at is not None or kill_after is not None):
            return Life(passed, True, None, output)
        if code != 0:
            last = passed[-1] if passed else "none"
            why = f"took more than {self._patience:g} s" if code == -signal.SIGALRM else f"ended with {code}"
            raise Died(f"the program {why}; its last point: {last}\n{output}")
        return Life(passed, False, msgspec.json.decode(value.read_bytes()), output)


def crash_everywhere(
    program: Callable[..., Any],
    folder: str | os.PathLike[str],
    check: Callable[[Crash], object] | None = None,
    *,
    args: Sequence[Any] = (),
    patience: float = PATIENCE,
) -> int:
    """Run a program undisturbed, then once for each of its points: killed there, run again, and compared.

    The program is called with a folder and `args`. In an empty folder it begins, in another one it goes on with what it
    finds there, and returns what came of it.

    Args:
        program: a function of a module.
        folder: where the lives have folders of their own.
        check: is given each `Crash`, and raises what it finds wrong; by default, whatever the program returned after
            the crash must be what it returned undisturbed.
        args: further arguments, which JSON can hold.
        patience: real seconds that a life may take.

    Returns:
        How many points there were.

    Raises:
        Died: a life did not end as it should.
        BaseException: what `check` raises, with a note that names the point.
    """
    with Lives(program, patience=patience) as lives:
        undisturbed = lives.live(_made(folder, "undisturbed"), *args)
        if not undisturbed.points:
            raise ValueError("the program passes no crash point: use a CrashingJournal, or crash_point(…)")
        for number, point in enumerate(undisturbed.points, 1):
            place = _made(folder, str(number))
            try:
                before = lives.live(place, *args, crash_at=number)
                if before.killed:  # else it went another way this time, with fewer points
                    after = lives.live(place, *args)
                    (check or _same)(Crash(number, place, undisturbed, before, after))
            except BaseException as error:
                error.add_note(f"killed at point {number} of {len(undisturbed.points)}: {point}")
                raise
    return len(undisturbed.points)


def _made(folder: str | os.PathLike[str], name: str) -> Path:
    made = Path(folder, name)
    made.mkdir(parents=True)
    return made


def _same(crash: Crash) -> None:
    assert crash.after.value == crash.undisturbed.value
