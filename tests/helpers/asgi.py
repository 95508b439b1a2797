"""Requests to an ASGI application without a server, and the bus in memory that the application uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from lightbus.cli.support.connection import SERVICE, Connection
from lightbus.cli.support.options import ClientOptions
from lightbus.testing import MemoryBus

__all__ = ["Answer", "MemoryConnection", "ask_app", "on_connection"]


class Answer(NamedTuple):
    """The answer of an application."""

    status: int
    headers: dict[str, str]
    body: bytes


class MemoryConnection(Connection):
    """A command's connection to a bus in memory."""

    def __init__(self, hub: MemoryBus, *, wait: float = 20.0) -> None:
        super().__init__(ClientOptions(as_json=True, wait=wait))
        self.client = hub.create(service_name=SERVICE).client


async def on_connection(bus: Connection, use: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Run a coroutine with a connection that knows all peers, and return its result; then leave the bus."""
    try:
        await bus.discover_all()
        return await use(bus)
    finally:
        await bus.close()


async def ask_app(
    app: Any,
    path: str = "/",
    *,
    method: str = "GET",
    host: str = "127.0.0.1:8420",
    client: tuple[str, int] = ("127.0.0.1", 50000),
    body: bytes = b"",
    gone: asyncio.Event | None = None,
    enough: Callable[[bytes], bool] = lambda body: False,
    **headers: str,
) -> Answer:
    """
    Send a request to an application as a web server would, by default from this host, and return the answer.

    Args:
        app: the application.
        path: the path, with its query.
        method, host, client, body: the rest of the request, and the address of the client.
        gone: when it is set, the client disconnects.
        enough: for an endless answer: whether the part received so far is enough, so that the client disconnects.
        headers: by name, `_` for `-`.

    """
    gone = gone or asyncio.Event()
    named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target),
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        "client": client,
        "server": ("127.0.0.1", 8420),
    }
    asked = [{"type": "http.request", "body": body, "more_body": False}]
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)
        if enough(_body(told)):
            gone.set()
            await asyncio.sleep(0)

    await app(scope, receive, send)
    answered = {name.decode(): value.decode("latin-1") for name, value in told[0]["headers"]}
    return Answer(told[0]["status"], answered, _body(told))


def _body(told: list[dict[str, Any]]) -> bytes:
    return b"".join(each.get("body", b"") for each in told[1:])
