"""Tests of lightbus.gateway.guard: which requests come through."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from helpers.asgi import Answer, ask_app
from lightbus.gateway.access import Rules
from lightbus.gateway.guard import HEADERS, GatewayGuard
from lightbus.gateway.options import GatewayOptions
from lightbus.web.heads import MAX_HEAD

from .conftest import CLIENTS, TOKEN

BEARER = f"Bearer {TOKEN}"
SITE = "https://shop.example"


async def inside(scope: Any, receive: Any, send: Any) -> None:
    client = scope["state"]["client"]
    await PlainTextResponse("nobody" if client is None else client.name)(scope, receive, send)


def guarded(**given: Any) -> GatewayGuard:
    return GatewayGuard(inside, GatewayOptions(rules=Rules.read(["*"]), **{"clients": CLIENTS, "rate": 0, **given}))


def asks(app: GatewayGuard, path: str = "/api/shop/price", **headers: Any) -> Answer:
    return asyncio.run(ask_app(app, path, **headers))


def test_request_with_a_token_is_admitted() -> None:
    """The client is identified by it; the answer has the security headers."""
    answer = asks(guarded(), authorization=BEARER)
    assert (answer.status, answer.body) == (200, b"shop")
    assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
    assert asks(guarded(), authorization=f"bearer  {TOKEN} ").body == b"shop"


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer{TOKEN}", "Bearer ÿ"],
)
def test_request_without_a_token_is_refused(authorization: str, caplog: pytest.LogCaptureFixture) -> None:
    """The answer says what is missing, and does not repeat what was sent."""
    answer = asks(guarded(), authorization=authorization)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert TOKEN not in answer.body.decode() + caplog.text


def test_a_head_that_came_in_one_piece_is_bounded() -> None:
    """The server's parser limits only partial heads; this limits complete ones, with one header or many."""
    answer = asks(guarded(), authorization=BEARER, x="a" * MAX_HEAD)
    assert (answer.status, answer.headers["content-type"]) == (431, "application/problem+json")
    many = {f"x_{number}": "" for number in range(MAX_HEAD // 8)}
    assert asks(guarded(), authorization=BEARER, **many).status == 431
    assert asks(guarded(), authorization=BEARER, x="a" * (MAX_HEAD - 1000)).status == 200


def test_a_token_must_be_in_the_header() -> None:
    """Not in the address, which ends in logs, nor in a cookie, which a browser adds by itself."""
    assert asks(guarded(), f"/api/shop/price?access_token={TOKEN}").status == 401
    assert asks(guarded(), cookie=f"token={TOKEN}").status == 401


def test_the_page_contains_no_data() -> None:
    """So everyone may see it."""
    assert asks(guarded(), "/").body == b"nobody"
    assert asks(guarded(), "/openapi.json").status == 401


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8421", "", "127.0.0.1:8421@evil"])
def test_a_rebound_name_is_refused(host: str) -> None:
    """DNS rebinding: with a token or without."""
    answer = asks(guarded(), host=host, authorization=BEARER)
    assert answer.status == 421
    assert "--allow-host" in json.loads(answer.body)["detail"]
    assert asks(guarded(names=("Evil.example",)), host="evil.example", authorization=BEARER).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", f"{SITE}.evil", "x"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_origins_are_refused(origin: str, method: str) -> None:
    """And no answer lets them read it."""
    for given in ({}, {"origins": (SITE,)}):
        answer = asks(guarded(**given), method=method, origin=origin, authorization=BEARER)
        assert answer.status == 403
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_own_page_is_admitted() -> None:
    """It has the same origin."""
    assert asks(guarded(), origin="http://127.0.0.1:8420", authorization=BEARER).status == 200


def test_an_allowed_site() -> None:
    """Its pages may send requests, and read every answer, errors too; preflight requests have no token."""
    app = guarded(origins=(SITE,))
    asked = asks(app, method="OPTIONS", origin=SITE, access_control_request_method="POST")
    assert (asked.status, asked.body) == (204, b"")
    assert "authorization" in asked.headers["access-control-allow-headers"]
    for answer in (asked, asks(app, origin=SITE, authorization=BEARER), asks(app, origin=SITE)):
        assert answer.headers["access-control-allow-origin"] == SITE
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
    assert asks(app, authorization=BEARER).headers.keys().isdisjoint(asked.headers.keys() - answer.headers.keys())


def test_preflight_is_for_allowed_sites_only() -> None:
    """For others OPTIONS is a method like any other."""
    assert asks(guarded(), method="OPTIONS").status == 401


@pytest.mark.parametrize("length", ["11", "-1", "many", "1" * 400, "٣", ""])
def test_large_bodies_are_refused_by_their_length(length: str) -> None:
    """Nothing of them is read, and the connection ends, on which the rest would come."""
    answer = asks(guarded(max_body=10), method="POST", content_length=length.encode().decode("latin-1"),
                  authorization=BEARER)  # fmt: skip
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_two_lengths_are_none() -> None:
    """What one proxy takes for the end, another one may not (request smuggling)."""
    answer = asks(guarded(), method="POST", transfer_encoding="chunked", content_length="3", authorization=BEARER)
    assert answer.status == 400


def test_long_addresses_are_refused() -> None:
    """A path and its query are bounded."""
    assert asks(guarded(), "/api/a/b?since=" + "a" * 5000, authorization=BEARER).status == 414


def test_too_many_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Each client has its own limit, and so has each address without a token; it is logged once."""
    app = guarded(rate=1.0)
    found = [asks(app, authorization=BEARER) for _ in range(4)]
    assert [each.status for each in found] == [200, 200, 429, 429]
    assert found[-1].headers["retry-after"] == "1"
    assert [asks(app).status for _ in range(3)] == [401, 401, 429]
    assert asks(app, client=("192.0.2.7", 1)).status == 401
    many = [asks(app, client=(f"2001:db8::{number:x}", 1)).status for number in range(1, 4)]
    assert many == [401, 401, 429], "a host has a whole network of the sixth version"
    assert caplog.text.count("client shop sends too many requests") == 1


def test_other_protocols_are_ignored() -> None:
    """The server handles them."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["type"])

    options = GatewayOptions(rules=Rules.read(["*"]), clients=CLIENTS)
    asyncio.run(GatewayGuard(app, options)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert told == ["lifespan"]
