"""The examples run as they are and print what they say."""

from __future__ import annotations

import re
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
    "batch.py": "990 completed, 10 ContentFiltered, 3960 tokens of output\n1000 completed, 4000 tokens of output",
    "conversation.py": "clerk:  Goodbye!\n7 messages, the last one: Goodbye!",
    "stop_signal.py": "stopped, because of stop_when, after",
    "research.py": "3 researchers are back, 4400 tokens are left\nAll three are well understood.\n500 + 250 tokens",
    "sync_sdk.py": "You |have |said: |Good |morning! |\n20 calls, each in a thread",
}
#: They run until they are stopped; tests/test_web.py does.
SERVERS = {"with_fastapi.py", "with_starlette.py"}
#: What the event loop of asyncio says, in development mode, of a step that took long: the machine was busy.
SLOW = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)


def test_every_example_is_listed() -> None:
    """In the README beside them, and here."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {*PRINTED, *SERVERS}
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in readme for name in names)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_an_example_runs(name: str) -> None:
    """Without a key, without a warning."""
    command = [sys.executable, "-P", "-X", "dev", "-X", "utf8", "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, encoding="utf-8", check=False)
    assert (done.returncode, SLOW.sub("", done.stderr)) == (0, "")
    assert PRINTED[name] in done.stdout
