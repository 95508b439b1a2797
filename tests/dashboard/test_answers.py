"""Requests and answers as JSON."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from lightbus import InvalidArguments
from lightbus.dashboard.answers import encoded, event_stream, json_answer, read_object


def request(*parts: bytes, content_type: str = "application/json", gone: bool = False) -> Request:
    """Return a request whose body comes in parts; one that is `gone` ends before the last."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": gone or number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    messages += [{"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_any_value_is_json_for_browsers() -> None:
    """Browsers know no NaN, and no bytes; an unpaired surrogate is no error."""
    assert json.loads(encoded({"a": [1, None, "ä"]})) == {"a": [1, None, "ä"]}
    told = json.loads(encoded({"nan": math.nan, "inf": math.inf, "bytes": b"x", "half": "\ud800"}))
    assert told.keys() == {"nan", "inf", "bytes", "half"}
    assert json_answer(object()).status_code == 500


def test_an_object_is_read() -> None:
    """In any number of parts."""
    assert asyncio.run(read_object(request(b'{"a":', b" 1}"))) == {"a": 1}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (request(b"{}", content_type="text/plain"), "has to have JSON in it"),
        (request(b"{"), "is no JSON"),
        (request(b"\xff"), "is no JSON"),
        (request(b"[" * 100_000), "is no JSON"),
        (request(b'{"a":NaN}'), "is no JSON: NaN is no number"),
        (request(b'{"a":1e400}'), "is no JSON: 1e400 is too large a number: send it as a text"),
        (request(b"[1]"), "has to be a JSON object"),
        (request(b"{", gone=True), "ended early"),
    ],
)
def test_a_body_that_is_no_object(asked: Request, error: str) -> None:
    """It is an error of the client."""
    with pytest.raises(InvalidArguments, match=error):
        asyncio.run(read_object(asked))


def test_a_stream_sends_events() -> None:
    """Each value is one event, after the reconnection time for browsers."""

    async def values() -> AsyncIterator[tuple[str, bytes]]:
        yield "", b"1"
        yield "0", b"2"

    async def read() -> list[bytes]:
        answer: Any = event_stream(values())
        assert answer.media_type == "text/event-stream"
        return [part async for part in answer.body_iterator]

    assert asyncio.run(read()) == [b"retry: 2000\n\n", b"data: 1\n\n", b"event: 0\ndata: 2\n\n"]
