"""Agents over HTTP: an ASGI application to mount or to serve, with an OpenAI-compatible endpoint and a live page.

    app = Service([agent])

``greenroom serve module:agent`` serves it. Nothing here is loaded by ``import greenroom``; the libraries come with
``greenroom[serve]``.
"""

from .app import Service
from .origin import Origin

__all__ = ["Origin", "Service"]
