"""What the tests of the dashboard share: requests to an application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytest.importorskip("starlette", reason="the extra dashboard is not installed")


class Answer(NamedTuple):
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes


Asks = Callable[..., Answer]


@pytest.fixture
def asks() -> Asks:
    """Return a function that asks an application as a server would, from this host, for a path."""

    def ask(
        app: Any,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "127.0.0.1:8420",
        client: tuple[str, int] = ("127.0.0.1", 50000),
        body: bytes = b"",
        **headers: str,
    ) -> Answer:
        named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": client,
            "server": ("127.0.0.1", 8420),
        }
        return asyncio.run(_ask(app, scope, body))

    return ask


async def _ask(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in told[0]["headers"]}
    return Answer(told[0]["status"], headers, b"".join(each.get("body", b"") for each in told[1:]))
