"""`AzureOpenAIChat`: OpenAI's models and others behind Azure, by the Chat Completions API.

Azure has two paths for the same thing. The *v1* path is OpenAI's own, with the deployment as the model's name. The
*classic* path names the deployment in the URL, and wants the date of an API version with it. The key travels in a
header of its own, ``api-key``; a token of Entra ID in ``authorization``, which is the part of `signer`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from .dialects.openai_chat import ChatDialect, Quirks
from .http import AsyncClient, Timeouts
from .openai import OpenAIChat
from .signing import Signer

ENDPOINT_VARIABLE = "AZURE_OPENAI_ENDPOINT"
KEY_VARIABLE = "AZURE_OPENAI_API_KEY"
VERSION_VARIABLE = "OPENAI_API_VERSION"
#: Versions of the v1 path, which has no dates.
_V1_VERSIONS = ("v1", "latest", "preview")
_HOSTS = (".azure.com", ".azure.us", ".azure.cn", ".microsoft.com")


class AzureOpenAIChat(OpenAIChat):
    """A deployment of Azure OpenAI, or of Azure AI Foundry.

    Args:
        deployment: its name there, which need not be the model's.
        base_url: the resource, like ``https://NAME.openai.azure.com``, or any longer URL that the portal shows for it;
            by default the environment variable ``AZURE_OPENAI_ENDPOINT``.
        api_version: a date like ``2024-10-21`` takes the classic path; by default ``OPENAI_API_VERSION``, and without
            it the v1 path.
        api_key: the key; by default ``AZURE_OPENAI_API_KEY``, which is sent to hosts of Azure alone.
        key_variable: another environment variable for the key.
        signer: called with each request for more headers, for example ``{"authorization": f"Bearer {token}"}``; then no
            key is looked up. See `signing`.
        client, timeouts, headers, name, quirks, wall_clock: as for `OpenAIChat`.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: there is no endpoint, it is not a URL, or a header cannot be sent.
    """

    def __init__(
        self,
        deployment: str,
        *,
        base_url: str | None = None,
        api_version: str | None = None,
        api_key: str | None = None,
        client: AsyncClient | None = None,
        timeouts: Timeouts | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "azure",
        key_variable: str | None = None,
        signer: Signer | None = None,
        quirks: Quirks | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        for what, text in (("base_url", base_url), ("api_version", api_version)):
            if text is not None and not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{what}= must be a string, not {type(text).__name__}")
        resource = base_url or os.environ.get(ENDPOINT_VARIABLE, "")
        if not resource.strip():
            raise ValueError(
                f"azure needs the endpoint of your resource: set {ENDPOINT_VARIABLE} to https://NAME.openai.azure.com, "
                "or pass base_url="
            )
        version = api_version or os.environ.get(VERSION_VARIABLE, "").strip() or None
        if key_variable is None and signer is None and _is_azure(resource):
            key_variable = KEY_VARIABLE
        super().__init__(
            deployment,
            base_url=_path(resource.strip(), deployment, version, told=api_version is not None),
            api_key=api_key,
            client=client,
            timeouts=timeouts,
            headers=headers,
            name=name,
            key_variable=key_variable,
            key_header="api-key",
            signer=signer,
            quirks=quirks if quirks is not None else Quirks(max_tokens_key="max_completion_tokens"),
            wall_clock=wall_clock,
        )


def _is_azure(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
        return parts.scheme == "https" and (parts.hostname or "").endswith(_HOSTS)
    except ValueError:
        return False


def _path(resource: str, deployment: Any, version: str | None, *, told: bool) -> str:
    """The base URL that this resource has for Chat Completions. What a URL says goes before the environment."""
    base, _, query = resource.partition("?")
    base = base.rstrip("/").removesuffix(ChatDialect.path).rstrip("/")
    if not told:
        version = next(iter(parse_qs(query).get("api-version", [])), version)
    if "/openai/deployments/" in base:
        return f"{base}?api-version={quote(version)}" if version else base
    is_v1 = base.endswith("/v1")
    root = base.removesuffix("/v1").removesuffix("/openai")
    if version is None or version in _V1_VERSIONS or (is_v1 and not told):
        asked = f"?api-version={version}" if version in _V1_VERSIONS[2:] else ""
        return f"{root}/openai/v1{asked}"
    return f"{root}/openai/deployments/{quote(str(deployment).strip(), safe='')}?api-version={quote(version)}"
