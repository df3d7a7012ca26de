"""A run is killed with SIGKILL at each of its points, and goes on in another process.

What a run may consist of is in `crashes/programs.py`; what is compared, in `crashes/checks.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from greenroom.testing import Crash, crash_everywhere

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
