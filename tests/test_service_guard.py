"""Who may ask: hosts, origins, tokens, and what every answer says to a browser.

Scenario 100, its first half: a service on loopback is reached by every page that a browser shows. The other half, real
processes that refuse to be reached by others, is in `test_service_serve`.
"""

from __future__ import annotations

from typing import Any

import pytest

from greenroom import Agent
from greenroom.providers import Scripted
from greenroom.service import Service
from greenroom.service.guard import HEADER_BOUND, Guard, same

from .asgi import Asgi

pytestmark = pytest.mark.anyio

TOKEN = "0123456789abcdef-token"


def client_of(**options: Any) -> Asgi:
    return Asgi(Service(Agent("helper", Scripted("Hello.")), **options))


# -- Host


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:8000:9", 421),
        ("localhost:evil.example", 421),
        ("evil.example/localhost", 421),
        ("localhost ", 421),
        ("::1", 421),
        ("", 421),
    ],
)
async def test_only_names_of_loopback_without_a_token(host: str, status: int) -> None:
    """A name that an attacker has made to point here is none of ours (DNS rebinding)."""
    answer = await client_of().get("/agents", host=host)
    assert answer.status == status
    if status != 200:
        assert answer.error == ("forbidden", "Host")


async def test_names_that_are_allowed() -> None:
    """Those that were given, and then no others; with a token any, because a page does not have it."""
    own = client_of(allowed_hosts=["Agents.example.com"])
    assert (await own.get("/agents", host="agents.EXAMPLE.com:443")).status == 200
    assert (await own.get("/agents", host="localhost")).status == 421
    with_token = client_of(token=TOKEN)
    assert (await with_token.get("/agents", host="any.where", authorization=f"Bearer {TOKEN}")).status == 200


# -- Origin


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://localhost:8000.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "localhost:8000"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "http://"}, 403),
        ({"origin": "http://localhost:8000:x]"}, 403),
        ({"origin": "http://evil.example@localhost:8000"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
    ],
)
async def test_pages_of_other_sites_read_nothing(headers: dict[str, str], status: int) -> None:
    """Not even where they could not see the answer: a stream costs something. A link to here may be followed."""
    answer = await client_of().get("/agents", host="localhost:8000", **headers)
    assert answer.status == status
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_an_origin_that_is_allowed() -> None:
    """It is named, never as a wildcard; it may change things with JSON, for which its browser asks before."""
    client = client_of(allowed_origins=["https://app.example"])
    own = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
    answer = await client.get("/agents", **own)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["vary"] == "Origin"
    async with client.app:
        assert (await client.post("/runs", {"prompt": "Hi"}, **own)).status == 201
        form = await client.post("/runs", b"prompt=Hi", **own, content_type="text/plain")
        assert form.status == 415
    asked = await client.ask("OPTIONS", "/runs", None, **own, access_control_request_method="POST")
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    assert "content-type" in asked.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in asked.headers
    wanted = "content-type, X-Stainless-Lang,x-stainless-retry-count, x-other, x-stainless-\u00e9"
    asked = await client.ask(
        "OPTIONS",
        "/runs",
        **own,
        access_control_request_method="POST",
        access_control_request_headers=wanted,
    )
    allowed = asked.headers["access-control-allow-headers"]
    assert allowed.endswith(", Last-Event-ID, x-stainless-lang, x-stainless-retry-count")
    for other in ("https://app.example.evil", "http://app.example", "https://app.example:444"):
        asked = await client.ask("OPTIONS", "/runs", None, origin=other, access_control_request_method="POST")
        assert asked.status == 403
        assert "access-control-allow-origin" not in asked.headers


async def test_a_browser_asks_before_it_shows_a_token() -> None:
    """The question itself has none; what is asked for needs it."""
    client = client_of(token=TOKEN, allowed_origins=["https://app.example"])
    own = {"origin": "https://app.example"}
    assert (await client.ask("OPTIONS", "/runs", None, **own, access_control_request_method="POST")).status == 204
    assert (await client.ask("OPTIONS", "/runs", None, **own)).status == 401
    assert (await client.post("/runs", {"prompt": "Hi"}, **own)).status == 401
    assert (await client.get("/agents", **own, authorization=f"Bearer {TOKEN}")).status == 200


# -- changes without a token


