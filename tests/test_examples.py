"""The examples run as they are and print what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PRINTED = {
    "tools.py": "It is clear in Tokyo, 70 °F.",
    "streaming.py": "stopped, because: bored",
    "subagents.py": "  run.completed critic",
    "service.py": "stopped nobody asked for moss",
    "blocking.py": "Bob: Put it in the shade.",
    "actors.py": "counter (actor) running",
}


def test_every_example_is_listed() -> None:
    """In the README beside them, and here."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == set(PRINTED)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in readme for name in names)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_an_example_runs(name: str) -> None:
    """Without a key, without a warning."""
    command = [sys.executable, "-P", "-X", "dev", "-X", "utf8", "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert PRINTED[name] in done.stdout
