"""The task of every contender: what the agent is told, and its two tools, which count their calls.

Each tool is there as a coroutine, as a function that blocks, and as the JSON schema that its author would write.
Standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

INSTRUCTIONS = "You are a weather assistant. Use the tools; answer in one sentence."
_calls = 0
_counting = threading.Lock()


def calls_made() -> int:
    """How often a tool here has been called since the process began."""
    return _calls


def _count() -> None:
    global _calls
    with _counting:  # tools of a library that blocks run in threads
        _calls += 1


async def weather(city: str) -> str:
    """Current weather in a city.

    Args:
        city: the city's name.
    """
    _count()
    return f"{city}: 21 degrees, clear"


async def convert(celsius: float) -> str:
    """Degrees Celsius in Fahrenheit.

    Args:
        celsius: the temperature.
    """
    _count()
    return f"{celsius * 9 / 5 + 32:.0f} F"


def weather_blocking(city: str) -> str:
    """Current weather in a city.

    Args:
        city: the city's name.
    """
    _count()
    return f"{city}: 21 degrees, clear"


def convert_blocking(celsius: float) -> str:
    """Degrees Celsius in Fahrenheit.

    Args:
        celsius: the temperature.
    """
    _count()
    return f"{celsius * 9 / 5 + 32:.0f} F"


weather_blocking.__name__ = "weather"
convert_blocking.__name__ = "convert"


def _function(name: str, description: str, argument: str, kind: str, about: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": kind, "description": about}},
        "required": [argument],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


#: For who writes the schema by hand.
TOOL_SCHEMAS = [
    _function("weather", "Current weather in a city.", "city", "string", "the city's name."),
    _function("convert", "Degrees Celsius in Fahrenheit.", "celsius", "number", "the temperature."),
]
TOOLS: dict[str, Callable[..., Awaitable[str]]] = {"weather": weather, "convert": convert}
