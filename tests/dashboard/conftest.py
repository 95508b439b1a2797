"""Fixtures of the dashboard's tests: requests to an application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from helpers.asgi import Answer, MemoryConnection, ask_app, on_connection
from helpers.clients import AuthApi
from lightbus import BusPath, OnError
from lightbus.cli.support.connection import Connection
from lightbus.testing import MemoryBus

pytest.importorskip("starlette", reason="the extra dashboard is not installed")

Asks = Callable[..., Answer]
AsksAsync = Callable[..., Coroutine[Any, Any, Answer]]


@pytest.fixture
def shop(hub: MemoryBus) -> BusPath:
    """Return a worker with an API, and a listener that fails for `eve`: her events are dead letters at once."""
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


@pytest.fixture
def connect(hub: MemoryBus) -> Connect:
    """Return a function that makes a connection, to be closed by the test."""
    return lambda: MemoryConnection(hub)


@pytest.fixture
def on_bus(connect: Connect) -> Ask:
    """Return a function that runs a coroutine with a connection to the bus on its own loop."""
    return lambda use: asyncio.run(on_connection(connect(), use))


@pytest.fixture
def asks() -> Asks:
    """Return a function that sends a request for a path to an application as a server would, from this host."""
    return lambda *args, **given: asyncio.run(ask_app(*args, **given))


@pytest.fixture
def asks_async() -> AsksAsync:
    """Return the same for an event loop."""
    return ask_app
