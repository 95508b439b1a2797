"""The event backend on JetStream where its servers are away; what it does while they are there is the contract's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from helpers import wait_until
from helpers.nats_servers import NatsServer
from lightbus import Api, Event, EventBackendError, EventMessage
from lightbus.testing import MemoryBus


class ShopApi(Api):
    sold = Event(parameters=["number"])

    class Meta:
        name = "shop"


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


def test_server_that_is_away_and_comes_back(server: NatsServer) -> None:
    """Meanwhile firing says what is wrong; then listeners go on, and each event that was taken is handled."""
    settings = {"apis": {"default": {"events": {"backend": "jetstream", "servers": server.url, "timeout": 0.5}}}}
    received: list[int] = []

    def handle(message: EventMessage) -> None:
        received.append(message.kwargs["number"])

    with MemoryBus() as hub:
        shop = hub.create(settings, service_name="shop")
        shop.client.register_api(ShopApi())
        mail = hub.create(settings, service_name="mail")
        mail.shop.sold.listen(handle, listener_name="desk")
        hub.start(shop, mail)
        shop.shop.sold.fire(number=1)
        wait_until(lambda: received == [1])
        server.kill()
        with pytest.raises(EventBackendError, match=r"The JetStream at nats://127.* See whether the serv"):
            shop.shop.sold.fire(number=2)
        server.start()
        wait_until(lambda: _without_error(lambda: shop.shop.sold.fire(number=3)), 20.0)
        wait_until(lambda: 3 in received, 30.0)


def test_server_that_is_not_there_yet() -> None:
    """A worker starts without it, and its listener joins once there is one."""
    server = NatsServer()
    settings = {"apis": {"default": {"events": {"backend": "jetstream", "servers": server.url, "timeout": 0.5}}}}
    received: list[int] = []
    with MemoryBus() as hub, server.stopped():
        shop = hub.create(settings, service_name="shop")
        shop.client.register_api(ShopApi())
        shop.shop.sold.listen(lambda message: received.append(message.kwargs["number"]), listener_name="desk")
        hub.start(shop)
        with pytest.raises(EventBackendError):
            shop.shop.sold.fire(number=1)
        server.start()

        def arrives() -> bool:
            shop.shop.sold.fire(number=2)
            return 2 in received

        wait_until(lambda: _without_error(arrives), 30.0)


def _without_error(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except EventBackendError:
        return False
