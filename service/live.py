"""The live page: the supervision tree as it lives, one run in full, and what can be done with it.

One page, made here once from the files beside this module: no build, nothing from elsewhere, nothing inline but its own
style and script. Its Content-Security-Policy names these two by their hashes, so nothing else runs or styles, whatever
a model or a tool has said; ``trusted-types`` has the browser refuse every attempt to parse text as markup. The scripts
put together one program, in the order of `SCRIPTS`, and make text nodes only.

The page holds no data and so needs no token to be loaded: it fetches all from the service's own routes, at addresses
relative to its own, so that it works in a service that is mounted anywhere. It is given the service's page token, which
tells the service that a change is asked for by its own page. A service with a bearer token has no page token; the page
asks its reader for the bearer token.
"""

from __future__ import annotations

import html
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from .app import Service

#: In this order: each uses what those before it have.
SCRIPTS = (
    *("text.js", "wire.js", "tree.js", "timeline.js", "says.js"),
    *("rows.js", "treerow.js", "canvas.js", "questions.js", "answer.js", "events.js", "run.js", "head.js", "page.js"),
)


class Page(NamedTuple):
    """The page without its token, and what it may do."""

    before: str
    after: str
    policy: str

    def with_token(self, token: str) -> str:
        """The page, with this token."""
        return f"{self.before}{html.escape(token)}{self.after}"


@cache
def page() -> Page:
    """The page, made from its files."""
    folder = files(__name__.rpartition(".")[0]).joinpath("live")

    def read(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    script = '"use strict";\n{\n' + "\n".join(map(read, SCRIPTS)) + "}\n"
    style = read("page.css")
    whole = read("page.html").replace("$style", style).replace("$script", script)
    before, after = whole.split("$token")
    return Page(before, after, _policy(style, script))


def _policy(style: str, script: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_hash_of(style)}'",
            f"script-src '{_hash_of(script)}'",
            "connect-src 'self'",
            "img-src data:",  # its icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash_of(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def live_routes(service: Service) -> list[Route]:
    """The routes of the page: ``/live``, and ``/``, which leads there."""

    async def live(_request: Request) -> Response:
        made = page()
        headers = {
            "Content-Security-Policy": made.policy,
            "Cache-Control": "no-store",  # the token is of this process
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        token = service.page_token if service.guard.token is None else ""
        return Response(made.with_token(token), media_type="text/html", headers=headers)

    async def root(_request: Request) -> Response:
        return RedirectResponse("live")

    return [Route("/live", live), Route("/", root)]
