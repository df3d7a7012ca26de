"""What the service can do, as a table: from one line come the route, the bounds and the description.

An operation is a method and a path, a coroutine function that does it, and what it takes and gives as types. `routes`
makes the routes of a table, one for each path, so that a method that a path does not have is answered with all that it
has; `openapi` makes the description of the same table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .problems import ErrorAnswer, Problem, no_method
from .written import written

if TYPE_CHECKING:
    from .app import Service

Do: TypeAlias = "Callable[[Service, Request], Awaitable[ASGIApp]]"


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of an operation. `where` is ``path``, ``query`` or ``header``; `schema` is JSON Schema."""

    name: str
    where: str
    about: str
    schema: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})


class Answer(msgspec.Struct, frozen=True):
    """An answer of an operation: what it means, its types by media type, and its headers by name."""

    about: str
    content: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be asked for.

    Attributes:
        method, path: as HTTP has them; the path as Starlette writes it.
        name: unique, for the description.
        do: does it; None where the operation is only described here, and its route is made elsewhere.
        about: one line.
        parameters: in the path, the query and the headers.
        body: the type of its JSON body, if it has one.
        body_optional: whether the body may be left out.
        answers: by status; the problems that any operation may have are not among them.
        error: the type of the body of a problem.
        bare_events: whether its server-sent events have data alone, without an id and a name.
    """

    method: str
    path: str
    name: str
    do: Do | None
    about: str
    answers: Mapping[int, Answer]
    parameters: Sequence[Parameter] = ()
    body: Any = None
    body_optional: bool = False
    error: Any = ErrorAnswer
    bare_events: bool = False


class _Path:
    """All operations of one path, as an ASGI application."""

    def __init__(self, service: Service, by_method: Mapping[str, Do]) -> None:
        self._service = service
        self._by_method = by_method
        self._allow = ", ".join([*by_method, *(["HEAD"] if "GET" in by_method else [])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        do = self._by_method.get("GET" if method == "HEAD" else method)
        if do is None:
            raise no_method(method, self._allow)
        answer = await do(self._service, Request(scope, receive))
        await answer(scope, receive, send)


def _knowing(do: Do, parameters: Sequence[Parameter]) -> Do:
    """An operation that refuses a parameter which would be left out of account, such as ``?wiat=5``."""
    known = [each.name for each in parameters if each.where == "query"]

    async def do_known(service: Service, request: Request) -> ASGIApp:
        for name in request.query_params:
            if name not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise Problem(422, "invalid_request", f"there is no parameter {name!r:.80} here: {takes}", name[:80])
        return await do(service, request)

    return do_known


def routes(service: Service, operations: Iterable[Operation]) -> list[Route]:
    """The routes of a table."""
    paths: dict[str, dict[str, Do]] = {}
    for each in operations:
        if each.do is not None:
            paths.setdefault(each.path, {})[each.method] = _knowing(each.do, each.parameters)
    return [Route(path, _Path(service, by_method)) for path, by_method in paths.items()]


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A record as an answer."""
    return Response(written(value), status, headers, media_type="application/json")
