"""The description of the service as OpenAPI 3.1, made of the table of its operations and of the types on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .event_stream import JSON, SSE
from .guard import is_open
from .operations import Answer, Operation, Parameter

#: What any operation may answer beside its own: what a status means.
PROBLEMS = {
    400: "The request cannot be understood.",
    401: "The token is missing, or another one.",
    403: "A page of another site asks, or one without its token.",
    404: "There is no such thing.",
    405: "The address does not take this method.",
    408: "The body did not arrive in time.",
    409: "The run is in no state for this.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "The service is not reached by this name.",
    422: "A value does not fit; param names it.",
    431: "The headers are too large.",
    500: "A bug; the service's log says more.",
    503: "The service is full, or shuts down; Retry-After says when to try again.",
}


def description_of(operations: Iterable[Operation], *, with_token: bool) -> dict[str, Any]:
    """The document, but for where the service is found.

    Args:
        operations: what there is.
        with_token: whether requests have to show a token.
    """
    table = list(operations)
    types: list[Any] = []
    for each in table:
        types += [each.error]
        types += [each.body] if each.body is not None else []
        types += [type for answer in each.answers.values() for type in answer.content.values()]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(type): schema for type, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for each in table:
        path = each.path.replace(":path}", "}")  # as Starlette says that a parameter may have slashes
        described = paths.setdefault(path, {})[each.method.lower()] = _operation(each, by_type)
        if with_token and is_open(path):
            described["security"] = []
    components_of: dict[str, Any] = {"schemas": components}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "greenroom", "version": "1", "description": "Agents as supervised runs."},
        "paths": paths,
        "components": components_of,
    }
    if with_token:
        components_of["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(each: Operation, by_type: dict[int, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.about,
        "responses": {
            **{str(status): _answer(answer, by_type, each.bare_events) for status, answer in each.answers.items()},
            **{
                str(status): {
                    "description": about,
                    "content": {JSON: {"schema": by_type[id(each.error)]}},
                }
                for status, about in PROBLEMS.items()
                if status not in each.answers
            },
        },
    }
    if each.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in each.parameters]
    if each.body is not None:
        described["requestBody"] = {
            "required": not each.body_optional,
            "content": {JSON: {"schema": by_type[id(each.body)]}},
        }
    return described


def _frame_of(schema: Any, bare: bool) -> dict[str, Any]:
    """One server-sent event whose data is of this type: that is what a schema of such a stream describes."""
    fields: dict[str, Any] = {} if bare else {"id": {"type": "string"}, "event": {"type": "string"}}
    fields["data"] = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    return {"type": "object", "required": list(fields), "properties": fields}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.about,
        "required": parameter.where == "path",
        "schema": dict(parameter.schema),
    }


def _answer(answer: Answer, by_type: dict[int, Any], bare_events: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.about}
    if answer.content:
        described["content"] = {
            media: {"schema": _frame_of(by_type[id(type)], bare_events) if media == SSE else by_type[id(type)]}
            for media, type in answer.content.items()
        }
    if answer.headers:
        described["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
        }
    return described
