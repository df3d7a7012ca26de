"""The examples of the pages that have some are tests, and pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


# In testing.md one block has two tests, two tests run on both backends, and one on both for three formats; in memory.md
# one runs on both.
@pytest.mark.parametrize(
    ("page", "more"),
    [
        ("testing.md", 8),
        ("actors.md", 0),
        ("runs.md", 0),
        ("tools.md", 0),
        ("mcp.md", 0),
        ("workspace.md", 0),
        ("recovery.md", 0),
        ("context.md", 0),
        ("memory.md", 1),
        ("limits.md", 0),
        ("subagents.md", 0),
        ("observability.md", 0),
        ("load-testing.md", 0),
        ("live-view.md", 0),
        ("openai-endpoint.md", 0),
        ("service.md", 0),
    ],
)
def test_the_examples_of_the_page_pass(page: str, more: int, tmp_path: Path) -> None:
    """Each block is a module of its own, in a project with nothing but the plugin."""
    text = DOCS.joinpath(page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        tmp_path.joinpath(f"test_example_{number}.py").write_text(block)
    tmp_path.joinpath("conftest.py").write_text('pytest_plugins = ["greenroom.testing.plugin"]\n')
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--seeds", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(blocks) + more} passed" in done.stdout
