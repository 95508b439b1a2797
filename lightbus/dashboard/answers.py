"""Requests and answers as JSON, and streams of them (server-sent events)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..exceptions import DeformError, InvalidArguments
from ..web.bodies import json_value, read_body
from ..wire.plain import json_form

__all__ = ["Ending", "encoded", "event_stream", "json_answer", "read_object"]


def encoded(value: Any) -> bytes:
    """
    Return a value as JSON. NaN and the infinities, which JSON lacks, are replaced by finite numbers.

    Raises DeformError for a value that has no JSON form: it is nested too deeply, for example.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(json_form(value, finite=True), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", errors="replace")


def json_answer(value: Any, status: int = 200) -> Response:
    """Return a response with a value as JSON."""
    try:
        return Response(encoded(value), status_code=status, media_type="application/json")
    except DeformError as error:
        return Response(encoded({"message": str(error)}), status_code=500, media_type="application/json")


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body. Raises TooLarge, TimeoutError, InvalidArguments."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidArguments("A request has to have JSON in it (Content-Type: application/json).")
    try:
        value = json_value(await read_body(request))
    except ValueError as error:
        raise InvalidArguments(f"The request's body is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArguments("The request's body has to be a JSON object.")
    return value


def event_stream(values: AsyncIterator[tuple[str, bytes]]) -> Response:
    """
    Return a streaming response: one value after the other, as a browser's `EventSource` reads them.

    Each value comes with the name of its event, which is empty for `message`.
    """
    return StreamingResponse(_framed(values), media_type="text/event-stream")


class Ending:
    """A response that calls `on_end` when it ends for any reason, even if it never started."""

    def __init__(self, answer: Response, on_end: Callable[[], None]) -> None:
        self.status_code: int = answer.status_code
        self._answer = answer
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            self._on_end()


async def _framed(values: AsyncIterator[tuple[str, bytes]]) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"  # milliseconds after which a browser reconnects
    async for name, value in values:
        yield (b"event: %s\n" % name.encode() if name else b"") + b"data: " + value + b"\n\n"
