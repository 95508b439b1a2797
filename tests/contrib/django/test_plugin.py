from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from helpers import wait_until
from lightbus import Api, Event, LightbusWorkerError
from lightbus.contrib.django.project import connect
from lightbus.testing import memory_bus


def used() -> int:
    """Use the connection of this thread, and return which one it is."""
    connection.ensure_connection()
    return id(connection.connection)


class OrmApi(Api):
    ordered = Event(["product"])

    class Meta:
        name = "orm"

    def use(self) -> None:
        used()

    def is_open(self) -> bool:
        return connection.connection is not None

    def fail(self) -> None:
        used()
        raise ValueError("gone away")

    async def use_async(self) -> None:
        await sync_to_async(used)()

    async def is_open_async(self) -> bool:
        return bool(await sync_to_async(lambda: connection.connection is not None)())


@pytest.mark.parametrize("kind", ["", "_async"])
def test_connection_of_a_handler_is_closed(kind: str) -> None:
    """With CONN_MAX_AGE 0 a handler leaves no connection, in the threads of `def` as of `async def` handlers."""
    with memory_bus() as hub:
        bus = hub.create(service_name="orm")
        bus.client.register_api(OrmApi())
        connect(bus.client)
        connect(bus.client)
        assert len(bus.client.hooks.functions("around_rpc_execution")) == 1
        hub.start(bus)
        getattr(bus.orm, f"use{kind}")()
        assert not getattr(bus.orm, f"is_open{kind}")()
        with pytest.raises(LightbusWorkerError, match="gone away"):
            bus.orm.fail()
        assert not bus.orm.is_open()


def test_connection_of_a_listener_is_closed() -> None:
    """So it is behind each event."""
    heard: list[bool] = []

    def hear(message: Any, product: str) -> None:
        heard.append(connection.connection is not None)
        used()

    with memory_bus() as hub:
        bus = hub.create(service_name="orm")
        bus.client.register_api(OrmApi())
        connect(bus.client)
        bus.orm.ordered.listen(hear, listener_name="hear")
        hub.start(bus)
        for _ in range(3):
            bus.orm.ordered.fire(product="lamp")
        wait_until(lambda: heard == [False] * 3)


def test_without_the_plugin_it_stays_open() -> None:
    """A thread that is used again still has it, however old it is by then: so there is the plugin."""
    with memory_bus() as hub:
        bus = hub.create(service_name="orm")
        bus.client.register_api(OrmApi())
        hub.start(bus)
        bus.orm.use_async()
        assert bus.orm.is_open_async()
