"""Fixtures for the gateway's tests: a shop on a bus in memory, its gateway, and a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from helpers.asgi import Answer, MemoryConnection, ask_app, on_connection
from lightbus import Api, BusPath, Event, Parameter
from lightbus.cli.support import publishers
from lightbus.cli.support.connection import Connection
from lightbus.gateway.access import Rules
from lightbus.gateway.clients import Client, Clients
from lightbus.gateway.options import GatewayOptions
from lightbus.testing import MemoryBus

pytest.importorskip("starlette", reason="the extra dashboard is not installed")

from lightbus.gateway.app import Gateway

TOKEN = "the-token-of-the-shop"
ONLY_LISTENS = "the-token-of-a-listener"

CLIENTS = Clients(
    [
        Client(name="shop", token=TOKEN),
        Client(name="listener", token=ONLY_LISTENS, rules=Rules.read(["listen:shop.*"])),
    ]
)


class ShopApi(Api):
    """What a shop does."""

    ordered = Event([Parameter("product", str), Parameter("count", int, default=1)])
    seen = Event([Parameter("product", str)], delivery="best_effort")

    class Meta:
        name = "shop"

    def price(self, product: str) -> int:
        """Return the price of a product."""
        if product == "air":
            raise ValueError("air is free")
        return 40

    def secret(self) -> str:
        return "nobody may know"

    async def wait(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


class OtherApi(Api):
    happened = Event(["what"])

    class Meta:
        name = "shop.other"

    def do(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give publishers more time, for a busy machine."""
    monkeypatch.setattr(publishers, "ASK_TIMEOUT", 60.0)


@pytest.fixture
def shop(hub: MemoryBus) -> BusPath:
    """Return a worker with two APIs."""
    bus = hub.create(service_name="shop")
    bus.client.register_api(ShopApi())
    bus.client.register_api(OtherApi())
    hub.start(bus)
    return bus


Connect = Callable[[], Connection]


@pytest.fixture
def connect(hub: MemoryBus) -> Connect:
    """Return a function that makes a connection, to be closed by the test."""
    return lambda: MemoryConnection(hub)


@pytest.fixture
def on_bus(connect: Connect) -> Callable[[Callable[[Connection], Awaitable[Any]]], Any]:
    """Return a function that runs a coroutine with a connection to the bus on its own loop."""
    return lambda use: asyncio.run(on_connection(connect(), use))


class Asked(NamedTuple):
    """A gateway, and requests to it with a token."""

    gateway: Gateway

    async def ask(self, path: str, value: Any = None, *, token: str = TOKEN, **more: Any) -> Answer:
        """Send a request: POST with a JSON body if a value is given."""
        if value is not None:
            more = {"method": "POST", "body": json.dumps(value).encode(), "content_type": "application/json", **more}
        return await ask_app(self.gateway.app, path, authorization=f"Bearer {token}", **more)


Use = Callable[[Asked], Awaitable[Any]]


@pytest.fixture
def opened(on_bus: Any, connect: Connect) -> Callable[..., Any]:
    """Return a function that runs a coroutine with a gateway, which by default opens some of the shop."""

    def run(use: Use, *allowed: str, **given: Any) -> Any:
        rules = Rules.read(allowed or ("shop.price", "shop.wait", "shop.ordered", "shop.seen", "shop.nothing"))

        async def main(bus: Connection) -> Any:
            gateway = Gateway(bus, GatewayOptions(rules=rules, **{"clients": CLIENTS, **given}))
            try:
                return await use(Asked(gateway))
            finally:
                await gateway.close()

        return on_bus(main)

    return run
