"""A run is killed with SIGKILL at each of its points, and goes on in another process.

What a run may consist of is in `crashes/programs.py`; what is compared, in `crashes/checks.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from greenroom.testing import Crash, Died, Lives, crash_everywhere, crash_point

from .crashes import programs
from .crashes.checks import check_lives

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9")

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def check(crash: Crash) -> None:
    """All that has to hold, whatever the point."""
    undisturbed = crash.folder.parent / "undisturbed"
    check_lives(crash.folder, undisturbed, crash.after.value, crash.undisturbed.value)
    assert "Traceback" not in crash.after.output


@backends
@pytest.mark.parametrize("case", programs.CASES)
def test_killed_at_every_point(case: str, backend: str, tmp_path: Path) -> None:
    """Scenarios 71, 72, 73, 74: before and after every write and every effect."""
    points = crash_everywhere(programs.play, tmp_path, check, args=(case, backend))
    assert points > 20


# -- the harness


def forgets(folder: str) -> int:
    """A program that counts its effects, and does one again if it dies between it and the note of it."""
    effects, noted = Path(folder, "effects"), Path(folder, "noted")
    if not noted.exists():
        crash_point("before the effect")
        with effects.open("a") as file:
            file.write("x")
        crash_point("after the effect")
        noted.touch()
    return len(effects.read_text())


def raises(folder: str) -> None:
    """A program that fails."""
    crash_point("here")
    raise RuntimeError(f"no luck in {folder}")


def passes_nothing(folder: str) -> str:
    """A program without points."""
    return folder


def test_a_program_that_does_something_twice_is_found(tmp_path: Path) -> None:
    """The note of the failure names the point."""
    with pytest.raises(AssertionError) as caught:
        crash_everywhere(forgets, tmp_path)
    assert caught.value.__notes__ == ["killed at point 2 of 2: after the effect"]


def test_what_a_program_raises_is_shown(tmp_path: Path) -> None:
    """With its last point and its traceback."""
    with pytest.raises(Died, match=r"(?s)ended with 1; its last point: here.*no luck"), Lives(raises) as lives:
        lives.live(tmp_path)


def test_a_life_that_takes_too_long(tmp_path: Path) -> None:
    """It is killed, and said to have hung."""
    with pytest.raises(Died, match=r"took more than 0\.2 s"), Lives(hangs, patience=0.2) as lives:
        lives.live(tmp_path)


def hangs(folder: str) -> None:
    """A program that comes to no end."""
    crash_point(folder)
    Event().wait()


def test_what_cannot_be_tried(tmp_path: Path) -> None:
    """It says why."""
    with pytest.raises(ValueError, match="passes no crash point"):
        crash_everywhere(passes_nothing, tmp_path)
    with pytest.raises(TypeError, match="a function that stands in a module"):
        Lives(lambda folder: folder)
    with pytest.raises(RuntimeError, match="inside of"):
        Lives(forgets).live(tmp_path)


def test_a_point_chosen_by_the_environment(tmp_path: Path) -> None:
    """For a process that somebody starts by himself."""
    log = tmp_path / "points"
    program = "from greenroom.testing import crash_point\nfor name in 'abc': crash_point(name)"
    environment = {**os.environ, "GREENROOM_CRASH_AT": "2", "GREENROOM_CRASH_LOG": str(log)}
    done = subprocess.run([sys.executable, "-P", "-c", program], env=environment, check=False)
    assert (done.returncode, log.read_text()) == (-signal.SIGKILL, "a\nb\n")
