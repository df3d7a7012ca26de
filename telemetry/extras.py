"""Libraries that are accepted where they are installed, loaded when something needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(module: str, extra: str, what: str) -> Any:
    """The module.

    Raises:
        ImportError: it is not installed; the message says what to install for `what`.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{what} needs {error.name or module}: install greenroom[{extra}]", name=error.name) from None


def flag(name: str, value: object) -> bool:
    """A switch.

    Raises:
        TypeError: neither True nor False.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}= takes True or False, not {value!r}")
    return value
