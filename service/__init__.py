"""Agents over HTTP: an ASGI application to mount or to serve, with an OpenAI-compatible endpoint and a live page.

    app = Service([agent])

``greenroom serve module:agent`` serves it. Nothing here is loaded by ``import greenroom``; the libraries come with
``greenroom[serve]``.
"""

try:
    from .app import Service
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing != "starlette":
        raise
    raise ModuleNotFoundError("greenroom.service needs starlette: pip install greenroom[serve]", name=missing) from None
from .origin import Origin

__all__ = ["Origin", "Service"]
