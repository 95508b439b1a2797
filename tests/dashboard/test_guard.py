"""Tests of lightbus.dashboard.guard: which requests are admitted."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from lightbus.dashboard import guard
from lightbus.dashboard.guard import HEADERS, AccessGuard
from lightbus.dashboard.options import DashboardOptions
from lightbus.web import hosts
from lightbus.web.bodies import MAX_BODY
from lightbus.web.heads import MAX_HEAD

TOKEN = "a-token-that-is-long-enough"


def guarded(monkeypatch: pytest.MonkeyPatch, *, own_user: bool = True, **given: Any) -> AccessGuard:
    monkeypatch.setattr(guard, "is_of_own_user", lambda client, server: own_user)
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "Workshop")
    return AccessGuard(PlainTextResponse("inside"), DashboardOptions(token=TOKEN, **given))


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:8420", "[::1]:8420", "LOCALHOST", "workshop:80"])
def test_own_names_are_answered(monkeypatch: pytest.MonkeyPatch, asks: Any, host: str) -> None:
    """By an address, or a name of this host, the page is served, with the headers that keep other sites out."""
    answer = asks(guarded(monkeypatch), host=host)
    assert (answer.status, answer.body) == (200, b"inside")
    assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8420", "", "a b", "127.0.0.1:8420@evil", "x:y"]
)
def test_a_rebound_name_is_refused(monkeypatch: pytest.MonkeyPatch, asks: Any, host: str) -> None:
    """DNS rebinding: a page of that name would have the same origin as ours."""
    answer = asks(guarded(monkeypatch), host=host)
    assert answer.status == 421
    assert b"--allow-host" in answer.body


def test_a_head_that_came_in_one_piece_is_bounded(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """The server's parser limits only partial heads; this limits complete ones."""
    assert asks(guarded(monkeypatch), x="a" * MAX_HEAD).status == 431
    assert asks(guarded(monkeypatch), x="a" * (MAX_HEAD - 1000)).status == 200


def test_an_allowed_name(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """A proxy's name is accepted if it was allowed; then every client needs the token."""
    app = guarded(monkeypatch, names=("Bus.example",))
    assert asks(app, host="bus.example").status == 303
    assert asks(app, host="bus.example", authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_dest": "iframe"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_origins_are_refused(
    monkeypatch: pytest.MonkeyPatch, asks: Any, headers: dict[str, str], method: str
) -> None:
    """A page of another site, including another port of this host, can neither ask nor act."""
    assert asks(guarded(monkeypatch), "/api/about", method=method, **headers).status == 403


def test_a_link_from_another_site_opens_the_page(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """The page itself contains no data, and may be linked to; nothing else may."""
    followed = {"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"}
    app = guarded(monkeypatch)
    assert asks(app, "/", **followed).status == 200
    assert asks(app, "/api/about", **followed).status == 403


def test_own_origin_is_admitted(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """Requests of the page itself are admitted."""
    own = {"origin": "http://127.0.0.1:8420", "sec_fetch_site": "same-origin"}
    assert asks(guarded(monkeypatch), "/api/about", method="POST", **own).status == 200


def test_another_user_needs_the_token(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """Another user is sent to the form for the token, and admitted with it: by header or by cookie."""
    app = guarded(monkeypatch, own_user=False)
    assert asks(app, "/").headers["location"] == "/login"
    assert asks(app, "/api/about").status == 401
    assert asks(app, "/login").status == 200
    assert asks(app, "/api/about", authorization=f"Bearer {TOKEN}x").status == 401
    assert asks(app, "/api/about", authorization=f"Bearer {TOKEN}").status == 200
    assert asks(app, "/api/about", cookie=f"lightbus-dashboard-8420={TOKEN}").status == 200
    assert asks(app, "/api/about", cookie=f"lightbus-dashboard-8421={TOKEN}").status == 401
    assert asks(app, "/api/about", cookie="=;;\x00").status == 401


@pytest.mark.parametrize("others", ['state={"a":1}', "a=b c", "flag", "a/b=1", 'open="quote', "[x]=\xe9"])
def test_cookies_of_other_programs_of_the_host(monkeypatch: pytest.MonkeyPatch, asks: Any, others: str) -> None:
    """They may have any form; browsers send them along, whatever their port."""
    app = guarded(monkeypatch, own_user=False)
    for cookies in (f"{others}; lightbus-dashboard-8420={TOKEN}", f"lightbus-dashboard-8420={TOKEN}; {others}"):
        assert asks(app, "/api/about", cookie=cookies).status == 200


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "via", "x_real_ip"])
def test_forwarded_requests_are_not_our_own(monkeypatch: pytest.MonkeyPatch, asks: Any, header: str) -> None:
    """A proxy's connection may be this user's, but its client another one."""
    assert asks(guarded(monkeypatch), "/api/about", **{header: "192.0.2.7"}).status == 401


def test_network_address_requires_the_token(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """With another --host every request needs the token."""
    assert asks(guarded(monkeypatch, address="0.0.0.0"), "/api/about").status == 401


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "-1", "many", "1" * 400, "1" * 5000, ""])
def test_large_bodies_are_refused_by_their_length(monkeypatch: pytest.MonkeyPatch, asks: Any, length: str) -> None:
    """Nothing of them is read."""
    assert asks(guarded(monkeypatch), "/", method="POST", content_length=length).status == 413


def test_a_length_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """A proxy and the server might see different ends of the request."""
    answer = asks(guarded(monkeypatch), "/", method="POST", transfer_encoding="chunked", content_length="3")
    assert answer.status == 400


def test_long_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    """A path and its query are bounded."""
    assert asks(guarded(monkeypatch), "/api/history?name=" + "a" * 5000).status == 414
