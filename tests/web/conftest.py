"""What the tests of what web programs share have in common: a shop on a bus in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.asgi import MemoryConnection
from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.cli.support.connection import Connection
from lightbus.testing import MemoryBus

pytest.importorskip("starlette", reason="the extra dashboard is not installed")


@pytest.fixture
def shop(hub: MemoryBus) -> BusPath:
    """Return a worker with an API."""
    bus = hub.create(service_name="shop")
    bus.client.register_api(AuthApi())
    hub.start(bus)
    return bus


@pytest.fixture
def connect(hub: MemoryBus) -> Callable[[], Connection]:
    """Return a function that makes a connection, to be closed by the test."""
    return lambda: MemoryConnection(hub)
