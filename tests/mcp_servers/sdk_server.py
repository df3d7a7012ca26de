"""A server made with the SDK, which speaks the newest protocol: ``sdk_server.py`` for stdio, with a port for HTTP."""

from __future__ import annotations

import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import InputRequiredResult
from pydantic import BaseModel

server = MCPServer("sdk")


class Name(BaseModel):
    name: str


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def version(context: Context) -> str:
    """The version of the protocol."""
    return str(context.protocol_version)


@server.tool()
async def work(context: Context) -> str:
    """Work in two steps."""
    await context.report_progress(1, 2, "half")
    return "worked"


@server.tool()
async def who(context: Context) -> str:
    """Ask the user for a name."""
    answer = await context.elicit("Who are you?", Name)
    return str(answer)


@server.tool(structured_output=False)
async def more() -> InputRequiredResult:
    """Ask for more in the middle of a call, as the newest protocol has it."""
    return InputRequiredResult(result_type="input_required", request_state="half")


@server.tool()
async def grow(context: Context) -> str:
    """Have another tool from now on."""
    server.add_tool(lambda: "new", name="new", description="Is new.")
    await context.notify_tools_changed()
    return "grown"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
