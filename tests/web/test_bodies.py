"""Tests of lightbus.web.bodies: limits of a request's body, and its JSON."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from starlette.requests import Request

from lightbus import InvalidArguments
from lightbus.web import bodies
from lightbus.web.bodies import TooLarge, json_value, read_body


def request(*parts: bytes, gone: bool = False) -> Request:
    """Return a request whose body comes in parts; one that is `gone` ends before the last."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": gone or number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    messages += [{"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_a_body_comes_in_parts() -> None:
    """They are put together."""
    assert asyncio.run(read_body(request(b"12", b"", b"345"))) == b"12345"


def test_a_body_that_ends_early() -> None:
    """It is refused, and not used as a complete one."""
    with pytest.raises(InvalidArguments, match="ended early"):
        asyncio.run(read_body(request(b"12", gone=True)))


@pytest.mark.parametrize("most", [None, 10])
def test_too_large_body_is_refused(monkeypatch: pytest.MonkeyPatch, most: int | None) -> None:
    """Reading stops at the given limit, or the default one, whatever the declared length."""
    monkeypatch.setattr(bodies, "MAX_BODY", 10 if most is None else 1000)
    assert asyncio.run(read_body(request(b"1234567890"), most)) == b"1234567890"
    with pytest.raises(TooLarge):
        asyncio.run(read_body(request(b"123456", b"123456", gone=True), most))


def test_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends with a timeout."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(TimeoutError):
        asyncio.run(read_body(Request({"type": "http", "method": "POST", "headers": []}, receive)))


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"a": [1, 2.5, null, "\xe4"]}', {"a": [1, 2.5, None, "\xe4"]}), (b"1e300", 1e300), (b"1e-400", 0.0),
     (b"12345678901234567890", 12345678901234567890)],
)  # fmt: skip
def test_json_is_read(text: str | bytes, value: Any) -> None:
    """With any numbers that a float or an integer can hold."""
    assert json_value(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "Expecting"),
        (b"\xff", "utf-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[NaN]", "NaN is no number in JSON"),
        (b"-Infinity", "-Infinity is no number in JSON"),
        (b"[1e400]", "1e400 is too large a number: send it as a text"),
        (b"-1.5e" + b"9" * 100, "-1.5e9{45} is too large"),
        (b"1" * (sys.get_int_max_str_digits() + 1), "digits"),
    ],
)
def test_what_is_no_json(text: bytes, problem: str) -> None:
    """Numbers that would arrive as infinity are refused, too."""
    with pytest.raises(ValueError, match=problem):
        json_value(text)
