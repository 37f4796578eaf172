"""Which requests the dashboard answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from simba_actors.errors import ConfigError
from simba_actors.web import dashboard

TOKEN = "shown-once"  # noqa: S105 - of this test alone


@asynccontextmanager
async def client_of(
    store: Path, address: str = "127.0.0.1", host: str = "127.0.0.1", **options: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(dashboard(store, **options), client=(address, 4321))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("127.0.0.1", "localhost", 200),
        ("::1", "[::1]:8642", 200),
        ("::ffff:127.0.0.1", "127.0.0.1:8642", 200),
        ("::ffff:10.0.0.7", "localhost", 403),
        ("127.0.0.1", "localhost.evil.example", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("10.0.0.7", "localhost", 403),
        ("127.0.0.1", "evil.example", 403),
    ],
)
async def test_without_a_token_only_this_machine_is_answered(store: Path, address: str, host: str, status: int) -> None:
    async with client_of(store, address, host) as client:
        assert (await client.get("/")).status_code == status


async def test_a_token_opens_it_to_others_and_leaves_the_address_bar(store: Path) -> None:
    async with client_of(store, "10.0.0.7", "dashboard.example", token=TOKEN) as client:
        assert (await client.get("/")).status_code == 401
        assert (await client.get("/?token=wrong")).status_code == 401
        answer = await client.get(f"/?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert (await client.get("/")).status_code == 200


async def test_a_program_shows_the_token_in_a_header(store: Path) -> None:
    async with client_of(store, "10.0.0.7", "dashboard.example", token=TOKEN) as client:
        assert (await client.get("/", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200


async def test_a_browser_keeps_the_tokens_of_two_dashboards_on_one_host(store: Path) -> None:
    other = httpx.ASGITransport(dashboard(store, token=TOKEN[1:]))
    async with client_of(store, token=TOKEN) as client, httpx.AsyncClient(transport=other) as elsewhere:
        assert (await client.get(f"/?token={TOKEN}", follow_redirects=True)).status_code == 200
        shown = await elsewhere.get(f"http://127.0.0.1:8643/?token={TOKEN[1:]}")
        client.cookies.extract_cookies(shown)  # A browser sends the cookies of one port to all others.
        assert (await client.get("/")).status_code == 200


async def test_a_token_shown_over_https_is_kept_for_https_alone(store: Path) -> None:
    transport = httpx.ASGITransport(dashboard(store, token=TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="https://dashboard.example") as client:
        assert "Secure" in (await client.get(f"/?token={TOKEN}")).headers["set-cookie"]


@pytest.mark.parametrize("other", ["theme=dark", 'prefs={"a":1}', "ids=[1, 2]", "a/b=1", "x=é"])
async def test_the_cookies_of_other_applications_lock_nobody_out(store: Path, other: str) -> None:
    async with client_of(store, "10.0.0.7", "dashboard.example", token=TOKEN) as client:
        shown = await client.get(f"/?token={TOKEN}")
        cookies = f"{other}; {shown.headers['set-cookie'].partition(';')[0]}".encode()
        assert (await client.get("/", headers={b"cookie": cookies})).status_code == 200


def test_a_token_without_characters_is_refused(store: Path) -> None:
    with pytest.raises(ConfigError, match="token must be visible ASCII characters"):
        dashboard(store, token="")


@pytest.mark.parametrize("options", [{}, {"token": TOKEN}])
async def test_a_host_that_makes_no_sense_is_refused(store: Path, options: dict[str, str]) -> None:
    async with client_of(store, **options) as client:
        answer = await client.get("/", headers={"host": "[", "authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "header",
    [
        *("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything"),
        *("Via", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "Fastly-Client-IP", "X-Original-Host"),
        *("CDN-Loop", "CF-Ray", "Fly-Client-IP", "Tailscale-User-Login", "X-Amzn-Trace-Id", "X-Appengine-Country"),
        *("X-ARR-LOG-ID", "X-Azure-ClientIP", "X-Cloud-Trace-Context", "X-Original-URI", "X-Scheme", "X-Vercel-Id"),
        *("Front-End-Https", "Proxy-Connection", "Remote-User", "SSL-Client-Verify", "X-Amz-Cf-Id", "X-Client-Cert"),
        *("X-Kong-Proxy-Latency", "X-NginX-Proxy", "X-Request-Start", "X-Script-Name", "X-Url-Scheme", "X-Varnish"),
    ],
)
async def test_without_a_token_what_a_proxy_passes_on_is_refused(store: Path, header: str) -> None:
    async with client_of(store) as client:
        assert (await client.get("/")).status_code == 200
        refused = await client.get("/", headers={header: "203.0.113.9"})
    assert (refused.status_code, "through a proxy" in refused.text) == (403, True)


@pytest.mark.parametrize("header", ["X-Requested-With", "X-Request-Id", "Traceparent", "Viability", "Accept", "Zip"])
async def test_other_headers_are_no_proxys(store: Path, header: str) -> None:
    async with client_of(store) as client:
        assert (await client.get("/", headers={header: "1"})).status_code == 200


async def test_without_a_token_a_client_without_an_address_is_refused(store: Path) -> None:
    transport = httpx.ASGITransport(dashboard(store), client=None)  # pyright: ignore[reportArgumentType]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/")).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://["}, {"sec-fetch-site": "cross-site"}],
)
async def test_another_sites_page_cannot_act(store: Path, headers: dict[str, str]) -> None:
    async with client_of(store, actions=True) as client:
        answer = await client.post("/publish", data={"channel": "bot"}, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/publish", "/api/channels/bot/reports"])
async def test_a_body_without_end_is_refused_before_it_fills_the_memory(store: Path, path: str) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield bytes(1024 * 1024)

    async with client_of(store, actions=True, channels=True) as client:
        answer = await client.post(path, content=endless())
    assert (answer.status_code, sent) == (413, 2)


async def test_a_client_that_goes_away_within_its_request_is_no_error(store: Path) -> None:
    received: list[Message] = [
        {"type": "http.request", "body": b"run=", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return received.pop(0)

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/publish", "query_string": b"", "client": ("127.0.0.1", 4321)}
    await dashboard(store, actions=True)({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
    assert received == []
