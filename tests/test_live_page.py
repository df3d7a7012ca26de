"""The live page as a document: what it may do, what it is given, and that it is whole in itself."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from greenroom import Agent, RunContext, System, tool
from greenroom.providers import Scripted, call
from greenroom.service import Service
from greenroom.service.live import SCRIPTS, page

pytestmark = pytest.mark.anyio

SOURCES = Path(__file__).resolve().parents[1] / "service" / "live"


@asynccontextmanager
async def client_of(service: Service, app: object = None) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        service,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app or service), base_url="http://localhost") as client,
    ):
        yield client


def agent() -> Agent[None, str]:
    return Agent("helper", Scripted("Hello"))


async def test_the_policy_names_the_style_and_the_script_that_are_there_and_nothing_else() -> None:
    """Scenario 100: nothing runs or styles but what the page was made with."""
    async with client_of(Service(agent())) as client:
        answer = await client.get("/live")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(line.partition(" ")[::2] for line in answer.headers["content-security-policy"].split("; "))
    for name, element in (("style-src", "style"), ("script-src", "script")):
        [text] = re.findall(f"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        assert policy.pop(name) == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"  # it has a token in it


async def test_the_page_of_each_process_has_its_own_token_and_a_protected_one_has_none() -> None:
    """Whoever can load a protected page has nothing by it."""
    open_ones = [Service(agent()), Service(agent())]
    protected = Service(agent(), token="a-long-enough-token")
    pages: list[str] = []
    for service in (*open_ones, protected):
        async with client_of(service) as client:
            pages.append((await client.get("/live")).text)
    tokens = [re.findall(r'^<meta name="greenroom-token" content="(.*)">', text, re.MULTILINE) for text in pages]
    assert tokens == [[open_ones[0].page_token], [open_ones[1].page_token], [""]]
    assert tokens[0] != tokens[1]
    assert "a-long-enough-token" not in pages[2]
    assert protected.page_token not in pages[2]


@pytest.mark.parametrize("at", ["", "/agents"])
async def test_the_root_leads_to_the_page_wherever_the_service_is_mounted(at: str) -> None:
    """The address is relative, and so are all addresses that the page asks for."""
    service = Service(agent())
    app = Starlette(routes=[Mount(at, app=service)]) if at else None
    async with client_of(service, app) as client:
        answer = await client.get(f"{at}/", follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, f"{at}/live")
        assert "<title>greenroom</title>" in answer.text


def test_the_page_loads_nothing_and_has_nothing_inline_but_its_two_blocks() -> None:
    """It works offline, and no attribute of it is code or style."""
    text = page().with_token("token")
    outside = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\s(on\w+|style)\s*=", outside)
    assert not re.search(r"\b(src|action|srcdoc|integrity)\s*=", outside)
    assert re.findall(r'href="(.*?)"', outside) == [re.search(r'href="(data:image/svg\+xml,.*?)"', outside)[1]]  # type: ignore[index]
    style = SOURCES.joinpath("page.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_parses_text_as_markup_or_as_code(name: str) -> None:
    """Text nodes and attributes of ours are all that is made; a browser would refuse the rest, other ones might not."""
    script = SOURCES.joinpath(name).read_text()
    parsing = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|createContextual"
    assert not re.search(parsing, script)
    assert not re.search(r"https?://|localStorage|document\.cookie|importScripts|\bimport\b", script)
    assert "</" not in script.replace("</g", "")  # nothing there can end the block that it stands in


def test_every_file_of_the_folder_is_in_the_page() -> None:
    """A script that nobody put into the order would be missed only in a browser."""
    assert {path.name for path in SOURCES.iterdir()} == {*SCRIPTS, "page.html", "page.css"}
    text = page().with_token("")
    for path in SOURCES.glob("*.js"):
        assert path.read_text() in text


def test_a_token_cannot_leave_its_attribute() -> None:
    """It is ours; but what stands in a page is escaped all the same."""
    assert "<script>alert(1)" not in page().with_token('"><script>alert(1)</script>')


async def test_the_tree_says_how_many_questions_a_run_has_open() -> None:
    """Approvals and questions, those of its subagents too; none where nothing is asked."""

    @tool(needs_approval=True)
    async def delete(path: str) -> str:
        """Delete."""
        return path

    @tool
    async def ask(context: RunContext) -> str:
        """Ask."""
        return await context.ask_user("Which one?")

    below = Agent("below", Scripted([call("delete", path="b")], "Deleted."), tools=[delete])
    script = [call("delete", path="a"), call("ask"), call("below", prompt="Go")]
    above = Agent("above", Scripted(script, "Done."), tools=[delete, ask, below])
    async with System() as system:
        run = await system.start(above, "Go", run_id="top")
        while len(run.pending) < 2 or not run.questions:
            await anyio.sleep(0)
        [node] = system.tree().children
        subagent = next(child for each in node.children for child in each.children)
        assert (node.detail["asks"], subagent.detail["asks"]) == (3, 1)
        for pending in run.pending:
            run.approve(pending.call_id, run_id=pending.run_id)
        run.answer(run.questions[0].question_id, "This one.")
        assert "asks" not in run.tree().detail
        assert (await run.result()).output == "Done."


async def test_the_tree_says_that_the_service_drains() -> None:
    """Whoever watches sees it at the root, while runs come to their end."""
    held = anyio.Event()

    @tool
    async def hold() -> str:
        """Hold."""
        held.set()
        return str(await anyio.sleep_forever())

    helper = Agent("helper", Scripted([call("hold")], "Done."), tools=[hold])
    service = Service(helper)
    async with client_of(service) as client, anyio.create_task_group() as group:
        await service.system.start(helper, "Go", run_id="top")
        await held.wait()
        assert (await client.get("/tree")).json()["state"] == "open"
        group.start_soon(service.system.drain, 60)
        await anyio.wait_all_tasks_blocked()
        assert (await client.get("/tree")).json()["state"] == "draining"
        await client.post("/runs/top/stop", headers={"X-Greenroom-Token": service.page_token})
