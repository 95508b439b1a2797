"""Tests of lightbus.gateway.requests: parsing requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from lightbus.gateway.problems import MAX_SECONDS, Refusal
from lightbus.gateway.requests import arguments_of, cursor_of, names_of, now_at, options_of
from lightbus.web import bodies


def request(body: bytes = b"", query: str = "", path: dict[str, str] | None = None, **headers: str) -> Request:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "headers": named, "query_string": query.encode()}
    return Request({**scope, "path_params": path or {}}, receive)


def read(most: int = 100, **given: Any) -> Any:
    return asyncio.run(arguments_of(request(**given), most))


@pytest.mark.parametrize(
    ("api", "member"), [("shop", "price"), ("shop.orders", "place"), ("a_b", "_c"), ("shop", "*"), ("a-b", "c-d")]
)
def test_path_names_a_procedure_or_an_event(api: str, member: str) -> None:
    """As they are declared, and every event."""
    assert names_of(request(path={"api": api, "member": member})) == (api, member)


@pytest.mark.parametrize(
    ("api", "member"),
    [("..", "price"), ("shop", ".."), ("shop", ""), ("*", "price"), ("shop.", "x"), ("shop", "pri ce"), ("shop", "p*"),
     ("shop\x00", "x"), ("shöp", "x"), ("shop", "x\n"), ("shop", "[a-z]")],
)  # fmt: skip
def test_invalid_names_are_not_looked_up(api: str, member: str) -> None:
    """They are refused without a search."""
    with pytest.raises(Refusal, match="Nothing of this name is open here"):
        names_of(request(path={"api": api, "member": member}))


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"])
def test_arguments_are_a_json_object(kind: str) -> None:
    """A JSON object."""
    assert read(body=b'{"a": 1}', content_type=kind) == {"a": 1}


def test_no_arguments_need_no_body() -> None:
    """Need no body, and no type of it."""
    assert read() == {}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"body": b'{"a": 1}'}, 415),
        ({"body": b"a=1", "content_type": "application/x-www-form-urlencoded"}, 415),
        ({"body": b'{"a": 1}', "content_type": "text/plain"}, 415),
        ({"body": b"{", "content_type": "application/json"}, 400),
        ({"body": b"[1]", "content_type": "application/json"}, 400),
        ({"body": b'{"a":NaN}', "content_type": "application/json"}, 400),
        ({"body": b"[" * 100, "content_type": "application/json"}, 400),
        ({"body": b" " * 101, "content_type": "application/json"}, 413),
    ],
)
def test_no_arguments_at_all(given: Any, status: int) -> None:
    """Each invalid body gets the matching status."""
    with pytest.raises(Refusal) as raised:
        read(**given)
    assert raised.value.status == status


def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """It times out; one that ends early is refused."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    for receive, status in ((never, 408), (gone, 400)):
        asked = Request({"type": "http", "method": "POST", "headers": []}, receive)
        with pytest.raises(Refusal) as raised:
            asyncio.run(arguments_of(asked, 10))
        assert raised.value.status == status


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_timeout_and_trace_are_taken_from_headers() -> None:
    """How long it may take, and the trace that it is part of."""
    assert options_of(request()) == {}
    asked = options_of(request(lightbus_timeout="2.5", traceparent=TRACE))
    assert asked == {"timeout": 2.5, "trace": {"traceparent": TRACE}}
    assert options_of(request(traceparent="nonsense")) == {}


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "", str(MAX_SECONDS + 1), "1e400", "0x10"])
def test_invalid_timeout_is_refused(text: str) -> None:
    """The error says what is valid."""
    with pytest.raises(Refusal, match=r"Lightbus-Timeout is .* 60 at most"):
        options_of(request(lightbus_timeout=text))


def test_start_of_a_stream() -> None:
    """After the last event id, at a time, or now; the event id takes precedence."""
    assert cursor_of(request()) is None
    last = "5.000@0123456789abcdef-7"
    assert str(cursor_of(request(query="since=0", last_event_id=last))) == last
    whole, dated = cursor_of(request(query="since=0")), cursor_of(request(query="since=2026-01-31T12:00:00Z"))
    assert whole is not None
    assert dated is not None
    assert (whole.since, dated.since, dated.places) == (0.0, 1769860800.0, {})


@pytest.mark.parametrize(
    "given", [{"query": "since=yesterday"}, {"query": "since="}, {"query": "since=0001-01-01"}, {"last_event_id": "7"}]
)
def test_invalid_start_is_refused(given: Any) -> None:
    """The error says what is valid."""
    with pytest.raises(Refusal) as raised:
        cursor_of(request(**given))
    assert raised.value.status == 400


def test_from_now_on() -> None:
    """Places are copied: each stream moves its own."""
    places = {"0123456789abcdef": 5}
    cursor = now_at(places)
    cursor.places["0123456789abcdef"] = 6
    assert places == {"0123456789abcdef": 5}
