"""The examples of docs/testing.md are tests, and pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "testing.md"


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    """Each block is a module of its own, in a project with nothing but the plugin."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        tmp_path.joinpath(f"test_example_{number}.py").write_text(block)
    tmp_path.joinpath("conftest.py").write_text('pytest_plugins = ["greenroom.testing.plugin"]\n')
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--seeds", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(blocks) + 3} passed" in done.stdout  # one block has two tests, and two tests run on both backends
