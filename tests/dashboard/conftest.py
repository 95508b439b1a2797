"""What the tests of the dashboard share: requests to an application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import pytest

from helpers.clients import AuthApi
from lightbus import BusPath, OnError
from lightbus.cli.support.connection import SERVICE, Connection
from lightbus.cli.support.options import ClientOptions
from lightbus.testing import MemoryBus, memory_bus

pytest.importorskip("starlette", reason="the extra dashboard is not installed")


class Answer(NamedTuple):
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes


Asks = Callable[..., Answer]
AsksAsync = Callable[..., Coroutine[Any, Any, Answer]]


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory."""
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def shop(hub: MemoryBus) -> BusPath:
    """Return a worker with an API, and a listener which fails for `eve`: her events are dead letters at once."""
    bus = hub.create(service_name="shop")
    bus.client.register_api(AuthApi())

    def greet(message: Any, username: str, age: int) -> None:
        if username == "eve":
            raise ValueError(username)

    bus.auth.user_registered.listen(greet, listener_name="greet", on_error=OnError.RETRY, max_deliveries=1)
    hub.start(bus)
    return bus


Connect = Callable[[], Connection]
Ask = Callable[[Callable[[Connection], Awaitable[Any]]], Any]


class MemoryConnection(Connection):
    """A command's connection to a bus in memory."""

    def __init__(self, hub: MemoryBus) -> None:
        super().__init__(ClientOptions(as_json=True, wait=0.1))
        self.client = hub.create(service_name=SERVICE).client


@pytest.fixture
def connect(hub: MemoryBus) -> Connect:
    """Return a function that makes a connection, to be closed by the test."""
    return lambda: MemoryConnection(hub)


@pytest.fixture
def on_bus(connect: Connect) -> Ask:
    """Return a function that runs a coroutine with a connection to the bus on a loop of its own."""

    async def run(use: Callable[[Connection], Awaitable[Any]]) -> Any:
        bus = connect()
        try:
            await bus.look_around()
            return await use(bus)
        finally:
            await bus.close()

    return lambda use: asyncio.run(run(use))


@pytest.fixture
def asks(asks_async: AsksAsync) -> Asks:
    """Return a function that asks an application as a server would, from this host, for a path."""
    return lambda *args, **given: asyncio.run(asks_async(*args, **given))


@pytest.fixture
def asks_async() -> AsksAsync:
    """Return what does the same on an event loop."""

    async def ask(
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
        return await _ask(app, scope, body)

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
