"""`Gemini` and `Vertex`: Google's models behind the Gemini API and behind Google Cloud, by generateContent."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from .dialects.gemini import GeminiDialect
from .endpoint import Endpoint
from .http import AsyncClient, Timeouts
from .signing import Signer

GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta"
_KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_KEY_HEADER = "x-goog-api-key"
_LOCATION = re.compile(r"[a-z0-9-]+")  # it becomes part of the host, which gets the key
_MULTI_REGIONS = {"us", "eu"}


class Gemini(Endpoint):
    """A model behind the Gemini API.

    The key is looked up at the first call. With `base_url` and neither a key nor `key_variable`, no key is sent.

    Args:
        model: the model's name, for example ``"gemini-3.8-flash"``.
        base_url: the endpoint, up to and without ``/models``; by default Google's.
        api_key: the key; by default the environment variable ``GEMINI_API_KEY``, else ``GOOGLE_API_KEY``.
        client: your own ``httpx.AsyncClient``, which stays yours to close.
        timeouts: deadlines of a call; by default those of `Timeouts`.
        headers: added to every request.
        name: the vendor's short name, for messages and telemetry. Signatures are kept apart by it.
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
        name: str = "gemini",
        key_variable: str | None = None,
        signer: Signer | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        _check_name("Gemini", model)
        self._usual_keys = base_url is None and key_variable is None and signer is None
        super().__init__(
            GeminiDialect(quote(model.strip(), safe="/:"), vendor=name),
            name=name,
            model=model.strip(),
            base_url=GEMINI_URL if base_url is None else _without_path(base_url),
            api_key=api_key,
            # The words for an error where the key is missing or wrong; `_current_key` knows the names in them.
            key_variable=" or ".join(_KEY_VARIABLES) if self._usual_keys else key_variable,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            key_header=_KEY_HEADER,
            signer=signer,
        )

    def _current_key(self) -> str | None:
        if self._key is None and self._usual_keys:
            return next((key for name in _KEY_VARIABLES if (key := os.environ.get(name, "").strip())), None)
        return super()._current_key()


class Vertex(Endpoint):
    """A Gemini model behind Vertex AI on Google Cloud.

    Google Cloud wants an access token that lives for an hour; `signer` makes it:

        credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])

        def signer(request):
            if not credentials.valid:
                credentials.refresh(google.auth.transport.requests.Request())
            return {"authorization": f"Bearer {credentials.token}"}

        model = Vertex("gemini-3.8-flash", project=project, signer=signer)

    Args:
        model: the model's name, or its path from ``publishers/``, ``endpoints/`` or ``projects/`` on.
        project: the id of the Google Cloud project.
        location: where the model runs: ``global``, a multi-region (``us``, ``eu``) or a region like ``europe-west4``.
        base_url: another host, up to and with the version of the API, ``/v1``.
        api_key: a key of Google Cloud, in place of a token.
        signer: called with each request for more headers; see `signing`.
        client, timeouts, headers, name, wall_clock: as for `Gemini`.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: there is neither a signer nor a key nor a header that could stand for them, or as for `Gemini`.
    """

    def __init__(
        self,
        model: str,
        *,
        project: str,
        location: str = "global",
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncClient | None = None,
        timeouts: Timeouts | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "vertex",
        signer: Signer | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        _check_name("Vertex", model)
        for what, value in (("project", project), ("location", location)):
            if not isinstance(value, str) or not value.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"Vertex({what}=) must be the {what} in Google Cloud, not {value!r}")
        project, location = project.strip(), location.strip()
        if not _LOCATION.fullmatch(location):
            raise ValueError(
                f"Vertex(location=) must be a location in Google Cloud, like 'europe-west4', not {location!r}"
            )
        given = [name.lower() for name in headers or ()]
        if base_url is None and signer is None and api_key is None and "authorization" not in given:
            raise ValueError(
                "Vertex needs signer=, a function that returns {'authorization': 'Bearer …'} with an access token, "
                "or api_key="
            )
        resource = _resource(model.strip(), project, location)
        super().__init__(
            GeminiDialect(model.strip(), vendor=name, resource=quote(resource, safe="/:@")),
            name=name,
            model=model.strip(),
            base_url=f"https://{_host(location)}/v1" if base_url is None else base_url,
            api_key=api_key,
            key_variable=None,
            client=client,
            timeouts=timeouts,
            headers=headers,
            wall_clock=wall_clock,
            key_header=_KEY_HEADER,
            signer=signer,
        )


def _host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _resource(model: str, project: str, location: str) -> str:
    if model.startswith("projects/"):
        return f"/{model}"
    place = f"/projects/{project}/locations/{location}"
    if model.startswith(("publishers/", "endpoints/")):
        return f"{place}/{model}"
    return f"{place}/publishers/google/models/{model.removeprefix('models/')}"


def _check_name(who: str, model: Any) -> None:
    if not isinstance(model, str) or not model.strip():
        wrong = TypeError if not isinstance(model, str) else ValueError
        raise wrong(f"{who}(model) must be the model's name, like 'gemini-3.8-flash', not {model!r}")
    if ".." in model.split("/"):
        raise ValueError(f"{who}(model) must be the model's name, and not lead elsewhere: {model!r}")


def _without_path(base_url: Any) -> Any:
    """The base of a URL that was copied with the path that this dialect adds itself."""
    if not isinstance(base_url, str):
        return base_url
    base, mark, query = base_url.strip().partition("?")
    return base.rstrip("/").removesuffix("/models") + mark + query
