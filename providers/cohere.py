"""`Cohere`: a model behind Cohere's own API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from .dialects.cohere import CohereDialect
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .signing import Signer

COHERE_URL = "https://api.cohere.com"
_KEY_VARIABLE = "COHERE_API_KEY"
_OTHER_KEY_VARIABLE = "CO_API_KEY"  # what Cohere's own SDK reads


class Cohere(Endpoint):
    """A model behind Cohere's ``/v2/chat``.

    The key is looked up at the first call: in ``COHERE_API_KEY``, then in ``CO_API_KEY``. With `base_url` and neither a
    key nor `key_variable`, no key is sent.

    Args:
        model: the model's name, like ``command-a-03-2025``.
        base_url: the endpoint, up to and without ``/v2/chat``; by default Cohere's.
        api_key: the key; by default from the environment.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the short name, for messages and telemetry.
        key_variable: another environment variable for the key.
        signer: called with each request for more headers.
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
        name: str = "cohere",
        key_variable: str | None = None,
        signer: Signer | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            wrong = TypeError if not isinstance(model, str) else ValueError  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"Cohere(model) must be the model's name, like 'command-a-03-2025', not {model!r}")
        own = base_url is None
        super().__init__(
            CohereDialect(model.strip()),
            name=name,
            model=model.strip(),
            base_url=COHERE_URL if base_url is None else _without_path(base_url),
            api_key=api_key,
            key_variable=_KEY_VARIABLE if own and key_variable is None else key_variable,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            signer=signer,
        )

    def _current_key(self) -> str | None:
        key = super()._current_key()
        if key is None and self._key_variable == _KEY_VARIABLE:
            return os.environ.get(_OTHER_KEY_VARIABLE, "").strip() or None
        return key


def _without_path(base_url: str) -> str:
    """The base of a URL that was copied with the path that this dialect adds itself."""
    if not isinstance(base_url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return base_url
    base, mark, query = base_url.strip().partition("?")
    return base.rstrip("/").removesuffix("/chat").removesuffix("/v2") + mark + query
