"""Read the bodies of requests, bounded in bytes and in time, and the JSON in them."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.requests import ClientDisconnect, Request

from ..exceptions import InvalidArguments

__all__ = ["BODY_SECONDS", "MAX_BODY", "TooLarge", "json_value", "read_body"]

MAX_BODY = 1024 * 1024
"""The default for the most bytes of a request's body, which holds the arguments of a call."""

BODY_SECONDS = 10.0
"""The most seconds for a request's body to arrive: a slower client is taken for an attack."""


class TooLarge(Exception):
    """A request's body has too many bytes."""


async def read_body(request: Request, most: int | None = None) -> bytes:
    """
    Return a request's body.

    Args:
        request: a request whose body was not read yet.
        most: the most bytes of the body; by default `MAX_BODY`.

    Raises:
        TooLarge: the body has more bytes.
        TimeoutError: the body took too long to arrive.
        InvalidArguments: the client disconnected before the end of the body.

    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > (MAX_BODY if most is None else most):
                    raise TooLarge
    except ClientDisconnect:
        raise InvalidArguments("The request ended early.") from None
    return bytes(body)


def json_value(text: str | bytes) -> Any:
    """
    Return the value of a JSON text in UTF-8.

    Raises ValueError if it is none, is nested too deeply, or has a number that JSON or a float does not: `1e400` would
    arrive as infinity.
    """
    try:
        whole = text if isinstance(text, str) else text.decode("utf-8")
        return json.loads(whole, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.50} is too large a number: send it as a text")
    return number
