"""A process with many runs is killed with SIGKILL at random moments, again and again, until all runs have ended.

``GREENROOM_CRASHES`` says how many kills there are on each event loop (default 75), and ``GREENROOM_CRASH_SEED`` what
their moments follow from. How far a process gets until a moment depends on the machine, so a seed does not repeat a
failure exactly.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from greenroom.testing import Lives

from .crashes import programs
from .crashes.checks import check_lives
from .crashes.programs import noted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9")

KILLS = int(os.environ.get("GREENROOM_CRASHES", "75"))
SEED = int(os.environ.get("GREENROOM_CRASH_SEED", "1"))
#: The most kills of one crowd of runs: after so many it lives to its end, however slow the machine is.
ROUND = 15


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_killed_at_random_moments(backend: str, tmp_path: Path) -> None:
    """Scenario 71: whatever it was at, nothing is lost and nothing is done twice."""
    dice = random.Random(SEED)
    kills = rounds = fruitful = 0
    with Lives(programs.crowd) as lives:
        while kills < KILLS:
            rounds += 1
            number = dice.randint(20, 50)
            durability = dice.choice(["none", "group"])
            undisturbed = tmp_path / f"{rounds}-undisturbed"
            folder = tmp_path / str(rounds)
            undisturbed.mkdir()
            folder.mkdir()
            expected = lives.live(undisturbed, number, backend, durability)
            try:
                for _ in range(ROUND):
                    moment = dice.uniform(0.001, 0.05)
                    life = lives.live(folder, number, backend, durability, kill_after=moment)
                    if not life.killed:
                        break
                    kills += 1
                else:
                    life = lives.live(folder, number, backend, durability)
                check_lives(folder, undisturbed, life.value, expected.value)
            except BaseException as error:
                error.add_note(f"round {rounds} of seed {SEED}, after {kills} kills: {number} runs, {durability}")
                raise
            fruitful += sum(bool(found["runs"]) for (found,) in noted(folder, "lives"))
    assert fruitful > KILLS / 3  # most kills fell into the midst of it
