"""The file that says who we are, looked at before the client library reads it, which it does at each connection."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import EngineRefused

_PARTS = (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED")


def check_credentials(path: str) -> None:
    """See that it can be used. What is in it is not said.

    Raises:
        EngineRefused: it cannot be read, or is something else; the library that signs with it is not installed.
    """
    if find_spec("nkeys") is None:
        raise EngineRefused("credentials= needs the library nkeys: install `nkeys`")
    try:
        with open(path, "rb") as file:
            text = file.read(1_000_000)
    except OSError as error:
        raise EngineRefused(
            f"credentials={path!r} cannot be read ({error.strerror}): give the path of a .creds file"
        ) from None
    if not all(part in text for part in _PARTS):
        raise EngineRefused(f"credentials={path!r} is no file of NATS credentials: give the path of a .creds file")
