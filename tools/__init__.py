"""Ready-made tools, as entries of an agent's ``tools=``."""

from .mcp import MCP, MCPServerError
from .workspace import Workspace

__all__ = ["MCP", "MCPServerError", "Workspace"]
