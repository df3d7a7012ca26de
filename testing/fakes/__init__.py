"""Strict fake providers: servers on loopback that refuse what the real ones refuse."""

from .format import Format, Refused, Said
from .openai_chat import OpenAIChatFormat
from .registry import FORMATS
from .server import StrictServer, Unfinished

__all__ = [
    "FORMATS",
    "Format",
    "OpenAIChatFormat",
    "Refused",
    "Said",
    "StrictServer",
    "Unfinished",
]
