"""The program of a process of tools: gets ready without importing greenroom as a whole, then serves calls.

Importing greenroom takes many times what a new interpreter takes, and a process needs only a few small modules of it.
They lie below packages whose doors import everything. So the packages get empty doors here, each of which is filled
the first time that somebody asks it for a name: when a tool's own module says ``from greenroom import tool``. All
modules have their real names and exist once, whoever imported them first.

It is run by its path, with the descriptor of its socket and the entries of `sys.path` as arguments.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

#: The packages on the way to what a process needs; those above first.
PACKAGES = ("greenroom", "greenroom.providers", "greenroom.agents")


def main(descriptor: int, path: list[str]) -> None:
    """Serve calls until the other end is closed."""
    sys.path[:] = path
    del sys.argv[1:]
    for name in PACKAGES:
        _make_empty_door(name)
    importlib.import_module("greenroom.agents.process_child").serve(descriptor)


def _make_empty_door(name: str) -> None:
    """Put a package in place without running its ``__init__``, which runs when a name in it is first looked up."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"a process of tools cannot find {name} on its import path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader

    def fill(wanted: str) -> Any:
        if wanted.startswith("__"):  # the import system looks for what a package may have
            raise AttributeError(f"module {name!r} has no attribute {wanted!r}")
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, wanted)

    module.__dict__["__getattr__"] = fill


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
