"""The tools of MCP servers, as an entry of an agent's ``tools=``: ``MCP.stdio("npx", "-y", "…")``, ``MCP.http("…")``.

One session with a server is shared by all runs of a System. Who goes through it:

- `toolset`: what is asked for, checked where it is written;
- `session`: the handshake, the list of tools, the calls, and when all that is over;
- `stdio`, with `server_process`, and `http`: the way to the server, a process of ours or a URL;
- `link`: what is known of the way, shared by those three: above all, why it has ended;
- `offered` and `results`: what a server says of its tools, and what they return, in our terms. Pure.

The protocol itself is spoken by the official SDK, ``greenroom[mcp]``, which is loaded when an `MCP` is made.
"""

from .link import MCPServerError
from .toolset import MCP

__all__ = ["MCP", "MCPServerError"]
