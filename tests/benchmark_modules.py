"""The modules of `benchmarks/`, for tests: scripts, which import each other from their own folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def beside(folder: Path = FOLDER) -> Generator[None]:
    """Import as a script in `folder` does."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def load(name: str, folder: Path = FOLDER) -> ModuleType:
    """The module `name` of a folder."""
    with beside(folder):
        return importlib.import_module(name)
