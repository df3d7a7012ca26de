"""The tools of MCP servers, as an entry of an agent's ``tools=``: ``MCP.stdio("npx", "-y", "…")``, ``MCP.http("…")``.

One session with a server is shared by all runs of a System. Who goes through it:

- `toolset`: what is asked for, checked where it is written;
- `opening`: the handshake, and what is open for the length of a session;
- `session`: the list of tools, the calls, and whether the server is still there;
- `stdio` with `server_process`, and `http` with `http_answer`: the way to the server, a process of ours or a URL;
- `link`: what is known of the way, shared by all of those: above all, why it has ended;
- `offered` and `results`: what a server says of its tools, and what they return, in our terms. Pure.

The protocol itself is spoken by the official SDK, ``greenroom[mcp]``, which is loaded when an `MCP` is made.
"""

from .link import MCPServerError
from .toolset import MCP

__all__ = ["MCP", "MCPServerError"]
