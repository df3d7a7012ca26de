"""`OpenAIResponses`: a model behind OpenAI's Responses API, or behind anything that speaks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .dialects.openai_responses import ResponsesDialect
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .openai import OPENAI_URL
from .signing import Signer


class OpenAIResponses(Endpoint):
    """A model behind the Responses API.

    Nothing is stored at the provider; the reasoning of its models comes and goes back encrypted. Whatever the API has
    beyond `ModelSettings` goes into their `extra`: for example ``{"tools": [{"type": "web_search"}]}``. With
    `reasoning_effort` a summary of the reasoning is asked for, which OpenAI gives to verified organisations only:
    ``{"reasoning": {"summary": None}}`` asks for none. `seed` and `stop` are unknown to this API and refused.

    The key is looked up at the first call. With `base_url` and neither a key nor `key_variable`, no key is sent: local
    servers need none.

    Args:
        model: the model's name at the vendor.
        base_url: the endpoint, up to and without ``/responses``; by default OpenAI's.
        api_key: the key; by default the environment variable ``OPENAI_API_KEY``.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the vendor's short name, for messages and telemetry. Reasoning goes back to the name that it came from.
        key_variable: another environment variable for the key.
        signer: called with each request for more headers; see `signing`.
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
        key_variable: str | None = None,
        signer: Signer | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            wrong = TypeError if not isinstance(model, str) else ValueError  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong(f"OpenAIResponses(model) must be the model's name, like 'gpt-5-mini', not {model!r}")
        own = base_url is None and signer is None
        super().__init__(
            ResponsesDialect(model, vendor=name),
            name=name,
            model=model,
            base_url=OPENAI_URL if base_url is None else _without_path(base_url),
            api_key=api_key,
            key_variable="OPENAI_API_KEY" if own and key_variable is None else key_variable,
            client=client,
            timeouts=timeouts,
            headers=headers,
            signer=signer,
            wall_clock=wall_clock,
        )


def _without_path(base_url: Any) -> Any:
    """The base of a URL that was copied with the path that this dialect adds itself."""
    if not isinstance(base_url, str):
        return base_url
    base, mark, query = base_url.strip().partition("?")
    return base.rstrip("/").removesuffix(ResponsesDialect.path) + mark + query
