"""`OpenAIChat`: a model behind OpenAI's Chat Completions, or behind anything that speaks it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .dialects.openai_chat import ChatDialect, Quirks
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .signing import Signer

OPENAI_URL = "https://api.openai.com/v1"


class OpenAIChat(Endpoint):
    """A model behind the Chat Completions API.

    The key is looked up at the first call. With `base_url` or `signer`, and neither a key nor `key_variable`, no key is
    sent: local servers need none, and others must not see OpenAI's.

    Args:
        model: the model's name at the vendor.
        base_url: the endpoint, up to and without ``/chat/completions``; by default OpenAI's.
        api_key: the key; by default the environment variable ``OPENAI_API_KEY``.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the vendor's short name, for messages and telemetry.
        key_variable: another environment variable for the key, or several: the first that is set counts.
        key_header: the header that carries the key; in ``authorization`` it goes as a bearer token.
        signer: called with each request for more headers; see `signing`.
        quirks: how this server differs from the others in what it wants to be sent.
        wall_clock: seconds since 1970.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: `base_url` is not an http or https URL or holds a password, or a header cannot be sent.
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
        name: str = "openai",
        key_variable: str | Sequence[str] | None = None,
        key_header: str = "authorization",
        signer: Signer | None = None,
        quirks: Quirks | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            wrong = TypeError if not isinstance(model, str) else ValueError  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"OpenAIChat(model) must be the model's name, like 'gpt-5-mini', not {model!r}")
        if quirks is not None and not isinstance(quirks, Quirks):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"quirks= must be Quirks(…), not {type(quirks).__name__}")
        own = base_url is None
        variables = _variables("OPENAI_API_KEY" if own and signer is None and key_variable is None else key_variable)
        if quirks is None:
            quirks = Quirks(max_tokens_key="max_completion_tokens" if own else "max_tokens")
        super().__init__(
            ChatDialect(model.strip(), vendor=name, quirks=quirks),
            name=name,
            model=model.strip(),
            base_url=OPENAI_URL if base_url is None else _without_path(base_url),
            api_key=api_key,
            key_variable=" or ".join(variables) or None,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            key_header=key_header,
            signer=signer,
        )
        self._key_variables = variables

    def _current_key(self) -> str | None:
        if self._key is not None:
            return self._key
        return next((key for name in self._key_variables if (key := os.environ.get(name, "").strip())), None)


def _variables(names: Any) -> tuple[str, ...]:
    if names is None or isinstance(names, str):
        return (names,) if names else ()
    listed = tuple(cast("Sequence[Any]", names)) if isinstance(names, Sequence) else (names,)
    if not all(isinstance(name, str) and name for name in listed):
        raise TypeError(f"key_variable= must be the name of an environment variable, or several, not {names!r}")
    return listed


def _without_path(base_url: Any) -> Any:
    """The base of a URL that was copied with the path that this dialect adds itself."""
    if not isinstance(base_url, str):
        return base_url
    base, mark, query = base_url.strip().partition("?")
    if base.endswith("://"):
        return base_url  # no address at all, to be quoted as it is
    return base.rstrip("/").removesuffix(ChatDialect.path) + mark + query
