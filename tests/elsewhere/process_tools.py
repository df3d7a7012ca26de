"""Tools as users write them, in a module that imports greenroom."""

from __future__ import annotations

import sys

from greenroom import ModelRetry, ToolFailed, tool
from greenroom.providers import Image, Text
from greenroom.providers.messages import Image as SameImage


@tool(where="process")
def decorated(text: str) -> str:
    """Give it back."""
    return text.upper()


@tool(where="process")
def steer(how: str) -> None:
    """Raise what steers a run."""
    raise {"retry": ModelRetry, "failed": ToolFailed}[how.partition(":")[0]](*filter(None, [how.partition(":")[2]]))


@tool(where="process")
def picture() -> list[object]:
    """Show something."""
    assert Image is SameImage
    assert sys.modules["greenroom"].Agent is sys.modules["greenroom.agents.agent"].Agent
    return [Text("look"), Image(data=b"\x89PNG", media_type="image/png")]
