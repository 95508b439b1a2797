"""The bodies of requests: bounded in bytes and in time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from ..exceptions import InvalidArguments

__all__ = ["BODY_SECONDS", "MAX_BODY", "TooLarge", "read_body"]

MAX_BODY = 1024 * 1024
"""Bytes of a request's body, where nobody says otherwise: the arguments of a call."""

BODY_SECONDS = 10.0
"""Seconds that a request's body may take: who sends it slower keeps us waiting on purpose."""


class TooLarge(Exception):
    """A request's body has more bytes than it may."""


async def read_body(request: Request, most: int | None = None) -> bytes:
    """
    Return a request's body.

    Args:
        request: of which nothing was read yet.
        most: bytes that it may have; else `MAX_BODY`.

    Raises:
        TooLarge: it has more.
        TimeoutError: it takes too long.
        InvalidArguments: it ends early.

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
