"""Signatures and short-lived tokens, made by the caller: what a key in a header cannot do.

Some endpoints want each request signed (AWS), others a token that expires within the hour (Google Cloud, Entra ID). A
*signer* is called with each request before it is sent and answers with headers to add:

    def signer(request: UnsignedRequest) -> dict[str, str]:
        return {"authorization": f"Bearer {credentials.fresh_token()}"}

It may be an `async def`. A plain function runs in the event loop: one that waits for a network belongs in a thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import msgspec


class UnsignedRequest(msgspec.Struct, frozen=True):
    """A request as it will be sent: `url` with its query, `headers` in lower case, the `body` in bytes."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


Signer: TypeAlias = Callable[[UnsignedRequest], "Mapping[str, str] | Awaitable[Mapping[str, str]]"]


def check_signer(signer: Any) -> Signer | None:
    """The signer itself.

    Raises:
        TypeError: it cannot be called.
    """
    if signer is not None and not callable(signer):
        raise TypeError(f"signer= must be a function of an UnsignedRequest, not {type(signer).__name__}")
    return cast("Signer | None", signer)


async def signature(signer: Signer, request: UnsignedRequest) -> dict[str, str]:
    """The headers that the signer adds, with names in lower case.

    Raises:
        TypeError: it answered with something else than headers.
    """
    made: Any = signer(request)
    if inspect.isawaitable(made):
        made = await made
    if not isinstance(made, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in cast("Mapping[Any, Any]", made).items()
    ):
        raise TypeError(f"signer= must return a dictionary of headers, not {type(cast('object', made)).__name__}")
    return {name.lower(): value.strip() for name, value in cast("Mapping[str, str]", made).items()}
