"""Where another process finds a function: in a module that it can import, under a name that it has there.

Nothing is pickled, so a function travels as its address. What has none (a lambda, a function inside of another, a
method of an object, a function of the program's own file) is refused where the tool is made, not when it is called.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NamedTuple


class Address(NamedTuple):
    """``module`` as in an import statement, ``name`` with dots for what lies in a class."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def address_of(function: Any, tool: str) -> Address:
    """The address of a function that is to be a tool.

    Raises:
        ValueError: it has none, or there are no process groups here; the text says what to do.
    """
    if os.name != "posix":
        raise ValueError(f"tool {tool!r}: where='process' needs process groups, which {sys.platform} does not have")
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError(f"tool {tool!r}: where='process' needs a plain def at the top of a module, not {function!r}")
    address = Address(module, name)
    problem = None
    if name.endswith("<lambda>"):
        problem = "a lambda has no name there"
    elif "<locals>" in name:
        problem = f"{name} is made anew by each call of the function around it"
    elif getattr(function, "__self__", None) is not None and not isinstance(function, type):
        problem = f"{name} is a method of an object that is here"
    elif module == "__main__":
        problem = "to import this program would run it again"
    if problem is not None:
        raise ValueError(
            f"tool {tool!r}: where='process' needs a function that another process can import, and {problem}: "
            "write it as a plain def at the top of a module of its own"
        )
    return address


def find(address: Address) -> Any:
    """What is there.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has nothing of that name.
        Exception: whatever the module raises when it is imported.
    """
    found: Any = importlib.import_module(address.module)
    for part in address.name.split("."):
        found = getattr(found, part)
    return found


def check_address(address: Address, tool: str, *expected: object) -> None:
    """Refuse an address where something else is, so that the process would call that.

    Raises:
        ValueError: none of `expected` is there.
    """
    try:
        found = find(address)
    except (ImportError, AttributeError):
        found = None
    if not any(found is each for each in expected):
        raise ValueError(
            f"tool {tool!r}: where='process' looks for its function at {address}, and finds "
            f"{'nothing' if found is None else 'something else'} there: put @tool above all other decorators, and "
            "keep the function under its own name"
        )
