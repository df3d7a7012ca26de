"""`Ollama`: a model behind Ollama's own API, on this machine, elsewhere, or at ollama.com."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from .checks import is_number, is_whole
from .dialects.ollama import OllamaDialect, Think
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .signing import Signer

OLLAMA_URL = "http://localhost:11434"
_THINK = ("low", "medium", "high")
_PORTS = {"http": "80", "https": "443"}


class Ollama(Endpoint):
    """A model behind Ollama's ``/api/chat``.

    A local server needs no key. At ollama.com the key is looked up in ``OLLAMA_API_KEY`` at the first call.

    Args:
        model: the model's name, like ``llama3.2`` or ``gpt-oss:20b``.
        base_url: the server, without ``/api``; by default what ``OLLAMA_HOST`` says, else ``http://localhost:11434``.
        api_key: sent as a bearer token, for servers that want one.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`. Loading a large model takes its time before the
            first byte.
        headers: added to every request.
        name: the short name, for messages and telemetry.
        signer: called with each request for more headers.
        context_length: tokens of context to load the model with. The server's default is small, and what does not fit
            is dropped from the beginning of the conversation in silence.
        keep_alive: how long the model stays loaded after the call: seconds, or text like ``"10m"``.
        think: True, False, ``"low"``, ``"medium"`` or ``"high"``, for models that can think; None for the model's
            default. A request's `reasoning_effort` goes first.
        wall_clock: seconds since 1970.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: an argument is out of range, `base_url` or ``OLLAMA_HOST`` is not an address, or a header cannot be
            sent.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncClient | None = None,
        timeouts: Timeouts | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "ollama",
        signer: Signer | None = None,
        context_length: int | None = None,
        keep_alive: str | float | None = None,
        think: Think | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            wrong = TypeError if not isinstance(model, str) else ValueError  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"Ollama(model) must be the model's name, like 'llama3.2', not {model!r}")
        if context_length is not None and not (is_whole(context_length) and context_length >= 1):
            raise ValueError(f"context_length= must be a whole number of tokens, at least 1, not {context_length!r}")
        if keep_alive is not None and not (is_number(keep_alive) or (isinstance(keep_alive, str) and keep_alive)):
            raise ValueError(f"keep_alive= must be seconds or text like '10m', not {keep_alive!r}")
        if not (think is None or isinstance(think, (bool, str))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"think= must be True, False, 'low', 'medium' or 'high', not {think!r}")
        if isinstance(think, str) and think not in _THINK:
            raise ValueError(f"think= must be True, False, 'low', 'medium' or 'high', not {think!r}")
        url = host_url(os.environ.get("OLLAMA_HOST", "")) if base_url is None else _server(base_url)
        super().__init__(
            OllamaDialect(model.strip(), context_length=context_length, keep_alive=keep_alive, think=think),
            name=name,
            model=model.strip(),
            base_url=url,
            api_key=api_key,
            key_variable="OLLAMA_API_KEY" if _is_cloud(url) else None,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            signer=signer,
        )


def host_url(host: str) -> str:
    """The address that ``OLLAMA_HOST`` means: a host, a host with a port, a port, or a URL; empty for the default.

    An address of all interfaces, which a server listens at, is this machine for a client.
    """
    host = host.strip().strip("\"'").strip().rstrip("/")
    if not host:
        return OLLAMA_URL
    scheme, mark, rest = host.rpartition("://")
    where, slash, path = rest.partition("/")
    if where.count(":") > 1 and "[" not in where:
        where = f"[{where}]"  # an IPv6 address without its brackets
    name, colon, port = where.rpartition(":") if not where.endswith("]") else (where, "", "")
    if not colon:
        name, port = where, _PORTS[scheme] if mark and scheme in _PORTS else "11434"
    name = "localhost" if name in ("", "0.0.0.0", "[::]") else name
    return f"{scheme or 'http'}://{name}:{port}{slash}{path}"


def _server(base_url: str) -> str:
    """The server of a URL that was copied with the path that this dialect adds itself."""
    if not isinstance(base_url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return base_url
    base, mark, query = base_url.strip().partition("?")
    base = base.rstrip("/")
    return base.removesuffix(OllamaDialect.path).removesuffix("/api") + mark + query


def _is_cloud(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except (ValueError, AttributeError):
        return False
    return host == "ollama.com" or host.endswith(".ollama.com")
