from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lightbus
from helpers import wait_until
from lightbus import Api, Event, UsageError
from lightbus.testing import MemoryBus, memory_bus

pytest.importorskip("flask")

from flask import Flask, current_app

from lightbus.contrib.flask import Lightbus, current_bus


class ShopApi(Api):
    ordered = Event(["product"])

    class Meta:
        name = "shop"

    def price(self, product: str) -> int:
        found: int = current_app.config["PRICES"][product]
        return found

    async def price_async(self, product: str) -> int:
        await asyncio.sleep(0)
        return self.price(product)


def served(hub: MemoryBus, app: Flask) -> lightbus.BusPath:
    bus = hub.create(service_name="shop")
    bus.client.register_api(ShopApi())
    Lightbus(app, bus, health="/health", needs=["shop"])
    return bus


def test_handlers_run_in_the_programs_context() -> None:
    """`def` and `async def` procedures and listeners have `current_app`, and the context ends with each of them."""
    app = Flask("shop")
    app.config["PRICES"] = {"lamp": 40}
    torn_down: list[Any] = []
    app.teardown_appcontext(torn_down.append)
    heard: list[str] = []
    with memory_bus() as hub:
        bus = served(hub, app)
        bus.shop.ordered.listen(lambda message, product: heard.append(current_app.name), listener_name="hears")
        hub.start(bus)
        assert bus.shop.price(product="lamp") == 40
        assert bus.shop.price_async(product="lamp") == 40
        bus.shop.ordered.fire(product="lamp")
        wait_until(lambda: heard == ["shop"])
        wait_until(lambda: torn_down == [None] * 3)
        with pytest.raises(lightbus.LightbusWorkerError, match="chair"):
            bus.shop.price(product="chair")
        wait_until(lambda: len(torn_down) == 4)


def test_program_is_made_again() -> None:
    """As tests do, on the bus of one module: handlers run in the context of the last one only."""
    torn_down: list[int] = []
    with memory_bus() as hub:
        bus = hub.create(service_name="shop")
        bus.client.register_api(ShopApi())
        extension = Lightbus(bus=bus)
        for price in (40, 50):
            app = Flask("shop")
            app.config["PRICES"] = {"lamp": price}
            app.teardown_appcontext(lambda error, price=price: torn_down.append(price))
            extension.init_app(app)
        hub.start(bus)
        assert bus.shop.price(product="lamp") == 50
        wait_until(lambda: torn_down)
    assert torn_down == [50]


def test_views_and_probes() -> None:
    """A view finds the bus; the health route reports whether the needed APIs are served."""
    app = Flask("shop")
    app.config["PRICES"] = {"lamp": 40}

    @app.get("/price/<product>")
    def price(product: str) -> str:
        return str(current_bus().shop.price(product=product))

    with memory_bus() as hub:
        bus = served(hub, app)
        web = app.test_client()
        refused = web.get("/health")
        assert refused.status_code == 503
        assert "no peer advertised shop" in refused.get_json()["reasons"][0]
        hub.start(bus)
        assert web.get("/health").get_json() == {"ready": True, "reasons": []}
        assert web.get("/price/lamp").text == "40"


def test_wrong_use_is_answered_with_what_to_write() -> None:
    """Without the extension, or with swapped arguments, the error says what to write."""
    app = Flask("shop")
    with app.app_context(), pytest.raises(UsageError, match=r"Lightbus\(app, bus\)"):
        current_bus()
    bus: Any = lightbus.create(service_name="shop")
    with pytest.raises(UsageError, match="the application first"):
        Lightbus(bus, app)  # type: ignore[arg-type]
    extension = Lightbus(bus=bus)
    extension.init_app(app)
    with app.app_context():
        assert current_bus() is bus
