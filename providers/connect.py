"""From ``"vendor:model"`` to a provider.

A vendor that speaks Chat Completions is data (`vendors`); one with a wire format of its own has a class. Plain
``openai:`` means Chat Completions, the format that every gateway can stand in for; ``openai-responses:`` is OpenAI's
newer one, which its reasoning models need for tools and effort together.

What is unknown (a vendor, a bare name, an option) is one clear line with the nearest known name.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from .anthropic import Anthropic, BedrockAnthropic
from .azure import AzureOpenAIChat
from .bedrock import Bedrock
from .catalogue import canonical, vendor_of, well_known
from .cohere import Cohere
from .gemini import Gemini, Vertex
from .ollama import Ollama, host_url
from .openai import OpenAIChat
from .openai_responses import OpenAIResponses
from .provider import Provider
from .vendors import VENDORS

#: The classes of the vendors that are not in `VENDORS`.
NATIVE: Mapping[str, Callable[..., Provider]] = {
    "openai-responses": OpenAIResponses,
    "anthropic": Anthropic,
    "gemini": Gemini,
    "vertex": Vertex,
    "ollama": Ollama,
    "bedrock": Bedrock,
    "bedrock-anthropic": BedrockAnthropic,
    "cohere": Cohere,
    "azure": AzureOpenAIChat,
}
_EXAMPLE = "'openai:gpt-5-mini'"
_PROJECT, _LOCATION = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"), ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION")


def connect(model: str, **options: Any) -> Provider:
    """The provider for ``"vendor:model"``, or for a well-known bare name like ``"gpt-5-mini"``.

    The key is read from the vendor's usual environment variable at the first call. With ``base_url=`` it is not: a key
    goes elsewhere only as ``api_key=`` or ``key_variable=``, and without either none is sent.

    Args:
        model: for example ``"openai:gpt-5-mini"``, ``"anthropic:claude-sonnet-5"``, ``"ollama:llama3.2"``.
        options: those of the vendor's class, for most `OpenAIChat`: ``base_url``, ``api_key``, ``client``,
            ``timeouts``, ``headers``, ``signer`` …

    Raises:
        TypeError: it is not a string, or the vendor has no such option.
        ValueError: the vendor or the bare name is not known, or an option cannot be used.
    """
    vendor, name = _read(model)
    options = dict(options)
    chat = VENDORS.get(vendor)
    made = NATIVE[vendor] if chat is None else OpenAIChat
    _check_options(vendor, made, options)
    if chat is not None:
        options = {"name": vendor, "quirks": chat.quirks} | options
        if options.get("base_url") is None:
            options["base_url"] = _address(vendor, chat.base_url)
            if options.get("signer") is None:
                options.setdefault("key_variable", chat.key_variables)
    elif vendor == "vertex":
        _place(options)
    return made(name, **options)


def names_vendor(model: str) -> bool:
    """Whether `model` is written with the name of a known vendor before a colon."""
    vendor, colon, _ = model.partition(":")
    return bool(colon) and (canonical(vendor) in VENDORS or canonical(vendor) in NATIVE)


def _read(model: Any) -> tuple[str, str]:
    """Vendor and model."""
    if not isinstance(model, str):
        raise TypeError(f"connect() takes a name like {_EXAMPLE}, not {type(model).__name__}")
    model = model.strip()
    head, colon, name = model.partition(":")
    vendor, name = canonical(head), name.strip()
    known = vendor in VENDORS or vendor in NATIVE
    if known and not colon:
        raise ValueError(f"{model!r} is a vendor and names no model: write '{vendor}:model', like {_EXAMPLE}")
    if known and not name:
        raise ValueError(f"model {model!r} names no model: write it like {_EXAMPLE}")
    if not known:
        # A colon may also stand inside a bare name, as in that of a tuned model.
        vendor, name = vendor_of(model) or "", model if colon else model.lower()
    if not vendor:
        raise ValueError(_unknown(model, head.strip(), colon))
    return vendor, name


def _check_options(vendor: str, made: Callable[..., Provider], options: Mapping[str, Any]) -> None:
    known = [name for name, item in inspect.signature(made).parameters.items() if item.kind is item.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"{vendor} has no option {option!r}: {hint}")


def _address(vendor: str, usual: str) -> str:
    """The base URL of a vendor of which none was given."""
    return f"{host_url(os.environ.get('OLLAMA_HOST', ''))}/v1" if vendor == "ollama-openai" else usual


def _place(options: dict[str, Any]) -> None:
    """Add what Google Cloud's own tools read from the environment."""
    for option, variables in (("project", _PROJECT), ("location", _LOCATION)):
        found = next((value for name in variables if (value := os.environ.get(name, "").strip())), None)
        if options.get(option) is None:
            options.pop(option, None)
            if found is not None:
                options[option] = found
    if "project" not in options:
        raise ValueError(
            f"vertex needs the id of a Google Cloud project: set {_PROJECT[0]} or pass project=; "
            "and signer= or api_key="
        )


def _unknown(model: str, vendor: str, colon: str) -> str:
    known = sorted({*VENDORS, *NATIVE})
    what = f"unknown vendor {vendor!r} in {model!r}" if colon else f"unknown model {model!r}"
    head, slash, name = model.partition("/")
    if slash and name and not colon and canonical(head) in known:
        return f"{what}: did you mean '{canonical(head)}:{name}'?"
    meant = None if colon else well_known(model)
    # A bare name is hardly ever a vendor's that was mistyped.
    near = [meant] if meant else difflib.get_close_matches(vendor.lower(), known, n=1, cutoff=0.6 if colon else 0.8)
    hint = f"; did you mean {near[0]!r}?" if near and vendor else ""
    return f"{what}: write 'vendor:model' with a vendor of {', '.join(known)}{hint}"