@pytest.mark.parametrize(
    "browser",
    [
        {"origin": "http://localhost"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-mode": "cors"},
        {"origin": "http://localhost", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"},
    ],
)
async def test_a_browser_changes_nothing_without_the_token_of_the_page(browser: dict[str, str]) -> None:
    client = client_of()
    async with client.app:
        for shown in ("", "x", client.app.page_token[:-1]):
            answer = await client.post("/runs", {"prompt": "Hi"}, **browser, **{"x-greenroom-token": shown})
            assert (answer.status, answer.error) == (403, ("forbidden", "X-Greenroom-Token"))
        own = {**browser, "x-greenroom-token": client.app.page_token}
        assert (await client.post("/runs", {"prompt": "Hi"}, **own)).status == 201


async def test_a_program_needs_no_token_but_json() -> None:
    """A form of a page in a browser that says nothing of itself cannot send that."""
    client = client_of()
    async with client.app:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            for target in ("/runs", "/runs/x/stop", "/runs/x/pause"):
                answer = await client.post(target, b'{"prompt": "Hi"}', content_type=kind)
                assert (answer.status, answer.error[0]) == (415, "unsupported_media_type")
        assert (
            await client.post("/runs", {"prompt": "Hi"}, content_type="Application/JSON; charset=utf-8")
        ).status == 201
        assert (await client.post("/runs/x/pause")).status == 404


async def test_each_process_has_another_token_for_its_page() -> None:
    tokens = {client_of().app.page_token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32


# -- the token


@pytest.mark.parametrize(
    "shown",
    [
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
    ],
)
async def test_a_token_that_is_wrong(shown: str) -> None:
    """Is refused wherever there is anything to see, and is not in the answer."""
    client = client_of(token=TOKEN)
    for target in (
        "/agents",
        "/runs",
        "/metrics",
        "/openapi.json",
        "/tree",
        "/nix",
        "/health/",
        "/livestock",
        "//live",
    ):
        answer = await client.get(target, authorization=shown)
        assert (answer.status, answer.error) == (401, ("unauthorized", "Authorization"))
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in repr(answer.headers) + answer.body.decode()
    for target in ("/health", "/ready"):
        async with client.app:
            assert (await client.get(target, authorization=shown)).status == 200


async def test_a_token_that_is_right() -> None:
    client = client_of(token=TOKEN)
    async with client.app:
        for shown in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            assert (await client.post("/runs", {"prompt": "Hi"}, authorization=shown)).status == 201
        # A browser that shows it needs no other; another site's page does not have it, and may not ask.
        own = {"authorization": f"Bearer {TOKEN}", "origin": "http://localhost"}
        assert (await client.post("/runs", {"prompt": "Hi"}, **own)).status == 201
        assert (await client.post("/runs", {"prompt": "Hi"}, **{**own, "origin": "http://a.b"})).status == 403
        described = (await client.get("/openapi.json", authorization=f"Bearer {TOKEN}")).body.decode()
    assert TOKEN not in described
    assert client.app.page_token not in described
    assert '"security":[{"token":[]}]' in described


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function for it, and of one length whatever was shown."""
    seen: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("greenroom.service.guard.hmac.compare_digest", compare)
    assert [same("a", "a" * 99), same("é\udcff".encode("utf-8", "replace").decode(), "b"), same("c", "c")] == [
        *(False, False, True)
    ]
    assert seen == [(32, 32)] * 3


async def test_a_token_that_is_no_text_is_refused() -> None:
    """Bytes that a header may hold, and that are no token."""
    assert (await client_of(token=TOKEN).get("/agents", authorization="Bearer \xff\xe9")).status == 401


# -- bounds, and what every answer says


async def test_headers_are_bounded_and_single() -> None:
    client = client_of()
    answer = await client.get("/agents", **{"x-a": "b" * HEADER_BOUND})
    assert (answer.status, answer.error[0]) == (431, "too_large")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"evil.example"), (b"Host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": "/agents", "query_string": b"", "headers": headers}
    await client.app(scope, None, send)
    assert sent[0]["status"] == 400
    two = await client.post("/runs", {"prompt": "Hi"}, transfer_encoding="chunked")
    assert (two.status, two.error, two.headers["connection"]) == (400, ("invalid_request", "Content-Length"), "close")


async def test_what_every_answer_says() -> None:
    """Also those that refuse: no sniffing, no frames, nothing stored."""
    client = client_of()
    async with client.app:
        answers = [
            await client.get("/agents"),
            await client.get("/nix"),
            await client.get("/agents", host="evil.example"),
            await client.get("/tree", origin="http://evil.example"),
            await client.post("/runs", {"prompt": "Hi", "stream": True}),
        ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in answer.headers


def test_a_guard_shows_no_token() -> None:
    assert TOKEN not in repr(Guard(TOKEN, "page", None))
