"""What must not show in the text of an error, and taking it out. Pure.

A server that is not content may quote what it was sent: the key, a header, the address with its query. So every value
that may be one of those is taken out of what it says: by the name under which it was sent, and, as people name things
as they like, by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus, urlsplit

from .errors import ProviderError

_WORDS = ("auth", "key", "token", "secret", "cookie", "password", "credential", "sig", "session")
#: Shorter texts are in every other sentence.
_SHORTEST = 6
#: Names of what a provider may well talk about.
_OPEN = ("organization", "project", "version", "beta", "host")
#: Letters and digits in a row that are nobody's words, or groups of them.
_RANDOM = re.compile(
    r"(?=[^0-9]*[0-9])(?=[^a-z]*[a-z])(.*[a-z0-9+/=]{16}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$)", re.I
)


def secrets_in(headers: Mapping[str, str], base_url: str = "") -> tuple[str, ...]:
    """The values of these headers, and of the query of this URL, that may be secrets."""
    found: list[str] = []
    for name, value in headers.items():
        # "Bearer …", "Basic …": the word before is none.
        found += [each for each in (value, value.rpartition(" ")[2]) if _may_be_secret(name, each)]
    for pair in urlsplit(base_url.strip()).query.split("&"):
        name, _, value = pair.partition("=")
        found += [each for each in (value, unquote_plus(value)) if _may_be_secret(name, each)]
    return tuple(dict.fromkeys(found))


def take_out(error: ProviderError, secrets: Iterable[str]) -> None:
    """Take the secrets out of everything that the error shows."""
    for secret in sorted({each for each in secrets if len(each) >= _SHORTEST}, key=len, reverse=True):
        if secret in error.message:
            error.message = error.message.replace(secret, "[key]")
            error.args = (error.message,)
        for field in ("code", "error_type", "param", "request_id"):
            told = getattr(error, field)
            if told is not None and secret in told:
                setattr(error, field, told.replace(secret, "[key]"))


def _may_be_secret(name: str, value: str) -> bool:
    name = name.lower()
    if len(value) < _SHORTEST:
        return False
    if any(word in name for word in _WORDS):
        return True
    return not any(word in name for word in _OPEN) and _RANDOM.match(value) is not None
