"""`Anthropic` and `BedrockAnthropic`: Claude behind Anthropic's Messages API, and the same behind Amazon Bedrock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .aws import KEY_VARIABLE, bedrock_url, is_aws
from .checks import is_whole
from .dialects.anthropic import AnthropicDialect
from .dialects.anthropic_bedrock import BedrockAnthropicDialect
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .signing import Signer

ANTHROPIC_URL = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"


class Anthropic(Endpoint):
    """A model behind the Messages API.

    The key is looked up at the first call. With `base_url` or `signer`, and neither a key nor `key_variable`, no key is
    sent. What the API has beyond `ModelSettings` goes into their `extra`: ``{"thinking": {…}}``,
    ``{"tools": [{"type": "web_search_20250305", …}]}`` (added to the others),
    ``{"cache_control": {"type": "ephemeral"}}``. A beta is switched on by `headers`: ``{"anthropic-beta": "…"}``.

    `reasoning_effort` lets the model think: ``low``, ``medium``, ``high`` and what the model has beyond; ``none``
    leaves it to the model. Models before Claude 4.6 get a budget of tokens instead, at most half of the answer's.

    Args:
        model: the model's name, for example ``"claude-sonnet-5"``.
        base_url: the endpoint, up to and without ``/messages``; ``/v1`` is added where it is missing. By default
            Anthropic's.
        api_key: the key; by default the environment variable ``ANTHROPIC_API_KEY``.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the vendor's short name, for messages and telemetry. Signatures are kept apart by it.
        key_variable: another environment variable for the key.
        signer: called with each request for more headers; see `signing`.
        max_tokens: the longest answer where a request does not say, which the API wants to know: by default 16,384, or
            what an older model can do.
        wall_clock: seconds since 1970.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: `base_url` is not an http or https URL or holds a password, a header cannot be sent, or `max_tokens`
            is no whole number of tokens.
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
        name: str = "anthropic",
        key_variable: str | None = None,
        signer: Signer | None = None,
        max_tokens: int | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        _check("Anthropic", model, max_tokens)
        own = base_url is None and signer is None
        super().__init__(
            AnthropicDialect(model.strip(), vendor=name, max_tokens=max_tokens),
            name=name,
            model=model.strip(),
            base_url=ANTHROPIC_URL if base_url is None else _base(base_url),
            api_key=api_key,
            key_variable="ANTHROPIC_API_KEY" if own and key_variable is None else key_variable,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            key_header="x-api-key",
            own_headers={"anthropic-version": _VERSION},
            signer=signer,
        )


class BedrockAnthropic(Endpoint):
    """A model of Anthropic behind Bedrock's InvokeModel, for what its Converse API does not carry.

    Requests are authorised by `signer` (AWS's signature), or by a Bedrock API key.

    Args:
        model: the model's id or inference profile there, for example ``"us.anthropic.claude-sonnet-5"``.
        region: of the endpoint; by default that of the model's ARN, else ``AWS_REGION``, else
            ``AWS_DEFAULT_REGION``, else ``us-east-1``.
        base_url: another endpoint, up to and without ``/model``.
        signer: called with each request for more headers; see `signing`.
        api_key: a Bedrock API key; by default ``AWS_BEARER_TOKEN_BEDROCK``, which goes to AWS's own hosts only.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the vendor's short name, for messages and telemetry.
        key_variable: another environment variable for the key.
        max_tokens: the longest answer where a request does not say; see `Anthropic`.
        wall_clock: seconds since 1970.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: `base_url` or `region` makes no URL, a header cannot be sent, or `max_tokens` is no whole number of
            tokens.
    """

    def __init__(
        self,
        model: str,
        *,
        region: str | None = None,
        base_url: str | None = None,
        signer: Signer | None = None,
        api_key: str | None = None,
        client: AsyncClient | None = None,
        timeouts: Timeouts | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "bedrock",
        key_variable: str | None = None,
        max_tokens: int | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        _check("BedrockAnthropic", model, max_tokens)
        if base_url is None:
            base_url = bedrock_url(region, model.strip())
        super().__init__(
            BedrockAnthropicDialect(model.strip(), max_tokens=max_tokens),
            name=name,
            model=model.strip(),
            base_url=base_url,
            api_key=api_key,
            key_variable=KEY_VARIABLE if key_variable is None and signer is None and is_aws(base_url) else key_variable,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            # The type of the model's own answer: Bedrock passes it on to the model.
            own_headers={"accept": "application/json"},
            signer=signer,
        )


def _check(who: str, model: Any, max_tokens: Any) -> None:
    if not isinstance(model, str) or not model.strip():
        wrong = TypeError if not isinstance(model, str) else ValueError
        raise wrong(f"{who}(model) must be the model's name, like 'claude-sonnet-5', not {model!r}")
    if max_tokens is not None and (not is_whole(max_tokens) or max_tokens < 1):
        raise ValueError(f"{who}(max_tokens=) must be a whole number of tokens, at least 1, not {max_tokens!r}")


def _base(base_url: Any) -> Any:
    """The base of a URL that was given with the path that the dialect adds, or without the version."""
    if not isinstance(base_url, str):
        return base_url
    base, mark, query = base_url.strip().partition("?")
    base = base.rstrip("/")
    if base.endswith(AnthropicDialect.path):
        return base.removesuffix(AnthropicDialect.path) + mark + query
    return f"{base if base.endswith('/v1') else base + '/v1'}{mark}{query}"
