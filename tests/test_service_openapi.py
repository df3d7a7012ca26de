"""The description of the service: what is sent to it by whoever reads nothing else, and what it answers.

schemathesis makes requests up from the description, right ones and wrong ones, and compares the answers with it: no
bug, no status and no body that is not described, nothing accepted that does not fit, nothing refused that does.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.applications import Starlette
from starlette.routing import Mount

from greenroom import Agent
from greenroom.providers import ModelReply, ModelRequest, Provider, assistant
from greenroom.service import Service
from greenroom.service.openapi import description_of
from greenroom.service.table import DESCRIBED, OF_OPENAI

from .asgi import Asgi

DOCUMENT = json.loads(msgspec.json.encode(description_of(DESCRIBED, with_token=False)))
#: Its answer has no end.
ENDLESS = "followTree"
#: What they take is bound by more than JSON Schema can say: one of two fields, a cursor that was given out.
BOUND_BY_MORE = ("startRun", "listRuns", "createChatCompletion")
#: Requests for each operation.
EXAMPLES = 8


class Echo(Provider):
    """A model that answers at once, for ever."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        return ModelReply(assistant("Hello."), "stop")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The service under uvicorn, in a thread, with a run that is over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Service(Agent("helper", Echo()), max_body=100_000)
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", loop="asyncio"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            httpx.post(f"{url}/runs?wait=9", json={"prompt": "Hi", "run_id": "over"}).raise_for_status()
            yield url
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


schema = schemathesis.openapi.from_dict(DOCUMENT)


@schema.exclude(operation_id=ENDLESS).parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_what_schemathesis_makes_up(case: schemathesis.Case, address: str) -> None:
    """Of each operation, with ids of runs that nobody knows, and with one that is over."""
    more = case.operation.definition.raw["operationId"] in BOUND_BY_MORE
    case.call_and_validate(base_url=address, excluded_checks=[positive_data_acceptance] if more else [])
    if "run_id" in (case.path_parameters or {}):
        case.path_parameters["run_id"] = "over"
        response = case.call(base_url=address)
        assert response.status_code < 500
        assert str(response.status_code) in case.operation.definition.raw["responses"]


def references(node: Any) -> Iterator[str]:
    """What a part of the document points at."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_the_document_is_whole() -> None:
    """Whatever it points at is in it; each operation has a name of its own and says what its errors look like."""
    names = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= names
    operations = [each for path in DOCUMENT["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations) == len(DESCRIBED)
    of_openai = {each.name for each in OF_OPENAI}
    for each in operations:
        error = "ApiErrorAnswer" if each["operationId"] in of_openai else "ErrorAnswer"
        for status, answer in each["responses"].items():
            if status >= "400":
                assert answer["content"]["application/json"]["schema"]["$ref"].endswith(f"/{error}")


@pytest.mark.anyio
async def test_it_says_where_the_service_is_and_what_needs_a_token() -> None:
    """Also below a prefix; what is open to everybody is open in the description."""
    service = Service(Agent("helper", Echo()), token="t" * 20)
    mounted = Asgi(Starlette(routes=[Mount("/agents", service)]), authorization=f"Bearer {'t' * 20}")
    async with service:
        document = (await mounted.get("/agents/openapi.json")).json
    assert document["servers"] == [{"url": "/agents"}]
    is_open = [path for path, methods in document["paths"].items() if methods.get("get", {}).get("security") == []]
    assert is_open == ["/health", "/ready"]
    assert document["security"] == [{"token": []}]
    assert "/runs/{run_id}/approvals/{call_id}" in document["paths"]


@pytest.mark.parametrize("operation", DESCRIBED, ids=lambda each: each.name)
def test_every_parameter_of_a_path_is_described(operation: Any) -> None:
    in_path = {part.strip("{}").removesuffix(":path") for part in operation.path.split("/") if part.startswith("{")}
    assert {each.name for each in operation.parameters if each.where == "path"} == in_path
